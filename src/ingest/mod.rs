//! Feeds: where documents come from besides single HTTP requests.
//!
//! | file | feed |
//! |---|---|
//! | `jsonl.rs` | lines of JSON, from a request body or a file |

mod jsonl;

pub use jsonl::{IngestError, IngestReport, ReadDocument, Refused, file, parse_body};
