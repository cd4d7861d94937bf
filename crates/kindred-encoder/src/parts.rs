//! A long call goes through the queue in parts, so that searches get in between.

use super::EncoderError;
use super::tokenizer::Sequence;
use super::workers::{Workers, longest_first};

/// Batches for each thread that a long call has in the queue at a time: enough to keep the threads busy, few enough that a search does
/// not wait for the rest of the call.
const BATCHES_AHEAD: usize = 4;

impl<T: Sequence, O: Send + 'static> Workers<T, O> {
    /// Runs texts that somebody waits for, however many. Returns the outputs in the order of the texts.
    ///
    /// # Errors
    /// [`EncoderError::Overloaded`] when too many texts wait; [`EncoderError::Run`] or [`EncoderError::Stopped`].
    pub async fn run_in_parts(&self, texts: Vec<T>) -> Result<Vec<O>, EncoderError> {
        let mut outputs: Vec<Option<O>> = texts.iter().map(|_| None).collect();
        for part in parts(texts, BATCHES_AHEAD * self.n_threads() * self.max_batch_tokens()) {
            let (positions, tokens): (Vec<usize>, Vec<T>) = part.into_iter().unzip();
            let call = self.submit_online(tokens, None)?;
            for (position, output) in positions.into_iter().zip(call.finish().await?.outputs) {
                outputs[position] = Some(output);
            }
        }
        outputs.into_iter().collect::<Option<_>>().ok_or(EncoderError::Stopped)
    }
}

/// Parts of at most so many tokens (but of one text at least), texts of like length together, longest first, with their positions.
fn parts<T: Sequence>(texts: Vec<T>, max_tokens: usize) -> Vec<Vec<(usize, T)>> {
    let mut parts: Vec<Vec<(usize, T)>> = Vec::new();
    let mut n_tokens = 0;
    for text in longest_first(texts) {
        let n = text.1.ids().len();
        n_tokens += n;
        match parts.last_mut() {
            Some(part) if n_tokens <= max_tokens => part.push(text),
            _ => {
                n_tokens = n;
                parts.push(vec![text]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lose_nothing_and_keep_to_their_size() {
        let texts: Vec<Vec<u32>> = [3, 9, 1, 4, 4, 2].map(|n| vec![n as u32; n]).to_vec();
        let parts = parts(texts.clone(), 8);
        let sizes: Vec<Vec<usize>> = parts.iter().map(|part| part.iter().map(|(_, tokens)| tokens.len()).collect()).collect();
        assert_eq!(sizes, [vec![9], vec![4, 4], vec![3, 2, 1]]);
        assert!(parts.iter().flatten().all(|(position, tokens)| *tokens == texts[*position]));
    }
}
