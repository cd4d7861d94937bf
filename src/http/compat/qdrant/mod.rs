//! A part of Qdrant's REST API, for its clients with another URL.
//!
//! | file | routes below `/collections` |
//! |---|---|
//! | `collections.rs` | `GET /`; `GET`, `PUT`, `DELETE /{c}`; `GET /{c}/exists` |
//! | `index.rs` | `PUT /{c}/index` |
//! | `points.rs` | `PUT`, `POST /{c}/points`; `GET /{c}/points/{id}`; `POST /{c}/points/delete` |
//! | `listing.rs` | `POST /{c}/points/scroll`, `/{c}/points/count` |
//! | `search.rs` | `POST /{c}/points/query`, `/{c}/points/search` |
//! | `parts.rs` | what bodies are made of: ids, selections of payload and vector, filters |
//!
//! A point is a document: its vector is the embedding, its payload the fields, its id the id. A point without a vector is embedded by its text,
//! as any document. Scores are cosines; profiles, words and the cross-encoder are not asked. What has no counterpart is refused by name,
//! but for hints about placing and timing, which are ignored.

pub mod collections;
pub mod index;
pub mod listing;
mod parts;
pub mod points;
pub mod search;

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::http::body::{self, JsonBody};
use crate::http::collections::{blocking, existing, reading};
use crate::http::error::{self, ApiError};
use crate::http::path::{PathParts, QueryString};
use crate::http::request;
use crate::pipeline::{EmbedError, PipelineError};
use kindred_core::domain::{CollectionName, NameError, SeqNo};
use kindred_core::error::ErrorKind;

/// An answer as Qdrant gives it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct QdrantAnswer<T> {
    result: T,
    /// `ok`
    status: &'static str,
    /// Seconds.
    time: f64,
}

/// What requests bring: what is wrong with them is told in Qdrant's shape, too.
type Name = Result<PathParts<String>, ApiError>;
type Options = Result<QueryString<WriteOptions>, ApiError>;
type Body = Result<JsonBody<Map<String, Value>>, ApiError>;

/// The collection of a path.
fn collection(name: Name) -> Result<CollectionName, Error> {
    Ok(existing(&name?.0)?)
}

type Answered<T> = Result<Json<QdrantAnswer<T>>, Error>;

fn answer<T>(result: T) -> Answered<T> {
    Ok(Json(QdrantAnswer { result, status: "ok", time: request::elapsed().as_secs_f64() }))
}

/// What became of a change.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantUpdate)]
pub struct Update {
    /// The collection's last durable change.
    operation_id: u64,
    /// `completed`: it is durable, and the next search finds it. `acknowledged`: it is durable, or will be done.
    status: &'static str,
}

impl Update {
    fn new(SeqNo(operation_id): SeqNo, is_completed: bool) -> Self {
        Self { operation_id, status: if is_completed { "completed" } else { "acknowledged" } }
    }
}

/// Whether to wait until a change is found by searches. Other parameters (`timeout`, `ordering`, `consistency`) are ignored.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WriteOptions {
    #[serde(default)]
    wait: bool,
}

/// An error as Qdrant's clients know them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantErrorBody)]
pub struct ErrorBody {
    status: ErrorStatus,
    /// Seconds.
    time: f64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantErrorStatus)]
struct ErrorStatus {
    error: String,
}

/// An answer that is an error.
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let status = match kind {
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            kind => error::status_of(kind).0,
        };
        Self { status, message: message.into(), retry_after: None }
    }

    /// A part of the request that cannot be accepted.
    fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    fn no_names() -> Self {
        Self::invalid("named vectors are not supported: a document has one embedding. Leave the vector's name out, or empty")
    }
}

impl From<PipelineError> for Error {
    fn from(e: PipelineError) -> Self {
        error::log(e.kind(), &e);
        let message = match &e {
            PipelineError::Filter(e) if e.path.ends_with(".key") => {
                format!("{e}. Make a field filterable with PUT /collections/{{collection}}/index")
            }
            PipelineError::ItemsRefused { items } => {
                let first = items.first().map(|(position, e)| format!("point {position}: {}", e.message));
                format!("{}; nothing was written", first.unwrap_or_default())
            }
            e => error::message(e),
        };
        Self { retry_after: e.retry_after(), ..Self::new(e.kind(), message) }
    }
}

impl From<EmbedError> for Error {
    fn from(e: EmbedError) -> Self {
        error::log(e.kind(), &e);
        Self { retry_after: e.retry_after(), ..Self::new(e.kind(), e.to_string()) }
    }
}

impl From<NameError> for Error {
    fn from(e: NameError) -> Self {
        Self::new(e.kind(), e.to_string())
    }
}

impl From<ApiError> for Error {
    fn from(e: ApiError) -> Self {
        let retry_after = e.retry_after();
        let (status, message, field) = e.parts();
        let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
        let message = match field.filter(|field| !message.contains(field)) {
            Some(field) => format!("{field}: {message}"),
            None => message,
        };
        Self { status, message, retry_after }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = ErrorBody { status: ErrorStatus { error: self.message }, time: request::elapsed().as_secs_f64() };
        error::answer(self.status, self.retry_after, body)
    }
}

/// Reads a body, without what is ignored. What is `null` is not there, nor is a refused key with nothing in it, as some clients send it.
///
/// # Errors
/// Keys that are refused, with what to do instead; keys that nobody knows.
fn read<T: DeserializeOwned>(mut body: Map<String, Value>, ignored: &[&str], refused: &[(&str, &str)]) -> Result<T, Error> {
    let is_refused = |key: &str| refused.iter().any(|(refused, _)| *refused == key);
    let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
    body.retain(|key, value| !(value.is_null() || ignored.contains(&key.as_str()) || is_refused(key) && is_empty(value)));
    match refused.iter().find(|(key, _)| body.contains_key(*key)) {
        Some((key, instead)) => Err(Error::invalid(format!("{key} is not supported: {instead}"))),
        None => Ok(body::read(Value::Object(body))?),
    }
}

/// A collection is in one place.
const NO_SHARDS: (&str, &str) = ("shard_key", "a collection is not divided here. Leave it out");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        limit: Option<usize>,
    }

    #[test]
    fn bodies_are_read_without_what_is_ignored() {
        let body = |json: Value| read::<Body>(json.as_object().unwrap().clone(), &["timeout"], &[NO_SHARDS]);
        assert_eq!(body(json!({"limit": 3, "timeout": [7], "shard_key": [], "other": null})).unwrap().limit, Some(3));
        for (json, word) in [
            (json!({"shard_key": "a"}), "shard_key is not supported: a collection is not divided here"),
            (json!({"other": 1}), "unknown field `other`"),
            (json!({"limit": -1}), "limit: the body cannot be read"),
        ] {
            let error = body(json.clone()).unwrap_err();
            assert!(error.status == 400 && error.message.contains(word), "{json}: {}", error.message);
        }
    }
}
