//! `kindred ingest`: a file into a collection, then its index.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::signals::{cancelled_by_signal, interrupted};
use super::{fetch, serve};
use crate::app::App;
use crate::collection::Access;
use crate::config::Settings;
use crate::ingest::{Format, Ingest, Options, Source};
use crate::pipeline::RebuildRequest;
use kindred_core::domain::CollectionName;
use kindred_core::{Cancel, Progress};

/// The exit code of work that is done in part.
const IN_PART: u8 = 3;

/// What is asked of `kindred ingest`.
#[derive(Debug, Args)]
pub struct IngestArgs {
    /// The collection; jobs and members are always there
    collection: CollectionName,
    /// The file; without one, or with -, standard input
    file: Option<PathBuf>,
    /// What the file holds, where its extension (.jsonl, .ndjson, .csv, .tsv, .parquet) does not say
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Write every refused line to this file, as lines of JSON: line, id, error, field
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
    /// Begin with the first line, wherever an earlier run of this file stopped
    #[arg(long)]
    from_start: bool,
    /// What was done, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    /// One JSON object a line
    #[value(alias = "ndjson")]
    Jsonl,
    /// A first row with the fields' names; dotted names reach into objects
    Csv,
    Parquet,
}

/// Ingests a file and builds the collection's index if anything changed.
///
/// # Errors
/// A file that cannot be read, a collection that cannot be written to.
pub fn run(settings: &Settings, args: &IngestArgs) -> Result<ExitCode> {
    let source = source(args)?;
    fetch::ensure(settings)?;
    let app = App::open(settings, Access::Serve)?;
    let cancel = cancelled_by_signal()?;
    match ingest(&cancel, &app, args, source) {
        Err(_) if cancel.is_cancelled() => {
            Ok(interrupted("cancelled before it was done. Documents that were written stay and are found: run it again to go on"))
        }
        done => done,
    }
}

fn source(args: &IngestArgs) -> Result<Source> {
    let format = args.format.map(|format| match format {
        FormatArg::Jsonl => Format::Jsonl,
        FormatArg::Csv => Format::Csv,
        FormatArg::Parquet => Format::Parquet,
    });
    match args.file.as_deref().filter(|file| file.as_os_str() != "-") {
        Some(file) => Ok(Source::file(file, format)?),
        None if std::io::stdin().is_terminal() => bail!("name a file, or send documents through a pipe"),
        None => Ok(Source::stdin(format)?),
    }
}

fn ingest(cancel: &Cancel, app: &App, args: &IngestArgs, source: Source) -> Result<ExitCode> {
    let collection = &args.collection;
    let schema = app.catalog.get(collection)?.definition.check()?.1;
    let name = args.file.as_ref().map_or_else(|| "-".to_owned(), |file| file.display().to_string());
    let options = Options { refused: args.refused.as_deref(), from_start: args.from_start };
    let ingest = Ingest::open(&app.write, collection, &schema, source, &options)?;
    if let Some(line) = ingest.resumed_at() {
        eprintln!("{name}: an earlier run stopped at line {line}; going on from there (--from-start begins anew)");
    }
    let report = serve::runtime()?.block_on(ingest.run(cancel))?;
    for refused in &report.refused {
        let id = refused.id.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
        eprintln!("{name}:{}{id}: {}", refused.line, refused.error.message);
    }
    let n_more = report.n_refused - report.refused.len();
    match &args.refused {
        Some(path) if report.n_refused > 0 => eprintln!("all {} are in {}", report.n_refused, path.display()),
        None if n_more > 0 => eprintln!("… and {n_more} more: --refused FILE writes all of them"),
        _ => {}
    }
    if app.catalog.get(collection)?.n_changes > 0 {
        app.rebuild.rebuild(collection, &RebuildRequest::default(), &|what, total| Progress::new(what, total).cancelled_by(cancel))?;
    }
    let code = if report.n_refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(IN_PART) };
    if args.json {
        let told = json!({
            "collection": collection, "n_created": report.n_created, "n_updated": report.n_updated, "n_unchanged": report.n_unchanged,
            "n_refused": report.n_refused, "n_encoded": report.n_encoded, "seqno": report.seqno.0,
        });
        println!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(code);
    }
    println!(
        "{collection}: {} created, {} updated, {} unchanged, {} refused; {} texts embedded",
        report.n_created, report.n_updated, report.n_unchanged, report.n_refused, report.n_encoded
    );
    Ok(code)
}
