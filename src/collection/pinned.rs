//! Files of a collection as they are at one moment, held under other names while they are copied.

use std::path::{Path, PathBuf};

use super::{Collection, CollectionError, Description, WAL, generation, profiles};
use kindred_core::domain::{GenerationId, SeqNo};
use kindred_core::storage::{self, StorageError};

/// Folders of held files: `<PINNED><number>`.
const PINNED: &str = "pinned-";

/// Files of a collection as they are at one moment. They exist until this is dropped, even if the collection is changed or deleted.
#[derive(Debug)]
pub struct PinnedFiles {
    dir: PathBuf,
    pub description: Description,
    pub generation: Option<GenerationId>,
    pub covered_seqno: SeqNo,
    /// The last change that the files contain.
    pub seqno: SeqNo,
    /// Name in the collection's folder, path of the held file, and how many of its bytes belong to it.
    pub files: Vec<(String, PathBuf, u64)>,
}

impl Drop for PinnedFiles {
    fn drop(&mut self) {
        if let Err(e) = storage::remove_dir(&self.dir) {
            tracing::warn!(error = %e, "files that were held for copying could not be removed; the next start tries again");
        }
    }
}

impl Collection {
    /// Holds the files that are needed to open the collection as it is now, while it is searched, written to and rebuilt. Syncs the log
    /// under the writer's lock.
    ///
    /// # Errors
    /// [`CollectionError::Storage`].
    pub fn pin_files(&self) -> Result<PinnedFiles, CollectionError> {
        let _files = self.lock_files();
        let mut state = self.lock_state()?;
        let dir = (0..).map(|n| self.dir.join(format!("{PINNED}{n}"))).find(|dir| !dir.exists()).expect("some number is free");
        storage::create_dir(&dir)?;
        let searcher = self.searcher();
        let mut pinned = PinnedFiles {
            dir,
            description: searcher.description().clone(),
            generation: searcher.base_id(),
            covered_seqno: searcher.covered_seqno(),
            seqno: SeqNo(state.next_seqno.0 - 1),
            files: Vec::new(),
        };
        let logs = state.wal.files()?.into_iter().map(|(name, path, len)| (format!("{WAL}/{name}"), path, len));
        let built = pinned.generation.map_or(Ok(Vec::new()), |id| generation::files(&self.dir, id))?;
        let of_profiles = profiles::files(&self.dir)?;
        for (n, (name, path, len)) in logs.chain(built).chain(of_profiles).enumerate() {
            let link = pinned.dir.join(n.to_string());
            storage::link(&path, &link)?;
            pinned.files.push((name, link, len));
        }
        Ok(pinned)
    }
}

/// Removes files that a process held when it ended.
pub(super) fn remove_leftovers(dir: &Path) -> Result<(), StorageError> {
    for name in storage::list_dir(dir)? {
        if name.starts_with(PINNED) {
            storage::remove_dir(&dir.join(name))?;
        }
    }
    Ok(())
}
