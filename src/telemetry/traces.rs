//! Traces: a span for every request, for each of its stages, for every task and its phases; sent to a collector over OTLP.
//!
//! Spans are those of `tracing`. Where no traces are wanted, that of a request gives log lines its id, and others are not made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Status, TracerProvider};
use opentelemetry::{Key, KeyValue};
pub use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// What all spans that are traced are marked with.
pub const TARGET: &str = "kindred::trace";

/// A collector as its usual variables name it.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Time that the collector has for what is left at the end.
const LAST: Duration = Duration::from_secs(2);

static ARE_ON: AtomicBool = AtomicBool::new(false);

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
    fn url(&self) -> Option<String> {
        (!self.endpoint.is_empty()).then(|| format!("{}/v1/traces", self.endpoint.trim_end_matches('/')))
    }

    fn are_wanted(&self) -> bool {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        !self.endpoint.is_empty() || ENDPOINTS.into_iter().any(is_set)
    }
}

/// Sends what is left when it goes.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to send, where that is wanted. Nothing is sent before there are spans: a collector that is not there is told of in the log.
    ///
    /// # Errors
    /// The text of what is wrong with the settings.
    pub(super) fn start(settings: &TraceSettings) -> Result<Option<Self>, String> {
        if !settings.are_wanted() {
            return Ok(None);
        }
        crate::tls::choose_cryptography();
        let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter = match settings.url() {
            Some(url) => exporter.with_endpoint(url),
            None => exporter,
        };
        let exporter = exporter.build().map_err(|e| format!("traces.endpoint {:?}: {e}", settings.endpoint))?;
        let resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        // Who has a name for it says so in the usual variables.
        let is_named =
            Resource::builder().build().get(&Key::new("service.name")).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
        let resource = if is_named { resource } else { resource.with_service_name(env!("CARGO_PKG_NAME")) };
        // Whoever asks with a trace has decided already.
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.share)));
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_sampler(sampler).with_resource(resource.build());
        ARE_ON.store(true, Ordering::Relaxed);
        Ok(Some(Self(provider.build())))
    }

    /// What makes spans into traces.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let layer = tracing_opentelemetry::layer().with_tracer(self.0.tracer("kindred"));
        // What a user of traces does not ask for: lines of our source, numbers of threads.
        let layer = layer.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
        layer.with_filter(Targets::new().with_target(TARGET, Level::DEBUG))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // The collector may be gone; the end does not depend on it.
        if let Err(e) = self.0.shutdown_with_timeout(LAST) {
            tracing::debug!(error = %e, "the last traces were not sent");
        }
    }
}

/// The span of a request to this server: part of the client's trace, where it names one. Its level is that of the worst that can be said of it:
/// whatever the log is about, it has the request's id.
pub fn request(id: &str, method: &str, route: &str, headers: &HeaderExtractor<'_>) -> Span {
    if !ARE_ON.load(Ordering::Relaxed) {
        return tracing::error_span!(target: TARGET, "request", request_id = id);
    }
    // The names of OpenTelemetry's conventions for HTTP.
    let name = format!("{method} {route}");
    let span = tracing::error_span!(target: TARGET, "request", request_id = id, otel.name = name, otel.kind = "server");
    // It fails where the span is not traced, and then there is nothing to tell.
    let _ = span.set_parent(TraceContextPropagator::new().extract(headers));
    span.set_attribute("http.request.method", method.to_owned());
    span.set_attribute("http.route", route.to_owned());
    span
}

/// Tells how it was answered, and the client which trace it is in.
pub fn answered(span: &Span, status: u16, headers: &mut HeaderInjector<'_>) {
    if ARE_ON.load(Ordering::Relaxed) {
        span.set_attribute("http.response.status_code", i64::from(status));
        if status >= 500 {
            span.set_status(Status::error(""));
        }
        inject(span, headers);
    }
}

/// Work for another thread, as part of what is done here.
pub fn in_current_span<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let span = Span::current();
    move || span.in_scope(work)
}

/// Names a span's trace to whoever is at the other end: `traceparent`, as W3C's Trace Context has it.
pub fn inject(span: &Span, headers: &mut HeaderInjector<'_>) {
    TraceContextPropagator::new().inject_context(&span.context(), headers);
}
