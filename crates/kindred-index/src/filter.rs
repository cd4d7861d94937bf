//! Filters as bitmaps of rows: exactly the rows whose documents [`Filter::matches`].
//!
//! Beside each bitmap goes the share of rows that one would have guessed: a condition's own share is counted, and shares are put
//! together as if conditions were independent.

use std::borrow::Cow;
use std::collections::HashMap;
use std::iter;
use std::ops::Range;

use roaring::RoaringBitmap;

use super::IndexError;
use super::attributes::{AttributeFile, Blocks, Numbers, Places, Words};
use super::chunks::ChunkFile;
use super::columns::{bool_word, set_len};
use kindred_core::domain::{Condition, FieldId, Filter, GeoPoint, Number};
use kindred_core::storage::StorageError;

/// The rows that a search may return.
#[derive(Debug)]
pub(super) enum Allowed<'a> {
    /// All below the number of rows but these.
    Except(Cow<'a, RoaringBitmap>, u32),
    Only(Passing),
}

/// The rows that pass, and the share of all rows that one would have guessed.
#[derive(Debug)]
pub(super) struct Passing {
    pub rows: RoaringBitmap,
    estimate: f64,
}

impl<'a> Allowed<'a> {
    /// What a filter and deletions leave.
    ///
    /// # Errors
    /// [`IndexError::NotIndexed`], [`IndexError::Storage`].
    pub fn new(attributes: &AttributeFile, filter: Option<&Filter>, deleted: Cow<'a, RoaringBitmap>) -> Result<Self, IndexError> {
        match filter {
            None => Ok(Self::Except(deleted, attributes.n_rows())),
            Some(filter) => {
                let mut passing = passing(attributes, filter)?;
                if !deleted.is_empty() {
                    passing.rows -= &*deleted;
                }
                Ok(Self::Only(passing))
            }
        }
    }

    #[inline]
    pub fn contains(&self, row: u32) -> bool {
        match self {
            Self::Except(deleted, n_rows) => row < *n_rows && (deleted.is_empty() || !deleted.contains(row)),
            Self::Only(passing) => passing.rows.contains(row),
        }
    }

    /// The allowed row with so many before it.
    pub fn select(&self, rank: u64) -> Option<u32> {
        let rank = u32::try_from(rank).ok()?;
        match self {
            Self::Only(passing) => passing.rows.select(rank),
            // Each deleted row at or before it moves it on by one.
            Self::Except(deleted, n_rows) => {
                let mut row = rank;
                loop {
                    let moved = u64::from(rank) + deleted.rank(row);
                    let moved = u32::try_from(moved).ok().filter(|moved| moved < n_rows)?;
                    if moved == row {
                        return Some(row);
                    }
                    row = moved;
                }
            }
        }
    }

    pub fn len(&self) -> u64 {
        match self {
            Self::Except(deleted, n_rows) => u64::from(*n_rows) - deleted.range_cardinality(..*n_rows),
            Self::Only(passing) => passing.rows.len(),
        }
    }

    /// The share of rows that one would guess from the share of each condition; deletions do not enter it.
    pub fn estimated_selectivity(&self) -> f64 {
        match self {
            Self::Except(..) => 1.0,
            Self::Only(passing) => passing.estimate,
        }
    }

    /// In ascending order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::Except(deleted, n_rows) if deleted.is_empty() => Box::new(0..*n_rows),
            Self::Except(deleted, n_rows) => Box::new((0..*n_rows).filter(|&row| !deleted.contains(row))),
            Self::Only(passing) => Box::new(passing.rows.iter()),
        }
    }

    /// The vectors of these rows.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when it is not known which those are.
    pub fn vectors(&self, chunks: &ChunkFile) -> Result<Allowed<'static>, StorageError> {
        Ok(match self {
            Self::Except(deleted, _) => Allowed::Except(Cow::Owned(chunks.vectors_of(deleted)?), chunks.n_vectors()),
            Self::Only(Passing { rows, estimate }) => Allowed::Only(Passing { rows: chunks.vectors_of(rows)?, estimate: *estimate }),
        })
    }

    pub fn into_bitmap(self) -> RoaringBitmap {
        match self {
            Self::Except(deleted, n_rows) => all_rows(n_rows) - &*deleted,
            Self::Only(passing) => passing.rows,
        }
    }
}

