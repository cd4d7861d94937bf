//! Parquet: each row is a document. What a value becomes stands in `columns.rs`.

use std::fs::File;
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use serde_json::{Map, Value as Json};

use super::{ReadError, Record, Records, columns, nest};
use crate::pipeline::ItemError;
use kindred_core::error::{ErrorKind, unless_it_panics};

/// Rows that are decoded together: few, because rows may be long.
const ROWS: usize = 256;

/// A file's documents, row by row. A row's "line" is its number, from 1.
pub(super) struct Table {
    file: Arc<File>,
    reader: ParquetRecordBatchReader,
    batch: RecordBatch,
    /// Of the batch, the row to read next.
    at: usize,
    n_read: u64,
    n_rows: u64,
}

impl Table {
    /// Reads the file's end, where its columns are described.
    pub fn new(file: File) -> Result<Self, ReadError> {
        let file = Arc::new(file);
        let builder = builder(&file)?;
        let schema = Arc::clone(builder.schema());
        if schema.field_with_name("id").is_err() {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(ReadError::Header(format!("the file has no column \"id\"; it has {}", names.join(", "))));
        }
        for field in schema.fields() {
            columns::check(field.data_type()).map_err(|what| {
                ReadError::Header(format!("column {:?} holds {what}, which has no place in a document: leave it out", field.name()))
            })?;
        }
        let n_rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
        let reader = builder.build()?;
        Ok(Self { file, reader, batch: RecordBatch::new_empty(schema), at: 0, n_read: 0, n_rows })
    }

    /// All rows of the file.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    fn document(&self, row: usize) -> Result<Json, ItemError> {
        let mut fields = Map::new();
        for (field, column) in self.batch.schema_ref().fields().iter().zip(self.batch.columns()) {
            let value = columns::value(column.as_ref(), row).map_err(|reason| ItemError {
                kind: ErrorKind::Invalid,
                message: format!("field {:?} {reason}", field.name()),
                field: Some(field.name().clone()),
            })?;
            if !value.is_null() {
                nest::insert(&mut fields, field.name(), value)?;
            }
        }
        Ok(Json::Object(fields))
    }
}

fn builder(file: &Arc<File>) -> Result<ParquetRecordBatchReaderBuilder<File>, ReadError> {
    let file = file.try_clone()?;
    Ok(guarded(|| ParquetRecordBatchReaderBuilder::try_new(file))?.with_batch_size(ROWS))
}

/// Over some damaged files the crate panics (60.1 divides by zero: fuzz/seeds/records). That is an error as any other.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    unless_it_panics(read).unwrap_or_else(|| Err(ParquetError::General("it is damaged".to_owned())))
}

impl Records for Table {
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        while self.at == self.batch.num_rows() {
            match guarded(|| self.reader.next().transpose().map_err(ParquetError::from))? {
                None => return Ok(None),
                Some(batch) => (self.batch, self.at) = (batch, 0),
            }
        }
        let item = self.document(self.at);
        self.at += 1;
        self.n_read += 1;
        let n_bytes = self.batch.get_array_memory_size() / self.batch.num_rows();
        Ok(Some(Record { line: self.n_read, n_bytes, item }))
    }

    fn skip_before(&mut self, line: u64) -> Result<(), ReadError> {
        let n_skipped = line.saturating_sub(1).min(self.n_rows);
        if n_skipped > self.n_read {
            let offset = usize::try_from(n_skipped).map_err(|_| ReadError::Header("the file has too many rows".to_owned()))?;
            self.reader = builder(&self.file)?.with_offset(offset).build()?;
            (self.batch, self.at, self.n_read) = (RecordBatch::new_empty(self.batch.schema()), 0, n_skipped);
        }
        Ok(())
    }

    fn n_read(&self) -> u64 {
        self.n_read
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use arrow_array::builder::{ListBuilder, StringBuilder};
    use arrow_array::types::Float32Type;
    use arrow_array::{ArrayRef, Int64Array, ListArray, StringArray, StructArray, TimestampNanosecondArray};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::WriterProperties;
    use serde_json::json;

    use super::*;

    fn batch(n_rows: i64) -> RecordBatch {
        let mut skills = ListBuilder::new(StringBuilder::new());
        (0..n_rows).for_each(|row| skills.append_value((0..row % 3).map(|i| Some(format!("skill {i}")))));
        let places = StructArray::from(vec![(
            Arc::new(arrow_schema::Field::new("city", arrow_schema::DataType::Utf8, true)),
            Arc::new(StringArray::from_iter((0..n_rows).map(|row| (row % 2 == 0).then_some("Bonn")))) as ArrayRef,
        )]);
        let embedding = ListArray::from_iter_primitive::<Float32Type, _, _>((0..n_rows).map(|row| Some([Some(row as f32), Some(0.5)])));
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from_iter_values(0..n_rows)) as ArrayRef),
            ("skills", Arc::new(skills.finish())),
            ("location", Arc::new(places)),
            ("location.country", Arc::new(StringArray::from_iter_values((0..n_rows).map(|_| "DE")))),
            ("posted_at", Arc::new(TimestampNanosecondArray::from_iter_values((0..n_rows).map(|row| row * 1_000_000_000)))),
            ("embedding", Arc::new(embedding)),
        ])
        .unwrap()
    }

    fn file(batch: &RecordBatch, compression: Compression) -> File {
        let file = tempfile::tempfile().unwrap();
        let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(300)).build();
        let mut writer = ArrowWriter::try_new(file.try_clone().unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        file
    }

    #[test]
    fn rows_are_documents_from_any_row_on() {
        let batch = batch(1_000);
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default()), Compression::LZ4_RAW] {
            let file = file(&batch, compression);
            for from in [0, 1, 2, 257, 301, 1_000, 1_001, 5_000] {
                let mut table = Table::new(file.try_clone().unwrap()).unwrap();
                assert_eq!(table.n_rows(), 1_000);
                table.skip_before(from).unwrap();
                let read: Vec<Record> = std::iter::from_fn(|| table.next().unwrap()).collect();
                let first = from.clamp(1, 1_001);
                assert_eq!(read.len() as u64, 1_001 - first, "{compression} from {from}");
                assert!(read.iter().zip(first..).all(|(record, line)| record.line == line && record.n_bytes > 0));
                assert_eq!(table.n_read(), 1_000);
                if let Some(Record { item: Ok(json), .. }) = read.iter().find(|record| record.line == 303) {
                    assert_eq!(
                        *json,
                        json!({"id": 302, "skills": ["skill 0", "skill 1"], "location": {"city": "Bonn", "country": "DE"}, "posted_at": "1970-01-01T00:05:02Z", "embedding": [302.0, 0.5]})
                    );
                }
            }
        }
    }

    #[test]
    fn what_the_crate_panics_over_is_an_error() {
        let seed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/records/parquet-divides-by-zero")).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(seed.strip_prefix(b"p").unwrap()).unwrap();
        let mut table = Table::new(file).unwrap();
        assert!(matches!(table.next(), Err(ReadError::Parquet(_))));
    }

    #[test]
    fn what_is_no_table_of_documents_says_so() {
        let batch = batch(3).project(&[1]).unwrap();
        let refused = Table::new(file(&batch, Compression::SNAPPY)).err().unwrap().to_string();
        assert!(refused.contains("no column \"id\"; it has skills"), "{refused}");
        let text = tempfile::tempfile().unwrap();
        assert!(matches!(Table::new(text), Err(ReadError::Parquet(_))));
    }
}
