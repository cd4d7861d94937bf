//! The ids that users gave the documents of a segment, both ways, in place.
//!
//! *On disk*: `ids.bin`, kind `IDS_`, version 1:
//!
//! | section | holds |
//! |---|---|
//! | 0 | `[rows + 1]` u64: where a row's id begins in section 1 and that of the row before ends |
//! | 1 | the ids' UTF-8 bytes, row after row |
//! | 2 | `[rows]` u32: the rows in the order of their ids' bytes |

use std::path::Path;

use super::{IndexError, bytes_of, check_row_count};
use kindred_core::domain::DocumentId;
use kindred_core::storage::{SectionFile, SectionWriter, StorageError};

const FILE_NAME: &str = "ids.bin";
const KIND: [u8; 4] = *b"IDS_";
const VERSION: u32 = 1;

/// A mapped table of ids.
#[derive(Debug)]
pub struct IdTable {
    file: SectionFile,
    n_rows: usize,
}

impl IdTable {
    /// Writes the table of the ids of rows 0, 1, … into a folder, durably.
    ///
    /// # Errors
    /// [`IndexError::DuplicateId`], [`IndexError::TooManyRows`], [`IndexError::Storage`].
    pub fn write(dir: &Path, ids: &[DocumentId]) -> Result<(), IndexError> {
        let n_rows = check_row_count(ids.len())?;
        let mut by_id: Vec<u32> = (0..n_rows).collect();
        by_id.sort_unstable_by_key(|&row| ids[row as usize].as_str());
        if let Some(pair) = by_id.windows(2).find(|pair| ids[pair[0] as usize] == ids[pair[1] as usize]) {
            return Err(IndexError::DuplicateId { id: ids[pair[0] as usize].to_string() });
        }
        let mut offsets = vec![0u64];
        offsets.extend(ids.iter().scan(0, |end, id| {
            *end += id.as_str().len() as u64;
            Some(*end)
        }));
        let mut file = SectionWriter::create(&dir.join(FILE_NAME), KIND, VERSION)?;
        file.section(bytes_of(&offsets))?;
        file.begin()?;
        for id in ids {
            file.write(id.as_str().as_bytes())?;
        }
        file.section(bytes_of(&by_id))?;
        file.finish()?;
        Ok(())
    }

    /// Maps the table in a folder.
    ///
    /// # Errors
    /// [`IndexError::Storage`] names the file and what is wrong with it.
    pub fn open(dir: &Path, n_rows: usize) -> Result<Self, IndexError> {
        let file = SectionFile::open(&dir.join(FILE_NAME), KIND, VERSION, 3)?;
        let (n_offsets, n_sorted) = (file.count::<u64>(0)?, file.count::<u32>(2)?);
        if n_offsets != n_rows + 1 || n_sorted != n_rows {
            return Err(file.corrupt(format!("it holds {n_sorted} ids with {n_offsets} limits instead of {n_rows} ids")).into());
        }
        Ok(Self { file, n_rows })
    }

    /// The row of an id. It is looked for by halves, so a few dozen blocks of the file are looked at.
    ///
    /// # Errors
    /// [`IndexError::Storage`] when the way to it is damaged: then nobody knows whether there is such an id.
    pub fn row(&self, id: &str) -> Result<Option<u32>, IndexError> {
        let position = self.position(id)?;
        if position == self.n_rows {
            return Ok(None);
        }
        let row = self.row_at(position)?;
        Ok((self.bytes(row)? == id.as_bytes()).then_some(row))
    }

