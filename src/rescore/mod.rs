//! The second, cheap ordering: a linear sum of typed features over the candidates that retrieval found.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | profiles, and the sum |
//! | `features.rs` | the one table of features: name, unit, meaning |
//! | `formula/` | scores that are computed as the user says |
//!
//! A score is the sum of its terms, in the order in which they are explained, in f64: an explanation adds up exactly.

mod features;
mod formula;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{Attributes, Schema};
use crate::error::ErrorKind;
pub use features::{Feature, Signals, Wanted};
pub use formula::{Evaluated, Explanation, Formula, FormulaError};

/// The direction of queries that bring a text or a vector rather than a document.
pub const FROM_TEXT: &str = "text";
/// The profile of requests that name none.
pub const DEFAULT_PROFILE: &str = "default";

/// What can go wrong with re-scoring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RescoreError {
    #[error("there is no profile {name:?} for this collection: {known}")]
    UnknownProfile { name: String, known: String },
    #[error("profile {profile:?}, direction {direction:?}: the weight of {feature} must be a finite number")]
    Weight { profile: String, direction: String, feature: &'static str },
}

impl RescoreError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownProfile { .. } | Self::Weight { .. } => ErrorKind::Invalid,
        }
    }
}

/// The weights of one direction, by feature.
pub type Weights = BTreeMap<Feature, f64>;

/// A collection's profiles as they stand in the configuration: weights by profile and direction.
///
/// A direction is `text` or the collection that the query's document comes from. A direction that a profile does not have
/// is scored by the dot product alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Profiles(BTreeMap<String, BTreeMap<String, Weights>>);

impl Profiles {
    /// One profile with one direction.
    pub fn of(profile: &str, direction: &str, weights: Weights) -> Self {
        Self(BTreeMap::from([(profile.to_owned(), BTreeMap::from([(direction.to_owned(), weights)]))]))
    }

    /// Checks all weights.
    ///
    /// # Errors
    /// [`RescoreError::Weight`].
    pub fn check(&self) -> Result<(), RescoreError> {
        for (profile, directions) in &self.0 {
            for (direction, weights) in directions {
                if let Some((feature, _)) = weights.iter().find(|(_, weight)| !weight.is_finite()) {
                    return Err(RescoreError::Weight { profile: profile.clone(), direction: direction.clone(), feature: feature.name() });
                }
            }
        }
        Ok(())
    }

    /// The weights of a profile for a direction.
    ///
    /// # Errors
    /// [`RescoreError::UnknownProfile`]; the default profile is always there.
    pub fn weights(&self, profile: &str, direction: &str) -> Result<Weights, RescoreError> {
        let dot_alone = || Weights::from([(Feature::Dot, 1.0)]);
        match self.0.get(profile) {
            Some(directions) => Ok(directions.get(direction).cloned().unwrap_or_else(dot_alone)),
            None if profile == DEFAULT_PROFILE => Ok(dot_alone()),
            None => {
                let known: Vec<_> = self
                    .0
                    .keys()
                    .map(String::as_str)
                    .chain([DEFAULT_PROFILE])
                    .collect::<std::collections::BTreeSet<_>>()
                    .into_iter()
                    .collect();
                Err(RescoreError::UnknownProfile { name: profile.to_owned(), known: format!("there are {}", known.join(", ")) })
            }
        }
    }
}

/// One term of a score: `contribution` = `weight` × `value`.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Term {
    pub feature: Feature,
    pub unit: &'static str,
    pub value: f64,
    pub weight: f64,
    pub contribution: f64,
}

/// The terms of a candidate's score. A feature that the candidate or the query says nothing about has no term.
pub fn terms(weights: &Weights, wanted: &Wanted, signals: &Signals, attributes: &Attributes, schema: &Schema) -> Vec<Term> {
    let term = |(&feature, &weight): (&Feature, &f64)| {
        let value = feature.value(wanted, signals, attributes, schema)?;
        Some(Term { feature, unit: feature.unit(), value, weight, contribution: weight * value })
    };
    weights.iter().filter_map(term).collect()
}

/// The score: the sum of the contributions, from the first to the last.
pub fn score(terms: &[Term]) -> f64 {
    terms.iter().fold(0.0, |sum, term| sum + term.contribution)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_name_and_direction() {
        let profiles: Profiles = toml::from_str("[fresh.text]\ndot = 1.0\nrecency = 0.3\n[default.members]\nremote = 0.5").unwrap();
        profiles.check().unwrap();
        assert_eq!(profiles.weights("fresh", "text").unwrap().len(), 2);
        assert_eq!(profiles.weights("default", "members").unwrap(), Weights::from([(Feature::Remote, 0.5)]));
        assert_eq!(profiles.weights("default", "text").unwrap(), Weights::from([(Feature::Dot, 1.0)]));
        assert!(profiles.weights("stale", "text").unwrap_err().to_string().contains("default, fresh"));
        assert!(toml::from_str::<Profiles>("[default.text]\nluck = 1.0").is_err(), "features are a closed list");
        assert!(toml::from_str::<Profiles>("[default.text]\ndot = inf").unwrap().check().is_err());
    }
}
