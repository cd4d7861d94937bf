//! Walks the graph: a greedy descent to a local minimum on the upper levels, then best first on level 0.
//!
//! The walk keeps the most promising rows in a pool, by estimated scores, takes the best from it, reads that row's node, and
//! with it learns the row's own score (int8) and estimates of all rows linked to it (1 bit). A row may be in the pool more than
//! once, with estimates from different sides, until it is taken: its best estimate counts, which makes up for much of their
//! error. The pool holds twice `ef` for that, and recall at a given `ef` is that of a walk by full vectors (measured at 53,000
//! and 115,000 rows). What decides its speed is memory: the next row is chosen and asked for before the one at hand is worked on.
//!
//! Rows that may not be returned (filtered out, deleted) are walked through all the same, since the way to others leads over
//! them.
//!
//! *Source*: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
//! World graphs", 2018, for the levels; Gou et al., "SymphonyQG", 2025, for the pool of estimates.

use std::cell::RefCell;

use super::codes::QueryCodes;
use super::filter::Allowed;
use super::graph_file::GraphFile;
use super::kernels::{self, GROUP};
use super::pool::Pool;
use kindred_core::storage::StorageError;

/// Pool entries per row of the beam.
const POOL_PER_EF: f64 = 2.0;

/// Visited rows after which a walk that has found hardly any row it may return is given up,
const PROBATION: u64 = 64;
/// and the share of the expected number that is hardly any.
const UNLIKELY_SHARE: f64 = 0.25;

/// What a walk may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Width of the beam: more finds better rows and takes longer.
    pub ef: usize,
    /// Share of rows that may be returned: the fewer, the more must be walked through for each.
    pub selectivity: f64,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Allowed rows with the scores of their codes, as they were met.
    pub found: Vec<(f32, u32)>,
    /// Rows whose links were read.
    pub n_visited: u64,
    /// Rows compared by their int8 codes; estimates do not count.
    pub n_distances: u64,
}

/// Walks the graph towards the query.
///
/// # Errors
/// [`StorageError::Corrupt`] when a part of the file that it meets is damaged.
pub(super) fn search(graph: &GraphFile, query: &QueryCodes, allowed: &Allowed<'_>, limits: Limits) -> Result<Walk, StorageError> {
    thread_local! {
        // Taken out while in use, so that a search within a search would merely allocate its own.
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    if graph.header().n_rows == 0 || limits.ef == 0 {
        return Ok(Walk::default());
    }
    let scratch = SCRATCH.with(RefCell::take);
    let mut walker = Walker { graph, query, scratch, walk: Walk::default() };
    let result = walker.run(allowed, limits);
    let Walker { scratch, walk, .. } = walker;
    SCRATCH.with(|cell| cell.replace(scratch));
    result.map(|()| walk)
}

/// Memory that one search leaves to the next on the same thread.
#[derive(Debug, Default)]
struct Scratch {
    visited: VisitedSet,
    pool: Pool,
}

struct Walker<'a> {
    graph: &'a GraphFile,
    query: &'a QueryCodes,
    scratch: Scratch,
    walk: Walk,
}

impl Walker<'_> {
    fn run(&mut self, allowed: &Allowed<'_>, limits: Limits) -> Result<(), StorageError> {
        let (score, entry) = descend(self.graph, self.query, &mut self.walk.n_distances)?;
        let capacity = POOL_PER_EF * limits.ef as f64 / limits.selectivity.clamp(1e-3, 1.0);
        self.scratch.visited.clear(self.graph.header().n_rows);
        self.scratch.pool.clear(capacity as usize);
        self.scratch.pool.offer(score, entry);
        let mut next = self.take();
        while let Some(row) = next {
            // Asked for while the row at hand is worked on. Should that bring up a better one, it comes right after.
            next = self.take();
            if let Some(next) = next {
                self.graph.prefetch_node(next);
            }
            self.visit(row, allowed)?;
            if self.leads_nowhere(limits.selectivity) {
                return Ok(());
            }
            next = next.or_else(|| self.take());
        }
        Ok(())
    }

    /// Whether far fewer rows could be returned than their share of all rows lets one expect: those that match lie elsewhere, and
    /// the walk will not find enough of them.
    #[inline]
    fn leads_nowhere(&self, selectivity: f64) -> bool {
        self.walk.n_visited == PROBATION && (self.walk.found.len() as f64) < UNLIKELY_SHARE * selectivity * PROBATION as f64
    }

    /// The best row of the pool that was not visited yet; it now counts as visited.
    #[inline]
    fn take(&mut self) -> Option<u32> {
        let Scratch { visited, pool } = &mut self.scratch;
        while let Some(row) = pool.take() {
            if visited.insert(row) {
                return Some(row);
            }
        }
        None
    }

    /// Notes the row's own score and offers those linked to it to the pool.
    #[inline]
    fn visit(&mut self, row: u32, allowed: &Allowed<'_>) -> Result<(), StorageError> {
        let node = self.graph.node(row)?;
        let score = self.query.score(node.codes);
        if allowed.contains(row) {
            self.walk.found.push((score, row));
        }
        self.walk.n_visited += 1;
        self.walk.n_distances += 1;
        let n_rows = self.graph.header().n_rows;
        let Scratch { visited, pool } = &mut self.scratch;
        let mut scores = [0.0; GROUP];
        for group in 0..node.n_groups() {
            let mut above = node.estimate(group, self.query, score, pool.worst(), &mut scores);
            let links = &node.links[group * GROUP..][..GROUP];
            while above != 0 {
                let at = above.trailing_zeros() as usize;
                above &= above - 1;
                let link = links[at];
                // The pool may have got better since the estimate; padding is no row.
                if scores[at] > pool.worst() && link < n_rows && !visited.contains(link) {
                    pool.offer(scores[at], link);
                }
            }
        }
        Ok(())
    }
}

