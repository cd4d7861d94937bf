//! The values of indexed fields as columns: which rows have a word, which rows lie in a range, read in place.
//!
//! *On disk*: `attributes.bin`, kind `ATTR`, version 3. All starts count items of their section.
//!
//! | section | holds |
//! |---|---|
//! | 0 | `[columns × 12]` u64: name start and length (section 4), shape, items, starts in sections 1, 2, 3 and 5, `several`, `block`, start and length in section 6 |
//! | 1 | f64: numbers in ascending order, each rounded; latitudes in ascending order, then their longitudes |
//! | 2 | u32: the rows of those numbers or places; rows with several different words in ascending order, then how many each has |
//! | 3 | u64: limits of the words and then of the bitmaps in section 4, absolute |
//! | 4 | bytes: names, words in ascending order, a roaring bitmap of rows for each word and then one of all rows with a word |
//! | 5 | bytes: for blocks of numbers, sets of rows as plain bits, the lowest first, each of a bit for every row of the index |
//! | 6 | i16: for each number of section 1, the number minus its rounded value; nothing for columns in which all are 0 |
//!
//! Rows with several different words, or several numbers, are counted in `several`.
//!
//! Numbers in ascending order are cut into blocks of `block` each, the last of what is left, so that a range need not look at
//! every number in it: two sets of section 5 stand for all whole blocks of a range. `block` is 0, and there are no sets, where
//! they would not pay. Where no row has several numbers, set `i` has the rows of blocks 0 to `i`, and what one has beside another
//! are the rows between. Elsewhere a row may lie in several blocks, and there is a set for each run of 1, 2, 4, … blocks, in
//! this order and that of their first blocks: two runs that may overlap make up any other.
//!
//! Shapes: 1 words (keywords; `true` and `false`), 2 numbers (and times), 3 places. What a list says is checked where it is
//! used: a start or a row that does not exist is [`StorageError::Corrupt`].

use std::borrow::Borrow;
use std::ops::Range;
use std::path::Path;

use bytemuck::AnyBitPattern;
use roaring::RoaringBitmap;

use super::IndexError;
use super::columns::{N_SECTIONS, Pools, RECORD, set_len};
use kindred_core::domain::{Attributes, FieldId, FieldType, Number, Schema};
use kindred_core::storage::{SectionFile, SectionWriter, StorageError};

const FILE_NAME: &str = "attributes.bin";
pub(super) const KIND: [u8; 4] = *b"ATTR";
pub(super) const VERSION: u32 = 3;

/// How the values of a column are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Words = 1,
    Numbers = 2,
    Places = 3,
}

impl Shape {
    /// The shape of a type's column; none for text, which is never indexed.
    pub fn of(field_type: FieldType) -> Option<Self> {
        match field_type {
            FieldType::Text => None,
            FieldType::Keyword | FieldType::Bool => Some(Self::Words),
            FieldType::Number | FieldType::Time => Some(Self::Numbers),
            FieldType::Geo => Some(Self::Places),
        }
    }
}

/// Writes the columns of all indexed fields into a folder, durably; `attributes` are those of rows 0, 1, …
pub(super) fn write(dir: &Path, attributes: &[Attributes], schema: &Schema) -> Result<(), StorageError> {
    let pools = Pools::of(attributes, schema);
    let mut file = SectionWriter::create(&dir.join(FILE_NAME), KIND, VERSION)?;
    for section in pools.sections() {
        file.section(section)?;
    }
    file.finish()?;
    Ok(())
}

/// Columns to look into.
#[derive(Debug)]
pub(super) struct AttributeFile {
    file: Source,
    n_rows: u32,
    /// By field.
    columns: Vec<(FieldId, Column)>,
}

/// Where the sections are.
#[derive(Debug)]
enum Source {
    Mapped(Box<SectionFile>),
    Memory(Pools),
}

impl Source {
    fn numbers_at<T: AnyBitPattern>(&self, section: usize, start: usize, len: usize) -> Result<&[T], StorageError> {
        match self {
            Self::Mapped(file) => file.numbers_at(section, start, len),
            Self::Memory(pools) => {
                let numbers = bytemuck::try_cast_slice(pools.sections()[section]).map_err(|e| self.corrupt(e.to_string()))?;
                numbers.get(start..start.saturating_add(len)).ok_or_else(|| self.corrupt("a list ends before it should"))
            }
        }
    }

