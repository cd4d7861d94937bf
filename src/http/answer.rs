//! Answers whose JSON may be long.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::pipeline::{self, Work};

/// Answers of up to so many bytes are written as JSON on the thread that answers, in half a millisecond at most.
const INLINE_BYTES: usize = 128 * 1024;

/// The answer with a body of about `n_bytes`. A long one is written away from the threads that serve HTTP.
pub(super) async fn long_json<T: Serialize>(n_bytes: usize, body: impl FnOnce() -> T + Send + 'static) -> Response {
    let write = move || serde_json::to_vec(&body()).expect("answers can be written as JSON");
    let written = match n_bytes <= INLINE_BYTES {
        true => write(),
        false => pipeline::blocking(Work::Read, write).await.expect("writing JSON does not panic"),
    };
    ([(header::CONTENT_TYPE, "application/json")], written).into_response()
}
