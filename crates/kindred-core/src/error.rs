//! What the caller should do about a failure: every error of every module has one of these kinds. And what the log says of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The one thing that all modules' errors share; `http/error.rs` maps it to a status, `main` to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be read: mend its form (HTTP 400).
    Malformed,
    /// The request can be read, but a value in it cannot be accepted: mend the value (HTTP 422).
    Invalid,
    /// Something the request names does not exist (HTTP 404).
    NotFound,
    /// It contradicts what is there already (HTTP 409).
    Conflict,
    /// It is over a limit: send less at once (HTTP 413).
    TooLarge,
    /// The server is full: try again shortly (HTTP 429).
    Overloaded,
    /// The disk is full: make room (HTTP 507).
    Full,
    /// Something the server needs is not ready or has failed: an operator must look (HTTP 503).
    Unavailable,
    /// Data on disk is not what was written: restore or rebuild it (HTTP 500).
    Corrupt,
    /// A bug or an unforeseen failure: report it (HTTP 500).
    Internal,
}

/// An error with its causes, in one sentence, for the log.
pub fn chain(e: &dyn std::error::Error) -> String {
    std::iter::successors(Some(e), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Runs what reads a foreign format by a crate that panics over some damaged files (fuzz/ found them); `None` if it did. What it read by is not to be
/// used any more, unless it never changes.
pub fn unless_it_panics<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}
