//! Builds generations, and lists, previews and discards them. `activation.rs` makes one serve.

use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

use super::generation::{self, Generation, GenerationInfo};
use super::{BuildParams, Collection, CollectionError, Contents, Searcher};
use kindred_core::Progress;
use kindred_core::domain::GenerationId;

impl Collection {
    /// Builds a generation from documents that contain all changes up to `pinned`'s seqno. It does not serve until it is activated.
    ///
    /// # Errors
    /// [`CollectionError::Rebuilding`], [`CollectionError::Verification`], [`CollectionError::Index`] and
    /// [`CollectionError::Storage`]; its files are removed then.
    pub fn build(
        &self,
        contents: &Contents,
        pinned: &Searcher,
        params: &BuildParams,
        progress: &Progress,
    ) -> Result<GenerationId, CollectionError> {
        let _one_at_a_time = match self.building.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(CollectionError::Rebuilding { name: self.name.to_string() }),
        };
        self.lock_state()?.wal.check()?;
        {
            // Remove an unused earlier build. The files lock keeps concurrent activations and previews out.
            let _files = self.lock_files();
            Generation::remove_unused(&self.dir, true)?;
        }
        let generation = Generation::build(&self.name, &self.dir, contents, pinned.seqno(), params, progress)?;
        Ok(generation.id())
    }

    /// Opens a finished generation on its own, without the changes since, to be examined before it serves.
    ///
    /// # Errors
    /// [`CollectionError::NoGeneration`]; damage.
    pub fn preview(&self, id: GenerationId) -> Result<Searcher, CollectionError> {
        let generation = Arc::new(self.open_generation(id)?);
        let description = generation.description().clone();
        Searcher::new(&self.name, description, Some(generation), self.clock.clone())
    }

    /// Deletes a generation that has not been activated.
    ///
    /// # Errors
    /// [`CollectionError::Storage`]; [`CollectionError::Unknown`] when the collection has been deleted.
    pub fn discard(&self, id: GenerationId) -> Result<(), CollectionError> {
        let _files = self.lock_files();
        // A deleted collection must not delete files of a new one of the same name. It is closed under the files lock.
        drop(self.lock_state()?);
        Ok(Generation::discard(&self.dir, id)?)
    }

    /// Returns all finished generations, newest first.
    ///
    /// # Errors
    /// [`CollectionError::Storage`].
    pub fn generations(&self) -> Result<Vec<GenerationInfo>, CollectionError> {
        let _files = self.lock_files();
        Ok(Generation::list(&self.dir)?)
    }

    /// Returns the generation that served before the current one.
    ///
    /// # Errors
    /// [`CollectionError::NoPrevious`].
    pub fn previous(&self) -> Result<GenerationId, CollectionError> {
        let history = generation::history(&self.dir)?;
        history.get(1).copied().ok_or_else(|| CollectionError::NoPrevious { name: self.name.to_string() })
    }

    pub(super) fn open_generation(&self, id: GenerationId) -> Result<Generation, CollectionError> {
        Generation::open_one(&self.dir, id).map_err(|e| match e {
            CollectionError::LostGeneration { .. } => {
                CollectionError::NoGeneration { name: self.name.to_string(), generation: id.to_string() }
            }
            e => e,
        })
    }

    /// Takes the lock that allows to delete generations and log files.
    pub(super) fn lock_files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
