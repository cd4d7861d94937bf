//! Collections: documents that are found by their embeddings, kept so that an acknowledged change survives.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | one collection: open, apply changes |
//! | `errors.rs` | what can go wrong |
//! | `definition.rs` | a checked definition: template, schema, analyzer |
//! | `at_rest.rs` | the files of collections that nobody has open |
//! | `collections.rs` | all collections of a data folder |
//! | `searcher.rs` | the immutable snapshot that a query pins: base + delta − tombstones |
//! | `listing.rs` | its documents without a query: in pages, or counted |
//! | `retrieve.rs` | how a searcher finds candidates: by meaning, by words, by both |
//! | `facets.rs` | how many of the documents that match have each value |
//! | `writer.rs` | the one writer: log, sync, delta, swap, acknowledge |
//! | `delta.rs` | the changes since the generation, in memory |
//! | `changes.rs` | those changes, read back from the log |
//! | `profiles.rs` | what gives candidates their scores: kept here, understood elsewhere |
//! | `publish.rs` | builds, lists, previews and discards generations |
//! | `activation.rs` | makes a generation serve, in named steps |
//! | `pinned.rs` | files that are held while they are copied |
//! | `contents.rs` | all documents in memory, as they go into a generation |
//! | `generation.rs` | one immutable build on disk: write, verify, open |
//! | `documents.rs` | the stored documents of a generation |
//! | `manifest.rs` | what a generation says about itself |
//!
//! *Concurrency*: one thread writes, any number search. A query pins a [`Searcher`] and never waits for a lock; a
//! rebuild works beside both and takes the writer's lock only to swap the base.
//!
//! *Order of a write*: log, sync, delta, swap, acknowledge. User errors are refused before the log.
//!
//! *Epochs*: embeddings depend on a model, attributes on a definition. Both together are an [`Epoch`](kindred_core::domain::Epoch).
//! All documents of a searcher are of one epoch. A write names the epoch that it was checked in, and is refused in another; each file
//! of the log names the epoch of its documents.

mod activation;
mod at_rest;
mod changes;
mod collections;
mod contents;
mod definition;
mod delta;
mod documents;
mod errors;
mod facets;
mod generation;
mod listing;
mod manifest;
mod pinned;
mod profiles;
mod publish;
mod retrieve;
mod searcher;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

pub use at_rest::{FilesAtRest, files_at_rest, small_files};
pub use changes::ForeignDocument;
pub use collections::{Collections, IdentifyModel};
pub use contents::Contents;
pub use definition::Meaning;
pub use errors::{CollectionError, NoWords};
pub use facets::{Facet, FacetBudget};
pub use generation::{GenerationInfo, GenerationStatus};
pub use kindred_index::{BuildParams, Quantization};
pub use listing::FoundPage;
pub use manifest::{Description, ModelIdentity};
pub use pinned::PinnedFiles;
pub use profiles::{StoredProfile, StoredProfiles};
pub use retrieve::{Found, Question, RetrieveRequest, Retrieved, Scope, Signal};
pub use searcher::{FoundDocument, Searcher};
pub use writer::{Applied, Change, Changes, Durability};

pub use crate::lexical::LexicalQuery;
pub use crate::wal::{StoredDocument, WalSettings};

use crate::wal::{WalError, WalWriter};
use changes::LoggedChanges;
use generation::Generation;
use kindred_core::domain::{Clock, CollectionName, SeqNo};
use kindred_core::storage;
use writer::{Shared, State, UpsertGate, Writer};

/// How often a reader tries to open a collection that a server keeps changing.
const MAX_ATTEMPTS: usize = 5;

/// Folder of the log.
const WAL: &str = "wal";
/// Expired documents that are deleted together.
const MAX_SWEPT: usize = 1_000;

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

/// How collections are opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    pub access: Access,
    pub durability: Durability,
    pub wal: WalSettings,
    pub clock: Clock,
}

/// One collection.
#[derive(Debug)]
pub struct Collection {
    name: CollectionName,
    dir: PathBuf,
    /// The searcher is of the documents as they are: with the definition and the model that the stored embeddings come from.
    state: WhoWrites,
    clock: Clock,
    profiles: ArcSwap<StoredProfiles>,
    /// Held while a generation is built.
    building: Mutex<()>,
    /// Held while a generation is activated and others are deleted, and while files are pinned.
    files: Mutex<()>,
}

#[derive(Debug)]
enum WhoWrites {
    /// Opened for reading.
    Nobody(ArcSwap<Searcher>),
    /// The thread is dropped, and so ended, before the log that it writes.
    We(Writer, Arc<Shared>),
}

impl Collection {
    /// True if the log takes no writes until a restart, because it could not be made durable. `None` while a write is under way.
    pub fn is_poisoned(&self) -> Option<bool> {
        match &self.state {
            WhoWrites::Nobody(_) => Some(false),
            WhoWrites::We(writer, shared) => Some(writer.has_ended() || shared.try_is_poisoned()?),
        }
    }

    /// Makes a new, empty collection on disk.
    ///
    /// # Errors
    /// [`CollectionError::Storage`].
    fn create(dir: &Path, description: &Description) -> Result<(), CollectionError> {
        storage::create_dir(dir)?;
        Ok(storage::replace_file(&dir.join(manifest::DESCRIPTION_FILE), &description.to_json())?)
    }

