//! What Kindred tells about itself, and about the machine it runs on.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the log |
//! | `metrics.rs` | the one table of metrics |
//! | `progress.rs` | progress of long work, and its cancelling |
//! | `here.rs` | whether work may be done on the thread that asks for it |
//! | `memory.rs` | how much memory is left |
//! | `machine.rs` | what else the system allows |
//! | `priority.rs` | what a thread's work is worth |

mod here;
pub mod machine;
pub mod memory;
pub mod metrics;
pub mod priority;
mod progress;

pub use here::Here;
pub use progress::{Cancel, Progress};

/// Starts the log on standard error. `level` is a filter such as `info` or `kindred=debug,info`.
///
/// # Errors
/// The text of what is wrong with `level`, or that a log has been started already.
pub fn start_log(level: &str, json: bool) -> Result<(), String> {
    // It tells of every request, several times: only who names it wants that.
    let quieted = if level.contains("rmcp") { level.to_owned() } else { format!("{level},rmcp=warn") };
    let filter = tracing_subscriber::EnvFilter::try_new(quieted).map_err(|e| format!("log.level {level:?}: {e}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // https://no-color.org: set, to whatever but nothing.
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let coloured = !is_plain && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let started = if json { builder.json().try_init() } else { builder.with_ansi(coloured).try_init() };
    started.map_err(|e| e.to_string())
}
