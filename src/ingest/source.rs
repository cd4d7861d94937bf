//! Where a feed is read from: a file or standard input, its format, and the name under which its position is kept.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::csv::Rows;
use super::jsonl::Lines;
#[cfg(feature = "parquet")]
use super::parquet::Table;
use super::{IngestError, ReadError, Records};
use kindred_core::Progress;
use kindred_core::domain::{Schema, hex};

const BUFFER_BYTES: usize = 1 << 20;
/// Bytes at a file's beginning that tell it from others of its name and length.
const BEGINNING_BYTES: u64 = 64 << 10;

/// How documents are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// A first row with the fields' names, then a document a row.
    Csv,
    Parquet,
}

impl Format {
    /// What the name of a file says.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "csv" | "tsv" => Some(Self::Csv),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// A file, a pipe or standard input.
#[derive(Debug)]
pub struct Source {
    name: String,
    format: Format,
    input: Input,
    /// Under which the log keeps how far it has come: of files alone, a pipe cannot be read again.
    position: Option<String>,
    /// What there is to read, in bytes or rows; 0 where nobody knows.
    total: u64,
}

#[derive(Debug)]
enum Input {
    Stdin,
    File(PathBuf),
}

impl Source {
    /// Standard input: lines of JSON unless it is said otherwise.
    ///
    /// # Errors
    /// [`IngestError::NeedsFile`] for Parquet.
    pub fn stdin(format: Option<Format>) -> Result<Self, IngestError> {
        let name = "standard input".to_owned();
        match format.unwrap_or(Format::Jsonl) {
            Format::Parquet => Err(IngestError::NeedsFile { name }),
            format => Ok(Self { name, format, input: Input::Stdin, position: None, total: 0 }),
        }
    }

    /// A file. Its extension tells its format unless `format` does.
    ///
    /// # Errors
    /// [`IngestError::Read`], [`IngestError::UnknownFormat`], [`IngestError::NoParquet`] in a build without it, and [`IngestError::NeedsFile`] for Parquet from a pipe.
    pub fn file(path: &Path, format: Option<Format>) -> Result<Self, IngestError> {
        let name = path.display().to_string();
        let failed = |source: std::io::Error| IngestError::Read { name: name.clone(), source: source.into() };
        let format = format.or_else(|| Format::of(path)).ok_or_else(|| IngestError::UnknownFormat { name: name.clone() })?;
        let metadata = path.metadata().map_err(failed)?;
        // A pipe can be read only once: how long it will be is not known.
        let is_regular = metadata.is_file();
        if format == Format::Parquet && !is_regular {
            return Err(IngestError::NeedsFile { name });
        }
        if format == Format::Parquet && !crate::optional::PARQUET.is_built {
            return Err(IngestError::NoParquet { name });
        }
        let position = if is_regular { Some(position_name(path).map_err(failed)?) } else { None };
        let total = if is_regular { metadata.len() } else { 0 };
        Ok(Self { name, format, input: Input::File(path.to_owned()), position, total })
    }

    /// Begins to read.
    #[cfg_attr(not(feature = "parquet"), expect(unused_mut, reason = "only a Parquet file's total is known when it is opened"))]
    pub(super) fn read(mut self, schema: &Schema) -> Result<(Box<dyn Records>, Self), IngestError> {
        #[cfg(feature = "parquet")]
        if let (Format::Parquet, Input::File(path)) = (self.format, &self.input) {
            let table = File::open(path).map_err(ReadError::from).and_then(Table::new).map_err(|e| self.failed(e))?;
            self.total = table.n_rows();
            return Ok((Box::new(table), self));
        }
        let reader: Box<dyn Read> = match &self.input {
            Input::Stdin => Box::new(std::io::stdin()),
            // Of a pipe, this waits for the other side.
            Input::File(path) => Box::new(File::open(path).map_err(|e| self.failed(e.into()))?),
        };
        let reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        let records: Box<dyn Records> = match self.format {
            Format::Csv => Box::new(Rows::new(reader, schema).map_err(|e| self.failed(e))?),
            Format::Jsonl | Format::Parquet => Box::new(Lines::new(reader)),
        };
        Ok((records, self))
    }

    /// All records from a line on, with their lines.
    ///
    /// # Errors
    /// What [`super::Ingest`] would meet.
    #[cfg(fuzzing)]
    pub fn read_all(self, schema: &Schema, from: u64) -> Result<Vec<(u64, super::ReadDocument)>, IngestError> {
        let (mut records, source) = self.read(schema)?;
        let mut read = Vec::new();
        records.skip_before(from).map_err(|e| source.failed(e))?;
        while let Some(record) = records.next().map_err(|e| source.failed(e))? {
            read.push((record.line, record.item));
        }
        Ok(read)
    }

    pub(super) fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }

    pub(super) fn failed(&self, source: ReadError) -> IngestError {
        IngestError::Read { name: self.name.clone(), source }
    }

    /// The progress of what is left to read.
    pub(super) fn progress(&self, what: String, read_already: u64) -> Progress {
        let total = self.total.saturating_sub(read_already);
        if self.format == Format::Parquet { Progress::new(what, total) } else { Progress::of_bytes(what, total) }
    }
}

/// Another file of the same name, or the file after a change, must not be taken for this one.
fn position_name(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let mut beginning = Vec::new();
    file.by_ref().take(BEGINNING_BYTES).read_to_end(&mut beginning)?;
    let path: PathBuf = path.canonicalize()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digest = Sha256::new().chain_update(modified.to_le_bytes()).chain_update(&beginning).finalize();
    Ok(format!("file:{name}:{}:{}", metadata.len(), hex(&digest[..8])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_tell_formats() {
        for (name, format) in [
            ("a.jsonl", Some(Format::Jsonl)),
            ("a.NDJSON", Some(Format::Jsonl)),
            ("a.b.csv", Some(Format::Csv)),
            ("a.tsv", Some(Format::Csv)),
            ("a.parquet", Some(Format::Parquet)),
            ("a.txt", None),
            ("csv", None),
        ] {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
        }
        assert!(matches!(Source::stdin(Some(Format::Parquet)), Err(IngestError::NeedsFile { .. })));
        assert!(matches!(Source::file(Path::new("Cargo.lock"), None), Err(IngestError::UnknownFormat { .. })));
    }

    #[test]
    fn a_file_that_changed_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let name = |text: &str| {
            std::fs::write(&path, text).unwrap();
            position_name(&path).unwrap()
        };
        let (first, longer, other) = (name("1"), name("12"), name("2"));
        assert!(first.starts_with("file:a.jsonl:1:") && longer.starts_with("file:a.jsonl:2:"), "{first} {longer}");
        assert_ne!(first, other);
        assert_eq!(position_name(&path).unwrap(), other);
    }
}
