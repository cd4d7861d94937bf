//! CSV: the first row names the fields, each further row is a document.
//!
//! Columns are separated by commas, or by tabs or semicolons where the first row has those and no comma. Quoted values may hold
//! line breaks. What a cell means stands in `cells.rs`.

use std::io::BufRead;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use serde_json::Value as Json;

use super::cells::Columns;
use super::jsonl::without_bom;
use super::{MAX_RECORD_BYTES, ReadError, Record, Records};
use crate::pipeline::ItemError;
use kindred_core::domain::Schema;
use kindred_core::error::ErrorKind;

/// Most columns of a file.
const MAX_COLUMNS: usize = 4_096;

/// A file's documents, row by row.
pub(super) struct Rows<R> {
    cells: Cells<R>,
    columns: Columns,
}

impl<R: BufRead> Rows<R> {
    /// Reads the header.
    pub fn new(mut reader: R, schema: &Schema) -> Result<Self, ReadError> {
        let delimiter = delimiter_of(reader.fill_buf()?);
        let mut cells = Cells::new(reader, delimiter);
        let header = match cells.next()? {
            Some(Row { cells: Ok(_), .. }) => cells.texts().map_err(|e| ReadError::Header(e.message))?,
            Some(Row { cells: Err(e), .. }) => return Err(ReadError::Header(e.message)),
            None => return Err(ReadError::Header("the file is empty: its first row must name the fields".to_owned())),
        };
        let columns = Columns::new(&header, schema).map_err(ReadError::Header)?;
        Ok(Self { cells, columns })
    }
}