    fn slice(&self, section: usize, range: Range<usize>) -> Result<&[u8], StorageError> {
        match self {
            Self::Mapped(file) => file.slice(section, range),
            Self::Memory(pools) => pools.sections()[section].get(range).ok_or_else(|| self.corrupt("a list ends before it should")),
        }
    }

    fn corrupt(&self, reason: impl Into<String>) -> StorageError {
        match self {
            Self::Mapped(file) => file.corrupt(reason),
            Self::Memory(_) => StorageError::corrupt(Path::new("(memory)"), reason),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Column {
    shape: Shape,
    n_items: usize,
    numbers: usize,
    rows: usize,
    limits: usize,
    sets: usize,
    n_several: usize,
    block_len: usize,
    rests: usize,
    n_rests: usize,
}

impl AttributeFile {
    /// Maps the columns in a folder; every indexed field of the schema must have one.
    ///
    /// # Errors
    /// [`IndexError::Column`] when the schema has come to index other fields; [`IndexError::Storage`].
    pub fn open(dir: &Path, n_rows: u32, schema: &Schema) -> Result<Self, IndexError> {
        let file = SectionFile::open(&dir.join(FILE_NAME), KIND, VERSION, N_SECTIONS)?;
        let n_numbers = file.count::<u64>(0)?;
        Self::over(Source::Mapped(Box::new(file)), n_numbers, n_rows, schema)
    }

    /// Columns in memory; `attributes` are those of rows 0, 1, …
    pub fn of<A: Borrow<Attributes>>(attributes: &[A], schema: &Schema) -> Self {
        let pools = Pools::of(attributes, schema);
        let n_numbers = pools.records.len();
        Self::over(Source::Memory(pools), n_numbers, attributes.len() as u32, schema).expect("columns just made are sound")
    }

    fn over(file: Source, n_numbers: usize, n_rows: u32, schema: &Schema) -> Result<Self, IndexError> {
        let (records, rest) = file.numbers_at::<u64>(0, 0, n_numbers)?.as_chunks::<RECORD>();
        if !rest.is_empty() {
            return Err(file.corrupt("its list of columns is cut short").into());
        }
        let mut columns = Vec::new();
        for (field, name, spec) in schema.fields().filter(|(_, _, spec)| spec.index) {
            let Some(shape) = Shape::of(spec.field_type) else { continue };
            let record = find(&file, records, name)?.filter(|record| record[2] == shape as u64);
            let record = record.ok_or_else(|| IndexError::Column { field: name.to_owned() })?;
            let [_, _, _, n_items, numbers, rows, limits, sets, n_several, block_len, rests, n_rests] = record.map(|x| x as usize);
            if n_rests != 0 && n_rests != n_items {
                return Err(file.corrupt(format!("{n_rests} of {n_items} numbers of a column have a rest")).into());
            }
            columns.push((field, Column { shape, n_items, numbers, rows, limits, sets, n_several, block_len, rests, n_rests }));
        }
        Ok(Self { file, n_rows, columns })
    }

    /// The words of a field; none if it holds something else.
    ///
    /// # Errors
    /// [`IndexError::NotIndexed`], [`IndexError::Storage`]; so for the two below.
    pub fn words(&self, field: FieldId) -> Result<Option<Words<'_>>, IndexError> {
        let column = self.column(field, Shape::Words)?;
        Ok(column.map(|column| Words { attributes: self, column }))
    }

    /// The numbers of a field.
    pub fn numbers(&self, field: FieldId) -> Result<Option<Numbers<'_>>, IndexError> {
        let Some(column) = self.column(field, Shape::Numbers)? else { return Ok(None) };
        let numbers = self.file.numbers_at(1, column.numbers, column.n_items)?;
        let rests = self.file.numbers_at(6, column.rests, column.n_rests)?;
        let rows = self.file.numbers_at(2, column.rows, column.n_items)?;
        Ok(Some(Numbers { numbers, rests, rows, attributes: self, column }))
    }

    /// The places of a field.
    pub fn places(&self, field: FieldId) -> Result<Option<Places<'_>>, IndexError> {
        let Some(column) = self.column(field, Shape::Places)? else { return Ok(None) };
        let lats = self.file.numbers_at(1, column.numbers, column.n_items)?;
        let lons = self.file.numbers_at(1, column.numbers.saturating_add(column.n_items), column.n_items)?;
        let rows = self.file.numbers_at(2, column.rows, column.n_items)?;
        Ok(Some(Places { lats, lons, rows }))
    }

