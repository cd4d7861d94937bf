//! Every route on one page: the table that router, authorisation, error shapes, body limits, the API's description and the tests read.

use std::sync::Arc;

use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use super::auth::Role;
use super::compat::{cohere, openai, qdrant, tei, tei_rerank};
use super::error::ApiError;
use super::{Services, collections, console, documents, evaluations, fit, generations, openapi, operations, profiles, recall};
use super::{search, snapshots, tasks};

/// A method at a path, and everything that the server knows of it before its handler runs.
#[derive(Debug)]
pub struct Route {
    /// `ANY` stands for all.
    pub method: &'static str,
    pub path: &'static str,
    pub need: Need,
    pub errors: Errors,
    pub body: Body,
    pub handler: Handler,
}

/// What a request needs to be let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Health probes need no key. Exempt from the Host check because orchestrators call them by IP address, and answered on the
    /// connections that are reserved for them.
    Probe,
    /// No key: what is the same for everybody.
    Nothing,
    /// A key of this role. The second part tells where the request names collections.
    Key(Role, About),
}

/// Which collections a request is about, which is what keys of some collections are checked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// None, or a task: the handler checks the task's collection.
    Nothing,
    /// The `{collection}` of the path. Checked before the handler runs.
    Path,
    /// Those that the body names. Handlers read them as `collections::Named`, which checks them.
    Body,
    /// All that the caller may see: the handler leaves out the others.
    Visible,
    /// All of them: keys of some collections are refused.
    All,
}

/// The shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    Kindred,
    OpenAi,
    Tei,
    Cohere,
    Qdrant,
}

/// How long the body of a request may be, within `http.max_body_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// A question, a definition: 1 MiB. Also of requests that need none.
    Small,
    /// Lists of texts or ids: 16 MiB.
    List,
    /// Documents, profiles with their trees, judgments: what the setting allows.
    Documents,
}

/// What answers.
#[derive(Debug)]
pub enum Handler {
    /// Described in the OpenAPI document.
    Documented(fn() -> UtoipaMethodRouter<Arc<Services>>),
    Undocumented(fn(&Arc<Services>) -> MethodRouter<Arc<Services>>),
}

impl Body {
    /// Most bytes, after decompression.
    pub fn max_bytes(self, max_body_bytes: usize) -> usize {
        match self {
            Self::Small => max_body_bytes.min(1 << 20),
            Self::List => max_body_bytes.min(16 << 20),
            Self::Documents => max_body_bytes,
        }
    }
}

impl Errors {
    /// Answers with an error in this shape.
    pub fn answer(self, error: ApiError) -> Response {
        match self {
            Self::Kindred => error.into_response(),
            Self::OpenAi => openai::Error::from(error).into_response(),
            Self::Tei => tei::Error::from(error).into_response(),
            Self::Cohere => cohere::Error::from(error).into_response(),
            Self::Qdrant => qdrant::Error::from(error).into_response(),
        }
    }
}

impl Route {
    /// What answers at this route.
    pub(super) fn method_router(&self, services: &Arc<Services>) -> MethodRouter<Arc<Services>> {
        match self.handler {
            Handler::Documented(handler) => handler().2,
            Handler::Undocumented(handler) => handler(services),
        }
    }

    fn takes(&self, method: &Method) -> bool {
        self.method == "ANY" || self.method == method.as_str() || self.method == GET && *method == Method::HEAD
    }
}

/// Returns the route of a method at the pattern of a path.
pub(super) fn find(method: &Method, pattern: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == pattern && route.takes(method))
}

/// True if a path is a probe's.
pub(super) fn is_probe(path: &str) -> bool {
    ROUTES.iter().any(|route| route.need == Need::Probe && route.path == path)
}

/// Returns the shape of errors at a path. Where there is no route it is that of the route that the path continues, below
/// `/collections` for example.
pub(super) fn errors_at(method: &Method, path: &str) -> Errors {
    let continues = |route: &&Route| {
        let (pattern, parts) = (route.path.split('/').skip(1), path.split('/').skip(1));
        let is_one = |(pattern, part): (&str, Option<&str>)| part.is_some_and(|part| matches(pattern, part));
        pattern.zip(parts.map(Some).chain(std::iter::repeat(None))).all(is_one)
    };
    let n_parts = |path: &str| path.split('/').count();
    let nearest = ROUTES.iter().filter(continues).max_by_key(|route| (n_parts(route.path), route.takes(method)));
    nearest.map_or(Errors::Kindred, |route| route.errors)
}

