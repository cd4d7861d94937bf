//! A typed client of a running server, for other Rust programs.
//!
//! ```no_run
//! # async fn example() -> Result<(), kindred::client::ClientError> {
//! use kindred::client::{Client, Search};
//!
//! let client = Client::new("http://127.0.0.1:7700")?.with_key("kindred_…");
//! let found = client.search("jobs", &Search::text("night nurse").limit(3)).await?;
//! for hit in &found.hits {
//!     println!("{:.3} {} {}", hit.score, hit.id, hit.fields["title"]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What the server refuses because it is busy (429) or not ready (503) is asked again, a few times and not before it says so.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tracing::Span;

use crate::telemetry::traces;

/// Times that a request is sent at most.
const TRIES: u32 = 4;
/// The longest time to wait before another try.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is no URL of a server, such as http://127.0.0.1:7700")]
    Url(String),
    #[error("the server does not answer")]
    Unreachable(#[source] reqwest::Error),
    #[error("the server refuses: {message} ({code})")]
    Refused {
        status: u16,
        /// `malformed`, `invalid`, `not_found`, `unauthenticated`, `forbidden`, `conflict`, `too_large`, `overloaded`, …
        code: String,
        message: String,
        /// The part of the request at fault.
        field: Option<String>,
        /// What the server's log knows the request by.
        request_id: String,
    },
    #[error("the answer is not what this client knows: is it a Kindred server, of this version?")]
    Answer(#[source] reqwest::Error),
}

/// What to search for; what is not said is as the server's settings have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Search {
    query: Value,
    #[serde(flatten)]
    options: Map<String, Value>,
}

impl Search {
    /// By what a text means and says.
    pub fn text(text: &str) -> Self {
        Self::by(json!({"text": text}))
    }

    /// By an embedding of the collection's model.
    pub fn vector(vector: &[f32]) -> Self {
        Self::by(json!({"vector": vector}))
    }

    /// Documents like one of the same collection, itself left out.
    pub fn like(id: &str) -> Self {
        Self::by(json!({"id": id}))
    }

    fn by(query: Value) -> Self {
        Self { query, options: Map::new() }
    }

    /// Hits to return.
    pub fn limit(self, limit: usize) -> Self {
        self.with("limit", json!(limit))
    }

    /// `{"must": […], "should": […], "must_not": […]}` of conditions on indexed fields.
    pub fn filter(self, filter: Value) -> Self {
        self.with("filter", filter)
    }

    /// Names of the fields to return.
    pub fn fields(self, names: &[&str]) -> Self {
        self.with("fields", json!(names))
    }

    /// Fields whose most frequent values are counted among all that match.
    pub fn facets(self, names: &[&str]) -> Self {
        self.with("facets", json!(names))
    }

    /// Tell what each score is made of.
    pub fn explain(self) -> Self {
        self.with("explain", json!(true))
    }

    /// Any other key of a search, by its name in the HTTP API.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.options.insert(key.to_owned(), value);
        self
    }
}

/// The answer to a search.
#[derive(Debug, Clone, Deserialize)]
pub struct Found {
    /// Best first.
    pub hits: Vec<Hit>,
    /// By field; empty where none were asked for.
    #[serde(default)]
    pub facets: std::collections::BTreeMap<String, Vec<Facet>>,
    /// Microseconds by stage.
    pub timings: std::collections::BTreeMap<String, u64>,
    /// How it was carried out.
    pub plan: Value,
    pub generation: String,
    pub model: String,
    /// What was asked for and could not be done, with the reason.
    #[serde(default)]
    pub degraded: Vec<String>,
}

/// A document that was found.
#[derive(Debug, Clone, Deserialize)]
pub struct Hit {
    pub id: String,
    pub score: f64,
    pub fields: Map<String, Value>,
    /// What the score is made of, where that was asked for.
    pub explanation: Option<Value>,
}

/// A value, and how many of the documents that match have it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Facet {
    pub value: Value,
    pub count: u64,
}

/// A document as it is stored.
#[derive(Debug, Clone, Deserialize)]
pub struct Document {
    pub id: String,
    /// Its last change, for conditional writes.
    pub seqno: u64,
    pub fields: Map<String, Value>,
}

/// What became of the documents of a write.
#[derive(Debug, Clone, Deserialize)]
pub struct Written {
    /// Whether any was refused; the others were written.
    pub errors: bool,
    /// In their order.
    pub items: Vec<Item>,
}

/// What became of one document.
#[derive(Debug, Clone, Deserialize)]
pub struct Item {
    pub id: Option<String>,
    pub status: u16,
    /// `created`, `updated`, `unchanged`, `deleted`; none where it was refused.
    pub result: Option<String>,
    pub seqno: Option<u64>,
    pub error: Option<Value>,
}