    pub fn n_rows(&self) -> u32 {
        self.n_rows
    }

    pub fn size_bytes(&self) -> u64 {
        match &self.file {
            Source::Mapped(file) => file.size_bytes(),
            Source::Memory(pools) => pools.sections().iter().map(|section| section.len() as u64).sum(),
        }
    }

    /// Checks all of the file.
    pub fn verify(&self) -> Result<(), StorageError> {
        match &self.file {
            Source::Mapped(file) => file.verify(),
            Source::Memory(_) => Ok(()),
        }
    }

    /// Refuses rows that do not exist.
    pub fn check_rows(&self, rows: RoaringBitmap) -> Result<RoaringBitmap, IndexError> {
        match rows.max() {
            Some(row) if row >= self.n_rows => Err(self.file.corrupt(format!("it names row {row}, which does not exist")).into()),
            _ => Ok(rows),
        }
    }

    fn column(&self, field: FieldId, shape: Shape) -> Result<Option<Column>, IndexError> {
        let at = self.columns.binary_search_by_key(&field, |(f, _)| *f).map_err(|_| IndexError::NotIndexed { field })?;
        Ok(Some(self.columns[at].1).filter(|column| column.shape == shape))
    }

    /// The bytes between two of the limits in section 3.
    fn bytes(&self, limit: usize) -> Result<&[u8], StorageError> {
        let limits = self.file.numbers_at::<u64>(3, limit, 2)?;
        self.file.slice(4, limits[0] as usize..limits[1] as usize)
    }
}

/// The record of the column with a name.
fn find<'a>(file: &Source, records: &'a [[u64; RECORD]], name: &str) -> Result<Option<&'a [u64; RECORD]>, StorageError> {
    for record in records {
        let start = record[0] as usize;
        if file.slice(4, start..start.saturating_add(record[1] as usize))? == name.as_bytes() {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The numbers of one field in ascending order, and the row of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers<'a> {
    numbers: &'a [f64],
    /// Empty if `numbers` are exact.
    rests: &'a [i16],
    rows: &'a [u32],
    attributes: &'a AttributeFile,
    column: Column,
}

/// The rows of some numbers that follow each other.
#[derive(Debug)]
pub(super) struct Span<'a> {
    /// Those of the whole blocks among them.
    pub blocks: Option<Blocks<'a>>,
    /// Those of the numbers before and after these blocks.
    pub edges: [&'a [u32]; 2],
}

/// The rows of some blocks that follow each other, as plain bits.
#[derive(Debug)]
pub(super) enum Blocks<'a> {
    /// All of the first but those of the second, of which there may be none.
    Difference(&'a [u8], &'a [u8]),
    Union(&'a [u8], &'a [u8]),
}

impl<'a> Numbers<'a> {
    /// The positions from the first number that is not below a range to the last that is not above it.
    pub fn positions(&self, is_below: impl Fn(Number) -> bool, is_not_above: impl Fn(Number) -> bool) -> Range<usize> {
        self.partition_point(is_below)..self.partition_point(is_not_above)
    }

