//! Which model and which definition stored documents were made with.

use bincode::{Decode, Encode};

use super::change::first_half;
use super::{Chunking, CollectionDefinition};

/// Identifies everything that stored documents are derived by. Embeddings and attributes of different epochs must never meet in one
/// searcher: a write names the epoch it was checked in, and so does each file of the log.
///
/// Its three parts are compared on their own by whoever brings a document from one epoch into another: an embedding may be kept
/// across a change of the definition, attributes are always read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Epoch {
    /// Of the model's fingerprint, which covers weights, tokenizer, pooling, prompts and dimensions.
    pub model: [u8; 16],
    /// Of how texts are cut into chunks: with the model, this says whether equal texts have equal embeddings.
    pub chunking: [u8; 16],
    /// Of the whole definition: field ids, and so attributes, depend on it.
    pub definition: [u8; 16],
}

impl Epoch {
    /// Bytes of an epoch in a file.
    pub const BYTES: usize = 48;

    /// Returns the epoch of a model, by its fingerprint, and of a definition.
    pub fn new(fingerprint: &str, definition: &CollectionDefinition) -> Self {
        let hash_of = |json: serde_json::Result<Vec<u8>>| {
            first_half(&json.expect("definitions have only strings, numbers and maps with string keys"))
        };
        Self {
            model: first_half(fingerprint.as_bytes()),
            chunking: hash_of(serde_json::to_vec::<Chunking>(&definition.chunks)),
            definition: hash_of(serde_json::to_vec(definition)),
        }
    }

    /// Returns the epoch as it is stored.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let parts = [self.model, self.chunking, self.definition];
        std::array::from_fn(|i| parts[i / 16][i % 16])
    }

    /// Reads a stored epoch.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let part = |n: usize| std::array::from_fn(|i| bytes[16 * n + i]);
        Self { model: part(0), chunking: part(1), definition: part(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FieldSpec, FieldType};
    use super::*;

    #[test]
    fn an_epoch_changes_with_each_of_its_parts() {
        let definition = CollectionDefinition { template: "{title}".to_owned(), ..CollectionDefinition::default() };
        let epoch = Epoch::new("model", &definition);
        assert_eq!(epoch, Epoch::new("model", &definition.clone()));
        assert_eq!(Epoch::from_bytes(&epoch.to_bytes()), epoch);
        let other_model = Epoch::new("other", &definition);
        assert!(other_model.model != epoch.model && other_model.definition == epoch.definition);
        let spec = FieldSpec { field_type: FieldType::Bool, index: true, role: None };
        let with_field = CollectionDefinition { fields: [("a".to_owned(), spec)].into(), ..definition.clone() };
        let other_definition = Epoch::new("model", &with_field);
        assert!(other_definition.definition != epoch.definition && other_definition.chunking == epoch.chunking);
        let chunks = Chunking { max_tokens: 64, ..definition.chunks };
        assert_ne!(Epoch::new("model", &CollectionDefinition { chunks, ..definition }).chunking, epoch.chunking);
    }
}
