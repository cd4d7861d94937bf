//! What Kindred tells about itself, and about the machine it runs on.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the log |
//! | `metrics.rs` | the metrics; `docs/metrics.md` is the table of them |
//! | `traces.rs` | spans of requests and stages |
//! | `otlp.rs` | sends them to a collector; `no_otlp.rs` takes its place in builds without it |
//! | `memory.rs` | how much memory is left |
//! | `machine.rs` | what else the system allows |

pub mod machine;
pub mod memory;
pub mod metrics;
#[cfg(not(feature = "otlp"))]
#[path = "no_otlp.rs"]
mod otlp;
#[cfg(feature = "otlp")]
mod otlp;
pub mod traces;

pub use otlp::Traces;
pub use traces::TraceSettings;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log on standard error, and traces where they are wanted: they are sent until what is returned goes. `level` is a filter such as
/// `info` or `kindred=debug,info`.
///
/// # Errors
/// The text of what is wrong with `level` or `traces`, or that a log has been started already.
pub fn start_log(level: &str, json: bool, traces: Option<&TraceSettings>) -> Result<Option<Traces>, String> {
    // It tells of every request, several times: only who names it wants that.
    let quieted = if level.contains("rmcp") { level.to_owned() } else { format!("{level},rmcp=warn") };
    // Lines of a request have its id, whatever they are about; its stages are for traces.
    let quieted = format!("{quieted},{}=error", traces::TARGET);
    let filter = EnvFilter::try_new(quieted).map_err(|e| format!("log.level {level:?}: {e}"))?;
    // https://no-color.org: set, to whatever but nothing.
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let coloured = !is_plain && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = if json { log.json().boxed() } else { log.with_ansi(coloured).boxed() };
    let traces = traces.map(Traces::start).transpose()?.flatten();
    let layers = tracing_subscriber::registry().with(log.with_filter(filter)).with(traces.as_ref().map(Traces::layer));
    layers.try_init().map_err(|e| e.to_string())?;
    Ok(traces)
}
