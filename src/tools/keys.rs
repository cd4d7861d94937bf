//! `kindred keys`: API keys for those who ask a server.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use crate::config::Settings;
use crate::http::{NewKey, Role};
use kindred_core::domain::CollectionName;

/// Where keys lie that no setting and no flag names.
const USUAL_FILE: &str = "keys.toml";

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key, print it once, and keep its hash
    Create(CreateArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What to call it: for people, and for the log
    name: String,
    /// What it may do: read, write (documents) or admin; each role also what those before it may
    #[arg(long, default_value = "read")]
    role: Role,
    /// The collections that it is for (may be given several times); without it, all
    #[arg(long = "collection", value_name = "COLLECTION")]
    collections: Vec<CollectionName>,
    /// Most requests a second; more are refused with 429
    #[arg(long, value_name = "N")]
    requests_per_second: Option<NonZeroU32>,
    /// Days until it ends
    #[arg(long, value_name = "DAYS")]
    expires_in_days: Option<NonZeroU32>,
    /// The file of keys [setting auth.keys_file, else keys.toml]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Makes a key and tells it.
///
/// # Errors
/// A name that is taken, a file that cannot be used.
pub fn run(settings: &Settings, KeysCommand::Create(args): &KeysCommand) -> Result<()> {
    let path = args.file.as_deref().or(settings.auth.keys_file()).unwrap_or(Path::new(USUAL_FILE));
    let expires_at = args.expires_in_days.map(|days| Timestamp::now().checked_add(Duration::from_secs(u64::from(days.get()) * 86_400)));
    let new = NewKey {
        name: args.name.clone(),
        role: args.role,
        collections: BTreeSet::from_iter(args.collections.iter().cloned()),
        requests_per_second: args.requests_per_second,
        expires_at: expires_at.transpose().context("--expires-in-days is beyond all calendars")?,
    };
    let key = new.add_to(path)?;
    if args.json {
        println!("{}", json!({"name": args.name, "key": key, "file": path}));
        return Ok(());
    }
    println!("{key}");
    eprintln!("This is the only time that it is told: {} keeps its hash.", path.display());
    if settings.auth.keys_file() != Some(path) {
        eprintln!("A server asks for keys with: kindred serve --set auth.keys_file={}", path.display());
    }
    Ok(())
}
