//! Two evaluations of the same queries, held against each other: is a difference more than chance?
//!
//! *On disk*: one line of JSON for each query: `task`, `query`, and the measures as `kindred evaluate --json` names them.
//!
//! *Source*: Sakai, "Evaluating Evaluation Metrics based on the Bootstrap", 2006, for the paired bootstrap.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::measures::Scores;
use crate::domain::Choice;

/// Times that queries are drawn again.
const RESAMPLES: usize = 10_000;
/// Share of the resamples that an interval holds.
const CONFIDENCE: f64 = 0.95;

/// How one query was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryScores {
    pub task: String,
    pub query: String,
    #[serde(flatten)]
    pub scores: Scores,
}

/// What one measure gained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub measure: &'static str,
    /// Mean over the queries, after minus before.
    pub mean: f64,
    /// Within which the mean lies with 95 % confidence.
    pub low: f64,
    pub high: f64,
}

/// A task's gains over an earlier evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Queries that both have.
    pub n_queries: usize,
    pub differences: Vec<Difference>,
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
        Ok(Comparison { n_queries: pairs.len(), differences: differences(&pairs) })
    }
}

impl Comparison {
    /// Whether a measure has got worse, beyond what chance explains.
    pub fn is_worse(&self, measure: &str) -> bool {
        self.differences.iter().any(|difference| difference.measure == measure && difference.high < 0.0)
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

/// The mean difference of each measure, and where it lies: queries are drawn anew again and again, each with both of its scores.
fn differences(pairs: &[(Scores, Scores)]) -> Vec<Difference> {
    let of_query = |(before, after): &(Scores, Scores)| {
        let (before, after) = (before.named(), after.named());
        std::array::from_fn::<f64, N_MEASURES, _>(|i| after[i].1 - before[i].1)
    };
    let of_queries: Vec<[f64; N_MEASURES]> = pairs.iter().map(of_query).collect();
    // The same draws in every run: a gate does not pass today and fail tomorrow.
    let mut choice = Choice::new("bootstrap", pairs.len() as u64);
    let mut resampled = vec![Vec::new(); N_MEASURES];
    for _ in 0..RESAMPLES {
        let mean = mean((0..of_queries.len()).map(|_| &of_queries[choice.below(of_queries.len())]));
        resampled.iter_mut().zip(mean).for_each(|(all, mean)| all.push(mean));
    }
    let outside = ((1.0 - CONFIDENCE) / 2.0 * RESAMPLES as f64) as usize;
    let one = |((measure, _), (mean, mut all)): ((&'static str, f64), (f64, Vec<f64>))| {
        all.sort_unstable_by(f64::total_cmp);
        Difference { measure, mean, low: all[outside], high: all[RESAMPLES - 1 - outside] }
    };
    Scores::default().named().into_iter().zip(mean(of_queries.iter()).into_iter().zip(resampled)).map(one).collect()
}

const N_MEASURES: usize = 8;

fn mean<'a>(all: impl ExactSizeIterator<Item = &'a [f64; N_MEASURES]>) -> [f64; N_MEASURES] {
    let n = all.len() as f64;
    let sum = all.fold([0.0; N_MEASURES], |sum, one| std::array::from_fn(|i| sum[i] + one[i]));
    sum.map(|sum| sum / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(ndcg_at_10: f64) -> Scores {
        Scores { ndcg_at_10, ..Scores::default() }
    }

    fn first(pairs: &[(Scores, Scores)]) -> Difference {
        differences(pairs).remove(0)
    }

    #[test]
    fn a_gain_of_every_query_is_no_chance_and_one_of_a_few_may_be() {
        let steady: Vec<_> = (0..50).map(|i| (scores(f64::from(i) / 100.0), scores(f64::from(i) / 100.0 + 0.1))).collect();
        let gain = first(&steady);
        assert_eq!(gain.measure, "nDCG@10");
        assert!([gain.mean, gain.low, gain.high].iter().all(|x| (x - 0.1).abs() < 1e-9), "{gain:?}");
        // Half of them win as much as the others lose.
        let mixed: Vec<_> = (0..50).map(|i| (scores(0.5), scores(if i % 2 == 0 { 0.9 } else { 0.1 }))).collect();
        let none = first(&mixed);
        assert!(none.mean.abs() < 1e-9 && none.low < -0.05 && none.high > 0.05, "{none:?}");
        // The standard error of the mean is 0.4 / sqrt 50, and the interval about 1.96 of them on each side.
        assert!((none.high - 1.96 * 0.4 / 50f64.sqrt()).abs() < 0.015, "{none:?}");
        assert_eq!(first(&mixed), none, "the same every time");
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
