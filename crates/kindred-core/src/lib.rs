//! What all parts of Kindred share.
//!
//! | module | what it is |
//! |---|---|
//! | [`domain`] | the field's words as types: documents, filters, schemas, plans |
//! | [`error`] | the kinds of failure, and what a caller should do about each |
//! | [`storage`] | every change of a file: durable steps, checksummed containers, memory maps |
//! | [`priority`] | threads that give way to others |
//! | [`Progress`], [`Cancel`] | the handle of long work: a bar, a log line, an end before it is done |

pub mod domain;
pub mod error;
pub mod priority;
mod progress;
pub mod storage;

pub use progress::{Cancel, Progress};
