//! Every change of a file or a folder: what is synced when, and what a crash can leave.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::StorageError;

#[cfg(any(test, feature = "faults"))]
use super::twin::{self, Step};

/// A file that is being written.
#[derive(Debug)]
pub struct OutFile {
    path: PathBuf,
    file: File,
    position: u64,
}

impl OutFile {
    /// Creates a file; there must be none of that name.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn create_new(path: &Path) -> Result<Self, StorageError> {
        Self::open(path, OpenOptions::new().write(true).create_new(true), "create")
    }

    /// Creates a file, or empties the one there is.
    fn create(path: &Path) -> Result<Self, StorageError> {
        Self::open(path, OpenOptions::new().write(true).create(true).truncate(true), "create")
    }

    /// Opens a file to go on at its end.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn append_to(path: &Path) -> Result<Self, StorageError> {
        let mut file = OpenOptions::new().write(true).open(path).map_err(StorageError::io("open", path))?;
        let position = file.seek(SeekFrom::End(0)).map_err(StorageError::io("open", path))?;
        Ok(Self { path: path.to_owned(), file, position })
    }

    fn open(path: &Path, options: &OpenOptions, action: &'static str) -> Result<Self, StorageError> {
        let open = || {
            #[cfg(any(test, feature = "faults"))]
            twin::before(&Step::Create(path.to_owned()))?;
            options.open(path)
        };
        Ok(Self { path: path.to_owned(), file: open().map_err(StorageError::io(action, path))?, position: 0 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next bytes go.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes bytes and goes on behind them. What was written before an error stays written: see [`Self::cut`].
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let mut write = || {
            #[cfg(any(test, feature = "faults"))]
            twin::before_write(&self.path, self.position, bytes, &mut self.file)?;
            self.file.write_all(bytes)
        };
        write().map_err(StorageError::io("write to", &self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Writes bytes over those at the beginning; the position stays.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn write_at_start(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let position = self.position;
        self.seek(0)?;
        self.write(bytes)?;
        self.seek(position)
    }

    /// Makes what was written durable, and the file's length, but for its name: that takes [`sync_dir`].
    ///
    /// # Errors
    /// [`StorageError`]; then nobody knows what is durable.
    pub fn sync(&self) -> Result<(), StorageError> {
        let sync = || {
            #[cfg(any(test, feature = "faults"))]
            twin::before(&Step::Sync(self.path.clone()))?;
            self.file.sync_data()
        };
        // Whatever the reason, a full disk too: what was written may be there after all.
        sync().map_err(|source| StorageError::Io { action: "sync", path: self.path.clone(), source })
    }

    /// Cuts the file there and goes on there.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn cut(&mut self, len: u64) -> Result<(), StorageError> {
        let cut = || {
            #[cfg(any(test, feature = "faults"))]
            twin::before(&Step::Cut(self.path.clone(), len))?;
            self.file.set_len(len)
        };
        cut().map_err(StorageError::io("shorten", &self.path))?;
        self.seek(len)
    }

    fn seek(&mut self, position: u64) -> Result<(), StorageError> {
        self.file.seek(SeekFrom::Start(position)).map_err(StorageError::io("write to", &self.path))?;
        self.position = position;
        Ok(())
    }
}

/// Creates a folder and those above it, durably.
pub fn create_dir(path: &Path) -> Result<(), StorageError> {
    let missing = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect::<Vec<_>>();
    for folder in missing.into_iter().rev() {
        let create = || {
            #[cfg(any(test, feature = "faults"))]
            twin::before(&Step::CreateDir(folder.to_owned()))?;
            fs::create_dir(folder)
        };
        match create() {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(StorageError::io("create the folder", folder)(e)),
            _ => sync_dir(above(folder))?,
        }
    }
    Ok(())
}

/// The folder that a path lies in.
fn above(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder durable.
pub fn sync_dir(path: &Path) -> Result<(), StorageError> {
    let sync = || -> io::Result<()> {
        #[cfg(any(test, feature = "faults"))]
        twin::before(&Step::SyncDir(path.to_owned()))?;
        // Only Unix can sync a folder; elsewhere the rename itself is as durable as it gets.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    };
    sync().map_err(StorageError::io("sync the folder", path))
}

/// Replaces a file's contents: after a crash the old or the new bytes are there, never a mixture.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let aside = path.with_added_extension("new");
    let mut file = OutFile::create(&aside)?;
    file.write(bytes)?;
    file.sync()?;
    rename(&aside, path, "replace")?;
    sync_dir(above(path))
}

/// Moves a finished folder to its final name; `to` must not exist.
pub fn publish_dir(from: &Path, to: &Path) -> Result<(), StorageError> {
    sync_dir(from)?;
    rename(from, to, "publish")?;
    sync_dir(above(to))
}

fn rename(from: &Path, to: &Path, action: &'static str) -> Result<(), StorageError> {
    let rename = || {
        #[cfg(any(test, feature = "faults"))]
        twin::before(&Step::Rename(from.to_owned(), to.to_owned()))?;
        fs::rename(from, to)
    };
    rename().map_err(StorageError::io(action, to))
}

/// Deletes a folder and what is in it; one that is not there is no error.
pub fn remove_dir(path: &Path) -> Result<(), StorageError> {
    remove(path, "delete the folder", |path| fs::remove_dir_all(path))
}

/// Deletes a file; one that is not there is no error.
pub fn remove_file(path: &Path) -> Result<(), StorageError> {
    remove(path, "delete", |path| fs::remove_file(path))
}

fn remove(path: &Path, action: &'static str, remove: impl Fn(&Path) -> io::Result<()>) -> Result<(), StorageError> {
    let removed = || {
        #[cfg(any(test, feature = "faults"))]
        twin::before(&Step::Remove(path.to_owned()))?;
        remove(path)
    };
    match removed() {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StorageError::io(action, path)(e)),
        _ => Ok(()),
    }
}

/// Gives a file a second name, which keeps it when the first is deleted.
pub fn link(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::hard_link(from, to).map_err(StorageError::io("hold", from))
}
