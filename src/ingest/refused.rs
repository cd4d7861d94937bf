//! The report of the lines that were not taken.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::IngestError;
use crate::pipeline::ItemError;

/// Refused lines that are kept to be printed; a file of the wrong kind would print itself.
const MAX_KEPT: usize = 20;

/// A line that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// From 1.
    pub line: u64,
    pub id: Option<String>,
    pub error: ItemError,
}

/// Keeps the first refused lines and writes all of them to a file, if one was named.
pub(super) struct RefusedReport {
    n: usize,
    first: Vec<Refused>,
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl RefusedReport {
    /// Makes the file, or adds to that of the run that is gone on with.
    pub fn open(path: Option<&Path>, goes_on: bool) -> Result<Self, IngestError> {
        let open = |path: &Path| -> Result<_, IngestError> {
            let file = OpenOptions::new().create(true).write(true).append(goes_on).truncate(!goes_on).open(path);
            let file = file.map_err(|source| IngestError::Report { path: path.to_owned(), source })?;
            Ok((path.to_owned(), BufWriter::new(file)))
        };
        Ok(Self { n: 0, first: Vec::new(), file: path.map(open).transpose()? })
    }

    pub fn add(&mut self, refused: Refused) -> Result<(), IngestError> {
        if let Some((path, file)) = &mut self.file {
            let Refused { line, id, error } = &refused;
            let json = json!({"line": line, "id": id, "error": error.message, "field": error.field});
            writeln!(file, "{json}").map_err(|source| IngestError::Report { path: path.clone(), source })?;
        }
        self.n += 1;
        if self.first.len() < MAX_KEPT {
            self.first.push(refused);
        }
        Ok(())
    }

    /// Hands what was added to the operating system: only then may the position move on.
    pub fn flush(&mut self) -> Result<(), IngestError> {
        match &mut self.file {
            Some((path, file)) => file.flush().map_err(|source| IngestError::Report { path: path.clone(), source }),
            None => Ok(()),
        }
    }

    /// How many there were, and the first of them.
    pub fn into_parts(self) -> (usize, Vec<Refused>) {
        (self.n, self.first)
    }
}
