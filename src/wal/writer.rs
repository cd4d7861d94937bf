//! Appends entries and makes them durable.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::WalError;
use super::reader::{FILE_HEADER_BYTES, FileHeader, encode_file_header, log_files};
use super::record::{EntryRef, Salt, encode};
use kindred_core::domain::{Epoch, SeqNo};
use kindred_core::storage::{self, OutFile};

/// How a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct WalSettings {
    /// Rotate the log at this size. Replay loads one file at a time, and trimming removes whole files.
    pub rotate_bytes: u64,
}

impl Default for WalSettings {
    fn default() -> Self {
        Self { rotate_bytes: 64 << 20 }
    }
}

/// A log file that ends well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalFile {
    pub path: PathBuf,
    pub(super) header: FileHeader,
    pub len: u64,
}

/// The one writer of a folder of logs.
#[derive(Debug)]
pub struct WalWriter {
    dir: PathBuf,
    file: OutFile,
    header: FileHeader,
    settings: WalSettings,
    /// Bytes of the current file that are durable.
    synced: u64,
    /// When the oldest bytes were appended that are not durable.
    unsynced_since: Option<Instant>,
    poisoned: bool,
}

impl WalWriter {
    /// Continues the last file of a replay if that is of the same epoch, or starts a new one for the changes from `next_seqno` on.
    ///
    /// A torn end must have been cut off before: see [`super::replay`].
    ///
    /// # Errors
    /// [`WalError::Storage`].
    pub fn open(dir: &Path, next_seqno: SeqNo, last: Option<WalFile>, epoch: Epoch, settings: WalSettings) -> Result<Self, WalError> {
        storage::create_dir(dir)?;
        let (file, header) = match last {
            Some(last) if last.header.epoch == epoch && last.len < settings.rotate_bytes => (OutFile::append_to(&last.path)?, last.header),
            _ => create(dir, next_seqno, epoch)?,
        };
        // Sync now: with `async` durability the tail may not be on disk yet, and the next frame records how much is.
        file.sync()?;
        Ok(Self { dir: dir.to_owned(), synced: file.position(), file, header, settings, unsynced_since: None, poisoned: false })
    }

    /// Returns the epoch of the documents that are appended now.
    pub fn epoch(&self) -> Epoch {
        self.header.epoch
    }

