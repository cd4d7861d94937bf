//! Exact search: every row compared, the best kept. The oracle of the graph, and the better way for few rows.
//!
//! Rows are compared by their int8 codes first. No such score is farther from the true one than a bound that is known (see
//! `codes.rs`). So the `k` best by codes are compared by their vectors, and then those others that the bound lets come up to the worst
//! of them. The answer is that of comparing all vectors, at a fraction of the bytes.

use std::cmp::Ordering;

use super::codes::QueryCodes;
use super::graph_file::GraphFile;
use super::vectors::VectorFile;
use crate::domain::Candidate;
use crate::storage::StorageError;

/// Rows that are asked for ahead of the one that is compared.
const AHEAD: usize = 8;

/// Best first: the larger score, and of equal scores the smaller row.
pub(super) fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.row.cmp(&b.row))
}

/// The `k` best of `rows`, best first, and how many scores were computed. `query` is `[dims]`, `codes` are its codes.
///
/// # Errors
/// [`StorageError::Corrupt`] when the file of a row that it meets is damaged.
pub(super) fn scan(
    graph: &GraphFile,
    vectors: &VectorFile,
    (query, codes): (&[f32], &QueryCodes),
    rows: impl Iterator<Item = u32>,
    k: usize,
) -> Result<(Vec<Candidate>, u64), StorageError> {
    let rows: Vec<u32> = rows.collect();
    if rows.len() <= k {
        let all: Vec<(f32, u32)> = rows.iter().map(|&row| (0.0, row)).collect();
        return Ok((rescore(vectors, query, &all, k)?, rows.len() as u64));
    }
    let mut by_codes = Vec::with_capacity(rows.len());
    for (i, &row) in rows.iter().enumerate() {
        if let Some(&ahead) = rows.get(i + AHEAD) {
            graph.prefetch_codes(ahead);
        }
        by_codes.push((codes.score(graph.codes(row)?), row));
    }
    by_codes.select_nth_unstable_by(k, |a, b| b.0.total_cmp(&a.0));
    let (first, others) = by_codes.split_at(k);
    // The best by codes, with their true scores: the `k` best of all are at least as good as the worst of these.
    let mut candidates = rescore(vectors, query, first, k)?;
    let least = candidates.last().map_or(f32::NEG_INFINITY, |worst| worst.score) - codes.max_error;
    let possible: Vec<(f32, u32)> = others.iter().copied().filter(|&(score, _)| score >= least).collect();
    candidates.extend(rescore(vectors, query, &possible, possible.len())?);
    candidates.sort_unstable_by(best_first);
    candidates.truncate(k);
    Ok((candidates, (rows.len() + k + possible.len()) as u64))
}

/// The `k` best of some rows by their vectors, best first.
pub(super) fn rescore(vectors: &VectorFile, query: &[f32], rows: &[(f32, u32)], k: usize) -> Result<Vec<Candidate>, StorageError> {
    rows.iter().take(AHEAD).for_each(|&(_, row)| vectors.prefetch(row));
    let mut candidates = Vec::with_capacity(rows.len());
    for (i, &(_, row)) in rows.iter().enumerate() {
        if let Some(&(_, ahead)) = rows.get(i + AHEAD) {
            vectors.prefetch(ahead);
        }
        candidates.push(Candidate { row, score: vectors.score(row, query)? });
    }
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k, best_first);
        candidates.truncate(k);
    }
    candidates.sort_unstable_by(best_first);
    Ok(candidates)
}
