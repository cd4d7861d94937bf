//! The exact neighbours of queries: computed, read, written.
//!
//! `.ivecs`: each row is its length as an i32 and then so many rows of the base as i32, best first; little-endian.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;

use crate::top_k::TopK;
use crate::vectors::{Vectors, fill};
use kindred_core::Progress;
use kindred_core::domain::Candidate;
use kindred_index::dot;

/// Rows of the base that stay in a core's cache while a batch of queries is compared with them.
const BLOCK_ROWS: usize = 128;
/// Queries in a batch.
const BATCH_QUERIES: usize = 64;
/// By how much scores may differ that are equal but for the order of additions.
pub(super) const TIE: f32 = 1e-6;

/// The exact neighbours of each query, best first.
#[derive(Debug)]
pub(super) struct Truth {
    depth: usize,
    /// `[queries × depth]`.
    rows: Vec<u32>,
    /// `[queries × depth]`.
    scores: Vec<f32>,
}

impl Truth {
    /// Compares every query with every row of the base, on all cores. It shares nothing with the index but the dot product.
    pub fn compute(base: &Vectors, queries: &Vectors, depth: usize) -> Self {
        let progress = Progress::new("exact neighbours", queries.n_rows() as u64);
        let of_batch = |batch: &[f32]| {
            let queries: Vec<&[f32]> = batch.chunks_exact(base.dims).collect();
            let mut best: Vec<TopK> = queries.iter().map(|_| TopK::new(depth)).collect();
            for (block, vectors) in base.numbers.chunks(BLOCK_ROWS * base.dims).enumerate() {
                for (query, best) in queries.iter().zip(&mut best) {
                    for (at, vector) in vectors.chunks_exact(base.dims).enumerate() {
                        best.offer(Candidate { row: (block * BLOCK_ROWS + at) as u32, score: dot(query, vector) });
                    }
                }
            }
            progress.advance(queries.len() as u64);
            best.into_iter().flat_map(TopK::into_sorted).collect::<Vec<_>>()
        };
        let found: Vec<Candidate> = queries.numbers.par_chunks(BATCH_QUERIES * base.dims).flat_map_iter(of_batch).collect();
        progress.finish();
        Self { depth, rows: found.iter().map(|c| c.row).collect(), scores: found.iter().map(|c| c.score).collect() }
    }

    /// Reads the neighbours from a file.
    ///
    /// # Errors
    /// A file that is damaged, that does not belong to these vectors, or that holds fewer than `depth` neighbours a query.
    pub fn read(path: &Path, base: &Vectors, queries: &Vectors, depth: usize) -> Result<Self> {
        let read = || -> Result<Self> {
            let mut file = BufReader::new(File::open(path)?);
            let mut rows = Vec::with_capacity(queries.n_rows() * depth);
            for query in 0..queries.n_rows() {
                let neighbours = read_neighbours(&mut file).with_context(|| format!("neighbours of query {query}"))?;
                ensure!(neighbours.len() >= depth, "query {query} has {} neighbours there, but k is {depth}", neighbours.len());
                if let Some(row) = neighbours.iter().find(|row| **row as usize >= base.n_rows()) {
                    bail!("query {query} has neighbour {row}, but the base has only {} rows", base.n_rows());
                }
                rows.extend_from_slice(&neighbours[..depth]);
            }
            ensure!(!fill(&mut file, &mut [0; 4])?, "it holds more than the {} queries", queries.n_rows());
            let score = |(at, row): (usize, &u32)| dot(queries.row(at / depth), base.row(*row as usize));
            let scores: Vec<f32> = rows.iter().enumerate().map(score).collect();
            let sinks = |scores: &[f32]| scores.windows(2).all(|pair| pair[1] <= pair[0] + TIE);
            if let Some(query) = scores.chunks_exact(depth).position(|scores| !sinks(scores)) {
                bail!("the neighbours of query {query} are not in the order of their dot products: it belongs to other vectors");
            }
            Ok(Self { depth, rows, scores })
        };
        read().with_context(|| format!("cannot use the neighbours in {}", path.display()))
    }

