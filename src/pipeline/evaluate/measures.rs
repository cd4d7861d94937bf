//! How good a ranking is, by the measures and the exact conventions of trec_eval.
//!
//! *Shape*: a ranking is a list of distinct ids, best first; [`Judged`] holds one query's judgments, id → relevance.
//! Relevance above 0 is relevant; ids without a judgment count as not relevant. A query without relevant ids scores 0 everywhere.
//!
//! *Source*: Järvelin & Kekäläinen 2002 for DCG; trec_eval 9 (`ndcg_cut`, `recip_rank`, `map`, `recall`, `P`, `success`) for details:
//! the gain is the relevance itself, the discount log2(rank + 1), the ideal ranking holds all judged ids.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// How many measures [`Scores`] has.
pub const N_MEASURES: usize = 8;

/// One query's judgments: id → relevance.
pub type Judged = HashMap<String, i64>;

/// Discounted gain of the first `k` ids over that of the best possible ranking.
pub fn ndcg(ranked: &[impl AsRef<str>], judged: &Judged, k: usize) -> f64 {
    let mut ideal: Vec<i64> = judged.values().copied().filter(|rel| *rel > 0).collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best = dcg(ideal.into_iter().take(k));
    if best == 0.0 { 0.0 } else { dcg(ranked.iter().take(k).map(|id| relevance(id, judged))) / best }
}

/// One over the rank of the first relevant id; the mean over queries is MRR.
pub fn reciprocal_rank(ranked: &[impl AsRef<str>], judged: &Judged) -> f64 {
    ranked.iter().position(|id| relevance(id, judged) > 0).map_or(0.0, |row| 1.0 / (row + 1) as f64)
}

/// Mean of the precisions at the ranks of all relevant ids; the mean over queries is MAP.
pub fn average_precision(ranked: &[impl AsRef<str>], judged: &Judged) -> f64 {
    let (mut found, mut sum) = (0usize, 0.0);
    for (row, id) in ranked.iter().enumerate() {
        if relevance(id, judged) > 0 {
            found += 1;
            sum += found as f64 / (row + 1) as f64;
        }
    }
    per_relevant(sum, judged)
}

/// Share of the relevant ids that are among the first `k`.
pub fn recall(ranked: &[impl AsRef<str>], judged: &Judged, k: usize) -> f64 {
    per_relevant(n_relevant(ranked, judged, k) as f64, judged)
}

/// Share of the first `k` places that hold a relevant id; places beyond the ranking's end hold none.
///
/// # Panics
/// When `k` is 0.
pub fn precision(ranked: &[impl AsRef<str>], judged: &Judged, k: usize) -> f64 {
    assert!(k > 0, "precision needs at least one place");
    n_relevant(ranked, judged, k) as f64 / k as f64
}

/// 1 when a relevant id is among the first `k`, else 0.
pub fn hit(ranked: &[impl AsRef<str>], judged: &Judged, k: usize) -> f64 {
    if n_relevant(ranked, judged, k) > 0 { 1.0 } else { 0.0 }
}

/// Share of the first `k` places that hold an id which was judged, and found not relevant: what people would rather not see. What
/// nobody judged does not count.
///
/// # Panics
/// When `k` is 0.
pub fn poor_matches(ranked: &[impl AsRef<str>], judged: &Judged, k: usize) -> f64 {
    assert!(k > 0, "a share needs at least one place");
    ranked.iter().take(k).filter(|id| judged.get(id.as_ref()).is_some_and(|rel| *rel <= 0)).count() as f64 / k as f64
}

/// The measures of an evaluation, of one query or averaged over many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Scores {
    pub ndcg_at_10: f64,
    pub map: f64,
    pub mrr: f64,
    pub recall_at_10: f64,
    pub recall_at_100: f64,
    pub precision_at_10: f64,
    pub hit_at_1: f64,
    /// Share of the first ten that was judged and is not relevant.
    #[serde(default)]
    pub poor_at_10: f64,
}

impl Scores {
    /// Scores one query's ranking.
    pub fn of(ranked: &[impl AsRef<str>], judged: &Judged) -> Self {
        Self {
            ndcg_at_10: ndcg(ranked, judged, 10),
            map: average_precision(ranked, judged),
            mrr: reciprocal_rank(ranked, judged),
            recall_at_10: recall(ranked, judged, 10),
            recall_at_100: recall(ranked, judged, 100),
            precision_at_10: precision(ranked, judged, 10),
            hit_at_1: hit(ranked, judged, 1),
            poor_at_10: poor_matches(ranked, judged, 10),
        }
    }

    /// The mean over queries; all zeros when there are none.
    pub fn mean(queries: impl IntoIterator<Item = Self>) -> Self {
        let (mut sum, mut n) = (Self::default(), 0usize);
        for query in queries {
            n += 1;
            sum.merge(&query, |a, b| a + b);
        }
        let n = n.max(1) as f64;
        sum.merge(&Self::default(), |a, _| a / n);
        sum
    }

