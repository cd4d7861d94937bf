//! What an evaluation found.

use serde::Serialize;
use serde_json::Value as Json;

use super::compare::Comparison;
use super::judgments::Skipped;
use super::measures::{Judged, Scores, recall};
use super::stages::Stage;
use super::variant::DEPTH;
use crate::pipeline::Timings;

/// How well judged queries are answered.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct EvaluationReport {
    pub collection: String,
    /// Queries with a relevant document.
    pub n_queries: usize,
    /// Their judgments.
    pub n_judgments: usize,
    pub skipped: Skipped,
    /// What to know about the figures.
    pub warnings: Vec<String>,
    pub variants: Vec<VariantReport>,
}

/// How well one way to search answers them.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct VariantReport {
    pub name: String,
    /// What was searched; without the variant's `generation`, with its newer changes.
    pub generation: String,
    pub model: String,
    pub n_documents: u64,
    /// Means over the queries, of the order that users get, to its hundredth hit.
    pub measures: Scores,
    /// What each stage adds, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<StageReports>,
    pub times: Times,
    /// What it gains over the first variant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// Query by query; not in a task's result.
    pub queries: Vec<QueryReport>,
}

/// A comparison with another variant.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Against {
    pub variant: String,
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// The order of each stage that the variant has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StageReports {
    /// Candidates by meaning alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense: Option<StageReport>,
    /// Candidates by words alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexical: Option<StageReport>,
    /// Candidates by the ranks of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fused: Option<StageReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescore: Option<StageReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_encode: Option<StageReport>,
}

/// One order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StageReport {
    /// Share of the relevant documents among all that it orders: what no later stage can add.
    pub recall: f64,
    /// Documents that it orders, on average.
    pub n: f64,
    #[serde(flatten)]
    pub measures: Scores,
}

/// Means over the queries, in microseconds: of searches as users send them, never answered from memory, for a hundred hits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Times {
    pub total_us: f64,
    /// What all but the slowest 5 % stay within.
    pub p95_us: u64,
    pub encode_us: f64,
    pub retrieve_us: f64,
    pub rescore_us: f64,
    pub cross_encode_us: f64,
}

/// How one query was answered.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct QueryReport {
    pub query: String,
    pub total_us: u64,
    #[serde(flatten)]
    pub measures: Scores,
}

impl EvaluationReport {
    /// Without what is told query by query.
    pub fn summary(&self) -> Json {
        let mut json = serde_json::to_value(self).expect("it is names and numbers");
        let variants = json.get_mut("variants").and_then(Json::as_array_mut);
        variants.into_iter().flatten().filter_map(Json::as_object_mut).for_each(|variant| drop(variant.remove("queries")));
        json
    }
}

impl StageReport {
    /// Of one query's order.
    pub fn of(ids: &[String], judged: &Judged) -> Self {
        // With nothing in it there is nothing to find.
        let recall = recall(ids, judged, ids.len());
        Self { recall, n: ids.len() as f64, measures: Scores::of(&ids[..ids.len().min(DEPTH)], judged) }
    }

    /// The mean over queries; `None` when there are none.
    pub fn mean(all: &[Self]) -> Option<Self> {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        let measures = || Scores::mean(all.iter().map(|one| one.measures));
        (!all.is_empty()).then(|| Self { recall: mean(|one| one.recall), n: mean(|one| one.n), measures: measures() })
    }
}

impl StageReports {
    /// From how each stage orders, query by query.
    pub(super) fn mean(all: &[(Stage, StageReport)]) -> Self {
        let of = |wanted: Stage| {
            let of_stage: Vec<StageReport> = all.iter().filter(|(stage, _)| *stage == wanted).map(|(_, report)| *report).collect();
            StageReport::mean(&of_stage)
        };
        Self {
            dense: of(Stage::Dense),
            lexical: of(Stage::Lexical),
            fused: of(Stage::Fused),
            rescore: of(Stage::Rescore),
            cross_encode: of(Stage::CrossEncode),
        }
    }

    /// Those there are, in the order in which they come.
    pub fn all(&self) -> Vec<(Stage, StageReport)> {
        let all = [
            (Stage::Dense, self.dense),
            (Stage::Lexical, self.lexical),
            (Stage::Fused, self.fused),
            (Stage::Rescore, self.rescore),
            (Stage::CrossEncode, self.cross_encode),
        ];
        all.into_iter().filter_map(|(stage, report)| Some((stage, report?))).collect()
    }
}

impl Times {
    /// Of queries' timings.
    pub(super) fn of(all: &[Timings]) -> Self {
        let mean = |of: fn(&Timings) -> u64| all.iter().map(of).sum::<u64>() as f64 / all.len().max(1) as f64;
        let mut totals: Vec<u64> = all.iter().map(|timings| timings.total_us).collect();
        totals.sort_unstable();
        let p95 = (totals.len() * 95).div_ceil(100).saturating_sub(1);
        Self {
            total_us: mean(|timings| timings.total_us),
            p95_us: totals.get(p95).copied().unwrap_or_default(),
            encode_us: mean(|timings| timings.encode_us),
            retrieve_us: mean(|timings| timings.retrieve_us),
            rescore_us: mean(|timings| timings.rescore_us),
            cross_encode_us: mean(|timings| timings.cross_encode_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_means_and_the_slowest_are_told() {
        let timings: Vec<Timings> = (1..=100).map(|total_us| Timings { total_us, rescore_us: 4, ..Timings::default() }).collect();
        let times = Times::of(&timings);
        assert_eq!((times.total_us, times.p95_us, times.rescore_us), (50.5, 95, 4.0));
        assert_eq!(Times::of(&timings[..1]).p95_us, 1);
        assert_eq!(Times::of(&[]), Times::default());
    }

    #[test]
    fn a_stage_counts_all_it_orders() {
        let judged: Judged = [("a".to_owned(), 1), ("b".to_owned(), 2)].into();
        let ids: Vec<String> = (0..150).map(|i| if i == 140 { "b".to_owned() } else { format!("x{i}") }).collect();
        let report = StageReport::of(&ids, &judged);
        assert_eq!((report.recall, report.n, report.measures), (0.5, 150.0, Scores::default()));
        let none = StageReport::of(&[], &judged);
        let mean = StageReport::mean(&[report, none]).unwrap();
        assert_eq!((mean.recall, mean.n), (0.25, 75.0));
        assert_eq!(StageReport::mean(&[]), None);
    }
}
