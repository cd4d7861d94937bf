//! Vectors and attributes that come one by one, in memory and searched exactly: those of rows that no graph has yet.
//!
//! A list never changes under its readers: what is added goes into a copy that shares all blocks but the last.
//!
//! Rows are compared by int8 codes first, as in `flat.rs`. Each row has a step of its own, as nothing is known yet of those to come.

use std::ops::Range;
use std::sync::Arc;

use super::IndexError;
use super::attributes::AttributeFile;
use super::codes::{QueryProbe, Rotation, encode_alone};
use super::filter::{Evaluator, FilterDeadline};
use super::flat::Shortlist;
use super::kernels::dot;
use kindred_core::domain::{Attributes, Candidate, Filter, Schema, best_first};

/// Rows of a block: few enough to copy one with every write, many enough that a list of them is short; and the bits of a mask.
pub const BLOCK_ROWS: usize = u128::BITS as usize;

/// The seed of the rotation; any number does.
const SEED: u64 = 0x6b69_6e64_7265_6421;

/// Vectors by row; a row has one, or one for each chunk of its text.
#[derive(Debug, Clone)]
pub struct AppendedVectors {
    dims: usize,
    rotation: Arc<Rotation>,
    /// All but the last have [`BLOCK_ROWS`] rows.
    blocks: Vec<Arc<Block>>,
    n_rows: u32,
    n_vectors: u64,
    /// Largest distance between a row and what its codes stand for.
    max_error: f32,
}

#[derive(Debug, Clone, Default)]
struct Block {
    /// `[vectors × dims]`, unit length.
    vectors: Vec<f32>,
    /// `[vectors × code_dims]`.
    codes: Vec<u8>,
    /// What one step of each vector's codes stands for.
    steps: Vec<f32>,
    /// `[rows]`: where each row's vectors end.
    ends: Vec<u32>,
}

impl AppendedVectors {
    pub fn new(dims: usize) -> Self {
        Self { dims, rotation: Arc::new(Rotation::new(dims, SEED)), blocks: Vec::new(), n_rows: 0, n_vectors: 0, max_error: 0.0 }
    }

    pub fn n_rows(&self) -> u32 {
        self.n_rows
    }

    /// Of all rows.
    pub fn n_vectors(&self) -> u64 {
        self.n_vectors
    }

    /// Adds a row. `vectors` is `[chunks × dims]`, unit length.
    pub fn push(&mut self, vectors: &[f32]) {
        assert!(!vectors.is_empty() && vectors.len().is_multiple_of(self.dims), "embeddings of another model have no place here");
        if (self.n_rows as usize).is_multiple_of(BLOCK_ROWS) {
            self.blocks.push(Arc::default());
        }
        let block = Arc::make_mut(self.blocks.last_mut().expect("there is one for the next row"));
        block.vectors.extend_from_slice(vectors);
        for vector in vectors.chunks_exact(self.dims) {
            let (start, code_dims) = (block.codes.len(), self.rotation.code_dims);
            block.codes.resize(start + code_dims, 0);
            let (step, error) = encode_alone(&self.rotation.rotate(vector), &mut block.codes[start..]);
            block.steps.push(step);
            self.max_error = self.max_error.max(error);
            self.n_vectors += 1;
        }
        block.ends.push(block.steps.len() as u32);
        self.n_rows += 1;
    }

    /// The vectors of a row, `[chunks × dims]`.
    pub fn vectors(&self, row: u32) -> &[f32] {
        let block = &self.blocks[row as usize / BLOCK_ROWS];
        let Range { start, end } = block.of(row as usize % BLOCK_ROWS);
        &block.vectors[start * self.dims..end * self.dims]
    }

    /// The `k` best of the allowed rows, best first, ties by row. `query` is `[dims]`, unit length; `allowed` has a word for each block
    /// of [`BLOCK_ROWS`] rows, the first row in the lowest bit.
    pub fn search(&self, query: &[f32], k: usize, allowed: &[u128]) -> Vec<Candidate> {
        if self.n_rows == 0 || k == 0 {
            return Vec::new();
        }
        let code_dims = self.rotation.code_dims;
        let probe = QueryProbe::new(&self.rotation.rotate(query));
        let mut shortlist = Shortlist::new(k, probe.max_error(self.max_error));
        for (first, (block, &rows)) in (0u32..).step_by(BLOCK_ROWS).zip(self.blocks.iter().zip(allowed)) {
            let mut rows = rows;
            while rows != 0 {
                let place = rows.trailing_zeros();
                rows &= rows - 1;
                let score = |vector: usize| probe.score(&block.codes[vector * code_dims..][..code_dims], block.steps[vector]);
                shortlist.offer(block.of(place as usize).map(score).fold(f32::NEG_INFINITY, f32::max), first + place);
            }
        }
        let rescore = |rows: &[(f32, u32)], k: usize| {
            let score = |row| self.vectors(row).chunks_exact(self.dims).map(|vector| dot(query, vector)).fold(f32::NEG_INFINITY, f32::max);
            let mut best: Vec<Candidate> = rows.iter().map(|&(_, row)| Candidate { row, score: score(row) }).collect();
            best.sort_unstable_by(best_first);
            best.truncate(k);
            Ok::<_, std::convert::Infallible>(best)
        };
        let Ok((best, _)) = shortlist.best(rescore);
        best
    }
}

