//! Why a formula cannot be accepted: where in it, and what to write instead.

use kindred_core::error::ErrorKind;

/// Longest part of a request that a message repeats, in characters.
const MAX_QUOTED: usize = 60;

/// Where a formula is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct FormulaError {
    /// Like `formula.sum[1].mult[0]`.
    pub path: String,
    pub problem: String,
}

impl FormulaError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Malformed
    }
}

pub(super) fn fail<T>(path: &str, problem: impl Into<String>) -> Result<T, FormulaError> {
    Err(FormulaError { path: path.to_owned(), problem: problem.into() })
}

/// The text, or its beginning where it is long: a request of megabytes must not be answered with one.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What to write for a word that other tools have, or that Qdrant has elsewhere.
pub(super) fn instead_of(word: &str) -> Option<&'static str> {
    Some(match word {
        "constant" => "a constant is written as the number itself",
        "variable" => "a variable is written as its name in a string: \"$score\", or a field's name",
        "condition" => "a condition stands for itself: {\"key\": …, \"match\": …}",
        "formula" => "\"formula\" stands outside only, beside \"defaults\"",
        "defaults" => "\"defaults\" stands beside \"formula\"",
        "add" | "plus" | "+" => "write {\"sum\": […]}",
        "sub" | "minus" | "-" => "write {\"sum\": [a, {\"neg\": b}]}",
        "mul" | "multiply" | "product" | "times" | "*" => "write {\"mult\": […]}",
        "divide" | "/" => "write {\"div\": {\"left\": a, \"right\": b}}",
        "power" => "write {\"pow\": {\"base\": a, \"exponent\": b}}",
        "log" => "write {\"ln\": a} or {\"log10\": a}",
        "decay" => "write \"lin_decay\", \"exp_decay\" or \"gauss_decay\"",
        _ => return None,
    })
}
