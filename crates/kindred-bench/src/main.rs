//! `kindred-bench`, which `kindred bench` starts: measures a part of Kindred on its own.
//!
//! | file | duty |
//! |---|---|
//! | `ann.rs` | the command `kindred bench ann`, from vectors to a report |
//! | `filters.rs` | the command `kindred bench filters`: a grid of filters |
//! | `crash/` | the command `kindred bench crash`: a server that is killed again and again |
//! | `encoder/` | the command `kindred bench encoder`: texts to embeddings |
//! | `freshness/` | the command `kindred bench freshness`: changes beside searches |
//! | `restart.rs` | the command `kindred bench restart`: from starting to being ready |
//! | `corpus.rs`, `prepare.rs` | documents to measure a server with, and a collection of them |
//! | `server.rs` | a server to measure, in a process of its own |
//! | `client.rs` | what it is asked with |
//! | `vectors.rs` | vectors from `.fvecs` and `.npy` files, checked and scaled to unit length |
//! | `truth.rs` | the exact neighbours: computed, read, written |
//! | `top_k.rs` | the best of many candidates |
//! | `built.rs` | builds the index to measure, or finds one that was built before |
//! | `measure.rs` | opens, searches, counts and times |
//! | `system.rs` | what the operating system knows: CPU time, resident memory, the page cache |
//! | `report.rs` | the result as a table and as JSON |
//! | `plot.rs` | results as SVG plots |

mod ann;
mod built;
mod client;
mod corpus;
mod crash;
mod encoder;
mod filters;
mod freshness;
mod measure;
mod plot;
mod prepare;
mod report;
mod restart;
mod server;
mod system;
mod top_k;
mod truth;
mod vectors;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use kindred::config::{LogFormat, Settings};
use kindred::telemetry;
use kindred::tools::settings_args::SettingsArgs;

/// The server's allocator, so that what is measured in this process is what the server does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure a part of Kindred on its own.
#[derive(Debug, Parser)]
#[command(
    version,
    bin_name = "kindred bench",
    after_help = "Exit codes: 0 done · 1 failed · 2 wrong usage · 130 cancelled (Ctrl-C or SIGTERM)"
)]
struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Measure the index: recall against speed, building, size, opening
    #[command(
        after_help = "Example:\n  kindred bench ann --base base.fvecs --queries queries.fvecs --index built --json result.json --svg result.svg\n  kindred bench ann --base vectors.npy --k 100 --ef 100,200,400 --set index.threads=1\n  kindred bench ann --collection jobs\n\nRecall counts by score: of rows that are equally near, any is right. Keep the machine idle meanwhile."
    )]
    Ann(ann::AnnArgs),
    /// Measure filtered searches: recall and time from one row in two to one in ten thousand
    #[command(
        after_help = "Example:\n  kindred bench filters --base base.fvecs --queries queries.fvecs --json result.json\n\nKeep the machine idle meanwhile."
    )]
    Filters(filters::FiltersArgs),
    /// Measure the encoder: alone, in batches, under overload, in bulk, and beside whole queries
    #[command(
        after_help = "Example:\n  kindred bench encoder --json result.json --svg result.svg\n  kindred bench encoder --only closed --precision int8 --clients 1,8,32,128\n  kindred bench encoder --only whole --documents 100000 --folder bench\n\nKeep the machine idle meanwhile."
    )]
    Encoder(encoder::EncoderArgs),
    /// Kill a server at random moments and hold what is left against what it acknowledged
    #[command(
        after_help = "Example:\n  kindred bench crash --cycles 1000 --seed 7 --json result.json\n\nEnds with the first cycle that finds something wrong, keeps its folder and exits with 1. The folder has the data as the killed server left them (before-restart) and as they are now (data)."
    )]
    Crash(crash::CrashArgs),
    /// Measure how soon a change is found, and what changes cost searches
    #[command(
        after_help = "Example:\n  kindred bench freshness --base base.fvecs --folder bench-data --rebuild --json result.json\n  kindred bench freshness --url http://127.0.0.1:7700 --documents 10000 --text\n\nChanges are sent when they are due, whatever became of those before, and times count from then. Keep the machine idle meanwhile."
    )]
    Freshness(freshness::FreshnessArgs),
    /// Measure how soon a server is ready after its start
    #[command(
        after_help = "Example:\n  kindred bench restart --documents 1000000 --base base.fvecs --folder bench-data --json result.json\n\nThe first run makes the collection, which may take long; with --folder the next finds it."
    )]
    Restart(restart::RestartArgs),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let settings = Settings::of(&cli.settings.read(None)?)?;
    // The output is the result, so the log reports problems only.
    let level = if settings.log.level == "info" { "warn" } else { &settings.log.level };
    let _traces = telemetry::start_log(level, settings.log.format == LogFormat::Json, None).map_err(anyhow::Error::msg)?;
    match &cli.command {
        BenchCommand::Ann(args) => ann::run(&settings, args)?,
        BenchCommand::Filters(args) => filters::run(&settings, args)?,
        BenchCommand::Encoder(args) => encoder::run(&settings, args)?,
        BenchCommand::Freshness(args) => freshness::run(&settings, args)?,
        BenchCommand::Restart(args) => restart::run(&settings, args)?,
        BenchCommand::Crash(args) => {
            let is_sound = crash::run(&settings, args)?;
            return Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}
