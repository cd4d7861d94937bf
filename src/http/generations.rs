//! Generations: building, activating, going back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Services;
use super::body::JsonBody;
use super::collections::{blocking, existing};
use super::error::{ApiError, ErrorBody};
use super::path::PathParts;
use crate::pipeline::{Gates, GenerationSummary, ModelChoice, PipelineError, RebuildRequest};
use kindred_core::domain::GenerationId;
use kindred_core::error::ErrorKind;

/// What to build; `{}` is enough.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"gates": {"recall@10": 0.95}, "activate": "auto"}))]
pub struct RebuildBody {
    /// Folder of another model, beside the configured one; all documents are embedded again with it. Without it, the collection's
    /// own; `""` stands for the configured one.
    model: Option<String>,
    /// Settings of `[index]` that differ for this build: `quantization`, `max_connections`, `ef_construction`, …
    #[schema(value_type = Option<Object>)]
    params: Option<Value>,
    /// What the build must reach; else the old generation stays.
    #[serde(default)]
    gates: Gates,
    #[serde(default)]
    activate: Activate,
}

/// When the build serves.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activate {
    /// As soon as it is built and has passed its gates.
    #[default]
    Auto,
    /// When it is asked for.
    Manual,
}

/// What was started.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Started {
    /// `GET /v1/tasks/{task}` tells how it is doing.
    pub task: String,
}

/// A collection's generations.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct GenerationList {
    /// Newest first.
    generations: Vec<GenerationSummary>,
}

/// What serves now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Activated {
    generation: String,
}

/// Build the collection anew in the background, while it is searched and written to.
#[utoipa::path(post, path = "/v1/collections/{collection}/rebuild", request_body = RebuildBody,
    responses((status = 202, body = Started), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn rebuild(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
    JsonBody(body): JsonBody<RebuildBody>,
) -> Result<(StatusCode, Json<Started>), ApiError> {
    let name = existing(&collection)?;
    let model = match body.model {
        None => ModelChoice::Keep,
        Some(folder) if folder.is_empty() => ModelChoice::Configured,
        Some(folder) => ModelChoice::Folder(folder),
    };
    let request = RebuildRequest {
        model,
        params: body.params,
        gates: body.gates,
        activate: body.activate == Activate::Auto,
        ..RebuildRequest::default()
    };
    let task = blocking(move || services.rebuild.start(&name, request)).await?;
    Ok((StatusCode::ACCEPTED, Json(Started { task: task.id().to_owned() })))
}

/// List the collection's generations.
#[utoipa::path(get, path = "/v1/collections/{collection}/generations",
    responses((status = 200, body = GenerationList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn list(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
) -> Result<Json<GenerationList>, ApiError> {
    let name = existing(&collection)?;
    let generations = blocking(move || services.rebuild.generations(&name)).await?;
    Ok(Json(GenerationList { generations }))
}

/// Make a generation the one that serves, with all changes since it was built.
#[utoipa::path(post, path = "/v1/collections/{collection}/generations/{id}/activate",
    responses((status = 200, body = Activated), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn activate(
    State(services): State<Arc<Services>>,
    PathParts((collection, id)): PathParts<(String, String)>,
) -> Result<Json<Activated>, ApiError> {
    let name = existing(&collection)?;
    let generation: GenerationId = id.parse().map_err(|_| {
        let message = format!("{id:?} is not the number of a generation: GET /v1/collections/{name}/generations lists those there are");
        ApiError::new(ErrorKind::NotFound, message, Some("id".to_owned()))
    })?;
    blocking(move || services.rebuild.activate(&name, generation)).await?;
    Ok(Json(Activated { generation: generation.to_string() }))
}

/// Go back to the generation that served before, with all changes since.
#[utoipa::path(post, path = "/v1/collections/{collection}/rollback",
    responses((status = 200, body = Activated), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn roll_back(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
) -> Result<Json<Activated>, ApiError> {
    let name = existing(&collection)?;
    let generation: Result<GenerationId, PipelineError> = blocking(move || Ok(services.rebuild.roll_back(&name))).await?;
    Ok(Json(Activated { generation: generation?.to_string() }))
}