    /// Writes the neighbours to a file.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&self, path: &Path) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            for neighbours in self.rows.chunks_exact(self.depth) {
                file.write_all(&(self.depth as u32).to_le_bytes())?;
                neighbours.iter().try_for_each(|row| file.write_all(&row.to_le_bytes()))?;
            }
            file.flush()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// The share of a query's first `k` hits that are as good as its `k` exact neighbours. A hit counts by its score: of equal rows
    /// any is right. `hits` are different rows of the base.
    pub fn recall(&self, base: &Vectors, queries: &Vectors, query: usize, hits: &[u32], k: usize) -> f64 {
        let worst = self.scores[query * self.depth + k - 1] - TIE;
        let is_right = |row: &&u32| dot(queries.row(query), base.row(**row as usize)) >= worst;
        hits.iter().take(k).filter(is_right).count() as f64 / k as f64
    }
}

fn read_neighbours(file: &mut BufReader<File>) -> Result<Vec<u32>> {
    /// More is a damaged file.
    const MAX_DEPTH: u32 = 1 << 20;
    let mut head = [0; 4];
    ensure!(fill(file, &mut head)?, "it ends before them");
    let n = u32::from_le_bytes(head);
    ensure!((1..=MAX_DEPTH).contains(&n), "it claims {n} of them: this is no .ivecs file");
    let mut bytes = vec![0; 4 * n as usize];
    ensure!(fill(file, &mut bytes)?, "it is cut short");
    Ok(bytes.as_chunks().0.iter().map(|row| u32::from_le_bytes(*row)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(rows: &[[f32; 2]]) -> Vectors {
        Vectors { dims: 2, numbers: rows.concat() }
    }

    fn sample() -> (Vectors, Vectors) {
        (vectors(&[[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [1.0, 0.0]]), vectors(&[[1.0, 0.0], [0.0, 1.0]]))
    }

    #[test]
    fn neighbours_are_exact_and_of_equal_ones_any_is_right() {
        let (base, queries) = sample();
        let truth = Truth::compute(&base, &queries, 2);
        assert_eq!(truth.rows, [0, 3, 1, 2]);
        let recall = |query, hits: &[u32], k| truth.recall(&base, &queries, query, hits, k);
        assert_eq!((recall(0, &[3, 2], 1), recall(0, &[3, 2], 2), recall(1, &[2, 1], 1), recall(1, &[], 2)), (1.0, 0.5, 0.0, 0.0));
    }

    #[test]
    fn files_come_back_and_foreign_ones_are_refused() {
        let (base, queries) = sample();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gt.ivecs");
        Truth::compute(&base, &queries, 3).write(&path).unwrap();
        assert_eq!(Truth::read(&path, &base, &queries, 2).unwrap().rows, [0, 3, 1, 2]);
        let swapped = vectors(&[[0.0, 1.0], [1.0, 0.0]]);
        let (fewer_rows, fewer_queries) = (vectors(&[[1.0, 0.0]]), vectors(&[[1.0, 0.0]]));
        for (base, queries, depth, word) in [
            (&base, &queries, 4, "k is 4"),
            (&base, &swapped, 2, "other vectors"),
            (&base, &fewer_queries, 2, "more than the 1 queries"),
            (&fewer_rows, &queries, 2, "only 1 rows"),
        ] {
            let error = format!("{:#}", Truth::read(&path, base, queries, depth).unwrap_err());
            assert!(error.contains(word), "{word}: {error}");
        }
        std::fs::write(&path, [9, 0, 0, 0, 1]).unwrap();
        assert!(format!("{:#}", Truth::read(&path, &base, &queries, 2).unwrap_err()).contains("cut short"));
    }
}
