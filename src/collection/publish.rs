//! Builds generations and makes them current; goes back to older ones; holds files for whoever copies them.
//!
//! Order of an activation: the log gets the embeddings that the generation's model has for newer changes, `CURRENT` names the generation,
//! the searcher is swapped; only then is anything deleted. Whenever the process ends, either generation opens with all changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

use super::changes::LoggedChanges;
use super::generation::{self, Generation, GenerationInfo};
use super::{BuildParams, Collection, CollectionError, Contents, Description, Searcher, WAL, manifest, profiles};
use crate::wal::{Embeddings, Entry};
use kindred_core::Progress;
use kindred_core::domain::{DocumentId, GenerationId, ModelTag, SeqNo};
use kindred_core::storage::{self, StorageError};

/// Changed documents that are embedded while writes wait; more are embedded before.
const FEW: usize = 32;
/// Where files are held for whoever copies them: `<PINNED><number>`.
const PINNED: &str = "pinned-";

/// Files of a collection as they are at one moment. They stay until this is dropped, whatever becomes of the collection.
#[derive(Debug)]
pub struct PinnedFiles {
    dir: PathBuf,
    pub description: Description,
    pub generation: Option<GenerationId>,
    pub covered_seqno: SeqNo,
    /// The last change that the files contain.
    pub seqno: SeqNo,
    /// Name in the collection's folder, where it can be read, and how many bytes of it count.
    pub files: Vec<(String, PathBuf, u64)>,
}

impl Drop for PinnedFiles {
    fn drop(&mut self) {
        if let Err(e) = storage::remove_dir(&self.dir) {
            tracing::warn!(error = %e, "files that were held for copying could not be let go; the next start tries again");
        }
    }
}

