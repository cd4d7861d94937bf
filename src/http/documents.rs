//! Documents: put, patch, get, delete, one by one or many at once.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::Instrument;

use super::Services;
use super::answer;
use super::body::{JsonBody, RawBody};
use super::collections::{existing, reading};
use super::error::{ApiError, ErrorBody, ErrorDetail, status_of};
use super::path::{PathParts, QueryString};
use super::request;
use crate::ingest::{self, BodyError};
use crate::pipeline::{
    self, Item as WriteItem, ItemError, Matching, Outcome, PipelineError, StoredDocument, Work, WriteReport, WriteRequest,
};
use kindred_core::Progress;
use kindred_core::domain::{CollectionName, DocumentId, Precondition, Refresh, SeqNo};
use kindred_core::error::ErrorKind;

/// What became of a batch. A refused item does not fail the request: look at `errors`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BatchResponse {
    took_ms: u64,
    /// Whether any item was refused.
    errors: bool,
    /// The collection's last durable change.
    seqno: u64,
    /// Texts that went through the encoder: equal texts count once, unchanged ones not at all.
    n_encoded: usize,
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
    /// The document's last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    seqno: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorDetail>,
}

/// What was deleted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedDocument {
    deleted: String,
    seqno: u64,
}

/// How many were deleted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedSome {
    deleted: u64,
    /// The collection's last durable change.
    seqno: u64,
}

/// What became of one document.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Written {
    id: String,
    /// `created`, `updated` or `unchanged`.
    result: &'static str,
    /// The document's last change.
    seqno: u64,
}

/// Which documents to delete: exactly one of these.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteBody {
    /// As in a search, with at least one condition: a filter that would match every document because it names none, such as `{}`
    /// or `{"must": []}`, is rejected.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    ids: Option<Vec<String>>,
    /// `true` deletes every document of the collection.
    all: Option<bool>,
}

/// How to write.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WriteOptions {
    /// `wait`: answer when the changes are durable and the next search finds them. `none`: when they are durable.
    #[serde(default)]
    #[param(inline)]
    refresh: RefreshOption,
    /// Refuse documents whose id is there already.
    #[serde(default)]
    create_only: bool,
    /// Refuse unless this is the document's last change. For single documents.
    if_seqno: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefreshOption {
    #[default]
    Wait,
    None,
}

impl WriteOptions {
    fn request(&self, items: Vec<Result<WriteItem, ItemError>>) -> Result<WriteRequest, ApiError> {
        let condition = match (self.create_only, self.if_seqno) {
            (false, None) => Precondition::None,
            (true, None) => Precondition::CreateOnly,
            (false, Some(seqno)) => Precondition::IfSeqno(SeqNo(seqno)),
            (true, Some(_)) => {
                let message = "create_only and if_seqno contradict each other: give one of them";
                return Err(ApiError::new(ErrorKind::Malformed, message, Some("if_seqno".to_owned())));
            }
        };
        let refresh = match self.refresh {
            RefreshOption::Wait => Refresh::Wait,
            RefreshOption::None => Refresh::None,
        };
        Ok(WriteRequest { items, condition, refresh, ..WriteRequest::default() })
    }

    fn for_many(&self) -> Result<(), ApiError> {
        let message = "if_seqno is of one document: PUT or PATCH it at …/documents/{id}";
        match self.if_seqno {
            None => Ok(()),
            Some(_) => Err(ApiError::new(ErrorKind::Malformed, message, Some("if_seqno".to_owned()))),
        }
    }
}