    /// Names and values, in the order they are printed in.
    pub fn named(&self) -> [(&'static str, f64); N_MEASURES] {
        [
            ("nDCG@10", self.ndcg_at_10),
            ("MAP", self.map),
            ("MRR", self.mrr),
            ("R@10", self.recall_at_10),
            ("R@100", self.recall_at_100),
            ("P@10", self.precision_at_10),
            ("hit@1", self.hit_at_1),
            ("poor@10", self.poor_at_10),
        ]
    }

    fn merge(&mut self, other: &Self, merge: impl Fn(f64, f64) -> f64) {
        let theirs = other.named().map(|(_, value)| value);
        let mine = [
            &mut self.ndcg_at_10,
            &mut self.map,
            &mut self.mrr,
            &mut self.recall_at_10,
            &mut self.recall_at_100,
            &mut self.precision_at_10,
            &mut self.hit_at_1,
            &mut self.poor_at_10,
        ];
        mine.into_iter().zip(theirs).for_each(|(a, b)| *a = merge(*a, b));
    }
}

fn relevance(id: &impl AsRef<str>, judged: &Judged) -> i64 {
    judged.get(id.as_ref()).copied().unwrap_or(0)
}

fn dcg(relevances: impl Iterator<Item = i64>) -> f64 {
    relevances.enumerate().map(|(row, rel)| rel.max(0) as f64 / ((row + 2) as f64).log2()).sum()
}

fn n_relevant(ranked: &[impl AsRef<str>], judged: &Judged, k: usize) -> usize {
    ranked.iter().take(k).filter(|id| relevance(*id, judged) > 0).count()
}

fn per_relevant(sum: f64, judged: &Judged) -> f64 {
    match judged.values().filter(|rel| **rel > 0).count() {
        0 => 0.0,
        n => sum / n as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pairs: &[(&str, i64)]) -> Judged {
        pairs.iter().map(|(id, rel)| ((*id).to_owned(), *rel)).collect()
    }

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-9, "{actual} is not {expected}");
    }

    #[test]
    fn by_hand() {
        let judged = judged(&[("a", 3), ("b", 0), ("c", 1), ("d", 2)]);
        let ranked = ["b", "a", "x", "c"];
        // Gains 0, 3, 0, 1 at discounts 1, log2 3, 2, log2 5; ideal 3, 2, 1.
        let dcg = 3.0 / 3f64.log2() + 1.0 / 5f64.log2();
        let ideal = 3.0 + 2.0 / 3f64.log2() + 0.5;
        close(ndcg(&ranked, &judged, 10), dcg / ideal);
        close(ndcg(&ranked, &judged, 2), (3.0 / 3f64.log2()) / (3.0 + 2.0 / 3f64.log2()));
        close(reciprocal_rank(&ranked, &judged), 0.5);
        close(average_precision(&ranked, &judged), (1.0 / 2.0 + 2.0 / 4.0) / 3.0);
        close(recall(&ranked, &judged, 2), 1.0 / 3.0);
        close(precision(&ranked, &judged, 10), 0.2);
        close(hit(&ranked, &judged, 1), 0.0);
        close(hit(&ranked, &judged, 2), 1.0);
        close(poor_matches(&ranked, &judged, 2), 0.5);
        close(poor_matches(&ranked, &judged, 10), 0.1);
    }

    #[test]
    fn a_perfect_ranking_scores_one_and_an_empty_one_zero() {
        let judged = judged(&[("a", 1), ("b", 1)]);
        let perfect = Scores::of(&["a", "b"], &judged);
        let ones = Scores {
            ndcg_at_10: 1.0,
            map: 1.0,
            mrr: 1.0,
            recall_at_10: 1.0,
            recall_at_100: 1.0,
            precision_at_10: 0.2,
            hit_at_1: 1.0,
            poor_at_10: 0.0,
        };
        assert_eq!(perfect, ones);
        assert_eq!(Scores::of(&[""; 0], &judged), Scores::default());
        assert_eq!(Scores::of(&["a"], &Judged::default()), Scores::default());
        close(Scores::mean([perfect, Scores::default()]).map, 0.5);
        assert_eq!(Scores::mean([]), Scores::default());
    }

    /// Values of PyPI's ir-measures 0.4.3 (trec_eval underneath) on random judgments and rankings.
    #[test]
    fn as_trec_eval() {
        for (judgments, ranking, expected) in [
            (
                &[("k", 0), ("e", 1), ("m", 3), ("b", 0), ("c", 3), ("n", 1), ("i", 0)][..],
                "cnsthbigajod",
                [0.6234997966086261, 0.5, 1.0, 0.5, 0.2, 1.0],
            ),
            (
                &[("s", 1), ("b", 1), ("m", 2), ("t", 1), ("h", 3), ("a", 0), ("i", 3)][..],
                "jrfdgsbilnta",
                [0.23150487156769547, 0.198502886002886, 0.16666666666666666, 0.5, 0.3, 0.0],
            ),
            (
                &[("t", 2), ("g", 1), ("p", 1), ("n", 1), ("k", 1), ("h", 1), ("j", 0)][..],
                "sjqpklhetbri",
                [0.4072145354289294, 0.2538359788359788, 0.25, 0.6666666666666666, 0.4, 0.0],
            ),
        ] {
            let ranked: Vec<String> = ranking.chars().map(String::from).collect();
            let scores = Scores::of(&ranked, &judged(judgments));
            let actual = [scores.ndcg_at_10, scores.map, scores.mrr, scores.recall_at_10, scores.precision_at_10, scores.hit_at_1];
            actual.into_iter().zip(expected).for_each(|(a, e)| close(a, e));
        }
    }
}
