//! A search as it is asked, and as it is answered.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::diverse::GroupBy;
use super::facets::FacetCount;
use super::phrases::Phrase;
use super::rerank::CrossEncode;
use crate::rescore::Explained;
use crate::telemetry::metrics;
use kindred_core::domain::{CollectionName, DocumentId, Plan, Retrieval, SeqNo, StrategyChoice};
use kindred_encoder::QueryOptions;

/// What is looked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    Text(String),
    Vector(Vec<f32>),
    /// Like this document, which may be of another collection.
    Document {
        collection: CollectionName,
        id: DocumentId,
    },
}

/// What gives the candidates their scores.
#[derive(Debug, Clone, PartialEq)]
pub enum ProfileChoice {
    /// A profile of the collection.
    Named(String),
    /// What the request brings itself: weights, or a formula.
    Inline(Json),
}

/// A search, as parsed at the edge. `None` stands for the configured default.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRequest {
    pub collection: CollectionName,
    pub query: Query,
    /// Read against the collection's schema here.
    pub filter: Option<Json>,
    pub limit: usize,
    pub retrieval: Option<Retrieval>,
    pub candidates: Option<usize>,
    pub ef_search: Option<usize>,
    pub strategy: StrategyChoice,
    pub profile: Option<ProfileChoice>,
    /// Names of the fields to return; all without it.
    pub fields: Option<Vec<String>>,
    pub explain: bool,
    /// Names of the fields whose values are counted among all that match.
    pub facets: Vec<String>,
    /// Hand out the hits' embeddings.
    pub vectors: bool,
    /// Hits of which some are alike by a field's value are left out.
    pub group_by: Option<GroupBy>,
    /// How much hits should differ from each other, 0 to 1; 0 leaves them in the order of their scores.
    pub diversity: f64,
    /// Whether, and how, the best hits are ordered by the cross-encoder.
    pub cross_encode: Option<CrossEncode>,
    /// Of each hit, so many phrases of its text that are nearest to the query.
    pub phrases: usize,
    /// How the query's text is encoded.
    pub encoding: QueryOptions,
}

impl QueryRequest {
    /// Whether the time is over after which the answer is of no use.
    pub fn is_over(&self) -> bool {
        self.encoding.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// A search for ten hits, everything else by default.
    pub fn new(collection: CollectionName, query: Query) -> Self {
        Self {
            collection,
            query,
            filter: None,
            limit: 10,
            retrieval: None,
            candidates: None,
            ef_search: None,
            strategy: StrategyChoice::Auto,
            profile: None,
            fields: None,
            explain: false,
            facets: Vec::new(),
            vectors: false,
            group_by: None,
            diversity: 0.0,
            cross_encode: None,
            phrases: 0,
            encoding: QueryOptions::default(),
        }
    }
}

/// The answer to a search.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct QueryResponse {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Of each field that was asked for, its ten most frequent values among all documents that match, with their number.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facets: BTreeMap<String, Vec<FacetCount>>,
    pub timings: Timings,
    pub plan: Plan,
    /// The build that answered; changes newer than it are searched too.
    pub generation: String,
    pub model: String,
    /// What was asked for and could not be done, or not in time, with the reason; the rest of the answer stands without it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

impl QueryResponse {
    /// Says which stage was left out or done by half, and why; also in the metrics.
    pub(super) fn degrade(&mut self, stage: &'static str, why: impl std::fmt::Display) {
        metrics::search_degraded(stage);
        self.degraded.push(format!("{stage}: {why}"));
    }
}

/// A document that was found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Hit {
    #[schema(value_type = String)]
    pub id: DocumentId,
    /// After re-scoring; larger is better.
    pub score: f64,
    /// Full-precision dot product with the query, where it was asked by meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval_score: Option<f32>,
    /// BM25, where it was asked by words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexical_score: Option<f32>,
    /// The cross-encoder's logit for query and document: hits that have one are ordered by it, before all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_encoder_score: Option<f32>,
    #[schema(value_type = Object)]
    pub fields: Box<RawValue>,
    /// The document's last change; for those who ask for documents as other servers have them.
    #[serde(skip)]
    pub seqno: SeqNo,
    /// Its embedding, unit length, where that was asked for; of several, their mean. For the same.
    #[serde(skip)]
    pub vector: Option<Vec<f32>>,
    /// What its text has that is nearest to the query, best first, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phrases: Vec<Phrase>,
    /// What the score is made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explained>,
    /// Where it stood at each stage, with the explanation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks: Option<Ranks>,
}

/// Where a document stood at each stage, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Ranks {
    /// By meaning; not there if it was not among those found so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense: Option<u32>,
    /// By words, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexical: Option<u32>,
    /// Among all candidates, before re-scoring.
    pub retrieval: u32,
    /// After it.
    pub rescore: u32,
}

/// Where the time went, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Timings {
    pub tokenize_us: u64,
    /// Waiting for an encoder thread and for a search thread.
    pub queue_us: u64,
    pub encode_us: u64,
    pub retrieve_us: u64,
    pub rescore_us: u64,
    /// Ordering by the cross-encoder, waiting for it included.
    pub cross_encode_us: u64,
    pub total_us: u64,
}

impl Timings {
    pub(super) fn record(&self) {
        let stages = [
            ("tokenize", self.tokenize_us),
            ("queue", self.queue_us),
            ("encode", self.encode_us),
            ("retrieve", self.retrieve_us),
            ("rescore", self.rescore_us),
            ("total", self.total_us),
        ];
        // Of searches that have the stage only.
        let last = (self.cross_encode_us > 0).then_some(("cross_encode", self.cross_encode_us));
        stages.into_iter().chain(last).for_each(|(stage, micros)| metrics::search_stage(stage, micros));
    }
}