fn matches(pattern: &str, part: &str) -> bool {
    pattern == part || pattern.starts_with('{') && !part.is_empty()
}

const GET: &str = "GET";
const PUT: &str = "PUT";
const POST: &str = "POST";
const PATCH: &str = "PATCH";
const DELETE: &str = "DELETE";

const PROBE: Need = Need::Probe;
const OPEN: Need = Need::Nothing;
/// A key that may read, and so on, with the collection in the path.
const READ: Need = Need::Key(Role::Read, About::Path);
const WRITE: Need = Need::Key(Role::Write, About::Path);
const ADMIN: Need = Need::Key(Role::Admin, About::Path);

const fn reads(about: About) -> Need {
    Need::Key(Role::Read, about)
}

const fn administers(about: About) -> Need {
    Need::Key(Role::Admin, about)
}

const fn route(method: &'static str, path: &'static str, need: Need, errors: Errors, body: Body, handler: Handler) -> Route {
    Route { method, path, need, errors, body, handler }
}

/// A handler with its description.
macro_rules! doc {
    ($($handler:ident)::+) => { Handler::Documented(|| routes!($($handler)::+)) };
}

use self::About::{All, Nothing, Visible};
use self::Body::{Documents, List, Small};
use self::Errors::{Cohere, Kindred, OpenAi, Qdrant, Tei};
use self::Handler::Undocumented;

