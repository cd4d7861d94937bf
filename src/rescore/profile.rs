//! A profile: what gives candidates their scores, by direction; as people write it and as it was learned.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Feature, Formula, Learned, Model, RescoreError, Scorer, Weights};
use kindred_core::domain::Schema;

/// A profile of a collection. A direction that it does not have is scored by the dot product alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    scorers: BTreeMap<String, Scorer>,
    adapters: BTreeMap<String, Value>,
}

/// As it is stored and sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object such as {\"directions\": {\"text\": {\"weights\": {\"dot\": 1, \"bm25\": 0.2}}}}")]
struct Written {
    directions: BTreeMap<String, WrittenScorer>,
    /// How it came to be; kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    card: Option<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenScorer {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    weights: Weights,
    /// In XGBoost's JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trees: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trees_weight: Option<f64>,
    /// Instead of all these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    formula: Option<Value>,
    /// Of values that a formula misses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    defaults: Option<Value>,
    /// What is done to queries before they are searched with; what it means is not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adapter: Option<Value>,
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`RescoreError`] says what is wrong with it, and where.
    pub fn parse(json: &str, schema: &Schema) -> Result<Self, RescoreError> {
        let written: Written = serde_json::from_str(json).map_err(|e| RescoreError::Json { reason: e.to_string() })?;
        if written.directions.is_empty() {
            let reason = "\"directions\" names none: there are \"text\", and each collection whose documents are asked with".to_owned();
            return Err(RescoreError::Json { reason });
        }
        let (mut scorers, mut adapters) = (BTreeMap::new(), BTreeMap::new());
        for (direction, scorer) in written.directions {
            adapters.extend(scorer.adapter.clone().map(|adapter| (direction.clone(), adapter)));
            let scorer =
                scorer.read(schema).map_err(|source| RescoreError::Direction { direction: direction.clone(), source: Box::new(source) })?;
            scorers.insert(direction, scorer);
        }
        Ok(Self { scorers, adapters })
    }

    /// Reads what scores one direction.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read_one(json: &Value, schema: &Schema) -> Result<Scorer, RescoreError> {
        WrittenScorer::deserialize(json).map_err(|e| RescoreError::Json { reason: e.to_string() })?.read(schema)
    }

    /// Weights as they are written.
    pub fn write_weights(weights: &Weights) -> Value {
        serde_json::json!({"weights": weights})
    }

    /// One that was learned, as it is stored.
    pub fn write(direction: &str, learned: &Learned, card: Value) -> Value {
        let scorer = WrittenScorer {
            weights: learned.weights.clone(),
            trees: Some(learned.trees.json().clone()),
            trees_weight: Some(learned.trees_weight),
            formula: None,
            defaults: None,
            adapter: None,
        };
        let written = Written { directions: BTreeMap::from([(direction.to_owned(), scorer)]), card: Some(card) };
        serde_json::to_value(written).expect("it is made of JSON")
    }

    /// Of weights by direction.
    pub fn of_weights(directions: &BTreeMap<String, Weights>) -> Self {
        let scorers = directions.iter().map(|(direction, weights)| (direction.clone(), Scorer::Weights(weights.clone()))).collect();
        Self { scorers, adapters: BTreeMap::new() }
    }

    /// What scores the candidates of queries of a direction.
    pub fn scorer(&self, direction: &str) -> Scorer {
        self.scorers.get(direction).cloned().unwrap_or_else(Scorer::dot_alone)
    }

    /// The weights of a direction, where it is scored by weights alone.
    pub fn weights(&self, direction: &str) -> Option<Weights> {
        match self.scorers.get(direction)? {
            Scorer::Weights(weights) => Some(weights.clone()),
            Scorer::Learned(_) | Scorer::Formula(_) => None,
        }
    }

    /// What is done to queries before they are searched with, by direction, as it was written.
    pub fn adapters(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.adapters.iter().map(|(direction, adapter)| (direction.as_str(), adapter))
    }

    pub fn directions(&self) -> Vec<String> {
        self.scorers.keys().cloned().collect()
    }
}