/// A client of one server. Cloning it is cheap, and shares its connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<String>,
}

impl Client {
    /// A client of the server at a URL, such as `http://127.0.0.1:7700`.
    ///
    /// # Errors
    /// [`ClientError::Url`]; [`ClientError::Unreachable`] when the system gives no TLS.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        let url = Url::parse(base).ok().filter(Url::has_host).ok_or_else(|| ClientError::Url(base.to_owned()))?;
        crate::tls::choose_cryptography();
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(ClientError::Unreachable)?;
        Ok(Self { http, base: url, key: None })
    }

    /// The same with an API key.
    pub fn with_key(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// Searches a collection.
    ///
    /// # Errors
    /// [`ClientError`]; so for all that follow.
    pub async fn search(&self, collection: &str, search: &Search) -> Result<Found, ClientError> {
        self.ask(Method::POST, &["v1", "collections", collection, "search"], Some(search)).await
    }

    /// Searches a collection with a document of another: jobs for a member, members for a job. Further keys are those of a search.
    pub async fn match_documents(&self, from: (&str, &str), to: &str, options: Value) -> Result<Found, ClientError> {
        let mut body = json!({"from": {"collection": from.0, "id": from.1}, "to": to});
        if let (Value::Object(body), Value::Object(options)) = (&mut body, options) {
            body.extend(options);
        }
        self.ask(Method::POST, &["v1", "match"], Some(&body)).await
    }

    /// Inserts or replaces documents: objects with an `id`. What is refused is told by item; the others are durable, and found by the next search.
    pub async fn put(&self, collection: &str, documents: &[impl Serialize]) -> Result<Written, ClientError> {
        self.ask(Method::PUT, &["v1", "collections", collection, "documents"], Some(documents)).await
    }

    /// A document, if there is one of that id.
    pub async fn get(&self, collection: &str, id: &str) -> Result<Option<Document>, ClientError> {
        match self.ask(Method::GET, &["v1", "collections", collection, "documents", id], None::<&()>).await {
            Ok(document) => Ok(Some(document)),
            Err(ClientError::Refused { status: 404, field, .. }) if field.as_deref() == Some("id") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Deletes the documents with these ids. Returns how many existed.
    pub async fn delete(&self, collection: &str, ids: &[&str]) -> Result<u64, ClientError> {
        self.delete_some(collection, &json!({"ids": ids})).await
    }

    /// Deletes the documents that match a filter, which must name a condition. Returns how many.
    pub async fn delete_matching(&self, collection: &str, filter: &Value) -> Result<u64, ClientError> {
        self.delete_some(collection, &json!({"filter": filter})).await
    }

    /// Deletes every document of a collection. Returns how many.
    pub async fn delete_all(&self, collection: &str) -> Result<u64, ClientError> {
        self.delete_some(collection, &json!({"all": true})).await
    }

    async fn delete_some(&self, collection: &str, which: &Value) -> Result<u64, ClientError> {
        let path = ["v1", "collections", collection, "documents", "delete"];
        let deleted: Value = self.ask(Method::POST, &path, Some(which)).await?;
        Ok(deleted["deleted"].as_u64().unwrap_or(0))
    }

    /// Anything else of the HTTP API, by its path's parts.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<T, ClientError> {
        let mut url = self.base.clone();
        // Whatever is in an id, it stays one part of the path.
        url.path_segments_mut().expect("checked when the client was made").pop_if_empty().extend(path);
        let mut tries = 1;
        loop {
            let mut request = self.http.request(method.clone(), url.clone());
            if let Some(key) = &self.key {
                request = request.bearer_auth(key);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            // Where the caller traces, the server's spans are part of that trace.
            let mut headers = HeaderMap::new();
            traces::inject(&Span::current(), &mut headers);
            let response = request.headers(headers).send().await.map_err(ClientError::Unreachable)?;
            let status = response.status();
            if status.is_success() {
                return response.json().await.map_err(ClientError::Answer);
            }
            if tries == TRIES || ![StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status) {
                return Err(refused(response).await);
            }
            tokio::time::sleep(wait(&response, tries)).await;
            tries += 1;
        }
    }
}

/// How long to wait before another try: as the server says, else twice as long each time.
fn wait(response: &Response, tries: u32) -> Duration {
    let told = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    told.unwrap_or(Duration::from_millis(100) * 2u32.pow(tries)).min(MAX_WAIT)
}

async fn refused(response: Response) -> ClientError {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap_or_default();
    let text = |key: &str| body["error"][key].as_str().map(str::to_owned);
    ClientError::Refused {
        status,
        code: text("code").unwrap_or_default(),
        message: text("message").unwrap_or_else(|| format!("status {status}")),
        field: text("field"),
        request_id: text("request_id").unwrap_or_default(),
    }
}