/// All routes. A path's handlers may be in several rows, one a method.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    // Searches.
    route(POST,   "/v1/collections/{collection}/search",          READ,  Kindred, Small, doc!(search::search)),
    route(POST,   "/v1/collections/{collection}/explain",         READ,  Kindred, Small, doc!(search::explain)),
    route(POST,   "/v1/match",                      reads(About::Body),  Kindred, Small, doc!(search::match_documents)),
    route(POST,   "/v1/fit",                        reads(About::Body),  Kindred, Small, doc!(fit::fit)),
    // How good they are.
    route(POST,   "/v1/collections/{collection}/recall",          ADMIN, Kindred, Small, doc!(recall::recall)),
    route(GET,    "/v1/collections/{collection}/recall",          READ,  Kindred, Small, doc!(recall::history)),
    route(POST,   "/v1/evaluations",          administers(About::Body),  Kindred, Documents, doc!(evaluations::start)),
    route(GET,    "/v1/evaluations/{task}",              reads(Nothing), Kindred, Small, doc!(evaluations::get)),
    route(GET,    "/v1/evaluations/{task}/svg",          reads(Nothing), Kindred, Small, doc!(evaluations::picture)),
    // Collections and documents.
    route(GET,    "/v1/collections",                     reads(Visible), Kindred, Small, doc!(collections::list)),
    route(GET,    "/v1/collections/{collection}",                 READ,  Kindred, Small, doc!(collections::get)),
    route(PUT,    "/v1/collections/{collection}",                 ADMIN, Kindred, Small, doc!(collections::put)),
    route(DELETE, "/v1/collections/{collection}",                 ADMIN, Kindred, Small, doc!(collections::delete)),
    route(PUT,    "/v1/collections/{collection}/documents",       WRITE, Kindred, Documents, doc!(documents::put)),
    route(PATCH,  "/v1/collections/{collection}/documents",       WRITE, Kindred, Documents, doc!(documents::patch)),
    route(POST,   "/v1/collections/{collection}/documents/delete", WRITE, Kindred, List, doc!(documents::delete_some)),
    route(GET,    "/v1/collections/{collection}/documents/{id}",  READ,  Kindred, Small, doc!(documents::get)),
    route(PUT,    "/v1/collections/{collection}/documents/{id}",  WRITE, Kindred, Documents, doc!(documents::put_one)),
    route(PATCH,  "/v1/collections/{collection}/documents/{id}",  WRITE, Kindred, Documents, doc!(documents::patch_one)),
    route(DELETE, "/v1/collections/{collection}/documents/{id}",  WRITE, Kindred, Small, doc!(documents::delete)),
    // Profiles, generations, tasks.
    route(GET,    "/v1/collections/{collection}/profiles",        READ,  Kindred, Small, doc!(profiles::list)),
    route(GET,    "/v1/collections/{collection}/profiles/{profile}", READ, Kindred, Small, doc!(profiles::get)),
    route(PUT,    "/v1/collections/{collection}/profiles/{profile}", ADMIN, Kindred, Documents, doc!(profiles::put)),
    route(DELETE, "/v1/collections/{collection}/profiles/{profile}", ADMIN, Kindred, Small, doc!(profiles::delete)),
    route(POST,   "/v1/collections/{collection}/rebuild",         ADMIN, Kindred, Small, doc!(generations::rebuild)),
    route(GET,    "/v1/collections/{collection}/generations",     READ,  Kindred, Small, doc!(generations::list)),
    route(POST,   "/v1/collections/{collection}/generations/{id}/activate", ADMIN, Kindred, Small, doc!(generations::activate)),
    route(POST,   "/v1/collections/{collection}/rollback",        ADMIN, Kindred, Small, doc!(generations::roll_back)),
    route(POST,   "/v1/snapshots",                  administers(All),    Kindred, Small, doc!(snapshots::create)),
    route(GET,    "/v1/tasks",                           reads(Visible), Kindred, Small, doc!(tasks::list)),
    route(GET,    "/v1/tasks/{id}",                      reads(Nothing), Kindred, Small, doc!(tasks::get)),
    route(DELETE, "/v1/tasks/{id}",                administers(Nothing), Kindred, Small, doc!(tasks::cancel)),
    route(GET,    "/v1/tasks/{id}/events",               reads(Nothing), Kindred, Small, doc!(tasks::events)),
    // Operations.
    route(GET,    "/healthz",                                     PROBE, Kindred, Small, doc!(operations::healthz)),
    route(GET,    "/livez",                                       PROBE, Kindred, Small, doc!(operations::livez)),
    route(GET,    "/readyz",                                      PROBE, Kindred, Small, doc!(operations::readyz)),
    route(GET,    "/metrics",                            reads(All),     Kindred, Small, doc!(operations::metrics)),
    route(GET,    "/v1/feeds",                      administers(All),     Kindred, Small, doc!(operations::feeds)),
    route(GET,    "/v1/info",                            reads(Visible), Kindred, Small, doc!(operations::info)),
    route(GET,    "/openapi.json",                                OPEN,  Kindred, Small, Undocumented(|_| get(openapi::description))),
    // The console.
    route(GET,    console::INDEX,                                 OPEN,  Kindred, Small, Undocumented(|_| get(console::index))),
    route(GET,    console::FILES_PATH,                            OPEN,  Kindred, Small, Undocumented(|_| get(console::file))),
    // As OpenAI's API.
    route(POST,   "/v1/embeddings",                      reads(Nothing), OpenAi,  List,  doc!(openai::embeddings)),
    route(GET,    "/v1/models",                          reads(Nothing), OpenAi,  Small, doc!(openai::models)),
    route(GET,    "/v1/models/{id}",                     reads(Nothing), OpenAi,  Small, doc!(openai::model)),
    // As text-embeddings-inference, which embeds at the root, too.
    route(POST,   "/embed",                              reads(Nothing), Tei,     List,  doc!(tei::embed)),
    route(POST,   "/",                                   reads(Nothing), Tei,     List,  doc!(tei::embed_at_root)),
    route(POST,   "/rerank",                             reads(Nothing), Tei,     List,  doc!(tei_rerank::rerank)),
    route(POST,   "/similarity",                         reads(Nothing), Tei,     List,  doc!(tei::similarity)),
    route(POST,   "/tokenize",                           reads(Nothing), Tei,     List,  doc!(tei::tokenize)),
    route(GET,    "/info",                               reads(Nothing), Tei,     Small, doc!(tei::info)),
    route(GET,    "/health",                                      PROBE, Tei,     Small, doc!(tei::health)),
    // As Cohere's API, and Jina's.
    route(POST,   "/v1/rerank",                          reads(Nothing), Cohere,  List,  doc!(cohere::rerank_v1)),
    route(POST,   "/v2/rerank",                          reads(Nothing), Cohere,  List,  doc!(cohere::rerank_v2)),
    // As Qdrant's API.
    route(GET,    "/collections",                        reads(Visible), Qdrant,  Small, doc!(qdrant::collections::list)),
    route(GET,    "/collections/{collection}",                    READ,  Qdrant,  Small, doc!(qdrant::collections::get)),
    route(PUT,    "/collections/{collection}",                    ADMIN, Qdrant,  Small, doc!(qdrant::collections::create)),
    route(DELETE, "/collections/{collection}",                    ADMIN, Qdrant,  Small, doc!(qdrant::collections::delete)),
    route(GET,    "/collections/{collection}/exists",             READ,  Qdrant,  Small, doc!(qdrant::collections::exists)),
    route(PUT,    "/collections/{collection}/index",              ADMIN, Qdrant,  Small, doc!(qdrant::index::index)),
    route(PUT,    "/collections/{collection}/points",             WRITE, Qdrant,  Documents, doc!(qdrant::points::upsert)),
    route(POST,   "/collections/{collection}/points",             READ,  Qdrant,  List,  doc!(qdrant::points::retrieve)),
    route(GET,    "/collections/{collection}/points/{id}",        READ,  Qdrant,  Small, doc!(qdrant::points::get)),
    route(POST,   "/collections/{collection}/points/delete",      WRITE, Qdrant,  List,  doc!(qdrant::points::delete)),
    route(POST,   "/collections/{collection}/points/scroll",      READ,  Qdrant,  Small, doc!(qdrant::listing::scroll)),
    route(POST,   "/collections/{collection}/points/count",       READ,  Qdrant,  Small, doc!(qdrant::listing::count)),
    route(POST,   "/collections/{collection}/points/query",       READ,  Qdrant,  Small, doc!(qdrant::search::query)),
    route(POST,   "/collections/{collection}/points/search",      READ,  Qdrant,  Small, doc!(qdrant::search::search)),
    // Tools for agents, of which some name collections in their arguments.
    route("ANY",  "/mcp",                           reads(About::Body),  Kindred, Small, Undocumented(mcp)),
];

