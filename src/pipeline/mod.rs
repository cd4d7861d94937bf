//! The three ways through Kindred, each to be read top to bottom in one file.
//!
//! | file | way |
//! |---|---|
//! | `query.rs` | text, vector or document in, hits out |
//! | `write.rs` | documents in, durable and searchable |
//! | `rebuild.rs` | a new generation, while the old one serves |
//! | `embed.rs` | texts or token ids in, embeddings out |
//! | `rerank.rs` | a query and texts in, their order by the cross-encoder out; the last stage of a search |
//! | `snapshots.rs` | collections, kept elsewhere |
//! | `checked.rs` | the items of a write, held against what is there |
//! | `tasks.rs` | long work in the background |
//! | `expire.rs` | deletes documents whose time is over |
//! | `encoders.rs` | the models in use |
//! | `recall.rs` | how much of the exact answer searches find |
//! | `evaluate/` | how well judged queries are answered |
//! | `monitor.rs` | the same of live searches, all the time |
//! | `probes.rs` | the queries that this is measured with |
//! | `recent.rs` | the last searches, some of those queries |
//! | `listing.rs` | stored documents without a query: by id, in pages, counted |
//! | `index_field.rs` | a field becomes filterable |
//! | `catalog.rs` | what there is: collections, documents, the model |
//! | `request.rs`, `prepared.rs` | a search as it is asked and answered; one that is ready to be carried out |
//! | `explain.rs` | why a document is where it is in the answer to a search, or is not in it |
//! | `facets.rs` | how many of all that match have each value of a field |
//! | `fate.rs` | the same in a sentence |
//! | `fit.rs` | a member and a posting in, the posting's requirements out |
//! | `phrases.rs` | what in a document's text answers a query |
//! | `load.rs` | how many searches are under way, and how deep the next one looks |
//! | `pool.rs` | the bounded threads that search |
//! | `blocking.rs` | shares of the threads for work that waits for the disk |
//!
//! Only this layer joins encoder, adapters, collections and re-scoring.

mod blocking;
mod catalog;
mod checked;
mod diverse;
mod embed;
mod encoders;
pub mod evaluate;
mod expire;
mod explain;
mod facets;
mod fate;
mod fit;
mod index_field;
mod listing;
mod load;
mod monitor;
mod phrases;
mod pool;
mod prepared;
mod probes;
mod profiles;
mod project;
mod query;
mod rebuild;
mod recall;
mod recent;
mod request;
mod rerank;
mod snapshots;
mod tasks;
mod write;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use blocking::{Work, blocking};
pub use catalog::{Catalog, CollectionInfo, DamagedCollection, Embeddings, FileInfo, Health, Prober, StoredDocument};
pub use diverse::GroupBy;
pub use embed::{EmbedError, EmbedPipeline, EmbedRequest, Embedded, Input, MAX_INPUTS, Overlong, check_number};
pub use encoders::Encoders;
pub use expire::Expirer;
pub use explain::Placement;
pub use facets::FacetCount;
pub use fate::Fate;
pub use fit::{FitPipeline, FitReport, FitRequest, RequirementStatus};
pub use listing::{MAX_PAGE, Page, PageRequest};
pub use monitor::{RecallHistory, RecallPoint};
pub use phrases::Phrase;
pub use profiles::{ProfileCatalog, ProfileContents, ProfileInfo};
pub use project::project;
pub use query::QueryPipeline;
pub use rebuild::{Gates, GenerationSummary, ModelChoice, RebuildPipeline, RebuildReport, RebuildRequest, RebuildSettings};
pub use recall::{RecallOfGroup, RecallReport, RecallRequest};
pub use request::{Hit, ProfileChoice, Query, QueryRequest, QueryResponse, Timings};
pub use rerank::{
    CrossEncode, Ranked, RerankError, RerankPipeline, RerankRequest, Reranked, check_number as check_documents, put_in_order,
};
pub use snapshots::{SnapshotPipeline, source_at_rest};
pub use tasks::{Task, TaskInfo, TaskStatus, Tasks};
pub use write::{Incoming, Item, ItemError, Matching, Outcome, WritePipeline, WriteReport, WriteRequest};

use crate::adapter::AdapterError;
use crate::collection::{CollectionError, NoWords};
use crate::rescore::RescoreError;
pub use crate::rescore::{FROM_TEXT, Scorer, Weights};
use crate::snapshot::SnapshotError;
use evaluate::EvaluationError;
use kindred_core::domain::{DocumentError, EmbeddingError, FieldType, FilterError, Retrieval};
use kindred_core::error::ErrorKind;
use kindred_encoder::EncoderError;
pub use kindred_encoder::{CrossEncoderInfo, ModelInfo, QueryOptions, Side, Token};
use load::LoadSettings;
use monitor::MonitorSettings;