/// On each upper level, from the top, moves to a better neighbour until there is none. Returns a row of level 0 and its score.
///
/// # Errors
/// [`StorageError::Corrupt`] when the upper levels are damaged.
pub(super) fn descend(graph: &GraphFile, query: &QueryCodes, n_distances: &mut u64) -> Result<(f32, u32), StorageError> {
    let (header, upper) = (graph.header(), graph.upper()?);
    let (m, code_dims, n_levels) = (header.max_connections as usize, header.layout().code_dims, header.n_levels());
    let mut score = |position: u32| {
        *n_distances += 1;
        query.score(&upper.codes[position as usize * code_dims..][..code_dims])
    };
    let mut best = if n_levels > 0 { (score(0), 0) } else { (f32::NEG_INFINITY, 0) };
    let mut end = upper.links.len();
    for &level_rows in header.level_rows[..n_levels].iter().rev() {
        let links = &upper.links[end - level_rows as usize * m..end];
        end -= links.len();
        loop {
            let from = best.1;
            // Padding is no row either.
            let linked = || links[from as usize * m..][..m].iter().copied().filter(|&to| to < level_rows);
            for to in linked() {
                kernels::prefetch(upper.codes.as_ptr().wrapping_add(to as usize * code_dims), code_dims);
            }
            for to in linked() {
                let score = score(to);
                // Strictly better, so that the descent ends whatever the links say.
                if score > best.0 {
                    best = (score, to);
                }
            }
            if best.1 == from {
                break;
            }
        }
    }
    match upper.rows.get(best.1 as usize) {
        Some(&row) if row < header.n_rows => Ok((best.0, row)),
        Some(row) => Err(graph.corrupt(format!("row {row} of its upper levels does not exist"))),
        None => Ok((query.score(graph.codes(header.entry)?), header.entry)),
    }
}

/// A set of rows, cleared in proportion to what was in it.
#[derive(Debug, Default)]
pub(super) struct VisitedSet {
    words: Vec<u64>,
    /// Words that are not zero.
    touched: Vec<u32>,
}

impl VisitedSet {
    /// Empties the set and makes room for rows below `n_rows`.
    pub fn clear(&mut self, n_rows: u32) {
        for at in self.touched.drain(..) {
            self.words[at as usize] = 0;
        }
        let n_words = n_rows.div_ceil(64) as usize;
        if self.words.len() < n_words {
            self.words.resize(n_words, 0);
        }
    }

    #[inline]
    pub fn contains(&self, row: u32) -> bool {
        self.words[row as usize / 64] >> (row % 64) & 1 == 1
    }

    /// Adds a row; false if it was there already.
    #[inline]
    pub fn insert(&mut self, row: u32) -> bool {
        let word = &mut self.words[row as usize / 64];
        if *word == 0 {
            self.touched.push(row / 64);
        }
        let bit = 1u64 << (row % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visited_rows_are_forgotten_between_searches() {
        let mut visited = VisitedSet::default();
        for n_rows in [100, 2, 1_000] {
            visited.clear(n_rows);
            for row in [0, n_rows - 1] {
                assert!(!visited.contains(row));
                assert!(visited.insert(row));
                assert!(visited.contains(row));
                assert!(!visited.insert(row));
            }
        }
    }
}
