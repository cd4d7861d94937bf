//! `kindred bench crash`: kills the server again and again, and holds what is left against what was acknowledged.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the command |
//! | `run.rs` | a cycle: serve, kill, start again, check |
//! | `plan.rs` | when a server is killed |
//! | `document.rs` | what is written |
//! | `writer.rs` | writes, changes, deletes |
//! | `counters.rs` | documents that all writers change |
//! | `operator.rs` | rebuilds, activates, rolls back, takes snapshots |
//! | `ledger.rs` | the oracle: what was acknowledged, and what may be |
//! | `fault.rs` | what can be wrong |
//! | `reading.rs` | reads documents back |
//! | `check.rs` | compares all of it after a restart |
//! | `shared.rs` | what the threads of a cycle tell each other |
//! | `counted.rs` | the result as a table and as JSON |

mod check;
mod counted;
mod counters;
mod document;
mod fault;
mod ledger;
mod operator;
mod plan;
mod reading;
mod run;
mod shared;
mod writer;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;

use self::run::Run;
use super::report;
use super::server::Folder;
use kindred::config::Settings;
use kindred::tools::{fetch, signals};
use kindred_core::Progress;

#[derive(Debug, Args)]
pub struct CrashArgs {
    /// Times that the server is killed and started again
    #[arg(long, default_value_t = 100)]
    cycles: u64,
    /// Draws writes and moments; what the threads of a machine make of them differs from run to run [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// The server to kill [default: this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// An empty folder for the data, the snapshots and the server's log [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Size at which the log begins a new file: small, so that this happens often
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    rotate_log_bytes: u64,
    /// Keep the folder even if all is well
    #[arg(long)]
    keep: bool,
    /// Write the result to this file as JSON; - is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs all cycles, or up to the first that finds something wrong. Returns whether all was well.
///
/// # Errors
/// A folder that is not empty, a server that cannot be run at all.
pub fn run(settings: &Settings, args: &CrashArgs) -> Result<bool> {
    fetch::ensure(settings)?;
    let folder = Folder::new(args.folder.as_deref(), "kindred-crash-")?;
    ensure!(folder.is_empty()?, "{} is not empty: name a folder that is, or that is not there", folder.path.display());
    let started = Instant::now();
    let seed = args.seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64));
    let mut run = Run::new(settings, args, &folder.path, seed)?;
    let cancel = signals::cancelled_by_signal()?;
    let progress = Progress::new("killing", args.cycles);
    let mut server = run.first_start()?;
    while let Some(running) = server.take()
        && run.cycles() < args.cycles
        && !cancel.is_cancelled()
    {
        server = run.cycle(running)?;
        progress.advance(1);
    }
    drop(server);
    progress.finish();
    let report = run.end(started);
    report::print(&report, &report.text(), args.json.as_deref())?;
    if !report.is_clean() || args.keep {
        let kept = folder.keep();
        eprintln!("kept {}; it began with --seed {seed}", kept.display());
    }
    Ok(report.is_clean())
}
