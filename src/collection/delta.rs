//! The changes since the generation, in memory and searched exactly.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{Attributes, DocumentId, SeqNo};
use crate::wal::{Batch, Operation, StoredDocument};

/// A change whose embedding has been computed.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredChange {
    Upsert {
        id: DocumentId,
        /// The user's fields without the id, as JSON text.
        fields: String,
        attributes: Attributes,
        /// `[dims]`, unit length.
        embedding: Vec<f32>,
    },
    Delete(DocumentId),
}

impl From<StoredChange> for Operation {
    fn from(change: StoredChange) -> Self {
        match change {
            StoredChange::Upsert { id, fields, attributes, embedding } => {
                Self::Upsert { id, document: StoredDocument { fields, attributes, embedding } }
            }
            StoredChange::Delete(id) => Self::Delete { id },
        }
    }
}

/// The last change of every document that changed since the generation.
#[derive(Debug, Clone, Default)]
pub(super) struct Delta {
    changes: HashMap<DocumentId, (SeqNo, State)>,
}

/// What a document is after its last change. Shared, so that copying a delta copies pointers.
#[derive(Debug, Clone)]
pub(super) enum State {
    Present(Arc<StoredDocument>),
    Deleted,
}

impl Delta {
    /// Applies a batch of the log.
    pub fn apply(&mut self, batch: Batch) {
        let mut seqno = batch.first_seqno;
        for operation in batch.operations {
            let (id, state) = match operation {
                Operation::Upsert { id, document } => (id, State::Present(Arc::new(document))),
                Operation::Delete { id } => (id, State::Deleted),
            };
            self.changes.insert(id, (seqno, state));
            seqno = seqno.next();
        }
    }

    /// The changes that a generation which covers `covered` does not have.
    pub fn after(&self, covered: SeqNo) -> Self {
        Self {
            changes: self
                .changes
                .iter()
                .filter(|(_, (seqno, _))| *seqno > covered)
                .map(|(id, change)| (id.clone(), change.clone()))
                .collect(),
        }
    }

    /// What became of a document, `None` if it did not change.
    pub fn get(&self, id: &DocumentId) -> Option<&State> {
        self.changes.get(id).map(|(_, state)| state)
    }

    /// The ids of all changed documents.
    pub fn ids(&self) -> impl Iterator<Item = &DocumentId> {
        self.changes.keys()
    }

    /// The documents that are there, in no order.
    pub fn documents(&self) -> impl Iterator<Item = (&DocumentId, &Arc<StoredDocument>)> {
        self.changes.iter().filter_map(|(id, (_, state))| match state {
            State::Present(document) => Some((id, document)),
            State::Deleted => None,
        })
    }

    /// Changed documents, the deleted ones too.
    pub fn len(&self) -> usize {
        self.changes.len()
    }
}
