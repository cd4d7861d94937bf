//! Search through the graph: a greedy descent to a local minimum on the upper levels, then a beam on level 0.
//!
//! Rows that may not be returned (filtered out, deleted) are walked through all the same, since the way to others leads over
//! them; only the beam of results leaves them out, so it fills up with allowed rows.
//!
//! *Source*: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
//! World graphs", algorithms 2 and 5.

use std::cell::RefCell;
use std::collections::BinaryHeap;

use super::distance::{dot, prefetch};
use super::filter::Allowed;
use super::flat::{Ranked, best_first};
use super::graph_file::Graph;
use crate::domain::Candidate;

/// What a walk may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Width of the beam: results that are kept while walking.
    pub ef: usize,
    /// Distances after which the walk is given up.
    pub max_distances: u64,
}

/// What a walk found.
#[derive(Debug)]
pub(super) struct Walk {
    /// Allowed rows, best first, at most `ef`.
    pub candidates: Vec<Candidate>,
    /// Rows whose links were read.
    pub n_visited: u64,
    pub n_distances: u64,
    /// Whether it ended before `max_distances` were spent.
    pub is_complete: bool,
}

/// Walks the graph towards the query. `vectors` is `[rows × dims]`, the query `[dims]`.
pub(super) fn search(graph: &Graph<'_>, vectors: &[f32], query: &[f32], allowed: &Allowed<'_>, limits: Limits) -> Walk {
    thread_local! {
        // Taken out while in use, so that a search within a search would merely allocate its own.
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    let scratch = SCRATCH.with(RefCell::take);
    let mut walker = Walker { graph, vectors, query, n_visited: 0, n_distances: 0, scratch };
    let walk = walker.walk(allowed, limits);
    SCRATCH.with(|cell| cell.replace(walker.scratch));
    walk
}

/// Memory that one search leaves to the next on the same thread.
#[derive(Debug, Default)]
struct Scratch {
    visited: VisitedSet,
    /// Rows to walk on from, best on top.
    frontier: BinaryHeap<std::cmp::Reverse<Ranked>>,
    /// Allowed rows, worst on top.
    results: BinaryHeap<Ranked>,
    /// Links of the row at hand that were not visited before.
    fresh: Vec<u32>,
}

struct Walker<'a> {
    graph: &'a Graph<'a>,
    vectors: &'a [f32],
    query: &'a [f32],
    n_visited: u64,
    n_distances: u64,
    scratch: Scratch,
}

impl Walker<'_> {
    fn walk(&mut self, allowed: &Allowed<'_>, limits: Limits) -> Walk {
        if self.graph.header.n_rows == 0 || limits.ef == 0 {
            return Walk { candidates: Vec::new(), n_visited: 0, n_distances: 0, is_complete: true };
        }
        let nearest = self.descend();
        let is_complete = self.beam(nearest, allowed, limits);
        let mut candidates: Vec<Candidate> = self.scratch.results.drain().map(|Ranked(candidate)| candidate).collect();
        candidates.sort_unstable_by(best_first);
        Walk { candidates, n_visited: self.n_visited, n_distances: self.n_distances, is_complete }
    }

    /// On each upper level, from the top, moves to a better neighbour until there is none.
    fn descend(&mut self) -> Candidate {
        let mut nearest = self.score(self.graph.header.entry);
        for level in (1..=self.graph.header.max_level).rev() {
            loop {
                let from = nearest;
                self.n_visited += 1;
                for row in self.graph.links(level, from.row) {
                    let candidate = self.score(row);
                    // Strictly better, so that the descent ends whatever the links say.
                    if candidate.score > nearest.score {
                        nearest = candidate;
                    }
                }
                if nearest.row == from.row {
                    break;
                }
            }
        }
        nearest
    }

    /// Leaves the best allowed rows that it meets in `results`. Returns whether it came to its end within the limits.
    fn beam(&mut self, start: Candidate, allowed: &Allowed<'_>, limits: Limits) -> bool {
        self.scratch.visited.clear(self.graph.header.n_rows);
        self.scratch.frontier.clear();
        self.scratch.results.clear();
        self.scratch.visited.insert(start.row);
        self.reach(start, allowed, limits.ef);
        while let Some(std::cmp::Reverse(Ranked(from))) = self.scratch.frontier.pop() {
            if !self.is_promising(from, limits.ef) {
                return true;
            }
            if self.n_distances > limits.max_distances {
                return false;
            }
            self.n_visited += 1;
            self.gather_fresh(from.row);
            for i in 0..self.scratch.fresh.len() {
                let candidate = self.score(self.scratch.fresh[i]);
                if self.is_promising(candidate, limits.ef) {
                    self.reach(candidate, allowed, limits.ef);
                }
            }
        }
        true
    }

    /// Whether a row could still lead to a better result than the worst of a full beam.
    fn is_promising(&self, candidate: Candidate, ef: usize) -> bool {
        let results = &self.scratch.results;
        results.len() < ef || results.peek().is_none_or(|worst| best_first(&candidate, &worst.0).is_lt())
    }

    fn reach(&mut self, candidate: Candidate, allowed: &Allowed<'_>, ef: usize) {
        self.scratch.frontier.push(std::cmp::Reverse(Ranked(candidate)));
        if allowed.contains(candidate.row) {
            self.scratch.results.push(Ranked(candidate));
            if self.scratch.results.len() > ef {
                self.scratch.results.pop();
            }
        }
    }

    /// Collects the unvisited links of a row and asks for their vectors, so that they arrive while the first are compared.
    fn gather_fresh(&mut self, row: u32) {
        let Scratch { visited, fresh, .. } = &mut self.scratch;
        fresh.clear();
        fresh.extend(self.graph.links(0, row).filter(|&to| visited.insert(to)));
        for &to in fresh.iter() {
            prefetch(vector(self.vectors, self.query.len(), to));
        }
    }

    fn score(&mut self, row: u32) -> Candidate {
        self.n_distances += 1;
        Candidate { row, score: dot(self.query, vector(self.vectors, self.query.len(), row)) }
    }
}

/// Links were checked to lead to existing rows, and the file to have a vector for each.
fn vector(vectors: &[f32], dims: usize, row: u32) -> &[f32] {
    &vectors[row as usize * dims..][..dims]
}

/// A set of rows, cleared in proportion to what was in it.
#[derive(Debug, Default)]
struct VisitedSet {
    words: Vec<u64>,
    /// Words that are not zero.
    touched: Vec<u32>,
}

impl VisitedSet {
    /// Empties the set and makes room for rows below `n_rows`.
    fn clear(&mut self, n_rows: u32) {
        for at in self.touched.drain(..) {
            self.words[at as usize] = 0;
        }
        let n_words = n_rows.div_ceil(64) as usize;
        if self.words.len() < n_words {
            self.words.resize(n_words, 0);
        }
    }

    /// Adds a row; false if it was there already.
    #[inline]
    fn insert(&mut self, row: u32) -> bool {
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
                assert!(visited.insert(row));
                assert!(!visited.insert(row));
            }
        }
    }
}
