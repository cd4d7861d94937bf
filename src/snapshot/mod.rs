//! Snapshots: a data folder's collections, kept in another folder or in an object store.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | what goes into a snapshot; what can go wrong |
//! | `place.rs` | where snapshots are kept: S3, GCS, Azure or a folder, by one interface |
//! | `manifest.rs` | what a snapshot says about itself |
//! | `transfer.rs` | files and objects, a part at a time, with their checksums |
//! | `create.rs` | files → objects → manifest |
//! | `restore.rs` | objects → verified files → one rename for each collection |
//! | `verify.rs` | what there is, and whether all of it is what was written |
//!
//! *In a place*: `objects/<first two digits>/<sha256>` holds contents, each once, however many snapshots and collections have it;
//! `snapshots/<time>.json` names them. Objects never change: a second snapshot adds what is new since the first. A manifest is
//! written last and only where none is, so an unfinished snapshot is none, and two that are made at once do not mix.
//!
//! A snapshot knows files, not collections: what has to be in it is handed in as [`SnapshotSource`]s.

mod create;
mod manifest;
mod place;
mod restore;
#[cfg(test)]
mod tests;
mod transfer;
mod verify;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use create::{Created, create};
pub use manifest::{CollectionEntry, FileEntry, Manifest};
pub use place::Place;
pub use restore::{Restored, restore};
pub use verify::{Listed, Problem, Verified, list, verify};

use kindred_core::Progress;
use kindred_core::domain::{CollectionName, SeqNo};
use kindred_core::error::ErrorKind;
use kindred_core::storage::StorageError;

/// Starts a step of the work: what it does, and how many bytes it takes.
pub type Steps<'a> = &'a (dyn Fn(&str, u64) -> Progress + Send + Sync);

/// Which model made a collection's embeddings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    pub fingerprint: String,
    pub dims: usize,
}

/// A collection at one moment. Whoever hands it in keeps its files from being deleted or cut until the snapshot is made.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotSource {
    pub collection: CollectionName,
    /// The number of the generation, `None` if nothing has been built yet.
    pub generation: Option<String>,
    pub covered_seqno: SeqNo,
    pub last_seqno: SeqNo,
    pub model: Model,
    pub files: Vec<SourceFile>,
}

/// A file of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Below the collection's folder, with `/` between its parts.
    pub name: String,
    pub contents: Contents,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// The first `len` bytes of a file that may still be growing.
    File { path: PathBuf, len: u64 },
    /// A file that is replaced while the snapshot is made: as it was.
    Bytes(Vec<u8>),
}

impl Contents {
    /// Bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a snapshot could not be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(
        "cannot use {place:?} as a place for snapshots: {reason}. Name a folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    Place { place: String, reason: String },
    #[error("cannot {action} {path} in {place}: {reason}")]
    Store { action: &'static str, path: String, place: String, reason: String },
    #[error("there is no snapshot in {place}: make one with kindred snapshot create {place}")]
    None { place: String },
    #[error("there is no snapshot {id:?} in {place}: there are {known}")]
    Unknown { id: String, place: String, known: String },
    #[error("the snapshot has no collection {name:?}: it has {known}")]
    UnknownCollection { name: String, known: String },
    #[error(
        "snapshot {id} in {place} cannot be used: {reason}. kindred snapshot verify {place} --all tells which snapshots and objects are sound: restore one of those. A damaged object is uploaded again by the next snapshot once it is deleted"
    )]
    Damaged { id: String, place: String, reason: String },
    #[error(
        "collection {name:?} is there already in {}: restore into an empty folder (--data-dir), delete the collection first, or restore only others (--collection)",
        data_dir.display()
    )]
    Exists { name: String, data_dir: PathBuf },
    #[error("{} is not what it was when the snapshot began: it is being changed by something else than Kindred", path.display())]
    Changed { path: PathBuf },
    #[error("cancelled before it was done: {kept}")]
    Cancelled { kept: &'static str },
    #[error("a worker ended before it answered; the log says why")]
    WorkerLost,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl SnapshotError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Place { .. } => ErrorKind::Invalid,
            Self::Store { .. } | Self::Cancelled { .. } => ErrorKind::Unavailable,
            Self::None { .. } | Self::Unknown { .. } | Self::UnknownCollection { .. } => ErrorKind::NotFound,
            Self::Damaged { .. } | Self::Changed { .. } => ErrorKind::Corrupt,
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::WorkerLost => ErrorKind::Internal,
            Self::Storage(e) => e.kind(),
        }
    }
}
