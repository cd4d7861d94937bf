//! Which vectors are a row's, where rows have several: one for each chunk of a long text. Of these, the best counts.
//!
//! Graph and vectors know vectors alone; those of a row lie together, in the order of the rows. Where every row has one, the number of a
//! vector is that of its row, and there is no such file.
//!
//! *On disk*: `chunks.bin`, kind `CHNK`, version 1:
//!
//! | section | holds |
//! |---|---|
//! | 0 | `[rows + 1]` u32: where a row's vectors begin and those of the row before end |
//! | 1 | `[vectors]` u32: the row of each |

use std::ops::Range;
use std::path::Path;

use roaring::RoaringBitmap;

use super::{IndexError, bytes_of, check_row_count};
use kindred_core::storage::{SectionFile, SectionWriter, StorageError};

const FILE_NAME: &str = "chunks.bin";
const KIND: [u8; 4] = *b"CHNK";
const VERSION: u32 = 1;

/// The vectors of each row.
#[derive(Debug)]
pub(super) enum Chunks {
    /// Each has one; so many rows.
    One(u32),
    /// Some have several.
    Several(Box<ChunkFile>),
}

/// A mapped `chunks.bin`.
#[derive(Debug)]
pub(super) struct ChunkFile {
    file: SectionFile,
    n_rows: u32,
    n_vectors: u32,
}

/// Writes how many vectors each row has, durably, unless each has one.
pub(super) fn write(dir: &Path, n_chunks: &[u32]) -> Result<(), StorageError> {
    if n_chunks.iter().all(|&n| n == 1) {
        return Ok(());
    }
    let mut starts = vec![0];
    starts.extend(n_chunks.iter().scan(0u32, |end, n| {
        *end += n;
        Some(*end)
    }));
    let mut file = SectionWriter::create(&dir.join(FILE_NAME), KIND, VERSION)?;
    file.section(bytes_of(&starts))?;
    file.begin()?;
    (0u32..).zip(n_chunks).try_for_each(|(row, &n)| (0..n).try_for_each(|_| file.write(&row.to_le_bytes())))?;
    file.finish().map(drop)
}

impl Chunks {
    /// Opens what [`write`] wrote into a folder for so many rows.
    ///
    /// # Errors
    /// [`IndexError::Storage`] names the file and what is wrong with it.
    pub fn open(dir: &Path, n_rows: u32) -> Result<Self, IndexError> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            return Ok(Self::One(n_rows));
        }
        let file = SectionFile::open(&path, KIND, VERSION, 2)?;
        let (n_starts, n_vectors) = (file.count::<u32>(0)?, file.count::<u32>(1)?);
        if n_starts != n_rows as usize + 1 || n_vectors < n_rows as usize {
            return Err(file.corrupt(format!("it has {n_starts} limits for {n_vectors} vectors of {n_rows} rows")).into());
        }
        Ok(Self::Several(Box::new(ChunkFile { file, n_rows, n_vectors: check_row_count(n_vectors)? })))
    }

    /// Of all rows.
    pub fn n_vectors(&self) -> u32 {
        match self {
            Self::One(n_rows) => *n_rows,
            Self::Several(file) => file.n_vectors,
        }
    }

    /// How many a row has on average.
    pub fn per_row(&self) -> f64 {
        match self {
            Self::One(_) => 1.0,
            Self::Several(file) => f64::from(file.n_vectors) / f64::from(file.n_rows.max(1)),
        }
    }

    /// How many so many rows have, if they are like the others: of all rows, all.
    pub fn expected_vectors(&self, n_rows: u64) -> u64 {
        match self {
            Self::One(_) => n_rows,
            Self::Several(file) => n_rows * u64::from(file.n_vectors) / u64::from(file.n_rows.max(1)),
        }
    }

    /// The vectors of a row: one at least.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when there is no such row or its bytes are not what was written.
    #[inline]
    pub fn of(&self, row: u32) -> Result<Range<u32>, StorageError> {
        match self {
            // Whether there is such a row, its vector tells.
            Self::One(_) => Ok(row..row.saturating_add(1)),
            Self::Several(file) => file.of(row),
        }
    }

    /// Of some vectors with scores, the best of each row, in the order of the rows.
    ///
    /// # Errors
    /// As of [`Chunks::of`].
    pub fn best_of_rows(&self, mut found: Vec<(f32, u32)>) -> Result<Vec<(f32, u32)>, StorageError> {
        let Self::Several(file) = self else { return Ok(found) };
        found.iter_mut().try_for_each(|(_, vector)| file.row(*vector).map(|row| *vector = row))?;
        found.sort_unstable_by(|a, b| a.1.cmp(&b.1).then(b.0.total_cmp(&a.0)));
        found.dedup_by_key(|(_, row)| *row);
        Ok(found)
    }

    /// Checks all of the file.
    pub fn verify(&self) -> Result<(), StorageError> {
        match self {
            Self::One(_) => Ok(()),
            Self::Several(file) => file.file.verify(),
        }
    }

    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::One(_) => 0,
            Self::Several(file) => file.file.size_bytes(),
        }
    }
}

