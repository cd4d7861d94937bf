//! A collection to measure with: made once, and found again.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::client::Client;
use crate::corpus::Corpus;
use crate::server::{Launch, Server};
use kindred::config::Settings;
use kindred_core::Progress;

/// A server with an index of any size is ready by then.
const MAX_START: Duration = Duration::from_secs(600);

/// What is measured, and where it is kept.
#[derive(Debug, Args)]
pub(super) struct PreparedArgs {
    /// Keep the data of the started server in this folder; a collection that is there and fits is not made again
    /// [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// The server to start [default: this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Documents in the collection
    #[arg(long, default_value_t = 100_000)]
    pub documents: u64,
    /// Vectors of the documents: .fvecs, or .npy (float32) [default: drawn ones]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
}

impl PreparedArgs {
    /// Where a server is started, for this folder and with these settings.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn launch(&self, settings: &Settings, folder: &Path) -> Result<Launch> {
        Launch::new(self.binary.as_deref(), settings, folder)
    }

    /// The documents, and the collection of them on the server, made unless it is there already. Returns also the model's dimensions.
    ///
    /// # Errors
    /// See [`collection`].
    pub fn corpus(&self, client: &Client) -> Result<(Corpus, usize)> {
        let dims = dims(client)?;
        let corpus = Corpus::new(self.base.as_deref(), dims)?;
        collection(client, &corpus, self.documents)?;
        Ok((corpus, dims))
    }
}

/// Starts a server and waits until it is ready. Returns also how long that took.
pub(super) fn start(launch: &Launch) -> Result<(Server, Duration)> {
    launch.start(MAX_START)
}

/// The collection that is measured.
pub(super) const COLLECTION: &str = "bench";
/// As many changes before a server rebuilds by itself: more than any measurement writes.
pub(super) const NEVER: usize = 1_000_000_000;
const BATCH: u64 = 500;
/// Time between two looks at a task.
const LOOK: Duration = Duration::from_millis(20);

/// The path of the collection, and of what is below it.
pub(super) fn path(below: &str) -> String {
    format!("/v1/collections/{COLLECTION}{below}")
}

/// The dimensions of the server's model.
pub(super) fn dims(client: &Client) -> Result<usize> {
    let info = client.get("/v1/info")?.ok()?;
    Ok(info["model"]["dims"].as_u64().context("/v1/info does not tell the model's dimensions")? as usize)
}

/// Documents of the collection, and how many of them have changed since it was built.
pub(super) fn size(client: &Client) -> Result<(u64, u64)> {
    let info = client.get(&path(""))?.ok()?;
    let read = |name: &str| info[name].as_u64().with_context(|| format!("the collection does not tell its {name}"));
    Ok((read("n_documents")?, read("n_changes")?))
}

/// Makes the collection and builds its index, unless it is there already.
///
/// # Errors
/// There is one of another size; the server refuses something.
pub(super) fn collection(client: &Client, corpus: &Corpus, n_documents: u64) -> Result<()> {
    client.put(&path(""), &Corpus::definition().to_string())?.ok()?;
    let (there, n_changes) = size(client)?;
    if there == n_documents {
        // Loading may have been interrupted before the index was built.
        return if n_changes < n_documents { Ok(()) } else { rebuild(client) };
    }
    if there > n_documents {
        bail!("the collection {COLLECTION} has {there} documents already, not {n_documents}: name another folder, or --documents {there}");
    }
    in_batches(there..n_documents, |numbers| write(client, numbers.map(|number| corpus.item(number, number, true)).collect()))?;
    rebuild(client)
}

/// Does something for all numbers, so many at a time as fit into a request, and shows how far it is.
pub(super) fn in_batches(numbers: Range<u64>, mut write: impl FnMut(Range<u64>) -> Result<()>) -> Result<()> {
    let progress = Progress::new("loading", numbers.end - numbers.start);
    let mut next = numbers.start;
    while next < numbers.end {
        let end = numbers.end.min(next + BATCH);
        write(next..end)?;
        progress.advance(end - next);
        next = end;
    }
    progress.finish();
    Ok(())
}

/// Writes documents, all of which must be taken.
pub(super) fn write(client: &Client, items: Vec<Value>) -> Result<()> {
    put(client, &path("/documents"), &Value::Array(items).to_string())
}

/// Sends a list of documents to a collection, which must take all of them.
pub(super) fn put(client: &Client, path: &str, body: &str) -> Result<()> {
    let answer = client.put(path, body)?.ok()?;
    if answer["errors"] != false {
        bail!("the server refuses documents: {}", answer["items"]);
    }
    Ok(())
}

/// Builds the index anew, and waits for it.
pub(super) fn rebuild(client: &Client) -> Result<()> {
    loop {
        let answer = client.post(&path("/rebuild"), &json!({"activate": "auto"}).to_string())?;
        // One that began on its own goes first; it may have begun before the last changes.
        if answer.status == 409 {
            std::thread::sleep(LOOK);
            continue;
        }
        let answer = answer.ok()?;
        return wait(client, answer["task"].as_str().context("the answer to a rebuild names no task")?);
    }
}

fn wait(client: &Client, task: &str) -> Result<()> {
    let mut shown: Option<(Progress, u64)> = None;
    loop {
        let told = client.get(&format!("/v1/tasks/{task}"))?.ok()?;
        let number = |name: &str| told[name].as_u64().unwrap_or_default();
        // How much there is to do is known only once it has begun.
        if number("total") > 0 {
            let (progress, done) = shown.get_or_insert_with(|| (Progress::new("rebuilding", number("total")), 0));
            progress.advance(number("done").saturating_sub(*done));
            *done = number("done").max(*done);
        }
        match told["status"].as_str() {
            Some("done") => break,
            Some("queued" | "running") => std::thread::sleep(LOOK),
            _ => bail!("the rebuild became {told}"),
        }
    }
    if let Some((progress, _)) = shown {
        progress.finish();
    }
    Ok(())
}
