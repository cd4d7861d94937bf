//! Learns what to score candidates by from judgments (the only file that names `hessboost`, behind the feature `trees`).
//!
//! What is learned is added to the weights that a collection begins with: first weights of all features, by pairs of a better and a worse
//! candidate (logistic loss), then trees, by what changing places costs in nDCG (LambdaMART). It is kept only if, on queries that it did not
//! see, it finds more than what there was: by thirds, twice learned from and once tried.
//!
//! *Source*: Burges, "From RankNet to LambdaRank to LambdaMART: An Overview", 2010.

use super::{Feature, Learned, Model, Values, Weights, weighted_sum};
use kindred_core::domain::Choice;

/// Fewest queries to learn from.
pub const MIN_QUERIES: usize = 40;
/// Parts that the queries are cut into to try what is learned.
const FOLDS: usize = 3;
/// How much the score that a collection begins with is stretched: a difference of 0.04 is worth a logit.
const STRETCH: f64 = 25.0;
/// Pairs of each query that weights are learned from.
const PAIRS: usize = 16;
const L2: f64 = 0.01;
const STEPS: usize = 300;
const LEARNING_RATE: f64 = 0.05;
#[cfg(feature = "trees")]
const TREES: usize = 40;
/// What the trees' sum is multiplied with: so sure are trees that were learned beside the weights.
const TREES_WEIGHT: f64 = 2.0;
/// Judged positions.
const DEPTH: usize = 10;

/// What can go wrong with learning.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrainError {
    #[error("{actual} queries have both relevant and other candidates; it takes at least {MIN_QUERIES} to learn from: judge more")]
    TooFew { actual: usize },
    #[error("all candidates of the judged queries have the same relevance: there is nothing to tell apart")]
    OneGrade,
    #[error("{}", crate::optional::TREES.missing())]
    LeftOut,
    #[error("the trees could not be learned: {0}")]
    Trees(String),
    /// Not worse: not surely better.
    #[error(
        "what was learned does not find more than what there is, on queries that it did not see: nDCG@10 {before:.4} before, {after:.4} with it (its standard error: {error:.4}). Nothing was written: judge more queries"
    )]
    NoBetter { before: f64, after: f64, error: f64 },
}

/// A query's candidates.
#[derive(Debug, Clone, Default)]
pub struct Group {
    pub values: Vec<Values>,
    /// 0 for what is not relevant, up to 31.
    pub labels: Vec<u32>,
    /// Labels of relevant documents that are not among the candidates: the best order has them too.
    pub missed: Vec<u32>,
}

/// What was learned, and what it brought on queries that it did not see.
#[derive(Debug, Clone)]
pub struct Trained {
    pub learned: Learned,
    pub n_queries: usize,
    /// nDCG@10 by what there was, and with what was learned.
    pub before: f64,
    pub after: f64,
    /// Standard error of the difference.
    pub error: f64,
}

