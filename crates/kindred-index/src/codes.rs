//! Short codes of vectors that searches and builders compare instead of the vectors.
//!
//! A vector is first rotated by a fixed random rotation, which spreads what it says evenly over all numbers, whatever model it
//! came from: then one step for all numbers loses little (int8, 1 byte a number), and even the signs alone say much (1 bit a
//! number, of differences between linked rows: see `node.rs`). Rotations keep dot products.
//!
//! *Shape*: `code_dims` is `dims` rounded up to a multiple of 64; the numbers added are zeros before the rotation.
//!
//! *Source*: Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound", 2024, for rotating and
//! for signs as codes; the rotation of signs, Walsh–Hadamard transforms and butterflies follows its authors' library.

use rayon::prelude::*;

use super::kernels::{self, LinkQuery};
use kindred_core::domain::mix_bits;
use kindred_core::storage::{Buffer, StorageError};

/// Codes are numbers from 1 to 255 around this.
const CENTER: i32 = 128;
/// Largest whole number of a query in the tables of 1-bit codes: four of them, added or not, span at most 252.
const TABLE_MAX: f32 = 63.0;
/// Standard deviations of a score of codes beyond which rows are given up.
const DEVIATIONS: f32 = 4.0;
/// Rounds of signs and mixing: with four, single numbers end up spread over all.
const ROUNDS: usize = 4;
/// Vectors looked at to choose the step.
const SAMPLE: usize = 4_096;
/// The codes reach to this many times the number that all but one in ten thousand of the sample's numbers are below. Hardly any
/// number of a real model lies beyond and is cut to the largest code: the error of each row's codes stays near that of all.
const REACH: f32 = 1.5;

/// A fixed random rotation, to the dimensions of codes.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    pub code_dims: usize,
    /// `[ROUNDS × code_dims]` of 1 and -1.
    signs: Vec<f32>,
}

/// How vectors become codes: the same for all rows of an index, and stored with it.
#[derive(Debug, Clone)]
pub(super) struct Quantizer {
    rotation: Rotation,
    /// What one step of a code stands for.
    pub step: f32,
    /// Largest distance between a row and what its codes stand for.
    pub max_error: f32,
}

/// The int8 codes of rows, in memory.
#[derive(Debug)]
pub(super) struct CodeTable {
    pub code_dims: usize,
    /// `[rows × code_dims]`.
    codes: Buffer,
}

/// Codes to compare a table's rows with.
#[derive(Debug, Default, Clone)]
pub(super) struct Probe {
    codes: Vec<i8>,
    /// What [`CENTER`] adds to every dot product.
    offset: i32,
}

/// A query's int8 codes.
#[derive(Debug)]
pub(super) struct QueryProbe {
    probe: Probe,
    /// What one step of its codes stands for.
    step: f32,
    /// Distance between the query and what its codes stand for.
    error: f32,
}

/// A query, prepared for comparing with the rows of an index.
#[derive(Debug)]
pub(super) struct QueryCodes {
    probe: QueryProbe,
    /// What one step of a row's codes stands for.
    step: f32,
    /// No score of codes is farther from that of the vectors.
    pub max_error: f32,
    /// Hardly any score of codes is farther from that of the vectors: what codes lose points nowhere in particular, so little of it
    /// points where the query does.
    pub likely_error: f32,
    tables: Vec<u8>,
    table_scale: f32,
    table_shift: f32,
}

impl Rotation {
    pub fn new(dims: usize, seed: u64) -> Self {
        let code_dims = dims.next_multiple_of(64);
        let sign = |i| if mix_bits(seed ^ mix_bits(i)) & 1 == 0 { 1.0 } else { -1.0 };
        Self { code_dims, signs: (0..(ROUNDS * code_dims) as u64).map(sign).collect() }
    }

    /// `[dims]` to `[code_dims]`, same length.
    pub fn rotate(&self, vector: &[f32]) -> Vec<f32> {
        let mut numbers = Vec::with_capacity(self.code_dims);
        numbers.extend_from_slice(vector);
        numbers.resize(self.code_dims, 0.0);
        let (n, half) = (self.code_dims, self.code_dims / 2);
        let block = 1 << n.ilog2();
        for (round, signs) in self.signs.chunks_exact(n).enumerate() {
            let start = if round % 2 == 0 { 0 } else { n - block };
            kernels::mix(&mut numbers, signs, start..start + block);
            if block < n {
                let (low, high) = numbers.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = ((*a + *b) * std::f32::consts::FRAC_1_SQRT_2, (*a - *b) * std::f32::consts::FRAC_1_SQRT_2);
                }
            }
        }
        numbers
    }
}

/// Writes the codes of a rotated vector, `[code_dims]`. Returns how far what they stand for is from it.
fn encode(rotated: &[f32], step: f32, codes: &mut [u8]) -> f32 {
    let mut squared = 0.0;
    for (code, x) in codes.iter_mut().zip(rotated) {
        let whole = round((x / step).clamp(-127.0, 127.0));
        squared += (x - whole * step).powi(2);
        *code = (whole as i32 + CENTER) as u8;
    }
    squared.sqrt()
}

/// The smallest step with which no number is cut.
fn step_of(rotated: &[f32]) -> f32 {
    rotated.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs())) / 127.0
}

/// The same by the vector's own step: for vectors that no other is known of. Returns that step too.
pub(super) fn encode_alone(rotated: &[f32], codes: &mut [u8]) -> (f32, f32) {
    let step = step_of(rotated);
    (step, encode(rotated, step, codes))
}

impl Quantizer {
    /// One whose step and error are still to be set.
    pub fn new(dims: usize, seed: u64, step: f32, max_error: f32) -> Self {
        Self { rotation: Rotation::new(dims, seed), step, max_error }
    }

