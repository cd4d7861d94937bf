//! Where records go that cannot be taken: a file of JSON lines or a topic. What is there is durable before the feed moves on; a crash
//! in between may put it there twice.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::Serialize;

use super::batch::{Record, Refusal};
use super::producer::Producer;

/// Bytes of a value that a line of the file repeats.
const MAX_LINE_VALUE_BYTES: usize = 65_536;

/// Why a dead letter could not be put away; the feed waits and tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeadLetterError {
    #[error("cannot write dead letters to {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot send dead letters to the topic {topic:?}: {reason}")]
    Topic { topic: String, reason: String },
}

/// A record that cannot be taken, and why.
#[derive(Debug)]
pub(super) struct DeadLetter<'a> {
    pub collection: &'a str,
    pub topic: &'a str,
    pub record: &'a Record,
    pub refusal: &'a Refusal,
}

/// Shared by all feeds.
pub(super) enum DeadLetters {
    File { path: PathBuf, file: Mutex<Option<File>> },
    Topic { topic: String, producer: Producer },
}

impl DeadLetters {
    pub fn to_file(path: PathBuf) -> Self {
        Self::File { path, file: Mutex::new(None) }
    }

    /// Puts letters away; when this returns they are durable.
    ///
    /// # Errors
    /// [`DeadLetterError`]; some of them may be there all the same.
    pub fn write(&self, letters: &[DeadLetter<'_>]) -> Result<(), DeadLetterError> {
        match self {
            Self::File { path, file } => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let written = append(path, &mut file, letters);
                if written.is_err() {
                    // What is half-written is ended by the next opening.
                    *file = None;
                }
                written.map_err(|source| DeadLetterError::File { path: path.clone(), source })
            }
            Self::Topic { topic, producer } => {
                producer.send(topic, letters).map_err(|reason| DeadLetterError::Topic { topic: topic.clone(), reason })
            }
        }
    }
}

fn append(path: &Path, open: &mut Option<File>, letters: &[DeadLetter<'_>]) -> io::Result<()> {
    let mut lines = Vec::new();
    for letter in letters {
        serde_json::to_writer(&mut lines, &Line::of(letter))?;
        lines.push(b'\n');
    }
    let file = match open {
        Some(file) => file,
        None => open.insert(open_at_a_line(path)?),
    };
    file.write_all(&lines)?;
    file.sync_data()
}

/// Opens the file for appending, after a whole line.
fn open_at_a_line(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

/// A line of the file. What is not text stands in base64.
#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    collection: &'a str,
    topic: &'a str,
    partition: i32,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Timestamp>,
    reason: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    /// Of the whole value.
    value_bytes: usize,
    /// Whether only the beginning of the value stands here.
    is_truncated: bool,
}

impl<'a> Line<'a> {
    fn of(letter: &DeadLetter<'a>) -> Self {
        let record = letter.record;
        let value = record.value.as_deref().map(|value| &value[..value.len().min(MAX_LINE_VALUE_BYTES)]);
        let is_truncated = value.is_some_and(|value| value.len() < record.n_value_bytes);
        let (key, key_base64) = text_or_base64(record.key.as_deref(), false);
        let (value, value_base64) = text_or_base64(value, is_truncated);
        Self {
            at: Timestamp::now(),
            collection: letter.collection,
            topic: letter.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            reason: letter.refusal.reason,
            message: &letter.refusal.message,
            key,
            key_base64,
            value,
            value_base64,
            value_bytes: record.n_value_bytes,
            is_truncated,
        }
    }
}

/// Text as it is, anything else in base64. The cut may have gone through a character: what is left of that is dropped.
fn text_or_base64(bytes: Option<&[u8]>, is_cut: bool) -> (Option<&str>, Option<String>) {
    let Some(bytes) = bytes else { return (None, None) };
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(e) if is_cut && e.error_len().is_none() => (std::str::from_utf8(&bytes[..e.valid_up_to()]).ok(), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn write(letters: &DeadLetters, key: &[u8], value: &[u8]) -> Result<(), DeadLetterError> {
        let record = Record {
            partition: 1,
            offset: 7,
            timestamp_ms: Some(0),
            key: Some(key.to_vec()),
            value: Some(value.to_vec()),
            n_value_bytes: value.len(),
        };
        let refusal = Refusal { reason: "json", message: "why".to_owned() };
        letters.write(&[DeadLetter { collection: "jobs", topic: "t", record: &record, refusal: &refusal }])
    }

    #[test]
    fn lines_tell_all_and_stay_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.ndjson");
        // A crash left half a line.
        std::fs::write(&path, "{\"half").unwrap();
        let letters = DeadLetters::to_file(path.clone());
        write(&letters, b"a", b"{oops").unwrap();
        write(&letters, &[0xff], &[0xfe, 0]).unwrap();
        write(&letters, b"b", "é".repeat(MAX_LINE_VALUE_BYTES).as_bytes()).unwrap();
        write(&letters, b"c", &[b"x".as_slice(), "é".repeat(MAX_LINE_VALUE_BYTES).as_bytes()].concat()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Json> = text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
        let first = &lines[0];
        for (name, value) in [
            ("collection", json!("jobs")),
            ("topic", json!("t")),
            ("partition", json!(1)),
            ("offset", json!(7)),
            ("timestamp", json!("1970-01-01T00:00:00Z")),
            ("reason", json!("json")),
            ("message", json!("why")),
            ("key", json!("a")),
            ("value", json!("{oops")),
            ("value_bytes", json!(5)),
            ("is_truncated", json!(false)),
        ] {
            assert_eq!(first[name], value, "{name}");
        }
        assert_eq!((&lines[1]["key_base64"], &lines[1]["value_base64"]), (&json!("/w=="), &json!("/gA=")));
        for (line, n_chars) in [(2, MAX_LINE_VALUE_BYTES / 2), (3, MAX_LINE_VALUE_BYTES / 2)] {
            assert_eq!(lines[line]["value"].as_str().unwrap().chars().count(), n_chars);
            assert_eq!(lines[line]["is_truncated"], true);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let letters = DeadLetters::to_file(dir.path().join("no/such/folder"));
        assert!(write(&letters, b"a", b"").unwrap_err().to_string().contains("no/such/folder"));
    }
}
