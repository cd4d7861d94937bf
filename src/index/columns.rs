//! Turns documents' values into the columns of `attributes.bin`.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::attributes::Shape;
use crate::domain::{Attributes, FieldId, Value};

/// Numbers in a column's record.
pub(super) const RECORD: usize = 8;

/// The sections of the file while they grow; see the byte table in `attributes.rs`.
#[derive(Debug, Default)]
pub(super) struct Pools {
    pub records: Vec<u64>,
    pub numbers: Vec<f64>,
    pub rows: Vec<u32>,
    pub limits: Vec<u64>,
    pub bytes: Vec<u8>,
}

impl Pools {
    /// Adds the column of a field.
    pub fn add(&mut self, field: FieldId, name: &str, shape: Shape, attributes: &[Attributes]) {
        let name_start = self.bytes.len();
        self.bytes.extend(name.as_bytes());
        let starts = [self.numbers.len(), self.rows.len(), self.limits.len()];
        let values = attributes.iter().enumerate().filter_map(|(row, a)| Some((row as u32, a.get(field)?)));
        let (n_items, n_several) = match shape {
            Shape::Words => self.add_words(values),
            Shape::Numbers => (self.add_numbers(values), 0),
            Shape::Places => (self.add_places(values), 0),
        };
        let [numbers, rows, limits] = starts;
        let record: [usize; RECORD] = [name_start, name.len(), shape as usize, n_items, numbers, rows, limits, n_several];
        self.records.extend(record.map(|x| x as u64));
    }

    /// Returns the number of different words and of rows that have several.
    fn add_words<'a>(&mut self, values: impl Iterator<Item = (u32, &'a Value)>) -> (usize, usize) {
        let mut by_word: BTreeMap<&str, RoaringBitmap> = BTreeMap::new();
        let (mut all, mut several, mut n_words) = (RoaringBitmap::new(), Vec::new(), Vec::new());
        for (row, value) in values {
            let words = distinct_words(value);
            if words.is_empty() {
                continue;
            }
            all.insert(row);
            if words.len() > 1 {
                several.push(row);
                n_words.push(words.len() as u32);
            }
            for word in words {
                by_word.entry(word).or_default().insert(row);
            }
        }
        self.begin_list();
        for word in by_word.keys() {
            self.add_bytes(|bytes| bytes.extend(word.as_bytes()));
        }
        self.begin_list();
        for rows in by_word.values_mut().chain([&mut all]) {
            rows.optimize();
            self.add_bytes(|bytes| rows.serialize_into(bytes).expect("writing to memory cannot fail"));
        }
        self.rows.extend(&several);
        self.rows.extend(&n_words);
        (by_word.len(), several.len())
    }

    fn add_numbers<'a>(&mut self, values: impl Iterator<Item = (u32, &'a Value)>) -> usize {
        let mut items: Vec<(f64, u32)> = Vec::new();
        for (row, value) in values {
            if let Value::Numbers(numbers) = value {
                items.extend(numbers.iter().map(|&number| (number, row)));
            }
        }
        items.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.numbers.extend(items.iter().map(|(number, _)| number));
        self.rows.extend(items.iter().map(|(_, row)| row));
        items.len()
    }

    fn add_places<'a>(&mut self, values: impl Iterator<Item = (u32, &'a Value)>) -> usize {
        let mut items = Vec::new();
        for (row, value) in values {
            if let Value::Places(places) = value {
                items.extend(places.iter().map(|&place| (place, row)));
            }
        }
        items.sort_unstable_by(|(a, row_a), (b, row_b)| a.lat.total_cmp(&b.lat).then(row_a.cmp(row_b)));
        self.numbers.extend(items.iter().map(|(place, _)| place.lat));
        self.numbers.extend(items.iter().map(|(place, _)| place.lon));
        self.rows.extend(items.iter().map(|(_, row)| row));
        items.len()
    }

    /// Begins a list of byte strings: where the first begins.
    fn begin_list(&mut self) {
        self.limits.push(self.bytes.len() as u64);
    }

    fn add_bytes(&mut self, add: impl FnOnce(&mut Vec<u8>)) {
        add(&mut self.bytes);
        self.limits.push(self.bytes.len() as u64);
    }
}

/// Truth values are words as well, under the names that [`bool_word`] gives them.
fn distinct_words(value: &Value) -> Vec<&str> {
    let mut words: Vec<&str> = match value {
        Value::Words(words) => words.iter().map(String::as_str).collect(),
        Value::Bools(bools) => bools.iter().map(|&b| bool_word(b)).collect(),
        Value::Numbers(_) | Value::Places(_) => Vec::new(),
    };
    words.sort_unstable();
    words.dedup();
    words
}

/// The word that stands for a truth value.
pub(super) fn bool_word(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
