//! The second, cheap ordering: a score of typed features for each candidate that retrieval found.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the profiles of the settings, and the score |
//! | `profile.rs` | a profile as it is stored |
//! | `features.rs` | the one table of features: name, unit, meaning |
//! | `formula/` | scores that are computed as the user says |
//! | `wanted.rs` | what a query asks for |
//! | `model.rs` | learned trees over features |
//! | `train.rs` | learns them |
//!
//! A score is the sum of its terms, in the order in which they are explained, in f64: an explanation adds up exactly.

mod features;
mod formula;
mod model;
mod profile;
mod train;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use features::{Candidate, Feature, Signals};
pub use formula::{Explanation, Formula, FormulaError};
use kindred_core::domain::{Schema, Selection};
use kindred_core::error::ErrorKind;
pub use model::{Model, ModelError};
pub use profile::Profile;
pub use train::{Group, TrainError, Trained, train};
pub use wanted::{Wanted, level};

/// The direction of queries that bring a text or a vector rather than a document.
pub const FROM_TEXT: &str = "text";
/// The profile of requests that name none.
pub const DEFAULT_PROFILE: &str = "default";

/// What candidates of a collection are scored by that says nothing of it: meaning, words, and how titles are written.
pub fn default_weights() -> Weights {
    Weights::from([(Feature::Dot, 1.0), (Feature::Bm25, 0.2), (Feature::Bm25Unread, 1.0), (Feature::TitleLetters, 0.1)])
}

/// Largest weight: no sum of terms leaves the numbers.
const MAX_WEIGHT: f64 = 1e6;

/// What can go wrong with re-scoring.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RescoreError {
    #[error("there is no profile {name:?} for this collection: {known}")]
    UnknownProfile { name: String, known: String },
    #[error("the weight of {feature} is {weight}: it must be a number from -{MAX_WEIGHT} to {MAX_WEIGHT}")]
    Weight { feature: &'static str, weight: f64 },
    #[error("it is not a profile: {reason}")]
    Json { reason: String },
    #[error("direction {direction:?}: {source}")]
    Direction { direction: String, source: Box<RescoreError> },
    #[error("trees: {0}")]
    Model(#[from] ModelError),
    #[error(transparent)]
    Formula(#[from] FormulaError),
    #[error("trees_weight is {actual}: it must be a power of two, from 1/1024 to 1024")]
    TreesWeight { actual: f64 },
    #[error("profile {profile:?}, direction {direction:?}: {source}")]
    Profile { profile: String, direction: String, source: Box<RescoreError> },
}

impl RescoreError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownProfile { .. }
            | Self::Weight { .. }
            | Self::Profile { .. }
            | Self::Json { .. }
            | Self::Direction { .. }
            | Self::Model(_)
            | Self::Formula(_)
            | Self::TreesWeight { .. } => ErrorKind::Invalid,
        }
    }
}

/// The weights of one direction, by feature.
pub type Weights = BTreeMap<Feature, f64>;

/// Checks weights.
///
/// # Errors
/// [`RescoreError::Weight`].
pub fn check(weights: &Weights) -> Result<(), RescoreError> {
    match weights.iter().find(|(_, weight)| weight.is_nan() || weight.abs() > MAX_WEIGHT) {
        Some((feature, &weight)) => Err(RescoreError::Weight { feature: feature.name(), weight }),
        None => Ok(()),
    }
}

/// A collection's profiles as they stand in the configuration: weights by profile and direction.
///
/// A direction is `text` or the collection that the query's document comes from. A direction that a profile does not have
/// is scored by the dot product alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Profiles(BTreeMap<String, BTreeMap<String, Weights>>);

impl Profiles {
    /// Checks all weights.
    ///
    /// # Errors
    /// [`RescoreError::Profile`].
    pub fn check(&self) -> Result<(), RescoreError> {
        for (profile, directions) in &self.0 {
            for (direction, weights) in directions {
                check(weights).map_err(|e| RescoreError::Profile {
                    profile: profile.clone(),
                    direction: direction.clone(),
                    source: Box::new(e),
                })?;
            }
        }
        Ok(())
    }

    /// All of them, by name.
    pub fn read(&self) -> BTreeMap<String, Profile> {
        self.0.iter().map(|(name, directions)| (name.clone(), Profile::of_weights(directions))).collect()
    }
}

/// Values of all features, in the order of [`Feature::ALL`]; NaN where there is none.
pub type Values = [f64; Feature::ALL.len()];

/// What gives candidates their scores.
#[derive(Debug, Clone, PartialEq)]
pub enum Scorer {
    /// A sum of features, each times its weight.
    Weights(Weights),
    /// The same with learned weights and trees.
    Learned(Arc<Learned>),
    /// As the user says, for the schema that it was read for.
    Formula(Arc<Formula>),
}

/// What a score is made of.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Explained {
    /// Terms whose contributions, added in their order, are the score.
    Terms(Vec<Term>),
    /// Expressions in expressions; the outermost has the score.
    Tree(Explanation),
}

impl Explained {
    /// The terms; none of a formula.
    pub fn terms(&self) -> &[Term] {
        match self {
            Self::Terms(terms) => terms,
            Self::Tree(_) => &[],
        }
    }
}

/// A weighted sum and trees, as they were learned together.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    pub weights: Weights,
    /// What the trees' sum is multiplied with: a power of two, so that the product is exact.
    pub trees_weight: f64,
    pub trees: Model,
}

impl Learned {
    /// The features that weights or trees ask for, each once.
    fn features(&self) -> impl Iterator<Item = Feature> {
        let of_trees = self.trees.features().iter().filter(|feature| !self.weights.contains_key(feature));
        self.weights.keys().chain(of_trees).copied()
    }

