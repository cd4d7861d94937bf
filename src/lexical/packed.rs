//! The files of a segment as one container, so that they are checked, copied and deleted with the generation's others.
//!
//! *On disk*: `lexical.bin`, kind `LEXI`, version 1. Section 0 has a line of text for each file: where it begins in section 1, its length in
//! bytes, its name; section 1 has those files as tantivy wrote them, one after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{DirectoryLock, FileHandle, Lock, OwnedBytes, WatchCallback, WatchHandle, WritePtr};
use tantivy::{Directory, HasLen};

use kindred_core::storage::{self, SectionFile, SectionWriter, StorageError};

const KIND: [u8; 4] = *b"LEXI";
const VERSION: u32 = 1;
const TABLE: usize = 0;
const FILES: usize = 1;

/// Writes files, given with their names, into a container.
pub fn pack(path: &Path, files: &[(String, OwnedBytes)]) -> Result<(), StorageError> {
    let mut table = String::new();
    let mut start = 0;
    for (name, bytes) in files {
        table.push_str(&format!("{start} {} {name}\n", bytes.len()));
        start += bytes.len();
    }
    let mut writer = SectionWriter::create(path, KIND, VERSION)?;
    writer.section(table.as_bytes())?;
    writer.begin()?;
    files.iter().try_for_each(|(_, bytes)| writer.write(bytes))?;
    writer.finish().map(drop)
}

/// A container's files as tantivy wants to see them: read in place, each part checked before it is first used.
#[derive(Clone)]
pub struct PackedDirectory {
    packed: Arc<Packed>,
}

struct Packed {
    file: SectionFile,
    /// All of the container.
    bytes: OwnedBytes,
    /// Where each file lies in its section.
    files: BTreeMap<PathBuf, Range<usize>>,
}

impl PackedDirectory {
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let file = SectionFile::open(path, KIND, VERSION, 2)?;
        let table = std::str::from_utf8(file.bytes(TABLE)?).ok();
        let entry = |line: &str| {
            let mut parts = line.splitn(3, ' ');
            let (start, len): (usize, usize) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some((PathBuf::from(parts.next()?), start..start.checked_add(len)?))
        };
        let files =
            table.and_then(|table| table.lines().map(entry).collect()).ok_or_else(|| file.corrupt("its table of files makes no sense"))?;
        let bytes = OwnedBytes::new(storage::map_for_sharing(path)?);
        Ok(Self { packed: Arc::new(Packed { file, bytes, files }) })
    }

    /// Checks every byte.
    pub fn verify(&self) -> Result<(), StorageError> {
        self.packed.file.verify()
    }

    pub fn corrupt(&self, reason: impl Into<String>) -> StorageError {
        self.packed.file.corrupt(reason)
    }

    fn find(&self, path: &Path) -> Result<PackedFile, OpenReadError> {
        match self.packed.files.get(path) {
            Some(range) => Ok(PackedFile { packed: Arc::clone(&self.packed), range: range.clone() }),
            None => Err(OpenReadError::FileDoesNotExist(path.to_owned())),
        }
    }
}

impl fmt::Debug for PackedDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedDirectory").field("files", &self.packed.files).finish_non_exhaustive()
    }
}

/// One of the files.
struct PackedFile {
    packed: Arc<Packed>,
    range: Range<usize>,
}

impl fmt::Debug for PackedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedFile").field("range", &self.range).finish_non_exhaustive()
    }
}

impl HasLen for PackedFile {
    fn len(&self) -> usize {
        self.range.len()
    }
}

impl FileHandle for PackedFile {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        let range = self.range.start.saturating_add(range.start)..self.range.start.saturating_add(range.end);
        if range.end > self.range.end {
            return Err(io::Error::other(self.packed.file.corrupt("one of its files ends too early")));
        }
        self.packed.file.slice(FILES, range.clone()).map_err(io::Error::other)?;
        let start = self.packed.file.start(FILES);
        Ok(self.packed.bytes.slice(start + range.start..start + range.end))
    }
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "a generation never changes")
}

impl Directory for PackedDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        Ok(Arc::new(self.find(path)?))
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        Err(DeleteError::IoError { io_error: Arc::new(read_only()), filepath: path.to_owned() })
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        Ok(self.packed.files.contains_key(path))
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        Err(OpenWriteError::wrap_io_error(read_only(), path.to_owned()))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let file = self.find(path)?;
        let bytes = file.read_bytes(0..file.len()).map_err(|e| OpenReadError::wrap_io_error(e, path.to_owned()))?;
        Ok(bytes.to_vec())
    }

    fn atomic_write(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, _: &Lock) -> Result<DirectoryLock, LockError> {
        // Nobody writes.
        Ok(DirectoryLock::from(Box::new(())))
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}
