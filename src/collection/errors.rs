//! What can go wrong with a collection, and what the caller should do.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use crate::lexical::LexicalError;
use crate::wal::WalError;
use kindred_core::domain::{GenerationId, SchemaError};
use kindred_core::error::ErrorKind;
use kindred_core::storage::StorageError;
use kindred_index::IndexError;

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
    /// The message names no other collection, because not every caller may know of them.
    #[error("there is no collection {name:?}. Make one with PUT /v1/collections/{name}, or as [collections.{name}] in the settings")]
    Unknown { name: String, known: Vec<String> },
    #[error("collection {name:?} is damaged and is not served; all others are. {source}")]
    Damaged { name: String, source: Arc<CollectionError> },
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
    #[error("the generation {} is named by CURRENT but is not there: somebody has deleted it. Restore it from a backup or a snapshot", path.display())]
    LostGeneration { path: PathBuf },
    #[error("{} is missing, but there is a generation, and the log alone does not hold all documents. Write the number of the newest generation into it: {newest}", path.display())]
    NoCurrent { path: PathBuf, newest: GenerationId },
    #[error(
        "the log has document {id:?} only as another model or another definition made it. Restore the collection from a backup or a snapshot"
    )]
    Foreign { id: String },
    #[error(
        "collection {name:?} was embedded with the model in folder {folder:?}, which cannot be used: {source}. Put it back beside the configured model, or embed the documents again with that: kindred rebuild {name}"
    )]
    Model { name: String, folder: String, source: Box<dyn Error + Send + Sync> },
    /// The write was not logged. Check it again, against the current searcher.
    #[error("the model or the definition of collection {name:?} has changed since the write was checked: send it again")]
    EpochChanged { name: String },
    #[error(
        "a bug in Kindred: the embedding of document {id:?} has {actual} numbers, which is no multiple of {dims}. Nothing was written; please report it"
    )]
    Dimensions { id: String, actual: usize, dims: usize },
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
            | Self::EpochChanged { .. } => ErrorKind::Conflict,
            Self::Definition { .. } | Self::TooManyProfiles { .. } => ErrorKind::Invalid,
            Self::Damaged { .. } | Self::ReadOnly { .. } | Self::WriterLost | Self::Threads { .. } | Self::Model { .. } => {
                ErrorKind::Unavailable
            }
            Self::LostGeneration { .. } | Self::NoCurrent { .. } | Self::Foreign { .. } => ErrorKind::Corrupt,
            Self::Busy { .. } => ErrorKind::Overloaded,
            Self::Verification { .. } | Self::Dimensions { .. } => ErrorKind::Internal,
            Self::Group(e) => e.kind(),
            Self::Index(e) => e.kind(),
            Self::Lexical(e) => e.kind(),
            Self::Wal(e) => e.kind(),
            Self::Storage(e) => e.kind(),
        }
    }

    /// True if the files of one collection are at fault, so that others can be served. A model or a definition that does not fit, and files
    /// of another version, are mistakes of a deployment instead.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Index(_) | Self::Lexical(_) | Self::Wal(_) | Self::Storage(_) => {
                matches!(self.kind(), ErrorKind::Corrupt | ErrorKind::Unavailable | ErrorKind::Full)
            }
            e => e.kind() == ErrorKind::Corrupt,
        }
    }
}
