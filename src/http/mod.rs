//! The HTTP API: every route on one page.
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
//! | `operations.rs` | `GET /healthz /livez /readyz /metrics /v1/info /openapi.json` |
//! | `auth/` | who asks, and whether they may |
//! | `connections.rs` | how connections are taken, with TLS or without, and how they end |
//! | `console.rs` | `GET /`, `GET /console/{*file}`: the page for people |
//! | `body.rs` | JSON bodies whose errors name the field |
//! | `path.rs` | parts of the path and of the query string |
//! | `gate.rs` | answering from the first moment, before the server is ready |
//! | `error.rs` | the one error shape, and the one map from kinds of errors to statuses |
//! | `request.rs` | ids, log lines, metrics and traces of requests |

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
use axum::http::{HeaderValue, Uri};
use axum::middleware;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa::openapi::Required;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::ingest::kafka::FeedStates;
use crate::pipeline::evaluate::EvaluationPipeline;
use crate::pipeline::{
    Catalog, EmbedPipeline, Expirer, FitPipeline, PipelineError, ProfileCatalog, QueryPipeline, RebuildPipeline, RerankPipeline,
    SnapshotPipeline, Tasks, WritePipeline,
};
pub use auth::{Keys, KeysError, NewKey, Role, own_names};
use compat::{cohere, openai, qdrant, tei, tei_rerank};
pub use connections::{Certificate, ConnectionSettings, serve};
use error::ApiError;
pub use gate::Gate;

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
#[openapi(info(title = "Kindred", description = "Find jobs and members by meaning."), modifiers(&ApiKeys))]
struct ApiDoc;

/// Where a server has API keys, requests bring one.
struct ApiKeys;

impl Modify for ApiKeys {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        api.components.get_or_insert_default().add_security_scheme("key", scheme);
        // One or the other: without keys, none is needed.
        api.security = Some(vec![SecurityRequirement::default(), SecurityRequirement::new("key", Vec::<String>::new())]);
    }
}

/// Describes what the braces of paths stand for.
fn describe_path_parts(api: &mut utoipa::openapi::OpenApi) {
    for (path, item) in &mut api.paths.paths {
        let names: Vec<&str> = path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect();
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            let parameters = operation.parameters.get_or_insert_default();
            for name in &names {
                let text = Object::with_type(Type::String);
                let parameter =
                    ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Path).required(Required::True).schema(Some(text));
                parameters.push(parameter.build().into());
            }
        }
    }
}

/// Time within which the next part of a body must come.
const BODY: Duration = Duration::from_secs(30);

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

/// All routes.
pub fn router(services: Services) -> Router {
    let (max_body_bytes, cors) = (services.max_body_bytes, cors(&services.cors_origins));
    let guard =
        Arc::new(auth::Guard { keys: services.keys.clone(), hosts: services.hosts.clone(), origins: services.cors_origins.clone() });
    let (router, mut api) = OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(search::search))
        .routes(routes!(search::explain))
        .routes(routes!(search::match_documents))
        .routes(routes!(recall::recall, recall::history))
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
        .routes(routes!(qdrant::collections::list))
        .routes(routes!(qdrant::collections::get, qdrant::collections::create, qdrant::collections::delete))
        .routes(routes!(qdrant::collections::exists))
        .routes(routes!(qdrant::index::index))
        .routes(routes!(qdrant::points::upsert, qdrant::points::retrieve))
        .routes(routes!(qdrant::points::get))
        .routes(routes!(qdrant::points::delete))
        .routes(routes!(qdrant::listing::scroll))
        .routes(routes!(qdrant::listing::count))
        .routes(routes!(qdrant::search::query))
        .routes(routes!(qdrant::search::search))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::livez))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
        .routes(routes!(operations::info))
        .split_for_parts();
    describe_path_parts(&mut api);
    let api = api.to_json().expect("the description is made of strings");
    let services = Arc::new(services);
    #[cfg(feature = "mcp")]
    let router = if services.mcp { router.route_service("/mcp", mcp::service(&services)) } else { router };
    #[cfg(not(feature = "mcp"))]
    let router =
        if services.mcp { router.route("/mcp", axum::routing::any(async || ApiError::left_out(&crate::optional::MCP))) } else { router };
    router
        .merge(console::routes())
        .route("/openapi.json", axum::routing::get(move || operations::openapi(api.clone())))
        .fallback(async |uri: Uri| compat::error_at(uri.path(), ApiError::unknown_route()))
        .method_not_allowed_fallback(async |uri: Uri| compat::error_at(uri.path(), ApiError::wrong_method()))
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .layer(middleware::from_fn_with_state(max_body_bytes, body::refuse_long))
        .layer(middleware::from_fn_with_state(guard, auth::authorize))
        .layer(middleware::from_fn(body::read_short))
        .layer(RequestBodyTimeoutLayer::new(BODY))
        .layer(middleware::from_fn(request::observe))
        .layer(cors)
        .with_state(services)
}
