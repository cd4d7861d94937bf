//! Vectors of unit length.

use crate::error::ErrorKind;

/// Why numbers are not an embedding.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EmbeddingError {
    #[error("the vector has {actual} numbers, but the model has {expected} dimensions")]
    Dims { expected: usize, actual: usize },
    #[error("number {position} of the vector is not finite as a 32-bit float")]
    NotFinite { position: usize },
    #[error("the vector has length zero, so it points nowhere: send one with a direction")]
    Zero,
}

impl EmbeddingError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// An embedding: `[dims]` f32, finite, of unit length.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Vec<f32>);

impl Embedding {
    /// Checks the numbers and scales them to unit length.
    ///
    /// # Errors
    /// [`EmbeddingError::Dims`], [`EmbeddingError::NotFinite`] or [`EmbeddingError::Zero`].
    pub fn new(mut numbers: Vec<f32>, dims: usize) -> Result<Self, EmbeddingError> {
        if numbers.len() != dims {
            return Err(EmbeddingError::Dims { expected: dims, actual: numbers.len() });
        }
        if let Some(position) = numbers.iter().position(|x| !x.is_finite()) {
            return Err(EmbeddingError::NotFinite { position });
        }
        // In f64: the squares of large f32 would overflow, those of small ones vanish.
        let norm = numbers.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        if norm == 0.0 {
            return Err(EmbeddingError::Zero);
        }
        // An embedding that is of unit length already keeps its bits.
        if (norm - 1.0).abs() > 1e-6 {
            numbers.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
        Ok(Self(numbers))
    }

    /// The direction that stands for some vectors together, `[vectors × dims]`, one at least: that of their sum, or the first where they
    /// cancel each other out.
    ///
    /// # Errors
    /// As of [`Embedding::new`].
    pub fn mean(vectors: &[f32], dims: usize) -> Result<Self, EmbeddingError> {
        let sum: Vec<f32> = (0..dims).map(|i| vectors.iter().skip(i).step_by(dims).sum()).collect();
        let is_direction = sum.iter().any(|x| x.abs() > 1e-3);
        Self::new(if is_direction { sum } else { vectors[..dims].to_vec() }, dims)
    }

    /// The numbers, `[dims]`.
    pub fn into_vec(self) -> Vec<f32> {
        self.0
    }

    /// The dot product, which is the cosine of the two.
    pub fn dot(&self, other: &Self) -> f32 {
        self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum()
    }

    /// The numbers, `[dims]`.
    #[inline]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn becomes_unit_length_whatever_its_scale() {
        for scale in [1e-38f32, 1e-3, 1.0, 1e38] {
            let e = Embedding::new(vec![0.6 * scale, 0.8 * scale], 2).unwrap();
            assert!((e.as_slice()[0] - 0.6).abs() < 1e-5 && (e.as_slice()[1] - 0.8).abs() < 1e-5, "{scale} {e:?}");
        }
    }

    #[test]
    fn the_mean_is_of_unit_length() {
        let mean = |vectors: &[f32]| Embedding::mean(vectors, 2).unwrap().into_vec();
        assert_eq!(mean(&[1.0, 0.0]), [1.0, 0.0]);
        let both = mean(&[1.0, 0.0, 0.0, 1.0]);
        assert!((both[0] - both[1]).abs() < 1e-6 && (both[0] - 0.5f32.sqrt()).abs() < 1e-6);
        assert_eq!(mean(&[0.6, 0.8, -0.6, -0.8]), [0.6, 0.8]);
    }

    #[test]
    fn what_is_no_direction_is_refused() {
        assert_eq!(Embedding::new(vec![1.0], 2), Err(EmbeddingError::Dims { expected: 2, actual: 1 }));
        assert_eq!(Embedding::new(vec![0.0, f32::NAN], 2), Err(EmbeddingError::NotFinite { position: 1 }));
        assert_eq!(Embedding::new(vec![f32::INFINITY, 0.0], 2), Err(EmbeddingError::NotFinite { position: 0 }));
        assert_eq!(Embedding::new(vec![0.0, 0.0], 2), Err(EmbeddingError::Zero));
    }
}