    /// How many numbers come before the first for which the predicate is false.
    fn partition_point(&self, predicate: impl Fn(Number) -> bool) -> usize {
        let (mut low, mut high) = (0, self.numbers.len());
        while low < high {
            let middle = low.midpoint(high);
            let number = Number::from_parts(self.numbers[middle], self.rests.get(middle).copied().unwrap_or(0));
            if predicate(number) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The rows of the numbers at some positions; a range that ends before it begins, or after the last number, holds none.
    pub fn span(&self, range: Range<usize>) -> Result<Span<'a>, IndexError> {
        let Some(rows) = self.rows.get(range.clone()) else { return Ok(Span { blocks: None, edges: [&[], &[]] }) };
        let Some((blocks, covered)) = self.whole_blocks(&range) else { return Ok(Span { blocks: None, edges: [rows, &[]] }) };
        let edges = [&self.rows[range.start..covered.start], &self.rows[covered.end..range.end]];
        Ok(Span { blocks: Some(self.blocks(blocks)?), edges })
    }

    /// The blocks that lie in a range of numbers, and the numbers in them.
    fn whole_blocks(&self, range: &Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
        let (len, n_items) = (self.column.block_len, self.rows.len());
        if len == 0 {
            return None;
        }
        // The last block ends with the numbers, however few are in it.
        let end = if range.end == n_items { n_items.div_ceil(len) } else { range.end / len };
        let blocks = range.start.div_ceil(len)..end;
        (!blocks.is_empty()).then(|| (blocks.clone(), blocks.start * len..end.saturating_mul(len).min(n_items)))
    }

    fn blocks(&self, blocks: Range<usize>) -> Result<Blocks<'a>, StorageError> {
        if self.column.n_several == 0 {
            let before = if blocks.start == 0 { Ok(&[][..]) } else { self.set(blocks.start - 1) };
            return Ok(Blocks::Difference(self.set(blocks.end - 1)?, before?));
        }
        let level = blocks.len().ilog2() as usize;
        // Of n blocks there are n runs of one, n - 1 of two, n - 3 of four, …
        let n_blocks = self.rows.len().div_ceil(self.column.block_len);
        let runs = level * (n_blocks + 1) - ((1 << level) - 1);
        Ok(Blocks::Union(self.set(runs + blocks.start)?, self.set(runs + blocks.end - (1 << level))?))
    }

    /// The set at a position among those of the column.
    fn set(&self, position: usize) -> Result<&'a [u8], StorageError> {
        let len = set_len(self.attributes.n_rows as usize);
        let start = self.column.sets.saturating_add(position.saturating_mul(len));
        self.attributes.file.slice(5, start..start.saturating_add(len))
    }
}

/// The places of one field in ascending order of latitude, and the row of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    pub lats: &'a [f64],
    pub lons: &'a [f64],
    pub rows: &'a [u32],
}

/// The words of one field. What a look at them does not need is not read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    attributes: &'a AttributeFile,
    column: Column,
}

impl<'a> Words<'a> {
    /// The position of a word.
    pub fn position(&self, word: &str) -> Result<Option<usize>, IndexError> {
        let (mut low, mut high) = (0, self.column.n_items);
        while low < high {
            let middle = low.midpoint(high);
            match self.attributes.bytes(self.column.limits.saturating_add(middle))?.cmp(word.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(middle)),
            }
        }
        Ok(None)
    }

    /// How many different words there are.
    pub fn len(&self) -> usize {
        self.column.n_items
    }

    /// The word at a position.
    pub fn word(&self, position: usize) -> Result<String, IndexError> {
        let word = std::str::from_utf8(self.attributes.bytes(self.column.limits.saturating_add(position))?);
        Ok(word.map_err(|e| self.attributes.file.corrupt(format!("a word in it: {e}")))?.to_owned())
    }

    /// The rows that have the word at a position.
    pub fn rows(&self, position: usize) -> Result<RoaringBitmap, IndexError> {
        // The limits of the bitmaps lie behind those of the words, of which there is one more than words.
        let bitmaps = self.column.limits.saturating_add(self.column.n_items).saturating_add(1);
        let bytes = self.attributes.bytes(bitmaps.saturating_add(position))?;
        let rows = RoaringBitmap::deserialize_from(bytes).map_err(|e| self.attributes.file.corrupt(format!("a bitmap in it: {e}")))?;
        self.attributes.check_rows(rows)
    }

    /// The rows that have any word.
    pub fn all_rows(&self) -> Result<RoaringBitmap, IndexError> {
        self.rows(self.column.n_items)
    }

    /// The rows that have several different words.
    pub fn several(&self) -> Result<Several<'a>, IndexError> {
        let Column { rows, n_several, .. } = self.column;
        let file = &self.attributes.file;
        Ok(Several { rows: file.numbers_at(2, rows, n_several)?, n_words: file.numbers_at(2, rows.saturating_add(n_several), n_several)? })
    }
}

/// Rows with several different words, ascending, and how many each has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Several<'a> {
    rows: &'a [u32],
    n_words: &'a [u32],
}

impl Several<'_> {
    /// How many different words a row has that has at least one.
    pub fn n_words(&self, row: u32) -> u32 {
        self.rows.binary_search(&row).map_or(1, |at| self.n_words[at])
    }
}