    /// Chooses the step for vectors, `[rows × dims]`, and encodes them.
    ///
    /// # Errors
    /// [`StorageError::OutOfMemory`].
    pub fn fit(vectors: &[f32], dims: usize, seed: u64) -> Result<(Self, CodeTable), StorageError> {
        let rotation = Rotation::new(dims, seed);
        let (n_rows, code_dims) = (vectors.len() / dims, rotation.code_dims);
        let n_sampled = n_rows.min(SAMPLE);
        let row = |i: usize| &vectors[i * n_rows / n_sampled * dims..][..dims];
        let mut sizes: Vec<f32> = (0..n_sampled).flat_map(|i| rotation.rotate(row(i))).map(f32::abs).collect();
        let mut step = 1.0;
        if !sizes.is_empty() {
            let at = (sizes.len() - 1) - sizes.len() / 10_000;
            let (_, large, _) = sizes.select_nth_unstable_by(at, f32::total_cmp);
            step = (REACH * *large / 127.0).max(f32::MIN_POSITIVE);
        }
        let mut codes = Buffer::zeroed(n_rows * code_dims)?;
        let errors = codes.bytes_mut().par_chunks_exact_mut(code_dims).zip(vectors.par_chunks_exact(dims));
        let max_error = errors.map(|(codes, vector)| encode(&rotation.rotate(vector), step, codes)).reduce(|| 0.0, f32::max);
        Ok((Self { rotation, step, max_error }, CodeTable { code_dims, codes }))
    }

    /// Prepares a query, `[dims]`.
    pub fn query(&self, vector: &[f32]) -> QueryCodes {
        let rotated = self.rotation.rotate(vector);
        let probe = QueryProbe::new(&rotated);
        let table_step = 127.0 * probe.step / TABLE_MAX;
        let numbers: Vec<i16> = rotated.iter().map(|x| round(x / table_step) as i16).collect();
        let mut tables = vec![0; 4 * rotated.len()];
        kernels::fill_tables(&numbers, &mut tables);
        // Entries are sums over a pattern's numbers minus the least such sum, that of the negative numbers.
        let least: i32 = numbers.iter().map(|&x| i32::from(x.min(0))).sum();
        let sum: i32 = numbers.iter().map(|&x| i32::from(x)).sum();
        QueryCodes {
            step: self.step,
            max_error: probe.max_error(self.max_error),
            likely_error: DEVIATIONS * ((self.max_error.powi(2) + probe.error.powi(2)) / rotated.len() as f32).sqrt(),
            probe,
            tables,
            table_scale: 2.0 * table_step,
            table_shift: table_step * (2 * least - sum) as f32,
        }
    }
}

impl CodeTable {
    #[inline]
    pub fn row(&self, row: u32) -> &[u8] {
        &self.codes.bytes()[row as usize * self.code_dims..][..self.code_dims]
    }

    /// Asks for a row before it is compared.
    #[inline]
    pub fn prefetch(&self, row: u32) {
        kernels::prefetch(self.codes.bytes().as_ptr().wrapping_add(row as usize * self.code_dims), self.code_dims);
    }
}

impl Probe {
    fn new(codes: Vec<i8>) -> Self {
        let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
        Self { codes, offset: CENTER * sum }
    }

    /// Makes this the probe of a row's codes, reusing its memory.
    pub fn set(&mut self, row: &[u8]) {
        let mut codes = std::mem::take(&mut self.codes);
        codes.clear();
        codes.extend(row.iter().map(|&code| (i32::from(code) - CENTER) as i8));
        *self = Self::new(codes);
    }

    /// The dot product of both codes, [`CENTER`] taken off.
    #[inline]
    pub fn compare(&self, row: &[u8]) -> i32 {
        kernels::dot_codes(row, &self.codes) - self.offset
    }
}

impl QueryProbe {
    /// `rotated` is `[code_dims]`.
    pub fn new(rotated: &[f32]) -> Self {
        let step = step_of(rotated);
        let codes: Vec<i8> = rotated.iter().map(|x| round(x / step) as i8).collect();
        let squared_error: f32 = rotated.iter().zip(&codes).map(|(x, &code)| (x - f32::from(code) * step).powi(2)).sum();
        Self { probe: Probe::new(codes), step, error: squared_error.sqrt() }
    }

    /// The score of a row of which one step of its codes stands for so much.
    #[inline]
    pub fn score(&self, row: &[u8], step: f32) -> f32 {
        self.probe.compare(row) as f32 * (step * self.step)
    }

    /// No score of codes is farther from that of the vectors, if no row's codes are farther than so much from the row.
    pub fn max_error(&self, of_rows: f32) -> f32 {
        // |q·r - q̂·r̂| ≤ |q|·|r - r̂| + |q - q̂|·|r̂|, and unit vectors may be longer by rounding.
        1.01 * (of_rows + self.error * (1.0 + of_rows))
    }
}

impl QueryCodes {
    /// The score of a row, within [`QueryCodes::max_error`].
    #[inline]
    pub fn score(&self, row: &[u8]) -> f32 {
        self.probe.score(row, self.step)
    }

    /// What to estimate the rows linked from a row with, given that row's own score.
    #[inline]
    pub fn around(&self, score: f32) -> LinkQuery<'_> {
        LinkQuery { tables: &self.tables, base: score, scale: self.table_scale, shift: self.table_shift }
    }
}

/// To the nearest whole number, for numbers that are far below 2^22: adding this leaves no room for the rest. Machines that have an
/// instruction for it are not all of them, and elsewhere it is a call.
fn round(x: f32) -> f32 {
    const NO_ROOM: f32 = 12_582_912.0;
    (x + NO_ROOM) - NO_ROOM
}
