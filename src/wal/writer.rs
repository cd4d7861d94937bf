//! Appends batches and makes them durable.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::reader::{FILE_HEADER_BYTES, encode_file_header, log_files};
use super::record::encode;
use super::{Batch, WalError};
use crate::domain::SeqNo;
use crate::storage::{self, StorageError};

/// A log file that is this long is ended: a replay reads files whole.
const ROTATE_BYTES: u64 = 256 << 20;

/// The one writer of a folder of logs.
#[derive(Debug)]
pub struct WalWriter {
    dir: PathBuf,
    path: PathBuf,
    file: File,
    /// Bytes of the current file that are durable.
    position: u64,
    poisoned: bool,
}

impl WalWriter {
    /// Starts a new log file for the changes from `next_seqno` on.
    ///
    /// A torn end of an earlier file must have been cut off before: see [`super::replay`].
    ///
    /// # Errors
    /// [`WalError::Storage`].
    pub fn create(dir: &Path, next_seqno: SeqNo) -> Result<Self, WalError> {
        storage::create_dir(dir)?;
        let path = path_of(dir, next_seqno);
        let header = encode_file_header(next_seqno);
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path).map_err(StorageError::io("create", &path))?;
        file.write_all(&header).and_then(|()| file.sync_all()).map_err(StorageError::io("write", &path))?;
        storage::sync_dir(dir)?;
        Ok(Self { dir: dir.to_owned(), path, file, position: FILE_HEADER_BYTES as u64, poisoned: false })
    }

    /// Appends a batch; when this returns, it survives a crash.
    ///
    /// # Errors
    /// [`WalError::TooLarge`] and a full disk leave the log as it was. A failed sync leaves it unknown what is durable: the writer is poisoned.
    pub fn append(&mut self, batch: &Batch) -> Result<(), WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        let frame = encode(batch)?;
        if let Err(e) = self.file.write_all(&frame) {
            // Nothing of the half-written frame may stay: the next one would follow it.
            let undo = self.file.set_len(self.position).and_then(|()| self.file.seek(SeekFrom::Start(self.position)));
            self.poisoned = undo.is_err();
            return Err(StorageError::io("write to", &self.path)(e).into());
        }
        if let Err(e) = self.file.sync_data() {
            self.poisoned = true;
            return Err(StorageError::io("sync", &self.path)(e).into());
        }
        self.position += frame.len() as u64;
        if self.position >= ROTATE_BYTES {
            // The batch is durable already; a file that grows longer than it should is no reason to fail it.
            if let Err(e) = self.go_on_in_a_new_file(batch.next_seqno()) {
                tracing::warn!(error = %e, "could not start a new log file; the old one goes on");
            }
        }
        Ok(())
    }

    /// Goes on in a new file and deletes those whose changes are all at or before `covered`. `next_seqno` is the next to be appended.
    ///
    /// # Errors
    /// [`WalError::Storage`]; what was not deleted is skipped by the next replay.
    pub fn trim(&mut self, covered: SeqNo, next_seqno: SeqNo) -> Result<(), WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        if self.position > FILE_HEADER_BYTES as u64 {
            self.go_on_in_a_new_file(next_seqno)?;
        }
        let files = log_files(&self.dir)?;
        for pair in files.windows(2) {
            // A file ends where the next begins.
            if pair[1].0.0 <= covered.0 + 1 && pair[0].1 != self.path {
                storage::remove_file(&pair[0].1)?;
            }
        }
        storage::sync_dir(&self.dir)?;
        Ok(())
    }

    /// If this fails, the old file is written on, and nothing may stand behind it: a replay would take it for a finished one.
    fn go_on_in_a_new_file(&mut self, next_seqno: SeqNo) -> Result<(), WalError> {
        match Self::create(&self.dir, next_seqno) {
            Ok(new) => *self = new,
            Err(e) => {
                let gone = storage::remove_file(&path_of(&self.dir, next_seqno)).and_then(|()| storage::sync_dir(&self.dir));
                self.poisoned |= gone.is_err();
                return Err(e);
            }
        }
        Ok(())
    }
}

fn path_of(dir: &Path, first_seqno: SeqNo) -> PathBuf {
    dir.join(format!("{:020}.log", first_seqno.0))
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::sample;
    use super::*;

    #[test]
    fn what_is_poisoned_stays_poisoned() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = WalWriter::create(dir.path(), SeqNo(1)).unwrap();
        writer.append(&sample(1)).unwrap();
        writer.poisoned = true;
        assert!(matches!(writer.append(&sample(3)), Err(WalError::Poisoned)));
        assert!(matches!(writer.trim(SeqNo(2), SeqNo(3)), Err(WalError::Poisoned)), "a new file would hide that the old one failed");
        assert!(matches!(writer.append(&sample(3)), Err(WalError::Poisoned)));
    }

    #[test]
    fn a_file_that_cannot_be_started_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = WalWriter::create(dir.path(), SeqNo(1)).unwrap();
        writer.append(&sample(1)).unwrap();
        // A folder in the new file's place stands for whatever keeps it from being created.
        let in_the_way = path_of(dir.path(), SeqNo(3));
        std::fs::create_dir(&in_the_way).unwrap();
        writer.trim(SeqNo(0), SeqNo(3)).unwrap_err();
        std::fs::remove_dir(&in_the_way).unwrap();
        assert!(writer.poisoned, "what stands there could not be removed as a file");
    }
}
