//! The full-precision vectors of a segment, in place.
//!
//! *On disk*: `vectors.bin`, kind `VECS`, version 1: section 0 holds rows and dims (u64 each), section 1 `[rows × dims]` f32,
//! row-major.

use std::path::Path;

use super::{IndexError, bytes_of};
use crate::storage::{SectionFile, SectionWriter, StorageError};

const FILE_NAME: &str = "vectors.bin";
const KIND: [u8; 4] = *b"VECS";
const VERSION: u32 = 1;

/// Mapped vectors.
#[derive(Debug)]
pub(super) struct VectorFile {
    file: SectionFile,
}

/// Writes vectors, `[rows × dims]`, into a folder, durably.
pub(super) fn write(dir: &Path, n_rows: u32, dims: usize, vectors: &[f32]) -> Result<(), StorageError> {
    let mut file = SectionWriter::create(&dir.join(FILE_NAME), KIND, VERSION)?;
    file.section(bytes_of(&[u64::from(n_rows), dims as u64]))?;
    file.section(bytes_of(vectors))?;
    file.finish()?;
    Ok(())
}

impl VectorFile {
    /// Maps the vectors in a folder.
    ///
    /// # Errors
    /// [`IndexError::Storage`] names the file and what is wrong with it.
    pub fn open(dir: &Path, dims: usize, n_rows: usize) -> Result<Self, IndexError> {
        let file = SectionFile::open(&dir.join(FILE_NAME), KIND, VERSION, 2)?;
        let (header, n_numbers) = (file.numbers::<u64>(0)?, file.numbers::<f32>(1)?.len());
        if header != [n_rows as u64, dims as u64] || Some(n_numbers) != n_rows.checked_mul(dims) {
            return Err(file.corrupt(format!("it does not hold {n_rows} rows of {dims} dimensions: {header:?}, {n_numbers}")).into());
        }
        Ok(Self { file })
    }

    /// The vector of a row, `[dims]`.
    pub fn row(&self, row: u32, dims: usize) -> Result<&[f32], StorageError> {
        self.file.numbers_at(1, row as usize * dims, dims)
    }

    /// All vectors, `[rows × dims]`.
    pub fn all(&self) -> &[f32] {
        self.file.numbers(1).expect("open has read the section as these numbers")
    }

    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    /// Checks all of the file.
    pub fn verify(&self) -> Result<(), StorageError> {
        self.file.verify()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_vectors_are_read_and_other_shapes_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 2, 2, &[1.0, 0.0, 0.6, 0.8]).unwrap();
        assert_eq!(VectorFile::open(dir.path(), 2, 2).unwrap().all(), [1.0, 0.0, 0.6, 0.8]);
        for (dims, n_rows) in [(1, 4), (4, 1), (2, 3), (usize::MAX, 2)] {
            assert!(VectorFile::open(dir.path(), dims, n_rows).unwrap_err().to_string().contains("vectors.bin"));
        }
    }
}
