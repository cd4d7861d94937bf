//! Requests to a whole server: the first line is a method and one of `ROUTES`, the rest the body. Nothing panics, nothing is an error of the server.
#![no_main]

use std::sync::LazyLock;

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use kindred::app::App;
use kindred::collection::Access;
use kindred::config::{Settings, Sources};
use kindred::http::Router;
use kindred_fuzz::{documents, scratch};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::json;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// What may be asked: nothing that writes outside of the data folder, nothing that begins long work.
const ROUTES: [&str; 27] = [
    "POST /v1/collections/jobs/search",
    "POST /v1/collections/jobs/explain",
    "POST /v1/collections/jobs/recall",
    "PUT /v1/collections/jobs/documents",
    "PATCH /v1/collections/jobs/documents",
    "POST /v1/collections/jobs/documents/delete",
    "PUT /v1/collections/jobs/documents/x",
    "PATCH /v1/collections/jobs/documents/x",
    "PUT /v1/collections/jobs/profiles/p",
    "PUT /v1/collections/posts",
    "POST /v1/match",
    "POST /v1/fit",
    "POST /v1/embeddings",
    "POST /embed",
    "POST /rerank",
    "POST /v1/rerank",
    "POST /v2/rerank",
    "POST /similarity",
    "POST /tokenize",
    "POST /mcp",
    "PUT /collections/q",
    "PUT /collections/q/points",
    "POST /collections/q/points/query",
    "POST /collections/q/points/search",
    "POST /collections/q/points/scroll",
    "POST /collections/q/points/count",
    "POST /collections/q/points/delete",
];

struct Server {
    runtime: Runtime,
    router: Router,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/all-MiniLM-L6-v2");
    let cross_encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/cross_encoder/one");
    let flags = vec![
        format!("encoder.model_dir={models:?}"),
        format!("cross_encoder.model_dir={cross_encoder:?}"),
        format!("storage.data_dir={:?}", scratch().display().to_string()),
        "http.max_body_bytes=200000".to_owned(),
    ];
    let settings = Settings::load(&Sources { file: None, environment: Vec::new(), flags }).expect("sound settings");
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let router = App::open(&settings, Access::Serve).expect("`kindred fetch` has fetched the model").into_router(None);
    drop(_inside);
    let server = Server { runtime, router };
    let documents = json!(documents()).to_string();
    assert_eq!(server.ask("PUT /v1/collections/jobs/documents", documents.as_bytes()), 200);
    server
});

impl Server {
    fn ask(&self, route: &str, body: &[u8]) -> u16 {
        let (method, path) = route.split_once(' ').expect("a route");
        let request =
            Request::builder().method(method).uri(path).header(header::HOST, "localhost").header(header::CONTENT_TYPE, "application/json");
        let request =
            request.header(header::ACCEPT, "application/json, text/event-stream").body(Body::from(body.to_vec())).expect("a request");
        self.runtime.block_on(async {
            let answer = self.router.clone().oneshot(request).await.expect("routers answer");
            let status = answer.status().as_u16();
            let body = to_bytes(answer.into_body(), usize::MAX).await.expect("answers end");
            assert!(status < 500, "{status}: {}", String::from_utf8_lossy(&body));
            status
        })
    }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let (route, body) = bytes.iter().position(|&b| b == b'\n').map_or((bytes, &b""[..]), |at| (&bytes[..at], &bytes[at + 1..]));
    let Some(route) = ROUTES.iter().find(|known| known.as_bytes() == route) else { return Corpus::Reject };
    SERVER.ask(route, body);
    Corpus::Keep
});
