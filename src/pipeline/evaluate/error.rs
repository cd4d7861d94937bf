//! Why nothing is evaluated.

use super::super::PipelineError;
use kindred_core::error::ErrorKind;

/// Why nothing is evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    #[error("there is no query: send at least one")]
    NoQueries,
    #[error("{actual} {what} are over the limit of {limit} in one evaluation: send a part of them")]
    TooMany { what: &'static str, actual: usize, limit: usize },
    #[error("{at}: {reason}")]
    Query { at: String, reason: String },
    #[error("document {document:?} has grade {grade} for query {query:?}: grades are whole numbers from -2 to 4, and above 0 is relevant")]
    Grade { query: String, document: String, grade: i64 },
    #[error("no judgment is of any of these queries ({n} are of others): judgments name queries by their ids")]
    UnknownQueries { n: usize },
    #[error("the collection has none of the documents of the {n} judgments: do these belong to it?")]
    UnknownDocuments { n: usize },
    #[error("no judged document is relevant: the grade is above 0 for documents that are")]
    NothingRelevant,
    #[error("{at}: {reason}")]
    VariantName { at: String, reason: &'static str },
    #[error("{at}: {source}")]
    Variant { at: String, source: Box<PipelineError> },
    #[error("another evaluation is under way: try again when that is done")]
    Busy,
    #[error("the server has so much to do that a query was refused {tries} times ({reason}): try again when there is less")]
    Refused { tries: usize, reason: String },
    #[error("task {task} is not done yet: GET /v1/tasks/{task} tells how far it is")]
    NotDone { task: String },
    #[error("there is no result of task {task}: it is no evaluation, did not end well (GET /v1/tasks/{task}), or many were done since")]
    NoReport { task: String },
}

impl EvaluationError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoQueries
            | Self::Query { .. }
            | Self::Grade { .. }
            | Self::UnknownQueries { .. }
            | Self::UnknownDocuments { .. }
            | Self::NothingRelevant
            | Self::VariantName { .. } => ErrorKind::Invalid,
            Self::TooMany { .. } => ErrorKind::TooLarge,
            Self::Variant { source, .. } => source.kind(),
            Self::Busy | Self::Refused { .. } => ErrorKind::Overloaded,
            Self::NotDone { .. } => ErrorKind::Conflict,
            Self::NoReport { .. } => ErrorKind::NotFound,
        }
    }

    /// The part of the request at fault.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::NoQueries => Some("queries"),
            Self::TooMany { what, .. } => Some(what),
            Self::Query { at, .. } | Self::VariantName { at, .. } | Self::Variant { at, .. } => Some(at),
            Self::Grade { .. } | Self::UnknownQueries { .. } | Self::UnknownDocuments { .. } | Self::NothingRelevant => Some("judgments"),
            Self::NotDone { .. } | Self::NoReport { .. } => Some("task"),
            Self::Busy | Self::Refused { .. } => None,
        }
    }
}

/// Refuses more of something than there may be.
pub(super) fn over(what: &'static str, actual: usize, limit: usize) -> Result<(), EvaluationError> {
    if actual > limit { Err(EvaluationError::TooMany { what, actual, limit }) } else { Ok(()) }
}
