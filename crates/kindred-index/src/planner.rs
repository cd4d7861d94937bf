//! Chooses between the graph and a scan, and makes sure that as many rows come back as there are.

use std::time::Instant;

use super::beam::{self, Limits, Walk};
use super::chunks::Chunks;
use super::filter::Allowed;
use super::filtered;
use super::flat::Compared;
use kindred_core::domain::{Candidate, Plan, Strategy, StrategyChoice, best_first};
use kindred_core::storage::StorageError;

/// Allowed rows up to which a scan always is the better choice.
const SMALL: f64 = 2_000.0;
/// How many scanned rows cost as much as one row visited by a walk over all rows. What counts is memory: a node has 34 lines of
/// the cache at 384 dimensions, a row's codes have 6.
const VISIT_COST: f64 = 20.0;
/// How many scanned rows cost as much as one step of a walk over allowed rows only, which compares some thirty rows and reads
/// as many lists of links.
const STEP_COST: f64 = 60.0;
/// Share of rows that are allowed from which on a wider beam finds what is missing sooner than another way: some rows may be deleted.
const MOSTLY: f64 = 0.9;
/// How much wider a beam becomes that has found too few.
const MIN_WIDENING: f64 = 1.5;
const MAX_WIDENING: f64 = 4.0;

/// A search with everything resolved.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub rows: Compared<'a>,
    pub allowed: &'a Allowed<'a>,
    pub k: usize,
    /// At least `k`.
    pub ef: usize,
    /// When rows are not to be compared one by one any longer.
    pub until: Option<Instant>,
}

/// A way to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Scan,
    Walk,
    WalkAllowed,
}

impl Search<'_> {
    /// Finds `min(k, allowed rows)` candidates, best first, and tells how: the strategy, the beam, the distances.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when a part of the files that it meets is damaged.
    pub fn run(&self, choice: StrategyChoice, n_documents: u64) -> Result<(Vec<Candidate>, Plan), StorageError> {
        let n_matching = self.allowed.len();
        let mut plan = Plan::new(n_matching, n_documents, self.allowed.estimated_selectivity());
        let n_wanted = usize::try_from(n_matching).map_or(self.k, |n| n.min(self.k));
        if n_wanted == 0 {
            return Ok((Vec::new(), plan));
        }
        // What is walked over is vectors: where rows have several, there are more of them to visit.
        let chunks = self.rows.chunks;
        let (n_vectors, per_row) = (u64::from(chunks.n_vectors()), chunks.per_row());
        let n_allowed = chunks.expected_vectors(n_matching);
        let costs = Costs::new(n_vectors, n_allowed, (self.ef as f64 * per_row) as u64);
        let mut way = costs.choose(choice);
        let of_vectors = match chunks {
            Chunks::Several(file) if way != Way::Scan => Some(self.allowed.vectors(file)?),
            Chunks::Several(_) | Chunks::One(_) => None,
        };
        let allowed = of_vectors.as_ref().unwrap_or(self.allowed);
        let mut met = Vec::new();
        if way == Way::Walk {
            let walk = self.walk(allowed, choice, &costs, n_wanted, &mut plan)?;
            if walk.found.len() >= n_wanted {
                plan.strategy = Strategy::Graph;
                return Ok((self.rescore(walk, n_wanted, &mut plan)?, plan));
            }
            met = walk.found;
            // Filters that contradict the query lead here: all allowed rows are far away.
            way = costs.choose_after_walk(choice);
        }
        if way == Way::WalkAllowed {
            let ef = (self.ef as f64 * per_row) as usize;
            let mut walk = filtered::search(self.rows.graph, &self.rows.codes, allowed, ef)?;
            note(&mut plan, ef, &walk);
            walk.found = chunks.best_of_rows(walk.found)?;
            if walk.found.len() >= n_wanted {
                plan.strategy = Strategy::FilteredGraph;
                return Ok((self.rescore(walk, n_wanted, &mut plan)?, plan));
            }
            met.extend(walk.found);
        }
        if plan.n_visited > 0 {
            plan.strategy = Strategy::GraphThenExact;
        }
        let mut scanned = self.rows.scan(self.allowed.iter(), n_wanted, self.until)?;
        if scanned.n_left > 0 {
            // Few as they are, what a walk met is nearer than the first rows there are.
            scanned.best.extend(self.rows.rescore(&met, met.len())?);
            scanned.best.sort_unstable_by(best_first);
            scanned.best.dedup_by_key(|candidate| candidate.row);
            scanned.best.truncate(n_wanted);
        }
        plan.n_distances += scanned.n_distances;
        plan.coverage = (n_matching - scanned.n_left as u64) as f64 / n_matching as f64;
        Ok((scanned.best, plan))
    }

    /// Walks over all rows with a beam that is wide enough: should it find too few, it is widened, unless a walk over allowed rows
    /// only will find them sooner.
    fn walk(
        &self,
        allowed: &Allowed<'_>,
        choice: StrategyChoice,
        costs: &Costs,
        n_wanted: usize,
        plan: &mut Plan,
    ) -> Result<Walk, StorageError> {
        let Compared { graph, chunks, codes, .. } = &self.rows;
        let n_vectors = chunks.n_vectors() as usize;
        // Some rows of the pool are the same, so it does not always visit `ef` of them: with a fifth to spare, every third search of 200
        // candidates had to walk again, with half of them every tenth.
        let spare = n_wanted / 2;
        let ef = self.ef.max(n_wanted + spare);
        // Where rows have several vectors, those of one row tend to be near each other: as many rows should be met as if each had one.
        let n_enough = if chunks.per_row() > 1.0 { n_wanted.max(ef.min(self.allowed.len() as usize) / 5 * 4) } else { n_wanted };
        let mut limits = Limits { ef: (ef as f64 * (1.0 + chunks.per_row()) / 2.0) as usize, selectivity: costs.selectivity };
        loop {
            let mut walk = beam::search(graph, codes, allowed, limits)?;
            note(plan, limits.ef, &walk);
            walk.found = chunks.best_of_rows(walk.found)?;
            let is_final = walk.found.len() >= n_enough || limits.ef >= n_vectors || costs.selectivity < MOSTLY;
            // Whoever asks for the graph gets it.
            if is_final || choice == StrategyChoice::Auto && VISIT_COST * plan.n_visited as f64 > costs.scan {
                return Ok(walk);
            }
            let missing = n_enough as f64 / walk.found.len().max(1) as f64;
            limits.ef = (limits.ef as f64 * (1.2 * missing).clamp(MIN_WIDENING, MAX_WIDENING)) as usize;
        }
    }

    /// Scores by their vectors those rows that may well be among the best.
    fn rescore(&self, mut walk: Walk, n_wanted: usize, plan: &mut Plan) -> Result<Vec<Candidate>, StorageError> {
        if !self.rows.is_cut {
            let (_, worst, _) = walk.found.select_nth_unstable_by(n_wanted - 1, |a, b| b.0.total_cmp(&a.0));
            let least = worst.0 - self.rows.codes.likely_error;
            walk.found.retain(|&(score, _)| score >= least);
        }
        plan.n_distances += walk.found.len() as u64;
        self.rows.rescore(&walk.found, n_wanted)
    }
}

