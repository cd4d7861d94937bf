//! Lines of JSON: one document a line, blank lines skipped. One bad line never spoils its neighbours.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::domain::{CollectionName, SeqNo};
use crate::error::ErrorKind;
use crate::pipeline::{ItemError, Outcome, PipelineError, WritePipeline, WriteRequest};
use crate::telemetry::{Cancel, Progress};

/// Lines that are written together.
const BATCH: usize = 1_024;
/// Bytes of lines that are held at once.
const BATCH_BYTES: usize = 32 << 20;
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

/// A document's JSON, or why it could not be read.
pub type ReadDocument = Result<Json, ItemError>;

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

/// The items of a body: a JSON array, lines of JSON, or one object over several lines.
///
/// # Errors
/// The text of the JSON error of a broken array.
pub fn parse_body(bytes: &[u8]) -> Result<Vec<ReadDocument>, String> {
    let bytes = without_bom(bytes).trim_ascii();
    if bytes.starts_with(b"[") {
        return parse_array(bytes);
    }
    let first_line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let is_one_object =
        first_line.len() < bytes.len() && parse_line(first_line).is_err() && serde_json::from_slice::<&RawValue>(bytes).is_ok();
    Ok(if is_one_object { vec![parse_line(bytes)] } else { parse_lines(bytes) })
}

fn parse_lines(bytes: &[u8]) -> Vec<ReadDocument> {
    bytes.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty()).map(parse_line).collect()
}

/// Items are read one by one, so that a number out of range spoils its own item alone.
fn parse_array(bytes: &[u8]) -> Result<Vec<ReadDocument>, String> {
    let items: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    Ok(items.into_iter().map(|item| parse_line(item.get().as_bytes())).collect())
}

fn parse_line(line: &[u8]) -> ReadDocument {
    let malformed = |message: String| ItemError { kind: ErrorKind::Malformed, message, field: None };
    let text =
        std::str::from_utf8(line).map_err(|e| malformed(format!("the line is not valid UTF-8 from its byte {} on", e.valid_up_to())))?;
    serde_json::from_str(text).map_err(|e| malformed(format!("the document is not valid JSON: {e}")))
}

/// Ingests a file into a collection, a batch at a time, until it is cancelled. Running it again goes on where it stopped: what is
/// there already is not embedded again.
///
/// # Errors
/// [`IngestError`] when reading or writing fails; single bad lines are in the report.
pub async fn file(write: &WritePipeline, collection: &CollectionName, path: &Path, cancel: &Cancel) -> Result<IngestReport, IngestError> {
    let failed = |source| IngestError::Read { path: path.to_owned(), source };
    let opened = File::open(path).map_err(failed)?;
    // A pipe can be read only once: how long it will be is not known.
    let is_file = opened.metadata().map_err(failed)?.is_file();
    let n_lines = if is_file { count_lines(path).map_err(failed)? } else { 0 };
    let progress = Progress::new(format!("ingesting {collection}"), n_lines).cancelled_by(cancel);
    let mut lines = Lines::new(BufReader::with_capacity(1 << 20, opened));
    let mut report = IngestReport::default();
    loop {
        let batch = lines.next_batch().map_err(failed)?;
        if batch.is_empty() {
            progress.finish();
            return Ok(report);
        }
        let (numbers, items): (Vec<usize>, Vec<ReadDocument>) = batch.into_iter().unzip();
        let written = write.write(collection, WriteRequest::put(items), &progress).await?;
        report.seqno = written.seqno;
        report.n_encoded += written.n_encoded;
        for (line, outcome) in numbers.into_iter().zip(written.outcomes) {
            match outcome {
                Outcome::Created(..) => report.n_created += 1,
                Outcome::Updated(..) => report.n_updated += 1,
                Outcome::Unchanged(..) => report.n_unchanged += 1,
                Outcome::Deleted(..) | Outcome::NotFound(_) => {}
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

/// A file's documents, batch by batch.
struct Lines<R> {
    reader: R,
    line_number: usize,
    /// Read, but of the next batch.
    pending: Option<(usize, ReadDocument)>,
}

impl<R: BufRead> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader, line_number: 0, pending: None }
    }

    /// The next lines that are not blank, with their numbers. A batch ends before an id that it has already: a file is a
    /// feed, and of two lines with one id the later one counts.
    fn next_batch(&mut self) -> std::io::Result<Vec<(usize, ReadDocument)>> {
        let (mut batch, mut ids, mut n_bytes) = (Vec::new(), HashSet::new(), 0);
        while batch.len() < BATCH && n_bytes < BATCH_BYTES {
            let (line, item) = match self.pending.take() {
                Some(pending) => pending,
                None => match self.next_line()? {
                    Some((line, item, len)) => {
                        n_bytes += len;
                        (line, item)
                    }
                    None => break,
                },
            };
            if let Some(id) = item.as_ref().ok().and_then(|json| json.get("id"))
                && !ids.insert(id.to_string())
            {
                self.pending = Some((line, item));
                break;
            }
            batch.push((line, item));
        }
        Ok(batch)
    }

    /// The next line that is not blank: its number, its document, its length. One over the limit is skipped, not held in memory.
    fn next_line(&mut self) -> std::io::Result<Option<(usize, ReadDocument, usize)>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = self.reader.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)?;
            if n == 0 {
                return Ok(None);
            }
            self.line_number += 1;
            if n == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
                self.reader.skip_until(b'\n')?;
                let message = format!("the line is over the limit of {MAX_LINE_BYTES} bytes");
                return Ok(Some((self.line_number, Err(ItemError { kind: ErrorKind::TooLarge, message, field: None }), 0)));
            }
            let text = if self.line_number == 1 { without_bom(&line) } else { &line };
            if !text.trim_ascii().is_empty() {
                return Ok(Some((self.line_number, parse_line(text), n)));
            }
        }
    }
}

/// Some editors begin a file with a mark of its encoding.
fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
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
        assert_eq!(parse_body(b"\xef\xbb\xbf{\n \"id\": 1\n}\n").unwrap(), [Ok(serde_json::json!({"id": 1}))]);
        assert_eq!(parse_body(b" [{\"id\": 1}] ").unwrap().len(), 1);
        assert_eq!(parse_body(b"{oops\n{\"id\": 1}").unwrap().len(), 2);
    }

    #[test]
    fn of_two_lines_with_one_id_the_later_counts() {
        let mut lines = Lines::new(&b"\xef\xbb\xbf{\"id\":1}\n{\"id\":2}\n{\"id\":1}\n{\"id\":3}\n"[..]);
        let mut numbers = || lines.next_batch().unwrap().iter().map(|(line, _)| *line).collect::<Vec<_>>();
        assert_eq!((numbers(), numbers(), numbers()), (vec![1, 2], vec![3, 4], vec![]));
    }

    #[test]
    fn lines_of_a_file_keep_their_numbers() {
        let mut long = vec![b'x'; MAX_LINE_BYTES + 5];
        long.extend(b"\n{\"id\":3}\n");
        let bytes = [b"\n{\"id\":1}\r\n".as_slice(), &long].concat();
        let batch = Lines::new(bytes.as_slice()).next_batch().unwrap();
        assert_eq!(batch.iter().map(|(n, item)| (*n, item.is_ok())).collect::<Vec<_>>(), [(2, true), (3, false), (4, true)]);
    }
}
