//! Lines of JSON: one document a line, blank lines skipped. One bad line never spoils its neighbours.

use std::io::{BufRead, Read};

use serde_json::value::RawValue;

use super::{MAX_RECORD_BYTES, ReadDocument, ReadError, Record, Records};
use crate::pipeline::ItemError;
use kindred_core::error::ErrorKind;

/// Why a body has no items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// The text of the JSON error of a broken array.
    Array(String),
    /// It has more items than it may. They are counted before any is parsed.
    TooMany { actual: usize },
}

/// Reads the items of a body: a JSON array, lines of JSON, or one object over several lines.
///
/// # Errors
/// [`BodyError`].
pub fn parse_body(bytes: &[u8], max_items: usize) -> Result<Vec<ReadDocument>, BodyError> {
    let bytes = without_bom(bytes).trim_ascii();
    if bytes.starts_with(b"[") {
        return parse_array(bytes, max_items);
    }
    let first_line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let is_one_object =
        first_line.len() < bytes.len() && parse_line(first_line).is_err() && serde_json::from_slice::<&RawValue>(bytes).is_ok();
    if is_one_object {
        return Ok(vec![parse_line(bytes)]);
    }
    within(lines(bytes).count(), max_items)?;
    Ok(lines(bytes).map(parse_line).collect())
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty())
}

fn within(actual: usize, max_items: usize) -> Result<(), BodyError> {
    if actual <= max_items { Ok(()) } else { Err(BodyError::TooMany { actual }) }
}

/// Items are read one by one, so that a number out of range spoils its own item alone.
fn parse_array(bytes: &[u8], max_items: usize) -> Result<Vec<ReadDocument>, BodyError> {
    let items: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|e| BodyError::Array(e.to_string()))?;
    within(items.len(), max_items)?;
    Ok(items.into_iter().map(|item| parse_line(item.get().as_bytes())).collect())
}

fn parse_line(line: &[u8]) -> ReadDocument {
    let malformed = |message: String| ItemError { kind: ErrorKind::Malformed, message, field: None };
    let text =
        std::str::from_utf8(line).map_err(|e| malformed(format!("the line is not valid UTF-8 from its byte {} on", e.valid_up_to())))?;
    serde_json::from_str(text).map_err(|e| malformed(format!("the document is not valid JSON: {e}")))
}

/// A file's documents, line by line.
pub(super) struct Lines<R> {
    reader: R,
    line_number: u64,
    n_read: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, line_number: 0, n_read: 0 }
    }
}

impl<R: BufRead> Records for Lines<R> {
    /// The next line that is not blank. One over the limit is skipped, not held in memory.
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = self.reader.by_ref().take(MAX_RECORD_BYTES as u64).read_until(b'\n', &mut line)?;
            if n == 0 {
                return Ok(None);
            }
            self.line_number += 1;
            self.n_read += n as u64;
            if n == MAX_RECORD_BYTES && line.last() != Some(&b'\n') {
                self.n_read += self.reader.skip_until(b'\n')? as u64;
                let message = format!("the line is over the limit of {MAX_RECORD_BYTES} bytes");
                let item = Err(ItemError { kind: ErrorKind::TooLarge, message, field: None });
                return Ok(Some(Record { line: self.line_number, n_bytes: 0, item }));
            }
            let text = if self.line_number == 1 { without_bom(&line) } else { &line };
            if !text.trim_ascii().is_empty() {
                return Ok(Some(Record { line: self.line_number, n_bytes: n, item: parse_line(text) }));
            }
        }
    }

    fn skip_before(&mut self, line: u64) -> Result<(), ReadError> {
        while self.line_number + 1 < line {
            match self.reader.skip_until(b'\n')? {
                0 => break,
                n => self.n_read += n as u64,
            }
            self.line_number += 1;
        }
        Ok(())
    }

    fn n_read(&self) -> u64 {
        self.n_read
    }
}

/// Some editors begin a file with a mark of its encoding.
pub(super) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_spoil_nothing_but_themselves() {
        let items = parse_body(b"{\"id\":1}\n\n{oops\n\xff\xfe\n{\"id\":1e999}\n{\"id\":2}", 5).unwrap();
        let good: Vec<bool> = items.iter().map(Result::is_ok).collect();
        assert_eq!(good, [true, false, false, false, true]);
        assert!(items[2].as_ref().unwrap_err().message.contains("UTF-8"));
        let items = parse_array(br#"[{"id":1}, {"id":1e999}, 3]"#, 3).unwrap();
        assert_eq!(items.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true], "3 is JSON, if no document");
        assert!(parse_array(b"{}", 1).is_err());
        assert_eq!(parse_body(b"\xef\xbb\xbf{\n \"id\": 1\n}\n", 1).unwrap(), [Ok(serde_json::json!({"id": 1}))]);
        assert_eq!(parse_body(b" [{\"id\": 1}] ", 1).unwrap().len(), 1);
        assert_eq!(parse_body(b"{oops\n{\"id\": 1}", 2).unwrap().len(), 2);
        for body in [b"{}\n{}\n\n{}".as_slice(), b"[{}, {}, {}]"] {
            assert_eq!(parse_body(body, 2), Err(BodyError::TooMany { actual: 3 }));
        }
    }

    #[test]
    fn lines_of_a_file_keep_their_numbers() {
        let mut long = vec![b'x'; MAX_RECORD_BYTES + 5];
        long.extend(b"\n{\"id\":3}\n");
        let bytes = [b"\xef\xbb\xbf\n{\"id\":1}\r\n".as_slice(), &long].concat();
        let read = |from| {
            let mut lines = Lines::new(bytes.as_slice());
            lines.skip_before(from).unwrap();
            let read: Vec<_> = std::iter::from_fn(|| lines.next().unwrap()).map(|record| (record.line, record.item.is_ok())).collect();
            assert_eq!(lines.n_read(), bytes.len() as u64);
            read
        };
        assert_eq!(read(0), [(2, true), (3, false), (4, true)]);
        assert_eq!(read(3), [(3, false), (4, true)], "as when they are read from the beginning");
        assert_eq!(read(9), []);
    }
}
