//! What goes with a change: on what condition it is made, how its text is recognised, where its feed stands.

use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};

use super::SeqNo;

/// On what a change of a document depends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precondition {
    /// On nothing.
    #[default]
    None,
    /// There is no such document yet.
    CreateOnly,
    /// The document's last change is this one.
    IfSeqno(SeqNo),
}

/// What a writer waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refresh {
    /// That the change is durable and found by the next search.
    #[default]
    Wait,
    /// That it is durable; it is found a moment later.
    None,
}

/// Identifies the source of an embedding: equal texts have equal hashes. The hash of an embedding that came with its document is
/// that of its numbers, and is marked, so that it never equals the hash of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct TextHash([u8; 16]);

/// Set in the first byte of a hash if the embedding came with its document.
const GIVEN: u8 = 1;

impl TextHash {
    /// Returns the hash of a text that is embedded.
    pub fn of(text: &str) -> Self {
        let mut hash = first_half(text.as_bytes());
        hash[0] &= !GIVEN;
        Self(hash)
    }

    /// Returns the hash of an embedding that came with its document.
    pub fn of_given(embedding: &[f32]) -> Self {
        let bytes: Vec<u8> = embedding.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut hash = first_half(&bytes);
        hash[0] |= GIVEN;
        Self(hash)
    }

    /// True if the embedding came with its document, so that no text stands for it.
    pub fn is_given(self) -> bool {
        self.0[0] & GIVEN == GIVEN
    }

    /// Returns the hash as it is stored.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Reads a stored hash.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Half a sha256: 64 bits against two texts that meet by chance or by intent.
pub(super) fn first_half(bytes: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(bytes);
    std::array::from_fn(|i| digest[i])
}

/// Where a feed stands: every record of `source` before `next` is in the collection.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FeedPosition {
    pub source: String,
    /// `None`: the source is done, and is to be forgotten.
    pub next: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_embedding_is_never_taken_for_a_text() {
        let texts = ["", "Nurse", "Night nurse", "nurse"].map(TextHash::of);
        let given = [TextHash::of_given(&[0.6, 0.8]), TextHash::of_given(&[0.8, 0.6]), TextHash::of_given(&[])];
        assert!(texts.iter().all(|hash| !hash.is_given()) && given.iter().all(|hash| hash.is_given()));
        let distinct: std::collections::HashSet<_> = texts.into_iter().chain(given).collect();
        assert_eq!(distinct.len(), texts.len() + given.len());
        assert_eq!(TextHash::from_bytes(given[0].to_bytes()), given[0]);
    }
}
