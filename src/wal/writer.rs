//! Appends entries and makes them durable.

use std::path::{Path, PathBuf};

use super::reader::{FILE_HEADER_BYTES, encode_file_header, log_files};
use super::record::encode;
use super::{Entry, WalError};
use kindred_core::domain::{ModelTag, SeqNo};
use kindred_core::storage::{self, OutFile};

/// How a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct WalSettings {
    /// A file that is this long is ended: a replay reads files whole, and what a generation covers goes file by file.
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
    pub tag: ModelTag,
    pub len: u64,
}

/// The one writer of a folder of logs.
#[derive(Debug)]
pub struct WalWriter {
    dir: PathBuf,
    file: OutFile,
    tag: ModelTag,
    settings: WalSettings,
    /// Bytes of the current file that are durable.
    synced: u64,
    poisoned: bool,
}

impl WalWriter {
    /// Goes on in the last file of a replay, if that is of the same model, or starts a new one for the changes from `next_seqno` on.
    ///
    /// A torn end must have been cut off before: see [`super::replay`].
    ///
    /// # Errors
    /// [`WalError::Storage`].
    pub fn open(dir: &Path, next_seqno: SeqNo, last: Option<WalFile>, tag: ModelTag, settings: WalSettings) -> Result<Self, WalError> {
        storage::create_dir(dir)?;
        let file = match last {
            Some(last) if last.tag == tag && last.len < settings.rotate_bytes => OutFile::append_to(&last.path)?,
            _ => create(dir, next_seqno, tag)?,
        };
        // What is there was synced before it was acknowledged, or it is now: a frame must not say less than is true.
        file.sync()?;
        Ok(Self { dir: dir.to_owned(), synced: file.position(), file, tag, settings, poisoned: false })
    }

    /// Appends an entry; with `durable`, it survives a power failure when this returns, without, a killed process alone.
    ///
    /// # Errors
    /// [`WalError::TooLarge`] and a full disk leave the log as it was. A failed sync leaves it unknown what is durable: the writer is poisoned.
    pub fn append(&mut self, entry: &Entry, durable: bool) -> Result<(), WalError> {
        self.check()?;
        let start = self.file.position();
        let frame = encode(entry, self.synced)?;
        if let Err(e) = self.file.write(&frame) {
            // Nothing of the half-written frame may stay: the next one would follow it.
            self.poisoned = self.file.cut(start).is_err();
            return Err(e.into());
        }
        if durable {
            self.sync()?;
        }
        if self.file.position() >= self.settings.rotate_bytes {
            // The entry is there already; a file that grows longer than it should is no reason to fail it.
            if let Err(e) = self.rotate(entry.next_seqno(), self.tag) {
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
        Ok(())
    }

    /// Says whether it still writes.
    ///
    /// # Errors
    /// [`WalError::Poisoned`].
    pub fn check(&self) -> Result<(), WalError> {
        if self.poisoned { Err(WalError::Poisoned) } else { Ok(()) }
    }

    /// Whether something that was appended is not durable yet.
    pub fn is_unsynced(&self) -> bool {
        !self.poisoned && self.synced < self.file.position()
    }

    /// The log's files, oldest first, for whoever copies them: name, path, and how many bytes are durable.
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

    /// Goes on in a new file, for embeddings of a model, from `next_seqno` on.
    ///
    /// If this fails, the old file is written on, and nothing may stand behind it: a replay would take it for a finished one.
    ///
    /// # Errors
    /// [`WalError::Storage`].
    pub fn rotate(&mut self, next_seqno: SeqNo, tag: ModelTag) -> Result<(), WalError> {
        self.sync()?;
        if self.file.position() == FILE_HEADER_BYTES as u64 && tag == self.tag {
            return Ok(());
        }
        match create(&self.dir, next_seqno, tag) {
            Ok(file) => {
                (self.synced, self.file, self.tag) = (file.position(), file, tag);
                Ok(())
            }
            Err(e) => {
                let path = path_of(&self.dir, next_seqno);
                let gone = storage::remove_file(&path).and_then(|()| storage::sync_dir(&self.dir));
                // An empty file that should have been replaced is gone now.
                self.poisoned |= gone.is_err() || path == self.file.path();
                Err(e)
            }
        }
    }

    /// Deletes the files whose changes are all at or before `covered`; before that, goes on in a new one, so that all there are now can
    /// be deleted in time. `next_seqno` is the next to be appended.
    ///
    /// # Errors
    /// [`WalError::Storage`]; what was not deleted is skipped by the next replay.
    pub fn trim(&mut self, covered: SeqNo, next_seqno: SeqNo) -> Result<(), WalError> {
        self.rotate(next_seqno, self.tag)?;
        let files = log_files(&self.dir)?;
        for pair in files.windows(2) {
            // A file ends where the next begins.
            if pair[1].0 <= covered.next() && pair[0].1 != self.file.path() {
                storage::remove_file(&pair[0].1)?;
            }
        }
        storage::sync_dir(&self.dir)?;
        Ok(())
    }
}

/// Starts a file. One of the same name can have no entries: it is of another model, or of the first format.
fn create(dir: &Path, next_seqno: SeqNo, tag: ModelTag) -> Result<OutFile, WalError> {
    let path = path_of(dir, next_seqno);
    storage::remove_file(&path)?;
    let mut file = OutFile::create_new(&path)?;
    file.write(&encode_file_header(next_seqno, tag))?;
    file.sync()?;
    storage::sync_dir(dir)?;
    Ok(file)
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

    fn writer(dir: &Path) -> WalWriter {
        WalWriter::open(dir, SeqNo(1), None, ModelTag([7; 16]), WalSettings::default()).unwrap()
    }

    #[test]
    fn what_is_poisoned_stays_poisoned() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        writer.append(&sample(1), true).unwrap();
        writer.poisoned = true;
        assert!(matches!(writer.append(&sample(3), true), Err(WalError::Poisoned)));
        assert!(matches!(writer.trim(SeqNo(2), SeqNo(3)), Err(WalError::Poisoned)), "a new file would hide that the old one failed");
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
        writer.trim(SeqNo(0), SeqNo(3)).unwrap_err();
        std::fs::remove_dir(&in_the_way).unwrap();
        assert!(writer.poisoned, "what stands there could not be removed as a file");
    }
}
