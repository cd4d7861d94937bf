//! The stored documents of a generation, by row.
//!
//! *On disk*: `documents.bin`, a container of kind `DOCS`, version 3:
//!
//! | section | holds |
//! |---|---|
//! | 0, 1 | `[rows]` u64: where a row's attributes end in section 1; those bytes (bincode) |
//! | 2, 3 | `[rows]` u64: where a row's fields end in section 3; those texts (JSON) |
//! | 4 | `[rows]` u64: seqno of the document's last change |
//! | 5 | `[rows × 2]` u64: hash of the text that was embedded, or of the embedding that was given |
//! | 6, 7 | i64, u32: when documents expire, in microseconds since 1970, ascending; and their rows |
//!
//! Attributes lie apart from the fields because re-scoring reads the former of every candidate and
//! the latter of the hits alone.

use std::path::Path;

use super::Contents;
use kindred_core::domain::{Attributes, FieldId, Selected, Selection, SeqNo, TextHash};
use kindred_core::storage::{SectionFile, SectionWriter, StorageError};

pub(super) const DOCUMENTS_FILE: &str = "documents.bin";
const KIND: [u8; 4] = *b"DOCS";
const VERSION: u32 = 3;
const N_SECTIONS: usize = 8;
const MAX_ATTRIBUTES_BYTES: usize = 64 << 20;

/// A mapped `documents.bin`.
#[derive(Debug)]
pub(super) struct Documents {
    file: SectionFile,
}

impl Documents {
    /// Writes the file; `expires_at` is the field that says when a document expires.
    pub fn write(dir: &Path, contents: &Contents, expires_at: Option<FieldId>) -> Result<(), StorageError> {
        let encode = |a: &Attributes| {
            bincode::encode_to_vec(a, bincode::config::standard()).expect("attributes have nothing that cannot be encoded")
        };
        let mut writer = SectionWriter::create(&dir.join(DOCUMENTS_FILE), KIND, VERSION)?;
        let attributes: Vec<Vec<u8>> = contents.attributes.iter().map(encode).collect();
        write_blobs(&mut writer, attributes.iter().map(Vec::as_slice))?;
        write_blobs(&mut writer, contents.fields.iter().map(String::as_bytes))?;
        writer.begin()?;
        contents.seqnos.iter().try_for_each(|seqno| writer.write(&seqno.0.to_le_bytes()))?;
        writer.begin()?;
        contents.text_hashes.iter().try_for_each(|hash| writer.write(&hash.to_bytes()))?;
        let expires = |(row, attributes): (usize, &Attributes)| Some((attributes.expires_at_us(expires_at)?, row as u32));
        let mut expiring: Vec<(i64, u32)> = contents.attributes.iter().enumerate().filter_map(expires).collect();
        expiring.sort_unstable();
        writer.begin()?;
        expiring.iter().try_for_each(|(at_us, _)| writer.write(&at_us.to_le_bytes()))?;
        writer.begin()?;
        expiring.iter().try_for_each(|(_, row)| writer.write(&row.to_le_bytes()))?;
        writer.finish().map(drop)
    }

    pub fn open(dir: &Path, n_rows: usize) -> Result<Self, StorageError> {
        let file = SectionFile::open(&dir.join(DOCUMENTS_FILE), KIND, VERSION, N_SECTIONS)?;
        let counts = [
            (0, file.count::<u64>(0)?, n_rows),
            (2, file.count::<u64>(2)?, n_rows),
            (4, file.count::<u64>(4)?, n_rows),
            (5, file.count::<u64>(5)?, 2 * n_rows),
            (7, file.count::<u32>(7)?, file.count::<i64>(6)?),
        ];
        if let Some((section, n, expected)) = counts.into_iter().find(|(_, n, expected)| n != expected) {
            return Err(file.corrupt(format!("section {section} has {n} numbers instead of {expected}")));
        }
        Ok(Self { file })
    }

    /// Seqno of a document's last change.
    pub fn seqno(&self, row: u32) -> Result<SeqNo, StorageError> {
        Ok(SeqNo(self.file.numbers_at::<u64>(4, row as usize, 1)?[0]))
    }

    /// Returns the hash of the source of a document's embedding.
    pub fn text_hash(&self, row: u32) -> Result<TextHash, StorageError> {
        let halves = self.file.numbers_at::<u64>(5, 2 * row as usize, 2)?;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&halves[0].to_le_bytes());
        bytes[8..].copy_from_slice(&halves[1].to_le_bytes());
        Ok(TextHash::from_bytes(bytes))
    }

    /// How many documents expire some day.
    pub fn n_expiring(&self) -> usize {
        self.file.count::<i64>(6).unwrap_or_default()
    }

    /// When the document at a position of those that expire does so, in microseconds since 1970, and its row; earliest first.
    pub fn expiring(&self, position: usize) -> Result<(i64, u32), StorageError> {
        Ok((self.file.numbers_at::<i64>(6, position, 1)?[0], self.file.numbers_at::<u32>(7, position, 1)?[0]))
    }

    pub fn attributes(&self, row: u32) -> Result<Attributes, StorageError> {
        let bytes = self.blob(0, row)?;
        let decoded = bincode::decode_from_slice(bytes, bincode::config::standard().with_limit::<MAX_ATTRIBUTES_BYTES>());
        decoded.map(|(attributes, _)| attributes).map_err(|e| self.file.corrupt(format!("the attributes of row {row}: {e}")))
    }

    /// What is selected of a document's attributes.
    pub fn selected(&self, row: u32, selection: &Selection) -> Result<Attributes, StorageError> {
        let limits = bincode::config::standard().with_limit::<MAX_ATTRIBUTES_BYTES>();
        let decoded = bincode::decode_from_slice_with_context(self.blob(0, row)?, limits, selection);
        decoded.map(|(Selected(attributes), _)| attributes).map_err(|e| self.file.corrupt(format!("the attributes of row {row}: {e}")))
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
    fn a_damaged_block_spoils_its_own_rows_alone() {
        let dir = tempfile::tempdir().unwrap();
        let fields: Vec<String> = (0..3_000).map(|row| format!("{{\"n\":{row},\"text\":\"{}\"}}", "x".repeat(row % 90))).collect();
        let n = fields.len() as u64;
        let contents = Contents {
            seqnos: (0..n).map(SeqNo).collect(),
            attributes: vec![Attributes::default(); fields.len()],
            text_hashes: (0..n).map(|row| TextHash::of(&row.to_string())).collect(),
            fields: fields.clone(),
            ..Contents::default()
        };
        Documents::write(dir.path(), &contents, None).unwrap();
        let documents = Documents::open(dir.path(), fields.len()).unwrap();
        assert!((0..3_000).all(|row| documents.fields(row).unwrap() == fields[row as usize]));
        let facts = |row: u32| (documents.seqno(row).unwrap(), documents.text_hash(row).unwrap());
        assert!((0..3_000).all(|row| facts(row) == (contents.seqnos[row as usize], contents.text_hashes[row as usize])));
        assert!(documents.fields(3_000).is_err() && documents.attributes(u32::MAX).is_err());
        let path = dir.path().join(DOCUMENTS_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(8).rposition(|bytes| bytes == b"xxxxxxxx").unwrap();
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
