//! From one vector per token to one embedding per text.

use serde::{Deserialize, Serialize};

use kindred_core::domain::{Embedding, EmbeddingError};

/// How a text's token vectors become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over the text's own tokens, padding left out.
    Mean,
    /// The first token's vector.
    Cls,
    /// The vector of the text's last token before its padding.
    Last,
}

impl Pooling {
    /// The name in settings and fingerprints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Last => "last",
        }
    }

    /// Pools a batch of `hidden` states `[rows × sequence × dims]`, row `i` having `lengths[i]` tokens before its padding.
    ///
    /// # Errors
    /// [`EmbeddingError::NotFinite`] or [`EmbeddingError::Zero`] when the model's numbers are no direction.
    pub fn pool(self, hidden: &[f32], lengths: &[usize], dims: usize) -> Result<Vec<Embedding>, EmbeddingError> {
        if lengths.is_empty() {
            return Ok(Vec::new());
        }
        let row_len = hidden.len() / lengths.len();
        assert_eq!(row_len * lengths.len(), hidden.len(), "every row has the same number of positions");
        let rows = hidden.chunks_exact(row_len).zip(lengths);
        rows.map(|(row, &n_tokens)| {
            let tokens = &row[..n_tokens * dims];
            let pooled = match self {
                Self::Mean => mean(tokens, dims),
                Self::Cls => tokens[..dims].to_vec(),
                Self::Last => tokens[tokens.len() - dims..].to_vec(),
            };
            Embedding::new(pooled, dims)
        })
        .collect()
    }
}

/// The mean of vectors `[tokens × dims]`, of which there is at least one.
fn mean(tokens: &[f32], dims: usize) -> Vec<f32> {
    let mut sum = vec![0f32; dims];
    for token in tokens.chunks_exact(dims) {
        sum.iter_mut().zip(token).for_each(|(s, t)| *s += t);
    }
    let n_tokens = (tokens.len() / dims) as f32;
    sum.iter_mut().for_each(|s| *s /= n_tokens);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_does_not_count() {
        // Two rows of three positions and two dims; the first has two tokens, the second three.
        let hidden = [3.0, 0.0, 3.0, 8.0, 99.0, 99.0, 0.0, 1.0, 0.0, 2.0, 0.0, 3.0];
        let pooled = Pooling::Mean.pool(&hidden, &[2, 3], 2).unwrap();
        assert_eq!(pooled[0].as_slice(), [0.6, 0.8]);
        assert_eq!(pooled[1].as_slice(), [0.0, 1.0]);
        assert_eq!(Pooling::Mean.pool(&[], &[], 2).unwrap(), []);
        let [first, last] = [Pooling::Cls, Pooling::Last].map(|pooling| pooling.pool(&hidden, &[2, 3], 2).unwrap());
        assert_eq!((first[0].as_slice(), first[1].as_slice()), (&[1.0, 0.0][..], &[0.0, 1.0][..]));
        assert_eq!(last[0].as_slice(), Embedding::new(vec![3.0, 8.0], 2).unwrap().as_slice());
    }

    #[test]
    fn numbers_that_are_no_direction_are_an_error() {
        assert_eq!(Pooling::Mean.pool(&[f32::NAN, 0.0], &[1], 2), Err(EmbeddingError::NotFinite { position: 0 }));
        assert_eq!(Pooling::Mean.pool(&[0.0, 0.0], &[1], 2), Err(EmbeddingError::Zero));
    }
}
