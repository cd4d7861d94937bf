//! Vectors and attributes that come one by one, in memory and searched exactly: those of rows that no graph has yet.
//!
//! A list never changes under its readers: what is added goes into a copy that shares all blocks but the last.
//!
//! Rows are compared by int8 codes first, as in `flat.rs`. Each row has a step of its own, as nothing is known yet of those to come.

use std::sync::Arc;

use super::IndexError;
use super::attributes::AttributeFile;
use super::codes::{QueryProbe, Rotation, encode_alone};
use super::filter::passing;
use super::flat::{Shortlist, best_first};
use super::kernels::dot;
use crate::domain::{Attributes, Candidate, Filter, Schema};

/// Rows of a block: few enough to copy one with every write, many enough that a list of them is short; and the bits of a mask.
pub const BLOCK_ROWS: usize = u128::BITS as usize;

/// The seed of the rotation; any number does.
const SEED: u64 = 0x6b69_6e64_7265_6421;

/// Vectors by row, `[rows × dims]`.
#[derive(Debug, Clone)]
pub struct AppendedVectors {
    dims: usize,
    rotation: Arc<Rotation>,
    /// All but the last have [`BLOCK_ROWS`] rows.
    blocks: Vec<Arc<Block>>,
    n_rows: u32,
    /// Largest distance between a row and what its codes stand for.
    max_error: f32,
}

#[derive(Debug, Clone, Default)]
struct Block {
    /// `[rows × dims]`, unit length.
    vectors: Vec<f32>,
    /// `[rows × code_dims]`.
    codes: Vec<u8>,
    /// What one step of each row's codes stands for.
    steps: Vec<f32>,
}

impl AppendedVectors {
    pub fn new(dims: usize) -> Self {
        Self { dims, rotation: Arc::new(Rotation::new(dims, SEED)), blocks: Vec::new(), n_rows: 0, max_error: 0.0 }
    }

    pub fn n_rows(&self) -> u32 {
        self.n_rows
    }

    /// Adds a row. `vector` is `[dims]`, unit length.
    pub fn push(&mut self, vector: &[f32]) {
        assert_eq!(vector.len(), self.dims, "an embedding of another model has no place here");
        if (self.n_rows as usize).is_multiple_of(BLOCK_ROWS) {
            self.blocks.push(Arc::default());
        }
        let block = Arc::make_mut(self.blocks.last_mut().expect("there is one for the next row"));
        block.vectors.extend_from_slice(vector);
        let (start, code_dims) = (block.codes.len(), self.rotation.code_dims);
        block.codes.resize(start + code_dims, 0);
        let (step, error) = encode_alone(&self.rotation.rotate(vector), &mut block.codes[start..]);
        block.steps.push(step);
        self.max_error = self.max_error.max(error);
        self.n_rows += 1;
    }

    /// The vector of a row, `[dims]`.
    pub fn vector(&self, row: u32) -> &[f32] {
        let (block, place) = (row as usize / BLOCK_ROWS, row as usize % BLOCK_ROWS);
        &self.blocks[block].vectors[place * self.dims..][..self.dims]
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
                let codes = &block.codes[place as usize * code_dims..][..code_dims];
                shortlist.offer(probe.score(codes, block.steps[place as usize]), first + place);
            }
        }
        let rescore = |rows: &[(f32, u32)], k: usize| {
            let mut best: Vec<Candidate> = rows.iter().map(|&(_, row)| Candidate { row, score: dot(query, self.vector(row)) }).collect();
            best.sort_unstable_by(best_first);
            best.truncate(k);
            Ok::<_, std::convert::Infallible>(best)
        };
        let Ok((best, _)) = shortlist.best(rescore);
        best
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
    /// [`IndexError::NotIndexed`].
    pub fn matching(&self, filter: &Filter) -> Result<Vec<u128>, IndexError> {
        let mut matching = vec![0; (self.columns.n_rows() as usize).div_ceil(BLOCK_ROWS)];
        for row in passing(&self.columns, filter)?.rows {
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
            assert_eq!(all.vector(n as u32 - 1), &vectors[(n - 1) * dims..]);
        }
    }
}
