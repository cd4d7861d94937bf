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

/// Whether everything works, in numbers alone: probes need no key.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Ready {
    ready: bool,
    collections: usize,
    /// Collections that could not be opened: they answer 503, the others are served.
    damaged: usize,
}

/// An alias of `/livez`, under the name that older orchestrators ask by.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String), (status = 503, body = ErrorBody)))]
pub async fn healthz(services: State<Arc<Services>>) -> Result<&'static str, ApiError> {
    livez(services).await
}

/// The process answers, and does not hang so that only a restart helps.
#[utoipa::path(get, path = "/livez", responses((status = 200, body = String), (status = 503, body = ErrorBody)))]
pub async fn livez(State(services): State<Arc<Services>>) -> Result<&'static str, ApiError> {
    match services.probe.is_alive() {
        true => Ok("ok"),
        false => Err(ApiError::new(ErrorKind::Unavailable, "the server has hung for minutes: restart it", None)),
    }
}

/// The encoder has answered the last probe, a second ago, and every collection that is served takes writes; with
/// `kafka.ready_when_caught_up`, every feed has been read to its end once. `GET /v1/feeds` has the details, for administrators.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = Ready), (status = 503, body = ErrorBody)))]
pub async fn readyz(State(services): State<Arc<Services>>) -> Result<Json<Ready>, ApiError> {
    let unavailable = |why: String| ApiError::new(ErrorKind::Unavailable, why, None);
    let health = services.probe.ready().map_err(|e| unavailable(e.to_string()))?;
    if !services.feeds.is_ready() {
        return Err(unavailable("a Kafka feed has not caught up with its topic yet: GET /v1/feeds says which, and why".to_owned()));
    }
    Ok(Json(Ready { ready: true, collections: health.collections, damaged: health.damaged }))
}

/// The feeds of this server.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Feeds {
    feeds: Vec<FeedState>,
}

/// The Kafka feed of each fed collection: how far it is, what it waits for, and what it could not read. Needs the role `admin`.
#[utoipa::path(get, path = "/v1/feeds", responses((status = 200, body = Feeds)))]
pub async fn feeds(State(services): State<Arc<Services>>) -> Json<Feeds> {
    Json(Feeds { feeds: services.feeds.list() })
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