fn all_rows(n_rows: u32) -> RoaringBitmap {
    let mut rows = RoaringBitmap::new();
    rows.insert_range(..n_rows);
    rows
}

/// The rows that pass a filter.
pub(super) fn passing(attributes: &AttributeFile, filter: &Filter) -> Result<Passing, IndexError> {
    let mut required = Vec::new();
    let mut estimate = 1.0;
    if !filter.should.is_empty() {
        let (mut any, mut none_holds) = (RoaringBitmap::new(), 1.0);
        for condition in &filter.should {
            let one = satisfying(attributes, condition)?;
            any |= one.rows;
            none_holds *= 1.0 - one.estimate;
        }
        required.push(any);
        estimate *= 1.0 - none_holds;
    }
    for condition in &filter.must {
        let one = satisfying(attributes, condition)?;
        required.push(one.rows);
        estimate *= one.estimate;
    }
    // The fewest first, so that the many are only looked into.
    required.sort_by_key(RoaringBitmap::len);
    let mut rows = required.into_iter().reduce(|all, one| all & one).unwrap_or_else(|| all_rows(attributes.n_rows()));
    for condition in &filter.must_not {
        let one = satisfying(attributes, condition)?;
        rows -= one.rows;
        estimate *= 1.0 - one.estimate;
    }
    Ok(Passing { rows, estimate })
}

/// The rows that satisfy a condition, whose share is no guess unless it is a filter of its own.
fn satisfying(attributes: &AttributeFile, condition: &Condition) -> Result<Passing, IndexError> {
    if let Condition::Nested(filter) = condition {
        return passing(attributes, filter);
    }
    let rows = rows(attributes, condition)?;
    let estimate = rows.len() as f64 / f64::from(attributes.n_rows().max(1));
    Ok(Passing { rows, estimate })
}

/// The rows that satisfy a condition; none if the field holds values of another type.
fn rows(attributes: &AttributeFile, condition: &Condition) -> Result<RoaringBitmap, IndexError> {
    match condition {
        Condition::Words { field, any } => with_words(attributes, *field, any.iter().map(String::as_str)),
        Condition::WordsExcept { field, except } => match attributes.words(*field)? {
            Some(words) => with_other_words(words, except),
            None => Ok(RoaringBitmap::new()),
        },
        Condition::Bool { field, value } => with_words(attributes, *field, iter::once(bool_word(*value))),
        Condition::Numbers { field, any } => {
            let positions = |column: &Numbers<'_>| any.iter().map(|&x| column.positions(|y| y < x, |y| y <= x)).collect();
            in_ranges(attributes, *field, positions)
        }
        Condition::Range { field, range } => {
            let is_below = |x: Number| !(range.gt.is_none_or(|b| x > b) && range.gte.is_none_or(|b| x >= b));
            let is_not_above = |x: Number| range.lt.is_none_or(|b| x < b) && range.lte.is_none_or(|b| x <= b);
            in_ranges(attributes, *field, |column| vec![column.positions(is_below, is_not_above)])
        }
        Condition::GeoRadius { field, center, radius_km } => within(attributes, *field, *center, *radius_km),
        Condition::Nested(filter) => Ok(passing(attributes, filter)?.rows),
    }
}

fn with_words<'w>(attributes: &AttributeFile, field: FieldId, any: impl Iterator<Item = &'w str>) -> Result<RoaringBitmap, IndexError> {
    let mut found = RoaringBitmap::new();
    if let Some(words) = attributes.words(field)? {
        for word in any {
            if let Some(position) = words.position(word)? {
                found |= words.rows(position)?;
            }
        }
    }
    Ok(found)
}

/// Rows that have a word beside those excepted. The many other words need not be looked at: a row with fewer excepted words than
/// it has words has another.
fn with_other_words(words: Words<'_>, except: &[String]) -> Result<RoaringBitmap, IndexError> {
    let mut positions = Vec::new();
    for word in except {
        positions.extend(words.position(word)?);
    }
    positions.sort_unstable();
    positions.dedup();
    let (mut found, several) = (words.all_rows()?, words.several()?);
    let mut n_excepted: HashMap<u32, u32> = HashMap::new();
    for &position in &positions {
        let rows = words.rows(position)?;
        for row in rows.iter().filter(|&row| several.n_words(row) > 1) {
            *n_excepted.entry(row).or_default() += 1;
        }
        found -= rows;
    }
    found.extend(n_excepted.into_iter().filter(|&(row, n)| n < several.n_words(row)).map(|(row, _)| row));
    Ok(found)
}

