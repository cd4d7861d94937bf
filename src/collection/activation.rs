//! ACTIVATE: a finished generation + all changes that it lacks → what serves.
//!
//! | step | what a failure or a crash leaves |
//! |---|---|
//! | `prepare` | nothing |
//! | `catch_up` | entries in the log that only generations of this epoch read; a later attempt uses them |
//! | `commit` | either generation opens with all acknowledged changes |
//! | `tidy` | old files, which the next activation deletes |
//!
//! Writes go on. A write that was checked in the old epoch and arrives after `commit` is refused, and is checked again. Upserts wait
//! during the last round of `catch_up`, which embeds what was written during the round before.

use std::sync::Arc;

use super::changes::{ForeignDocument, LoggedChanges};
use super::generation::{self, Generation};
use super::{Collection, CollectionError, Description, Searcher, WAL, manifest};
use crate::wal::{self, Renewed, RenewedDocument, StoredDocument, WalWriter};
use kindred_core::domain::GenerationId;
use kindred_core::storage;

/// Documents that are embedded and logged together.
const RENEWED_AT_ONCE: usize = 128;
/// Upserts are held back once a round finds at most this many changes: embedding them takes about a second on two cores.
const FEW: usize = 32;
/// Rounds before upserts are held back in any case, because they come faster than they can be embedded.
const MAX_ROUNDS: usize = 10;

impl Collection {
    /// Makes a generation the one that serves, with all changes that it lacks. `renew` brings documents into the epoch of a
    /// description: it is called for changes that were made in another.
    ///
    /// # Errors
    /// Of `renew`; [`CollectionError`]. The old generation goes on serving.
    pub fn activate<E: From<CollectionError>>(
        &self,
        id: GenerationId,
        renew: impl Fn(&Description, &[ForeignDocument]) -> Result<Vec<StoredDocument>, E>,
    ) -> Result<(), E> {
        let _files = self.lock_files();
        let mut activation = Activation::prepare(self, id)?;
        for _ in 0..MAX_ROUNDS {
            if activation.catch_up(&renew)? <= FEW {
                break;
            }
        }
        let closed_gate = self.shared()?.gate.close();
        activation.catch_up(&renew)?;
        // Upserts that were queued before the gate was closed are still being committed. There are at most a queue of them.
        while !activation.commit()? {
            activation.catch_up(&renew)?;
        }
        drop(closed_gate);
        activation.tidy();
        Ok(())
    }
}

/// An activation under way. The files lock is held while it exists.
pub(super) struct Activation<'a> {
    collection: &'a Collection,
    changes: LoggedChanges,
    /// What will serve: the generation with the changes that have been caught up with.
    next: Searcher,
}

impl<'a> Activation<'a> {
    /// Opens the generation.
    pub fn prepare(collection: &'a Collection, id: GenerationId) -> Result<Self, CollectionError> {
        let next = collection.preview(id)?;
        let changes = LoggedChanges::new(next.epoch(), next.seqno());
        Ok(Self { collection, changes, next })
    }

    /// Adds the changes that were logged since the last round, and logs those that had to be renewed. Returns how many changes there were.
    pub fn catch_up<E: From<CollectionError>>(
        &mut self,
        renew: &impl Fn(&Description, &[ForeignDocument]) -> Result<Vec<StoredDocument>, E>,
    ) -> Result<usize, E> {
        {
            // The next read has little to read then, because it reads files as a whole.
            let mut state = self.collection.lock_state()?;
            let epoch = state.wal.epoch();
            state.rotate_log(epoch).map_err(CollectionError::from)?;
        }
        self.changes.read(&self.collection.dir.join(WAL), false)?;
        loop {
            let foreign = self.changes.foreign(RENEWED_AT_ONCE);
            if foreign.is_empty() {
                break;
            }
            let documents = renew(self.next.description(), &foreign)?;
            self.log_renewed(foreign, documents)?;
        }
        let n_changes = self.changes.len();
        self.next.catch_up(&mut self.changes)?;
        Ok(n_changes)
    }

    /// Logs documents of the new epoch before anything depends on them. Other epochs ignore the entry.
    fn log_renewed(&mut self, foreign: Vec<ForeignDocument>, documents: Vec<StoredDocument>) -> Result<(), CollectionError> {
        let renewed = foreign.into_iter().zip(documents);
        let documents = renewed.map(|(foreign, document)| RenewedDocument { id: foreign.id, changed: foreign.changed, document });
        let documents = documents.collect();
        let mut state = self.collection.lock_state()?;
        let renewed = Renewed { seqno: state.next_seqno, epoch: self.next.epoch(), documents };
        state.wal.append(&renewed, false)?;
        state.next_seqno = state.next_seqno.next();
        drop(state);
        self.changes.renew(renewed);
        Ok(())
    }

    /// Makes the generation serve, on disk and in memory, unless changes were logged that have to be renewed first.
    ///
    /// Under the writer's lock: syncs the log, reads what was logged since the last round, replaces `CURRENT`.
    pub fn commit(&mut self) -> Result<bool, CollectionError> {
        let shared = self.collection.shared()?;
        let mut state = self.collection.lock_state()?;
        // After a failed sync the log may contain unacknowledged records, so refuse to activate from it.
        state.wal.check()?;
        state.wal.sync()?;
        self.changes.read(&self.collection.dir.join(WAL), false)?;
        if !self.changes.foreign(1).is_empty() {
            return Ok(false);
        }
        self.next.catch_up(&mut self.changes)?;
        debug_assert_eq!(self.next.seqno().next(), state.next_seqno, "all of the log is in the new searcher");
        self.make_current(&mut state.wal)?;
        shared.searcher.store(Arc::new(self.next.clone()));
        Ok(true)
    }

    /// Replaces `CURRENT`. After an error, puts the old one back if it was replaced; if it is unknown which one there is, poisons the log,
    /// because the writer would go on in the old epoch while the next start opens the new one.
    fn make_current(&self, wal: &mut WalWriter) -> Result<(), CollectionError> {
        let dir = &self.collection.dir;
        let before = generation::history(dir)?;
        let Err(e) = self.next.base().make_current(dir) else { return Ok(()) };
        let is_old = generation::history(dir).is_ok_and(|now| now == before) || generation::write_history(dir, &before).is_ok();
        if !is_old {
            wal.poison();
        }
        Err(e.into())
    }

    /// Deletes files that nothing needs any more. A failure is logged, and the next activation tries again.
    pub fn tidy(self) {
        if let Err(e) = self.delete_unused() {
            tracing::warn!(collection = %self.collection.name, error = %e, "a new generation serves, but files of an old one could not be deleted");
        }
    }

    fn delete_unused(&self) -> Result<(), CollectionError> {
        let dir = &self.collection.dir;
        storage::replace_file(&dir.join(manifest::DESCRIPTION_FILE), &self.next.description().to_json())?;
        Generation::remove_unused(dir, false)?;
        let covered = Generation::covered_by_all(dir)?;
        self.collection.lock_state()?.rotate_log(self.next.epoch())?;
        Ok(wal::trim(&dir.join(WAL), covered)?)
    }
}
