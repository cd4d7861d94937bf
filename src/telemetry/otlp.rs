//! Sends traces to a collector over OTLP (HTTP, protobuf). The only file that names OpenTelemetry.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Status, TracerProvider};
use opentelemetry::{Key, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use super::traces::{TARGET, TraceSettings};

/// Time that the collector has at the end for the spans that were not sent yet.
const LAST: Duration = Duration::from_secs(2);

static IS_ON: AtomicBool = AtomicBool::new(false);

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
        IS_ON.store(true, Ordering::Relaxed);
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

/// Returns the span of a request to this server, as part of the trace that its headers name; `None` where no traces are sent.
pub(super) fn request(id: &str, method: &str, route: &str, headers: &HeaderMap) -> Option<Span> {
    if !IS_ON.load(Ordering::Relaxed) {
        return None;
    }
    // The names of OpenTelemetry's conventions for HTTP.
    let name = format!("{method} {route}");
    let span = tracing::error_span!(target: TARGET, "request", request_id = id, otel.name = name, otel.kind = "server");
    // It fails where the span is not traced, and then there is nothing to tell.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&HeaderExtractor(headers)));
    span.set_attribute("http.request.method", method.to_owned());
    span.set_attribute("http.route", route.to_owned());
    Some(span)
}

/// Records how a request was answered, and names its trace to the client.
pub fn answered(span: &Span, status: u16, headers: &mut HeaderMap) {
    if !IS_ON.load(Ordering::Relaxed) {
        return;
    }
    span.set_attribute("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.set_status(Status::error(""));
    }
    inject(span, headers);
}

/// Names a span's trace to the other end: `traceparent`, as W3C's Trace Context defines it.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut HeaderInjector(headers));
}