/// Adds what a walk did.
fn note(plan: &mut Plan, ef: usize, walk: &Walk) {
    plan.ef_search = ef;
    plan.n_visited += walk.n_visited;
    plan.n_distances += walk.n_distances;
}

/// What each way is expected to cost, in scanned rows.
#[derive(Debug, Clone, Copy)]
struct Costs {
    selectivity: f64,
    scan: f64,
    walk: f64,
    walk_allowed: f64,
}

impl Costs {
    fn new(n_rows: u64, n_allowed: u64, ef: u64) -> Self {
        let (n_rows, n_allowed, ef) = (n_rows as f64, n_allowed as f64, ef as f64);
        let selectivity = n_allowed / n_rows.max(1.0);
        // A walk over all rows meets those that are not allowed as well, so it takes longer the fewer are.
        let walk = VISIT_COST * ef / selectivity.max(f64::MIN_POSITIVE);
        // Without a filter it would do the same, without the estimates beside the links.
        let walk_allowed = if n_allowed < n_rows { STEP_COST * ef } else { f64::INFINITY };
        Self { selectivity, scan: n_allowed, walk, walk_allowed }
    }

    fn choose(&self, choice: StrategyChoice) -> Way {
        let cheaper = if self.walk <= self.walk_allowed { Way::Walk } else { Way::WalkAllowed };
        match choice {
            StrategyChoice::Exact => Way::Scan,
            StrategyChoice::Graph => cheaper,
            StrategyChoice::Auto if self.scan <= SMALL || self.scan <= self.walk.min(self.walk_allowed) => Way::Scan,
            StrategyChoice::Auto => cheaper,
        }
    }

    /// Once a walk over all rows has found too few.
    fn choose_after_walk(&self, choice: StrategyChoice) -> Way {
        let is_worth_it = self.walk_allowed < self.scan || choice == StrategyChoice::Graph;
        if is_worth_it && self.walk_allowed.is_finite() { Way::WalkAllowed } else { Way::Scan }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_allowed_rows_are_scanned_and_many_walked_to() {
        for (n_rows, n_allowed, ef, way) in [
            (0, 0, 64, Way::Scan),
            (2_000, 2_000, 64, Way::Scan),
            (4_000, 4_000, 64, Way::Walk),
            (3_000, 3_000, 1_000, Way::Scan),
            (5_000, 5_000, 200, Way::Walk),
            (13_434, 13_434, 200, Way::Walk),
            (110_000, 110_000, 64, Way::Walk),
            (110_000, 55_000, 200, Way::Walk),
            (110_000, 22_000, 200, Way::WalkAllowed),
            (110_000, 11_000, 200, Way::Scan),
            (110_000, 4_400, 200, Way::Scan),
            (110_000, 1_100, 64, Way::Scan),
            (1_000_000, 500_000, 200, Way::Walk),
            (1_000_000, 100_000, 200, Way::WalkAllowed),
            (1_000_000, 40_000, 200, Way::WalkAllowed),
            (1_000_000, 20_000, 200, Way::WalkAllowed),
            (1_000_000, 10_000, 200, Way::Scan),
            (u64::MAX, u64::MAX, u64::MAX, Way::Scan),
        ] {
            let costs = Costs::new(n_rows, n_allowed, ef);
            assert_eq!(costs.choose(StrategyChoice::Auto), way, "{n_allowed} of {n_rows} at ef {ef}: {costs:?}");
            assert_eq!(costs.choose(StrategyChoice::Exact), Way::Scan);
            assert_ne!(costs.choose(StrategyChoice::Graph), Way::Scan);
        }
    }
}
