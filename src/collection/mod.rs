//! Collections: documents that are found by their embeddings, kept so that an acknowledged change survives.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | one collection: open, apply changes, publish a generation |
//! | `collections.rs` | all collections of a data folder |
//! | `searcher.rs` | the immutable snapshot that a query pins: base + delta − tombstones |
//! | `delta.rs` | the changes since the generation, in memory |
//! | `generation.rs` | one immutable build on disk: write, verify, open |
//! | `documents.rs` | the stored documents of a generation |
//! | `manifest.rs` | what a generation says about itself |
//!
//! *Concurrency*: one writer at a time, any number of searchers. A query pins a [`Searcher`] and never waits for a lock; a
//! rebuild works beside both and takes the writer's lock only to swap the base.
//!
//! *Order of a write*: log, sync, delta, swap, acknowledge. Everything a user can get wrong is refused before the log.

mod collections;
mod delta;
mod documents;
mod generation;
mod manifest;
mod searcher;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use arc_swap::ArcSwap;

pub use crate::index::{BuildParams, Quantization};
pub use collections::{Collections, IdentifyModel};
pub use delta::StoredChange;
pub use manifest::{Description, ModelIdentity};
pub use searcher::{Found, FoundDocument, RetrieveRequest, Searcher};

use crate::domain::{CollectionDefinition, CollectionName, DocumentId, Schema, SchemaError, SeqNo, Template};
use crate::error::ErrorKind;
use crate::index::IndexError;
use crate::storage::{self, StorageError};
use crate::telemetry::Progress;
use crate::wal::{self, Batch, Operation, WalError, WalWriter};
use delta::Delta;
use generation::Generation;

/// What can go wrong with a collection.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    #[error("there is no data folder at {}: name another with --data-dir, or make one with kindred serve, ingest or demo", path.display())]
    NoDataDir { path: PathBuf },
    #[error(
        "there is no collection {name:?}: {known}. Make one with PUT /v1/collections/{name}, or as [collections.{name}] in the settings"
    )]
    Unknown { name: String, known: String },
    #[error("collection {name:?} exists already with another definition: delete it first, or choose another name")]
    Exists { name: String },
    #[error(
        "collection {name:?} was embedded with {built} (fingerprint {built_fingerprint}), but the loaded model is {loaded} (fingerprint {loaded_fingerprint}). Set encoder.model_dir and the prompts back to what they were, or embed the documents again: kindred rebuild {name}"
    )]
    OtherModel { name: String, built: String, built_fingerprint: String, loaded: String, loaded_fingerprint: String },
    #[error(
        "the definition of collection {name:?} has changed since it was built. Change it back, or apply it to the documents: kindred rebuild {name}"
    )]
    OtherDefinition { name: String },
    #[error("the definition of collection {name:?} cannot be accepted: {source}")]
    Definition { name: String, source: SchemaError },
    #[error("collection {name:?} was opened for reading only")]
    ReadOnly { name: String },
    #[error("collection {name:?} is being rebuilt already")]
    Rebuilding { name: String },
    #[error(
        "generation {generation} of collection {name:?} was built but does not hold what it should: {reason}. The old one goes on serving"
    )]
    Verification { name: String, generation: u64, reason: String },
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl CollectionError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } | Self::NoDataDir { .. } => ErrorKind::NotFound,
            Self::Exists { .. } | Self::OtherModel { .. } | Self::OtherDefinition { .. } | Self::Rebuilding { .. } => ErrorKind::Conflict,
            Self::Definition { .. } => ErrorKind::Invalid,
            Self::ReadOnly { .. } => ErrorKind::Unavailable,
            Self::Verification { .. } => ErrorKind::Internal,
            Self::Index(e) => e.kind(),
            Self::Wal(e) => e.kind(),
            Self::Storage(e) => e.kind(),
        }
    }
}

/// How often a reader tries to open a collection that a server keeps changing.
const MAX_ATTEMPTS: usize = 5;

/// Why a collection is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Search and write.
    Serve,
    /// Search only, beside a process that may be writing.
    Read,
    /// Rebuild, whatever model and definition it was built with.
    Rebuild,
}

