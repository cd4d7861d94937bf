//! The graph as a file of ours, read in place.
//!
//! *On disk*: `graph.bin`, kind `GRPH`, version 2. Numbers are little-endian.
//!
//! | section | holds |
//! |---|---|
//! | 0 | u32 each: rows, dims (of vectors, or of what is left of them where they are cut), `M` (links per row on upper levels), degree of level 0, entry row, seed (low, high), step f32, error f32, number of upper levels, rows on level 1, 2, … 16 |
//! | 1 | `[rows × node]`: level 0, see `node.rs` for a node's bytes |
//! | 2 | `[upper rows]` u32: the rows on level 1, those that are on most levels first; its first is where searches begin |
//! | 3 | `[upper rows × code dims]`: their int8 codes again: few enough to stay in the cache, where all descents pass |
//! | 4 | `[rows on level 1 × M]`, `[rows on level 2 × M]`, … u32: links as positions in section 2; `u32::MAX` pads |
//!
//! Checksums say that a file is what was written, not that it makes sense: the header is checked when it is opened, every link
//! where it is used, so no contents can make a search panic, run forever or leave the file.

use std::path::Path;

use super::codes::Quantizer;
use super::node::{Node, NodeLayout};
use super::{IndexError, kernels};
use kindred_core::storage::{SectionFile, SectionWriter, StorageError};

const FILE_NAME: &str = "graph.bin";
const KIND: [u8; 4] = *b"GRPH";
const VERSION: u32 = 2;
/// Upper levels at most: with `M` from 2 on, a million times a million rows do not need them.
pub(super) const MAX_LEVELS: usize = 16;
const HEADER_NUMBERS: usize = 10 + MAX_LEVELS;
/// Rows whose nodes are encoded before they are written.
pub(super) const WRITE_ROWS: usize = 4_096;

/// Numbers that describe a graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Header {
    pub n_rows: u32,
    pub dims: u32,
    /// Links per row on the upper levels.
    pub max_connections: u32,
    /// Links per row on level 0.
    pub degree: u32,
    /// Where a search begins that has no upper levels; without meaning if there are no rows.
    pub entry: u32,
    pub seed: u64,
    pub step: f32,
    pub max_error: f32,
    /// Rows on each upper level, from level 1 on: never more than on the level below; zeros where there are no levels.
    pub level_rows: [u32; MAX_LEVELS],
}

/// The upper levels of a graph.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Upper<'a> {
    pub rows: &'a [u32],
    /// `[rows × code_dims]`.
    pub codes: &'a [u8],
    pub links: &'a [u32],
}

/// A mapped graph.
#[derive(Debug)]
pub(super) struct GraphFile {
    file: SectionFile,
    header: Header,
    layout: NodeLayout,
    quantizer: Quantizer,
}

impl Header {
    fn to_numbers(self) -> [u32; HEADER_NUMBERS] {
        let mut numbers = [0; HEADER_NUMBERS];
        numbers[..10].copy_from_slice(&[
            self.n_rows,
            self.dims,
            self.max_connections,
            self.degree,
            self.entry,
            self.seed as u32,
            (self.seed >> 32) as u32,
            self.step.to_bits(),
            self.max_error.to_bits(),
            self.n_levels() as u32,
        ]);
        numbers[10..].copy_from_slice(&self.level_rows);
        numbers
    }

    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        let (&[n_rows, dims, max_connections, degree, entry, seed_low, seed_high, step, max_error, n_levels], level_rows) =
            numbers.split_first_chunk::<10>()?;
        let header = Self {
            n_rows,
            dims,
            max_connections,
            degree,
            entry,
            seed: u64::from(seed_low) | u64::from(seed_high) << 32,
            step: f32::from_bits(step),
            max_error: f32::from_bits(max_error),
            level_rows: level_rows.try_into().ok()?,
        };
        (header.n_levels() == n_levels as usize).then_some(header)
    }

    /// Number of upper levels.
    pub fn n_levels(&self) -> usize {
        self.level_rows.iter().take_while(|&&n| n > 0).count()
    }

    pub fn layout(&self) -> NodeLayout {
        NodeLayout { code_dims: (self.dims as usize).next_multiple_of(64), degree: self.degree as usize }
    }

    fn check(&self, dims: usize, n_rows: usize) -> Result<(), String> {
        if self.n_rows as usize != n_rows || !(1..=dims).contains(&(self.dims as usize)) {
            return Err(format!("it is for {} rows of {} dimensions instead of {n_rows} of {dims}", self.n_rows, self.dims));
        }
        if n_rows > 0 && self.entry >= self.n_rows {
            return Err(format!("its entry, row {}, does not exist", self.entry));
        }
        if self.degree == 0 || !self.degree.is_multiple_of(32) || self.degree > 1_024 || self.max_connections > 1_024 {
            return Err(format!("it claims {} and {} links per row", self.degree, self.max_connections));
        }
        let is_sound = |x: f32| x.is_finite() && x >= 0.0;
        if !is_sound(self.step) || !is_sound(self.max_error) {
            return Err("its codes stand for no numbers".into());
        }
        if !self.level_rows.is_sorted_by(|a, b| a >= b) || self.level_rows[0] > self.n_rows {
            return Err("its levels have more rows than those below them".into());
        }
        Ok(())
    }
}

