//! The HTTP API.
//!
//! | file | routes |
//! |---|---|
//! | `search.rs` | `POST /v1/collections/{c}/search`, `POST …/explain`, `POST /v1/match` |
//! | `recall.rs` | `GET`, `POST /v1/collections/{c}/recall` |
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
//! | `mcp/` | `POST /mcp`: tools for agents |
//! | `compat/qdrant/` | `/collections` and below: a part of Qdrant's API |
//! | `collections.rs` | `GET /v1/collections`, `GET`, `PUT`, `DELETE /v1/collections/{c}` |
//! | `operations.rs` | `GET /healthz /livez /readyz /metrics /v1/info` |
//! | `routes.rs` | the table of all routes: what each needs, its errors, its limit, its handler |
//! | `auth/` | who asks, and whether they may |
//! | `probe.rs` | the background probe that `/livez` and `/readyz` report |
//! | `connections.rs`, `places.rs` | accepting connections, with TLS or without; how many, and how they end |
//! | `console.rs` | `GET /`, `GET /console/{*file}`: the page for people |
//! | `openapi.rs` | `GET /openapi.json`: the description of documented routes |
//! | `body.rs` | JSON bodies whose errors name the field |
//! | `admission.rs` | bodies before they are read: their length, memory, pace and compression |
//! | `answer.rs` | answers whose JSON may be long |
//! | `path.rs` | parts of the path and of the query string |
//! | `gate.rs` | answering from the first moment, before the server is ready |
//! | `error.rs` | the one error shape, and the one map from kinds of errors to statuses |
//! | `request.rs` | ids, log lines, metrics and traces of requests; panics |

mod admission;
mod answer;
mod auth;
mod body;
mod collections;
mod compat;
mod connections;
mod console;
mod documents;
mod error;
mod evaluations;
mod fit;
mod gate;
mod generations;
#[cfg(feature = "mcp")]
mod mcp;
mod openapi;
mod operations;
mod path;
mod places;
mod probe;
mod profiles;
mod recall;
mod request;
mod routes;
mod search;
mod snapshots;
mod tasks;

use std::sync::Arc;

pub use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;

use crate::ingest::kafka::FeedStates;
use crate::pipeline::evaluate::EvaluationPipeline;
use crate::pipeline::{
    Catalog, EmbedPipeline, Expirer, FitPipeline, PipelineError, ProfileCatalog, QueryPipeline, RebuildPipeline, RerankPipeline,
    SnapshotPipeline, Tasks, WritePipeline,
};
pub use auth::{Keys, KeysError, NewKey, Role, own_names};
pub use connections::{Certificate, ConnectionSettings, serve};
use error::ApiError;
pub use gate::Gate;
pub use probe::Probe;
pub use routes::{About, Body, Errors, Handler, Need, ROUTES, Route};

/// Names of this machine, as its own clients call it.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

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
    /// Without them, everyone may do everything.
    pub keys: Option<Arc<Keys>>,
    pub max_body_bytes: usize,
    /// Where pages may come from that ask from a browser.
    pub cors_origins: Vec<String>,
    /// Whether documents and collections come from elsewhere.
    pub read_only: bool,
    /// Names by which clients may call this server, without port; empty: any.
    pub hosts: Vec<String>,
    /// Whether agents may call tools at `/mcp`.
    pub mcp: bool,
    pub probe: Probe,
    /// Works as long as there are routes.
    pub _expirer: Option<Expirer>,
}

impl Services {
    /// Refuses what would change documents or collections, where they come from elsewhere.
    fn may_write(&self) -> Result<(), PipelineError> {
        if self.read_only { Err(PipelineError::ReadOnly) } else { Ok(()) }
    }
}

/// Shorter answers are sent as they are, whatever the client accepts.
const MIN_COMPRESSED_BYTES: u16 = 256;

/// Lets pages of these origins ask, and no other.
fn cors(origins: &[String]) -> CorsLayer {
    if origins.is_empty() {
        // It adds no header, and browsers refuse what has none.
        return CorsLayer::new();
    }
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
}

/// All routes, behind what every request goes through: from the outermost, CORS, compression of the answer, its id, the pace of its
/// body, its route, authorisation, and the room and length of its body.
pub fn router(services: Services) -> Router {
    let (max_body_bytes, cors) = (services.max_body_bytes, cors(&services.cors_origins));
    let guard =
        Arc::new(auth::Guard { keys: services.keys.clone(), hosts: services.hosts.clone(), origins: services.cors_origins.clone() });
    let admission = Arc::new(admission::Admission::new(max_body_bytes));
    let services = Arc::new(services);
    let add = |router: Router<Arc<Services>>, route: &Route| {
        let limit = DefaultBodyLimit::max(route.body.max_bytes(max_body_bytes));
        router.route(route.path, route.method_router(&services).layer(limit))
    };
    let compressed = SizeAbove::new(MIN_COMPRESSED_BYTES).and(NotForContentType::SSE);
    ROUTES
        .iter()
        .fold(Router::new(), add)
        .fallback(async |method: Method, uri: Uri| routes::errors_at(&method, uri.path()).answer(ApiError::unknown_route()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            routes::errors_at(&method, uri.path()).answer(ApiError::wrong_method())
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&admission), admission::hold_room))
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(middleware::from_fn(admission::check_encoding))
        .layer(middleware::from_fn_with_state(admission, admission::refuse_long))
        .layer(middleware::from_fn_with_state(guard, auth::authorize))
        .layer(middleware::from_fn(admission::read_short))
        .layer(middleware::from_fn(admission::keep_pace))
        .layer(middleware::from_fn(request::observe))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(compressed))
        .layer(cors)
        .with_state(services)
}
