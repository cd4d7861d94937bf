//! `kindred bench restart`: the time from starting the process until it is ready, with an index and a log to read.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::client::Client;
use crate::corpus::Corpus;
use crate::measure::{ColdWarm, quantile, sorted};
use crate::prepare::{self, PreparedArgs};
use crate::server::{Folder, Launch};
use crate::{report, system};
use kindred::config::Settings;
use kindred::tools::fetch;

/// Changes in a request, and so in a frame of the log.
const BATCH: u64 = 100;

#[derive(Debug, Args)]
pub struct RestartArgs {
    #[command(flatten)]
    prepared: PreparedArgs,
    /// Changes that stand in the log and not in the index yet
    #[arg(long, default_value_t = 10_000)]
    changes: u64,
    /// Times that the server is started, with an empty and with a full page cache
    #[arg(long, default_value_t = 5)]
    times: usize,
    /// Write the result to this file as JSON; - is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What was measured, in milliseconds.
#[derive(Debug, Serialize)]
struct Restarts {
    n_documents: u64,
    n_changes: u64,
    dims: usize,
    data_bytes: u64,
    log_bytes: u64,
    times: usize,
    /// From the start of the process until `/readyz` says 200.
    ready_p50_ms: ColdWarm,
    ready_max_ms: ColdWarm,
    /// From then until the answer to the first search.
    first_search_p50_ms: ColdWarm,
}

/// Measures and prints.
///
/// # Errors
/// A server that cannot be started, or does not have after a start what it had before.
pub fn run(settings: &Settings, args: &RestartArgs) -> Result<()> {
    ensure!(args.times > 0, "--times must be more than 0");
    ensure!(args.changes <= args.prepared.documents, "--changes {} is more than the {} documents", args.changes, args.prepared.documents);
    fetch::ensure(settings)?;
    let folder = Folder::new(args.prepared.folder.as_deref(), "kindred-restart-")?;
    let mut settings = settings.clone();
    settings.storage.data_dir = folder.path.join("data");
    settings.storage.rebuild_after_changes = prepare::NEVER;
    let launch = args.prepared.launch(&settings, &folder.path)?;
    let (corpus, dims) = prepare(&launch, args)?;
    let files = files_below(&settings.storage.data_dir)?;
    let bytes = |is_counted: &dyn Fn(&Path) -> bool| files.iter().filter(|(path, _)| is_counted(path)).map(|(_, size)| size).sum::<u64>();

    let once = || start_once(&launch, &corpus, args);
    // The first brings everything into memory, wherever it was.
    once()?;
    let warm: Vec<(f64, f64)> = (0..args.times).map(|_| once()).collect::<Result<_>>()?;
    let mut cold = Vec::new();
    for _ in 0..args.times {
        let mut is_cold = true;
        for (path, _) in files.iter().chain(&files_below(&settings.encoder.model_dir)?) {
            is_cold &= system::drop_from_cache(path).with_context(|| format!("cannot drop {} from the page cache", path.display()))?;
        }
        if is_cold {
            cold.push(once()?);
        }
    }
    let figure = |share: f64, part: fn(&(f64, f64)) -> f64| {
        let of = |times: &[(f64, f64)]| quantile(&sorted(times.iter().map(part).collect()), share);
        ColdWarm { cold: (!cold.is_empty()).then(|| of(&cold)), warm: of(&warm) }
    };
    let restarts = Restarts {
        n_documents: args.prepared.documents,
        n_changes: args.changes,
        dims,
        data_bytes: bytes(&|_| true),
        log_bytes: bytes(&|path| path.extension().is_some_and(|ending| ending == "log")),
        times: args.times,
        ready_p50_ms: figure(0.5, |(ready, _)| *ready),
        ready_max_ms: figure(1.0, |(ready, _)| *ready),
        first_search_p50_ms: figure(0.5, |(_, search)| *search),
    };
    report::print(&restarts, &restarts.text(), args.json.as_deref())
}

/// Makes collection and log, unless they are there.
fn prepare(launch: &Launch, args: &RestartArgs) -> Result<(Corpus, usize)> {
    let (server, _) = prepare::start(launch)?;
    let client = Client::new(server.root());
    let (corpus, dims) = args.prepared.corpus(&client)?;
    let (_, there) = prepare::size(&client)?;
    if there > args.changes {
        bail!("the log has {there} changes already, not {}: name another folder, or --changes {there}", args.changes);
    }
    let mut next = there;
    while next < args.changes {
        let end = args.changes.min(next + BATCH);
        let change = |id: u64| corpus.item(id, args.prepared.documents + id, true);
        prepare::write(&client, (next..end).map(change).collect())?;
        next = end;
    }
    Ok((corpus, dims))
}

/// Starts the server, searches once, and kills it. Returns both times.
fn start_once(launch: &Launch, corpus: &Corpus, args: &RestartArgs) -> Result<(f64, f64)> {
    let (server, ready) = prepare::start(launch)?;
    let client = Client::new(server.root());
    let query = serde_json::json!({"query": {"vector": corpus.vector(0)}, "limit": 10}).to_string();
    let started = std::time::Instant::now();
    client.post(&prepare::path("/search"), &query)?.ok()?;
    let search = started.elapsed();
    let there = prepare::size(&client)?;
    let wanted = (args.prepared.documents, args.changes);
    ensure!(there == wanted, "(documents, changes) were {wanted:?}, and after a restart they are {there:?}");
    Ok((ready.as_secs_f64() * 1e3, search.as_secs_f64() * 1e3))
}

fn files_below(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push((entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(files)
}

impl Restarts {
    fn text(&self) -> String {
        let mut text = format!(
            "{} documents × {}, {} changes in the log; {:.1} MB of data, {:.1} MB of them log; {} start(s) each\n\n",
            self.n_documents,
            self.dims,
            self.n_changes,
            self.data_bytes as f64 / 1e6,
            self.log_bytes as f64 / 1e6,
            self.times
        );
        text += "| page cache | ready p50 ms | ready max ms | first search p50 ms |\n|---|---|---|---|\n";
        let rows =
            [("empty", self.cold()), ("full", Some((self.ready_p50_ms.warm, self.ready_max_ms.warm, self.first_search_p50_ms.warm)))];
        for (name, figures) in rows {
            // Writing into a text cannot fail.
            let _ = match figures {
                Some((p50, max, search)) => writeln!(text, "| {name} | {p50:.0} | {max:.0} | {search:.1} |"),
                None => writeln!(text, "| {name} | – | – | – |"),
            };
        }
        text
    }

    fn cold(&self) -> Option<(f64, f64, f64)> {
        Some((self.ready_p50_ms.cold?, self.ready_max_ms.cold?, self.first_search_p50_ms.cold?))
    }
}
