//! The changes that a generation lacks, read from the log. Some of them were made in another epoch.

use std::collections::HashMap;
use std::path::Path;

use super::CollectionError;
use super::delta::Delta;
use crate::wal::{self, Batch, Entry, Operation, Renewed, RenewedDocument, Replay, StoredDocument};
use kindred_core::domain::{DocumentId, Epoch, FeedPosition, SeqNo};

/// The last change of each document since some seqno.
#[derive(Debug)]
pub(super) struct LoggedChanges {
    epoch: Epoch,
    /// All entries up to this one have been read.
    read_to: SeqNo,
    documents: HashMap<DocumentId, (SeqNo, State)>,
    positions: Vec<FeedPosition>,
}

#[derive(Debug)]
enum State {
    Deleted,
    Present(StoredDocument),
    /// Made in another epoch.
    Foreign(Epoch, StoredDocument),
}

/// A document of the log that was made in another epoch than is wanted.
#[derive(Debug, Clone)]
pub struct ForeignDocument {
    pub id: DocumentId,
    /// The change that wrote it.
    pub changed: SeqNo,
    /// The epoch that it was made in.
    pub epoch: Epoch,
    pub document: StoredDocument,
}

impl LoggedChanges {
    /// No changes yet; those after `read_to` are wanted in this epoch.
    pub fn new(epoch: Epoch, read_to: SeqNo) -> Self {
        Self { epoch, read_to, documents: HashMap::new(), positions: Vec::new() }
    }

    /// Reads the entries that were appended since the last call. With `repair`, a torn end is cut off.
    ///
    /// # Errors
    /// [`CollectionError::Wal`].
    pub fn read(&mut self, wal_dir: &Path, repair: bool) -> Result<Replay, CollectionError> {
        let replay = wal::replay(wal_dir, self.read_to, repair, |epoch, entry| self.apply(epoch, entry))?;
        self.read_to = SeqNo(replay.next_seqno.0 - 1);
        Ok(replay)
    }

    fn apply(&mut self, epoch: Epoch, entry: Entry) {
        match entry {
            Entry::Changes(Batch { first_seqno, operations, positions }) => {
                for (seqno, operation) in (first_seqno.0..).map(SeqNo).zip(operations) {
                    let (id, state) = match operation {
                        Operation::Delete { id } => (id, State::Deleted),
                        Operation::Upsert { id, document } if epoch == self.epoch => (id, State::Present(document)),
                        Operation::Upsert { id, document } => (id, State::Foreign(epoch, document)),
                    };
                    self.documents.insert(id, (seqno, state));
                }
                self.positions.extend(positions);
            }
            Entry::Renewed(renewed) if renewed.epoch == self.epoch => self.renew(renewed),
            Entry::Renewed(_) => {}
        }
    }

    /// Replaces foreign documents by those of the wanted epoch, unless they were changed again.
    pub fn renew(&mut self, renewed: Renewed) {
        for RenewedDocument { id, changed, document } in renewed.documents {
            if let Some((current, state @ State::Foreign(..))) = self.documents.get_mut(&id)
                && *current == changed
            {
                *state = State::Present(document);
            }
        }
    }

    /// Returns up to `limit` documents that were made in another epoch, in no order.
    pub fn foreign(&self, limit: usize) -> Vec<ForeignDocument> {
        let foreign = self.documents.iter().filter_map(|(id, (changed, state))| match state {
            State::Foreign(epoch, document) => {
                Some(ForeignDocument { id: id.clone(), changed: *changed, epoch: *epoch, document: document.clone() })
            }
            State::Deleted | State::Present(_) => None,
        });
        foreign.take(limit).collect()
    }

    /// Returns the ids of the documents that were changed, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &DocumentId> {
        self.documents.keys()
    }

    /// Returns the last change that was read.
    pub fn read_to(&self) -> SeqNo {
        self.read_to
    }

    /// Returns how many documents were changed.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Moves all changes into the delta of a base, or into one that contains all changes before these.
    ///
    /// # Errors
    /// The id of a document that is still foreign.
    pub fn drain_into(&mut self, delta: &mut Delta) -> Result<(), DocumentId> {
        let mut documents: Vec<_> = self.documents.drain().collect();
        documents.sort_unstable_by_key(|(_, (seqno, _))| *seqno);
        for (id, (seqno, state)) in documents {
            match state {
                State::Deleted => delta.delete(id, seqno),
                State::Present(document) => delta.upsert(id, seqno, document),
                State::Foreign(..) => return Err(id),
            }
        }
        delta.note(std::mem::take(&mut self.positions));
        Ok(())
    }
}
