//! Takes the place of `otlp.rs` in a build without it: refuses settings that want traces.

use std::convert::Infallible;

use http::HeaderMap;
use tracing::Span;
use tracing_subscriber::layer::Identity;

use super::traces::TraceSettings;
use crate::optional::OTLP;

/// Never made.
#[derive(Debug)]
pub struct Traces(Infallible);

impl Traces {
    /// Refuses a collector that the settings name. One that only the environment names (for all programs of a machine) is left out with a note.
    ///
    /// # Errors
    /// The text for the user.
    pub(super) fn start(settings: &TraceSettings) -> Result<Option<Self>, String> {
        if !settings.endpoint.is_empty() {
            return Err(format!("traces.endpoint is {:?}, but {}; or leave it empty", settings.endpoint, OTLP.missing()));
        }
        if settings.are_wanted() {
            // The log has not been started.
            eprintln!("note: no traces are sent, although OTEL_EXPORTER_OTLP_ENDPOINT is set: {}", OTLP.missing());
        }
        Ok(None)
    }

    pub(super) fn layer(&self) -> Identity {
        match self.0 {}
    }
}

/// No request is part of a trace.
pub(super) fn request(_: &str, _: &str, _: &str, _: &HeaderMap) -> Option<Span> {
    None
}

/// Names no trace.
pub fn answered(_: &Span, _: u16, _: &mut HeaderMap) {}

/// Names no trace.
#[cfg(feature = "client")]
pub fn inject(_: &Span, _: &mut HeaderMap) {}
