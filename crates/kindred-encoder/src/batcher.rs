//! Which of the waiting texts run through the model together.
//!
//! A batch costs its longest text times its rows, padding included. It begins with the text that has waited longest, so that none is
//! passed over for ever, and takes in others of like length while the budget lasts.

use std::collections::VecDeque;

/// How far behind the first text others are looked for.
const WINDOW: usize = 512;
/// The longest text of a batch is at most so many times its shortest: the rest would be padding.
const MAX_SPREAD: usize = 2;

/// What waits: something with a length in tokens.
pub trait Text {
    /// At least 1.
    fn n_tokens(&self) -> usize;
}

/// Takes the next batch of at most `max_batch_tokens` with its padding (but one text at least). The others keep their order.
pub fn take<T: Text>(waiting: &mut VecDeque<T>, max_batch_tokens: usize) -> Vec<T> {
    let Some(first) = waiting.pop_front() else { return Vec::new() };
    let (mut shortest, mut longest) = (first.n_tokens(), first.n_tokens());
    let (mut batch, mut passed) = (vec![first], Vec::new());
    for _ in 0..WINDOW {
        if longest * (batch.len() + 1) > max_batch_tokens {
            break;
        }
        let Some(next) = waiting.pop_front() else { break };
        let (low, high) = (shortest.min(next.n_tokens()), longest.max(next.n_tokens()));
        if high * (batch.len() + 1) <= max_batch_tokens && high <= MAX_SPREAD * low {
            (shortest, longest) = (low, high);
            batch.push(next);
        } else {
            passed.push(next);
        }
    }
    passed.into_iter().rev().for_each(|text| waiting.push_front(text));
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Number and length.
    impl Text for (usize, usize) {
        fn n_tokens(&self) -> usize {
            self.1
        }
    }

    fn waiting(lengths: &[usize]) -> VecDeque<(usize, usize)> {
        lengths.iter().copied().enumerate().collect()
    }

    #[test]
    fn like_lengths_go_together_and_the_first_goes_first() {
        let mut texts = waiting(&[10, 100, 8, 12, 90, 5, 11]);
        assert_eq!(take(&mut texts, 48), [(0, 10), (2, 8), (3, 12), (6, 11)]);
        assert_eq!(take(&mut texts, 200), [(1, 100), (4, 90)]);
        assert_eq!(take(&mut texts, 200), [(5, 5)]);
        assert_eq!(take(&mut texts, 200), []);
    }

    proptest! {
        #[test]
        fn no_text_is_lost_reordered_or_over_the_budget(lengths in prop::collection::vec(1usize..300, 0..60), budget in 1usize..600) {
            let (mut texts, mut seen) = (waiting(&lengths), Vec::new());
            while let Some(&oldest) = texts.front() {
                let batch = take(&mut texts, budget);
                prop_assert_eq!(batch[0], oldest);
                prop_assert!(batch.is_sorted_by_key(|text| text.0));
                let (longest, shortest) = (batch.iter().map(|t| t.1).max().unwrap(), batch.iter().map(|t| t.1).min().unwrap());
                prop_assert!(batch.len() == 1 || (longest * batch.len() <= budget && longest <= 2 * shortest));
                prop_assert!(texts.iter().is_sorted_by_key(|text| text.0));
                seen.extend(batch);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, waiting(&lengths).into_iter().collect::<Vec<_>>());
        }
    }
}
