//! `kindred rebuild`: a collection's index anew.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::fetch;
use super::signals::{cancelled_by_signal, interrupted};
use crate::app::App;
use crate::collection::Access;
use crate::config::Settings;
use crate::pipeline::{Gates, ModelChoice, RebuildRequest};
use kindred_core::Progress;
use kindred_core::domain::CollectionName;

#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// The collection to build
    collection: CollectionName,
    /// Serve the build only if searches find this share of the ten nearest documents, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_recall: Option<f64>,
    /// Serve the build only if it has so many documents
    #[arg(long, value_name = "N")]
    min_documents: Option<u64>,
    /// Leave it to POST /v1/collections/{collection}/generations/{id}/activate to serve the build
    #[arg(long)]
    no_activate: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Builds, and activates if that is wanted.
///
/// # Errors
/// A gate that is not passed; too little memory or room; a data folder that a server has.
pub fn run(settings: &Settings, args: &RebuildArgs) -> Result<ExitCode> {
    fetch::ensure(settings)?;
    let app = App::open(settings, Access::Rebuild)?;
    let cancel = cancelled_by_signal()?;
    let (collection, gates) = (&args.collection, Gates { recall_at_10: args.min_recall, min_documents: args.min_documents });
    // The model that the settings name, whatever the collection was embedded with: that is what this command is for.
    let request = RebuildRequest { model: ModelChoice::Configured, gates, activate: !args.no_activate, ..RebuildRequest::default() };
    let show = |what: &str, total| Progress::new(what, total).cancelled_by(&cancel);
    let report = match app.rebuild.rebuild(collection, &request, &show) {
        Err(e) if cancel.is_cancelled() => {
            return Ok(interrupted(format_args!("{e}. The old generation stays, and all changes since")));
        }
        built => built?,
    };
    let seconds = report.elapsed.as_secs_f64();
    if args.json {
        let mut told = report.to_json();
        told["collection"] = json!(collection);
        println!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(ExitCode::SUCCESS);
    }
    let recall = report.recall_at_10.map(|recall| format!(", recall@10 {recall:.4}")).unwrap_or_default();
    let left = if report.activated { "" } else { "; the old generation goes on serving until this one is activated" };
    println!(
        "rebuilt {collection} as generation {}: {} documents, {} embedded again{recall}, in {seconds:.1} s{left}",
        report.generation, report.n_documents, report.n_encoded,
    );
    Ok(ExitCode::SUCCESS)
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "expected a number from 0 to 1".to_owned())
}
