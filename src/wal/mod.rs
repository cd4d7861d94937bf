//! The write-ahead log: what has been acknowledged and is not in a generation yet.
//!
//! | file | duty |
//! |---|---|
//! | `record.rs` | the bytes of an entry, and the only codec (bincode) of the log |
//! | `writer.rs` | append and sync; rotate; trim what generations cover |
//! | `reader.rs` | replay; tells a torn end from damage |
//!
//! *Concurrency*: one writer; a folder of logs belongs to one collection, whose data folder is locked.
//!
//! *On disk*, little-endian, in `<first_seqno>.log` (20 digits):
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `KINDWAL\0` |
//! | 8 | 4 | format version, 2 |
//! | 12 | 8 | seqno of the first change that may follow |
//! | 20 | 16 | tag of the model that the file's embeddings are of |
//! | 36 | 4 | crc32 of bytes 0..36 |
//! | 40 | | frames: length of the payload (4), its crc32 (4), bytes of the file that were synced before (8), crc32 of those sixteen bytes (4), payload (bincode of [`Entry`]) |
//!
//! All that is committed together is one frame, so it is there whole or not at all. A frame that does not add up was being
//! written when the power failed if nothing behind it says that it had been synced, and if a part of it is missing: the file
//! ends, or a sector is still zero. Nobody was told that it is durable; it is dropped and counted. Anything else is damage, and
//! the log is not opened. A flipped bit is never taken for a power failure.

mod reader;
mod record;
mod writer;

use std::path::PathBuf;

pub use reader::{Replay, replay};
pub use record::{Batch, Embeddings, Entry, Operation, StoredDocument};
pub use writer::{WalFile, WalSettings, WalWriter};

use kindred_core::domain::SeqNo;
use kindred_core::error::ErrorKind;
use kindred_core::storage::StorageError;

/// What can go wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the log {} is damaged at byte {offset}: {reason}. Restore it from a backup; to go on without the changes from there on, cut the file at that byte and move later log files away", path.display())]
    Corrupt { path: PathBuf, offset: u64, reason: String },
    #[error("the log {} holds changes from {found}, but {expected} should come next: a log file is missing. Restore it from a backup", path.display())]
    Gap { path: PathBuf, expected: SeqNo, found: SeqNo },
    #[error("a batch has {actual} bytes, over the limit of {limit}: send fewer documents at once")]
    TooLarge { actual: usize, limit: usize },
    #[error("an earlier write to the log failed, so nothing more is written: mend the disk and restart the server (reads go on)")]
    Poisoned,
}

impl WalError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Storage(e) => e.kind(),
            Self::Corrupt { .. } | Self::Gap { .. } => ErrorKind::Corrupt,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Poisoned => ErrorKind::Unavailable,
        }
    }
}
