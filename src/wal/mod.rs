//! The write-ahead log: what has been acknowledged and is not in a generation yet.
//!
//! | file | duty |
//! |---|---|
//! | `record.rs` | the bytes of an entry, and the only codec (bincode) of the log |
//! | `writer.rs` | append, sync and rotate |
//! | `reader.rs` | replay, which tells a torn end from damage; trim what generations cover |
//!
//! *Concurrency*: one writer; a folder of logs belongs to one collection, whose data folder is locked.
//!
//! *On disk*, little-endian, in `<first_seqno>.log` (20 digits):
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `KINDWAL\0` |
//! | 8 | 4 | format version, 3 |
//! | 12 | 8 | seqno of the first change that may follow |
//! | 20 | 48 | epoch of the file's documents: model, chunking, definition |
//! | 68 | 8 | salt of the file: random bytes, none of them zero |
//! | 76 | 4 | crc32 of bytes 0..76 |
//! | 80 | | frames: length of the payload (4), its crc32 (4), bytes of the file that were synced before (8), crc32 of the salt and those sixteen bytes (4), payload (bincode of [`Entry`], and zeros up to a multiple of 8 bytes of the file, each byte XORed with the salt's byte at its place modulo 8) |
//!
//! All that is committed together is one frame, so that it is in the log as a whole or not at all. An unreadable frame is *torn* if no
//! later frame says that it had been synced, and if a part of it is missing: the file ends, or a sector is zero. The power failed
//! while it was written, its write was never acknowledged, and it is dropped and counted. Any other unreadable frame is damage, and
//! the log is not opened. Frames begin at multiples of 8 bytes, so that a sector never holds just a few bytes of one. The salt keeps the two apart whatever clients store: without knowing it, nobody can send bytes that look
//! like a frame's header, or that are zero on the disk.

mod reader;
mod record;
mod writer;

use std::path::PathBuf;

pub use reader::{Replay, replay, trim};
pub use record::{Batch, Entry, Operation, Renewed, RenewedDocument, StoredDocument};
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
