//! What becomes of a model's numbers: an embedding for each text, or a score for each pair.

use std::error::Error;

use super::pooling::Pooling;
use kindred_core::domain::Embedding;

/// Makes something of what a model puts out for a batch.
pub trait Head: Clone + Send + Sync + 'static {
    /// What there is for each row.
    type Output: Send + 'static;

    /// The shapes that the model's output may have for so many rows of so many tokens.
    fn shapes(&self, rows: i64, sequence: i64) -> Vec<Vec<i64>>;

    /// The same for people.
    fn describe(&self) -> String;

    /// The outputs of the first rows, which have so many tokens before their padding.
    ///
    /// # Errors
    /// Numbers that mean nothing.
    fn take(&self, numbers: &[f32], shape: &[i64], lengths: &[usize]) -> Result<Vec<Self::Output>, Box<dyn Error + Send + Sync>>;
}

/// One vector per token, to be pooled.
#[derive(Debug, Clone, Copy)]
pub struct Pooled {
    pub dims: usize,
    pub pooling: Pooling,
}

impl Head for Pooled {
    type Output = Embedding;

    fn shapes(&self, rows: i64, sequence: i64) -> Vec<Vec<i64>> {
        vec![vec![rows, sequence, self.dims as i64]]
    }

    fn describe(&self) -> String {
        format!("[batch × sequence × {}]", self.dims)
    }

    fn take(&self, numbers: &[f32], shape: &[i64], lengths: &[usize]) -> Result<Vec<Embedding>, Box<dyn Error + Send + Sync>> {
        let of_row: i64 = shape[1..].iter().product();
        Ok(self.pooling.pool(&numbers[..lengths.len() * of_row as usize], lengths, self.dims)?)
    }
}

/// One logit per pair, or those of two classes, of which the second says that the document answers the query.
#[derive(Debug, Clone, Copy)]
pub struct Logits;

impl Head for Logits {
    type Output = f32;

    fn shapes(&self, rows: i64, _: i64) -> Vec<Vec<i64>> {
        vec![vec![rows, 1], vec![rows, 2], vec![rows]]
    }

    fn describe(&self) -> String {
        "[batch × 1], [batch × 2] or [batch], which a cross-encoder's logits are,".to_owned()
    }

    fn take(&self, numbers: &[f32], shape: &[i64], lengths: &[usize]) -> Result<Vec<f32>, Box<dyn Error + Send + Sync>> {
        let n_classes = shape.get(1).map_or(1, |&n| n as usize);
        let logit = |row: &[f32]| match row {
            // The sigmoid of the difference is the softmax of the two.
            [negative, positive] => positive - negative,
            row => row[0],
        };
        let logits: Vec<f32> = numbers.chunks_exact(n_classes).take(lengths.len()).map(logit).collect();
        match logits.iter().position(|logit| !logit.is_finite()) {
            Some(row) => Err(format!("the score of pair {row} of the batch is no number").into()),
            None => Ok(logits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_a_logit_or_the_difference_of_two() {
        let lengths = [3, 3];
        assert_eq!(Logits.take(&[0.5, -1.0, 9.0], &[3, 1], &lengths).unwrap(), [0.5, -1.0], "the third row is padding");
        assert_eq!(Logits.take(&[0.5, -1.0], &[2], &lengths).unwrap(), [0.5, -1.0]);
        assert_eq!(Logits.take(&[1.0, 3.0, 2.0, -2.0], &[2, 2], &lengths).unwrap(), [2.0, -4.0]);
        let error = Logits.take(&[0.5, f32::NAN], &[2, 1], &lengths).unwrap_err().to_string();
        assert!(error.contains("pair 1"), "{error}");
    }

    #[test]
    fn numbers_that_are_no_direction_are_an_error() {
        let head = Pooled { dims: 2, pooling: Pooling::Mean };
        assert_eq!(head.take(&[3.0, 4.0, 9.0, 9.0], &[2, 1, 2], &[1]).unwrap()[0].as_slice(), [0.6, 0.8]);
        assert!(head.take(&[0.0, 0.0], &[1, 1, 2], &[1]).is_err());
    }
}
