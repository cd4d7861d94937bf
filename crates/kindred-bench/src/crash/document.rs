//! The documents that are written: small, each a version of its own, the vector drawn from a number that the document names.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::corpus::drawn;

/// The collection that is written to.
pub(super) const COLLECTION: &str = "crash";

/// All fields of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub title: String,
    pub writer: String,
    /// Filters name it.
    pub tag: String,
    /// Rises with every change of any document of its writer.
    pub version: u64,
    /// What its vector is drawn from.
    pub vector: u64,
    /// Comes and goes by partial updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<u64>,
}

impl Document {
    /// As it is sent, with its id and its vector.
    pub fn item(&self, id: &str, dims: usize) -> Value {
        let mut item = Map::from_iter([("id".to_owned(), json!(id))]);
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else { unreachable!("a struct is an object") };
        item.extend(fields);
        item.insert("embedding".to_owned(), json!(drawn(self.vector, dims)));
        Value::Object(item)
    }

    /// Only what a partial update of `before` sends.
    pub fn patch(&self, id: &str, before: &Self) -> Value {
        let mut patch = json!({"id": id, "version": self.version, "tag": self.tag});
        if self.note != before.note {
            patch["note"] = json!(self.note);
        }
        patch
    }
}

/// What makes the collection.
pub(super) fn definition() -> Value {
    json!({
        "template": "{title}",
        "fields": {
            "title": {"type": "text"},
            "writer": {"type": "keyword", "index": true},
            "tag": {"type": "keyword", "index": true},
        }
    })
}

/// The path of the collection, and of what is below it.
pub(super) fn path(below: &str) -> String {
    format!("/v1/collections/{COLLECTION}{below}")
}
