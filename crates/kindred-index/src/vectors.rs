//! The vectors of a segment, apart from what a walk touches: only candidates are compared by them.
//!
//! *On disk*: `vectors.bin`, kind `VECS`, version 2:
//!
//! | section | holds |
//! |---|---|
//! | 0 | u64 each: rows, dims, precision (0 f32, 1 f16, 2 int8) |
//! | 1 | `[rows × dims]` numbers of that precision, row-major |
//! | 2 | int8 only: `[rows]` f32, what a row's numbers are to be multiplied by |
//!
//! Rounding is repeatable: a vector that was stored and read is stored as the same numbers again, so rebuilding loses nothing more.

use std::borrow::Cow;
use std::path::Path;

use half::f16;
use serde::{Deserialize, Serialize};

use super::{IndexError, bytes_of, kernels};
use kindred_core::storage::{SectionFile, SectionWriter, StorageError};

const FILE_NAME: &str = "vectors.bin";
const KIND: [u8; 4] = *b"VECS";
const VERSION: u32 = 2;

/// How exactly vectors are stored. Walks compare int8 and 1-bit codes in any case; this is what candidates are scored by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number: scores differ in the fourth digit.
    #[default]
    F16,
    /// 1 byte a number: scores differ in the third digit.
    Int8,
}

impl Quantization {
    fn number_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Int8 => 1,
        }
    }
}

/// Mapped vectors.
#[derive(Debug)]
pub(super) struct VectorFile {
    file: SectionFile,
    dims: usize,
    quantization: Quantization,
}

/// Writes vectors, `[rows × dims]`, into a folder, durably. Returns the largest distance between a vector and what is stored.
pub(super) fn write(dir: &Path, dims: usize, vectors: &[f32], quantization: Quantization) -> Result<f32, StorageError> {
    let mut file = SectionWriter::create(&dir.join(FILE_NAME), KIND, VERSION)?;
    file.section(bytes_of(&[(vectors.len() / dims) as u64, dims as u64, quantization as u64]))?;
    file.begin()?;
    let (mut scales, mut largest_error) = (Vec::new(), 0.0f32);
    for vector in vectors.chunks_exact(dims) {
        let squared_error = match quantization {
            Quantization::F32 => {
                file.write(bytes_of(vector))?;
                0.0
            }
            Quantization::F16 => {
                let stored: Vec<f16> = vector.iter().map(|&x| f16::from_f32(x)).collect();
                file.write(bytes_of(&stored))?;
                squared_distance(vector, stored.iter().map(|x| x.to_f32()))
            }
            Quantization::Int8 => {
                let (stored, scale) = to_int8(vector);
                file.write(bytes_of(&stored))?;
                scales.push(scale);
                squared_distance(vector, stored.iter().map(|&x| f32::from(x) * scale))
            }
        };
        largest_error = largest_error.max(squared_error);
    }
    file.section(bytes_of(&scales))?;
    file.finish()?;
    Ok(largest_error.sqrt())
}

fn squared_distance(vector: &[f32], stored: impl Iterator<Item = f32>) -> f32 {
    vector.iter().zip(stored).map(|(x, y)| (x - y).powi(2)).sum()
}

/// The largest number becomes ±127.
fn to_int8(vector: &[f32]) -> (Vec<i8>, f32) {
    let scale = vector.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs())) / 127.0;
    (vector.iter().map(|x| (x / scale).round() as i8).collect(), scale)
}

impl VectorFile {
    /// Maps the vectors in a folder. Reads nothing but the header.
    ///
    /// # Errors
    /// [`IndexError::Storage`] names the file and what is wrong with it.
    pub fn open(dir: &Path, dims: usize, n_rows: usize) -> Result<Self, IndexError> {
        let file = SectionFile::open(&dir.join(FILE_NAME), KIND, VERSION, 3)?;
        let header = file.numbers::<u64>(0)?;
        let quantization = match *header {
            [rows, d, code @ 0..=2] if (rows, d) == (n_rows as u64, dims as u64) => {
                [Quantization::F32, Quantization::F16, Quantization::Int8][code as usize]
            }
            _ => return Err(file.corrupt(format!("it does not hold {n_rows} rows of {dims} dimensions: {header:?}")).into()),
        };
        let n_scales = if quantization == Quantization::Int8 { n_rows } else { 0 };
        let n_bytes = n_rows.checked_mul(dims).and_then(|n| n.checked_mul(quantization.number_bytes()));
        if Some(file.count::<u8>(1)?) != n_bytes || file.count::<f32>(2)? != n_scales {
            return Err(file.corrupt("its parts do not have the lengths that its header gives").into());
        }
        Ok(Self { file, dims, quantization })
    }

