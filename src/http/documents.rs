//! Documents: put, get, delete.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Services;
use super::body::RawBody;
use super::collections::existing;
use super::error::{ApiError, ErrorBody, ErrorDetail, status_of};
use super::path::PathParts;
use super::request;
use crate::domain::{CollectionName, DocumentId};
use crate::error::ErrorKind;
use crate::ingest;
use crate::pipeline::{Incoming, Outcome, PipelineError, StoredDocument};
use crate::telemetry::Progress;

/// What became of a batch. A refused item does not fail the request: look at `errors`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BatchResponse {
    took_ms: u64,
    /// Whether any item was refused.
    errors: bool,
    /// The collection's last durable change.
    seqno: u64,
    /// In the order of the request.
    items: Vec<Item>,
}

/// What became of one item.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Item {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// 201 created, 200 updated or unchanged, 4xx refused.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorDetail>,
}

/// What was deleted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Deleted {
    deleted: String,
    seqno: u64,
}

/// Insert or replace documents: a JSON array, or lines of JSON. When this answers, they are durable and searchable.
#[utoipa::path(put, path = "/v1/collections/{collection}/documents",
    request_body(content((String = "application/x-ndjson"), (Vec<Object> = "application/json"))),
    responses((status = 200, body = BatchResponse), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn put(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
    RawBody(bytes): RawBody,
) -> Result<Json<BatchResponse>, ApiError> {
    let started = Instant::now();
    let collection = existing(&collection)?;
    let items = tokio::task::spawn_blocking(move || parse(&bytes)).await.map_err(|_| PipelineError::WorkerLost)??;
    // Written in a task of its own: a client that hangs up half-way does not leave a half-answered question behind.
    let written = tokio::spawn(async move { services.write.put(&collection, items, &Progress::hidden()).await });
    let report = written.await.map_err(|_| PipelineError::WorkerLost)??;
    let items: Vec<Item> = report.outcomes.into_iter().map(item).collect();
    let errors = items.iter().any(|item| item.error.is_some());
    Ok(Json(BatchResponse { took_ms: started.elapsed().as_millis() as u64, errors, seqno: report.seqno.0, items }))
}

fn parse(bytes: &[u8]) -> Result<Vec<Incoming>, ApiError> {
    let items = ingest::parse_body(bytes)
        .map_err(|reason| ApiError::new(ErrorKind::Malformed, format!("the body is not a JSON array of documents: {reason}"), None))?;
    if items.is_empty() {
        return Err(ApiError::new(ErrorKind::Malformed, "the body holds no documents: send a JSON array, or one JSON object a line", None));
    }
    Ok(items)
}

fn item(outcome: Outcome) -> Item {
    let taken = |id: DocumentId, status, result| Item { id: Some(id.to_string()), status, result: Some(result), error: None };
    match outcome {
        Outcome::Created(id) => taken(id, 201, "created"),
        Outcome::Updated(id) => taken(id, 200, "updated"),
        Outcome::Unchanged(id) => taken(id, 200, "unchanged"),
        Outcome::Refused { id, error } => {
            let (status, code) = status_of(error.kind);
            let error = ErrorDetail { code, message: error.message, field: error.field, request_id: request::id() };
            Item { id, status: status.as_u16(), result: None, error: Some(error) }
        }
    }
}

/// Get a document as it is stored.
#[utoipa::path(get, path = "/v1/collections/{collection}/documents/{id}",
    responses((status = 200, body = StoredDocument), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn get(
    State(services): State<Arc<Services>>,
    PathParts((collection, id)): PathParts<(String, String)>,
) -> Result<Json<StoredDocument>, ApiError> {
    Ok(Json(services.catalog.document(&existing(&collection)?, &DocumentId::new(id)?)?))
}

/// Delete a document. When this answers, the deletion is durable and searches no longer find it.
#[utoipa::path(delete, path = "/v1/collections/{collection}/documents/{id}",
    responses((status = 200, body = Deleted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn delete(
    State(services): State<Arc<Services>>,
    PathParts((collection, id)): PathParts<(String, String)>,
) -> Result<Json<Deleted>, ApiError> {
    let (name, id): (CollectionName, DocumentId) = (existing(&collection)?, DocumentId::new(id)?);
    let (was_there, seqno) = services.write.delete(&name, id.clone()).await?;
    if !was_there {
        return Err(PipelineError::UnknownDocument { collection, id: id.to_string() }.into());
    }
    Ok(Json(Deleted { deleted: id.to_string(), seqno: seqno.0 }))
}
