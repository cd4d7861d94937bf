//! Parquet files, as data pipelines write them.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, StructArray, TimestampMillisecondArray};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use serde_json::json;

use crate::bulk::{best, kindred, piped, says};

/// Rows with nested values, one of which does not fit.
fn write_parquet(path: &Path) {
    let mut skills = ListBuilder::new(StringBuilder::new());
    skills.append_value([Some("triage"), Some("patient care")]);
    skills.append_null();
    skills.append_value([Some("baking")]);
    let number = |name: &str, values: [Option<f64>; 3]| {
        (Arc::new(Field::new(name, DataType::Float64, true)), Arc::new(Float64Array::from(values.to_vec())) as ArrayRef)
    };
    let city = (
        Arc::new(Field::new("city", DataType::Utf8, true)),
        Arc::new(StringArray::from(vec![Some("Berlin"), None, Some("Paris")])) as ArrayRef,
    );
    let lat = number("lat", [Some(52.52), Some(91.0), Some(48.86)]);
    let lon = number("lon", [Some(13.405), Some(0.0), Some(f64::NAN)]);
    // A place of which half is not known is refused; nothing of it is known in the last row.
    let lat = (lat.0, Arc::new(Float64Array::from(vec![Some(52.52), Some(91.0), None])) as ArrayRef);
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from(vec!["nurse", "welder", "chef"])) as ArrayRef),
        ("title", Arc::new(StringArray::from(vec!["Nurse", "Welder", "Pastry chef"]))),
        ("skills", Arc::new(skills.finish())),
        ("location", Arc::new(StructArray::from(vec![city, lat, lon]))),
        ("remote", Arc::new(BooleanArray::from(vec![Some(false), None, Some(true)]))),
        ("posted_at", Arc::new(TimestampMillisecondArray::from(vec![1_793_491_200_000, 0, 1_795_161_600_000]).with_timezone("UTC"))),
    ])
    .unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_brings_nested_values_and_needs_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.parquet");
    write_parquet(&path);
    let output = kindred(dir.path(), &["ingest", "jobs", "jobs.parquet"]);
    says(&output, 3, &["jobs.parquet:2 (welder): field \"location\"", "2 created", "1 refused"]);
    let chef = best(dir.path(), "work", json!({"must": [{"key": "posted_at", "range": {"gte": "2026-11-15"}}]}));
    assert_eq!(chef["fields"]["location"], json!({"city": "Paris"}));
    assert_eq!(chef["fields"]["posted_at"], "2026-11-20T08:00:00Z");
    let nurse = best(dir.path(), "work", json!({"must": [{"key": "skills", "match": {"value": "triage"}}]}));
    assert_eq!(nurse["fields"]["location"], json!({"city": "Berlin", "lat": 52.52, "lon": 13.405}));

    let bytes = fs::read(&path).unwrap();
    says(&piped(dir.path(), &["ingest", "jobs", "--format", "parquet"], &bytes), 1, &["Save it to a file first"]);
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    says(&kindred(dir.path(), &["ingest", "jobs", "jobs.parquet"]), 1, &["cannot read jobs.parquet", "not a Parquet file"]);
}
