//! Collections: documents that are found by their embeddings, kept so that an acknowledged change survives.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | one collection: open, apply changes, publish a generation |
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
//! | `publish.rs` | builds generations and makes them current |
//! | `generation.rs` | one immutable build on disk: write, verify, open |
//! | `documents.rs` | the stored documents of a generation |
//! | `manifest.rs` | what a generation says about itself |
//!
//! *Concurrency*: one thread writes, any number search. A query pins a [`Searcher`] and never waits for a lock; a
//! rebuild works beside both and takes the writer's lock only to swap the base.
//!
//! *Order of a write*: log, sync, delta, swap, acknowledge. Everything a user can get wrong is refused before the log.

mod at_rest;
mod changes;
mod collections;
mod delta;
mod documents;
mod facets;
mod generation;
mod listing;
mod manifest;
mod profiles;
mod publish;
mod retrieve;
mod searcher;
#[cfg(test)]
mod tests;
mod writer;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

pub use at_rest::{FilesAtRest, files_at_rest, small_files};
pub use collections::{Collections, IdentifyModel};
pub use generation::{GenerationInfo, GenerationStatus};
pub use kindred_index::{BuildParams, Quantization};
pub use listing::FoundPage;
pub use manifest::{Description, ModelIdentity};
pub use profiles::{StoredProfile, StoredProfiles};
pub use publish::PinnedFiles;
pub use retrieve::{Found, Question, RetrieveRequest, Retrieved, Signal};
pub use searcher::{FoundDocument, Searcher};
pub use writer::{Applied, Change, Changes, Durability};

pub use crate::lexical::LexicalQuery;
pub use crate::wal::{StoredDocument, WalSettings};

use crate::lexical::{Analyzer, LexicalError};
use crate::wal::{WalError, WalWriter};
use changes::LoggedChanges;
use generation::Generation;
use kindred_core::domain::{
    Clock, CollectionDefinition, CollectionName, DocumentId, FieldId, Filter, GenerationId, ModelTag, Role, Schema, SchemaError, SeqNo,
    Template, TextHash,
};
use kindred_core::error::ErrorKind;
use kindred_core::storage::{self, StorageError};
use kindred_index::IndexError;
use writer::{Shared, State, Writer};

/// Why the documents of a collection cannot be searched by their words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoWords {
    #[error("its definition has lexical = \"off\"")]
    Off,
    #[error("it was built before it could be: kindred rebuild, or POST its /rebuild")]
    NotBuilt,
}

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
    #[error("there is no generation {generation} of collection {name:?}: GET /v1/collections/{name}/generations lists those there are")]
    NoGeneration { name: String, generation: String },
    #[error("collection {name:?} has no generation before the current one: there is nothing to go back to")]
    NoPrevious { name: String },
    #[error(
        "generation {generation} of collection {name:?} has another definition, and documents have changed since it was built: rebuild instead"
    )]
    GenerationDefinition { name: String, generation: String },
    #[error("the generation {} is named by CURRENT but is not there: somebody has deleted it. Restore it from a backup or a snapshot", path.display())]
    LostGeneration { path: PathBuf },
    #[error("{} is missing, but there is a generation, and the log alone does not hold all documents. Write the number of the newest generation into it: {newest}", path.display())]
    NoCurrent { path: PathBuf, newest: GenerationId },
    #[error(
        "the log of collection {name:?} lacks the embedding of document {id:?} by the generation's model. Restore the collection from a backup or a snapshot"
    )]
    NoEmbedding { name: String, id: String },
    #[error(
        "collection {name:?} was embedded with the model in folder {folder:?}, which cannot be used: {source}. Put it back beside the configured model, or embed the documents again with that: kindred rebuild {name}"
    )]
    Model { name: String, folder: String, source: Box<dyn Error + Send + Sync> },
    #[error("collection {name:?} has been embedded with another model meanwhile: try again")]
    ModelChanged { name: String },
    #[error("collection {name:?} has {limit} profiles already: delete some")]
    TooManyProfiles { name: String, limit: usize },
    #[error("{waiting} writes are waiting already: try again in a moment")]
    Busy { waiting: usize },
    #[error("the thread that writes has ended; the log says why. Restart the server (reads go on)")]
    WriterLost,
    #[error("cannot start a thread")]
    Threads { source: std::io::Error },
    /// What all of those who were committed together get.
    #[error("{0}")]
    Group(Arc<CollectionError>),
    #[error(
        "generation {generation} of collection {name:?} was built but does not hold what it should: {reason}. The old one goes on serving"
    )]
    Verification { name: String, generation: u64, reason: String },
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Lexical(#[from] LexicalError),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl CollectionError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } | Self::NoDataDir { .. } | Self::NoGeneration { .. } => ErrorKind::NotFound,
            Self::Exists { .. }
            | Self::OtherModel { .. }
            | Self::OtherDefinition { .. }
            | Self::Rebuilding { .. }
            | Self::NoPrevious { .. }
            | Self::ModelChanged { .. }
            | Self::GenerationDefinition { .. } => ErrorKind::Conflict,
            Self::Definition { .. } | Self::TooManyProfiles { .. } => ErrorKind::Invalid,
            Self::ReadOnly { .. } | Self::WriterLost | Self::Threads { .. } | Self::Model { .. } => ErrorKind::Unavailable,
            Self::LostGeneration { .. } | Self::NoCurrent { .. } | Self::NoEmbedding { .. } => ErrorKind::Corrupt,
            Self::Busy { .. } => ErrorKind::Overloaded,
            Self::Verification { .. } => ErrorKind::Internal,
            Self::Group(e) => e.kind(),
            Self::Index(e) => e.kind(),
            Self::Lexical(e) => e.kind(),
            Self::Wal(e) => e.kind(),
            Self::Storage(e) => e.kind(),
        }
    }
}

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
            publish::let_go(dir)?;
        }
        let meaning = Meaning::of(name, &description.definition)?;
        let tag = ModelTag::of(&description.model.fingerprint);
        let mut changes = LoggedChanges::new(&meaning, tag, generation.as_ref().map_or(SeqNo(0), |g| g.covered_seqno()));
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
        let delta = changes
            .into_delta(description.model.dims, generation.as_deref())
            .map_err(|id| CollectionError::NoEmbedding { name: name.to_string(), id: id.to_string() })?;
        let last = SeqNo(replay.next_seqno.0 - 1);
        let searcher = Searcher::new(name, description, generation, delta, last, options.clock.clone())?;
        let searcher = ArcSwap::from_pointee(searcher);
        let state = if is_ours {
            let wal = WalWriter::open(&wal_dir, replay.next_seqno, replay.last_file, tag, options.wal)?;
            let state = State { wal, next_seqno: replay.next_seqno, durability: options.durability, closed: false };
            let shared = Arc::new(Shared { name: name.clone(), searcher, state: Mutex::new(state) });
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
            WhoWrites::We(writer, _) => writer.apply(changes),
        }
    }

    /// Deletes the documents that have expired. Returns how many.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn sweep_expired(&self) -> Result<usize, CollectionError> {
        let mut n = 0;
        loop {
            let expired = self.searcher().expired(MAX_SWEPT)?;
            if expired.is_empty() {
                return Ok(n);
            }
            n += expired.len();
            let changes = expired.into_iter().map(|(id, seqno)| Change::Expire { id, seqno }).collect();
            self.apply(Changes { changes, ..Changes::default() })?;
        }
    }

    /// Some ids of documents that match a filter, with the seqnos of their last changes.
    ///
    /// # Errors
    /// [`CollectionError::Index`].
    pub fn matching(&self, filter: &Filter, limit: usize) -> Result<Vec<(DocumentId, SeqNo)>, CollectionError> {
        let searcher = self.searcher();
        let found = searcher.matching(filter, limit)?;
        found.iter().map(|document| Ok((searcher.id(document)?, searcher.seqno_of(document)?))).collect()
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
        if state.closed { Err(shared.gone()) } else { Ok(state) }
    }

    /// Ends all writing, before the collection's folder is deleted, or allows it again. Waits for a rebuild under way.
    fn set_closed(&self, closed: bool) {
        let _no_rebuild = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let WhoWrites::We(_, shared) = &self.state {
            shared.lock().closed = closed;
        }
    }
}

