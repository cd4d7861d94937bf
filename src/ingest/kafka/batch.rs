//! Records that are written together, and what a collection can make of each.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value as Json;

use crate::pipeline::{Item, ItemError};
use kindred_core::domain::DocumentId;

/// A message of a topic.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Record {
    pub partition: i32,
    pub offset: u64,
    /// When it was produced, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    /// `None`: the document is deleted. Of a value over the limit only the beginning is kept.
    pub value: Option<Vec<u8>>,
    pub n_value_bytes: usize,
}

/// Why a record cannot become a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For the metric and for machines: key, size, utf8, json, id, document.
    pub reason: &'static str,
    pub message: String,
}

impl From<ItemError> for Refusal {
    fn from(e: ItemError) -> Self {
        Self { reason: "document", message: e.message }
    }
}

/// Records in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Batch {
    records: Vec<Record>,
    refused: HashSet<usize>,
    n_bytes: usize,
    next: BTreeMap<i32, u64>,
}

impl Batch {
    pub fn push(&mut self, record: Record) {
        self.n_bytes += record.value.as_ref().map_or(0, Vec::len);
        self.next.insert(record.partition, record.offset + 1);
        self.records.push(record);
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// By partition, the offset of the first record after this batch.
    pub fn next(&self) -> &BTreeMap<i32, u64> {
        &self.next
    }

    pub fn record(&self, index: usize) -> &Record {
        &self.records[index]
    }

    /// What was not refused.
    pub fn taken(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().enumerate().filter(|(index, _)| !self.refused.contains(index)).map(|(_, record)| record)
    }

    /// Leaves a record out; if it hid an earlier one of the same key, that one counts again.
    pub fn refuse(&mut self, index: usize) {
        self.refused.insert(index);
    }

    /// The last record of each key: its number and what it says. Writing these is writing all, for each replaces the whole document.
    pub fn changes(&self, max_value_bytes: usize) -> Vec<(usize, Result<Item, Refusal>)> {
        let mut last: HashMap<&[u8], usize> = HashMap::new();
        let live = || self.records.iter().enumerate().filter(|(index, _)| !self.refused.contains(index));
        for (index, record) in live() {
            if let Some(key) = &record.key {
                last.insert(key, index);
            }
        }
        let counts = |(index, record): &(usize, &Record)| record.key.as_deref().is_none_or(|key| last[key] == *index);
        live().filter(counts).map(|(index, record)| (index, parse(record, max_value_bytes))).collect()
    }
}

/// What a record says.
fn parse(record: &Record, max_value_bytes: usize) -> Result<Item, Refusal> {
    let refusal = |reason, message| Refusal { reason, message };
    let key = match record.key.as_deref().map(std::str::from_utf8) {
        None => return Err(refusal("key", "the record has no key: the key is the document's id".to_owned())),
        Some(Err(_)) => return Err(refusal("key", "the key is not valid UTF-8: it is the document's id".to_owned())),
        Some(Ok(key)) => key,
    };
    let id = DocumentId::new(key).map_err(|e| refusal("key", format!("the key is not a document's id: {e}")))?;
    let Some(value) = &record.value else { return Ok(Item::Delete(id)) };
    if record.n_value_bytes > max_value_bytes {
        let message = format!("the value has {} bytes, over the limit of {max_value_bytes} (kafka.max_value_bytes)", record.n_value_bytes);
        return Err(refusal("size", message));
    }
    let text = std::str::from_utf8(value)
        .map_err(|e| refusal("utf8", format!("the value is not valid UTF-8 from its byte {} on", e.valid_up_to())))?;
    let json: Json = serde_json::from_str(text).map_err(|e| refusal("json", format!("the value is not valid JSON: {e}")))?;
    let Json::Object(mut document) = json else {
        return Err(refusal("json", "the value must be a JSON object, the document (an empty value deletes it)".to_owned()));
    };
    match document.get("id") {
        None | Some(Json::Null) => drop(document.insert("id".to_owned(), Json::String(key.to_owned()))),
        Some(Json::String(id)) if id == key => {}
        Some(Json::Number(id)) if id.to_string() == key => {}
        Some(id) => {
            return Err(refusal("id", format!("the document's \"id\" is {id}, but the record's key is {key:?}: they must be equal")));
        }
    }
    Ok(Item::Put(Json::Object(document)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(offset: u64, key: &str, value: &str) -> Record {
        let value = (!value.is_empty()).then(|| value.as_bytes().to_vec());
        let n_value_bytes = value.as_ref().map_or(0, Vec::len);
        Record { offset, key: Some(key.as_bytes().to_vec()), value, n_value_bytes, ..Record::default() }
    }

    #[test]
    fn a_record_is_a_document_or_a_deletion() {
        let id = DocumentId::new("a").unwrap();
        assert_eq!(parse(&record(0, "a", ""), 10), Ok(Item::Delete(id)));
        assert_eq!(parse(&record(0, "a", r#"{"x":1}"#), 10), Ok(Item::Put(json!({"x": 1, "id": "a"}))));
        assert_eq!(parse(&record(0, "a", r#"{"id":"a"}"#), 10), Ok(Item::Put(json!({"id": "a"}))));
        assert_eq!(parse(&record(0, "7", r#"{"id":7}"#), 10), Ok(Item::Put(json!({"id": 7}))));
    }

    #[test]
    fn what_is_neither_is_refused_with_a_reason() {
        for (key, value, reason) in [
            ("a", "{", "json"),
            ("a", "[1]", "json"),
            ("a", "null", "json"),
            ("a", r#"{"id":"b"}"#, "id"),
            ("7", r#"{"id":7.0}"#, "id"),
            ("", "{}", "key"),
            ("a\n", "{}", "key"),
            ("a", r#"{"text":"far too long"}"#, "size"),
        ] {
            let refusal = parse(&record(0, key, value), 20).unwrap_err();
            assert_eq!(refusal.reason, reason, "{key:?} {value}: {refusal:?}");
        }
        let binary = Record { value: Some(vec![b'{', 0xff]), ..record(0, "a", "x") };
        assert_eq!(parse(&binary, 20).unwrap_err().message, "the value is not valid UTF-8 from its byte 1 on");
        assert_eq!(parse(&Record { key: None, ..record(0, "a", "{}") }, 20).unwrap_err().reason, "key");
        assert_eq!(parse(&Record { key: Some(vec![0xff]), ..record(0, "a", "{}") }, 20).unwrap_err().reason, "key");
    }

    #[test]
    fn the_last_record_of_a_key_counts_and_the_one_before_it_if_that_is_refused() {
        let mut batch = Batch::default();
        for (offset, key, value) in [(5, "a", r#"{"n":1}"#), (6, "b", r#"{"n":2}"#), (7, "a", "{"), (9, "a", r#"{"id":"c"}"#)] {
            batch.push(record(offset, key, value));
        }
        batch.push(Record { partition: 3, key: None, ..record(2, "", "{}") });
        assert_eq!(batch.next(), &BTreeMap::from([(0, 10), (3, 3)]));
        let numbers = |batch: &Batch| batch.changes(100).iter().map(|(n, item)| (*n, item.is_ok())).collect::<Vec<_>>();
        assert_eq!(numbers(&batch), [(1, true), (3, false), (4, false)]);
        batch.refuse(3);
        batch.refuse(4);
        assert_eq!(numbers(&batch), [(1, true), (2, false)]);
        batch.refuse(2);
        assert_eq!(numbers(&batch), [(0, true), (1, true)]);
        assert_eq!(batch.taken().map(|record| record.offset).collect::<Vec<_>>(), [5, 6]);
    }
}
