//! Named tensors of a `model.safetensors`, checked for shape and widened to f32.

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::ImportError;

/// The weights of a BERT encoder, whatever its tensors' names begin with.
pub struct Weights<'a> {
    tensors: SafeTensors<'a>,
    prefix: String,
}

impl<'a> Weights<'a> {
    /// Reads the table of tensors.
    ///
    /// # Errors
    /// [`ImportError::Weights`] when the bytes are no safetensors file or hold no BERT encoder.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ImportError> {
        const ANCHOR: &str = "embeddings.word_embeddings.weight";
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| ImportError::Weights { reason: e.to_string() })?;
        // Saved alone the names begin with "embeddings."; saved as part of a larger model with "bert." or the like.
        let prefix = tensors.names().into_iter().find_map(|name| name.strip_suffix(ANCHOR).map(str::to_owned));
        let prefix = prefix.ok_or_else(|| ImportError::Weights { reason: format!("the tensor {ANCHOR} is missing") })?;
        Ok(Self { tensors, prefix })
    }

    /// The shape of a tensor, by its whole name.
    ///
    /// # Errors
    /// [`ImportError::Weights`] when it is missing.
    pub fn shape_at(&self, name: &str) -> Result<Vec<usize>, ImportError> {
        Ok(self.view(name)?.shape().to_vec())
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>, ImportError> {
        self.tensors.tensor(name).map_err(|_| ImportError::Weights { reason: format!("the tensor {name} is missing") })
    }

    /// The numbers of one tensor, row-major.
    ///
    /// # Errors
    /// [`ImportError::Weights`] when it is missing, of another shape or of a type that is not a float.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ImportError> {
        self.floats_at(&format!("{}{name}", self.prefix), shape)
    }

    /// The same of a tensor that is no part of the encoder: by its whole name.
    ///
    /// # Errors
    /// As [`Weights::floats`].
    pub fn floats_at(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ImportError> {
        let view = self.view(name)?;
        if view.shape() != shape {
            let reason = format!("the tensor {name} has shape {:?}, but config.json asks for {shape:?}", view.shape());
            return Err(ImportError::Weights { reason });
        }
        widen(&view).ok_or_else(|| ImportError::Weights { reason: format!("the tensor {name} holds {:?}, not floats", view.dtype()) })
    }
}

fn widen(view: &TensorView<'_>) -> Option<Vec<f32>> {
    match view.dtype() {
        Dtype::F32 => Some(view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        Dtype::F16 => Some(view.data().as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect()),
        Dtype::BF16 => Some(view.data().as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect()),
        _ => None,
    }
}

/// Turns `[rows × columns]` into `[columns × rows]`: PyTorch keeps a layer's weights as out × in, ONNX multiplies by in × out.
pub fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(values.len(), rows * columns, "a matrix of {rows} × {columns}");
    let mut turned = Vec::with_capacity(values.len());
    for column in 0..columns {
        turned.extend(values[column..].iter().step_by(columns));
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_swaps_rows_and_columns() {
        assert_eq!(transpose(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn what_is_wrong_with_a_tensor_is_named() {
        let numbers: Vec<u8> = [1f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![1, 2], &numbers).unwrap();
        let bytes = safetensors::serialize([("bert.embeddings.word_embeddings.weight", view)], None).unwrap();
        let weights = Weights::new(&bytes).unwrap();
        assert_eq!(weights.floats("embeddings.word_embeddings.weight", &[1, 2]).unwrap(), [1.0, 2.0]);
        let shape = weights.floats("embeddings.word_embeddings.weight", &[2, 2]).unwrap_err().to_string();
        assert!(shape.contains("[1, 2]") && shape.contains("[2, 2]"), "{shape}");
        let missing = weights.floats("pooler.dense.weight", &[2]).unwrap_err().to_string();
        assert!(missing.contains("bert.pooler.dense.weight"), "{missing}");
        assert!(Weights::new(b"garbage").is_err());
    }
}
