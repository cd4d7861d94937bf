//! SNAPSHOT: pin each collection's files → copy them elsewhere, while it is searched, written to and rebuilt.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;
use tokio::runtime::Handle;

use super::{PipelineError, Task, Tasks};
use crate::collection::{Collection, Collections, Description, FilesAtRest, PinnedFiles, small_files};
use crate::snapshot::{self, Contents, Model, Place, SnapshotSource, SourceFile};
use kindred_core::domain::{CollectionName, GenerationId, SeqNo};

/// Makes snapshots of open collections.
#[derive(Debug)]
pub struct SnapshotPipeline {
    collections: Arc<Collections>,
    tasks: Arc<Tasks>,
}

impl SnapshotPipeline {
    pub fn new(collections: Arc<Collections>, tasks: Arc<Tasks>) -> Self {
        Self { collections, tasks }
    }

    /// Begins a snapshot of these collections, or of all, to a place. What it holds is what was acknowledged when each collection's turn
    /// to be pinned came, right at the beginning. Called on a Tokio runtime, whose threads do the waiting.
    ///
    /// # Errors
    /// [`PipelineError::Collection`] for a collection that there is not, [`PipelineError::Snapshot`] for what is no place; what fails
    /// later is in the task.
    pub fn start(&self, to: &str, names: &[CollectionName]) -> Result<Arc<Task>, PipelineError> {
        let collections: Vec<Arc<Collection>> = match names {
            [] => self.collections.all(),
            names => names.iter().map(|name| self.collections.get(name)).collect::<Result<_, _>>()?,
        };
        let place = Place::create(to, self.collections.data_dir())?;
        let runtime = Handle::current();
        let work = move |task: &Arc<Task>| {
            let pinned = collections.iter().map(|collection| collection.pin_files()).collect::<Result<Vec<_>, _>>()?;
            let sources: Vec<SnapshotSource> =
                collections.iter().zip(&pinned).map(|(c, files)| source_of_pinned(c.name(), files)).collect();
            let created = runtime.block_on(snapshot::create(&place, &sources, &|what, total| task.phase(what, total)))?;
            tracing::info!(id = created.id, place = place.name(), uploaded_bytes = created.uploaded_bytes, "made a snapshot");
            Ok(serde_json::to_value(created).unwrap_or(Json::Null))
        };
        self.tasks.start("snapshot", None, work)
    }
}

/// Files that are held against being deleted.
fn source_of_pinned(name: &CollectionName, pinned: &PinnedFiles) -> SnapshotSource {
    source(name, &pinned.description, pinned.generation, (pinned.covered_seqno, pinned.seqno), &pinned.files)
}

/// Files of a collection that nobody has open.
pub fn source_at_rest(files: &FilesAtRest) -> SnapshotSource {
    source(&files.name, &files.description, files.generation, (files.covered_seqno, files.last_seqno), &files.files)
}

fn source(
    name: &CollectionName,
    description: &Description,
    generation: Option<GenerationId>,
    (covered_seqno, last_seqno): (SeqNo, SeqNo),
    files: &[(String, PathBuf, u64)],
) -> SnapshotSource {
    let small = small_files(description, generation).into_iter();
    let small = small.map(|(name, bytes)| SourceFile { name: name.to_owned(), contents: Contents::Bytes(bytes) });
    let large =
        files.iter().map(|(name, path, len)| SourceFile { name: name.clone(), contents: Contents::File { path: path.clone(), len: *len } });
    let model = &description.model;
    SnapshotSource {
        collection: name.clone(),
        generation: generation.map(|id| id.to_string()),
        covered_seqno,
        last_seqno,
        model: Model { name: model.name.clone(), fingerprint: model.fingerprint.clone(), dims: model.dims },
        files: small.chain(large).collect(),
    }
}