    /// Opens a collection: maps its generation and replays what the log has beyond it.
    ///
    /// # Errors
    /// [`CollectionError::OtherModel`] and [`CollectionError::OtherDefinition`] unless it is opened to be rebuilt; damage.
    fn open(name: &CollectionName, dir: &Path, wanted: &Description, options: &OpenOptions) -> Result<Self, CollectionError> {
        for _ in 0..MAX_ATTEMPTS {
            let before = generation::history(dir)?;
            let opened = Self::open_once(name, dir, wanted, options);
            // Beside a server, the files may be those of two generations: the old one's list and the new one's log.
            if opened.is_ok() || options.access != Access::Read || generation::history(dir)? == before {
                return opened;
            }
        }
        Self::open_once(name, dir, wanted, options)
    }

    fn open_once(name: &CollectionName, dir: &Path, wanted: &Description, options: &OpenOptions) -> Result<Self, CollectionError> {
        let stored = Description::read(&dir.join(manifest::DESCRIPTION_FILE))?;
        let generation = Generation::open_current(name, dir, stored.as_ref())?.map(Arc::new);
        let description = match &generation {
            Some(generation) => generation.description().clone(),
            None => stored.unwrap_or_else(|| wanted.clone()),
        };
        if options.access != Access::Rebuild {
            description.check_against(name, wanted)?;
        }
        let is_ours = options.access != Access::Read;
        if is_ours {
            pinned::remove_leftovers(dir)?;
        }
        let mut searcher = Searcher::new(name, description, generation, options.clock.clone())?;
        let mut changes = LoggedChanges::new(searcher.epoch(), searcher.seqno());
        let wal_dir = dir.join(WAL);
        let replay = changes.read(&wal_dir, is_ours).map_err(|e| match (e, generation::is_current_missing(dir)) {
            (CollectionError::Wal(WalError::Gap { .. }), Ok(Some(newest))) => {
                CollectionError::NoCurrent { path: dir.join("CURRENT"), newest }
            }
            (e, _) => e,
        })?;
        if replay.torn_bytes > 0 && is_ours {
            tracing::warn!(collection = %name, torn_bytes = replay.torn_bytes, "dropped an unacknowledged batch at the end of the log");
        }
        searcher.catch_up(&mut changes)?;
        let epoch = searcher.epoch();
        let searcher = ArcSwap::from_pointee(searcher);
        let state = if is_ours {
            let wal = WalWriter::open(&wal_dir, replay.next_seqno, replay.last_file, epoch, options.wal)?;
            let state = State { wal, next_seqno: replay.next_seqno, durability: options.durability, closed: false };
            let shared = Arc::new(Shared { name: name.clone(), searcher, state: Mutex::new(state), gate: UpsertGate::default() });
            WhoWrites::We(Writer::start(Arc::clone(&shared))?, shared)
        } else {
            WhoWrites::Nobody(searcher)
        };
        Ok(Self {
            name: name.clone(),
            dir: dir.to_owned(),
            state,
            clock: options.clock.clone(),
            profiles: ArcSwap::from_pointee(profiles::read_all(dir)?),
            building: Mutex::new(()),
            files: Mutex::new(()),
        })
    }

    /// The collection's name.
    pub fn name(&self) -> &CollectionName {
        &self.name
    }

    /// The snapshot to search: take one per request and keep it to the end.
    pub fn searcher(&self) -> Arc<Searcher> {
        match &self.state {
            WhoWrites::Nobody(searcher) => searcher.load_full(),
            WhoWrites::We(_, shared) => shared.searcher.load_full(),
        }
    }

    /// Makes changes durable and visible to the next search. Returns what became of each, and the last durable change. Waits for
    /// the disk.
    ///
    /// # Errors
    /// Nothing of the changes has been applied. [`CollectionError::Busy`], [`CollectionError::Wal`], [`CollectionError::Index`].
    pub fn apply(&self, changes: Changes) -> Result<(Vec<Applied>, SeqNo), CollectionError> {
        match &self.state {
            WhoWrites::Nobody(_) => Err(self.read_only()),
            WhoWrites::We(writer, shared) => writer.apply(shared, changes),
        }
    }

    /// Deletes the documents that expired so long ago that no jump of the clock explains it. Returns how many.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn sweep_expired(&self) -> Result<usize, CollectionError> {
        let Some(settled_us) = self.clock.settled_us() else { return Ok(0) };
        let mut n = 0;
        loop {
            let searcher = self.searcher();
            let expired = searcher.expired(settled_us, MAX_SWEPT)?;
            if expired.is_empty() {
                return Ok(n);
            }
            let n_expired = expired.len();
            let changes = expired.into_iter().map(|(id, seqno)| Change::Expire { id, seqno }).collect();
            let (applied, _) = self.apply(Changes::checked_in(&searcher, changes))?;
            let n_deleted = applied.iter().filter(|applied| matches!(applied, Applied::Deleted(_))).count();
            n += n_deleted;
            // The others were changed meanwhile, or the clock has jumped back: the next sweep looks again.
            if n_deleted < n_expired {
                return Ok(n);
            }
        }
    }

    fn read_only(&self) -> CollectionError {
        CollectionError::ReadOnly { name: self.name.to_string() }
    }

    fn shared(&self) -> Result<&Shared, CollectionError> {
        match &self.state {
            WhoWrites::Nobody(_) => Err(self.read_only()),
            WhoWrites::We(_, shared) => Ok(shared),
        }
    }

    /// The right to write to the log and to swap the searcher.
    fn lock_state(&self) -> Result<MutexGuard<'_, State>, CollectionError> {
        let shared = self.shared()?;
        let state = shared.lock();
        if state.closed { Err(shared.deleted()) } else { Ok(state) }
    }

    /// Ends all writing before the collection's folder is deleted, or allows it again. Waits for a build, an activation and a change of
    /// profiles under way.
    fn set_closed(&self, closed: bool) {
        let _no_build = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let _files = self.lock_files();
        if let WhoWrites::We(_, shared) = &self.state {
            shared.lock().closed = closed;
        }
    }
}
