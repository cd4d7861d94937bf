//! A learned score: gradient-boosted trees over features, as `kindred train rescore` or XGBoost makes them.
//!
//! Values of nodes are whole numbers of 2⁻²⁴: sums of them are exact in any order, so what each feature contributes adds up to the score to
//! the last bit. A feature contributes, at each node that asks for it, the difference between the mean of the node's training examples and
//! that of the branch that is taken (Saabas' method: one walk, no approximation of the sum).
//!
//! *On disk*: XGBoost's JSON; `learner.feature_names` are names of features.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::{Feature, Values};

/// Most trees and most nodes of a model: a walk through all of them should take microseconds.
const MAX_TREES: usize = 2_000;
const MAX_NODES: usize = 200_000;
/// Largest value of a node.
const MAX_VALUE: f64 = 1e6;
/// A value of 1, in units of values.
const ONE: f64 = (1u32 << 24) as f64;

/// Why a model cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("it is not a model in XGBoost's JSON: {0}")]
    Json(String),
    #[error("its feature {0:?} is none of Kindred's: names are those of the table of features in the README")]
    Feature(String),
    #[error("tree {tree}: {reason}")]
    Tree { tree: usize, reason: &'static str },
    #[error("it has {actual} {what}, over the limit of {limit}")]
    TooLarge { what: &'static str, actual: usize, limit: usize },
}

/// Trees over features.
#[derive(Clone, PartialEq)]
pub struct Model {
    /// As it was given.
    json: Value,
    features: Vec<Feature>,
    nodes: Vec<Node>,
    /// First node of each tree.
    roots: Vec<u32>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("features", &self.features).field("n_trees", &self.roots.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    /// In units of 2⁻²⁴: of a leaf, what it adds; of others, the mean of the leaves below, by their training examples.
    value: i64,
    split: Option<Split>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Split {
    feature: Feature,
    /// Smaller values go left.
    threshold: f32,
    left: u32,
    right: u32,
    /// Where candidates go of which the feature says nothing.
    default_left: bool,
}

#[derive(Deserialize)]
struct XgbModel {
    learner: XgbLearner,
}

#[derive(Deserialize)]
struct XgbLearner {
    feature_names: Vec<String>,
    gradient_booster: XgbBooster,
}

#[derive(Deserialize)]
struct XgbBooster {
    model: XgbTrees,
}

#[derive(Deserialize)]
struct XgbTrees {
    trees: Vec<XgbTree>,
}

#[derive(Deserialize)]
struct XgbTree {
    left_children: Vec<i32>,
    right_children: Vec<i32>,
    split_indices: Vec<usize>,
    /// Thresholds; of leaves, their values.
    split_conditions: Vec<f64>,
    #[serde(deserialize_with = "flags")]
    default_left: Vec<bool>,
    /// How many examples reached a node, about.
    sum_hessian: Vec<f64>,
}

/// `true` or 1: versions of XGBoost differ.
fn flags<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Number(u8),
    }
    let flags = Vec::<Flag>::deserialize(deserializer)?;
    Ok(flags.into_iter().map(|flag| matches!(flag, Flag::Bool(true) | Flag::Number(1..))).collect())
}

impl Model {
    /// Reads a model.
    ///
    /// # Errors
    /// [`ModelError`] says what is wrong with it.
    pub fn new(json: Value) -> Result<Self, ModelError> {
        let XgbLearner { feature_names, gradient_booster } =
            XgbModel::deserialize(&json).map_err(|e| ModelError::Json(e.to_string()))?.learner;
        let named = |name: String| name.parse::<Feature>().map_err(|_| ModelError::Feature(name));
        let features = feature_names.into_iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let trees = gradient_booster.model.trees;
        within("trees", trees.len(), MAX_TREES)?;
        within("nodes", trees.iter().map(|tree| tree.left_children.len()).sum(), MAX_NODES)?;
        let mut model = Self { json, features, nodes: Vec::new(), roots: Vec::new() };
        for (tree, xgb) in trees.iter().enumerate() {
            model.add(xgb).map_err(|reason| ModelError::Tree { tree, reason })?;
        }
        Ok(model)
    }

    fn add(&mut self, tree: &XgbTree) -> Result<(), &'static str> {
        let n = tree.left_children.len();
        let lens = [tree.right_children.len(), tree.split_indices.len(), tree.split_conditions.len(), tree.default_left.len()];
        if n == 0 || lens.iter().any(|&len| len != n) || tree.sum_hessian.len() != n {
            return Err("its lists are not of one length");
        }
        let root = self.nodes.len();
        // Children stand behind their parents, so a walk from the end meets them first.
        let mut values = vec![0.0; n];
        for node in (0..n).rev() {
            let children = [tree.left_children[node], tree.right_children[node]];
            values[node] = if children == [-1, -1] {
                tree.split_conditions[node]
            } else {
                let [left, right] = children.map(|child| usize::try_from(child).ok().filter(|child| (node + 1..n).contains(child)));
                let (Some(left), Some(right)) = (left, right) else { return Err("a node's branches do not stand behind it") };
                let weights = [left, right].map(|child| tree.sum_hessian[child].max(1e-9));
                (values[left] * weights[0] + values[right] * weights[1]) / (weights[0] + weights[1])
            };
            if !values[node].is_finite() || values[node].abs() > MAX_VALUE {
                return Err("a value is not a number of a sane size");
            }
        }
        for (node, value) in values.into_iter().enumerate() {
            let split = match (usize::try_from(tree.left_children[node]), usize::try_from(tree.right_children[node])) {
                (Ok(left), Ok(right)) => {
                    let Some(&feature) = self.features.get(tree.split_indices[node]) else {
                        return Err("a node asks for a feature that has no name");
                    };
                    let [left, right] = [left, right].map(|child| (root + child) as u32);
                    let threshold = tree.split_conditions[node] as f32;
                    Some(Split { feature, threshold, left, right, default_left: tree.default_left[node] })
                }
                _ => None,
            };
            self.nodes.push(Node { value: (value * ONE).round() as i64, split });
        }
        self.roots.push(root as u32);
        Ok(())
    }

    /// As XGBoost's JSON.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// How many trees it has.
    pub fn n_trees(&self) -> usize {
        self.roots.len()
    }

    /// The features that it asks for.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The score of a candidate.
    pub fn score(&self, values: &Values) -> f64 {
        let units: i64 = self.roots.iter().map(|&root| self.walk(root, values, |_, _| ())).sum();
        units as f64 / ONE
    }

    /// What every candidate begins with, and what each feature adds to it: together, in any order, exactly the score.
    pub fn explain(&self, values: &Values) -> (f64, Vec<(Feature, f64)>) {
        let mut added = [0i64; Feature::ALL.len()];
        for &root in &self.roots {
            self.walk(root, values, |feature, units| added[feature as usize] += units);
        }
        let base: i64 = self.roots.iter().map(|&root| self.nodes[root as usize].value).sum();
        (base as f64 / ONE, self.features.iter().map(|&feature| (feature, added[feature as usize] as f64 / ONE)).collect())
    }

    /// Walks a tree; returns the value of its leaf.
    #[inline]
    fn walk(&self, root: u32, values: &Values, mut see: impl FnMut(Feature, i64)) -> i64 {
        let mut node = &self.nodes[root as usize];
        while let Some(Split { feature, threshold, left, right, default_left }) = node.split {
            let value = values[feature as usize];
            let goes_left = if value.is_nan() { default_left } else { (value as f32) < threshold };
            let next = &self.nodes[if goes_left { left } else { right } as usize];
            see(feature, next.value - node.value);
            node = next;
        }
        node.value
    }
}

