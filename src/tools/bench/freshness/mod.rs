//! `kindred bench freshness`: how soon a change is found, and what changes cost searches.
//!
//! Every round goes through all rates, without a change first, so that a noisy minute does not fall on one of them; each stretch
//! is held against the idle one of its round.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the command |
//! | `load.rs` | a stretch of load |
//! | `rebuilds.rs` | rebuilds beside it |
//! | `report.rs` | the result as a Markdown table and as JSON |

mod load;
mod rebuilds;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::load::{Load, Taken};
use self::report::{Report, Row};
use super::client::Client;
use super::prepare::{self, PreparedArgs};
use super::server::Folder;
use crate::config::Settings;
use crate::tools::fetch;

#[derive(Debug, Args)]
pub struct FreshnessArgs {
    /// A server that is running, for example http://127.0.0.1:7700; it gets a collection named bench [default: one is started]
    #[arg(long, conflicts_with_all = ["folder", "binary"])]
    url: Option<String>,
    #[command(flatten)]
    prepared: PreparedArgs,
    /// Changes a second; 0 is always among them
    #[arg(long, value_name = "RATES", value_delimiter = ',', default_values_t = [300, 600])]
    rate: Vec<u64>,
    /// Changes in a request
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    batch: u64,
    /// Seconds for each rate in each round
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Times that all rates are gone through
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads that search without a pause
    #[arg(long, default_value_t = 1)]
    searchers: usize,
    /// Write and search texts, whose vectors the server makes
    #[arg(long)]
    text: bool,
    /// Measure each rate once more during full rebuilds
    #[arg(long)]
    rebuild: bool,
    /// Share of the changes that are waited for, in percent
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=100))]
    sample_percent: u64,
    /// Let changes pile up from stretch to stretch instead of building them in before each
    #[arg(long)]
    keep_changes: bool,
    /// Write the result to this file as JSON; - is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
/// A server that cannot be started, or does not take what it is sent.
pub fn run(settings: &Settings, args: &FreshnessArgs) -> Result<()> {
    ensure!(args.seconds > 0.0 && args.rounds > 0 && args.searchers > 0, "--seconds, --rounds and --searchers must be more than 0");
    ensure!(args.batch <= args.prepared.documents, "--batch {} is more than the {} documents", args.batch, args.prepared.documents);
    if let Some(url) = &args.url {
        return measure(url, args);
    }
    fetch::ensure(settings)?;
    let folder = Folder::new(args.prepared.folder.as_deref(), "kindred-freshness-")?;
    let mut settings = settings.clone();
    settings.storage.data_dir = folder.path.join("data");
    let launch = args.prepared.launch(&settings, &folder.path)?;
    let (server, _) = prepare::start(&launch)?;
    measure(server.root(), args).with_context(|| format!("the server's last words were:\n{}\n", server.said()))
}

fn measure(root: &str, args: &FreshnessArgs) -> Result<()> {
    let client = Client::new(root);
    let (corpus, dims) = args.prepared.corpus(&client)?;
    // Numbers that no run before has had: none of the changes is there already.
    let first = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64);
    let load = Load {
        root: root.to_owned(),
        corpus: &corpus,
        n_documents: args.prepared.documents,
        seconds: args.seconds,
        searchers: args.searchers,
        batch: args.batch,
        sample_percent: args.sample_percent,
        is_text: args.text,
        next_number: AtomicU64::new(first.max(args.prepared.documents)),
    };
    let mut rates: Vec<u64> = [0].into_iter().chain(args.rate.iter().copied()).collect();
    rates.sort_unstable();
    rates.dedup();
    let mut taken: BTreeMap<(bool, u64), Vec<Taken>> = BTreeMap::new();
    for round in 1..=args.rounds {
        for is_rebuilding in [false, true].into_iter().filter(|is_rebuilding| args.rebuild || !is_rebuilding) {
            for &rate in &rates {
                if !args.keep_changes {
                    load.settle()?;
                }
                let beside = if is_rebuilding { ", rebuilding" } else { "" };
                eprintln!("round {round} of {}: {rate} changes a second{beside}", args.rounds);
                taken.entry((is_rebuilding, rate)).or_default().push(load.stretch(rate, is_rebuilding)?);
            }
        }
    }
    let idle = &taken[&(false, 0)];
    let rows = taken.iter().map(|((is_rebuilding, rate), rounds)| Row::of(*rate, *is_rebuilding, rounds, idle)).collect();
    let report = Report {
        n_documents: args.prepared.documents,
        dims,
        by: if args.text { "text" } else { "vector" },
        searchers: args.searchers,
        batch: args.batch,
        seconds: args.seconds,
        rounds: args.rounds,
        rows,
    };
    super::report::print(&report, &report.text(), args.json.as_deref())
}
