//! What a search returns, and how it goes about it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::de::{Error, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A row that retrieval found. Larger scores are better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Position in its segment.
    pub row: u32,
    /// Full-precision dot product with the query, -1 to 1; or BM25, from 0.
    pub score: f32,
}

/// The order of candidates: best first, ties by row.
#[inline]
pub fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.row.cmp(&b.row))
}

/// How a caller wants a search to be carried out; the plan says what was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StrategyChoice {
    /// Whichever is likely to cost less.
    #[default]
    Auto,
    /// Walk the graph, whatever it costs.
    Graph,
    /// Compare every matching document.
    Exact,
}

/// Not derived: whatever stands there instead of a name, the error is to tell the names.
impl<'de> Deserialize<'de> for StrategyChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = StrategyChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\", \"graph\" or \"exact\"")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<StrategyChoice, E> {
                match name {
                    "auto" => Ok(StrategyChoice::Auto),
                    "graph" => Ok(StrategyChoice::Graph),
                    "exact" => Ok(StrategyChoice::Exact),
                    _ => Err(E::invalid_value(Unexpected::Str(name), &self)),
                }
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl FromStr for StrategyChoice {
    type Err = serde::de::value::Error;

    /// The same names, and the same sentence about any other, as in JSON.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::deserialize(name.into_deserializer())
    }
}

/// What candidates are found by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Retrieval {
    /// Meaning: the nearest embeddings.
    Dense,
    /// Words: BM25.
    Lexical,
    /// Both.
    #[default]
    Hybrid,
}

impl FromStr for Retrieval {
    type Err = serde::de::value::Error;

    /// The same names as in JSON.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::deserialize(name.into_deserializer())
    }
}

/// How a search was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Every allowed row was compared: the answer is exact.
    Exact,
    /// The graph was walked.
    Graph,
    /// The graph was walked over allowed rows only, stepping over others.
    FilteredGraph,
    /// The graph was walked, gave too few or took longer than a scan, and the allowed rows were then compared one by one: the answer is exact.
    GraphThenExact,
}

/// What a search did, for those who want to trust it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Plan {
    /// What candidates were found by.
    pub retrieval: Retrieval,
    /// Whether they were found with what the profile's adapter makes of the query's embedding.
    pub adapted: bool,
    /// How the nearest embeddings were found, if they were looked for.
    pub strategy: Strategy,
    /// Documents that the filter lets through, deletions taken off: counted, not estimated.
    pub n_matching: u64,
    /// Documents in the collection, deletions taken off.
    pub n_documents: u64,
    /// The share of the documents that the filter lets through, counted: `n_matching / n_documents`, 1 when there are none.
    pub selectivity: f64,
    /// The share that one would guess from the share of each condition, as if conditions had nothing to do with each other.
    /// Far from `selectivity`, the conditions are correlated: they select the same documents, or contradict each other.
    pub estimated_selectivity: f64,
    /// Width of the graph's beam; 0 where no graph was walked.
    pub ef_search: usize,
    /// Rows of the graph whose links were read.
    pub n_visited: u64,
    /// Rows compared with the query, by codes or by vectors; estimates beside the links of visited rows do not count.
    pub n_distances: u64,
    /// The share of the documents that match that had a chance to be found: below 1, the search's time was over before all were compared.
    pub coverage: f64,
}

impl Plan {
    /// The plan of an exact search that has not compared anything yet.
    pub fn new(n_matching: u64, n_documents: u64, estimated_selectivity: f64) -> Self {
        Self {
            retrieval: Retrieval::Dense,
            adapted: false,
            strategy: Strategy::Exact,
            n_matching,
            n_documents,
            selectivity: share(n_matching as f64, n_documents),
            estimated_selectivity,
            ef_search: 0,
            n_visited: 0,
            n_distances: 0,
            coverage: 1.0,
        }
    }

    /// Adds `n_more` documents that were looked at one by one, `n_more_matching` of which the filter let through: their
    /// share is known, so it enters the estimate as it is.
    pub fn add_compared(&mut self, n_more_matching: u64, n_more: u64) {
        let guessed = self.estimated_selectivity * self.n_documents as f64 + n_more_matching as f64;
        let covered = self.coverage * self.n_matching as f64 + n_more_matching as f64;
        self.n_matching += n_more_matching;
        self.coverage = share(covered, self.n_matching);
        self.n_documents += n_more;
        self.n_distances += n_more_matching;
        self.selectivity = share(self.n_matching as f64, self.n_documents);
        self.estimated_selectivity = share(guessed, self.n_documents);
    }
}

/// A part of a whole; everything, when the whole is nothing.
fn share(part: f64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_have_the_same_names_everywhere() {
        for (name, choice) in [("auto", StrategyChoice::Auto), ("graph", StrategyChoice::Graph), ("exact", StrategyChoice::Exact)] {
            assert_eq!(name.parse::<StrategyChoice>().unwrap(), choice);
            assert_eq!(serde_json::to_value(choice).unwrap(), name);
            assert_eq!(serde_json::from_value::<StrategyChoice>(name.into()).unwrap(), choice);
        }
        let error = "fast".parse::<StrategyChoice>().unwrap_err().to_string();
        assert!(["fast", "auto", "graph", "exact"].iter().all(|word| error.contains(word)), "{error}");
    }

    #[test]
    fn documents_that_were_compared_count_as_they_are() {
        let mut plan = Plan::new(10, 100, 0.2);
        assert_eq!((plan.selectivity, plan.estimated_selectivity), (0.1, 0.2));
        plan.add_compared(40, 100);
        assert_eq!((plan.n_matching, plan.n_documents, plan.n_distances), (50, 200, 40));
        assert_eq!((plan.selectivity, plan.estimated_selectivity), (0.25, 0.3));
        let mut empty = Plan::new(0, 0, 1.0);
        empty.add_compared(0, 0);
        assert_eq!((empty.selectivity, empty.estimated_selectivity, empty.coverage), (1.0, 1.0, 1.0));
        let mut partial = Plan { coverage: 0.5, ..Plan::new(40, 100, 0.4) };
        partial.add_compared(40, 50);
        assert_eq!(partial.coverage, 0.75);
    }
}
