//! Traces: a span for every request, for each of its stages, for every task and its phases. `otlp.rs` sends them to a collector.
//!
//! Spans are those of `tracing`. Where no traces are wanted, that of a request gives log lines its id, and others are not made.

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tracing::Span;

use super::otlp;
pub use super::otlp::answered;
#[cfg(feature = "client")]
pub use super::otlp::inject;

/// What all spans that are traced are marked with.
pub const TARGET: &str = "kindred::trace";

/// A collector as its usual variables name it.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// A span of part of what is done for a request or a feed: `stage!("encode", n_tokens = 7)`. Where nothing is traced that it could be part of
/// (the thousand searches of an evaluation) there is none; `parent:` names what it is part of, `None` begins a trace.
macro_rules! stage {
    (parent: $parent:expr, $($span:tt)*) => {
        tracing::debug_span!(target: $crate::telemetry::traces::TARGET, parent: $parent, $($span)*)
    };
    ($($span:tt)*) => {
        if tracing::enabled!(target: $crate::telemetry::traces::TARGET, tracing::Level::DEBUG) && !tracing::Span::current().is_none() {
            tracing::debug_span!(target: $crate::telemetry::traces::TARGET, $($span)*)
        } else {
            tracing::Span::none()
        }
    };
}
pub(crate) use stage;

/// Where traces go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceSettings {
    /// The collector's address, without the path; empty: what `OTEL_EXPORTER_OTLP_ENDPOINT` says, or none.
    pub endpoint: String,
    /// Of the requests that come without a trace of their own, the share that is traced, from 0 to 1.
    pub share: f64,
}

impl TraceSettings {
    /// The address that traces are sent to; `None`: the one of the variables.
    #[cfg(feature = "otlp")]
    pub(super) fn url(&self) -> Option<String> {
        (!self.endpoint.is_empty()).then(|| format!("{}/v1/traces", self.endpoint.trim_end_matches('/')))
    }

    pub(super) fn are_wanted(&self) -> bool {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        !self.endpoint.is_empty() || ENDPOINTS.into_iter().any(is_set)
    }
}

/// Returns the span of a request to this server: part of the client's trace, where its headers name one. Its level is the highest, so that log lines
/// of every level carry the request's id.
pub fn request(id: &str, method: &str, route: &str, headers: &HeaderMap) -> Span {
    otlp::request(id, method, route, headers).unwrap_or_else(|| tracing::error_span!(target: TARGET, "request", request_id = id))
}

/// Wraps work for another thread, so that it is part of the current span.
pub fn in_current_span<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let span = Span::current();
    move || span.in_scope(work)
}
