//! What Kindred tells about itself, and about the machine it runs on.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the log |
//! | `metrics.rs` | the one table of metrics |
//! | `progress.rs` | progress of long work, and its cancelling |
//! | `here.rs` | whether work may be done on the thread that asks for it |
//! | `memory.rs` | how much memory is left |
//! | `priority.rs` | what a thread's work is worth |

mod here;
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
    let filter = tracing_subscriber::EnvFilter::try_new(level).map_err(|e| format!("log.level {level:?}: {e}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started =
        if json { builder.json().try_init() } else { builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init() };
    started.map_err(|e| e.to_string())
}
