//! Memory that is mapped: files to read, and large buffers; one of the two places with `unsafe`.

use std::fs::File;
use std::path::Path;

use memmap2::{Mmap, MmapMut};
use stable_deref_trait::StableDeref;

use super::StorageError;

/// A file's bytes, read by the operating system as they are touched. The start is page-aligned.
#[derive(Debug)]
pub struct MappedFile {
    map: Mmap,
}

impl MappedFile {
    /// Maps a whole file.
    ///
    /// # Errors
    /// [`StorageError::Io`] when it cannot be opened or mapped.
    #[expect(unsafe_code, reason = "mapping is unsafe by nature: see SAFETY")]
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let file = File::open(path).map_err(StorageError::io("open", path))?;
        // SAFETY: the bytes must not change while they are mapped. Only files of published generations are mapped; those are
        // written under another name, never opened for writing again, and deleted by unlinking, which leaves maps intact. The
        // data folder is locked against other kindred processes. Whoever edits it by hand can make reads return other numbers
        // or, by cutting a file short, end the process (SIGBUS), but every value read is bounded before it is used as an index.
        let map = unsafe { Mmap::map(&file) }.map_err(StorageError::io("map", path))?;
        // Large pages spare most of the look-ups of addresses that jumping about in a large file takes: measured, a third of a
        // search's time. A hint: not every system and file system can.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map })
    }

    /// All bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// Maps a whole file once more, for libraries that keep what they read of it. Whoever hands it out checks it first.
///
/// # Errors
/// As [`MappedFile::open`].
pub fn map_for_sharing(path: &Path) -> Result<impl StableDeref<Target = [u8]> + Send + Sync + 'static, StorageError> {
    Ok(MappedFile::open(path)?.map)
}

/// Zeroed memory for large tables that are read here and there, in large pages where the system has them.
#[derive(Debug)]
pub struct Buffer {
    map: MmapMut,
    /// What was asked for; no memory cannot be mapped.
    len: usize,
}

impl Buffer {
    /// Takes the memory.
    ///
    /// # Errors
    /// [`StorageError::OutOfMemory`] when there is not as much.
    pub fn zeroed(len: usize) -> Result<Self, StorageError> {
        let map = MmapMut::map_anon(len.max(1)).map_err(|source| StorageError::OutOfMemory { len, source })?;
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map, len })
    }

    /// All bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }

    /// All bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.map[..self.len]
    }
}