#[cfg(feature = "mcp")]
fn mcp(services: &Arc<Services>) -> MethodRouter<Arc<Services>> {
    match services.mcp {
        true => super::mcp::routes(services),
        false => any(async || ApiError::unknown_route()),
    }
}

#[cfg(not(feature = "mcp"))]
fn mcp(services: &Arc<Services>) -> MethodRouter<Arc<Services>> {
    match services.mcp {
        true => any(async || ApiError::left_out(&crate::optional::MCP)),
        false => any(async || ApiError::unknown_route()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Method and path are in the table for those who read it, and in the handler's description for utoipa.
    #[test]
    fn descriptions_are_of_their_routes() {
        for route in ROUTES {
            let Handler::Documented(handler) = route.handler else { continue };
            let (_, paths, _) = handler();
            let described: Vec<&String> = paths.paths.keys().collect();
            assert_eq!(described, [route.path]);
            let item = &paths.paths[route.path];
            let methods = [(GET, &item.get), (PUT, &item.put), (POST, &item.post), (PATCH, &item.patch), (DELETE, &item.delete)];
            let methods: Vec<&str> = methods.into_iter().filter(|(_, operation)| operation.is_some()).map(|(name, _)| name).collect();
            assert_eq!(methods, [route.method], "{}", route.path);
        }
    }

    #[test]
    fn the_table_is_sound() {
        let all: BTreeSet<_> = ROUTES.iter().map(|route| (route.path, route.method)).collect();
        assert_eq!(all.len(), ROUTES.len(), "a route is in it twice");
        for route in ROUTES {
            let is_scoped_by_path = matches!(route.need, Need::Key(_, About::Path));
            assert_eq!(route.path.contains("{collection}"), is_scoped_by_path, "{} {}", route.method, route.path);
        }
        let open: Vec<_> = ROUTES.iter().filter(|route| route.need == Need::Nothing).map(|route| (route.method, route.path)).collect();
        assert_eq!(open, [(GET, "/openapi.json"), (GET, "/"), (GET, "/console/{*file}")], "nothing is open by mistake");
        let probes: Vec<_> = ROUTES.iter().filter(|route| route.need == Need::Probe).map(|route| route.path).collect();
        assert_eq!(probes, ["/healthz", "/livez", "/readyz", "/health"]);
    }

    #[test]
    fn errors_have_the_shape_of_their_neighbours() {
        for (method, path, errors) in [
            (POST, "/", Errors::Tei),
            (GET, "/", Errors::Kindred),
            (DELETE, "/embed", Errors::Tei),
            (GET, "/v1/models/a", Errors::OpenAi),
            (GET, "/v1/models/a/b", Errors::OpenAi),
            (GET, "/v1/nothing", Errors::Kindred),
            (GET, "/v2/nothing", Errors::Kindred),
            (GET, "/v2/rerank", Errors::Cohere),
            (GET, "/embed/nothing", Errors::Tei),
            (POST, "/collections/jobs/points/nothing", Errors::Qdrant),
            (POST, "/collections/jobs/nothing/nothing", Errors::Qdrant),
            (POST, "/collections", Errors::Qdrant),
            (GET, "/v1/collections/jobs/nothing", Errors::Kindred),
            (GET, "/nothing", Errors::Kindred),
            (GET, "", Errors::Kindred),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(errors_at(&method, path), errors, "{method} {path}");
        }
    }
}
