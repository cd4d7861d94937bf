//! What can be wrong with what a killed server leaves.

use std::fmt;

use serde::Serialize;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Fault {
    /// An acknowledged document is not there, or is there as it was before, or searches do not find it.
    Lost { id: String, what: String },
    /// A document is there that nobody wrote, or that was deleted, or with something in it that nobody wrote.
    Phantom { id: String, what: String },
    /// A document is there twice.
    Duplicate { id: String, what: String },
    /// A part of what belongs together is there.
    Torn { what: String },
    /// An answer that contradicts what was acknowledged, or an error that nobody caused.
    WrongAnswer { what: String },
    /// The server does not start on what it left behind.
    RefusedOpen { what: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { id, what } => write!(f, "lost: {id}: {what}"),
            Self::Phantom { id, what } => write!(f, "phantom: {id}: {what}"),
            Self::Duplicate { id, what } => write!(f, "duplicate: {id}: {what}"),
            Self::Torn { what } => write!(f, "torn: {what}"),
            Self::WrongAnswer { what } => write!(f, "wrong answer: {what}"),
            Self::RefusedOpen { what } => write!(f, "refused open: {what}"),
        }
    }
}
