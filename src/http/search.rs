//! Searches: by text, by vector, by document, and across collections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use super::Services;
use super::body::JsonBody;
use super::collections::existing;
use super::error::{ApiError, ErrorBody};
use super::path::PathParts;
use crate::domain::{DocumentId, Retrieval, StrategyChoice};
use crate::error::ErrorKind;
use crate::pipeline::{PipelineError, Query, QueryOptions, QueryRequest, QueryResponse};

fn default_limit() -> usize {
    10
}

fn yes() -> bool {
    true
}

/// What to look for: exactly one of these.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object such as {\"text\": \"night nurse\"}")]
#[schema(example = json!({"text": "keep patients safe as a nurse on night shift"}))]
pub struct QueryBody {
    text: Option<String>,
    /// As many numbers as the model has dimensions; any length but zero.
    vector: Option<Vec<f32>>,
    /// A document of the same collection.
    id: Option<Id>,
}

/// A search in one collection.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchBody {
    query: QueryBody,
    /// `{"must": […], "should": […], "must_not": […]}` of conditions on indexed fields.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    /// Hits to return.
    #[serde(default = "default_limit")]
    limit: usize,
    /// What candidates are found by: `dense` (meaning), `lexical` (words: BM25) or `hybrid` (both).
    retrieval: Option<Retrieval>,
    /// Candidates to re-score.
    candidates: Option<usize>,
    /// Width of the graph's beam.
    ef_search: Option<usize>,
    /// Walk the graph, compare with every matching document, or whichever costs less.
    #[serde(default)]
    strategy: StrategyChoice,
    /// Weights of the re-scoring.
    profile: Option<String>,
    /// Names of the fields to return; all without it.
    fields: Option<Vec<String>>,
    /// Tell each score's terms.
    #[serde(default)]
    explain: bool,
    /// Whether the text's embedding may be one that was made for an earlier query.
    #[serde(default = "yes")]
    cache: bool,
    /// After so many milliseconds the answer is of no use: a query that would wait longer for the encoder is refused with 429.
    timeout_ms: Option<u64>,
}

/// An id as it may be written: a string, or a whole number that stands for its digits.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected a string or a whole number")]
pub enum Id {
    Text(String),
    Number(i64),
}

impl Id {
    fn check(self, field: &str) -> Result<DocumentId, ApiError> {
        let text = match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        };
        DocumentId::new(text).map_err(|e| ApiError::from(e).about(field))
    }
}

/// A document to start from.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object such as {\"collection\": \"members\", \"id\": \"m7\"}")]
pub struct From {
    collection: String,
    id: Id,
}

/// A search with a document: jobs for a member, members for a job, similar jobs.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchBody {
    from: From,
    /// The collection to search.
    to: String,
    /// As in a search.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    #[serde(default = "default_limit")]
    limit: usize,
    /// As in a search; by meaning where it is left out.
    retrieval: Option<Retrieval>,
    candidates: Option<usize>,
    ef_search: Option<usize>,
    #[serde(default)]
    strategy: StrategyChoice,
    profile: Option<String>,
    fields: Option<Vec<String>>,
    #[serde(default)]
    explain: bool,
}

/// Find documents by meaning.
#[utoipa::path(post, path = "/v1/collections/{collection}/search", request_body = SearchBody,
    responses((status = 200, body = QueryResponse), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn search(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
    JsonBody(body): JsonBody<SearchBody>,
) -> Result<Json<QueryResponse>, ApiError> {
    let collection = existing(&collection)?;
    let query = match body.query {
        QueryBody { text: Some(text), vector: None, id: None } => Query::Text(text),
        QueryBody { text: None, vector: Some(vector), id: None } => Query::Vector(vector),
        QueryBody { text: None, vector: None, id: Some(id) } => {
            Query::Document { collection: collection.clone(), id: id.check("query.id")? }
        }
        _ => {
            return Err(ApiError::new(
                ErrorKind::Malformed,
                "the query needs exactly one of \"text\", \"vector\" and \"id\"",
                Some("query".to_owned()),
            ));
        }
    };
    let SearchBody { filter, limit, retrieval, candidates, ef_search, strategy, profile, fields, explain, cache, timeout_ms, .. } = body;
    // A time beyond all clocks is none.
    let deadline = timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
    let encoding = QueryOptions { deadline, skip_cache: !cache };
    let request = QueryRequest { collection, query, filter, limit, retrieval, candidates, ef_search, strategy, profile, fields, explain, encoding };
    Ok(Json(services.query.search(request).await.map_err(|e| located(e, "query.id", "collection"))?))
}

/// An error about the asking document, or about the collection that is searched, named as the request names it.
fn located(e: PipelineError, id: &str, collection: &str) -> ApiError {
    let field = match &e {
        PipelineError::UnknownDocument { .. } => Some(id),
        PipelineError::Collection(e) if e.kind() == ErrorKind::NotFound => Some(collection),
        _ => None,
    };
    match field {
        Some(field) => ApiError::from(e).about(field),
        None => ApiError::from(e),
    }
}

/// Find the documents of one collection that match a document of another, or of the same.
#[utoipa::path(post, path = "/v1/match", request_body = MatchBody,
    responses((status = 200, body = QueryResponse), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn match_documents(
    State(services): State<Arc<Services>>,
    JsonBody(body): JsonBody<MatchBody>,
) -> Result<Json<QueryResponse>, ApiError> {
    let MatchBody { from, to, filter, limit, retrieval, candidates, ef_search, strategy, profile, fields, explain } = body;
    let asking = existing(&from.collection).map_err(|e| e.about("from.collection"))?;
    services.catalog.require(&asking).map_err(|e| located(e, "from.id", "from.collection"))?;
    let query = Query::Document { collection: asking, id: from.id.check("from.id")? };
    let collection = existing(&to).map_err(|e| e.about("to"))?;
    let encoding = QueryOptions::default();
    let request = QueryRequest { collection, query, filter, limit, retrieval, candidates, ef_search, strategy, profile, fields, explain, encoding };
    Ok(Json(services.query.search(request).await.map_err(|e| located(e, "from.id", "to"))?))
}