/// Learns, and tries what was learned. `begin` are the weights that the collection has.
///
/// # Errors
/// [`TrainError`].
pub fn train(begin: &Weights, groups: &[Group], seed: u64) -> Result<Trained, TrainError> {
    if !crate::optional::TREES.is_built {
        return Err(TrainError::LeftOut);
    }
    let useful: Vec<&Group> = groups.iter().filter(|group| group.is_useful()).collect();
    if groups.iter().all(|group| group.labels.iter().chain(&group.missed).all(|&label| label == 0)) {
        return Err(TrainError::OneGrade);
    }
    if useful.len() < MIN_QUERIES {
        return Err(TrainError::TooFew { actual: useful.len() });
    }
    let mut differences = Vec::new();
    let mut sums = [0.0; 2];
    for fold in 0..FOLDS {
        let part =
            |is_tried: bool| useful.iter().enumerate().filter(move |(i, _)| (i % FOLDS == fold) == is_tried).map(|(_, group)| *group);
        let learned = learn(begin, &part(false).collect::<Vec<_>>(), seed)?;
        for group in part(true) {
            let [before, after] = [group.ndcg(|values| weighted_sum(begin, values)), group.ndcg(|values| learned.score(values))];
            sums[0] += before;
            sums[1] += after;
            differences.push(after - before);
        }
    }
    let n = useful.len() as f64;
    let [before, after] = sums.map(|sum| sum / n);
    let mean = after - before;
    let error = (differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
    // With half an error to spare: of what brings nothing, a third passes by chance, and does no harm then.
    if mean <= 0.5 * error {
        return Err(TrainError::NoBetter { before, after, error });
    }
    Ok(Trained { learned: learn(begin, &useful, seed)?, n_queries: useful.len(), before, after, error })
}

impl Group {
    /// Whether there is a difference to learn.
    fn is_useful(&self) -> bool {
        self.labels.iter().any(|label| label != &self.labels[0])
    }

    /// nDCG@10 of the order by a score; equal scores stay in the candidates' order.
    pub fn ndcg(&self, score: impl Fn(&Values) -> f64) -> f64 {
        let mut order: Vec<(f64, u32)> = self.values.iter().map(score).zip(self.labels.iter().copied()).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut best: Vec<u32> = self.labels.iter().chain(&self.missed).copied().collect();
        best.sort_unstable_by(|a, b| b.cmp(a));
        let gain = |labels: &mut dyn Iterator<Item = u32>| -> f64 {
            labels.take(DEPTH).enumerate().map(|(i, label)| f64::from(label) / (i as f64 + 2.0).log2()).sum()
        };
        let ideal = gain(&mut best.into_iter());
        if ideal > 0.0 { gain(&mut order.into_iter().map(|(_, label)| label)) / ideal } else { 0.0 }
    }
}

fn learn(begin: &Weights, groups: &[&Group], seed: u64) -> Result<Learned, TrainError> {
    let mut weights: Weights = begin.iter().map(|(feature, weight)| (*feature, weight * STRETCH)).collect();
    for (feature, more) in learn_weights(&weights, groups, seed) {
        *weights.entry(feature).or_default() += more;
    }
    weights.retain(|_, weight| *weight != 0.0);
    let trees = learn_trees(groups, seed)?;
    Ok(Learned { weights, trees_weight: TREES_WEIGHT, trees })
}

/// Weights to add, by gradient descent (Adam) on pairs.
fn learn_weights(begin: &Weights, groups: &[&Group], seed: u64) -> Vec<(Feature, f64)> {
    let mut choice = Choice::new("pairs", seed);
    // Of each pair: what the better one has more of each feature, and of the score that it begins with.
    let (mut pairs, mut offsets) = (Vec::<Vec<f64>>::new(), Vec::new());
    for group in groups {
        let indices: Vec<usize> = (0..group.labels.len()).collect();
        for _ in 0..PAIRS {
            let better = *choice.pick(&indices);
            let worse: Vec<usize> = indices.iter().copied().filter(|&i| group.labels[i] != group.labels[better]).collect();
            if worse.is_empty() {
                continue;
            }
            let other = *choice.pick(&worse);
            let (better, worse) = if group.labels[better] > group.labels[other] { (better, other) } else { (other, better) };
            let (a, b) = (&group.values[better], &group.values[worse]);
            let value = |values: &Values, i: usize| if values[i].is_nan() { 0.0 } else { values[i] };
            pairs.push((0..Feature::ALL.len()).map(|i| value(a, i) - value(b, i)).collect());
            offsets.push(weighted_sum(begin, a) - weighted_sum(begin, b));
        }
    }
    let n = pairs.len().max(1) as f64;
    let scale: Vec<f64> = (0..Feature::ALL.len()).map(|i| (pairs.iter().map(|pair| pair[i] * pair[i]).sum::<f64>() / n).sqrt()).collect();
    let used: Vec<usize> = (0..Feature::ALL.len()).filter(|&i| scale[i] > 1e-9).collect();
    let (mut w, mut m, mut v) = (vec![0.0; used.len()], vec![0.0; used.len()], vec![0.0; used.len()]);
    for step in 1..=STEPS {
        let mut gradient: Vec<f64> = w.iter().map(|w| L2 * w).collect();
        for (pair, offset) in pairs.iter().zip(&offsets) {
            let margin: f64 = offset + used.iter().zip(&w).map(|(&i, w)| w * pair[i] / scale[i]).sum::<f64>();
            let slope = -1.0 / (1.0 + margin.exp()) / n;
            used.iter().zip(&mut gradient).for_each(|(&i, gradient)| *gradient += slope * pair[i] / scale[i]);
        }
        for i in 0..w.len() {
            m[i] = 0.9 * m[i] + 0.1 * gradient[i];
            v[i] = 0.999 * v[i] + 0.001 * gradient[i] * gradient[i];
            let (m, v) = (m[i] / (1.0 - 0.9f64.powi(step as i32)), v[i] / (1.0 - 0.999f64.powi(step as i32)));
            w[i] -= LEARNING_RATE * m / (v.sqrt() + 1e-8);
        }
    }
    used.into_iter().zip(w).map(|(i, w)| (Feature::ALL[i], w / scale[i])).collect()
}

#[cfg(not(feature = "trees"))]
fn learn_trees(_: &[&Group], _: u64) -> Result<Model, TrainError> {
    Err(TrainError::LeftOut)
}

#[cfg(feature = "trees")]
fn learn_trees(groups: &[&Group], seed: u64) -> Result<Model, TrainError> {
    use hessboost::config::TrainingParams;
    use hessboost::data::DMatrix;
    use hessboost::model::ModelFormat;
    use hessboost::objective::{LambdaRank, Objective};
    use hessboost::training::Trainer;

    let failed = |e: hessboost::error::HessboostError| TrainError::Trees(e.to_string());
    // What no candidate has says nothing.
    let rows = || groups.iter().flat_map(|group| &group.values);
    let used: Vec<usize> = (0..Feature::ALL.len()).filter(|&i| rows().any(|values| !values[i].is_nan())).collect();
    let x: Vec<f32> = rows().flat_map(|values| used.iter().map(|&i| values[i] as f32)).collect();
    let labels: Vec<f32> = groups.iter().flat_map(|group| &group.labels).map(|&label| label.min(31) as f32).collect();
    let sizes: Vec<usize> = groups.iter().map(|group| group.labels.len()).collect();
    let data = DMatrix::from_dense(&x, labels.len(), used.len()).map_err(failed)?;
    let data = data.with_labels(&labels).map_err(failed)?.with_group_sizes(&sizes).map_err(failed)?;
    let params = TrainingParams::builder()
        .objective(Objective::RankNdcg(LambdaRank::new(20).map_err(failed)?))
        .max_depth(4)
        .eta(0.08)
        .lambda(10.0)
        .subsample(0.8)
        .colsample_bytree(0.5)
        .seed(seed)
        .build()
        .map_err(failed)?;
    let trained = Trainer::new(&params, &data, TREES).train().map_err(failed)?;
    let bytes = trained.model.encode(ModelFormat::XgboostJson).map_err(failed)?;
    let mut json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| TrainError::Trees(e.to_string()))?;
    json["learner"]["feature_names"] = used.iter().map(|&i| Feature::ALL[i].name()).collect();
    Model::new(json).map_err(|e| TrainError::Trees(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queries with 30 candidates of random features each; `label` says what is relevant.
    fn groups(n: usize, label: impl Fn(f64, f64) -> u32) -> Vec<Group> {
        let mut choice = Choice::new("examples", 7);
        let mut one = || {
            let mut group = Group::default();
            for _ in 0..30 {
                let mut values = [f64::NAN; Feature::ALL.len()];
                let mut draw = || choice.below(1_000) as f64 / 1_000.0;
                let (dot, bm25) = (draw(), draw());
                (values[Feature::Dot as usize], values[Feature::Bm25 as usize]) = (dot, bm25);
                group.values.push(values);
                group.labels.push(label(dot, bm25));
            }
            group
        };
        (0..n).map(|_| one()).collect()
    }

    fn dot() -> Weights {
        Weights::from([(Feature::Dot, 1.0)])
    }

    #[cfg(not(feature = "trees"))]
    #[test]
    fn a_build_without_trees_says_so() {
        assert_eq!(train(&dot(), &groups(60, |_, _| 1), 1).unwrap_err(), TrainError::LeftOut);
    }

    #[cfg(feature = "trees")]
    #[test]
    fn what_counts_is_learned() {
        // Neither feature tells it alone: both must be high.
        let groups = groups(90, |dot, bm25| u32::from(dot > 0.6 && bm25 > 0.6));
        let trained = train(&dot(), &groups, 1).unwrap();
        assert!(trained.after > trained.before + 0.2 && trained.after > 0.9, "{} to {}", trained.before, trained.after);
        assert_eq!(trained.n_queries, 90);
        let again = train(&dot(), &groups, 1).unwrap();
        assert_eq!(again.learned, trained.learned, "equal judgments teach the same");
        let written = super::super::Profile::write("text", &trained.learned, serde_json::Value::Null);
        let schema = kindred_core::domain::Schema::default();
        let read = super::super::Profile::parse(&written.to_string(), &schema).unwrap().scorer("text");
        let super::super::Scorer::Learned(read) = read else { panic!("it was learned") };
        assert!(groups[0].values.iter().all(|values| read.score(values) == trained.learned.score(values)));
    }

    #[cfg(feature = "trees")]
    #[test]
    fn nothing_is_learned_from_nothing() {
        let by_dot = |dot: f64, _: f64| u32::from(dot > 0.8);
        assert!(
            matches!(train(&dot(), &groups(MIN_QUERIES - 1, by_dot), 1), Err(TrainError::TooFew { actual }) if actual == MIN_QUERIES - 1)
        );
        assert!(matches!(train(&dot(), &groups(60, |_, _| 0), 1), Err(TrainError::OneGrade)));
        assert!(matches!(train(&dot(), &groups(60, by_dot), 1), Err(TrainError::NoBetter { before: 1.0, .. })), "it could not be better");
    }

    #[test]
    fn missed_documents_count() {
        let mut values = [f64::NAN; Feature::ALL.len()];
        values[0] = 1.0;
        let mut group = Group { values: vec![values], labels: vec![1], missed: Vec::new() };
        assert_eq!(group.ndcg(|values| values[0]), 1.0);
        group.missed.push(1);
        assert!(group.ndcg(|values| values[0]) < 0.62);
    }
}
