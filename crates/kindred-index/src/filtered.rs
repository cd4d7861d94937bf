//! Walks the graph over allowed rows only, for filters that let few rows through.
//!
//! A walk over all rows meets too many that may not be returned, and never gets to allowed rows that lie far from the query. So
//! here only allowed rows are walked to; where a row's links lead to too few of them, the links of those links are looked at too:
//! allowed rows are nearly always two steps apart. Allowed rows from all over the collection are where it begins, besides the one
//! that the descent leads to: those that match a filter may be in another region than the query.
//!
//! Linked rows two steps away have no estimates beside the links that lead there, so rows are compared by their int8 codes.
//!
//! *Source*: Patel et al., "ACORN: Performant and Predicate-Agnostic Search Over Vector Embeddings and Structured Data", 2024.

use std::cell::RefCell;

use super::beam::{VisitedSet, Walk, descend};
use super::codes::QueryCodes;
use super::filter::Allowed;
use super::graph_file::GraphFile;
use super::pool::Pool;
use super::row_set::RowSet;
use kindred_core::storage::StorageError;

/// Allowed rows, evenly spread over all of them, where a walk begins.
const N_SEEDS: u64 = 64;
/// Allowed rows that a step looks for.
const WANTED: usize = 24;
/// Lists that are asked for ahead of the one that is read.
const AHEAD: usize = 4;

/// Walks the graph towards the query over allowed rows. It ends after as many steps as its pool has rows.
///
/// # Errors
/// [`StorageError::Corrupt`] when a part of the file that it meets is damaged.
pub(super) fn search(graph: &GraphFile, query: &QueryCodes, allowed: &Allowed<'_>, ef: usize) -> Result<Walk, StorageError> {
    thread_local! {
        // Taken out while in use, so that a search within a search would merely allocate its own.
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    if graph.header().n_rows == 0 || ef == 0 {
        return Ok(Walk::default());
    }
    let scratch = SCRATCH.with(RefCell::take);
    let mut walker = Walker { graph, query, allowed, scratch, walk: Walk::default() };
    let result = walker.run(ef);
    let Walker { scratch, mut walk, .. } = walker;
    walk.found.extend(scratch.pool.rows());
    SCRATCH.with(|cell| cell.replace(scratch));
    result.map(|()| walk)
}

/// Memory that one search leaves to the next on the same thread.
#[derive(Debug, Default)]
struct Scratch {
    /// Allowed rows that were compared, others whose links were read.
    seen: VisitedSet,
    pool: Pool,
    /// Allowed rows to compare.
    fresh: Vec<u32>,
    /// Rows that are not allowed, to step over.
    steps: Vec<u32>,
    allowed: RowSet,
}

struct Walker<'a> {
    graph: &'a GraphFile,
    query: &'a QueryCodes,
    allowed: &'a Allowed<'a>,
    scratch: Scratch,
    walk: Walk,
}

impl Walker<'_> {
    fn run(&mut self, ef: usize) -> Result<(), StorageError> {
        let n_rows = self.graph.header().n_rows;
        match self.allowed {
            Allowed::Except(deleted, n_rows) => self.scratch.allowed.copy_all_but(deleted, *n_rows),
            Allowed::Only(passing) => self.scratch.allowed.copy_from(&passing.rows),
        }
        self.scratch.seen.clear(n_rows);
        self.scratch.pool.clear(ef.min(n_rows as usize));
        self.begin()?;
        while let Some(row) = self.scratch.pool.take() {
            self.gather(row)?;
            self.compare_fresh()?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), StorageError> {
        let (_, entry) = descend(self.graph, self.query, &mut self.walk.n_distances)?;
        let Scratch { seen, fresh, allowed, .. } = &mut self.scratch;
        fresh.clear();
        let n_allowed = self.allowed.len();
        let ranks = (0..N_SEEDS.min(n_allowed)).map(|i| i * n_allowed / N_SEEDS.min(n_allowed));
        let seeds = ranks.filter_map(|rank| self.allowed.select(rank));
        fresh.extend(seeds.chain(Some(entry).filter(|&row| allowed.contains(row))).filter(|&row| seen.insert(row)));
        self.compare_fresh()?;
        self.gather(entry)?;
        self.compare_fresh()
    }

    /// Collects allowed rows that are linked to a row, or to rows linked to it that are not allowed.
    fn gather(&mut self, row: u32) -> Result<(), StorageError> {
        let Scratch { seen, fresh, steps, allowed, .. } = &mut self.scratch;
        let n_rows = self.graph.header().n_rows;
        fresh.clear();
        steps.clear();
        self.walk.n_visited += 1;
        // Padding is no row.
        for &link in self.graph.links(row)?.iter().filter(|&&link| link < n_rows) {
            if allowed.contains(link) {
                if seen.insert(link) {
                    fresh.push(link);
                }
            } else if !seen.contains(link) {
                steps.push(link);
            }
        }
        steps.iter().take(AHEAD).for_each(|&step| self.graph.prefetch_links(step));
        for (i, &step) in steps.iter().enumerate() {
            if fresh.len() >= WANTED {
                break;
            }
            if let Some(&ahead) = steps.get(i + AHEAD) {
                self.graph.prefetch_links(ahead);
            }
            seen.insert(step);
            self.walk.n_visited += 1;
            for &link in self.graph.links(step)?.iter().filter(|&&link| link < n_rows) {
                if allowed.contains(link) && seen.insert(link) {
                    fresh.push(link);
                }
            }
        }
        Ok(())
    }

    fn compare_fresh(&mut self) -> Result<(), StorageError> {
        let Scratch { pool, fresh, .. } = &mut self.scratch;
        for &row in fresh.iter() {
            self.graph.prefetch_codes(row);
            self.graph.prefetch_links(row);
        }
        for &row in fresh.iter() {
            let score = self.query.score(self.graph.codes(row)?);
            if score > pool.worst() {
                pool.offer(score, row);
            }
        }
        self.walk.n_distances += fresh.len() as u64;
        Ok(())
    }
}
