//! Judged queries as examples to learn from.

use crate::pipeline::Hit;
use crate::pipeline::evaluate::Judged;
use crate::rescore::{Feature, Group, Values, Weights};
use kindred_core::domain::mix_bits;

/// Weights, and 0 for every other feature: its value is told by an explanation, and changes no score.
pub fn all_features(weights: &Weights) -> Weights {
    let mut all: Weights = Feature::ALL.iter().map(|&feature| (feature, 0.0)).collect();
    all.extend(weights);
    all
}

/// The values of an explained hit's features.
pub fn values(hit: &Hit) -> Values {
    let mut values = [f64::NAN; Feature::ALL.len()];
    for term in hit.explanation.iter().flat_map(|explained| explained.terms()) {
        if let Some(&feature) = Feature::ALL.iter().find(|feature| feature.name() == term.feature) {
            values[feature as usize] = term.value.unwrap_or(f64::NAN);
        }
    }
    values
}

/// A query's candidates with their judgments.
pub fn group(candidates: &[(String, Values)], judged: &Judged) -> Group {
    let label = |relevance: i64| u32::try_from(relevance).unwrap_or(0);
    let mut group = Group::default();
    for (id, values) in candidates {
        group.values.push(*values);
        group.labels.push(judged.get(id).map_or(0, |&relevance| label(relevance)));
    }
    let is_missed = |id: &&String| !candidates.iter().any(|(found, _)| found == *id);
    group.missed = judged.keys().filter(is_missed).map(|id| label(judged[id])).filter(|&label| label > 0).collect();
    group
}

/// Which half a query belongs to: by its id, so that it never moves.
pub fn is_even(query: &str) -> bool {
    hash(query).is_multiple_of(2)
}

/// A number that says nothing of a query but which it is.
pub fn hash(query: &str) -> u64 {
    query.bytes().fold(0u64, |hash, byte| mix_bits(hash ^ u64::from(byte)))
}