    /// The score of a candidate.
    pub fn score(&self, values: &Values) -> f64 {
        // In the order of the terms.
        weighted(&self.weights, values).fold(self.trees_weight * self.trees.score(values), |sum, (.., added)| sum + added)
    }
}

/// Of each feature with a weight that a candidate has a value of: that, the weight, the product.
fn weighted<'a>(weights: &'a Weights, values: &'a Values) -> impl Iterator<Item = (Feature, f64, f64, f64)> {
    let one = |(&feature, &weight): (&Feature, &f64)| (feature, values[feature as usize], weight, weight * values[feature as usize]);
    weights.iter().map(one).filter(|(_, value, ..)| !value.is_nan())
}

/// One term of a score.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Term {
    /// A feature; `base` for what every candidate begins with.
    pub feature: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub unit: &'static str,
    /// Of the feature; not there for a candidate that it says nothing about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What the value is multiplied with, where the score is a weighted sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// What it adds to the score.
    pub contribution: f64,
}

impl Scorer {
    /// Checks all weights.
    ///
    /// # Errors
    /// [`RescoreError::Weight`].
    pub fn check(&self) -> Result<(), RescoreError> {
        match self {
            Self::Weights(weights) => check(weights),
            Self::Learned(learned) => check(&learned.weights),
            Self::Formula(_) => Ok(()),
        }
    }

    /// What it looks at in a candidate's attributes.
    pub fn selection(&self, schema: &Schema) -> Selection {
        let mut selection = Selection::default();
        match self {
            Self::Weights(weights) => weights.keys().for_each(|feature| feature.select(schema, &mut selection)),
            Self::Learned(learned) => learned.features().for_each(|feature| feature.select(schema, &mut selection)),
            Self::Formula(formula) => formula.select(schema, &mut selection),
        }
        selection
    }

    /// Whether a feature is asked for.
    pub fn uses(&self, feature: Feature) -> bool {
        match self {
            Self::Weights(weights) => weights.contains_key(&feature),
            Self::Learned(learned) => learned.features().any(|asked| asked == feature),
            Self::Formula(formula) => formula.features().any(|named| named == feature),
        }
    }

    /// The score of a candidate: the sum of the contributions of its terms, from the first to the last, or the value of its formula.
    pub fn score(&self, candidate: &Candidate<'_>) -> f64 {
        match self {
            Self::Weights(weights) => weighted_sum(weights, &values(weights.keys().copied(), candidate)),
            Self::Learned(learned) => learned.score(&values(learned.features(), candidate)),
            Self::Formula(formula) => formula.evaluate(candidate).score(),
        }
    }

    /// What a candidate's score is made of. A feature that the candidate or the query says nothing about has no term of a weighted sum; what
    /// trees make of that may add something.
    pub fn explain(&self, candidate: &Candidate<'_>) -> Explained {
        let of_weight = |(feature, value, weight, contribution): (Feature, f64, f64, f64)| Term {
            feature: feature.name(),
            unit: feature.unit(),
            value: Some(value),
            weight: Some(weight),
            contribution,
        };
        match self {
            Self::Weights(weights) => {
                let values = values(weights.keys().copied(), candidate);
                Explained::Terms(weighted(weights, &values).map(of_weight).collect())
            }
            Self::Learned(learned) => {
                let values = values(learned.features(), candidate);
                let (base, added) = learned.trees.explain(&values);
                let of_trees = |(feature, added): (Feature, f64)| Term {
                    feature: feature.name(),
                    unit: feature.unit(),
                    value: Some(values[feature as usize]).filter(|value| !value.is_nan()),
                    weight: None,
                    contribution: learned.trees_weight * added,
                };
                let base = Term { feature: "base", unit: "", value: None, weight: None, contribution: learned.trees_weight * base };
                let trees = std::iter::once(base).chain(added.into_iter().map(of_trees));
                Explained::Terms(trees.chain(weighted(&learned.weights, &values).map(of_weight)).collect())
            }
            Self::Formula(formula) => Explained::Tree(formula.evaluate(candidate).explanation()),
        }
    }
}

/// A candidate's values of some features; NaN for all others.
fn values(features: impl Iterator<Item = Feature>, candidate: &Candidate<'_>) -> Values {
    let mut values = [f64::NAN; Feature::ALL.len()];
    for feature in features {
        values[feature as usize] = feature.value(candidate).unwrap_or(f64::NAN);
    }
    values
}

/// What weights make of values that are known already.
pub fn weighted_sum(weights: &Weights, values: &Values) -> f64 {
    weighted(weights, values).fold(0.0, |sum, (.., added)| sum + added)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_name_and_direction() {
        let profiles: Profiles = toml::from_str("[fresh.text]\ndot = 1.0\nrecency = 0.3\n[default.members]\nremote = 0.5").unwrap();
        profiles.check().unwrap();
        let read = profiles.read();
        let weights = |name: &str, direction: &str| read[name].scorer(direction);
        assert_eq!(weights("fresh", "text"), Scorer::Weights(Weights::from([(Feature::Dot, 1.0), (Feature::Recency, 0.3)])));
        assert_eq!(weights("default", "members"), Scorer::Weights(Weights::from([(Feature::Remote, 0.5)])));
        assert_eq!(weights("default", "text"), Scorer::dot_alone());
        assert_eq!(read.len(), 2);
        assert!(toml::from_str::<Profiles>("[default.text]\nluck = 1.0").is_err(), "features are a closed list");
        assert!(toml::from_str::<Profiles>("[default.text]\ndot = inf").unwrap().check().is_err());
    }
}