impl Block {
    /// The vectors of a row.
    fn of(&self, place: usize) -> Range<usize> {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[place] as usize
    }
}

/// The attributes of some rows that do not change any more, as columns.
#[derive(Debug)]
pub struct AppendedAttributes {
    columns: AttributeFile,
}

impl AppendedAttributes {
    /// Of rows 0, 1, …
    pub fn new(attributes: &[&Attributes], schema: &Schema) -> Self {
        Self { columns: AttributeFile::of(attributes, schema) }
    }

    /// The rows that pass a filter, as words of [`BLOCK_ROWS`] bits.
    ///
    /// # Errors
    /// [`IndexError::NotIndexed`], [`IndexError::FilterTimeout`].
    pub fn matching(&self, filter: &Filter, deadline: FilterDeadline) -> Result<Vec<u128>, IndexError> {
        let mut matching = vec![0; (self.columns.n_rows() as usize).div_ceil(BLOCK_ROWS)];
        for row in (Evaluator { attributes: &self.columns, deadline }).passing(filter)?.rows {
            matching[row as usize / BLOCK_ROWS] |= 1 << (row as usize % BLOCK_ROWS);
        }
        Ok(matching)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Random;
    use super::*;

    /// Against comparing every vector: with many equal scores, with vectors whose codes lose all they can, at all edges of blocks.
    #[test]
    fn a_search_is_exact() {
        let mut random = Random(5);
        for (n, dims, k) in [(1, 3, 1), (128, 8, 5), (129, 64, 200), (1_000, 40, 10), (3_000, 96, 700)] {
            let mut all = AppendedVectors::new(dims);
            let mut vectors = random.clustered(n, dims, 4);
            // One number that drowns the others; and the same vector again and again.
            vectors[..dims].fill(1e-4);
            vectors[0] = 1.0;
            for twin in 0..n / 4 {
                vectors.copy_within((n / 2) * dims..(n / 2 + 1) * dims, twin * dims);
            }
            vectors.chunks_exact(dims).for_each(|vector| all.push(vector));
            let mut allowed = vec![0; n.div_ceil(BLOCK_ROWS)];
            (0..n).for_each(|row| allowed[row / BLOCK_ROWS] |= u128::from(random.chance(2)) << (row % BLOCK_ROWS));
            for query in random.clustered(10, dims, 4).chunks_exact(dims).chain(vectors.chunks_exact(dims).take(2)) {
                let mut expected: Vec<Candidate> = (0..n)
                    .filter(|row| allowed[row / BLOCK_ROWS] >> (row % BLOCK_ROWS) & 1 == 1)
                    .map(|row| Candidate { row: row as u32, score: dot(query, &vectors[row * dims..][..dims]) })
                    .collect();
                expected.sort_unstable_by(best_first);
                expected.truncate(k);
                assert_eq!(all.search(query, k, &allowed), expected, "{n} rows of {dims}, {k} wanted");
            }
            assert_eq!(all.vectors(n as u32 - 1), &vectors[(n - 1) * dims..]);
        }
    }

    #[test]
    fn of_a_rows_vectors_the_best_counts() {
        let mut random = Random(6);
        let (n, dims) = (700, 24);
        let rows: Vec<Vec<f32>> = (0..n).map(|row| random.clustered(1 + row % 4, dims, 4)).collect();
        let mut all = AppendedVectors::new(dims);
        rows.iter().for_each(|row| all.push(row));
        assert_eq!((all.n_rows(), all.n_vectors()), (700, 1_750));
        assert!(rows.iter().zip(0..).all(|(row, at)| all.vectors(at) == row));
        let is_there = |row: &usize| row % BLOCK_ROWS != BLOCK_ROWS - 1;
        let mut allowed = vec![0; n.div_ceil(BLOCK_ROWS)];
        (0..n).filter(is_there).for_each(|row| allowed[row / BLOCK_ROWS] |= 1 << (row % BLOCK_ROWS));
        for query in random.clustered(10, dims, 4).chunks_exact(dims) {
            let scores = |row: &[f32]| row.chunks_exact(dims).map(|vector| dot(query, vector)).fold(f32::MIN, f32::max);
            let mut expected: Vec<Candidate> =
                (0..n).filter(is_there).map(|row| Candidate { row: row as u32, score: scores(&rows[row]) }).collect();
            expected.sort_unstable_by(best_first);
            expected.truncate(30);
            assert_eq!(all.search(query, 30, &allowed), expected);
        }
    }
}