impl WrittenScorer {
    fn read(self, schema: &Schema) -> Result<Scorer, RescoreError> {
        if let Some(formula) = self.formula {
            if !self.weights.is_empty() || self.trees.is_some() {
                return Err(RescoreError::Json { reason: "it has a formula and weights or trees: choose one".to_owned() });
            }
            let mut written = serde_json::json!({"formula": formula});
            if let Some(defaults) = self.defaults {
                written["defaults"] = defaults;
            }
            return Ok(Scorer::Formula(Arc::new(Formula::parse(&written, schema)?)));
        }
        let scorer = match self.trees {
            None if self.weights.is_empty() && self.adapter.is_some() => Scorer::dot_alone(),
            None if self.weights.is_empty() => {
                let reason = "it says nothing of scores: give \"weights\", \"trees\" or a \"formula\"".to_owned();
                return Err(RescoreError::Json { reason });
            }
            None => Scorer::Weights(self.weights),
            Some(trees) => {
                let trees_weight = self.trees_weight.unwrap_or(1.0);
                // Products with it are exact, and so are sums of these.
                if !(1.0 / 1024.0..=1024.0).contains(&trees_weight) || trees_weight.log2().fract() != 0.0 {
                    return Err(RescoreError::TreesWeight { actual: trees_weight });
                }
                let trees = Model::new(trees)?;
                Scorer::Learned(Arc::new(Learned { weights: self.weights, trees_weight, trees }))
            }
        };
        scorer.check()?;
        Ok(scorer)
    }
}

impl Scorer {
    /// The score of retrieval by meaning.
    pub fn dot_alone() -> Self {
        Self::Weights(Weights::from([(Feature::Dot, 1.0)]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(json: &Value) -> Result<Profile, RescoreError> {
        let fields = json!({"salary": {"type": "number", "index": true}});
        Profile::parse(&json.to_string(), &Schema::new(&serde_json::from_value(fields).unwrap()).unwrap())
    }

    #[test]
    fn profiles_are_read_by_direction() {
        let json = json!({"directions": {"text": {"weights": {"dot": 1.0, "recency": 0.3}}, "members": {"weights": {"dot": 2.0}}}, "card": {"by": "hand"}});
        let profile = parse(&json).unwrap();
        assert_eq!(profile.scorer("text"), Scorer::Weights(Weights::from([(Feature::Dot, 1.0), (Feature::Recency, 0.3)])));
        assert_eq!(profile.scorer("jobs"), Scorer::dot_alone());
        assert_eq!(profile.directions(), ["members", "text"]);
        assert_eq!(profile.adapters().count(), 0);
    }

    #[test]
    fn an_adapter_goes_beside_what_scores() {
        let json = json!({"directions": {"members": {"adapter": {"a": 1}}, "text": {"formula": "salary", "adapter": 2}}});
        let profile = parse(&json).unwrap();
        assert_eq!(profile.adapters().collect::<Vec<_>>(), [("members", &json!({"a": 1})), ("text", &json!(2))]);
        assert_eq!(profile.scorer("members"), Scorer::dot_alone(), "it says nothing of scores");
        assert!(matches!(profile.scorer("text"), Scorer::Formula(_)));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let of_text = |scorer: Value| parse(&json!({"directions": {"text": scorer}})).unwrap_err().to_string();
        assert!(parse(&json!([])).unwrap_err().to_string().contains("directions"));
        assert!(parse(&json!({"directions": {}})).unwrap_err().to_string().contains("names none"));
        assert!(of_text(json!({})).contains("says nothing of scores"));
        assert!(of_text(json!({"weights": {"luck": 1.0}})).contains("luck"));
        assert!(of_text(json!({"weights": {"dot": 1e9}})).contains("\"text\": the weight of dot"));
        assert!(of_text(json!({"trees": {}})).contains("XGBoost"));
        assert!(of_text(json!({"formula": "salary", "weights": {"dot": 1.0}})).contains("choose one"));
        assert!(of_text(json!({"formula": {"max": []}})).contains("max"));
        assert!(of_text(json!({"trees": {}, "trees_weight": 3.0})).contains("power of two"));
    }
}
