//! `kindred bench encoder`: how fast texts become embeddings, alone, in company and under too much load.
//!
//! Every round goes through everything that is compared, so that a noisy minute does not fall on one of them; what is told are medians of
//! the rounds. Under an open load, a query's time counts from the moment at which it was to be sent, whatever kept it from being sent.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the command |
//! | `texts.rs` | what is encoded |
//! | `alone.rs` | one query at a time, and what bounds it |
//! | `closed.rs` | clients that each wait for an answer before they ask again |
//! | `open.rs` | queries that come when they come |
//! | `bulk.rs` | documents |
//! | `whole.rs` | whole queries over HTTP, beside the bare encoding |
//! | `report.rs` | the result as Markdown tables and as JSON |

mod alone;
mod bulk;
mod closed;
mod open;
mod report;
mod texts;
mod whole;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::report::Report;
use self::texts::Texts;
use super::measure::{quantile, sorted};
use super::plot::{self, Line, Lines};
use super::prepare::PreparedArgs;
use kindred::config::Settings;
use kindred::tools::fetch;
use kindred::tools::serve::runtime;
use kindred_encoder::{Encoder, EncoderSettings, PrecisionChoice, QueryOptions};

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One query at a time on one thread
    Alone,
    /// Clients that wait for their answers
    Closed,
    /// Queries that come at a rate
    Open,
    /// Documents
    Bulk,
    /// Whole queries over HTTP
    Whole,
}

#[derive(Debug, Args)]
pub struct EncoderArgs {
    /// Parts to measure [default: all but whole]
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<Part>,
    /// Precisions to compare: those that the model folder has
    #[arg(long, value_name = "PRECISIONS", value_delimiter = ',', default_value = "int8,fp32", value_parser = precision)]
    precision: Vec<PrecisionChoice>,
    /// Queries: one a line, as text or as JSON {"text"} [default: made-up ones of about 10 tokens]
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// Documents, likewise [default: made-up ones of about 110 tokens]
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Clients of the closed loop
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_values_t = [1, 8, 32])]
    clients: Vec<usize>,
    /// Rates of the open load, as shares of what the closed loop with most clients reached
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_values_t = [0.25, 0.5, 0.75, 0.9, 1.5, 3.0])]
    load: Vec<f64>,
    /// Seconds for each measurement in each round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Times that everything is gone through
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    prepared: PreparedArgs,
    /// Write the result to this file as JSON; - is standard output, in place of the tables
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Plot latency against load into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn precision(name: &str) -> Result<PrecisionChoice, String> {
    serde_json::from_value(name.into()).map_err(|_| "expected fp32, fp16 or int8".to_owned())
}

/// Measures and prints.
///
/// # Errors
/// A model that does not load, texts that cannot be read, a server that does not start.
pub fn run(settings: &Settings, args: &EncoderArgs) -> Result<()> {
    ensure!(args.seconds > 0.0 && args.rounds > 0, "--seconds and --rounds must be more than 0");
    ensure!(!args.clients.is_empty() && !args.clients.contains(&0), "--clients must be at least 1");
    fetch::ensure(settings)?;
    let texts = Texts::read(args.queries.as_deref(), args.texts.as_deref())?;
    let wants = |part| if args.only.is_empty() { part != Part::Whole } else { args.only.contains(&part) };
    let bench = Bench { settings, args, texts, runtime: runtime()? };
    let mut report = Report::new(settings, args.rounds, args.seconds);
    if wants(Part::Alone) {
        report.alone = bench.alone()?;
    }
    if wants(Part::Closed) || wants(Part::Open) {
        report.closed = bench.closed()?;
    }
    if wants(Part::Open) {
        let most = args.clients.iter().max().copied().unwrap_or(1);
        let reached = report.closed.iter().find(|row| row.clients == most && row.max_batch_tokens != 1);
        report.open = bench.open(reached.context("the closed loop comes before the open one")?)?;
    }
    if wants(Part::Bulk) {
        report.bulk = bench.bulk()?;
    }
    if wants(Part::Whole) {
        report.whole = Some(bench.whole()?);
    }
    if let Some(path) = &args.svg {
        let svg = plot::lines(&report.plot())?;
        std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    super::report::print(&report, &report.text(), args.json.as_deref())
}

/// What all parts share.
struct Bench<'a> {
    settings: &'a Settings,
    args: &'a EncoderArgs,
    texts: Texts,
    /// As many threads as a server has.
    runtime: tokio::runtime::Runtime,
}

impl Bench<'_> {
    /// An encoder of one precision for all texts, which keeps nothing.
    fn encoder(&self, precision: PrecisionChoice, change: impl FnOnce(&mut EncoderSettings)) -> Result<Arc<Encoder>> {
        let mut settings = EncoderSettings { precision, query_cache_bytes: 0, ..self.settings.encoder.clone() };
        change(&mut settings);
        Ok(Arc::new(Encoder::load(&settings)?))
    }

    /// Does something for each of some things in each round. Returns what came of it, by thing.
    fn rounds<K: Ord + Copy + std::fmt::Debug, T>(
        &self,
        what: &str,
        keys: &[K],
        mut measure: impl FnMut(K, usize) -> Result<T>,
    ) -> Result<BTreeMap<K, Vec<T>>> {
        let mut taken: BTreeMap<K, Vec<T>> = BTreeMap::new();
        for round in 0..self.args.rounds {
            eprintln!("{what}: round {} of {}", round + 1, self.args.rounds);
            for &key in keys {
                taken.entry(key).or_default().push(measure(key, round)?);
            }
        }
        Ok(taken)
    }
}

/// The name of a precision, for people.
fn name(precision: PrecisionChoice) -> String {
    format!("{precision:?}").to_lowercase()
}

/// Encodes one query as a server does that has not seen it before.
async fn encode(encoder: &Encoder, text: &str) -> Result<(), kindred_encoder::EncoderError> {
    encoder.encode_query("", text, QueryOptions { skip_cache: true, ..QueryOptions::default() }).await.map(drop)
}

/// Percentiles of some times.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Times {
    p10_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Times {
    /// Of times in seconds.
    fn of(times: Vec<f64>) -> Self {
        if times.is_empty() {
            return Self::default();
        }
        let times = sorted(times);
        let [p10_ms, p50_ms, p99_ms] = [0.1, 0.5, 0.99].map(|share| quantile(&times, share) * 1e3);
        Self { p10_ms, p50_ms, p99_ms }
    }

    /// The medians of some rounds.
    fn median(rounds: &[Self]) -> Self {
        let of = |time: fn(&Self) -> f64| median(rounds.iter().map(time).collect());
        Self { p10_ms: of(|t| t.p10_ms), p50_ms: of(|t| t.p50_ms), p99_ms: of(|t| t.p99_ms) }
    }
}

fn median(numbers: Vec<f64>) -> f64 {
    if numbers.is_empty() { 0.0 } else { quantile(&sorted(numbers), 0.5) }
}
