//! An evaluation that was saved, to hold a later one against.
//!
//! *On disk*: one line of JSON for each query: `task`, `query`, and the measures as `kindred evaluate --json` names them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::pipeline::evaluate::{Comparison, Scores};

/// How one query was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryScores {
    pub task: String,
    pub query: String,
    #[serde(flatten)]
    pub scores: Scores,
}

/// An earlier evaluation: task and query → scores.
#[derive(Debug, Default)]
pub struct Baseline(HashMap<(String, String), Scores>);

impl Baseline {
    /// Reads what [`write()`] wrote.
    ///
    /// # Errors
    /// A file that is not there, or a line that is none of these.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut scores = HashMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let found: QueryScores = serde_json::from_str(line)
                .with_context(|| format!("{}, line {}: it is not what `kindred evaluate --save` writes", path.display(), number + 1))?;
            scores.insert((found.task, found.query), found.scores);
        }
        Ok(Self(scores))
    }

    /// What a task gained.
    ///
    /// # Errors
    /// No query of it is in the earlier evaluation.
    pub fn compare(&self, task: &str, after: &[QueryScores]) -> Result<Comparison> {
        let key = |query: &str| (task.to_owned(), query.to_owned());
        let pairs: Vec<(Scores, Scores)> =
            after.iter().filter_map(|found| Some((*self.0.get(&key(&found.query))?, found.scores))).collect();
        ensure!(!pairs.is_empty(), "the baseline has no query of task {task}: save one of the same tasks with --save");
        Ok(Comparison::of(&pairs))
    }
}

/// Writes how each query was answered.
///
/// # Errors
/// What the operating system says.
pub fn write(path: &Path, all: &[QueryScores]) -> Result<()> {
    let lines: String = all.iter().map(|scores| serde_json::to_string(scores).map(|line| line + "\n")).collect::<Result<_, _>>()?;
    fs::write(path, lines).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(ndcg_at_10: f64) -> Scores {
        Scores { ndcg_at_10, ..Scores::default() }
    }

    #[test]
    fn an_evaluation_is_compared_with_itself_over_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("before.jsonl");
        let all: Vec<QueryScores> =
            (0..20).map(|i| QueryScores { task: "jobs".into(), query: i.to_string(), scores: scores(f64::from(i) / 20.0) }).collect();
        write(&path, &all).unwrap();
        let baseline = Baseline::read(&path).unwrap();
        let same = baseline.compare("jobs", &all).unwrap();
        assert_eq!((same.n_queries, same.is_worse("nDCG@10")), (20, false));
        assert!(same.differences.iter().all(|d| (d.mean, d.low, d.high) == (0.0, 0.0, 0.0)), "{same:?}");
        let worse: Vec<QueryScores> = all.iter().map(|q| QueryScores { scores: scores(q.scores.ndcg_at_10 - 0.1), ..q.clone() }).collect();
        assert!(baseline.compare("jobs", &worse[..10]).unwrap().is_worse("nDCG@10"));
        assert!(baseline.compare("members", &all).unwrap_err().to_string().contains("--save"));
        fs::write(&path, "{\"task\": 1}\n").unwrap();
        assert!(Baseline::read(&path).unwrap_err().to_string().contains("line 1"));
    }
}
