//! What operators and their machines ask.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;

use super::error::{ApiError, ErrorBody};
use super::{Services, auth};
use crate::ingest::kafka::FeedState;
use crate::pipeline::{CollectionInfo, CrossEncoderInfo, ModelInfo};
use crate::telemetry;
use kindred_core::error::ErrorKind;

/// What this server is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Info {
    version: &'static str,
    /// The loaded model, and the provider it runs on.
    model: ModelInfo,
    /// The loaded cross-encoder, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cross_encoder: Option<CrossEncoderInfo>,
    collections: Vec<String>,
}

/// Whether everything works.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Ready {
    ready: bool,
    collections: usize,
    /// The Kafka feed of each fed collection. A server whose feed stands still is ready: it answers with what it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    feeds: Vec<FeedState>,
}

/// An alias of `/livez`, under the name that older orchestrators ask by.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String)))]
pub async fn healthz() -> &'static str {
    livez().await
}

/// The process answers.
#[utoipa::path(get, path = "/livez", responses((status = 200, body = String)))]
pub async fn livez() -> &'static str {
    "ok"
}

/// The collections are open and the encoder has just answered a probe; with `kafka.ready_when_caught_up`, every feed has been read to
/// its end once.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = Ready), (status = 503, body = ErrorBody)))]
pub async fn readyz(State(services): State<Arc<Services>>) -> Result<Json<Ready>, ApiError> {
    // Whatever keeps the encoder from answering, a full queue too: traffic should go elsewhere.
    services.catalog.probe().await.map_err(|e| ApiError::new(ErrorKind::Unavailable, e.to_string(), None))?;
    if let Some(why) = services.feeds.not_ready() {
        return Err(ApiError::new(ErrorKind::Unavailable, why, None));
    }
    Ok(Json(Ready { ready: true, collections: services.catalog.count(), feeds: services.feeds.list() }))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String)))]
pub async fn metrics(State(services): State<Arc<Services>>) -> impl IntoResponse {
    for CollectionInfo { name, n_documents, n_changes, .. } in services.catalog.list() {
        telemetry::metrics::collection_size(&name, n_documents, n_changes);
        telemetry::metrics::recall_alarm(&name, services.query.recall_alarm(&name));
    }
    let model = services.catalog.model();
    telemetry::metrics::encoder_info(&model.name, &model.provider, model.query_precision.to_string(), model.document_precision.to_string());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::metrics::install().render())
}

/// Version, model and the provider in use.
#[utoipa::path(get, path = "/v1/info", responses((status = 200, body = Info)))]
pub async fn info(State(services): State<Arc<Services>>) -> Json<Info> {
    let model = services.catalog.model().clone();
    let collections = services.catalog.list().into_iter().map(|c| c.name).filter(|name| auth::sees(name)).collect();
    let cross_encoder = services.rerank.model().cloned();
    Json(Info { version: env!("CARGO_PKG_VERSION"), model, cross_encoder, collections })
}

/// The description of this API, OpenAPI 3.1.
pub async fn openapi(api: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], api)
}
