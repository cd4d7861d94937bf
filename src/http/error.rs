//! The one error shape: `{"error": {"code", "message", "field"?, "request_id"}}`.

use std::path::Path;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{auth, request};
use crate::pipeline::{ItemError, PipelineError};
use kindred_core::domain::NameError;
use kindred_core::error::{ErrorKind, chain};

/// An error as a client sees it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

/// What went wrong, and what to do about it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorDetail {
    /// What kind of failure it is, for programs: `malformed`, `invalid`, `not_found`, `conflict`, `too_large`, …
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The part of the request at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Also in the `x-request-id` header and in the server's log.
    pub request_id: String,
}

/// An answer that is an error.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    field: Option<String>,
    /// Of a refusal that says when to come again.
    retry_after: Option<Duration>,
}

/// The one map from a kind of error to a status and a code.
pub fn status_of(kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::Malformed => (StatusCode::BAD_REQUEST, "malformed"),
        ErrorKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        ErrorKind::Conflict => (StatusCode::CONFLICT, "conflict"),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        ErrorKind::Overloaded => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
        ErrorKind::Full => (StatusCode::INSUFFICIENT_STORAGE, "insufficient_storage"),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, "corrupt"),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

impl ApiError {
    /// A failure of one kind, about one part of the request.
    pub fn new(kind: ErrorKind, message: impl Into<String>, field: Option<String>) -> Self {
        let (status, code) = status_of(kind);
        Self { status, code, message: message.into(), field, retry_after: None }
    }

    /// A route of a part that this build leaves out.
    #[cfg(not(feature = "mcp"))]
    pub fn left_out(part: &crate::optional::Part) -> Self {
        Self { status: StatusCode::NOT_IMPLEMENTED, code: "not_built", message: part.missing(), field: None, retry_after: None }
    }

    /// The same error about another part of the request.
    pub fn about(self, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..self }
    }

    /// Status, message and the part of the request at fault, for those who tell errors in another shape.
    pub fn parts(self) -> (StatusCode, String, Option<String>) {
        (self.status, self.message, self.field)
    }

    /// A request that is not let through.
    pub fn refused(status: StatusCode, code: &'static str, message: String) -> Self {
        Self { status, code, message, field: None, retry_after: None }
    }

    /// The same error, worth another try after so long.
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Of a refusal that says when to come again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub fn unknown_route() -> Self {
        Self::new(ErrorKind::NotFound, "there is nothing at this path: GET /openapi.json lists what there is", None)
    }

    pub fn wrong_method() -> Self {
        let message = "this path does not take this method: GET /openapi.json lists what it takes".to_owned();
        Self::refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }
}

impl From<PipelineError> for ApiError {
    fn from(e: PipelineError) -> Self {
        let kind = e.kind();
        log(kind, &e);
        let message = if is_ours(kind) { without_folders(&e.to_string()) } else { message(&e) };
        Self { retry_after: e.retry_after(), ..Self::new(kind, message, e.field().map(str::to_owned)) }
    }
}

impl From<NameError> for ApiError {
    fn from(e: NameError) -> Self {
        Self::new(e.kind(), e.to_string(), None)
    }
}

impl From<ItemError> for ApiError {
    fn from(e: ItemError) -> Self {
        Self::new(e.kind, e.message, e.field)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorDetail { code: self.code, message: self.message, field: self.field, request_id: request::id() };
        answer(self.status, self.retry_after, ErrorBody { error })
    }
}

/// The message of an error, with the collections that exist, as far as the caller may see them, if the one asked for does not.
pub fn message(e: &PipelineError) -> String {
    let known = e.unknown_collection().map(|(_, known)| known).unwrap_or_default();
    let visible: Vec<&str> = known.iter().map(String::as_str).filter(|name| auth::sees(name)).collect();
    if visible.is_empty() { e.to_string() } else { format!("{e}; there are {}", visible.join(", ")) }
}

/// An error's answer, in whatever shape; those who came too early are told when to come again.
pub fn answer(status: StatusCode, retry_after: Option<Duration>, body: impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        // Whole seconds, and at least one: the header knows no less.
        let seconds = retry_after.map_or(1, |wait| wait.as_secs() + 1);
        response.headers_mut().insert("retry-after", axum::http::HeaderValue::from(seconds));
    }
    response
}

/// Tells the log the whole chain of a failure that is not the client's, once; the client gets the sentence that was written for it.
pub fn log(kind: ErrorKind, e: &dyn std::error::Error) {
    if is_ours(kind) {
        tracing::error!(request_id = %request::id(), error = chain(e), "request failed");
    }
}

fn is_ours(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::Internal | ErrorKind::Unavailable | ErrorKind::Full)
}

/// Of each absolute path of this machine only its end: who asks need not know where the data lie. The log tells all.
fn without_folders(message: &str) -> String {
    let shown = |word: &str| {
        let parts: Vec<&str> = word.split('/').collect();
        let is_path = parts.len() > 4 && parts[0].is_empty() && Path::new("/").join(parts[1]).is_dir();
        if is_path { format!("…/{}", parts[parts.len() - 3..].join("/")) } else { word.to_owned() }
    };
    message.split(' ').map(shown).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_data_lie_is_not_told() {
        let told =
            without_folders("cannot write to /usr/lib/kindred/jobs/wal/7.log: the disk is full; POST /v1/collections/{collection}/rebuild");
        assert_eq!(told, "cannot write to …/jobs/wal/7.log: the disk is full; POST /v1/collections/{collection}/rebuild");
    }
}
