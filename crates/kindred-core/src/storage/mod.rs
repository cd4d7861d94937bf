//! The only place that syncs, renames, locks, truncates and maps files.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | errors, reading, the lock of a data folder |
//! | `disk.rs` | every change of a file or folder: durable steps, atomic replacement |
//! | `twin.rs` | in tests: records those changes, makes them fail, and tells what a crash would have left of them |
//! | `sections.rs` | the one container format of all immutable files: header, table, sections checked as they are used |
//! | `section_writer.rs` | writes such files |
//! | `mmap.rs` | read-only memory maps |
//!
//! Data on disk is immutable or append-only; what must change is replaced whole: write aside, sync, rename, sync the folder.

mod disk;
mod mmap;
#[cfg(test)]
mod section_tests;
mod section_writer;
mod sections;
#[cfg(any(test, feature = "faults"))]
pub mod twin;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use disk::{OutFile, create_dir, link, publish_dir, remove_dir, remove_file, replace_file, sync_dir};
pub use mmap::{Buffer, MappedFile, map_for_sharing};
pub use section_writer::SectionWriter;
pub use sections::{SectionFile, container_checksum};

use crate::error::ErrorKind;

/// A file operation that failed, or a file that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {action} {}: the disk is full. Nothing of this was kept and all that was acknowledged before is safe: make room and send it again", path.display())]
    Full { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {action} {}: it cannot be written to, because the disk is read-only or belongs to another user. Mount or own it for writing, or choose another storage.data_dir", path.display())]
    ReadOnly { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged or not a Kindred file: {reason}. `kindred inspect` tells what else is. A rebuild makes what is derived anew (graph, words); else bring the collection back with `kindred snapshot restore` or from a backup; without one, move its folder away and ingest its documents again", path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error("{} was written by another version of Kindred: {reason}. Use that version, or move the collection's whole folder away and ingest its documents again", path.display())]
    OtherVersion { path: PathBuf, reason: String },
    #[error("cannot take {len} bytes of memory")]
    OutOfMemory { len: usize, source: io::Error },
    #[error("{} is in use by another kindred process ({holder}). Stop that one, choose another storage.data_dir, or send your request to it over HTTP", path.display())]
    Locked { path: PathBuf, holder: String },
}

impl StorageError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::OutOfMemory { .. } | Self::ReadOnly { .. } => ErrorKind::Unavailable,
            Self::Full { .. } => ErrorKind::Full,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::OtherVersion { .. } | Self::Locked { .. } => ErrorKind::Conflict,
        }
    }

    /// True if the bytes on the disk are wrong, or a file is missing that should exist: trying again does not help.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    /// Turns "not found" into damage, for files that others say exist.
    #[must_use]
    pub fn missing_is_damage(self) -> Self {
        match self {
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Self::Corrupt { path, reason: "it is missing".to_owned() }
            }
            e => e,
        }
    }

    /// Wraps an error of the operating system.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { action, path, source },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly { action, path, source },
            _ => Self::Io { action, path, source },
        }
    }

    /// A file whose bytes are wrong.
    pub fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.into() }
    }

    /// A file whose bytes mean something else to another build.
    pub fn other_version(path: &Path, reason: impl Into<String>) -> Self {
        Self::OtherVersion { path: path.to_owned(), reason: reason.into() }
    }
}

/// Whether bytes have the CRC-32 that was written. Fuzzers are told that they have: they are to meet what lies behind it.
#[inline]
pub fn is_sound(bytes: &[u8], crc32: u32) -> bool {
    cfg!(fuzzing) || crc32fast::hash(bytes) == crc32
}

/// Reads a whole file, `None` if it is not there.
pub fn read_file(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StorageError::io("read", path)(e)),
    }
}

/// Length of a file in bytes.
pub fn file_len(path: &Path) -> Result<u64, StorageError> {
    fs::metadata(path).map(|metadata| metadata.len()).map_err(StorageError::io("read", path))
}

/// Names of the entries of a folder, sorted; empty if the folder is not there.
pub fn list_dir(path: &Path) -> Result<Vec<String>, StorageError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StorageError::io("list the folder", path)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StorageError::io("list the folder", path))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// How long a lock is waited for before its holder is named.
const PATIENCE: Duration = Duration::from_secs(1);

/// A lock on a file that lasts until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who holds it.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when another process holds it.
    pub fn acquire(path: &Path) -> Result<Self, StorageError> {
        let mut file = Self::open(path)?;
        // A server that is being restarted may still be ending.
        let deadline = Instant::now() + PATIENCE;
        let mut locked = file.try_lock();
        while matches!(locked, Err(fs::TryLockError::WouldBlock)) && Instant::now() < deadline {
            std::thread::sleep(PATIENCE / 20);
            locked = file.try_lock();
        }
        match locked {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(path).unwrap_or_default();
                return Err(StorageError::Locked { path: path.parent().unwrap_or(path).to_owned(), holder: holder.trim().to_owned() });
            }
            Err(fs::TryLockError::Error(e)) => return Err(StorageError::io("lock", path)(e)),
        }
        // The note is for people; the lock itself is the operating system's.
        let note = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
        note.map_err(StorageError::io("write", path))?;
        Ok(Self { _file: file })
    }

    /// Who holds the lock now, if anybody does.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn holder(path: &Path) -> Result<Option<String>, StorageError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StorageError::io("open the lock", path)(e)),
        };
        // Shared, and let go of at once: whoever wants the lock in this moment tries again.
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(fs::TryLockError::WouldBlock) => Ok(Some(fs::read_to_string(path).unwrap_or_default().trim().to_owned())),
            Err(fs::TryLockError::Error(e)) => Err(StorageError::io("lock", path)(e)),
        }
    }

    /// Takes the lock, waiting for whoever holds it.
    pub fn wait(path: &Path) -> Result<Self, StorageError> {
        let file = Self::open(path)?;
        file.lock().map_err(StorageError::io("lock", path))?;
        Ok(Self { _file: file })
    }

    fn open(path: &Path) -> Result<File, StorageError> {
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(StorageError::io("open the lock", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_leaves_no_trace_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("CURRENT");
        replace_file(&path, b"1").unwrap();
        replace_file(&path, b"2").unwrap();
        assert_eq!(read_file(&path).unwrap().unwrap(), b"2");
        assert_eq!(list_dir(dir.path()).unwrap(), ["CURRENT"]);
        assert_eq!(read_file(&dir.path().join("none")).unwrap(), None);
    }

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        assert_eq!(Lock::holder(&path).unwrap(), None);
        let first = Lock::acquire(&path).unwrap();
        assert_eq!(Lock::holder(&path).unwrap(), Some(format!("process {}", std::process::id())));
        let second = Lock::acquire(&path).unwrap_err();
        assert!(second.to_string().contains(&format!("process {}", std::process::id())), "{second}");
        drop(first);
        assert_eq!(Lock::holder(&path).unwrap(), None);
        Lock::acquire(&path).unwrap();
    }
}
