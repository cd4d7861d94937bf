//! Which texts run through the model together.

use super::tokenizer::Tokens;

/// One text of a call, with its position in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub position: usize,
    pub tokens: Tokens,
}

/// Splits a call into batches of texts of like length, each of at most `max_batch_tokens` tokens with its padding (but of one text at
/// least), longest first: then the last batch to finish is a short one.
pub fn split(texts: Vec<Tokens>, max_batch_tokens: usize) -> Vec<Vec<Row>> {
    let mut rows: Vec<Row> = texts.into_iter().enumerate().map(|(position, tokens)| Row { position, tokens }).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.tokens.len()));
    let mut batches: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * batch[0].tokens.len() <= max_batch_tokens => batch.push(row),
            _ => batches.push(vec![row]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn like_lengths_go_together() {
        let texts = [5, 100, 6, 90].map(|n| vec![0; n]).to_vec();
        let lengths: Vec<Vec<usize>> = split(texts, 200).iter().map(|b| b.iter().map(|r| r.tokens.len()).collect()).collect();
        assert_eq!(lengths, [vec![100, 90], vec![6, 5]]);
        assert_eq!(split(vec![], 200), Vec::<Vec<Row>>::new());
    }

    proptest! {
        #[test]
        fn no_text_is_lost_and_no_batch_is_over_its_budget(lengths in prop::collection::vec(1usize..300, 0..60), budget in 1usize..600) {
            let texts: Vec<Tokens> = lengths.iter().map(|&n| vec![n as u32; n]).collect();
            let batches = split(texts.clone(), budget);
            let mut seen: Vec<usize> = batches.iter().flatten().map(|row| row.position).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..texts.len()).collect::<Vec<_>>());
            for batch in &batches {
                prop_assert!(batch.iter().all(|row| row.tokens == texts[row.position]));
                let longest = batch.iter().map(|row| row.tokens.len()).max().unwrap();
                prop_assert!(batch.len() == 1 || longest * batch.len() <= budget);
            }
        }
    }
}
