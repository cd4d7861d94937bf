//! What is told of a task: a line of a table, or JSON, or a part of a picture.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::compare::QueryScores;
use super::corpus::CorpusArgs;
use super::speed::Speed;
use crate::pipeline::evaluate::{Comparison, Scores, Series, Stage};

/// Names of the orders that are told beside that of the re-scoring, in the order of the table's columns.
pub(super) const DENSE: &str = "dense";
pub(super) const ADAPTED: &str = "adapted";
pub(super) const LEARNED: &str = "learned";
pub(super) const CROSS: &str = "cross";
pub(super) const MIXED: &str = "mixed";
/// In the order of the table's columns, with what these are headed.
const COLUMNS: [(&str, &str); 7] = [
    (DENSE, "dense"),
    (ADAPTED, "adapted"),
    ("lexical", "BM25"),
    ("fused", "fused"),
    (LEARNED, "learned"),
    (CROSS, "cross"),
    (MIXED, "mixed"),
];

/// One task's result.
#[derive(Debug, Serialize)]
pub(super) struct TaskResult {
    pub task: String,
    pub n_documents: usize,
    pub n_queries: usize,
    /// Of other orders than that of the re-scoring: by meaning, also with an adapter, by words, by both; by what was learned, by the
    /// cross-encoder, by that and the re-scoring.
    pub stages: BTreeMap<&'static str, Scores>,
    #[serde(flatten)]
    pub scores: Scores,
    /// Of the last stages, where there is a cross-encoder among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Against the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Comparison>,
    #[serde(skip)]
    pub queries: Vec<QueryScores>,
}

impl CorpusArgs {
    /// The orders that are told in the table beside that of the re-scoring: those that were asked for.
    fn columns(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let asked = [true, self.learn_adapter, true, true, self.learn, self.cross_encode.is_some(), self.cross_encode.is_some()];
        COLUMNS.into_iter().zip(asked).filter(|(_, asked)| *asked).map(|(column, _)| column)
    }

    pub(super) fn head(&self, width: usize) -> String {
        let mut text = format!("{:<width$}  documents  queries", "task");
        self.columns().for_each(|(_, name)| text.push_str(&format!(" {name:>7}")));
        text + "  nDCG@10     MRR    R@10   R@100"
    }

    pub(super) fn line(&self, result: &TaskResult, width: usize) -> String {
        let mut text = format!("{:<width$}  {:>9}  {:>7}", result.task, result.n_documents, result.n_queries);
        let Scores { ndcg_at_10, mrr, recall_at_10, recall_at_100, .. } = result.scores;
        // The other orders first: what re-scoring adds to them stands beside them.
        for (stage, _) in self.columns() {
            let _ = match result.stages.get(stage) {
                Some(scores) => write!(text, "  {:.4}", scores.ndcg_at_10),
                None => write!(text, "       -"),
            };
        }
        text.push(' ');
        for value in [ndcg_at_10, mrr, recall_at_10, recall_at_100] {
            let _ = write!(text, "  {value:.4}");
        }
        text
    }
}

/// A task's picture.
pub(super) fn drawn(result: &TaskResult) -> Series {
    let mut stages: Vec<(&'static str, f64)> =
        COLUMNS.into_iter().filter_map(|(stage, _)| Some((stage, result.stages.get(stage)?.ndcg_at_10))).collect();
    // As they come: after retrieval, before what was learned.
    let retrieved = stages.iter().take_while(|(stage, _)| ![LEARNED, CROSS, MIXED].contains(stage)).count();
    stages.insert(retrieved, (Stage::Rescore.label(), result.scores.ndcg_at_10));
    Series {
        name: result.task.clone(),
        note: format!("{} documents · {} queries", result.n_documents, result.n_queries),
        scores: result.scores,
        stages,
        differences: result.against.iter().flat_map(|against| against.differences.clone()).collect(),
    }
}