fn in_ranges(
    attributes: &AttributeFile,
    field: FieldId,
    positions: impl FnOnce(&Numbers<'_>) -> Vec<Range<usize>>,
) -> Result<RoaringBitmap, IndexError> {
    let Some(column) = attributes.numbers(field)? else { return Ok(RoaringBitmap::new()) };
    let spans = positions(&column).into_iter().map(|range| column.span(range)).collect::<Result<Vec<_>, _>>()?;
    let edges = spans.iter().flat_map(|span| span.edges);
    if spans.iter().all(|span| span.blocks.is_none()) && are_few(edges.clone().map(<[u32]>::len).sum(), attributes) {
        return few_rows(attributes, edges.flatten().copied().collect());
    }
    let mut bits = Bits::new(attributes);
    spans.iter().filter_map(|span| span.blocks.as_ref()).for_each(|blocks| bits.add_blocks(blocks));
    edges.for_each(|rows| bits.add(rows));
    bits.into_bitmap()
}

/// Only places of a fitting latitude are measured.
fn within(attributes: &AttributeFile, field: FieldId, center: GeoPoint, radius_km: f64) -> Result<RoaringBitmap, IndexError> {
    let Some(Places { lats, lons, rows }) = attributes.places(field)? else { return Ok(RoaringBitmap::new()) };
    let latitudes = center.latitudes_within(radius_km);
    let span = lats.partition_point(|lat| lat < latitudes.start())..lats.partition_point(|lat| lat <= latitudes.end());
    let near = span.filter(|&i| GeoPoint { lat: lats[i], lon: lons[i] }.distance_km(center) <= radius_km).map(|i| rows[i]);
    let near: Vec<u32> = near.collect();
    if are_few(near.len(), attributes) {
        return few_rows(attributes, near);
    }
    let mut bits = Bits::new(attributes);
    bits.add(&near);
    bits.into_bitmap()
}

/// Whether so many rows are sooner put in order than set in as many bits as there are rows.
fn are_few(n: usize, attributes: &AttributeFile) -> bool {
    n < attributes.n_rows() as usize / 1024
}

fn few_rows(attributes: &AttributeFile, mut rows: Vec<u32>) -> Result<RoaringBitmap, IndexError> {
    rows.sort_unstable();
    attributes.check_rows(rows.into_iter().collect())
}

/// Rows as plain bits, as which many in any order are collected far quicker than in a bitmap.
struct Bits<'a> {
    attributes: &'a AttributeFile,
    bytes: Vec<u8>,
    /// A row that lies past the bits, which a damaged file may name.
    beyond: Option<u32>,
}

impl<'a> Bits<'a> {
    fn new(attributes: &'a AttributeFile) -> Self {
        Self { attributes, bytes: vec![0; set_len(attributes.n_rows() as usize)], beyond: None }
    }

    fn add(&mut self, rows: &[u32]) {
        for &row in rows {
            match self.bytes.get_mut(row as usize / 8) {
                Some(byte) => *byte |= 1 << (row % 8),
                None => self.beyond = Some(row),
            }
        }
    }

    fn add_blocks(&mut self, blocks: &Blocks<'_>) {
        match *blocks {
            Blocks::Difference(all, &[]) => self.bytes.iter_mut().zip(all).for_each(|(byte, all)| *byte |= all),
            Blocks::Difference(all, but) => self.bytes.iter_mut().zip(all).zip(but).for_each(|((byte, all), but)| *byte |= all & !but),
            Blocks::Union(a, b) => self.bytes.iter_mut().zip(a).zip(b).for_each(|((byte, a), b)| *byte |= a | b),
        }
    }

    fn into_bitmap(self) -> Result<RoaringBitmap, IndexError> {
        let rows = RoaringBitmap::from_lsb0_bytes(0, &self.bytes);
        self.attributes.check_rows(match self.beyond {
            Some(row) => RoaringBitmap::from_iter([row]),
            None => rows,
        })
    }
}
