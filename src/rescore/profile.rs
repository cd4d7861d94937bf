//! A profile: what gives candidates their scores, by direction; as people write it and as it was learned.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Feature, Learned, Model, RescoreError, Scorer, Weights};

/// A profile of a collection. A direction that it does not have is scored by the dot product alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    scorers: BTreeMap<String, Scorer>,
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
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`RescoreError`] says what is wrong with it, and where.
    pub fn parse(json: &str) -> Result<Self, RescoreError> {
        let written: Written = serde_json::from_str(json).map_err(|e| RescoreError::Json { reason: e.to_string() })?;
        let mut scorers = BTreeMap::new();
        for (direction, scorer) in written.directions {
            let scorer =
                scorer.read().map_err(|source| RescoreError::Direction { direction: direction.clone(), source: Box::new(source) })?;
            scorers.insert(direction, scorer);
        }
        Ok(Self { scorers })
    }

    /// One that was learned, as it is stored.
    pub fn write(direction: &str, learned: &Learned, card: Value) -> Value {
        let scorer = WrittenScorer {
            weights: learned.weights.clone(),
            trees: Some(learned.trees.json().clone()),
            trees_weight: Some(learned.trees_weight),
        };
        let written = Written { directions: BTreeMap::from([(direction.to_owned(), scorer)]), card: Some(card) };
        serde_json::to_value(written).expect("it is made of JSON")
    }

    /// Of weights by direction.
    pub fn of_weights(directions: &BTreeMap<String, Weights>) -> Self {
        Self { scorers: directions.iter().map(|(direction, weights)| (direction.clone(), Scorer::Weights(weights.clone()))).collect() }
    }

    /// What scores the candidates of queries of a direction.
    pub fn scorer(&self, direction: &str) -> Scorer {
        self.scorers.get(direction).cloned().unwrap_or_else(Scorer::dot_alone)
    }

    pub fn directions(&self) -> Vec<String> {
        self.scorers.keys().cloned().collect()
    }
}

impl WrittenScorer {
    fn read(self) -> Result<Scorer, RescoreError> {
        let scorer = match self.trees {
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

    #[test]
    fn profiles_are_read_by_direction() {
        let json = json!({"directions": {"text": {"weights": {"dot": 1.0, "recency": 0.3}}, "members": {}}, "card": {"by": "hand"}});
        let profile = Profile::parse(&json.to_string()).unwrap();
        assert_eq!(profile.scorer("text"), Scorer::Weights(Weights::from([(Feature::Dot, 1.0), (Feature::Recency, 0.3)])));
        assert_eq!(profile.scorer("jobs"), Scorer::dot_alone());
        assert_eq!(profile.directions(), ["members", "text"]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let of_text = |scorer: Value| Profile::parse(&json!({"directions": {"text": scorer}}).to_string()).unwrap_err().to_string();
        assert!(Profile::parse("[]").unwrap_err().to_string().contains("directions"));
        assert!(of_text(json!({"weights": {"luck": 1.0}})).contains("luck"));
        assert!(of_text(json!({"weights": {"dot": 1e9}})).contains("\"text\": the weight of dot"));
        assert!(of_text(json!({"trees": {}})).contains("XGBoost"));
        assert!(of_text(json!({"trees": {}, "trees_weight": 3.0})).contains("power of two"));
    }
}
