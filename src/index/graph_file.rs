//! The graph as a file of ours: links of fixed degree, read in place.
//!
//! *On disk*: `graph.bin`, kind `GRPH`, version 1. `M` is `max_connections`; `u32::MAX` pads lists that are not full.
//!
//! | section | holds |
//! |---|---|
//! | 0 | u32 each: rows, dims, `M`, level-0 degree, entry row, highest level, 0, 0 |
//! | 1 | `[rows × degree]` u32: level-0 links, nearest first |
//! | 2 | `[rows + 1]` u32: number of upper blocks before the row; those of a row are its levels 1, 2, … |
//! | 3 | `[blocks × M]` u32: upper links |
//!
//! Checksums say that a file is what was written, not that it makes sense: the header is checked when it is opened, every link
//! where it is used, so no contents can make a search panic, run forever or leave the file.

use std::path::Path;

use super::{IndexError, bytes_of};
use crate::storage::{SectionFile, SectionWriter, StorageError};

const FILE_NAME: &str = "graph.bin";
const KIND: [u8; 4] = *b"GRPH";
const VERSION: u32 = 1;
/// No builder makes more; it bounds the descent through a file that claims more.
const MAX_LEVEL: u32 = 64;
/// Fills lists that are not full.
pub(super) const NO_LINK: u32 = u32::MAX;

/// Numbers that describe a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub n_rows: u32,
    pub dims: u32,
    pub max_connections: u32,
    /// Links per row on level 0.
    pub degree: u32,
    /// Where every search begins; without meaning if there are no rows.
    pub entry: u32,
    pub max_level: u32,
}

impl Header {
    fn to_numbers(self) -> [u32; 8] {
        [self.n_rows, self.dims, self.max_connections, self.degree, self.entry, self.max_level, 0, 0]
    }

    fn from_numbers(numbers: &[u32]) -> Option<Self> {
        let &[n_rows, dims, max_connections, degree, entry, max_level, 0, 0] = numbers else { return None };
        Some(Self { n_rows, dims, max_connections, degree, entry, max_level })
    }
}

/// A graph in memory or in a file, without its vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Graph<'a> {
    pub header: Header,
    /// `[rows × degree]`.
    pub level0: &'a [u32],
    /// `[rows + 1]`.
    pub upper_starts: &'a [u32],
    /// `[blocks × max_connections]`.
    pub upper: &'a [u32],
}

impl<'a> Graph<'a> {
    /// The rows that a row is linked to on a level; each exists.
    #[inline]
    pub fn links(&self, level: u32, row: u32) -> impl Iterator<Item = u32> + use<'a> {
        let list = if level == 0 { self.level0_list(row) } else { self.upper_list(level, row) };
        let n_rows = self.header.n_rows;
        // Padding is no row either.
        list.unwrap_or(&[]).iter().copied().filter(move |&to| to < n_rows)
    }

    fn level0_list(&self, row: u32) -> Option<&'a [u32]> {
        let degree = self.header.degree as usize;
        self.level0.get(row as usize * degree..)?.get(..degree)
    }

    fn upper_list(&self, level: u32, row: u32) -> Option<&'a [u32]> {
        let (start, end) = (*self.upper_starts.get(row as usize)?, *self.upper_starts.get(row as usize + 1)?);
        let block = start.checked_add(level - 1).filter(|&block| block < end)? as usize;
        let m = self.header.max_connections as usize;
        self.upper.get(block.checked_mul(m)?..)?.get(..m)
    }
}

/// A graph in memory, as it is built.
#[derive(Debug)]
pub(super) struct Links {
    pub header: Header,
    pub level0: Vec<u32>,
    pub upper_starts: Vec<u32>,
    pub upper: Vec<u32>,
}

impl Links {
    pub fn graph(&self) -> Graph<'_> {
        Graph { header: self.header, level0: &self.level0, upper_starts: &self.upper_starts, upper: &self.upper }
    }

    /// The level-0 list of a row, padding included.
    pub fn level0_mut(&mut self, row: u32) -> &mut [u32] {
        let degree = self.header.degree as usize;
        &mut self.level0[row as usize * degree..][..degree]
    }
}

/// Writes a graph into a folder, durably.
pub(super) fn write(dir: &Path, graph: &Graph<'_>) -> Result<(), StorageError> {
    let mut file = SectionWriter::create(&dir.join(FILE_NAME), KIND, VERSION)?;
    file.section(bytes_of(&graph.header.to_numbers()))?;
    file.section(bytes_of(graph.level0))?;
    file.section(bytes_of(graph.upper_starts))?;
    file.section(bytes_of(graph.upper))?;
    file.finish()?;
    Ok(())
}

