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
            let n = file.numbers::<u64>(section)?.len();
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

    fn blob(&self, section: usize, row: u32) -> Result<&[u8], StorageError> {
        let ends = self.file.numbers::<u64>(section)?;
        let row = row as usize;
        let start = if row == 0 { 0 } else { ends[row - 1] };
        // The checksum says that this is what was written; the bounds hold whoever wrote it.
        let range = usize::try_from(start).ok().zip(usize::try_from(ends[row]).ok()).map(|(start, end)| start..end);
        let blob = range.and_then(|range| self.file.bytes(section + 1).get(range));
        blob.ok_or_else(|| self.file.corrupt(format!("row {row} lies outside of it")))
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
