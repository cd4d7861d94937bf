//! Appends batches and makes them durable.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::reader::{FILE_HEADER_BYTES, encode_file_header, log_files};
use super::record::encode;
use super::{Batch, WalError};
use crate::domain::SeqNo;
use crate::storage::{self, StorageError};

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
        let path = dir.join(format!("{:020}.log", next_seqno.0));
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
        Ok(())
    }

    /// Goes on in a new file and deletes those whose changes are all at or before `covered`. `next_seqno` is the next to be appended.
    ///
    /// # Errors
    /// [`WalError::Storage`]; what was not deleted is skipped by the next replay.
    pub fn trim(&mut self, covered: SeqNo, next_seqno: SeqNo) -> Result<(), WalError> {
        if self.position > FILE_HEADER_BYTES as u64 {
            *self = Self::create(&self.dir, next_seqno)?;
        }
        let files = log_files(&self.dir)?;
        for pair in files.windows(2) {
            // A file ends where the next begins.
            if pair[1].0.0 <= covered.0 + 1 {
                storage::remove_file(&pair[0].1)?;
            }
        }
        storage::sync_dir(&self.dir)?;
        Ok(())
    }
}