    /// Appends an entry. With `durable`, it survives a power failure once this returns; without, it survives a killed process only.
    ///
    /// # Errors
    /// [`WalError::TooLarge`] and a full disk leave the log as it was. After a failed sync it is unknown what is durable, so the writer
    /// is poisoned.
    pub fn append<'a>(&mut self, entry: impl Into<EntryRef<'a>>, durable: bool) -> Result<(), WalError> {
        self.check()?;
        let entry = entry.into();
        let start = self.file.position();
        let frame = encode(entry, self.synced, self.header.salt)?;
        if let Err(e) = self.file.write(&frame) {
            // Remove the half-written frame, because the next one would follow it.
            self.poisoned = self.file.cut(start).is_err();
            return Err(e.into());
        }
        self.unsynced_since.get_or_insert_with(Instant::now);
        if durable {
            self.sync()?;
        }
        if self.file.position() >= self.settings.rotate_bytes {
            // The entry is in the log already; a file that grows longer than it should is no reason to fail it.
            if let Err(e) = self.rotate(entry.next_seqno(), self.header.epoch) {
                tracing::warn!(error = %e, "could not start a new log file; the old one goes on");
            }
        }
        Ok(())
    }

    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// [`WalError::Storage`]; the writer is then poisoned.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.check()?;
        if let Err(e) = self.file.sync() {
            self.poisoned = true;
            return Err(e.into());
        }
        self.synced = self.file.position();
        self.unsynced_since = None;
        Ok(())
    }

    /// Checks that the writer accepts entries.
    ///
    /// # Errors
    /// [`WalError::Poisoned`].
    pub fn check(&self) -> Result<(), WalError> {
        if self.poisoned { Err(WalError::Poisoned) } else { Ok(()) }
    }

    /// Accepts no entry any more, because it is unknown which generation the next start opens.
    pub fn poison(&mut self) {
        self.poisoned = true;
    }

    /// Returns when the oldest entry was appended that is not durable; `None` if all are, or never will be.
    pub fn unsynced_since(&self) -> Option<Instant> {
        self.unsynced_since.filter(|_| !self.poisoned)
    }

    /// Returns the log's files, oldest first, for a copy of them: name, path, and how many bytes are durable.
    ///
    /// # Errors
    /// [`WalError::Storage`].
    pub fn files(&mut self) -> Result<Vec<(String, PathBuf, u64)>, WalError> {
        self.sync()?;
        let mut files = Vec::new();
        for (first_seqno, path) in log_files(&self.dir)? {
            let len = if path == self.file.path() { self.synced } else { storage::file_len(&path)? };
            files.push((file_name(first_seqno), path, len));
        }
        Ok(files)
    }

    /// Continues in a new file, for documents of an epoch, from `next_seqno` on.
    ///
    /// If this fails, the old file is continued, and no file may follow it: a replay would take the old one for finished.
    ///
    /// # Errors
    /// [`WalError::Storage`].
    pub fn rotate(&mut self, next_seqno: SeqNo, epoch: Epoch) -> Result<(), WalError> {
        self.sync()?;
        if self.file.position() == FILE_HEADER_BYTES as u64 && epoch == self.header.epoch {
            return Ok(());
        }
        match create(&self.dir, next_seqno, epoch) {
            Ok((file, header)) => {
                self.synced = file.position();
                self.file = file;
                self.header = header;
                Ok(())
            }
            Err(e) => {
                let path = path_of(&self.dir, next_seqno);
                let gone = storage::remove_file(&path).and_then(|()| storage::sync_dir(&self.dir));
                // An empty current file has the name of the new one, and is gone now.
                self.poisoned |= gone.is_err() || path == self.file.path();
                Err(e)
            }
        }
    }
}

/// Starts a file. An existing file of the same name has no entries: it is of another epoch.
fn create(dir: &Path, next_seqno: SeqNo, epoch: Epoch) -> Result<(OutFile, FileHeader), WalError> {
    let header = FileHeader { epoch, salt: Salt::random() };
    let path = path_of(dir, next_seqno);
    storage::remove_file(&path)?;
    let mut file = OutFile::create_new(&path)?;
    file.write(&encode_file_header(next_seqno, header))?;
    file.sync()?;
    storage::sync_dir(dir)?;
    Ok((file, header))
}

fn path_of(dir: &Path, first_seqno: SeqNo) -> PathBuf {
    dir.join(file_name(first_seqno))
}

fn file_name(first_seqno: SeqNo) -> String {
    format!("{:020}.log", first_seqno.0)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::sample;
    use super::*;

    const EPOCH: Epoch = Epoch { model: [7; 16], chunking: [8; 16], definition: [9; 16] };

    fn writer(dir: &Path) -> WalWriter {
        WalWriter::open(dir, SeqNo(1), None, EPOCH, WalSettings::default()).unwrap()
    }

    #[test]
    fn what_is_poisoned_stays_poisoned() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        writer.append(&sample(1), true).unwrap();
        writer.poisoned = true;
        assert!(matches!(writer.append(&sample(3), true), Err(WalError::Poisoned)));
        assert!(matches!(writer.rotate(SeqNo(3), EPOCH), Err(WalError::Poisoned)), "a new file would hide that the old one failed");
        assert!(matches!(writer.append(&sample(3), true), Err(WalError::Poisoned)));
    }

    #[test]
    fn a_file_that_cannot_be_started_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        writer.append(&sample(1), true).unwrap();
        // A folder in the new file's place stands for whatever keeps it from being created.
        let in_the_way = path_of(dir.path(), SeqNo(3));
        std::fs::create_dir(&in_the_way).unwrap();
        writer.rotate(SeqNo(3), EPOCH).unwrap_err();
        std::fs::remove_dir(&in_the_way).unwrap();
        assert!(writer.poisoned, "what stands there could not be removed as a file");
    }
}
