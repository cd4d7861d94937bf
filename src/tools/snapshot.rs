//! `kindred snapshot`: make, restore, verify and list snapshots. None of it needs a model.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::serve;
use super::signals::{cancelled_by_signal, interrupted};
use crate::collection::{FilesAtRest, files_at_rest};
use crate::config::Settings;
use crate::pipeline::source_at_rest;
use crate::snapshot::{self, CollectionEntry, Listed, Place, SnapshotSource, Verified};
use kindred_core::domain::CollectionName;
use kindred_core::storage::Lock;
use kindred_core::{Cancel, Progress};

/// What is asked of `kindred snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Write a snapshot of the data folder; only what no earlier snapshot in that place has is uploaded
    #[command(
        after_help = "Examples:\n  kindred snapshot create /backup/kindred\n  kindred snapshot create s3://bucket/kindred --collection jobs\n\nA server that runs on the data folder is asked instead: curl -X POST localhost:7700/v1/snapshots -d '{\"to\": \"/backup/kindred\"}'"
    )]
    Create(CreateArgs),
    /// Bring collections back into a data folder that does not have them
    #[command(
        after_help = "Examples:\n  kindred snapshot restore /backup/kindred --data-dir /var/lib/kindred\n  kindred snapshot restore s3://bucket/kindred --id 20261122T080000.000000Z --collection jobs\n\nEvery checksum is verified before a collection is there. Serve it with the model that it names."
    )]
    Restore(RestoreArgs),
    /// Read all of a snapshot and compare it with its checksums
    #[command(after_help = "Examples:\n  kindred snapshot verify /backup/kindred\n  kindred snapshot verify s3://bucket/kindred --all")]
    Verify(VerifyArgs),
    /// List the snapshots in a place
    #[command(after_help = "Example:\n  kindred snapshot list s3://bucket/kindred")]
    List(ListArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Folder, or s3://, gs:// or az:// URL, to write to
    to: String,
    /// Only this collection; may be given several times
    #[arg(long, value_name = "NAME")]
    collection: Vec<CollectionName>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Folder, or s3://, gs:// or az:// URL, to read from
    from: String,
    /// Which snapshot; without it, the newest
    #[arg(long)]
    id: Option<String>,
    /// Only this collection; may be given several times
    #[arg(long, value_name = "NAME")]
    collection: Vec<CollectionName>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder, or s3://, gs:// or az:// URL, to read from
    at: String,
    /// Which snapshot; without it, the newest
    #[arg(long, conflicts_with = "all")]
    id: Option<String>,
    /// All snapshots
    #[arg(long)]
    all: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Folder, or s3://, gs:// or az:// URL, to read from
    at: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Does what is asked.
///
/// # Errors
/// A place that cannot be reached, a data folder that is in use or has the collections already, damage.
pub fn run(settings: &Settings, command: &SnapshotCommand) -> Result<ExitCode> {
    let cancel = cancelled_by_signal()?;
    let done = match command {
        SnapshotCommand::Create(args) => create(settings, args, &cancel),
        SnapshotCommand::Restore(args) => restore(settings, args, &cancel),
        SnapshotCommand::Verify(args) => verify(args, &cancel),
        SnapshotCommand::List(args) => list(args),
    };
    match done {
        Err(e) if cancel.is_cancelled() => Ok(interrupted(format_args!("{e:#}"))),
        done => done,
    }
}

fn create(settings: &Settings, args: &CreateArgs, cancel: &Cancel) -> Result<ExitCode> {
    let data_dir = &settings.storage.data_dir;
    // Before the lock, which would be made in a folder that is not there.
    let known = files_at_rest(data_dir)?;
    let _lock = Lock::acquire(&data_dir.join("LOCK"))?;
    if let Some(name) = args.collection.iter().find(|name| !known.iter().any(|files| files.name == **name)) {
        let names: Vec<&str> = known.iter().map(|files| files.name.as_str()).collect();
        bail!("there is no collection {:?} in {}: there are {}", name.as_str(), data_dir.display(), names.join(", "));
    }
    let wanted = |files: &FilesAtRest| args.collection.is_empty() || args.collection.contains(&files.name);
    let sources: Vec<SnapshotSource> = files_at_rest(data_dir)?.into_iter().filter(wanted).map(|files| source_at_rest(&files)).collect();
    let place = Place::create(&args.to, &settings.storage.data_dir)?;
    let created = serve::runtime()?.block_on(snapshot::create(&place, &sources, &shown(cancel)))?;
    if args.json {
        return json(&created);
    }
    println!(
        "snapshot {} of {} in {}: {} files, {}; {} of them new, {}",
        created.id,
        sources.iter().map(|source| source.collection.as_str()).collect::<Vec<_>>().join(", "),
        args.to,
        created.n_files,
        size(created.size_bytes),
        created.n_uploaded,
        size(created.uploaded_bytes)
    );
    Ok(ExitCode::SUCCESS)
}

fn restore(settings: &Settings, args: &RestoreArgs, cancel: &Cancel) -> Result<ExitCode> {
    let place = Place::open(&args.from)?;
    let data_dir = &settings.storage.data_dir;
    let restored = serve::runtime()?.block_on(snapshot::restore(&place, args.id.as_deref(), &args.collection, data_dir, &shown(cancel)))?;
    if args.json {
        return json(&restored);
    }
    for CollectionEntry { name, last_seqno, model, .. } in &restored.collections {
        println!("restored {name} up to change {last_seqno}, from snapshot {}", restored.id);
        println!("  embedded with {} ({} dims, fingerprint {})", model.name, model.dims, model.fingerprint);
    }
    println!(
        "serve them with that model: kindred serve --data-dir {} --model-dir FOLDER-OF-THE-MODEL\nor embed the documents again with the one you have: kindred rebuild COLLECTION",
        data_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &VerifyArgs, cancel: &Cancel) -> Result<ExitCode> {
    let place = Place::open(&args.at)?;
    let verified = serve::runtime()?.block_on(snapshot::verify(&place, args.id.as_deref(), args.all, &shown(cancel)))?;
    let code = if verified.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if args.json {
        json(&verified)?;
        return Ok(code);
    }
    let Verified { snapshots, n_objects, size_bytes, problems } = verified;
    println!("{:<28} {:>8} {:>12}", "snapshot", "objects", "size");
    println!("{:<28} {n_objects:>8} {:>12}", snapshots.first().map_or("", String::as_str), size(size_bytes));
    snapshots.iter().skip(1).for_each(|id| println!("{id:<28}"));
    for problem in &problems {
        let what = if problem.is_missing { "missing" } else { "damaged" };
        println!("{what}  {}", problem.object);
        problem.files.iter().for_each(|file| println!("         {file}"));
    }
    match problems.len() {
        0 => println!("all of it is what was written"),
        n => println!("{n} objects are not what was written: delete the damaged ones and make a new snapshot"),
    }
    Ok(code)
}

fn list(args: &ListArgs) -> Result<ExitCode> {
    let place = Place::open(&args.at)?;
    let listed = serve::runtime()?.block_on(snapshot::list(&place))?;
    if args.json {
        return json(&listed);
    }
    if listed.is_empty() {
        println!("there is no snapshot in {}", args.at);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<28} {:<20} {:>10} {:>10} {:>10}  model", "snapshot", "collection", "generation", "change", "size");
    for Listed { id, manifest } in &listed {
        match manifest {
            Err(reason) => println!("{id:<28} {reason}"),
            Ok(manifest) => {
                for entry in &manifest.collections {
                    let generation = entry.generation.as_deref().unwrap_or("none");
                    let CollectionEntry { name, last_seqno, model, .. } = entry;
                    let size = size(entry.size_bytes());
                    println!(
                        "{id:<28} {:<20} {generation:>10} {:>10} {size:>10}  {} ({})",
                        name.as_str(),
                        last_seqno.0,
                        model.name,
                        model.fingerprint.chars().take(12).collect::<String>()
                    );
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(cancel: &Cancel) -> impl Fn(&str, u64) -> Progress + Send + Sync + '_ {
    move |what, total| Progress::of_bytes(what, total).cancelled_by(cancel)
}

fn json(result: &impl Serialize) -> Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(result)?);
    Ok(ExitCode::SUCCESS)
}

fn size(bytes: u64) -> String {
    match bytes as f64 {
        n if n < 1e6 => format!("{:.1} kB", n / 1e3),
        n if n < 1e9 => format!("{:.1} MB", n / 1e6),
        n => format!("{:.2} GB", n / 1e9),
    }
}