/// Writes a graph into a folder, durably. `encode` is called for all rows in order, [`WRITE_ROWS`] at a time, with the nodes to fill.
pub(super) fn write(dir: &Path, header: &Header, upper: &Upper<'_>, mut encode: impl FnMut(u32, &mut [u8])) -> Result<(), StorageError> {
    let mut file = SectionWriter::create(&dir.join(FILE_NAME), KIND, VERSION)?;
    file.section(super::bytes_of(&header.to_numbers()))?;
    file.begin()?;
    let size = header.layout().size();
    let mut nodes = Vec::new();
    for first in (0..header.n_rows).step_by(WRITE_ROWS) {
        let n = (header.n_rows - first).min(WRITE_ROWS as u32) as usize;
        nodes.clear();
        nodes.resize(n * size, 0);
        encode(first, &mut nodes);
        file.write(&nodes)?;
    }
    file.section(super::bytes_of(upper.rows))?;
    file.section(upper.codes)?;
    file.section(super::bytes_of(upper.links))?;
    file.finish()?;
    Ok(())
}

impl GraphFile {
    /// Maps the graph in a folder and checks that its parts fit each other and the index. Reads nothing but its header.
    ///
    /// # Errors
    /// [`IndexError::Storage`] names the file and what is wrong with it.
    pub fn open(dir: &Path, dims: usize, n_rows: usize) -> Result<Self, IndexError> {
        let file = SectionFile::open(&dir.join(FILE_NAME), KIND, VERSION, 5)?;
        let Some(header) = Header::from_numbers(file.numbers(0)?) else {
            return Err(file.corrupt("its header is not of this version").into());
        };
        header.check(dims, n_rows).map_err(|reason| file.corrupt(reason))?;
        let layout = header.layout();
        let n_upper = header.level_rows[0] as usize;
        let n_links: u64 = header.level_rows.iter().map(|&n| u64::from(n) * u64::from(header.max_connections)).sum();
        let fits = Some(file.count::<u8>(1)?) == n_rows.checked_mul(layout.size())
            && file.count::<u32>(2)? == n_upper
            && Some(file.count::<u8>(3)?) == n_upper.checked_mul(layout.code_dims)
            && file.count::<u32>(4)? as u64 == n_links;
        if !fits {
            return Err(file.corrupt("its parts do not have the lengths that its header gives").into());
        }
        let quantizer = Quantizer::new(header.dims as usize, header.seed, header.step, header.max_error);
        Ok(Self { file, header, layout, quantizer })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn quantizer(&self) -> &Quantizer {
        &self.quantizer
    }

    /// The upper levels, in place.
    pub fn upper(&self) -> Result<Upper<'_>, StorageError> {
        Ok(Upper { rows: self.file.numbers(2)?, codes: self.file.bytes(3)?, links: self.file.numbers(4)? })
    }

    /// The node of a row.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when there is no such row or its bytes are not what was written.
    #[inline]
    pub fn node(&self, row: u32) -> Result<Node<'_>, StorageError> {
        let (start, size) = (row as usize * self.layout.size(), self.layout.size());
        Ok(self.layout.node(self.file.slice(1, start..start + size)?))
    }

    /// The int8 codes of a row.
    ///
    /// # Errors
    /// As of [`GraphFile::node`].
    #[inline]
    pub fn codes(&self, row: u32) -> Result<&[u8], StorageError> {
        let start = row as usize * self.layout.size();
        self.file.slice(1, start..start + self.layout.code_dims)
    }

    /// The links of a row.
    ///
    /// # Errors
    /// As of [`GraphFile::node`].
    #[inline]
    pub fn links(&self, row: u32) -> Result<&[u32], StorageError> {
        let start = row as usize * self.layout.size() + self.layout.code_dims;
        self.file.numbers_at(1, start / size_of::<u32>(), self.layout.degree)
    }

    /// Asks for a row's links before they are needed.
    #[inline]
    pub fn prefetch_links(&self, row: u32) {
        kernels::prefetch(self.place(row).wrapping_add(self.layout.code_dims), 4 * self.layout.degree);
    }

    /// Asks for a row's codes before they are needed.
    #[inline]
    pub fn prefetch_codes(&self, row: u32) {
        kernels::prefetch(self.place(row), self.layout.code_dims);
    }

    /// Asks for a row's whole node before it is needed.
    #[inline]
    pub fn prefetch_node(&self, row: u32) {
        kernels::prefetch(self.place(row), self.layout.size());
    }

    /// Where a node's bytes lie.
    #[inline]
    fn place(&self, row: u32) -> *const u8 {
        self.file.address(1, row as usize * self.layout.size())
    }

    pub fn verify(&self) -> Result<(), StorageError> {
        self.file.verify()
    }

    /// An error about this file.
    pub fn corrupt(&self, reason: impl Into<String>) -> StorageError {
        self.file.corrupt(reason)
    }

    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes a file again with another header, whatever its parts are.
    pub fn replace_header(dir: &Path, old: &Header, new: &Header) {
        let path = dir.join(FILE_NAME);
        let file = SectionFile::open(&path, KIND, VERSION, 5).unwrap();
        assert_eq!(Header::from_numbers(file.numbers(0).unwrap()), Some(*old));
        std::fs::remove_file(&path).unwrap();
        let mut writer = SectionWriter::create(&path, KIND, VERSION).unwrap();
        writer.section(super::super::bytes_of(&new.to_numbers())).unwrap();
        (1..5).for_each(|section| writer.section(file.bytes(section).unwrap()).unwrap());
        writer.finish().unwrap();
    }
}
