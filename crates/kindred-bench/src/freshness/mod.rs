//! `kindred bench freshness`: how soon a change is found, and what changes cost searches.
//!
//! Every round goes through all rates, without a change first, so that a noisy minute does not fall on one of them; each stretch
//! is held against the idle one of its round.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the command |
//! | `load.rs` | a stretch of load |
//! | `sink.rs` | where changes are written to |
//! | `rebuilds.rs` | rebuilds beside it |
//! | `report.rs` | the result as a Markdown table and as JSON |

mod load;
mod rebuilds;
mod report;
mod sink;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::load::{Beside, Load, Stretch, Taken};
use self::report::{Report, Row};
use self::sink::Way;
use super::client::Client;
use super::prepare::{self, PreparedArgs};
use super::server::Folder;
use kindred::config::Settings;
use kindred::tools::fetch;

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
    /// Measure each rate once more with the changes going to a collection that is not searched: what the requests alone cost
    #[arg(long)]
    elsewhere: bool,
    /// Measure also with so many changes that are not in the index yet, and no others coming
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pending: Vec<u64>,
    /// Search with a filter, which every document passes
    #[arg(long)]
    filtered: bool,
    /// Write through these Kafka brokers instead of over HTTP; the topic must be there
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "BROKERS", conflicts_with = "url")]
    kafka: Option<String>,
    /// The topic
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "NAME", default_value = "bench")]
    topic: String,
    /// Share of the changes that are waited for, in percent
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=100))]
    sample_percent: u64,
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
    let at_once = args.pending.iter().copied().fold(args.batch, u64::max);
    ensure!(at_once <= args.prepared.documents, "{at_once} changes are more than the {} documents", args.prepared.documents);
    if let Some(url) = &args.url {
        return measure(url, Way::Http, args);
    }
    fetch::ensure(settings)?;
    let folder = Folder::new(args.prepared.folder.as_deref(), "kindred-freshness-")?;
    let mut settings = settings.clone();
    settings.storage.data_dir = folder.path.join("data");
    // Rebuilds only where they are measured.
    settings.storage.rebuild_after_changes = prepare::NEVER;
    let way = way(&mut settings, args)?;
    let launch = args.prepared.launch(&settings, &folder.path)?;
    let (server, _) = prepare::start(&launch)?;
    measure(server.root(), way, args).with_context(|| format!("the server's last words were:\n{}\n", server.said()))
}

/// How changes are written, and the settings of the server for it.
#[cfg_attr(not(feature = "kafka"), expect(clippy::unnecessary_wraps, reason = "with Kafka it can fail"))]
fn way(settings: &mut Settings, args: &FreshnessArgs) -> Result<Way> {
    #[cfg(feature = "kafka")]
    if let Some(brokers) = &args.kafka {
        settings.kafka.brokers.clone_from(brokers);
        settings.kafka.topics = [(prepare::COLLECTION.parse()?, args.topic.clone())].into();
        return Ok(Way::Kafka(Box::new(settings.kafka.clone())));
    }
    let _ = (settings, args);
    Ok(Way::Http)
}

fn measure(root: &str, way: Way, args: &FreshnessArgs) -> Result<()> {
    let client = Client::new(root);
    let (corpus, dims) = args.prepared.corpus(&client)?;
    // Numbers that no run before has had: none of the changes is there already.
    let first = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64);
    let load = Load {
        root: root.to_owned(),
        way,
        corpus: &corpus,
        n_documents: args.prepared.documents,
        seconds: args.seconds,
        searchers: args.searchers,
        batch: args.batch,
        sample_percent: args.sample_percent,
        is_text: args.text,
        is_filtered: args.filtered,
        next_number: AtomicU64::new(first.max(args.prepared.documents)),
    };
    let mut rates: Vec<u64> = [0].into_iter().chain(args.rate.iter().copied()).collect();
    rates.sort_unstable();
    rates.dedup();
    let mut stretches: Vec<Stretch> = rates.iter().map(|&rate| (Beside::Changes, rate)).collect();
    if args.elsewhere {
        stretches.extend(rates.iter().filter(|rate| **rate > 0).map(|&rate| (Beside::Elsewhere, rate)));
    }
    stretches.extend(args.pending.iter().map(|&number| (Beside::Pending, number)));
    if args.rebuild {
        stretches.extend(rates.iter().map(|&rate| (Beside::Rebuild, rate)));
    }
    let mut taken: BTreeMap<Stretch, Vec<Taken>> = BTreeMap::new();
    for round in 1..=args.rounds {
        for &stretch in &stretches {
            load.settle(stretch)?;
            eprintln!("round {round} of {}: {}", args.rounds, report::name(stretch));
            taken.entry(stretch).or_default().push(load.stretch(stretch)?);
        }
    }
    let idle = &taken[&(Beside::Changes, 0)];
    let rows = taken.iter().map(|(stretch, rounds)| Row::of(*stretch, rounds, idle)).collect();
    let report = Report {
        n_documents: args.prepared.documents,
        dims,
        by: if args.text { "text" } else { "vector" },
        is_filtered: args.filtered,
        way: match load.way {
            Way::Http => "HTTP",
            #[cfg(feature = "kafka")]
            Way::Kafka(_) => "Kafka",
        },
        searchers: args.searchers,
        batch: args.batch,
        seconds: args.seconds,
        rounds: args.rounds,
        rows,
    };
    super::report::print(&report, &report.text(), args.json.as_deref())
}