fn within(what: &'static str, actual: usize, limit: usize) -> Result<(), ModelError> {
    if actual > limit { Err(ModelError::TooLarge { what, actual, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn model(trees: &Value) -> Value {
        json!({"learner": {"feature_names": ["dot", "bm25"], "gradient_booster": {"model": {"trees": trees}}}})
    }

    /// dot < 0.5 ? (bm25 < 0.25 ? -1 : 0.1) : 2; what says nothing of bm25 goes right.
    fn tree() -> Value {
        json!({
            "left_children": [1, 3, -1, -1, -1], "right_children": [2, 4, -1, -1, -1], "split_indices": [0, 1, 0, 0, 0],
            "split_conditions": [0.5, 0.25, 2.0, -1.0, 0.1], "default_left": [1, 0, 0, 0, 0], "sum_hessian": [10.0, 6.0, 4.0, 3.0, 3.0],
        })
    }

    fn values(dot: f64, bm25: f64) -> Values {
        let mut values = [f64::NAN; Feature::ALL.len()];
        (values[Feature::Dot as usize], values[Feature::Bm25 as usize]) = (dot, bm25);
        values
    }

    fn parsed(trees: &Value) -> Result<Model, ModelError> {
        Model::new(model(trees))
    }

    #[test]
    fn trees_are_walked() {
        let model = parsed(&json!([tree(), tree()])).unwrap();
        assert_eq!(model.features(), [Feature::Dot, Feature::Bm25]);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} instead of {b}");
        near(model.score(&values(0.4, 0.1)), -2.0);
        near(model.score(&values(0.4, 0.25)), 0.2);
        near(model.score(&values(0.5, f64::NAN)), 4.0);
        near(model.score(&values(f64::NAN, f64::NAN)), 0.2);
        let (base, added) = model.explain(&values(0.4, 0.1));
        // Means: -0.45 of the inner node, (6 × -0.45 + 4 × 2) / 10 = 0.53 of the root.
        near(base, 2.0 * 0.53);
        near(added[0].1, 2.0 * (-0.45 - 0.53));
        near(added[1].1, 2.0 * (-1.0 + 0.45));
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let with = |key: &str, value: Value| {
            let mut tree = tree();
            tree[key] = value;
            parsed(&json!([tree])).unwrap_err().to_string()
        };
        assert!(Model::new(json!({})).unwrap_err().to_string().contains("learner"));
        assert!(with("split_indices", json!([0, 9, 0, 0, 0])).contains("no name"));
        assert!(with("left_children", json!([0, 3, -1, -1, -1])).contains("behind"), "a tree without end");
        assert!(with("right_children", json!([9, 4, -1, -1, -1])).contains("behind"));
        assert!(with("sum_hessian", json!([1.0])).contains("length"));
        assert!(with("split_conditions", json!([0.5, 0.25, 1e300, -1.0, 0.1])).contains("sane"));
        let named = json!({"learner": {"feature_names": ["luck"], "gradient_booster": {"model": {"trees": []}}}});
        assert!(Model::new(named).unwrap_err().to_string().contains("luck"));
    }

    proptest! {
        #[test]
        fn contributions_add_up_to_the_last_bit(
            leaves in prop::collection::vec(-3.0f64..3.0, 3 * 40),
            values in prop::collection::vec(prop_oneof![Just(f64::NAN), -1.0f64..1.0], 2),
            backwards: bool,
        ) {
            let trees: Vec<Value> = leaves.chunks_exact(3).map(|leaves| {
                let mut tree = tree();
                tree["split_conditions"] = json!([0.5, 0.25, leaves[0], leaves[1], leaves[2]]);
                tree
            }).collect();
            let model = parsed(&json!(trees)).unwrap();
            let values = self::values(values[0], values[1]);
            let (base, mut added) = model.explain(&values);
            if backwards {
                added.reverse();
            }
            prop_assert_eq!(added.iter().fold(base, |sum, (_, part)| sum + part), model.score(&values));
        }
    }
}