/// What a request may ask for at most.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub max_limit: usize,
    pub max_candidates: usize,
    pub max_ef_search: usize,
    pub max_query_bytes: usize,
    pub max_text_bytes: usize,
    pub max_batch_documents: usize,
}

/// How searches run that do not say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchSettings {
    pub retrieval: Retrieval,
    pub ef_search: usize,
    pub candidates: usize,
    pub threads: usize,
    pub max_queue: usize,
    pub shallow_above: usize,
    pub min_ef_search: usize,
    pub min_candidates: usize,
    pub recall_share: f64,
    pub recall_alarm_below: f64,
}

impl SearchSettings {
    fn load(&self, threads: usize) -> LoadSettings {
        let &Self { shallow_above, ef_search, candidates, min_ef_search, min_candidates, .. } = self;
        LoadSettings { shallow_above, threads, ef_search, candidates, min_ef_search, min_candidates }
    }

    fn monitor(&self) -> MonitorSettings {
        MonitorSettings { share: self.recall_share, alarm_below: self.recall_alarm_below }
    }
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("{field}: {actual} is not within {min} to {max}")]
    OutOfRange { field: &'static str, min: usize, max: usize, actual: usize },
    #[error("the query's text is empty: say what to look for")]
    EmptyQuery,
    #[error("the query's text has {actual} bytes, over the limit of {limit} (limits.max_query_bytes)")]
    QueryTooLong { actual: usize, limit: usize },
    #[error("collection {collection:?} cannot be searched by words: {source}")]
    NoWords { collection: String, source: NoWords },
    #[error("facets {field:?}: {reason}")]
    Facet { field: String, reason: &'static str },
    #[error("group_by {field:?}: {reason}")]
    GroupBy { field: String, reason: &'static str },
    #[error("diversity is {actual}: it must be from 0 to 1")]
    Diversity { actual: f64 },
    #[error(
        "the filter names no condition that tells documents apart, so it would delete every document: compare a field with a value, or send {{\"all\": true}} to delete all"
    )]
    NoCondition,
    #[error("this query has no words: search by meaning (\"retrieval\": \"dense\"), or with a text")]
    Wordless,
    #[error("there is no document {id:?} in collection {collection:?}")]
    UnknownDocument { collection: String, id: String },
    #[error("the answer is over the limit of {limit} bytes: ask for fewer documents, or name the fields to return")]
    AnswerTooLong { limit: usize },
    #[error("{actual} documents are over the limit of {limit} in one request (limits.max_batch_documents): send them in parts")]
    TooManyDocuments { actual: usize, limit: usize },
    #[error("{actual} searches are waiting already: try again in a moment")]
    Overloaded { actual: usize },
    #[error("{limit} tasks run or wait for their turn already: GET /v1/tasks lists them; wait for one to end, or cancel one")]
    TooManyTasks { limit: usize },
    #[error("recall is being measured already: try again when that is done")]
    Measuring,
    #[error("document {id:?} does not fit the new definition: {source}. Change the definition, or delete the document first")]
    DoesNotFit { id: String, source: DocumentError },
    #[error("the stored document {id:?} cannot be read: {reason}. Send it again")]
    StoredDocument { id: String, reason: String },
    #[error("cancelled before it was done: {kept}")]
    Cancelled { kept: &'static str },
    #[error("the build was not activated: {gate} is {actual}, below the {wanted} that was asked for. The old generation goes on serving")]
    Gate { gate: &'static str, wanted: f64, actual: f64 },
    #[error(
        "the server has no cross-encoder to order hits with: set cross_encoder.model_dir to the folder of one, or leave cross_encode out"
    )]
    NoCrossEncoder,
    #[error("{field}: {reason}")]
    Params { field: &'static str, reason: String },
    #[error("model {folder:?} cannot be used: {source}")]
    Model { folder: String, source: Box<EncoderError> },
    #[error(
        "collection {collection:?} has no stored profile {name:?} (what the settings say is changed there): GET /v1/collections/{collection}/profiles lists those there are"
    )]
    NoProfile { collection: String, name: String },
    #[error("there is no task {id:?}: GET /v1/tasks lists those there are")]
    UnknownTask { id: String },
    #[error(
        "the model {model} does not lie where it lay when the collection was embedded, or was changed: put it back, or rebuild the collection"
    )]
    ModelGone { model: String },
    #[error("the server takes no writes (http.read_only): send them to the one that it follows")]
    ReadOnly,
    #[error(
        "field {field:?} holds values of type {has} already, so it cannot be indexed as {wanted}: make a collection of another definition"
    )]
    FieldTaken { field: String, has: FieldType, wanted: FieldType },
    #[error(
        "collection {collection:?} is defined in the settings: index {field:?} there, then apply it to the documents: kindred rebuild {collection}"
    )]
    DefinedElsewhere { collection: String, field: String },
    #[error("cannot start a thread")]
    Thread { source: std::io::Error },
    #[error("{} items were refused, so nothing was written; the first: {}", items.len(), items.first().map_or("", |(_, e)| e.message.as_str()))]
    ItemsRefused { items: Vec<(usize, ItemError)> },
    #[error("a worker ended before it answered; the log says why")]
    WorkerLost,
    #[error("the adapter of direction {direction:?}: {source}")]
    Adapter { direction: String, source: AdapterError },
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Vector(#[from] EmbeddingError),
    #[error(transparent)]
    Rescore(#[from] RescoreError),
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Collection(#[from] CollectionError),
}

impl PipelineError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OutOfRange { .. }
            | Self::EmptyQuery
            | Self::NoWords { .. }
            | Self::Wordless
            | Self::NoCondition
            | Self::Diversity { .. }
            | Self::DoesNotFit { .. }
            | Self::NoCrossEncoder
            | Self::Params { .. }
            | Self::Model { .. }
            | Self::ItemsRefused { .. } => ErrorKind::Invalid,
            // As a filter on such a field is.
            Self::Facet { .. } | Self::GroupBy { .. } => ErrorKind::Malformed,
            Self::QueryTooLong { .. } | Self::TooManyDocuments { .. } | Self::AnswerTooLong { .. } => ErrorKind::TooLarge,
            Self::UnknownDocument { .. } | Self::NoProfile { .. } | Self::UnknownTask { .. } => ErrorKind::NotFound,
            Self::Gate { .. } | Self::ReadOnly | Self::FieldTaken { .. } | Self::DefinedElsewhere { .. } => ErrorKind::Conflict,
            Self::Overloaded { .. } | Self::TooManyTasks { .. } | Self::Measuring => ErrorKind::Overloaded,
            Self::StoredDocument { .. } => ErrorKind::Corrupt,
            Self::WorkerLost => ErrorKind::Internal,
            Self::Cancelled { .. } | Self::ModelGone { .. } | Self::Thread { .. } => ErrorKind::Unavailable,
            Self::Evaluation(e) => e.kind(),
            Self::Filter(e) => e.kind(),
            Self::Vector(e) => e.kind(),
            Self::Rescore(e) => e.kind(),
            Self::Adapter { source, .. } => source.kind(),
            Self::Encoder(e) => e.kind(),
            Self::Snapshot(e) => e.kind(),
            Self::Collection(e) => e.kind(),
        }
    }

    /// When it is worth trying again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Encoder(e) => e.retry_after(),
            _ => None,
        }
    }

    /// Returns the name of the collection that does not exist, if that is the reason, and the names of those that do. Not every
    /// caller may know the latter.
    pub fn unknown_collection(&self) -> Option<(&str, &[String])> {
        match self {
            Self::Collection(CollectionError::Unknown { name, known }) => Some((name, known)),
            _ => None,
        }
    }

    /// The part of the request at fault, where there is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::OutOfRange { field, .. } => Some(field),
            Self::Facet { .. } => Some("facets"),
            Self::GroupBy { .. } => Some("group_by"),
            Self::Diversity { .. } => Some("diversity"),
            Self::NoCrossEncoder => Some("cross_encode"),
            Self::EmptyQuery | Self::QueryTooLong { .. } => Some("query.text"),
            Self::UnknownDocument { .. } => Some("id"),
            Self::Evaluation(e) => e.field(),
            Self::Filter(e) => Some(&e.path),
            Self::NoCondition => Some("filter"),
            Self::Vector(_) => Some("query.vector"),
            Self::Rescore(_) | Self::Adapter { .. } => Some("profile"),
            Self::Model { .. } => Some("model"),
            Self::Params { field, .. } => Some(field),
            Self::Snapshot(SnapshotError::Place { .. }) => Some("to"),
            Self::Collection(e) if e.kind() == ErrorKind::NotFound => Some("collection"),
            _ => None,
        }
    }
}
