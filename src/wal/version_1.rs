//! Entries of the log's first format: no positions of feeds, no hashes of texts, one model for all.

use bincode::Decode;

use super::{Batch, Entry, Operation, StoredDocument};
use kindred_core::domain::{Attributes, DocumentId, SeqNo};

#[derive(Debug, Decode)]
pub(super) struct BatchV1 {
    first_seqno: SeqNo,
    operations: Vec<OperationV1>,
}

#[derive(Debug, Decode)]
enum OperationV1 {
    Upsert { id: DocumentId, document: DocumentV1 },
    Delete { id: DocumentId },
}

#[derive(Debug, Decode)]
struct DocumentV1 {
    fields: String,
    attributes: Attributes,
    embedding: Vec<f32>,
}

impl From<BatchV1> for Entry {
    fn from(BatchV1 { first_seqno, operations }: BatchV1) -> Self {
        let operations = operations.into_iter().map(Operation::from).collect();
        Self::Changes(Batch { first_seqno, operations, positions: Vec::new() })
    }
}

impl From<OperationV1> for Operation {
    fn from(operation: OperationV1) -> Self {
        match operation {
            OperationV1::Delete { id } => Self::Delete { id },
            OperationV1::Upsert { id, document: DocumentV1 { fields, attributes, embedding } } => {
                Self::Upsert { id, document: StoredDocument { fields, attributes, embedding, text_hash: None } }
            }
        }
    }
}
