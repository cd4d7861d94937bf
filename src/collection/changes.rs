//! The changes that a generation lacks, read from the log; some of their embeddings may be of another model.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::delta::Delta;
use super::generation::Generation;
use super::{CollectionError, Meaning};
use crate::wal::{self, Batch, Embeddings, Entry, Operation, Replay, StoredDocument};
use kindred_core::domain::{DocumentId, FeedPosition, ModelTag, SeqNo};

/// What became of each document since a generation.
pub(super) struct LoggedChanges<'a> {
    /// The model that embeddings are wanted of.
    tag: ModelTag,
    meaning: &'a Meaning,
    covered: SeqNo,
    documents: HashMap<DocumentId, (SeqNo, State)>,
    positions: Vec<FeedPosition>,
}

enum State {
    Deleted,
    Present(StoredDocument),
    /// Its embedding is of another model, and was left out.
    Foreign(StoredDocument),
}

impl<'a> LoggedChanges<'a> {
    /// Those after `covered`, with embeddings of the model of this tag.
    pub fn new(meaning: &'a Meaning, tag: ModelTag, covered: SeqNo) -> Self {
        Self { tag, meaning, covered, documents: HashMap::new(), positions: Vec::new() }
    }

    /// Reads what the log has beyond what was read before.
    pub fn read(&mut self, wal_dir: &Path, repair: bool) -> Result<Replay, CollectionError> {
        let replay = wal::replay(wal_dir, self.covered, repair, |tag, entry| self.apply(tag, entry))?;
        self.covered = SeqNo(replay.next_seqno.0 - 1);
        Ok(replay)
    }

    fn apply(&mut self, tag: ModelTag, entry: Entry) {
        let is_ours = tag == self.tag;
        match entry {
            Entry::Changes(Batch { first_seqno, operations, positions }) => {
                for (seqno, operation) in (first_seqno.0..).map(SeqNo).zip(operations) {
                    let (id, state) = match operation {
                        Operation::Delete { id } => (id, State::Deleted),
                        Operation::Upsert { id, document } if is_ours => (id, State::Present(document)),
                        Operation::Upsert { id, document } => (id, State::Foreign(StoredDocument { embedding: Vec::new(), ..document })),
                    };
                    self.documents.insert(id, (seqno, state));
                }
                self.positions.extend(positions);
            }
            Entry::Embeddings(Embeddings { documents, .. }) if is_ours => {
                documents.into_iter().for_each(|(id, seqno, embedding)| self.embed(&id, seqno, embedding));
            }
            Entry::Embeddings(_) => {}
        }
    }

    /// Gives a document its embedding, if it is still the one that was embedded.
    pub fn embed(&mut self, id: &DocumentId, seqno: SeqNo, embedding: Vec<f32>) {
        let Some((current, state)) = self.documents.get_mut(id) else { return };
        if *current == seqno
            && let State::Foreign(document) = state
        {
            *state = State::Present(StoredDocument { embedding, ..document.clone() });
        }
    }

    /// The documents whose embeddings are of another model, with their fields.
    pub fn foreign(&self) -> Vec<(DocumentId, SeqNo, String)> {
        let foreign = self.documents.iter().filter_map(|(id, (seqno, state))| match state {
            State::Foreign(document) => Some((id.clone(), *seqno, document.fields.clone())),
            State::Deleted | State::Present(_) => None,
        });
        foreign.collect()
    }

    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// All of them as the delta of a base; every embedding must be there.
    pub fn into_delta(self, dims: usize, base: Option<&Generation>) -> Result<Delta, DocumentId> {
        let positions: BTreeMap<String, u64> = base.map(|base| base.positions().iter().cloned().collect()).unwrap_or_default();
        let mut delta = Delta::new(dims, self.meaning, positions);
        let mut documents: Vec<_> = self.documents.into_iter().collect();
        documents.sort_unstable_by_key(|(_, (seqno, _))| *seqno);
        for (id, (seqno, state)) in documents {
            match state {
                State::Deleted => delta.delete(id, seqno),
                State::Present(document) => delta.upsert(id, seqno, document),
                State::Foreign(_) => return Err(id),
            }
        }
        delta.note(self.positions);
        Ok(delta)
    }
}
