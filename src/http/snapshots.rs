//! Snapshots: kept in another folder or an object store.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::Services;
use super::body::JsonBody;
use super::collections::blocking;
use super::error::{ApiError, ErrorBody};
use super::generations::Started;
use kindred_core::domain::CollectionName;

/// What to keep, and where.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"to": "s3://bucket/kindred", "collections": ["jobs"]}))]
pub struct SnapshotBody {
    /// A folder of the server's machine, or `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
    to: String,
    /// Without it, all.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    collections: Vec<CollectionName>,
}

/// Make a snapshot. The task's result has its id; `kindred snapshot restore` brings it back.
#[utoipa::path(post, path = "/v1/snapshots", request_body = SnapshotBody,
    responses((status = 202, body = Started), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn create(
    State(services): State<Arc<Services>>,
    JsonBody(body): JsonBody<SnapshotBody>,
) -> Result<(StatusCode, Json<Started>), ApiError> {
    let task = blocking(move || services.snapshots.start(&body.to, &body.collections)).await?;
    Ok((StatusCode::ACCEPTED, Json(Started { task: task.id().to_owned() })))
}
