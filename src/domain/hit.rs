//! What a search returns.

use serde::{Deserialize, Serialize};

/// A row that retrieval found. Larger scores are better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Position in its segment.
    pub row: u32,
    /// Full-precision dot product with the query, -1 to 1.
    pub score: f32,
}

/// How a search was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Every allowed row was compared: the answer is exact.
    Exact,
    /// The graph was walked.
    Graph,
    /// The graph was walked, gave too few or took longer than a scan, and the allowed rows were then compared one by one: the answer is exact.
    GraphThenExact,
}

/// What a search did, for those who want to trust it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Plan {
    pub strategy: Strategy,
    /// Documents that the filter lets through, deletions taken off: counted, not estimated.
    pub n_matching: u64,
    /// Documents in the collection, deletions taken off.
    pub n_documents: u64,
    /// Width of the graph's beam; 0 where no graph was walked.
    pub ef_search: usize,
    /// Distances computed.
    pub n_distances: u64,
}
