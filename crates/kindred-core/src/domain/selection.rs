//! Which of a document's values are looked at; and how those are read without the others.
//!
//! Re-scoring looks at two or three values of each of some hundred candidates, whose other values and many words would take most of
//! its time to read.

use bincode::Decode;
use bincode::de::Decoder;
use bincode::de::read::Reader;
use bincode::error::DecodeError;

use super::{Attributes, FieldId, Number, Value};

/// Which of a document's values are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Ascending.
    fields: Vec<FieldId>,
    text_words: bool,
}

impl Selection {
    /// Adds a field, if there is one.
    pub fn add(&mut self, field: Option<FieldId>) {
        let Some(field) = field else { return };
        if let Err(at) = self.fields.binary_search(&field) {
            self.fields.insert(at, field);
        }
    }

    /// Adds the words of the text.
    pub fn add_text_words(&mut self) {
        self.text_words = true;
    }
}

/// Attributes of which only what a [`Selection`] names has been read, from the bytes of a slice.
#[derive(Debug)]
pub struct Selected(pub Attributes);

impl<'s> Decode<&'s Selection> for Selected {
    fn decode<D: Decoder<Context = &'s Selection>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let selection: &'s Selection = decoder.context();
        let mut attributes = Attributes::default();
        let mut wanted = selection.fields.iter().copied().peekable();
        for _ in 0..u64::decode(decoder)? {
            // Fields come in their order: behind the last that is wanted there is nothing to look for.
            if wanted.peek().is_none() && !selection.text_words {
                return Ok(Self(attributes));
            }
            let field = FieldId(u16::decode(decoder)?);
            while wanted.next_if(|&next| next < field).is_some() {}
            match wanted.next_if_eq(&field) {
                Some(_) => attributes.push(field, Value::decode(decoder)?),
                None => skip_value(decoder)?,
            }
        }
        if selection.text_words {
            attributes.set_text_words(Vec::decode(decoder)?);
        }
        Ok(Self(attributes))
    }
}

/// Steps over a [`Value`], by the order of its variants and the sizes of what is in them.
fn skip_value<D: Decoder>(decoder: &mut D) -> Result<(), DecodeError> {
    let variant = u32::decode(decoder)?;
    let n = u64::decode(decoder)?;
    let size: u64 = match variant {
        0 => {
            for _ in 0..n {
                let len = u64::decode(decoder)?;
                skip(decoder, len)?;
            }
            return Ok(());
        }
        1 => 8,
        2 => 16,
        3 => 1,
        4 => {
            for _ in 0..n {
                Number::decode(decoder)?;
            }
            return Ok(());
        }
        found => {
            let allowed = &bincode::error::AllowedEnumVariants::Range { min: 0, max: 4 };
            return Err(DecodeError::UnexpectedVariant { type_name: "Value", allowed, found });
        }
    };
    skip(decoder, n.saturating_mul(size))
}

fn skip<D: Decoder>(decoder: &mut D, n_bytes: u64) -> Result<(), DecodeError> {
    let n_bytes = usize::try_from(n_bytes).unwrap_or(usize::MAX);
    match decoder.reader().peek_read(n_bytes) {
        Some(_) => {
            decoder.reader().consume(n_bytes);
            Ok(())
        }
        None => Err(DecodeError::UnexpectedEnd { additional: n_bytes }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::GeoPoint;

    fn read(bytes: &[u8], selection: &Selection) -> Result<Attributes, DecodeError> {
        let read = bincode::decode_from_slice_with_context::<_, Selected, _>(bytes, bincode::config::standard(), selection);
        read.map(|(Selected(attributes), _)| attributes)
    }

    fn value() -> impl Strategy<Value = Value> {
        let place = (-90.0..90.0, -180.0..180.0).prop_map(|(lat, lon)| GeoPoint { lat, lon });
        prop_oneof![
            prop::collection::vec(".{0,300}", 1..4).prop_map(Value::Words),
            prop::collection::vec(any::<f64>().prop_filter("equal to itself", |x| !x.is_nan()), 1..4).prop_map(Value::Numbers),
            prop::collection::vec(place, 1..4).prop_map(Value::Places),
            prop::collection::vec(any::<bool>(), 1..4).prop_map(Value::Bools),
            prop::collection::vec(any::<u64>().prop_map(Number::from), 1..4).prop_map(Value::Exact),
        ]
    }

    proptest! {
        #[test]
        fn what_is_selected_is_as_if_all_had_been_read(
            values in prop::collection::btree_map(0u16..600, value(), 0..8),
            words in prop::collection::btree_set(any::<u32>(), 0..40),
            wanted in prop::collection::vec(0u16..600, 0..6),
            n_wanted_of_values in 0usize..8,
            text_words: bool,
            cut in any::<prop::sample::Index>(),
        ) {
            let mut all = Attributes::default();
            let mut expected = Attributes::default();
            let mut selection = Selection::default();
            let of_values = values.keys().rev().take(n_wanted_of_values).copied();
            wanted.into_iter().chain(of_values).for_each(|field| selection.add(Some(FieldId(field))));
            if text_words {
                selection.add_text_words();
                expected.set_text_words(words.iter().copied().collect());
            }
            all.set_text_words(words.into_iter().collect());
            for (field, value) in values {
                let field = FieldId(field);
                all.push(field, value.clone());
                if selection.fields.contains(&field) {
                    expected.push(field, value);
                }
            }
            let bytes = bincode::encode_to_vec(&all, bincode::config::standard()).unwrap();
            prop_assert_eq!(read(&bytes, &selection).unwrap(), expected);
            // What is cut off is an error or was not wanted; nothing panics.
            let _ = read(&bytes[..cut.index(bytes.len())], &selection);
        }

        #[test]
        fn bytes_that_are_none_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text_words: bool) {
            let mut selection = Selection { fields: Vec::new(), text_words };
            selection.add(Some(FieldId(7)));
            let limited = bincode::config::standard().with_limit::<{ 1 << 20 }>();
            let _ = bincode::decode_from_slice_with_context::<_, Selected, _>(&bytes, limited, &selection);
        }
    }
}
