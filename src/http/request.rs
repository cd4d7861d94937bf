//! What every request gets: an id, a line in the log, its metrics, its trace.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use tracing::Instrument;
#[cfg(feature = "mcp")]
use tracing::Span;

use super::error::ApiError;
use super::routes;
use crate::telemetry::metrics;
use crate::telemetry::traces;
use kindred_core::error::ErrorKind;

const HEADER: &str = "x-request-id";
const MAX_ID_BYTES: usize = 128;

tokio::task_local! {
    static REQUEST: (String, Instant);
}

/// The id of the request being answered.
pub fn id() -> String {
    REQUEST.try_with(|(id, _)| id.clone()).unwrap_or_default()
}

/// How long it has been answered.
pub fn elapsed() -> Duration {
    REQUEST.try_with(|(_, started)| started.elapsed()).unwrap_or_default()
}

/// A request that another task answers.
#[cfg(feature = "mcp")]
#[derive(Debug, Clone)]
pub struct Current {
    id: String,
    span: Span,
}

/// Returns the current request.
#[cfg(feature = "mcp")]
pub fn current() -> Current {
    Current { id: id(), span: Span::current() }
}

/// Answers on behalf of a request.
#[cfg(feature = "mcp")]
pub async fn within<T>(request: Current, answer: impl Future<Output = T>) -> T {
    REQUEST.scope((request.id, Instant::now()), answer).instrument(request.span).await
}

/// Gives the request its id (the client's own, if it sent a sane one) and tells log and metrics how it went.
pub async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let given = request.headers().get(HEADER).and_then(|v| v.to_str().ok());
    let id = given.filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES).map_or_else(new_id, str::to_owned);
    let method = request.method().clone();
    // The pattern, not the path: a metric for every document id would fill the memory.
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    // Methods are a closed list here for the same reason.
    let known = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE, Method::OPTIONS, Method::PATCH];
    let label = if known.contains(&method) { method.as_str() } else { "other" };
    let span = traces::request(&id, label, &route, request.headers());
    let (method_of, path) = (method.clone(), request.uri().path().to_owned());
    let answer = async { caught(next.run(request)).await.unwrap_or_else(|| routes::errors_at(&method_of, &path).answer(panicked())) };
    let mut response = REQUEST.scope((id.clone(), started), answer).instrument(span.clone()).await;
    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    metrics::http_request(label, &route, status, elapsed.as_secs_f64());
    tracing::debug!(request_id = %id, %method, route, status, elapsed_us = elapsed.as_micros() as u64, "request");
    traces::answered(&span, status, response.headers_mut());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

/// Returns what a handler answers; `None` if it panicked.
async fn caught(answer: impl Future<Output = Response>) -> Option<Response> {
    AssertUnwindSafe(answer).catch_unwind().await.ok()
}

/// A panic is a bug. Its own message is on standard error; the client gets the id to report it by.
fn panicked() -> ApiError {
    tracing::error!(request_id = %id(), "a handler panicked: this is a bug");
    ApiError::new(ErrorKind::Internal, "the server failed on this request: please report it with the request's id", None)
}

/// Unique in this process and, by its start time, among those before it.
fn new_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
    format!("{micros:x}-{:x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::{Router, middleware, routing};
    use tower::ServiceExt;

    use super::*;

    /// It was a connection that closes without an answer, a metric or a line in the log.
    #[tokio::test]
    async fn a_panic_is_an_answer_with_the_request_s_id() {
        async fn panics() -> Response {
            panic!("on purpose")
        }
        let router = Router::new().route("/embed", routing::post(panics)).route("/v1/info", routing::get(panics));
        let router = router.layer(middleware::from_fn(observe));
        for (method, path, word) in [(Method::GET, "/v1/info", "\"request_id\":\"seven\""), (Method::POST, "/embed", "\"error_type\"")] {
            let request = Request::builder().method(method).uri(path).header(HEADER, "seven").body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!((answer.status().as_u16(), &answer.headers()[HEADER]), (500, &HeaderValue::from_static("seven")));
            let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(word) && !body.contains("on purpose"), "{body}");
        }
    }
}
