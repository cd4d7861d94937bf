//! Fills a collection with documents that a tool has made.

use anyhow::{Result, bail};
use serde_json::Value as Json;

use crate::app::App;
use crate::pipeline::{Outcome, RebuildRequest, WriteRequest};
use kindred_core::Progress;
use kindred_core::domain::CollectionName;

/// Documents that are written together: few enough that what is broken off loses little.
const BATCH: usize = 1_024;

/// Writes documents and builds the collection, unless nothing has changed. `what` is said of it while it goes on.
///
/// # Errors
/// A document that the collection refuses, a failed write or build.
pub async fn fill(app: &App, collection: &CollectionName, what: &str, documents: Vec<Json>) -> Result<()> {
    let progress = Progress::new(format!("embedding {what}"), documents.len() as u64);
    let mut documents = documents.into_iter().peekable();
    while documents.peek().is_some() {
        let batch = WriteRequest::put(documents.by_ref().take(BATCH).map(Ok));
        let report = app.write.write(collection, batch, &progress).await?;
        if let Some(Outcome::Refused { id, error }) = report.outcomes.into_iter().find(|outcome| matches!(outcome, Outcome::Refused { .. }))
        {
            bail!("collection {collection} refuses document {}: {}", id.as_deref().unwrap_or("without an id"), error.message);
        }
    }
    progress.finish();
    if app.catalog.get(collection)?.n_changes > 0 {
        let build =
            || app.rebuild.rebuild(collection, &RebuildRequest::default(), &|_, total| Progress::new(format!("building {what}"), total));
        tokio::task::block_in_place(build)?;
    }
    Ok(())
}
