//! The typed values of a document that filters and re-scoring look at.

use bincode::{Decode, Encode};

use super::{FieldId, GeoPoint, Number};

/// All values of one field of one document; never empty.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Value {
    /// Text and keywords.
    Words(Vec<String>),
    /// Numbers, and times in microseconds since 1970, if an `f64` holds each of them exactly.
    Numbers(Vec<f64>),
    Places(Vec<GeoPoint>),
    Bools(Vec<bool>),
    /// Numbers, and times, of which some are integers that no `f64` holds.
    Exact(Vec<Number>),
}

impl Value {
    /// Numbers in their shortest form.
    pub fn of_numbers(numbers: Vec<Number>) -> Self {
        if numbers.iter().all(|number| number.rest() == 0) {
            Self::Numbers(numbers.into_iter().map(Number::as_f64).collect())
        } else {
            Self::Exact(numbers)
        }
    }

    /// The numbers and times; none for a value of another kind.
    pub fn numbers(&self) -> impl Iterator<Item = Number> + Clone {
        let (floats, exact): (&[f64], &[Number]) = match self {
            Self::Numbers(floats) => (floats, &[]),
            Self::Exact(numbers) => (&[], numbers),
            Self::Words(_) | Self::Places(_) | Self::Bools(_) => (&[], &[]),
        };
        floats.iter().map(|&float| Number::from(float)).chain(exact.iter().copied())
    }

    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Words(words) => words.is_empty(),
            Self::Numbers(floats) => floats.is_empty(),
            Self::Places(places) => places.is_empty(),
            Self::Bools(bools) => bools.is_empty(),
            Self::Exact(numbers) => numbers.is_empty(),
        }
    }
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

    /// Numbers and times of a field; none if it has none.
    pub fn numbers(&self, field: FieldId) -> impl Iterator<Item = Number> {
        self.get(field).into_iter().flat_map(Value::numbers)
    }

    /// First number or time of a field, rounded to an `f64`.
    pub fn number(&self, field: Option<FieldId>) -> Option<f64> {
        match field.and_then(|f| self.get(f)) {
            Some(Value::Numbers(floats)) => floats.first().copied(),
            Some(Value::Exact(numbers)) => numbers.first().map(|number| number.as_f64()),
            _ => None,
        }
    }

    /// When a document expires, in microseconds since 1970; never, if the field that says so has no value. Of several times the
    /// first counts.
    pub fn expires_at_us(&self, field: Option<FieldId>) -> Option<i64> {
        field.and_then(|field| self.numbers(field).next()).map(Number::as_i64)
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
