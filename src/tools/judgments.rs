//! Reads a retrieval task: documents, queries, and which document is relevant to which query.
//!
//! *On disk*: `corpus.jsonl` one `{"_id", "title", "text"}` a line; `queries.jsonl` one `{"_id", "text"}` a line; judgments as TREC qrels
//! (`query 0 document relevance`, separated by blanks or tabs) or as BEIR's table (`query-id corpus-id score`, tabs, with that header).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use crate::pipeline::evaluate::Skipped;
use crate::pipeline::evaluate::{Judged, Judgments};
use kindred_core::error::ErrorKind;

/// A document of the task's corpus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TaskDocument {
    #[serde(alias = "_id")]
    pub id: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub text: String,
}

/// A query of the task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TaskQuery {
    #[serde(alias = "_id")]
    pub id: String,
    pub text: String,
}

/// A retrieval task, ready to be evaluated.
#[derive(Debug, Clone, Default)]
pub struct Task {
    pub documents: Vec<TaskDocument>,
    /// Those with at least one relevant document, in the file's order.
    pub queries: Vec<TaskQuery>,
    /// Query id → document id → relevance.
    pub judgments: BTreeMap<String, Judged>,
    pub skipped: Skipped,
}

/// Why a task cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JudgmentsError {
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: {reason}", path.display())]
    Line { path: PathBuf, line: usize, reason: String },
    #[error("{} holds nothing to evaluate with", path.display())]
    Empty { path: PathBuf },
}

impl JudgmentsError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::NotFound,
            Self::Line { .. } => ErrorKind::Malformed,
            Self::Empty { .. } => ErrorKind::Invalid,
        }
    }
}

impl Task {
    /// Reads the three files of a task.
    ///
    /// # Errors
    /// [`JudgmentsError::Io`] for a file that cannot be read, [`JudgmentsError::Line`] for a line that does not parse or an id that comes
    /// twice, [`JudgmentsError::Empty`] when no query has a judgment.
    pub fn read(corpus: &Path, queries: &Path, qrels: &Path) -> Result<Self, JudgmentsError> {
        let documents: Vec<TaskDocument> = read_json_lines(corpus, |d: &TaskDocument| &d.id)?;
        let all_queries: Vec<TaskQuery> = read_json_lines(queries, |q: &TaskQuery| &q.id)?;
        let mut judgments = read_qrels(qrels)?;

        let mut skipped = Skipped::default();
        let query_ids: HashSet<&str> = all_queries.iter().map(|q| q.id.as_str()).collect();
        let document_ids: HashSet<&str> = documents.iter().map(|d| d.id.as_str()).collect();
        judgments.retain(|query, judged| {
            let is_known = query_ids.contains(query.as_str());
            skipped.unknown_queries += if is_known { 0 } else { judged.len() };
            is_known
        });
        skipped.unknown_documents = judgments.values().flat_map(Judged::keys).filter(|id| !document_ids.contains(id.as_str())).count();
        let has_relevant = |q: &TaskQuery| judgments.get(&q.id).is_some_and(|judged| judged.values().any(|rel| *rel > 0));
        let n_queries = all_queries.len();
        let queries: Vec<TaskQuery> = all_queries.into_iter().filter(has_relevant).collect();
        skipped.unjudged_queries = n_queries - queries.len();
        if queries.is_empty() {
            return Err(JudgmentsError::Empty { path: qrels.to_owned() });
        }
        Ok(Self { documents, queries, judgments, skipped })
    }
}

/// Reads judgments in either format: query id → document id → relevance.
///
/// # Errors
/// [`JudgmentsError::Io`], or [`JudgmentsError::Line`] for a line with too few or too many columns or a relevance that is no whole number.
pub fn read_qrels(path: &Path) -> Result<BTreeMap<String, Judged>, JudgmentsError> {
    let text = fs::read_to_string(path).map_err(|source| JudgmentsError::Io { path: path.to_owned(), source })?;
    let read = Judgments::parse(&text);
    read.map(|Judgments(judgments)| judgments).map_err(|e| JudgmentsError::Line { path: path.to_owned(), line: e.line, reason: e.reason })
}

