//! What is embedded of a text that is longer than its model takes, or than a collection wants to embed as one.

use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};

use super::SchemaError;

/// Least tokens of a chunk, the special ones included: fewer say nothing.
const MIN_CHUNK_TOKENS: usize = 16;
/// Most chunks of a document: each takes as much room as a short document.
const MAX_CHUNKS: usize = 1_024;

/// What becomes of a text that is longer than one chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChunkMode {
    /// What the model takes of it is embedded, the rest is not.
    #[default]
    Cut,
    /// Each chunk has an embedding of its own; in a search, a document's best chunk counts.
    Best,
    /// The mean of the chunks' embeddings is the document's.
    Mean,
}

impl FromStr for ChunkMode {
    type Err = serde::de::value::Error;

    /// The same names as in JSON.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::deserialize(name.into_deserializer())
    }
}

/// How long texts are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Chunking {
    pub mode: ChunkMode,
    /// Most tokens of a chunk, special ones and prompt included; 0, or more than the model takes: what the model takes. A text of up
    /// to so many is one chunk.
    pub max_tokens: usize,
    /// Tokens that neighbouring chunks share; at most half of a chunk.
    pub overlap_tokens: usize,
    /// So many first lines of the text stand before every chunk, as a title should, if they take no more than a quarter of it.
    pub header_lines: usize,
    /// Most chunks of a text; what is left of a longer one is not embedded.
    pub max_chunks: usize,
}

impl Default for Chunking {
    fn default() -> Self {
        Self { mode: ChunkMode::default(), max_tokens: 0, overlap_tokens: 16, header_lines: 1, max_chunks: 32 }
    }
}

impl Chunking {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(&self) -> Result<(), SchemaError> {
        let refused = |name, value, allowed| Err(SchemaError::Chunks { name, value, allowed });
        match *self {
            Self { max_tokens, .. } if max_tokens != 0 && max_tokens < MIN_CHUNK_TOKENS => {
                refused("max_tokens", max_tokens, "16 or more, or 0 for what the model takes")
            }
            Self { max_tokens, overlap_tokens, .. } if max_tokens != 0 && overlap_tokens > max_tokens / 2 => {
                refused("overlap_tokens", overlap_tokens, "at most half of max_tokens")
            }
            Self { max_chunks, .. } if !(1..=MAX_CHUNKS).contains(&max_chunks) => refused("max_chunks", max_chunks, "1 to 1024"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_chunks_are_refused() {
        let check = |json: &str| serde_json::from_str::<Chunking>(json).unwrap().check();
        for good in ["{}", r#"{"mode": "best", "max_tokens": 64, "overlap_tokens": 32}"#, r#"{"overlap_tokens": 500}"#] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, field) in [
            (r#"{"max_tokens": 15}"#, "max_tokens"),
            (r#"{"max_tokens": 64, "overlap_tokens": 33}"#, "overlap_tokens"),
            (r#"{"max_chunks": 0}"#, "max_chunks"),
            (r#"{"max_chunks": 1025}"#, "max_chunks"),
        ] {
            assert!(matches!(check(bad), Err(SchemaError::Chunks { name, .. }) if name == field), "{bad}");
        }
        assert!(serde_json::from_str::<Chunking>(r#"{"overlap": 3}"#).is_err());
    }
}