impl ChunkFile {
    fn of(&self, row: u32) -> Result<Range<u32>, StorageError> {
        match *self.file.numbers_at::<u32>(0, row as usize, 2)? {
            // The checksums say that this is what was written; the bounds hold whoever wrote it.
            [start, end] if start < end && end <= self.n_vectors => Ok(start..end),
            _ => Err(self.file.corrupt(format!("row {row} has no vectors"))),
        }
    }

    fn row(&self, vector: u32) -> Result<u32, StorageError> {
        let row = self.file.numbers_at::<u32>(1, vector as usize, 1)?[0];
        if row < self.n_rows { Ok(row) } else { Err(self.file.corrupt(format!("vector {vector} is of no row"))) }
    }

    /// The vectors of some rows.
    ///
    /// # Errors
    /// As of [`Chunks::of`].
    pub fn vectors_of(&self, rows: &RoaringBitmap) -> Result<RoaringBitmap, StorageError> {
        let mut vectors = RoaringBitmap::new();
        for row in rows {
            // Rows ascend, and so do their vectors; should a damaged file say otherwise, one that is out of order is out.
            self.of(row)?.for_each(|vector| drop(vectors.try_push(vector)));
        }
        Ok(vectors)
    }

    pub fn n_vectors(&self) -> u32 {
        self.n_vectors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_vectors_find_each_other() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[1, 3, 1, 2]).unwrap();
        let chunks = Chunks::open(dir.path(), 4).unwrap();
        assert_eq!(chunks.n_vectors(), 7);
        assert_eq!([0, 2, 4].map(|n| chunks.expected_vectors(n)), [0, 3, 7]);
        assert_eq!((0..4).map(|row| chunks.of(row).unwrap()).collect::<Vec<_>>(), [0..1, 1..4, 4..5, 5..7]);
        assert!(chunks.of(4).is_err() && chunks.of(u32::MAX).is_err());
        let found = vec![(0.1, 6), (0.5, 2), (0.7, 3), (0.2, 5), (0.9, 0)];
        assert_eq!(chunks.best_of_rows(found).unwrap(), [(0.9, 0), (0.7, 1), (0.2, 3)]);
        assert!(chunks.best_of_rows(vec![(0.1, 7)]).is_err());
        let Chunks::Several(file) = &chunks else { panic!("some rows have several") };
        assert_eq!(file.vectors_of(&RoaringBitmap::from([1, 3])).unwrap(), RoaringBitmap::from([1, 2, 3, 5, 6]));
        assert!(Chunks::open(dir.path(), 5).is_err() && Chunks::open(dir.path(), 3).is_err());
    }

    #[test]
    fn one_each_needs_no_file() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[1, 1]).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let chunks = Chunks::open(dir.path(), 2).unwrap();
        assert_eq!((chunks.n_vectors(), chunks.of(1).unwrap(), chunks.size_bytes()), (2, 1..2, 0));
        assert_eq!(chunks.best_of_rows(vec![(0.5, 1), (0.7, 0)]).unwrap(), [(0.5, 1), (0.7, 0)]);
    }

    #[test]
    fn insane_contents_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = SectionWriter::create(&dir.path().join(FILE_NAME), KIND, VERSION).unwrap();
        file.section(bytes_of(&[3u32, 1, 1, 9])).unwrap();
        file.section(bytes_of(&[0u32, 3, u32::MAX])).unwrap();
        file.finish().unwrap();
        let chunks = Chunks::open(dir.path(), 3).unwrap();
        assert!((0..4).all(|row| chunks.of(row).is_err()));
        assert!(chunks.best_of_rows(vec![(0.0, 1)]).is_err() && chunks.best_of_rows(vec![(0.0, 2)]).is_err());
    }
}
