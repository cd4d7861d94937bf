//! The HTTP API: every route on one page.
//!
//! | file | routes |
//! |---|---|
//! | `search.rs` | `POST /v1/collections/{c}/search`, `POST …/explain`, `POST /v1/match` |
//! | `recall.rs` | `POST /v1/collections/{c}/recall` |
//! | `evaluations.rs` | `POST /v1/evaluations`, `GET /v1/evaluations/{task}`, `GET …/svg` |
//! | `fit.rs` | `POST /v1/fit` |
//! | `documents.rs` | `PUT`, `PATCH /v1/collections/{c}/documents`, `POST …/documents/delete`, `GET`, `PUT`, `PATCH`, `DELETE …/documents/{id}` |
//! | `generations.rs` | `POST /v1/collections/{c}/rebuild`, `GET …/generations`, `POST …/generations/{id}/activate`, `POST …/rollback` |
//! | `snapshots.rs` | `POST /v1/snapshots` |
//! | `tasks.rs` | `GET /v1/tasks`, `GET`, `DELETE /v1/tasks/{id}`, `GET …/events` |
//! | `compat/openai.rs` | `POST /v1/embeddings`, `GET /v1/models`, `GET /v1/models/{id}`, as OpenAI answers |
//! | `compat/tei.rs` | `POST /embed /similarity /tokenize /`, `GET /info /health`, as text-embeddings-inference answers |
//! | `compat/tei_rerank.rs` | `POST /rerank`, as text-embeddings-inference answers |
//! | `compat/cohere.rs` | `POST /v1/rerank`, `POST /v2/rerank`, as Cohere and Jina answer |
//! | `collections.rs` | `GET /v1/collections`, `GET`, `PUT`, `DELETE /v1/collections/{c}` |
//! | `operations.rs` | `GET /healthz /livez /readyz /metrics /v1/info /openapi.json` |
//! | `console.rs` | `GET /`, `GET /console/{*file}`: the page for people |
//! | `body.rs` | JSON bodies whose errors name the field |
//! | `path.rs` | parts of the path and of the query string |
//! | `gate.rs` | answering from the first moment, before the server is ready |
//! | `error.rs` | the one error shape, and the one map from kinds of errors to statuses |
//! | `request.rs` | request ids, logs and metrics of every request |

mod body;
mod collections;
mod compat;
mod console;
mod documents;
mod error;
mod evaluations;
mod fit;
mod gate;
mod generations;
mod operations;
mod path;
mod profiles;
mod recall;
mod request;
mod search;
mod snapshots;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

pub use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::middleware;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::ingest::kafka::FeedStates;
use crate::pipeline::evaluate::EvaluationPipeline;
use crate::pipeline::{
    Catalog, EmbedPipeline, Expirer, FitPipeline, PipelineError, ProfileCatalog, QueryPipeline, RebuildPipeline, RerankPipeline,
    SnapshotPipeline, Tasks, WritePipeline,
};
use compat::{cohere, openai, tei, tei_rerank};
use error::ApiError;
pub use gate::Gate;

/// What the handlers need.
#[derive(Debug)]
pub struct Services {
    pub query: Arc<QueryPipeline>,
    pub evaluations: Arc<EvaluationPipeline>,
    pub embed: EmbedPipeline,
    pub fit: FitPipeline,
    pub rerank: Arc<RerankPipeline>,
    pub write: Arc<WritePipeline>,
    pub rebuild: Arc<RebuildPipeline>,
    pub snapshots: SnapshotPipeline,
    pub catalog: Arc<Catalog>,
    pub profiles: Arc<ProfileCatalog>,
    pub tasks: Arc<Tasks>,
    pub feeds: FeedStates,
    pub max_body_bytes: usize,
    /// Whether documents and collections come from elsewhere.
    pub read_only: bool,
    /// Works as long as there are routes.
    pub _expirer: Option<Expirer>,
}

impl Services {
    /// Refuses what would change documents or collections, where they come from elsewhere.
    fn may_write(&self) -> Result<(), PipelineError> {
        if self.read_only { Err(PipelineError::ReadOnly) } else { Ok(()) }
    }
}

#[derive(OpenApi)]
#[openapi(info(title = "Kindred", description = "Find jobs and members by meaning."))]
struct ApiDoc;

/// All routes.
pub fn router(services: Services) -> Router {
    let max_body_bytes = services.max_body_bytes;
    let (router, api) = OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(search::search))
        .routes(routes!(search::explain))
        .routes(routes!(search::match_documents))
        .routes(routes!(recall::recall))
        .routes(routes!(evaluations::start))
        .routes(routes!(evaluations::get))
        .routes(routes!(evaluations::picture))
        .routes(routes!(fit::fit))
        .routes(routes!(collections::list))
        .routes(routes!(collections::get, collections::put, collections::delete))
        .routes(routes!(documents::put, documents::patch))
        .routes(routes!(documents::delete_some))
        .routes(routes!(documents::get, documents::put_one, documents::patch_one, documents::delete))
        .routes(routes!(profiles::list))
        .routes(routes!(profiles::get, profiles::put, profiles::delete))
        .routes(routes!(generations::rebuild))
        .routes(routes!(generations::list))
        .routes(routes!(generations::activate))
        .routes(routes!(generations::roll_back))
        .routes(routes!(snapshots::create))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::get, tasks::cancel))
        .routes(routes!(tasks::events))
        .routes(routes!(openai::embeddings))
        .routes(routes!(openai::models))
        .routes(routes!(openai::model))
        .routes(routes!(tei::embed))
        .routes(routes!(tei::embed_at_root))
        .routes(routes!(tei_rerank::rerank))
        .routes(routes!(cohere::rerank_v1))
        .routes(routes!(cohere::rerank_v2))
        .routes(routes!(tei::similarity))
        .routes(routes!(tei::tokenize))
        .routes(routes!(tei::info))
        .routes(routes!(tei::health))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::livez))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
        .routes(routes!(operations::info))
        .split_for_parts();
    let api = api.to_json().expect("the description is made of strings");
    router
        .merge(console::routes())
        .route("/openapi.json", axum::routing::get(move || operations::openapi(api.clone())))
        .fallback(async |uri: Uri| compat::error_at(uri.path(), ApiError::unknown_route()))
        .method_not_allowed_fallback(async |uri: Uri| compat::error_at(uri.path(), ApiError::wrong_method()))
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .layer(middleware::from_fn(request::observe))
        .with_state(Arc::new(services))
}

/// Time that requests under way have to finish when the server is told to end.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves what is behind the gate until `end` comes; requests under way are answered first, if they do not take too long.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, gate: Gate, end: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    // Answers are small and wanted at once: they must not wait for more bytes to travel with.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    let (ending, ended) = oneshot::channel::<()>();
    let server = axum::serve(listener, gate.router()).with_graceful_shutdown(async move {
        end.await;
        let _ = ending.send(());
    });
    let overdue = async {
        match ended.await {
            Ok(()) => tokio::time::sleep(DRAIN).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        served = server.into_future() => served,
        () = overdue => {
            tracing::warn!("ended with requests under way: they took longer than {} s", DRAIN.as_secs());
            Ok(())
        }
    }
}
