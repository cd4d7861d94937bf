//! The typed values of a document that filters and re-scoring look at.

use bincode::{Decode, Encode};

use super::{FieldId, GeoPoint};

/// All values of one field of one document; never empty.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Value {
    /// Text and keywords.
    Words(Vec<String>),
    /// Numbers, and times in microseconds since 1970.
    Numbers(Vec<f64>),
    Places(Vec<GeoPoint>),
    Bools(Vec<bool>),
}

/// A document's values by field, and the words of its text.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct Attributes {
    /// In the order of the fields.
    values: Vec<(u16, Value)>,
    /// Hashes of the words of the whole embedded text, sorted: see [`super::word_hashes`].
    text_words: Vec<u32>,
}

impl Attributes {
    /// Adds a field's values; fields must come in their order.
    pub(super) fn push(&mut self, field: FieldId, value: Value) {
        debug_assert!(self.values.last().is_none_or(|(last, _)| *last < field.0), "fields come in order");
        self.values.push((field.0, value));
    }

    /// Sets the words of the text.
    pub(super) fn set_text_words(&mut self, hashes: Vec<u32>) {
        self.text_words = hashes;
    }

    /// Whether a word stands in the document's text.
    pub fn text_has(&self, word_hash: u32) -> bool {
        self.text_words.binary_search(&word_hash).is_ok()
    }

    /// How many different words the document's text has.
    pub fn n_text_words(&self) -> usize {
        self.text_words.len()
    }

    /// The values of a field, if the document has any.
    pub fn get(&self, field: FieldId) -> Option<&Value> {
        self.values.binary_search_by_key(&field.0, |(f, _)| *f).ok().map(|i| &self.values[i].1)
    }

    /// All fields that have values.
    pub fn iter(&self) -> impl Iterator<Item = (FieldId, &Value)> {
        self.values.iter().map(|(field, value)| (FieldId(*field), value))
    }

    /// Words of a text or keyword field; empty if there are none.
    pub fn words(&self, field: Option<FieldId>) -> &[String] {
        match field.and_then(|f| self.get(f)) {
            Some(Value::Words(words)) => words,
            _ => &[],
        }
    }

    /// First number or time of a field.
    pub fn number(&self, field: Option<FieldId>) -> Option<f64> {
        match field.and_then(|f| self.get(f)) {
            Some(Value::Numbers(numbers)) => numbers.first().copied(),
            _ => None,
        }
    }

    /// When a document expires, in microseconds since 1970; never, if the field that says so has no value. Of several times the
    /// first counts.
    pub fn expires_at_us(&self, field: Option<FieldId>) -> Option<i64> {
        self.number(field).map(|us| us as i64)
    }

    /// Places of a geo field; empty if there are none.
    pub fn places(&self, field: Option<FieldId>) -> &[GeoPoint] {
        match field.and_then(|f| self.get(f)) {
            Some(Value::Places(places)) => places,
            _ => &[],
        }
    }

    /// First truth value of a field.
    pub fn bool(&self, field: Option<FieldId>) -> Option<bool> {
        match field.and_then(|f| self.get(f)) {
            Some(Value::Bools(bools)) => bools.first().copied(),
            _ => None,
        }
    }
}
