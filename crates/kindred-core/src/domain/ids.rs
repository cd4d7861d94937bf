//! Names and numbers that identify things.

use std::fmt;
use std::sync::Arc;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::ErrorKind;

/// Longest collection name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest document id, in bytes.
pub const MAX_ID_BYTES: usize = 512;

/// A name or id that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "the collection name {0:?} is not allowed: use a to z, 0 to 9, '-' and '_', begin with a letter, at most {MAX_NAME_BYTES} characters"
    )]
    Collection(String),
    #[error("a document id must have 1 to {MAX_ID_BYTES} bytes and no control characters; this one has {0} bytes")]
    Document(usize),
}

impl NameError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// The name of a collection; also the name of its folder, hence the narrow alphabet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct CollectionName(String);

impl CollectionName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`NameError::Collection`] when it holds anything but `a-z 0-9 - _`, does not begin with a letter or is too long.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let tail_is_plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if tail_is_plain && name.len() <= MAX_NAME_BYTES && name.starts_with(|c: char| c.is_ascii_lowercase()) {
            Ok(Self(name))
        } else {
            Err(NameError::Collection(name))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CollectionName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl std::str::FromStr for CollectionName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id that users give a document. Shared, so that copying one copies a pointer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct DocumentId(Arc<str>);

impl DocumentId {
    /// Checks and wraps an id.
    ///
    /// # Errors
    /// [`NameError::Document`] when it is empty, too long or holds control characters.
    pub fn new(id: impl Into<String>) -> Result<Self, NameError> {
        let id = id.into();
        if id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
            return Err(NameError::Document(id.len()));
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for DocumentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Position of a change in a collection's write-ahead log; the first change has 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Encode, Decode)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of an immutable build; 0 means that nothing has been built yet. Also the name of its folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct GenerationId(pub u64);

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

impl std::str::FromStr for GenerationId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_data_folder_are_refused() {
        for bad in ["", "..", "a/b", "Jobs", "9lives", "a b", "ä", &"a".repeat(65)] {
            assert!(CollectionName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["jobs", "members", "a-b_c9", &"a".repeat(64)] {
            assert!(CollectionName::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn ids_have_a_length_and_no_control_characters() {
        assert!(DocumentId::new("").is_err());
        assert!(DocumentId::new("x\ny").is_err());
        assert!(DocumentId::new("x".repeat(MAX_ID_BYTES + 1)).is_err());
        assert!(DocumentId::new("żółw/1 — ü").is_ok());
    }
}