    /// How many ids stand before this one in the order of their bytes, whether it is there or not.
    ///
    /// # Errors
    /// As [`Self::row`].
    pub fn position(&self, id: &str) -> Result<usize, IndexError> {
        let (mut low, mut high) = (0, self.n_rows);
        while low < high {
            let middle = low.midpoint(high);
            match self.bytes(self.row_at(middle)?)? < id.as_bytes() {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// The row at a position in the order of the ids' bytes, below [`Self::n_rows`].
    ///
    /// # Errors
    /// [`IndexError::Storage`] when what is stored there is damaged.
    pub fn row_at(&self, position: usize) -> Result<u32, IndexError> {
        Ok(self.file.numbers_at::<u32>(2, position, 1)?[0])
    }

    /// The id of a row.
    ///
    /// # Errors
    /// [`IndexError::Storage`] when the row does not exist or what is stored for it is no id.
    pub fn id(&self, row: u32) -> Result<DocumentId, IndexError> {
        let text = std::str::from_utf8(self.bytes(row)?).ok();
        let id = text.and_then(|text| DocumentId::new(text).ok());
        id.ok_or_else(|| self.file.corrupt(format!("it holds no valid id for row {row} of {}", self.n_rows)).into())
    }

    /// Checks all of the file.
    ///
    /// # Errors
    /// [`IndexError::Storage`].
    pub fn verify(&self) -> Result<(), IndexError> {
        Ok(self.file.verify()?)
    }

    /// Number of ids.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Length of the file in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    fn bytes(&self, row: u32) -> Result<&[u8], StorageError> {
        let limits = self.file.numbers_at::<u64>(0, row as usize, 2)?;
        // A limit beyond the machine's reach is beyond the section too.
        let [start, end] = [limits[0], limits[1]].map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        self.file.slice(1, start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(texts: &[&str]) -> Vec<DocumentId> {
        texts.iter().map(|text| DocumentId::new(*text).unwrap()).collect()
    }

    #[test]
    fn both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let texts = ["m7", "żółw", "a", "aa", "10", "9"];
        IdTable::write(dir.path(), &ids(&texts)).unwrap();
        let table = IdTable::open(dir.path(), texts.len()).unwrap();
        for (row, text) in texts.iter().enumerate() {
            assert_eq!(table.row(text).unwrap(), Some(row as u32));
            assert_eq!(table.id(row as u32).unwrap().as_str(), *text);
        }
        for none in ["", "b", "m", "m77", "zzz", "~"] {
            assert_eq!(table.row(none).unwrap(), None, "{none:?}");
        }
        let in_order: Vec<u32> = (0..texts.len()).map(|position| table.row_at(position).unwrap()).collect();
        assert_eq!(in_order, [4, 5, 2, 3, 0, 1], "by bytes");
        for (id, position) in [("", 0), ("10", 0), ("100", 1), ("aa", 3), ("m8", 5), ("\u{10ffff}", 6)] {
            assert_eq!(table.position(id).unwrap(), position, "{id:?}");
        }
        assert!(table.id(6).is_err() && table.id(u32::MAX).is_err());
        assert!(IdTable::open(dir.path(), 5).unwrap_err().to_string().contains("ids.bin"));
    }

    #[test]
    fn none_and_twice() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(IdTable::write(dir.path(), &ids(&["a", "b", "a"])), Err(IndexError::DuplicateId { id }) if id == "a"));
        IdTable::write(dir.path(), &[]).unwrap();
        assert_eq!(IdTable::open(dir.path(), 0).unwrap().row("a").unwrap(), None);
    }

    #[test]
    fn insane_contents_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = SectionWriter::create(&dir.path().join(FILE_NAME), KIND, VERSION).unwrap();
        file.section(bytes_of(&[2u64, u64::MAX, 1, 2, 3])).unwrap();
        file.section(b"a\xff\n").unwrap();
        file.section(bytes_of(&[u32::MAX, 3, 2, 7])).unwrap();
        file.finish().unwrap();
        let table = IdTable::open(dir.path(), 4).unwrap();
        for row in 0..6 {
            assert!(table.id(row).is_err(), "row {row}");
        }
        for id in ["a", "\n", "z"] {
            let _ = table.row(id);
        }
        assert!(table.row("").is_err(), "the way to it leads through a row that does not exist");
    }

    #[test]
    fn a_damaged_table_does_not_say_that_there_is_no_such_id() {
        let dir = tempfile::tempdir().unwrap();
        let texts: Vec<String> = (0..40_000).map(|i| format!("id-{i}")).collect();
        IdTable::write(dir.path(), &ids(&texts.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        let table = IdTable::open(dir.path(), texts.len()).unwrap();
        let found: Vec<_> = texts.iter().map(|text| table.row(text).ok()).collect();
        assert!(found.iter().enumerate().all(|(row, found)| found.is_none_or(|found| found == Some(row as u32))));
        assert!(texts.iter().enumerate().all(|(row, text)| table.id(row as u32).map_or(true, |id| id.as_str() == text)));
        let n_errors = found.iter().filter(|found| found.is_none()).count();
        assert!(n_errors > 0 && n_errors < texts.len(), "{n_errors} errors: one block is damaged");
        assert!(table.verify().is_err());
    }
}
