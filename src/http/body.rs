//! JSON bodies whose errors name the field at fault.

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request, State};
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::{StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserializer;
use serde::de::DeserializeOwned;
use tower_http::timeout::TimeoutError;

use super::compat;
use super::error::ApiError;
use crate::pipeline::{self, Work};
use kindred_core::error::ErrorKind;

/// Bodies of up to so many bytes are read on the thread that answers, which takes a fraction of a millisecond.
const INLINE_BYTES: usize = 64 * 1024;

/// Bodies of up to so many bytes are short.
const SHORT_BYTES: usize = 16 * 1024;

/// A body read as JSON, whatever content type it claims: `curl -d` says it is a form.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let RawBody(bytes) = RawBody::from_request(request, state).await?;
        if bytes.len() <= INLINE_BYTES {
            return Self::parse(&bytes);
        }
        pipeline::blocking(Work::Parse, move || Self::parse(&bytes)).await?
    }
}

impl<T: DeserializeOwned> JsonBody<T> {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
            return Err(ApiError::new(ErrorKind::Malformed, "the body must be a JSON object: {…}", None));
        }
        // Nothing is said: everything by default.
        let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let value = read(&mut json)?;
        json.end().map_err(|e| ApiError::new(ErrorKind::Malformed, format!("there is more behind the JSON body: {e}"), None))?;
        Ok(Self(value))
    }
}

/// Reads a body, or a part of one.
pub fn read<'de, T: DeserializeOwned>(json: impl Deserializer<'de, Error = serde_json::Error>) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(json).map_err(|e| {
        let path = e.path().to_string();
        // Rust's words for it are not the client's.
        let reason = e.inner().to_string().replace("expected usize", "expected a whole number, 0 or more");
        let message = format!("the body cannot be read: {reason}");
        ApiError::new(ErrorKind::Malformed, message, (path != ".").then_some(path))
    })
}

/// A body as it is, within the limit.
pub struct RawBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(e) => Err(refused(&e)),
        }
    }
}

/// Reads a short body before anybody looks at the request. An answer that comes while a body is still to be read ends its stream of HTTP/2 in a
/// way that some clients (curl before 8) take for a failure, and show nothing of the answer.
pub async fn read_short(request: Request, next: Next) -> Response {
    let length = announced_bytes(&request);
    if request.version() != Version::HTTP_2 || length.is_none_or(|length| length > SHORT_BYTES) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match Bytes::from_request(Request::new(body), &()).await {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(e) => refused(&e).into_response(),
    }
}

/// Refuses a body that says itself that it is too long before it is sent, where the client waits for that (`Expect: 100-continue`, as curl does). One who
/// is sending already would see its connection break instead of an answer.
pub async fn refuse_long(State(max_bytes): State<usize>, request: Request, next: Next) -> Response {
    let waits = request.headers().contains_key(EXPECT);
    match waits && announced_bytes(&request).is_some_and(|length| length > max_bytes) {
        true => compat::error_at(request.uri().path(), too_long()),
        false => next.run(request).await,
    }
}

fn announced_bytes(request: &Request) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_long() -> ApiError {
    ApiError::new(ErrorKind::TooLarge, "the body is over the limit (http.max_body_bytes): send it in parts, or use `kindred ingest`", None)
}

fn refused(e: &BytesRejection) -> ApiError {
    if e.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_long();
    }
    let mut causes = std::iter::successors(Some(e as &dyn std::error::Error), |e| e.source());
    if causes.any(|cause| cause.is::<TimeoutError>()) {
        let message = "the body did not come in time: send it without pauses".to_owned();
        return ApiError::refused(StatusCode::REQUEST_TIMEOUT, "timeout", message);
    }
    ApiError::new(ErrorKind::Malformed, format!("the body cannot be read: {e}"), None)
}
