//! The stored documents of a generation, by row.
//!
//! *On disk*: a container of kind `DOCS` with four sections: the ends of the attributes' bytes (u64 by row), those bytes
//! (bincode), the ends of the fields' texts (u64 by row), those texts (JSON). Attributes lie apart from the fields because
//! re-scoring reads the former of every candidate and the latter of the hits alone.

use std::path::Path;

use crate::domain::Attributes;
use crate::storage::{SectionFile, SectionWriter, StorageError};

pub(super) const DOCUMENTS_FILE: &str = "documents.bin";
const KIND: [u8; 4] = *b"DOCS";
const VERSION: u32 = 1;
const MAX_ATTRIBUTES_BYTES: usize = 64 << 20;

/// A mapped `documents.bin`.
#[derive(Debug)]
pub(super) struct Documents {
    file: SectionFile,
}

impl Documents {
    pub fn write(dir: &Path, attributes: &[Attributes], fields: &[String]) -> Result<(), StorageError> {
        let encode = |a: &Attributes| {
            bincode::encode_to_vec(a, bincode::config::standard()).expect("attributes have nothing that cannot be encoded")
        };
        let mut writer = SectionWriter::create(&dir.join(DOCUMENTS_FILE), KIND, VERSION)?;
        let attributes: Vec<Vec<u8>> = attributes.iter().map(encode).collect();
        write_blobs(&mut writer, attributes.iter().map(Vec::as_slice))?;
        write_blobs(&mut writer, fields.iter().map(String::as_bytes))?;
        writer.finish().map(drop)
    }

    pub fn open(dir: &Path, n_rows: usize) -> Result<Self, StorageError> {
        let file = SectionFile::open(&dir.join(DOCUMENTS_FILE), KIND, VERSION, 4)?;
        for section in [0, 2] {
            let n = file.count::<u64>(section)?;
            if n != n_rows {
                return Err(file.corrupt(format!("it has {n} rows instead of {n_rows}")));
            }
        }
        Ok(Self { file })
    }

    pub fn attributes(&self, row: u32) -> Result<Attributes, StorageError> {
        let bytes = self.blob(0, row)?;
        let decoded = bincode::decode_from_slice(bytes, bincode::config::standard().with_limit::<MAX_ATTRIBUTES_BYTES>());
        decoded.map(|(attributes, _)| attributes).map_err(|e| self.file.corrupt(format!("the attributes of row {row}: {e}")))
    }

    /// The document's fields as JSON text.
    pub fn fields(&self, row: u32) -> Result<&str, StorageError> {
        std::str::from_utf8(self.blob(2, row)?).map_err(|e| self.file.corrupt(format!("the fields of row {row}: {e}")))
    }

    /// Checks all of the file.
    pub fn verify(&self) -> Result<(), StorageError> {
        self.file.verify()
    }

    fn blob(&self, section: usize, row: u32) -> Result<&[u8], StorageError> {
        let row = row as usize;
        let (start, end) = match row.checked_sub(1) {
            None => (0, self.file.numbers_at::<u64>(section, 0, 1)?[0]),
            Some(before) => {
                let ends = self.file.numbers_at::<u64>(section, before, 2)?;
                (ends[0], ends[1])
            }
        };
        // The checksums say that this is what was written; the bounds hold whoever wrote it.
        let [start, end] = [start, end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
        self.file.slice(section + 1, start..end)
    }
}

fn write_blobs<'a>(writer: &mut SectionWriter, blobs: impl Iterator<Item = &'a [u8]> + Clone) -> Result<(), StorageError> {
    writer.begin()?;
    let mut end = 0u64;
    for blob in blobs.clone() {
        end += blob.len() as u64;
        writer.write(&end.to_le_bytes())?;
    }
    writer.begin()?;
    blobs.into_iter().try_for_each(|blob| writer.write(blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_chunk_spoils_its_own_rows_alone() {
        let dir = tempfile::tempdir().unwrap();
        let fields: Vec<String> = (0..3_000).map(|row| format!("{{\"n\":{row},\"text\":\"{}\"}}", "x".repeat(row % 90))).collect();
        Documents::write(dir.path(), &vec![Attributes::default(); fields.len()], &fields).unwrap();
        let documents = Documents::open(dir.path(), fields.len()).unwrap();
        assert!((0..3_000).all(|row| documents.fields(row).unwrap() == fields[row as usize]));
        assert!(documents.fields(3_000).is_err() && documents.attributes(u32::MAX).is_err());
        let path = dir.path().join(DOCUMENTS_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        // Near the end of the last section, the fields' texts.
        let at = bytes.len() - 1_000;
        bytes[at] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let documents = Documents::open(dir.path(), fields.len()).unwrap();
        let sound = (0..3_000).filter(|&row| documents.fields(row).is_ok_and(|found| found == fields[row as usize])).count();
        let refused = (0..3_000).filter(|&row| documents.fields(row).is_err()).count();
        assert!(sound > 0 && refused > 0 && sound + refused == 3_000, "{sound} sound, {refused} refused");
        assert!((0..3_000).all(|row| documents.attributes(row).is_ok()), "they lie elsewhere");
        assert!(documents.verify().is_err());
    }
}
