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

/// Recognises the text that an embedding was made of: equal texts, equal hashes. A document whose embedding was given with it
/// has none, and so no text is ever taken for the one behind its embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct TextHash(pub [u8; 16]);

impl TextHash {
    /// The hash of a text.
    pub fn of(text: &str) -> Self {
        Self(first_half(text))
    }
}

/// Recognises the model and prompts that embeddings were made with, where the whole fingerprint would be too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ModelTag(pub [u8; 16]);

impl ModelTag {
    /// The tag of a fingerprint.
    pub fn of(fingerprint: &str) -> Self {
        Self(first_half(fingerprint))
    }
}

/// Half a sha256: 64 bits against two texts that meet by chance or by intent.
fn first_half(text: &str) -> [u8; 16] {
    let digest = Sha256::digest(text.as_bytes());
    std::array::from_fn(|i| digest[i])
}

/// Where a feed stands: every record of `source` before `next` is in the collection.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FeedPosition {
    pub source: String,
    /// `None`: the source is done, and is to be forgotten.
    pub next: Option<u64>,
}
