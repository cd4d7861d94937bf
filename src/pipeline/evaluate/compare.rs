//! Two orders of the same queries' answers, held against each other: is a difference more than chance?
//!
//! *Source*: Sakai, "Evaluating Evaluation Metrics based on the Bootstrap", 2006, for the paired bootstrap.

use serde::Serialize;

use super::measures::{N_MEASURES, Scores};
use kindred_core::domain::Choice;

/// Times that queries are drawn again.
const RESAMPLES: usize = 10_000;
/// Share of the resamples that an interval holds.
const CONFIDENCE: f64 = 0.95;

/// What one measure gained.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Difference {
    pub measure: &'static str,
    /// Mean over the queries, after minus before.
    pub mean: f64,
    /// Within which the mean lies with 95 % confidence.
    pub low: f64,
    pub high: f64,
}

/// What was gained over something else.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Comparison {
    /// Queries that both have.
    pub n_queries: usize,
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Of queries' scores before and after; at least one.
    pub fn of(pairs: &[(Scores, Scores)]) -> Self {
        Self { n_queries: pairs.len(), differences: differences(pairs) }
    }

    /// Whether a measure has got worse, beyond what chance explains.
    pub fn is_worse(&self, measure: &str) -> bool {
        self.differences.iter().any(|difference| difference.measure == measure && difference.high < 0.0)
    }
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
}