/// A mapped graph.
#[derive(Debug)]
pub(super) struct GraphFile {
    file: SectionFile,
    header: Header,
}

impl GraphFile {
    /// Maps the graph in a folder and checks that its parts fit each other and the index.
    ///
    /// # Errors
    /// [`IndexError::Storage`] names the file and what is wrong with it.
    pub fn open(dir: &Path, dims: usize, n_rows: usize) -> Result<Self, IndexError> {
        let file = SectionFile::open(&dir.join(FILE_NAME), KIND, VERSION, 4)?;
        let Some(header) = Header::from_numbers(file.numbers(0)?) else {
            return Err(file.corrupt("its header is not of this version").into());
        };
        // All of it is checked here, so that the view has nothing to refuse.
        for section in 1..4 {
            file.numbers::<u32>(section)?;
        }
        let graph = Self { file, header };
        graph.check(dims, n_rows).map_err(|reason| graph.file.corrupt(reason))?;
        Ok(graph)
    }

    /// The graph, in place.
    pub fn view(&self) -> Graph<'_> {
        Graph { header: self.header, level0: self.numbers(1), upper_starts: self.numbers(2), upper: self.numbers(3) }
    }

    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    /// Checks all of the file.
    pub fn verify(&self) -> Result<(), StorageError> {
        self.file.verify()
    }

    fn check(&self, dims: usize, n_rows: usize) -> Result<(), String> {
        let header = self.header;
        if (header.n_rows as usize, header.dims as usize) != (n_rows, dims) {
            return Err(format!("it is for {} rows of {} dimensions instead of {n_rows} of {dims}", header.n_rows, header.dims));
        }
        let graph = self.view();
        let level0_len = u64::from(header.n_rows) * u64::from(header.degree);
        if graph.level0.len() as u64 != level0_len || graph.upper_starts.len() != n_rows + 1 {
            return Err("its lists of links do not have the lengths that its header gives".into());
        }
        let blocks = u64::from(graph.upper_starts[n_rows]);
        if graph.upper.len() as u64 != blocks * u64::from(header.max_connections) {
            return Err("its upper links do not have the length that their offsets give".into());
        }
        if n_rows > 0 && header.entry >= header.n_rows {
            return Err(format!("its entry, row {}, does not exist", header.entry));
        }
        if header.max_level > MAX_LEVEL {
            return Err(format!("it claims {} levels, over the limit of {MAX_LEVEL}", header.max_level));
        }
        Ok(())
    }

    fn numbers(&self, section: usize) -> &[u32] {
        self.file.numbers(section).expect("open has read the section as these numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { n_rows: 2, dims: 3, max_connections: 2, degree: 4, entry: 1, max_level: 1 };

    fn sample() -> Graph<'static> {
        Graph { header: HEADER, level0: &[1, NO_LINK, NO_LINK, NO_LINK, 0, 7, 1, NO_LINK], upper_starts: &[0, 0, 1], upper: &[0, NO_LINK] }
    }

    #[test]
    fn links_that_lead_nowhere_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &sample()).unwrap();
        let file = GraphFile::open(dir.path(), 3, 2).unwrap();
        let links = |level, row| file.view().links(level, row).collect::<Vec<_>>();
        assert_eq!((links(0, 0), links(0, 1)), (vec![1], vec![0, 1]));
        assert_eq!((links(1, 0), links(1, 1), links(2, 1)), (vec![], vec![0], vec![]));
        assert_eq!((links(0, 2), links(1, u32::MAX)), (vec![], vec![]));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let g = sample();
        let headers = [
            Header { dims: 4, ..HEADER },
            Header { n_rows: 3, ..HEADER },
            Header { degree: 3, ..HEADER },
            Header { degree: u32::MAX, ..HEADER },
            Header { max_connections: 3, ..HEADER },
            Header { entry: 2, ..HEADER },
            Header { max_level: u32::MAX, ..HEADER },
        ];
        let mut bad: Vec<Graph<'static>> = headers.map(|header| Graph { header, ..g }).into();
        bad.push(Graph { level0: &[1], ..g });
        bad.push(Graph { upper_starts: &[0, 1], ..g });
        bad.push(Graph { upper_starts: &[0, 0, 9], ..g });
        bad.push(Graph { upper: &[], ..g });
        for graph in bad {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &graph).unwrap();
            let error = GraphFile::open(dir.path(), 3, 2).unwrap_err();
            assert!(error.to_string().contains("graph.bin"), "{error}");
        }
    }

    #[test]
    fn every_flipped_byte_is_detected() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &sample()).unwrap();
        let path = dir.path().join(FILE_NAME);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, damaged).unwrap();
            assert!(GraphFile::open(dir.path(), 3, 2).is_err(), "byte {at}");
        }
    }
}