/// One collection.
#[derive(Debug)]
pub struct Collection {
    name: CollectionName,
    dir: PathBuf,
    /// Of the documents as they are: the definition and the model that the stored embeddings come from.
    searcher: ArcSwap<Searcher>,
    /// `None` when opened for reading.
    writer: Option<Mutex<Writer>>,
    rebuilding: Mutex<()>,
}

#[derive(Debug)]
struct Writer {
    wal: WalWriter,
    next_seqno: SeqNo,
    /// The collection has been deleted: whoever still holds it must not write to what may come in its place.
    closed: bool,
}

impl Collection {
    /// Makes a new, empty collection on disk.
    ///
    /// # Errors
    /// [`CollectionError::Storage`].
    fn create(dir: &Path, description: &Description) -> Result<(), CollectionError> {
        storage::create_dir(dir)?;
        storage::replace_file(&dir.join(manifest::DESCRIPTION_FILE), &description.to_json())?;
        storage::sync_dir(dir.parent().unwrap_or(dir))?;
        Ok(())
    }

    /// Opens a collection: maps its generation and replays what the log has beyond it.
    ///
    /// # Errors
    /// [`CollectionError::OtherModel`] and [`CollectionError::OtherDefinition`] unless it is opened to be rebuilt; damage.
    fn open(name: &CollectionName, dir: &Path, wanted: &Description, access: Access) -> Result<Self, CollectionError> {
        for _ in 0..MAX_ATTEMPTS {
            let before = generation::current(dir)?;
            let opened = Self::open_once(name, dir, wanted, access);
            // Beside a server, the files may be those of two generations: the old one's list and the new one's log.
            if opened.is_ok() || access != Access::Read || generation::current(dir)? == before {
                return opened;
            }
        }
        Self::open_once(name, dir, wanted, access)
    }

    fn open_once(name: &CollectionName, dir: &Path, wanted: &Description, access: Access) -> Result<Self, CollectionError> {
        let generation = Generation::open_current(dir)?.map(Arc::new);
        let description = match &generation {
            Some(generation) => generation.description().clone(),
            None => Description::read(&dir.join(manifest::DESCRIPTION_FILE))?.unwrap_or_else(|| wanted.clone()),
        };
        if access != Access::Rebuild {
            description.check_against(name, wanted)?;
        }
        let covered = generation.as_ref().map_or(SeqNo(0), |g| g.covered_seqno());
        let mut delta = Delta::default();
        let wal_dir = dir.join("wal");
        let replay = wal::replay(&wal_dir, covered, access != Access::Read, |batch| delta.apply(batch))?;
        if replay.torn_bytes > 0 && access != Access::Read {
            tracing::warn!(collection = %name, torn_bytes = replay.torn_bytes, "dropped an unacknowledged batch at the end of the log");
        }
        let writer = match access {
            Access::Read => None,
            Access::Serve | Access::Rebuild => {
                let wal = WalWriter::create(&wal_dir, replay.next_seqno)?;
                Some(Mutex::new(Writer { wal, next_seqno: replay.next_seqno, closed: false }))
            }
        };
        let last = SeqNo(replay.next_seqno.0 - 1);
        let searcher = Searcher::new(name, description, generation, Arc::new(delta), last)?;
        Ok(Self { name: name.clone(), dir: dir.to_owned(), searcher: ArcSwap::from_pointee(searcher), writer, rebuilding: Mutex::new(()) })
    }

    /// The collection's name.
    pub fn name(&self) -> &CollectionName {
        &self.name
    }

    /// The snapshot to search: take one per request and keep it to the end.
    pub fn searcher(&self) -> Arc<Searcher> {
        self.searcher.load_full()
    }