/// All that goes into a generation, row by row.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    pub description: Description,
    pub ids: Vec<DocumentId>,
    /// Of each document's last change.
    pub seqnos: Vec<SeqNo>,
    /// The users' fields without the id, as JSON text.
    pub fields: Vec<String>,
    pub attributes: Vec<kindred_core::domain::Attributes>,
    /// Of what the embeddings were made of; `None` where that is not known.
    pub text_hashes: Vec<Option<TextHash>>,
    /// `[vectors × dims]`, unit length; those of a row together, in the order of the rows.
    pub vectors: Vec<f32>,
    /// How many vectors each row has.
    pub n_chunks: Vec<u32>,
    /// Where feeds stand, by source.
    pub positions: Vec<(String, u64)>,
}

impl Contents {
    /// Gives some rows, ascending, other embeddings: `[chunks × dims]` each. Those of other rows stay; they must be of as many dims.
    pub fn replace(&mut self, rows: &[usize], embeddings: &[Vec<f32>], dims: usize) {
        let mut replaced = rows.iter().zip(embeddings).peekable();
        let old_dims = self.description.model.dims;
        let (mut vectors, mut end) = (Vec::with_capacity(self.ids.len() * dims), 0);
        for row in 0..self.ids.len() {
            let start = end;
            end += self.n_chunks[row] as usize * old_dims;
            match replaced.next_if(|(stale, _)| **stale == row) {
                Some((_, embedding)) => {
                    vectors.extend_from_slice(embedding);
                    self.n_chunks[row] = (embedding.len() / dims) as u32;
                }
                None => {
                    assert_eq!(dims, old_dims, "an embedding of another model has no place here");
                    vectors.extend_from_slice(&self.vectors[start..end]);
                }
            }
        }
        self.vectors = vectors;
    }
}

/// What a definition means, checked once.
#[derive(Debug)]
pub struct Meaning {
    pub template: Arc<Template>,
    pub schema: Arc<Schema>,
    /// Makes terms of texts, where they are searched by their words.
    analyzer: Option<Arc<Analyzer>>,
}

impl Meaning {
    /// Checks a definition.
    ///
    /// # Errors
    /// [`CollectionError::Definition`].
    pub fn of(name: &CollectionName, definition: &CollectionDefinition) -> Result<Self, CollectionError> {
        let (template, schema) = check_definition(name, definition)?;
        let analyzer = Analyzer::new(definition.lexical, &definition.stop_words).map(Arc::new);
        Ok(Self { template: Arc::new(template), schema: Arc::new(schema), analyzer })
    }

    /// The field that says until when a document is there.
    pub fn expires_at(&self) -> Option<FieldId> {
        self.schema.role(Role::ExpiresAt)
    }
}

/// Checks a definition without making an analyzer.
fn check_definition(name: &CollectionName, definition: &CollectionDefinition) -> Result<(Template, Schema), CollectionError> {
    definition.check().map_err(|source| CollectionError::Definition { name: name.to_string(), source })
}

/// The text of a stored document, if that can be read.
fn text_of(template: &Template, fields: &str) -> Option<String> {
    serde_json::from_str(fields).ok().map(|fields| template.render(&fields))
}
