//! Recall: how much of the exact answer searches find, measured here and now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use super::Services;
use super::body::JsonBody;
use super::collections::existing;
use super::error::{ApiError, ErrorBody};
use super::path::PathParts;
use crate::pipeline::{RecallHistory, RecallReport, RecallRequest};

fn default_num() -> usize {
    100
}

fn default_k() -> usize {
    10
}

/// What to measure; `{}` is enough.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecallBody {
    /// Queries to measure with, at most 1,000.
    #[serde(default = "default_num")]
    num: usize,
    /// Nearest documents to be found by each.
    #[serde(default = "default_k")]
    k: usize,
    /// Width of the graph's beam.
    ef_search: Option<usize>,
    /// As in a search; it narrows every query.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    /// Chooses the same queries again.
    seed: Option<u64>,
}

/// Measure how many of the nearest documents searches find, on recent searches and on documents of the collection.
#[utoipa::path(post, path = "/v1/collections/{collection}/recall", request_body = RecallBody,
    responses((status = 200, body = RecallReport), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn recall(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
    JsonBody(body): JsonBody<RecallBody>,
) -> Result<Json<RecallReport>, ApiError> {
    let collection = existing(&collection)?;
    let RecallBody { num, k, ef_search, filter, seed } = body;
    let request = RecallRequest { collection, num, k, ef_search, filter, seed };
    Ok(Json(services.query.recall(request).await?))
}

/// The recall of live searches, over time: a share of them is answered once more by comparing every document.
#[utoipa::path(get, path = "/v1/collections/{collection}/recall", responses((status = 200, body = RecallHistory), (status = "4XX", body = ErrorBody)))]
pub async fn history(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
) -> Result<Json<RecallHistory>, ApiError> {
    Ok(Json(services.query.recall_history(&existing(&collection)?)?))
}
