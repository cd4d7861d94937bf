//! What may stand as input: a text, ids of tokens, or a list of these.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};

use crate::pipeline::{EmbedError, Input, MAX_INPUTS, check_number};

const EXPECTED: &str = "a text, a list of token ids (whole numbers from 0 on), or a list of such inputs";

/// Inputs as they were given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The first of them: more than a request may have are counted, and not kept.
    kept: Vec<Input>,
    n_given: usize,
}

impl Inputs {
    /// All inputs.
    ///
    /// # Errors
    /// [`EmbedError::NoInputs`] or [`EmbedError::TooManyInputs`].
    pub fn into_list(self) -> Result<Vec<Input>, EmbedError> {
        check_number(self.n_given)?;
        Ok(self.kept)
    }

    /// Whether texts and token ids stand side by side.
    pub fn are_mixed(&self) -> bool {
        self.kept.iter().any(|input| matches!(input, Input::Text(_))) && self.kept.iter().any(|input| matches!(input, Input::Tokens(_)))
    }

    /// The texts, if that is what all inputs are.
    ///
    /// # Errors
    /// As [`Inputs::into_list`].
    pub fn into_texts(self) -> Result<Option<Vec<String>>, EmbedError> {
        let text = |input| match input {
            Input::Text(text) => Some(text),
            Input::Tokens(_) => None,
        };
        Ok(self.into_list()?.into_iter().map(text).collect())
    }

    fn push(&mut self, input: Input) {
        if self.n_given < MAX_INPUTS {
            self.kept.push(input);
        }
        self.n_given += 1;
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputsVisitor)
    }
}

struct InputsVisitor;

impl<'de> Visitor<'de> for InputsVisitor {
    type Value = Inputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Inputs, E> {
        Ok(Inputs { kept: vec![Input::Text(text.to_owned())], n_given: 1 })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Inputs, A::Error> {
        let (mut inputs, mut ids) = (Inputs::default(), Vec::new());
        while let Some(element) = list.next_element()? {
            match element {
                Element::Id(id) if inputs.n_given == 0 => ids.push(id),
                Element::Input(input) if ids.is_empty() => inputs.push(input),
                _ => return Err(A::Error::custom("token ids stand beside other inputs: put them in a list of their own")),
            }
        }
        if !ids.is_empty() {
            inputs.push(Input::Tokens(ids));
        }
        Ok(inputs)
    }
}

/// What may stand in a list of inputs.
enum Element {
    Input(Input),
    Id(u32),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Element, E> {
        Ok(Element::Input(Input::Text(text.to_owned())))
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<Element, E> {
        token_id(id).map(Element::Id)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
        let mut ids = Vec::new();
        while let Some(TokenId(id)) = list.next_element()? {
            ids.push(id);
        }
        Ok(Element::Input(Input::Tokens(ids)))
    }
}

struct TokenId(u32);

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TokenIdVisitor;
        impl Visitor<'_> for TokenIdVisitor {
            type Value = TokenId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token id (a whole number from 0 on)")
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<TokenId, E> {
                token_id(id).map(TokenId)
            }
        }
        deserializer.deserialize_any(TokenIdVisitor)
    }
}

fn token_id<E: Error>(id: u64) -> Result<u32, E> {
    u32::try_from(id).map_err(|_| E::invalid_value(Unexpected::Unsigned(id), &"a token id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Inputs, serde_json::Error> {
        serde_json::from_str(json)
    }

    fn text(text: &str) -> Input {
        Input::Text(text.to_owned())
    }

    #[test]
    fn every_form_is_read() {
        for (json, inputs) in [
            ("\"a  b\"", vec![text("a  b")]),
            ("[\"a\", \"b\"]", vec![text("a"), text("b")]),
            ("[1, 2]", vec![Input::Tokens(vec![1, 2])]),
            ("[[1], []]", vec![Input::Tokens(vec![1]), Input::Tokens(vec![])]),
            ("[\"a\", [1]]", vec![text("a"), Input::Tokens(vec![1])]),
        ] {
            assert_eq!(read(json).unwrap().into_list().unwrap(), inputs, "{json}");
        }
        assert!(matches!(read("[]").unwrap().into_list(), Err(EmbedError::NoInputs)));
        assert!(read("[\"a\", [1]]").unwrap().are_mixed() && !read("[[1], [2]]").unwrap().are_mixed());
        assert_eq!(read("[\"a\"]").unwrap().into_texts().unwrap(), Some(vec!["a".to_owned()]));
        assert_eq!(read("[\"a\", [1]]").unwrap().into_texts().unwrap(), None);
    }

    #[test]
    fn what_is_no_input_is_refused() {
        for (json, word) in [
            ("7", "list of token ids"),
            ("null", "list of token ids"),
            ("{\"a\": 1}", "list of token ids"),
            ("[-1]", "`-1`"),
            ("[1.5]", "`1.5`"),
            ("[4294967296]", "4294967296"),
            ("[[true]]", "a token id"),
            ("[[[1]]]", "a token id"),
            ("[1, \"a\"]", "of their own"),
            ("[\"a\", 1]", "of their own"),
        ] {
            let message = read(json).unwrap_err().to_string();
            assert!(message.contains(word), "{json}: {message}");
        }
    }

    #[test]
    fn more_than_a_request_may_have_are_not_kept() {
        let inputs = read(&format!("[{}]", vec!["\"a\""; MAX_INPUTS + 5].join(","))).unwrap();
        assert_eq!(inputs.kept.len(), MAX_INPUTS);
        assert!(matches!(inputs.into_list(), Err(EmbedError::TooManyInputs { actual, .. }) if actual == MAX_INPUTS + 5));
    }
}
