//! Lines of JSON: one document a line, blank lines skipped. One bad line never spoils its neighbours.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::domain::{CollectionName, SeqNo};
use crate::error::ErrorKind;
use crate::pipeline::{Incoming, ItemError, Outcome, PipelineError, WritePipeline};
use crate::telemetry::Progress;

/// Lines that are written together.
const BATCH: usize = 1_024;
/// Longest line of a file.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Why a file could not be ingested to its end.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

impl IngestError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::NotFound,
            Self::Pipeline(e) => e.kind(),
        }
    }
}

/// What became of a file.
#[derive(Debug, Default)]
pub struct IngestReport {
    pub n_created: usize,
    pub n_updated: usize,
    pub n_unchanged: usize,
    pub n_encoded: usize,
    pub seqno: SeqNo,
    pub refused: Vec<Refused>,
}

/// A line that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// From 1.
    pub line: usize,
    pub id: Option<String>,
    pub error: ItemError,
}

/// The items of a body of lines.
pub fn parse_lines(bytes: &[u8]) -> Vec<Incoming> {
    bytes.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty()).map(parse_line).collect()
}

/// The items of a JSON array. Items are read one by one, so that a number out of range spoils its own item alone.
///
/// # Errors
/// The text of the JSON error when it is no array at all.
pub fn parse_array(bytes: &[u8]) -> Result<Vec<Incoming>, String> {
    let items: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    Ok(items.into_iter().map(|item| parse_line(item.get().as_bytes())).collect())
}

fn parse_line(line: &[u8]) -> Incoming {
    let malformed = |message: String| ItemError { kind: ErrorKind::Malformed, message, field: None };
    let text =
        std::str::from_utf8(line).map_err(|e| malformed(format!("the line is not valid UTF-8 from its byte {} on", e.valid_up_to())))?;
    serde_json::from_str(text).map_err(|e| malformed(format!("the document is not valid JSON: {e}")))
}

/// Ingests a file into a collection, a batch at a time. Running it again goes on where it stopped: what is there already is not embedded again.
///
/// # Errors
/// [`IngestError`] when reading or writing fails; single bad lines are in the report.
pub async fn file(write: &WritePipeline, collection: &CollectionName, path: &Path) -> Result<IngestReport, IngestError> {
    let failed = |source| IngestError::Read { path: path.to_owned(), source };
    let mut lines = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let progress = Progress::new(format!("ingesting {collection}"), count_lines(path).map_err(failed)?);
    let mut report = IngestReport::default();
    let mut line_number = 0;
    loop {
        let batch = next_batch(&mut lines, &mut line_number).map_err(failed)?;
        if batch.is_empty() {
            progress.finish();
            return Ok(report);
        }
        let (numbers, items): (Vec<usize>, Vec<Incoming>) = batch.into_iter().unzip();
        let written = write.put(collection, items, &progress).await?;
        report.seqno = written.seqno;
        report.n_encoded += written.n_encoded;
        for (line, outcome) in numbers.into_iter().zip(written.outcomes) {
            match outcome {
                Outcome::Created(_) => report.n_created += 1,
                Outcome::Updated(_) => report.n_updated += 1,
                Outcome::Unchanged(_) => report.n_unchanged += 1,
                Outcome::Refused { id, error } => report.refused.push(Refused { line, id, error }),
            }
        }
    }
}

fn count_lines(path: &Path) -> std::io::Result<u64> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut n = 0;
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok(n);
        }
        n += buffer.iter().filter(|&&b| b == b'\n').count() as u64;
        let len = buffer.len();
        file.consume(len);
    }
}

/// The next lines that are not blank, with their numbers. A line over the limit is skipped and reported, not held in memory.
fn next_batch(lines: &mut impl BufRead, line_number: &mut usize) -> std::io::Result<Vec<(usize, Incoming)>> {
    let mut batch = Vec::new();
    let mut line = Vec::new();
    while batch.len() < BATCH {
        line.clear();
        let n = lines.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)?;
        if n == 0 {
            break;
        }
        *line_number += 1;
        if n == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
            lines.skip_until(b'\n')?;
            let message = format!("the line is over the limit of {MAX_LINE_BYTES} bytes");
            batch.push((*line_number, Err(ItemError { kind: ErrorKind::TooLarge, message, field: None })));
        } else if !line.trim_ascii().is_empty() {
            batch.push((*line_number, parse_line(&line)));
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_spoil_nothing_but_themselves() {
        let items = parse_lines(b"{\"id\":1}\n\n{oops\n\xff\xfe\n{\"id\":1e999}\n{\"id\":2}");
        let good: Vec<bool> = items.iter().map(Result::is_ok).collect();
        assert_eq!(good, [true, false, false, false, true]);
        assert!(items[2].as_ref().unwrap_err().message.contains("UTF-8"));
        let items = parse_array(br#"[{"id":1}, {"id":1e999}, 3]"#).unwrap();
        assert_eq!(items.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true], "3 is JSON, if no document");
        assert!(parse_array(b"{}").is_err());
    }

    #[test]
    fn lines_of_a_file_keep_their_numbers() {
        let mut long = vec![b'x'; MAX_LINE_BYTES + 5];
        long.extend(b"\n{\"id\":3}\n");
        let bytes = [b"\n{\"id\":1}\r\n".as_slice(), &long].concat();
        let mut number = 0;
        let batch = next_batch(&mut bytes.as_slice(), &mut number).unwrap();
        assert_eq!(batch.iter().map(|(n, item)| (*n, item.is_ok())).collect::<Vec<_>>(), [(2, true), (3, false), (4, true)]);
    }
}