/// Insert or replace documents: a JSON array, or lines of JSON. When this answers, they are durable and searchable.
#[utoipa::path(put, path = "/v1/collections/{collection}/documents", params(WriteOptions),
    request_body(content((String = "application/x-ndjson"), (Vec<Object> = "application/json"))),
    responses((status = 200, body = BatchResponse), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn put(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
    QueryString(options): QueryString<WriteOptions>,
    RawBody(bytes): RawBody,
) -> Result<Json<BatchResponse>, ApiError> {
    write_many(services, &collection, &options, bytes.to_vec(), WriteItem::Put).await
}

/// Change fields of documents: a JSON array, or lines of JSON, of merge patches (RFC 7396) with ids. A text that stays the same is
/// not embedded again.
#[utoipa::path(patch, path = "/v1/collections/{collection}/documents", params(WriteOptions),
    request_body(content((String = "application/x-ndjson"), (Vec<Object> = "application/json"))),
    responses((status = 200, body = BatchResponse), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn patch(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
    QueryString(options): QueryString<WriteOptions>,
    RawBody(bytes): RawBody,
) -> Result<Json<BatchResponse>, ApiError> {
    write_many(services, &collection, &options, bytes.to_vec(), WriteItem::Merge).await
}

async fn write_many(
    services: Arc<Services>,
    collection: &str,
    options: &WriteOptions,
    bytes: Vec<u8>,
    item_of: fn(Value) -> WriteItem,
) -> Result<Json<BatchResponse>, ApiError> {
    let started = Instant::now();
    options.for_many()?;
    let name = existing(collection)?;
    services.catalog.require(&name)?;
    let max_items = services.write.max_items();
    let documents = pipeline::blocking(Work::Parse, move || parse(&bytes, max_items)).await??;
    let request = options.request(documents.into_iter().map(|document| document.map(item_of)).collect())?;
    let report = write(services, name, request).await?;
    let items: Vec<Item> = report.outcomes.into_iter().map(item).collect();
    let errors = items.iter().any(|item| item.error.is_some());
    let took_ms = started.elapsed().as_millis() as u64;
    Ok(Json(BatchResponse { took_ms, errors, seqno: report.seqno.0, n_encoded: report.n_encoded, items }))
}

/// Writes in a task of its own: a client that hangs up half-way does not leave a half-answered question behind.
pub(super) async fn write(
    services: Arc<Services>,
    collection: CollectionName,
    request: WriteRequest,
) -> Result<WriteReport, PipelineError> {
    services.may_write()?;
    let write = async move { services.write.write(&collection, request, &Progress::hidden()).await };
    let written = tokio::spawn(write.in_current_span());
    written.await.map_err(|_| PipelineError::WorkerLost)?
}

fn parse(bytes: &[u8], max_items: usize) -> Result<Vec<ingest::ReadDocument>, ApiError> {
    let items = ingest::parse_body(bytes, max_items).map_err(|e| match e {
        BodyError::Array(reason) => {
            ApiError::new(ErrorKind::Malformed, format!("the body is not a JSON array of documents: {reason}"), None)
        }
        BodyError::TooMany { actual } => PipelineError::TooManyDocuments { actual, limit: max_items }.into(),
    })?;
    if items.is_empty() {
        return Err(ApiError::new(ErrorKind::Malformed, "the body holds no documents: send a JSON array, or one JSON object a line", None));
    }
    Ok(items)
}

fn item(outcome: Outcome) -> Item {
    let result = Some(outcome.name());
    let taken = |id: DocumentId, status, seqno: Option<SeqNo>| Item {
        id: Some(id.to_string()),
        status,
        result,
        seqno: seqno.map(|s| s.0),
        error: None,
    };
    match outcome {
        Outcome::Created(id, seqno) => taken(id, 201, Some(seqno)),
        Outcome::Updated(id, seqno) | Outcome::Unchanged(id, seqno) | Outcome::Deleted(id, seqno) => taken(id, 200, Some(seqno)),
        Outcome::NotFound(id) => taken(id, 404, None),
        Outcome::Superseded(id) => taken(id, 200, None),
        Outcome::Refused { id, error } => {
            let (status, code) = status_of(error.kind);
            let error = ErrorDetail { code, message: error.message, field: error.field, request_id: request::id() };
            Item { id, status: status.as_u16(), result: None, seqno: None, error: Some(error) }
        }
    }
}

/// Insert or replace one document.
#[utoipa::path(put, path = "/v1/collections/{collection}/documents/{id}", params(WriteOptions), request_body = Object,
    responses((status = 201, body = Written), (status = 200, body = Written), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn put_one(
    State(services): State<Arc<Services>>,
    PathParts((collection, id)): PathParts<(String, String)>,
    QueryString(options): QueryString<WriteOptions>,
    JsonBody(document): JsonBody<Value>,
) -> Result<(StatusCode, Json<Written>), ApiError> {
    write_one(services, &collection, &options, id, document, WriteItem::Put).await
}

/// Change fields of one document: a merge patch (RFC 7396). A text that stays the same is not embedded again.
#[utoipa::path(patch, path = "/v1/collections/{collection}/documents/{id}", params(WriteOptions), request_body = Object,
    responses((status = 200, body = Written), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn patch_one(
    State(services): State<Arc<Services>>,
    PathParts((collection, id)): PathParts<(String, String)>,
    QueryString(options): QueryString<WriteOptions>,
    JsonBody(document): JsonBody<Value>,
) -> Result<(StatusCode, Json<Written>), ApiError> {
    write_one(services, &collection, &options, id, document, WriteItem::Merge).await
}

async fn write_one(
    services: Arc<Services>,
    collection: &str,
    options: &WriteOptions,
    id: String,
    mut document: Value,
    item_of: fn(Value) -> WriteItem,
) -> Result<(StatusCode, Json<Written>), ApiError> {
    let collection = existing(collection)?;
    let is_another = |inside: &Value| inside.as_str().map_or_else(|| inside.to_string(), str::to_owned) != id;
    if document.get("id").is_some_and(is_another) {
        let message = "the \"id\" in the body is another than in the path: leave it out, or make them one";
        return Err(ApiError::new(ErrorKind::Invalid, message, Some("id".to_owned())));
    }
    document["id"] = Value::String(id);
    let report = write(services, collection, options.request(vec![Ok(item_of(document))])?).await?;
    let Some(outcome) = report.outcomes.into_iter().next() else { return Err(PipelineError::WorkerLost.into()) };
    let name = outcome.name();
    let (status, id, seqno) = match outcome {
        Outcome::Created(id, seqno) => (StatusCode::CREATED, id, seqno),
        Outcome::Updated(id, seqno) | Outcome::Unchanged(id, seqno) => (StatusCode::OK, id, seqno),
        Outcome::Refused { error, .. } => return Err(error.into()),
        Outcome::Deleted(..) | Outcome::NotFound(_) | Outcome::Superseded(_) => return Err(PipelineError::WorkerLost.into()),
    };
    Ok((status, Json(Written { id: id.to_string(), result: name, seqno: seqno.0 })))
}

/// Get a document as it is stored.
#[utoipa::path(get, path = "/v1/collections/{collection}/documents/{id}",
    responses((status = 200, body = StoredDocument), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn get(
    State(services): State<Arc<Services>>,
    PathParts((collection, id)): PathParts<(String, String)>,
) -> Result<Response, ApiError> {
    let (name, id) = (existing(&collection)?, DocumentId::new(id)?);
    let document = reading(move || services.catalog.document(&name, &id)).await?;
    Ok(answer::long_json(document.fields.get().len(), move || document).await)
}

/// Delete a document. When this answers, the deletion is durable and searches no longer find it.
#[utoipa::path(delete, path = "/v1/collections/{collection}/documents/{id}", params(WriteOptions),
    responses((status = 200, body = DeletedDocument), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn delete(
    State(services): State<Arc<Services>>,
    PathParts((collection, id)): PathParts<(String, String)>,
    QueryString(options): QueryString<WriteOptions>,
) -> Result<Json<DeletedDocument>, ApiError> {
    let (name, id): (CollectionName, DocumentId) = (existing(&collection)?, DocumentId::new(id)?);
    let report = write(services, name, options.request(vec![Ok(WriteItem::Delete(id.clone()))])?).await?;
    match report.outcomes.into_iter().next() {
        Some(Outcome::Deleted(id, seqno)) => Ok(Json(DeletedDocument { deleted: id.to_string(), seqno: seqno.0 })),
        Some(Outcome::Refused { error, .. }) => Err(error.into()),
        _ => Err(PipelineError::UnknownDocument { collection, id: id.to_string() }.into()),
    }
}

/// Delete the documents that match a filter, those with some ids, or all of them. Unknown ids are skipped.
#[utoipa::path(post, path = "/v1/collections/{collection}/documents/delete", request_body = DeleteBody,
    responses((status = 200, body = DeletedSome), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn delete_some(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
    JsonBody(body): JsonBody<DeleteBody>,
) -> Result<Json<DeletedSome>, ApiError> {
    let name = existing(&collection)?;
    let (deleted, seqno) = match body {
        DeleteBody { filter: Some(filter), ids: None, all: None } => delete_matching(services, name, Matching::Filter(filter)).await?,
        DeleteBody { filter: None, ids: Some(ids), all: None } => {
            let ids = ids.into_iter().map(DocumentId::new).collect::<Result<_, _>>()?;
            delete_ids(services, name, ids).await?
        }
        DeleteBody { filter: None, ids: None, all: Some(true) } => delete_matching(services, name, Matching::All).await?,
        _ => {
            let message = "name the documents to delete by exactly one of \"filter\", \"ids\" and \"all\": true";
            return Err(ApiError::new(ErrorKind::Malformed, message, Some("filter".to_owned())));
        }
    };
    Ok(Json(DeletedSome { deleted, seqno: seqno.0 }))
}

/// Deletes the documents that match. Returns how many, and the last durable change.
pub(super) async fn delete_matching(
    services: Arc<Services>,
    name: CollectionName,
    matching: Matching,
) -> Result<(u64, SeqNo), PipelineError> {
    services.may_write()?;
    let delete = async move { services.write.delete_matching(&name, &matching).await };
    let deleted = tokio::spawn(delete.in_current_span());
    deleted.await.map_err(|_| PipelineError::WorkerLost)?
}

/// The same for documents of some ids.
pub(super) async fn delete_ids(
    services: Arc<Services>,
    name: CollectionName,
    mut ids: Vec<DocumentId>,
) -> Result<(u64, SeqNo), PipelineError> {
    ids.sort_unstable();
    ids.dedup();
    let items = ids.into_iter().map(|id| Ok(WriteItem::Delete(id))).collect();
    let report = write(services, name, WriteRequest { items, ..WriteRequest::default() }).await?;
    let n = report.outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Deleted(..))).count();
    Ok((n as u64, report.seqno))
}