    pub fn quantization(&self) -> Quantization {
        self.quantization
    }

    /// Dot product of a row's vector and a query, `[dims]`.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when there is no such row or its bytes are not what was written.
    #[inline]
    pub fn score(&self, row: u32, query: &[f32]) -> Result<f32, StorageError> {
        Ok(match self.quantization {
            Quantization::F32 => kernels::dot(self.numbers(row)?, query),
            Quantization::F16 => kernels::dot_f16(self.numbers(row)?, query),
            Quantization::Int8 => kernels::dot_i8(self.numbers(row)?, query) * self.scale(row)?,
        })
    }

    /// The vector of a row, `[dims]`, as exactly as it is stored.
    ///
    /// # Errors
    /// As of [`VectorFile::score`].
    pub fn vector(&self, row: u32) -> Result<Cow<'_, [f32]>, StorageError> {
        Ok(match self.quantization {
            Quantization::F32 => Cow::Borrowed(self.numbers(row)?),
            Quantization::F16 => Cow::Owned(self.numbers::<u16>(row)?.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect()),
            Quantization::Int8 => {
                let scale = self.scale(row)?;
                Cow::Owned(self.numbers::<i8>(row)?.iter().map(|&x| f32::from(x) * scale).collect())
            }
        })
    }

    /// Asks for a row before it is scored.
    #[inline]
    pub fn prefetch(&self, row: u32) {
        let size = self.dims * self.quantization.number_bytes();
        kernels::prefetch(self.file.address(1, row as usize * size), size);
    }

    #[inline]
    fn numbers<T: bytemuck::AnyBitPattern>(&self, row: u32) -> Result<&[T], StorageError> {
        self.file.numbers_at(1, row as usize * self.dims, self.dims)
    }

    fn scale(&self, row: u32) -> Result<f32, StorageError> {
        Ok(self.file.numbers_at::<f32>(2, row as usize, 1)?[0])
    }

    pub fn verify(&self) -> Result<(), StorageError> {
        self.file.verify()
    }

    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_vectors_are_read_and_other_shapes_refused() {
        let vectors = [1.0, 0.0, 0.6, 0.8];
        for (quantization, tolerance) in [(Quantization::F32, 0.0), (Quantization::F16, 3e-4), (Quantization::Int8, 4e-3)] {
            let dir = tempfile::tempdir().unwrap();
            let error = write(dir.path(), 2, &vectors, quantization).unwrap();
            assert!(error <= 1.5 * tolerance, "{quantization:?}: {error}");
            let file = VectorFile::open(dir.path(), 2, 2).unwrap();
            assert_eq!(file.quantization(), quantization);
            let read = file.vector(1).unwrap().into_owned();
            assert!((read[0] - 0.6).abs() <= tolerance && (read[1] - 0.8).abs() <= tolerance, "{read:?}");
            let score = file.score(1, &[0.0, 2.0]).unwrap();
            assert!((score - 2.0 * read[1]).abs() < 1e-6, "{score}");
            assert!(file.vector(2).is_err() && file.score(u32::MAX, &[1.0, 0.0]).is_err());
            // What was read is stored as the same numbers again.
            let again = tempfile::tempdir().unwrap();
            write(again.path(), 2, &[&file.vector(0).unwrap()[..], &read].concat(), quantization).unwrap();
            assert_eq!(*VectorFile::open(again.path(), 2, 2).unwrap().vector(1).unwrap(), *read);
            for (dims, n_rows) in [(1, 4), (4, 1), (2, 3), (usize::MAX, 2)] {
                assert!(VectorFile::open(dir.path(), dims, n_rows).unwrap_err().to_string().contains("vectors.bin"));
            }
        }
    }
}
