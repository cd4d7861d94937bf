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

/// Recognises what an embedding was made of: equal texts, equal hashes. Of an embedding that was given with its document it is
/// that of its numbers, and so no text is ever taken for the one behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct TextHash(pub [u8; 16]);

impl TextHash {
    /// The hash of a text.
    pub fn of(text: &str) -> Self {
        Self(first_half(text.as_bytes()))
    }

    /// The hash of an embedding that was given.
    pub fn of_given(embedding: &[f32]) -> Self {
        // No text begins with a byte that no UTF-8 has.
        let bytes: Vec<u8> = std::iter::once(0xff).chain(embedding.iter().flat_map(|x| x.to_le_bytes())).collect();
        Self(first_half(&bytes))
    }
}

/// Recognises the model and prompts that embeddings were made with, where the whole fingerprint would be too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ModelTag(pub [u8; 16]);

impl ModelTag {
    /// The tag of a fingerprint.
    pub fn of(fingerprint: &str) -> Self {
        Self(first_half(fingerprint.as_bytes()))
    }
}

/// Half a sha256: 64 bits against two texts that meet by chance or by intent.
fn first_half(bytes: &[u8]) -> [u8; 16] {
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
