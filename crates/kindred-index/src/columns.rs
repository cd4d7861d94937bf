//! Turns documents' values into the columns of `attributes.bin`.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::attributes::Shape;
use super::bytes_of;
use kindred_core::domain::{Attributes, FieldId, Number, Schema, Value};

/// Sections of the file.
pub(super) const N_SECTIONS: usize = 7;
/// Numbers in a column's record.
pub(super) const RECORD: usize = 12;

/// Blocks of a column with one number in every row. Where rows have none there are fewer, so that sets never take more than 8
/// bytes for each number.
const MAX_BLOCKS: usize = 64;
/// Those of a column with several numbers in some rows, for which there are about four times as many sets as blocks: up to 17
/// bytes for each number.
const MAX_OVERLAPPING_BLOCKS: usize = MAX_BLOCKS / 2;
/// Fewer numbers than these are set one by one about as soon.
const MIN_BLOCK_LEN: usize = 256;

/// The sections of the file while they grow; see the byte table in `attributes.rs`.
#[derive(Debug, Default)]
pub(super) struct Pools {
    pub records: Vec<u64>,
    pub numbers: Vec<f64>,
    pub rests: Vec<i16>,
    pub rows: Vec<u32>,
    pub limits: Vec<u64>,
    pub bytes: Vec<u8>,
    pub sets: Vec<u8>,
}

impl Pools {
    /// The columns of all indexed fields; `attributes` are those of rows 0, 1, …
    pub fn of<A: Borrow<Attributes>>(attributes: &[A], schema: &Schema) -> Self {
        let mut pools = Self::default();
        for (field, name, spec) in schema.fields().filter(|(_, _, spec)| spec.index) {
            if let Some(shape) = Shape::of(spec.field_type) {
                pools.add(field, name, shape, attributes);
            }
        }
        pools
    }

    /// In the order of the file.
    pub fn sections(&self) -> [&[u8]; N_SECTIONS] {
        let Self { records, numbers, rests, rows, limits, bytes, sets } = self;
        [bytes_of(records), bytes_of(numbers), bytes_of(rows), bytes_of(limits), bytes, sets, bytes_of(rests)]
    }

    fn add<A: Borrow<Attributes>>(&mut self, field: FieldId, name: &str, shape: Shape, attributes: &[A]) {
        let name_start = self.bytes.len();
        self.bytes.extend(name.as_bytes());
        let starts = [self.numbers.len(), self.rows.len(), self.limits.len(), self.sets.len(), self.rests.len()];
        let values = attributes.iter().enumerate().filter_map(|(row, a)| Some((row as u32, a.borrow().get(field)?)));
        let (n_items, n_several, block_len) = match shape {
            Shape::Words => self.add_words(values),
            Shape::Numbers => self.add_numbers(values, attributes.len()),
            Shape::Places => (self.add_places(values), 0, 0),
        };
        let [numbers, rows, limits, sets, rests] = starts;
        let n_rests = self.rests.len() - rests;
        let record: [usize; RECORD] =
            [name_start, name.len(), shape as usize, n_items, numbers, rows, limits, sets, n_several, block_len, rests, n_rests];
        self.records.extend(record.map(|x| x as u64));
    }

    /// Returns the number of different words and of rows that have several, and that there are no blocks.
    fn add_words<'a>(&mut self, values: impl Iterator<Item = (u32, &'a Value)>) -> (usize, usize, usize) {
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
        (by_word.len(), several.len(), 0)
    }

    /// Returns the number of numbers, of rows that have several, and of numbers in a block.
    fn add_numbers<'a>(&mut self, values: impl Iterator<Item = (u32, &'a Value)>, n_rows: usize) -> (usize, usize, usize) {
        let (mut items, mut n_several): (Vec<(Number, u32)>, usize) = (Vec::new(), 0);
        for (row, value) in values {
            let numbers = value.numbers();
            n_several += usize::from(numbers.clone().nth(1).is_some());
            items.extend(numbers.map(|number| (number, row)));
        }
        items.sort_unstable();
        self.numbers.extend(items.iter().map(|(number, _)| number.as_f64()));
        if items.iter().any(|(number, _)| number.rest() != 0) {
            self.rests.extend(items.iter().map(|(number, _)| number.rest()));
        }
        let rows: Vec<u32> = items.iter().map(|(_, row)| *row).collect();
        self.rows.extend(&rows);
        (items.len(), n_several, self.add_sets(&rows, n_rows, n_several > 0))
    }

    /// Adds the sets of rows that stand for blocks of numbers; returns how many numbers are in each, 0 if there are no blocks.
    fn add_sets(&mut self, rows: &[u32], n_rows: usize, is_overlapping: bool) -> usize {
        let max_blocks = if is_overlapping { MAX_OVERLAPPING_BLOCKS } else { MAX_BLOCKS };
        let block_len = rows.len().max(n_rows).div_ceil(max_blocks).max(MIN_BLOCK_LEN);
        if rows.len() < 2 * block_len {
            return 0;
        }
        let first = self.sets.len();
        let mut set = vec![0; set_len(n_rows)];
        for block in rows.chunks(block_len) {
            if is_overlapping {
                set.fill(0);
            }
            block.iter().for_each(|&row| set[row as usize / 8] |= 1 << (row % 8));
            self.sets.extend(&set);
        }
        if is_overlapping {
            self.add_longer_runs(first, set.len(), rows.len().div_ceil(block_len));
        }
        block_len
    }

    /// Adds the sets of runs of 2, 4, … blocks behind those of single blocks, which begin at `first`.
    fn add_longer_runs(&mut self, mut first: usize, set_len: usize, n_blocks: usize) {
        let mut run = 1;
        while 2 * run <= n_blocks {
            let next = self.sets.len();
            for i in 0..=n_blocks - 2 * run {
                let [a, b] = [first + i * set_len, first + (i + run) * set_len];
                self.sets.extend_from_within(a..a + set_len);
                let (shorter, set) = self.sets.split_at_mut(next + i * set_len);
                set.iter_mut().zip(&shorter[b..]).for_each(|(byte, other)| *byte |= other);
            }
            (first, run) = (next, 2 * run);
        }
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

/// Bytes of a set of rows as plain bits.
pub(super) fn set_len(n_rows: usize) -> usize {
    n_rows.div_ceil(8)
}

/// Truth values are words as well, under the names that [`bool_word`] gives them.
fn distinct_words(value: &Value) -> Vec<&str> {
    let mut words: Vec<&str> = match value {
        Value::Words(words) => words.iter().map(String::as_str).collect(),
        Value::Bools(bools) => bools.iter().map(|&b| bool_word(b)).collect(),
        Value::Numbers(_) | Value::Exact(_) | Value::Places(_) => Vec::new(),
    };
    words.sort_unstable();
    words.dedup();
    words
}

/// The word that stands for a truth value.
pub(super) fn bool_word(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
