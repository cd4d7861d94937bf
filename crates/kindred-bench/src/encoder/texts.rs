//! What is encoded.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::corpus::Corpus;

/// Made-up texts, where none are named.
const N_MADE_UP: u64 = 2_000;
/// Sentences of a made-up document.
const SENTENCES: u64 = 6;

/// Queries and documents.
pub(super) struct Texts {
    pub queries: Vec<String>,
    pub documents: Vec<String>,
}

impl Texts {
    /// Reads the files that are named and makes up the rest.
    ///
    /// # Errors
    /// A file that cannot be read, or is empty.
    pub fn read(queries: Option<&Path>, documents: Option<&Path>) -> Result<Self> {
        let corpus = Corpus::new(None, 1)?;
        let query = |number| {
            let text = corpus.text(number);
            text.split(", reference").next().unwrap_or_default().replace(" who ", ", ").replace(" and works with ", ", ")
        };
        let document = |number: u64| (0..SENTENCES).map(|part| corpus.text(number * SENTENCES + part)).collect::<Vec<_>>().join(". ");
        let all = |path: Option<&Path>, make: &dyn Fn(u64) -> String| path.map_or_else(|| Ok((0..N_MADE_UP).map(make).collect()), lines);
        Ok(Self { queries: all(queries, &query)?, documents: all(documents, &document)? })
    }

    /// The query of a turn.
    pub fn query(&self, turn: usize) -> &str {
        &self.queries[turn % self.queries.len()]
    }
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let texts: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(of_line).collect();
    ensure!(!texts.is_empty(), "{} holds no text", path.display());
    Ok(texts)
}

/// A line is text, unless it is a JSON string or an object with one.
fn of_line(line: &str) -> String {
    match serde_json::from_str::<Value>(line) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(fields)) => fields.get("text").and_then(Value::as_str).unwrap_or(line).to_owned(),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_be_text_or_json() {
        assert_eq!(["night nurse", "\"night nurse\"", r#"{"_id": 1, "text": "night nurse"}"#].map(of_line), ["night nurse"; 3]);
    }

    #[test]
    fn made_up_texts_differ() {
        let texts = Texts::read(None, None).unwrap();
        assert_ne!(texts.query(0), texts.query(1));
        assert_eq!(texts.query(0), texts.query(texts.queries.len()));
        assert!(texts.query(0).len() < 80 && texts.documents[0].len() > 300, "{} · {}", texts.query(0), texts.documents[0]);
    }
}