impl Collection {
    /// Builds a generation from documents that contain all changes up to `pinned`'s seqno. It is ready then, and does not serve yet.
    ///
    /// # Errors
    /// [`CollectionError::Rebuilding`], [`CollectionError::Verification`], [`CollectionError::Index`] and
    /// [`CollectionError::Storage`]; nothing is left of it then.
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
            // One that was built before and not wanted makes room; but not while it is being activated or looked at.
            let _files = self.lock_files();
            Generation::remove_unused(&self.dir, true)?;
        }
        let generation = Generation::build(&self.name, &self.dir, contents, pinned.seqno(), params, progress)?;
        Ok(generation.id())
    }

    /// A finished generation on its own, without the changes since, for whoever wants to look at it before it serves.
    ///
    /// # Errors
    /// [`CollectionError::NoGeneration`]; damage.
    pub fn preview(&self, id: GenerationId) -> Result<Searcher, CollectionError> {
        let generation = self.open_generation(id)?;
        let (description, covered) = (generation.description().clone(), generation.covered_seqno());
        let meaning = super::Meaning::of(&self.name, &description.definition)?;
        let changes = LoggedChanges::new(&meaning, ModelTag::of(&description.model.fingerprint), covered);
        let delta = changes.into_delta(description.model.dims, Some(&generation)).expect("no changes lack no embedding");
        Searcher::new(&self.name, description, Some(Arc::new(generation)), delta, covered, self.clock.clone())
    }

    /// Makes a generation the one that serves, with all changes that it lacks. `embed` makes embeddings of documents' fields by the
    /// model of a description; it is called only for changes that were embedded with another.
    ///
    /// # Errors
    /// Of `embed`; [`CollectionError`]. What served goes on serving.
    pub fn activate<E: From<CollectionError>>(
        &self,
        id: GenerationId,
        embed: impl Fn(&Description, Vec<String>) -> Result<Vec<Vec<f32>>, E>,
    ) -> Result<(), E> {
        let _files = self.lock_files();
        let base = Arc::new(self.open_generation(id)?);
        let description = base.description().clone();
        let meaning = super::Meaning::of(&self.name, &description.definition)?;
        let tag = ModelTag::of(&description.model.fingerprint);
        let wal_dir = self.dir.join(WAL);
        let mut changes = LoggedChanges::new(&meaning, tag, base.covered_seqno());
        let catch_up = |changes: &mut LoggedChanges<'_>, enough: usize| -> Result<Vec<(DocumentId, SeqNo, Vec<f32>)>, E> {
            let mut embedded = Vec::new();
            loop {
                changes.read(&wal_dir, false)?;
                let foreign = changes.foreign();
                if foreign.len() <= enough {
                    return Ok(embedded);
                }
                let (ids, fields): (Vec<(DocumentId, SeqNo)>, Vec<String>) =
                    foreign.into_iter().map(|(id, seqno, fields)| ((id, seqno), fields)).unzip();
                for ((id, seqno), embedding) in ids.into_iter().zip(embed(&description, fields)?) {
                    changes.embed(&id, seqno, embedding.clone());
                    embedded.push((id, seqno, embedding));
                }
            }
        };
        // While writes go on: most of the work, so that they wait for little.
        let mut embedded = catch_up(&mut changes, FEW)?;

        let shared = self.shared()?;
        let mut guard = self.lock_state()?;
        let state = &mut *guard;
        // After a failed sync, the log may hold what nobody was promised.
        state.wal.check().map_err(CollectionError::from)?;
        embedded.extend(catch_up(&mut changes, 0)?);
        if !changes.is_empty() && description.definition != self.searcher().description().definition {
            let (name, generation) = (self.name.to_string(), id.to_string());
            return Err(CollectionError::GenerationDefinition { name, generation }.into());
        }
        let delta = changes
            .into_delta(description.model.dims, Some(&base))
            .map_err(|id| CollectionError::NoEmbedding { name: self.name.to_string(), id: id.to_string() })?;
        let mut next_seqno = state.next_seqno;
        let switch = || -> Result<(), CollectionError> {
            if !embedded.is_empty() || tag != self.searcher().tag() {
                state.wal.rotate(next_seqno, tag)?;
            }
            if !embedded.is_empty() {
                state.wal.append(&Entry::Embeddings(Embeddings { seqno: next_seqno, documents: std::mem::take(&mut embedded) }), true)?;
                next_seqno = next_seqno.next();
                state.next_seqno = next_seqno;
            }
            // What can fail comes before the generation is current, on disk and in memory.
            let last = SeqNo(next_seqno.0 - 1);
            let searcher = Searcher::new(&self.name, description.clone(), Some(Arc::clone(&base)), delta, last, self.clock.clone())?;
            if let Err(e) = base.make_current(&self.dir) {
                // The log is in a file for this generation's model now, and goes on for the other one.
                state.wal.rotate(next_seqno, self.searcher().tag())?;
                return Err(e.into());
            }
            shared.searcher.store(Arc::new(searcher));
            Ok(())
        };
        switch()?;
        // It serves. What can fail from here on is tidying up, which the next rebuild does again.
        let tidied = storage::replace_file(&self.dir.join(manifest::DESCRIPTION_FILE), &description.to_json())
            .and_then(|()| Generation::remove_unused(&self.dir, false))
            .map_err(CollectionError::from)
            .and_then(|covered| Ok(state.wal.trim(covered, next_seqno)?));
        if let Err(e) = tidied {
            tracing::warn!(collection = %self.name, error = %e, "a new generation serves, but an old one could not be tidied away");
        }
        Ok(())
    }

    /// Deletes what was built and has not been activated.
    ///
    /// # Errors
    /// [`CollectionError::Storage`].
    pub fn discard(&self, id: GenerationId) -> Result<(), CollectionError> {
        let _files = self.lock_files();
        Ok(Generation::discard(&self.dir, id)?)
    }

    /// All finished generations, newest first.
    ///
    /// # Errors
    /// [`CollectionError::Storage`].
    pub fn generations(&self) -> Result<Vec<GenerationInfo>, CollectionError> {
        let _files = self.lock_files();
        Ok(Generation::list(&self.dir)?)
    }

    /// The generation that served before the current one.
    ///
    /// # Errors
    /// [`CollectionError::NoPrevious`].
    pub fn previous(&self) -> Result<GenerationId, CollectionError> {
        let history = generation::history(&self.dir)?;
        history.get(1).copied().ok_or_else(|| CollectionError::NoPrevious { name: self.name.to_string() })
    }

    /// Holds the files that are needed to open the collection as it is now, while it is searched, written to and rebuilt.
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

    fn open_generation(&self, id: GenerationId) -> Result<Generation, CollectionError> {
        Generation::open_one(&self.dir, id).map_err(|e| match e {
            CollectionError::LostGeneration { .. } => {
                CollectionError::NoGeneration { name: self.name.to_string(), generation: id.to_string() }
            }
            e => e,
        })
    }

    /// The right to delete generations and log files.
    pub(super) fn lock_files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go of files that a process held when it ended.
pub(super) fn let_go(dir: &Path) -> Result<(), StorageError> {
    let held = storage::list_dir(dir)?.into_iter().filter(|name| name.starts_with(PINNED));
    held.map(|name| dir.join(name)).try_for_each(|dir| storage::remove_dir(&dir))
}
