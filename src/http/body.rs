//! JSON bodies whose errors name the field at fault.

#[cfg(feature = "mcp")]
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
#[cfg(feature = "mcp")]
use axum::middleware::Next;
#[cfg(feature = "mcp")]
use axum::response::{IntoResponse, Response};
use serde::Deserializer;
use serde::de::DeserializeOwned;

use super::admission::{self, Cut};
use super::error::ApiError;
use crate::pipeline::{self, Work};
use kindred_core::error::ErrorKind;

/// Bodies of up to so many bytes are read on the thread that answers, which takes a fraction of a millisecond.
const INLINE_BYTES: usize = 64 * 1024;

/// The mark of UTF-8, which some editors put before a text.
const BOM: &[u8] = b"\xef\xbb\xbf";

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
        let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
        if bytes.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
            return Err(ApiError::new(ErrorKind::Malformed, "the body must be a JSON object: {…}", None));
        }
        // Treat an empty body as `{}`.
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

/// Removes the mark of the encoding that some editors put before a text, for a service that reads the body by itself.
#[cfg(feature = "mcp")]
pub async fn without_bom(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match RawBody::from_request(Request::new(body), &()).await {
        Ok(RawBody(bytes)) => {
            let bytes = if bytes.starts_with(BOM) { bytes.slice(BOM.len()..) } else { bytes };
            next.run(Request::from_parts(parts, Body::from(bytes))).await
        }
        Err(e) => e.into_response(),
    }
}

pub(super) fn refused(e: &BytesRejection) -> ApiError {
    if e.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return admission::too_long();
    }
    let mut causes = std::iter::successors(Some(e as &dyn std::error::Error), |e| e.source());
    match causes.find_map(|cause| cause.downcast_ref::<Cut>()) {
        Some(Cut::TooSlow) => admission::too_slow(),
        Some(Cut::NoRoom) => admission::no_room(),
        None => ApiError::new(ErrorKind::Malformed, format!("the body cannot be read: {e}"), None),
    }
}