impl<R: BufRead> Records for Rows<R> {
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        let Some(Row { line, cells }) = self.cells.next()? else { return Ok(None) };
        let item = cells.and_then(|_| self.cells.texts()).and_then(|cells| self.columns.document(&cells)).map(Json::Object);
        Ok(Some(Record { line, n_bytes: self.cells.n_bytes(), item }))
    }

    fn skip_before(&mut self, line: u64) -> Result<(), ReadError> {
        while self.cells.next_line()? < line {
            if self.cells.next()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn n_read(&self) -> u64 {
        self.cells.n_read
    }
}

/// A comma, unless the first line has none but one of the others.
fn delimiter_of(beginning: &[u8]) -> u8 {
    let first_line = beginning.split(|&b| b == b'\n').next().unwrap_or_default();
    *b",\t;".iter().find(|delimiter| first_line.contains(delimiter)).unwrap_or(&b',')
}

/// Splits bytes into rows of cells, holding one row at a time.
struct Cells<R> {
    reader: R,
    parser: Reader,
    /// The cells of the row one after another, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    n_cells: usize,
    n_read: u64,
    /// Of the next byte, from 1.
    line: u64,
}

/// A row; its cells are kept until the next one is read.
struct Row {
    line: u64,
    cells: Result<(), ItemError>,
}

impl<R: BufRead> Cells<R> {
    fn new(reader: R, delimiter: u8) -> Self {
        let parser = ReaderBuilder::new().delimiter(delimiter).build();
        Self { reader, parser, bytes: vec![0; 4_096], ends: vec![0; 64], n_cells: 0, n_read: 0, line: 1 }
    }

    /// The line on which the next row begins, blank ones left behind.
    fn next_line(&mut self) -> std::io::Result<u64> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let n = buffer.iter().take_while(|&&b| b == b'\n' || b == b'\r').count();
            if n == 0 {
                return Ok(self.line);
            }
            self.consume(n);
        }
    }

    /// The next row. One over a limit is read to its end, but not held.
    fn next(&mut self) -> std::io::Result<Option<Row>> {
        let line = self.next_line()?;
        let (mut n_bytes, mut n_cells, mut is_too_large) = (0, 0, false);
        loop {
            let input = self.reader.fill_buf()?;
            let (result, n_in, n_out, n_ends) = self.parser.read_record(input, &mut self.bytes[n_bytes..], &mut self.ends[n_cells..]);
            self.consume(n_in);
            (n_bytes, n_cells) = (n_bytes + n_out, n_cells + n_ends);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.bytes.len() < MAX_RECORD_BYTES => self.bytes.resize(self.bytes.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() < MAX_COLUMNS => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => (n_bytes, n_cells, is_too_large) = (0, 0, true),
                ReadRecordResult::Record => {
                    self.n_cells = n_cells;
                    let cells = if is_too_large { Err(too_large(line, self.line)) } else { Ok(()) };
                    return Ok(Some(Row { line, cells }));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// The cells of the last row.
    fn texts(&self) -> Result<Vec<&str>, ItemError> {
        let mut start = 0;
        let mut cells = Vec::with_capacity(self.n_cells);
        for (i, &end) in self.ends[..self.n_cells].iter().enumerate() {
            let bytes = &self.bytes[start..end];
            let bytes = if i == 0 { without_bom(bytes) } else { bytes };
            cells.push(std::str::from_utf8(bytes).map_err(|e| {
                let at = e.valid_up_to();
                malformed(format!("value {} of the row is not valid UTF-8 from its byte {at} on: save the file as UTF-8", i + 1))
            })?);
            start = end;
        }
        Ok(cells)
    }

    fn n_bytes(&self) -> usize {
        self.n_cells.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    fn consume(&mut self, n: usize) {
        let buffer = self.reader.fill_buf().unwrap_or_default();
        self.line += buffer[..n].iter().filter(|&&b| b == b'\n').count() as u64;
        self.reader.consume(n);
        self.n_read += n as u64;
    }
}

fn malformed(message: String) -> ItemError {
    ItemError { kind: ErrorKind::Malformed, message, field: None }
}

fn too_large(first_line: u64, last_line: u64) -> ItemError {
    let message = format!(
        "the row from line {first_line} to {last_line} has over {MAX_RECORD_BYTES} bytes or {MAX_COLUMNS} values: is a quote that opens there not closed?"
    );
    ItemError { kind: ErrorKind::TooLarge, message, field: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use kindred_core::domain::CollectionDefinition;

    fn schema() -> Schema {
        let fields = json!({"salary.min": {"type": "number"}, "skills": {"type": "keyword"}});
        let definition: CollectionDefinition = serde_json::from_value(json!({"template": "{title}", "fields": fields})).unwrap();
        definition.check().unwrap().1
    }

    fn read(bytes: &[u8], from: u64) -> Vec<(u64, Result<Json, String>)> {
        // A small buffer, so that rows lie across its ends.
        let mut rows = Rows::new(std::io::BufReader::with_capacity(7, bytes), &schema()).unwrap();
        rows.skip_before(from).unwrap();
        let read = std::iter::from_fn(|| rows.next().unwrap()).map(|r| (r.line, r.item.map_err(|e| e.message))).collect();
        assert_eq!(rows.n_read(), bytes.len() as u64);
        read
    }

    #[test]
    fn rows_are_documents_and_a_bad_one_spoils_itself_alone() {
        let text = b"\xef\xbb\xbfid,title,salary.min,skills\r\n1,Nurse,40000,triage|wards\r\n\r\n2,\"Welder,\r\nnights\",,\r\n3,x\r\n4,\xff,1,a\r\n5,\"He said \"\"hi\"\"\",1.5,\r\n";
        let rows = read(text, 0);
        assert_eq!(rows[0], (2, Ok(json!({"id": "1", "title": "Nurse", "salary": {"min": 40000}, "skills": ["triage", "wards"]}))));
        assert_eq!(rows[1], (4, Ok(json!({"id": "2", "title": "Welder,\r\nnights"}))), "empty is absent");
        assert!(rows[2].0 == 6 && rows[2].1.as_ref().unwrap_err().contains("2 values"), "{rows:?}");
        assert!(rows[3].0 == 7 && rows[3].1.as_ref().unwrap_err().contains("UTF-8"), "{rows:?}");
        assert_eq!(rows[4], (8, Ok(json!({"id": "5", "title": "He said \"hi\"", "salary": {"min": 1.5}}))));
        assert_eq!(rows.len(), 5);
        for from in 2..10 {
            let rest: Vec<_> = rows.iter().filter(|(line, _)| *line >= from).cloned().collect();
            assert_eq!(read(text, from), rest, "from line {from}");
        }
    }

    #[test]
    fn other_delimiters_are_noticed() {
        assert_eq!(read(b"id;title\n1;a, b\n", 0), [(2, Ok(json!({"id": "1", "title": "a, b"})))]);
        assert_eq!(read(b"id\ttitle\n1\ta\n", 0), [(2, Ok(json!({"id": "1", "title": "a"})))]);
    }

    #[test]
    fn an_open_quote_is_not_held_in_memory() {
        let text = [b"id,title\n1,a\n2,\"open\n".as_slice(), &vec![b'x'; MAX_RECORD_BYTES + 5], b"\n\"\n3,b\n"].concat();
        let mut rows = Rows::new(std::io::Cursor::new(text), &schema()).unwrap();
        let read: Vec<_> = std::iter::from_fn(|| rows.next().unwrap()).collect();
        let summary: Vec<_> = read.iter().map(|r| (r.line, r.item.is_ok())).collect();
        assert_eq!(summary, [(2, true), (3, false), (6, true)]);
        assert!(read[1].item.as_ref().unwrap_err().message.contains("quote"));
        assert!(rows.cells.bytes.len() <= MAX_RECORD_BYTES);
    }

    #[test]
    fn headers_are_checked() {
        for (text, word) in [("", "empty"), ("title,x\n", "\"id\""), ("id,a,a\n", "twice"), ("id,a..b\n", "a..b")] {
            let refused = Rows::new(text.as_bytes(), &schema()).err().unwrap().to_string();
            assert!(refused.contains(word), "{text:?}: {refused}");
        }
    }
}
