//! The write-ahead log: what has been acknowledged and is not in a generation yet.
//!
//! | file | duty |
//! |---|---|
//! | `record.rs` | the bytes of a batch, and the only codec (bincode) of the log |
//! | `writer.rs` | append and sync; trim what a generation covers |
//! | `reader.rs` | replay; tells a torn end from damage |
//!
//! *Concurrency*: one writer; a folder of logs belongs to one collection, whose data folder is locked.
//!
//! *On disk*, little-endian, in `<first_seqno>.log` (20 digits):
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `KINDWAL\0` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 8 | seqno of the first change that may follow |
//! | 20 | 4 | crc32 of bytes 0..20 |
//! | 24 | | batches: length (4), crc32 of the payload (4), crc32 of those eight bytes (4), payload (bincode of [`Batch`]) |
//!
//! A batch is one frame, so it is there whole or not at all. A frame that ends beyond the file, or the very last one with a
//! wrong checksum, was being written when the process ended: nobody was told that it is durable, and it is dropped and
//! counted. Anything else that does not add up is damage, and the log is not opened.

mod reader;
mod record;
mod writer;

use std::path::PathBuf;

pub use reader::{Replay, replay};
pub use record::{Batch, Operation, StoredDocument};
pub use writer::WalWriter;

use crate::domain::SeqNo;
use crate::error::ErrorKind;
use crate::storage::StorageError;

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
