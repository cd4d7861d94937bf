//! Exact search: every row compared, the best kept. The oracle of the graph, and the better way for few rows.
//!
//! Rows are compared by their int8 codes first. No such score is farther from the true one than a bound that is known (see
//! `codes.rs`). So the `k` best by codes are compared by their vectors, and then those others that the bound lets come up to the worst
//! of them. The answer is that of comparing all vectors, at a fraction of the bytes.

use std::time::Instant;

use super::chunks::Chunks;
use super::codes::QueryCodes;
use super::graph_file::GraphFile;
use super::vectors::VectorFile;
use kindred_core::domain::{Candidate, best_first};
use kindred_core::storage::StorageError;

/// Rows that are asked for ahead of the one that is compared.
const AHEAD: usize = 8;
/// Rows that are compared between two looks at the clock: some tens of microseconds where each has one vector.
const BLOCK: usize = 1_024;

/// Rows, and the query that they are compared with. A row with several vectors has the score of the best.
#[derive(Debug)]
pub(super) struct Compared<'a> {
    pub graph: &'a GraphFile,
    pub vectors: &'a VectorFile,
    pub chunks: &'a Chunks,
    /// `[dims]`.
    pub query: &'a [f32],
    /// Of the query.
    pub codes: QueryCodes,
    /// Codes are of the first numbers of each vector alone: their scores say which rows may be near, not how near.
    pub is_cut: bool,
}

/// What comparing rows one by one found.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Best first.
    pub best: Vec<Candidate>,
    /// How many scores were computed.
    pub n_distances: u64,
    /// Rows that there was no time for.
    pub n_left: usize,
}

impl Compared<'_> {
    /// The `k` best of `rows`, best first; of those that there was time for, if it is over before all are compared.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when the file of a row that it meets is damaged.
    pub fn scan(&self, rows: impl Iterator<Item = u32>, k: usize, until: Option<Instant>) -> Result<Scanned, StorageError> {
        let rows: Vec<u32> = rows.collect();
        // Whoever asks gets some answer: the first rows are compared in any case.
        let is_over = |i: usize| i > 0 && i.is_multiple_of(BLOCK) && until.is_some_and(|until| Instant::now() >= until);
        if rows.len() <= k || self.is_cut {
            let mut scanned = Scanned { best: Vec::new(), n_distances: 0, n_left: rows.len() };
            for (i, block) in rows.chunks(BLOCK).enumerate() {
                if is_over(i * BLOCK) {
                    break;
                }
                let block: Vec<(f32, u32)> = block.iter().map(|&row| (0.0, row)).collect();
                scanned.best.extend(self.rescore(&block, k)?);
                scanned.n_distances += block.len() as u64;
                scanned.n_left -= block.len();
            }
            scanned.best.sort_unstable_by(best_first);
            scanned.best.truncate(k);
            return Ok(scanned);
        }
        let mut shortlist = Shortlist::new(k, self.codes.max_error);
        let mut n_left = 0;
        for (i, &row) in rows.iter().enumerate() {
            if is_over(i) {
                n_left = rows.len() - i;
                break;
            }
            if let Some(&ahead) = rows.get(i + AHEAD) {
                self.chunks.of(ahead)?.for_each(|vector| self.graph.prefetch_codes(vector));
            }
            shortlist.offer(self.best(row, |vector| Ok(self.codes.score(self.graph.codes(vector)?)))?, row);
        }
        let (best, n_rescored) = shortlist.best(|rows, k| self.rescore(rows, k))?;
        Ok(Scanned { best, n_distances: (rows.len() - n_left) as u64 + n_rescored, n_left })
    }

    /// The `k` best of some rows by their vectors, best first.
    ///
    /// # Errors
    /// As of [`Compared::scan`].
    pub fn rescore(&self, rows: &[(f32, u32)], k: usize) -> Result<Vec<Candidate>, StorageError> {
        let prefetch = |row: u32| -> Result<(), StorageError> {
            self.chunks.of(row)?.for_each(|vector| self.vectors.prefetch(vector));
            Ok(())
        };
        rows.iter().take(AHEAD).try_for_each(|&(_, row)| prefetch(row))?;
        let mut candidates = Vec::with_capacity(rows.len());
        for (i, &(_, row)) in rows.iter().enumerate() {
            if let Some(&(_, ahead)) = rows.get(i + AHEAD) {
                prefetch(ahead)?;
            }
            candidates.push(Candidate { row, score: self.best(row, |vector| self.vectors.score(vector, self.query))? });
        }
        if k < candidates.len() {
            candidates.select_nth_unstable_by(k, best_first);
            candidates.truncate(k);
        }
        candidates.sort_unstable_by(best_first);
        Ok(candidates)
    }

    /// The best score of a row's vectors.
    #[inline]
    fn best(&self, row: u32, score: impl Fn(u32) -> Result<f32, StorageError>) -> Result<f32, StorageError> {
        self.chunks.of(row)?.try_fold(f32::NEG_INFINITY, |best, vector| Ok(best.max(score(vector)?)))
    }
}

/// Of rows with scores by codes, those that can be among the `k` best by vectors.
#[derive(Debug)]
pub(super) struct Shortlist {
    /// More than 0.
    k: usize,
    max_error: f32,
    rows: Vec<(f32, u32)>,
    /// Rows below are out: `k` others are better whatever the codes have lost.
    least: f32,
    /// Length at which those that are out by now are dropped.
    full: usize,
}

impl Shortlist {
    pub fn new(k: usize, max_error: f32) -> Self {
        assert!(k > 0, "nobody asks for nothing");
        Self { k, max_error, rows: Vec::new(), least: f32::NEG_INFINITY, full: 2 * k + 256 }
    }

    #[inline]
    pub fn offer(&mut self, score: f32, row: u32) {
        if score >= self.least {
            self.rows.push((score, row));
            if self.rows.len() >= self.full {
                self.drop_worst();
            }
        }
    }

    fn drop_worst(&mut self) {
        let (_, worst, _) = self.rows.select_nth_unstable_by(self.k - 1, |a, b| b.0.total_cmp(&a.0));
        self.least = worst.0 - 2.0 * self.max_error;
        self.rows.retain(|&(score, _)| score >= self.least);
        self.full = self.full.max(2 * self.rows.len());
    }

    /// The `k` best, best first, and how many were compared for that. `rescore` gives the so many best of some rows by their vectors,
    /// best first.
    pub fn best<E>(
        mut self,
        mut rescore: impl FnMut(&[(f32, u32)], usize) -> Result<Vec<Candidate>, E>,
    ) -> Result<(Vec<Candidate>, u64), E> {
        let k = self.k.min(self.rows.len());
        if k < self.rows.len() {
            self.rows.select_nth_unstable_by(k, |a, b| b.0.total_cmp(&a.0));
        }
        let (first, others) = self.rows.split_at(k);
        // The best by codes, with their true scores: the `k` best of all are at least as good as the worst of these.
        let mut candidates = rescore(first, k)?;
        let least = candidates.last().map_or(f32::NEG_INFINITY, |worst| worst.score) - self.max_error;
        let possible: Vec<(f32, u32)> = others.iter().copied().filter(|&(score, _)| score >= least).collect();
        candidates.extend(rescore(&possible, possible.len())?);
        candidates.sort_unstable_by(best_first);
        candidates.truncate(k);
        Ok((candidates, (k + possible.len()) as u64))
    }
}
