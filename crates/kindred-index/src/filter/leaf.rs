//! The rows of one condition, from the column of its field.

use std::collections::HashMap;
use std::iter;
use std::ops::Range;

use roaring::RoaringBitmap;

use super::super::IndexError;
use super::super::attributes::{Numbers, Places, Words};
use super::super::columns::bool_word;
use super::bits::Bits;
use super::evaluate::Evaluator;
use kindred_core::domain::{Condition, FieldId, GeoPoint, Number};

/// Values of a condition between two checks of the deadline; each takes up to 0.1 ms on a million rows.
const VALUES_AT_ONCE: usize = 16;
/// Places between two checks; measuring one takes 70 ns.
const PLACES_AT_ONCE: usize = 4_096;

impl Evaluator<'_> {
    /// The rows that satisfy a condition; none if the field has values of another type.
    pub(super) fn rows(self, condition: &Condition) -> Result<RoaringBitmap, IndexError> {
        match condition {
            Condition::Words { field, any } => self.with_words(*field, any.iter().map(String::as_str)),
            Condition::WordsExcept { field, except } => match self.attributes.words(*field)? {
                Some(words) => self.with_other_words(words, except),
                None => Ok(RoaringBitmap::new()),
            },
            Condition::Bool { field, value } => self.with_words(*field, iter::once(bool_word(*value))),
            Condition::Numbers { field, any } => {
                let positions = |column: &Numbers<'_>| any.iter().map(|&x| column.positions(|y| y < x, |y| y <= x)).collect();
                self.in_ranges(*field, positions)
            }
            Condition::Range { field, range } => {
                let is_below = |x: Number| !(range.gt.is_none_or(|b| x > b) && range.gte.is_none_or(|b| x >= b));
                let is_not_above = |x: Number| range.lt.is_none_or(|b| x < b) && range.lte.is_none_or(|b| x <= b);
                self.in_ranges(*field, |column| vec![column.positions(is_below, is_not_above)])
            }
            Condition::GeoRadius { field, center, radius_km } => self.within(*field, *center, *radius_km),
            Condition::Nested(filter) => Ok(self.passing(filter)?.rows),
        }
    }

    /// The rows that have any of some words.
    fn with_words<'w>(self, field: FieldId, any: impl Iterator<Item = &'w str>) -> Result<RoaringBitmap, IndexError> {
        let mut found = RoaringBitmap::new();
        if let Some(words) = self.attributes.words(field)? {
            for (i, word) in any.enumerate() {
                self.check_every(VALUES_AT_ONCE, i)?;
                if let Some(position) = words.position(word)? {
                    found |= words.rows(position)?;
                }
            }
        }
        Ok(found)
    }

    /// The rows that have a word in addition to those excepted. The bitmaps of the many other words are not needed, because a row
    /// with fewer excepted words than it has words has another one.
    fn with_other_words(self, words: Words<'_>, except: &[String]) -> Result<RoaringBitmap, IndexError> {
        let mut positions = Vec::new();
        for word in except {
            positions.extend(words.position(word)?);
        }
        let (mut found, several) = (words.all_rows()?, words.several()?);
        let mut n_excepted: HashMap<u32, u32> = HashMap::new();
        for (i, &position) in positions.iter().enumerate() {
            self.check_every(VALUES_AT_ONCE, i)?;
            let rows = words.rows(position)?;
            for row in rows.iter().filter(|&row| several.n_words(row) > 1) {
                *n_excepted.entry(row).or_default() += 1;
            }
            found -= rows;
        }
        found.extend(n_excepted.into_iter().filter(|&(row, n)| n < several.n_words(row)).map(|(row, _)| row));
        Ok(found)
    }

    /// The rows of the numbers at some positions of a column.
    fn in_ranges(self, field: FieldId, positions: impl FnOnce(&Numbers<'_>) -> Vec<Range<usize>>) -> Result<RoaringBitmap, IndexError> {
        let Some(column) = self.attributes.numbers(field)? else { return Ok(RoaringBitmap::new()) };
        let spans = positions(&column).into_iter().map(|range| column.span(range)).collect::<Result<Vec<_>, _>>()?;
        let edges = spans.iter().flat_map(|span| span.edges);
        if spans.iter().all(|span| span.blocks.is_none()) && self.are_few(edges.clone().map(<[u32]>::len).sum()) {
            return self.few_rows(edges.flatten().copied().collect());
        }
        let mut bits = Bits::new(self.attributes);
        for (i, span) in spans.iter().enumerate() {
            self.check_every(VALUES_AT_ONCE, i)?;
            span.blocks.iter().for_each(|blocks| bits.add_blocks(blocks));
            span.edges.iter().for_each(|rows| bits.add(rows));
        }
        bits.into_bitmap()
    }

    /// The rows that have a place near another. Only places of fitting latitude are measured.
    fn within(self, field: FieldId, center: GeoPoint, radius_km: f64) -> Result<RoaringBitmap, IndexError> {
        let Some(Places { lats, lons, rows }) = self.attributes.places(field)? else { return Ok(RoaringBitmap::new()) };
        let latitudes = center.latitudes_within(radius_km);
        let span = lats.partition_point(|lat| lat < latitudes.start())..lats.partition_point(|lat| lat <= latitudes.end());
        let mut near: Vec<u32> = Vec::new();
        for (n, i) in span.enumerate() {
            self.check_every(PLACES_AT_ONCE, n)?;
            if (GeoPoint { lat: lats[i], lon: lons[i] }).distance_km(center) <= radius_km {
                near.push(rows[i]);
            }
        }
        if self.are_few(near.len()) {
            return self.few_rows(near);
        }
        let mut bits = Bits::new(self.attributes);
        bits.add(&near);
        bits.into_bitmap()
    }

    /// True if sorting `n` row ids is cheaper than filling a bitmap of all rows.
    fn are_few(self, n: usize) -> bool {
        n < self.attributes.n_rows() as usize / 1024
    }

    fn few_rows(self, mut rows: Vec<u32>) -> Result<RoaringBitmap, IndexError> {
        rows.sort_unstable();
        self.attributes.check_rows(rows.into_iter().collect())
    }

    /// Checks the deadline at every `n`th step of a loop.
    fn check_every(self, n: usize, step: usize) -> Result<(), IndexError> {
        if step.is_multiple_of(n) { self.deadline.check() } else { Ok(()) }
    }
}
