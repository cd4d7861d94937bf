//! Lists of documents to be ordered, counted while they are read.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use crate::pipeline::{MAX_INPUTS, RerankError, check_documents};

/// Documents as they were given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Documents<T> {
    /// The first of them: more than a request may have are counted, and not kept.
    kept: Vec<T>,
    n_given: usize,
}

impl<T> Documents<T> {
    /// All documents.
    ///
    /// # Errors
    /// [`RerankError::NoDocuments`] or [`RerankError::TooManyDocuments`].
    pub fn into_list(self) -> Result<Vec<T>, RerankError> {
        check_documents(self.n_given)?;
        Ok(self.kept)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Documents<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Documents<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of documents")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Documents<T>, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < MAX_INPUTS {
                    let Some(document) = list.next_element()? else { return Ok(Documents { n_given: kept.len(), kept }) };
                    kept.push(document);
                }
                let mut n_given = kept.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    n_given += 1;
                }
                Ok(Documents { kept, n_given })
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_request_may_have_are_counted_and_not_kept() {
        let read = |json: &str| serde_json::from_str::<Documents<String>>(json);
        assert_eq!(read("[\"a\", \"b\"]").unwrap().into_list().unwrap(), ["a", "b"]);
        assert!(matches!(read("[]").unwrap().into_list(), Err(RerankError::NoDocuments)));
        let many = read(&format!("[{}]", vec!["\"a\""; MAX_INPUTS + 5].join(","))).unwrap();
        assert_eq!(many.kept.len(), MAX_INPUTS);
        assert!(matches!(many.into_list(), Err(RerankError::TooManyDocuments { actual, .. }) if actual == MAX_INPUTS + 5));
        for (json, word) in [("7", "list of documents"), ("[7]", "a string"), ("{}", "list of documents"), ("[\"a\"", "EOF")] {
            let message = read(json).unwrap_err().to_string();
            assert!(message.contains(word), "{json}: {message}");
        }
    }
}
