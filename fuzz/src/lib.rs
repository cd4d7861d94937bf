//! What the fuzzers share: a collection to read things for, and files in memory.

use std::path::PathBuf;
use std::sync::LazyLock;

use kindred_core::domain::{Attributes, CollectionDefinition, Document, Schema, Template};
use serde_json::{Value as Json, json};

/// A definition with a field of each type.
pub fn definition() -> CollectionDefinition {
    let fields = json!({
        "title": {"type": "keyword", "role": "title"}, "skills": {"type": "keyword", "index": true, "role": "skills"},
        "text": {"type": "text"}, "remote": {"type": "bool", "index": true, "role": "remote"},
        "salary.min": {"type": "number", "index": true, "role": "salary"}, "posted_at": {"type": "time", "index": true, "role": "posted_at"},
        "location": {"type": "geo", "index": true, "role": "location"}, "seniority": {"type": "keyword", "index": true, "role": "seniority"}
    });
    serde_json::from_value(json!({"template": "{title}\n{skills}: {text}", "fields": fields})).expect("a definition")
}

pub fn documents() -> [Json; 3] {
    [
        json!({"id": "a", "title": "Night nurse", "skills": ["triage", "wards"], "remote": false, "salary": {"min": 42e3}, "posted_at": "2026-11-01",
            "location": {"lat": 52.5, "lon": 13.4}, "seniority": "senior"}),
        json!({"id": "b", "title": "Welder", "skills": "MIG", "remote": [true, false], "location": [{"lat": -90, "lon": 180}, {"lat": 0, "lon": 0}]}),
        json!({"id": "c", "text": "nothing else"}),
    ]
}

/// The definition's schema and template, and the values of the documents.
pub static COLLECTION: LazyLock<(Schema, Template, [Attributes; 3])> = LazyLock::new(|| {
    let (template, schema) = definition().check().expect("a sound definition");
    let attributes = documents().map(|json| Document::parse(json, &schema, &template, 10_000).expect("a sound document").attributes);
    (schema, template, attributes)
});

/// A folder of this process, in memory where the system has such.
pub fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("kindred-fuzz-").tempdir_in(parent).expect("a folder").keep()
}

/// Ends the process at a panic of Kindred's own code. Some crates panic over nonsense in their formats: that is ours to catch, and is seen if it is not.
pub fn abort_on_own_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|place| place.file().contains("/registry/")) {
            default(panic);
            std::process::abort();
        }
    }));
}