    /// Makes changes durable and visible to the next search. Returns the seqno of the last one.
    ///
    /// # Errors
    /// [`CollectionError::Wal`], [`CollectionError::Index`]: nothing of the batch has been applied.
    pub fn apply(&self, changes: Vec<StoredChange>) -> Result<SeqNo, CollectionError> {
        let mut writer = self.lock_writer()?;
        if changes.is_empty() {
            return Ok(SeqNo(writer.next_seqno.0 - 1));
        }
        let operations: Vec<Operation> = changes.into_iter().map(Operation::from).collect();
        let batch = Batch { first_seqno: writer.next_seqno, operations };
        let next_seqno = batch.next_seqno();
        let before = self.searcher.load();
        let replaced = before.replaced_by(&batch)?;
        writer.wal.append(&batch)?;
        writer.next_seqno = next_seqno;
        let last = SeqNo(next_seqno.0 - 1);
        self.searcher.store(Arc::new(before.with_batch(batch, last, &replaced)));
        Ok(last)
    }

    /// Builds a generation from documents that contain all changes up to `pinned`'s seqno, and makes it the base.
    ///
    /// # Errors
    /// [`CollectionError::Rebuilding`], [`CollectionError::Verification`], [`CollectionError::Index`] and
    /// [`CollectionError::Storage`]; the old generation then goes on serving.
    pub fn publish(
        &self,
        contents: &Contents,
        pinned: &Searcher,
        params: &BuildParams,
        progress: &Progress,
    ) -> Result<(), CollectionError> {
        let _one_at_a_time = match self.rebuilding.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(CollectionError::Rebuilding { name: self.name.to_string() }),
        };
        drop(self.lock_writer()?);
        Generation::remove_others(&self.dir)?;
        let generation = Arc::new(Generation::build(&self.name, &self.dir, contents, pinned.seqno(), params, progress)?);
        let mut writer = self.lock_writer()?;
        // What can fail comes before the new generation is current, on disk and in memory.
        let searcher = self.searcher.load().with_base(&self.name, Arc::clone(&generation))?;
        generation.make_current(&self.dir)?;
        self.searcher.store(Arc::new(searcher));
        // The new generation serves. What can fail from here on is tidying up, which the next rebuild does again.
        let next_seqno = writer.next_seqno;
        let tidied = storage::replace_file(&self.dir.join(manifest::DESCRIPTION_FILE), &contents.description.to_json())
            .map_err(CollectionError::from)
            .and_then(|()| Ok(writer.wal.trim(pinned.seqno(), next_seqno)?))
            .and_then(|()| Ok(Generation::remove_others(&self.dir)?));
        if let Err(e) = tidied {
            tracing::warn!(collection = %self.name, error = %e, "a new generation serves, but the old one could not be tidied away");
        }
        Ok(())
    }

    fn lock_writer(&self) -> Result<MutexGuard<'_, Writer>, CollectionError> {
        let writer = self.writer.as_ref().ok_or_else(|| CollectionError::ReadOnly { name: self.name.to_string() })?;
        // A panic under the lock leaves the log poisoned or the searcher unswapped, never half-applied: going on is safe.
        let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.closed {
            return Err(CollectionError::Unknown { name: self.name.to_string(), known: "it has been deleted".to_owned() });
        }
        Ok(writer)
    }

    /// Ends all writing, before the collection's folder is deleted, or allows it again. Waits for a rebuild under way.
    fn set_closed(&self, closed: bool) {
        let _no_rebuild = self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = &self.writer {
            writer.lock().unwrap_or_else(PoisonError::into_inner).closed = closed;
        }
    }
}

/// All that goes into a generation, row by row.
#[derive(Debug)]
pub struct Contents {
    pub description: Description,
    pub ids: Vec<DocumentId>,
    /// The users' fields without the id, as JSON text.
    pub fields: Vec<String>,
    pub attributes: Vec<crate::domain::Attributes>,
    /// `[rows × dims]`, unit length.
    pub vectors: Vec<f32>,
}

/// What a definition means, checked once.
#[derive(Debug)]
pub struct Meaning {
    pub template: Template,
    pub schema: Schema,
}

impl Meaning {
    /// Checks a definition.
    ///
    /// # Errors
    /// [`CollectionError::Definition`].
    pub fn of(name: &CollectionName, definition: &CollectionDefinition) -> Result<Self, CollectionError> {
        let (template, schema) = definition.check().map_err(|source| CollectionError::Definition { name: name.to_string(), source })?;
        Ok(Self { template, schema })
    }
}
