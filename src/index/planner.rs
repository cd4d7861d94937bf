//! Chooses between the graph and a scan, and makes sure that as many rows come back as there are.

use super::beam::{self, Limits};
use super::filter::Allowed;
use super::flat;
use super::graph_file::Graph;
use crate::domain::{Candidate, Plan, Strategy, StrategyChoice};

/// Allowed rows up to which a scan always is the better choice.
const SMALL: u128 = 2_000;
/// Distances that the graph computes per row of its beam, measured at 110,000 rows of 384 dimensions.
const DISTANCES_PER_EF: u128 = 18;
/// How many scanned rows cost as much as one distance in the graph, which waits for memory and keeps a beam in order. Measured as
/// 3 to 5 (30 ns against 90 to 145 ns); the lower end, since many scans at once are bound by memory.
const GRAPH_DISTANCE_COST: u128 = 3;

/// A search with everything resolved.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub graph: Graph<'a>,
    /// `[rows × dims]`.
    pub vectors: &'a [f32],
    /// `[dims]`.
    pub query: &'a [f32],
    pub allowed: Allowed<'a>,
    pub k: usize,
    /// At least `k`.
    pub ef: usize,
}

impl Search<'_> {
    /// Finds `min(k, allowed rows)` candidates, best first, and tells how: the strategy, the beam, the distances.
    pub fn run(&self, choice: StrategyChoice, n_documents: u64) -> (Vec<Candidate>, Plan) {
        let n_matching = self.allowed.len();
        let mut plan = Plan::new(n_matching, n_documents, self.allowed.estimated_selectivity());
        let n_wanted = usize::try_from(n_matching).map_or(self.k, |n| n.min(self.k));
        if n_wanted == 0 {
            return (Vec::new(), plan);
        }
        if self.walks_graph(choice, n_matching) {
            // Whoever asks for the graph gets it. Otherwise, a walk longer than the scan it was to save is no use: filters
            // that contradict the query lead there, since all allowed rows are far away.
            let max_distances = if choice == StrategyChoice::Graph { u64::MAX } else { n_matching };
            let walk = beam::search(&self.graph, self.vectors, self.query, &self.allowed, Limits { ef: self.ef, max_distances });
            plan.ef_search = self.ef;
            plan.n_visited = walk.n_visited;
            plan.n_distances = walk.n_distances;
            if walk.is_complete && walk.candidates.len() >= n_wanted {
                plan.strategy = Strategy::Graph;
                let mut candidates = walk.candidates;
                candidates.truncate(n_wanted);
                return (candidates, plan);
            }
            plan.strategy = Strategy::GraphThenExact;
        }
        let (candidates, n_distances) = flat::scan(self.query, self.vectors, self.allowed.iter(), n_wanted);
        plan.n_distances += n_distances;
        (candidates, plan)
    }

    fn walks_graph(&self, choice: StrategyChoice, n_allowed: u64) -> bool {
        match choice {
            StrategyChoice::Graph => true,
            StrategyChoice::Exact => false,
            StrategyChoice::Auto => graph_is_cheaper(u64::from(self.graph.header.n_rows), n_allowed, self.ef as u64),
        }
    }
}

/// Compares the expected costs. The graph walks through rows that are not allowed as well, so it takes longer the fewer are.
fn graph_is_cheaper(n_rows: u64, n_allowed: u64, ef: u64) -> bool {
    let per_row = u128::from(n_rows).saturating_mul(u128::from(ef));
    let n_allowed = u128::from(n_allowed);
    n_allowed > SMALL && n_allowed.saturating_mul(n_allowed) > per_row.saturating_mul(DISTANCES_PER_EF * GRAPH_DISTANCE_COST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_allowed_rows_are_scanned_and_many_walked_to() {
        for (n_rows, n_allowed, ef, is_graph) in [
            (0, 0, 64, false),
            (2_000, 2_000, 64, false),
            (4_000, 4_000, 64, true),
            (3_000, 3_000, 1_000, false),
            (13_434, 13_434, 200, true),
            (110_000, 110_000, 64, true),
            (110_000, 55_000, 200, true),
            (110_000, 11_000, 200, false),
            (110_000, 1_100, 64, false),
            (10_000_000, 1_000_000, 200, true),
            (10_000_000, 100_000, 200, false),
            (u64::MAX, u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(graph_is_cheaper(n_rows, n_allowed, ef), is_graph, "{n_allowed} of {n_rows} at ef {ef}");
        }
    }
}