pub(super) fn read_json_lines<T: DeserializeOwned>(path: &Path, id: impl Fn(&T) -> &String) -> Result<Vec<T>, JudgmentsError> {
    let mut items: Vec<T> = Vec::new();
    let mut line_of: HashMap<String, usize> = HashMap::new();
    for (line, text) in lines(path)? {
        let fail = |reason: String| JudgmentsError::Line { path: path.to_owned(), line, reason };
        let item: T = serde_json::from_str(&text?)
            .map_err(|e| fail(format!("{e}. A line is such as {{\"_id\": \"q1\", \"text\": \"night nurse\"}}")))?;
        if let Some(first) = line_of.insert(id(&item).clone(), line) {
            return Err(fail(format!("_id {:?} is that of line {first}", id(&item))));
        }
        items.push(item);
    }
    Ok(items)
}

/// The lines that are not blank, with their numbers from 1.
fn lines(path: &Path) -> Result<impl Iterator<Item = (usize, Result<String, JudgmentsError>)> + '_, JudgmentsError> {
    let io = |source| JudgmentsError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let numbered = BufReader::new(file).lines().enumerate().map(move |(row, line)| (row + 1, line.map_err(io)));
    Ok(numbered.filter(|(_, line)| line.as_ref().map_or(true, |l| !l.trim().is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORPUS: &str = "{\"_id\": \"d1\", \"title\": \"Nurse\", \"text\": \"cares\"}\n\n{\"_id\": \"d2\", \"text\": \"bakes\"}\n";
    const QUERIES: &str = "{\"_id\": \"q1\", \"text\": \"care\"}\n{\"_id\": \"q2\", \"text\": \"none\"}\n";

    fn read(corpus: &str, queries: &str, qrels: &str) -> Result<Task, JudgmentsError> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        Task::read(&file("corpus.jsonl", corpus), &file("queries.jsonl", queries), &file("qrels.tsv", qrels))
    }

    #[test]
    fn reads_trec_and_beir_judgments() {
        let trec = read(CORPUS, QUERIES, "q1 0 d1 2\nq1\t0\td2\t0\n").unwrap();
        let beir = read(CORPUS, QUERIES, "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n").unwrap();
        assert_eq!(trec.judgments, beir.judgments);
        assert_eq!(trec.judgments["q1"]["d1"], 2);
        assert_eq!(trec.documents.len(), 2);
        assert_eq!(trec.queries.iter().map(|q| q.id.as_str()).collect::<Vec<_>>(), ["q1"]);
        assert_eq!(trec.skipped, Skipped { unjudged_queries: 1, ..Skipped::default() });
    }

    #[test]
    fn unknown_ids_are_counted() {
        let task = read(CORPUS, QUERIES, "q1 0 d1 1\nq1 0 d9 1\nq9 0 d1 1\n").unwrap();
        assert_eq!(task.skipped, Skipped { unknown_queries: 1, unknown_documents: 1, unjudged_queries: 1 });
        assert_eq!(task.judgments["q1"].len(), 2, "a document outside the corpus stays relevant");
    }

    #[test]
    fn mistakes_name_file_and_line() {
        for (corpus, queries, qrels, expected) in [
            ("{\"_id\": \"d1\"}\n{oops}\n", QUERIES, "q1 0 d1 1\n", "corpus.jsonl, line 2"),
            ("{\"_id\": \"d1\"}\n{\"_id\": \"d1\"}\n", QUERIES, "q1 0 d1 1\n", "line 2: _id \"d1\" is that of line 1"),
            (CORPUS, "{\"_id\": \"q1\"}\n", "q1 0 d1 1\n", "queries.jsonl, line 1: missing field `text`"),
            (CORPUS, QUERIES, "q1 0 d1 much\n", "qrels.tsv, line 1: relevance \"much\" is no whole number"),
            (CORPUS, QUERIES, "q1 0 d1 1\nq1 0 d1 1\n", "line 2: document \"d1\" is judged twice"),
            (CORPUS, QUERIES, "q1 d1 1\n", "line 1: 3 columns"),
            (CORPUS, QUERIES, "q1 0 d1 1 extra\n", "line 1: 5 columns"),
            (CORPUS, QUERIES, "q1 0 d1 0\n", "holds nothing to evaluate with"),
        ] {
            let message = read(corpus, queries, qrels).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let missing = Path::new("no/such/file");
        assert!(Task::read(missing, missing, missing).unwrap_err().to_string().contains("no/such/file"));
    }
}
