//! Formulas: a score that is computed as the user says, in the words of Qdrant's formula queries.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | what a formula is made of; evaluated, explained |
//! | `parse.rs` | JSON → formula: words and their operands |
//! | `keys.rs` | the names in it: features, fields, conditions, defaults |
//! | `evaluate.rs` | the value of each node |
//! | `error.rs` | where it is wrong, and what to write instead |
//!
//! A formula is a list of nodes in which each stands behind its parts, so that a candidate is evaluated in one pass over numbers: names
//! were resolved when it was read. Evaluation is total, for one odd document among hundreds must not fail a search, and no value is
//! ever NaN or infinite:
//!
//! | where Qdrant answers with an error | here |
//! |---|---|
//! | a field without a value and without a default | 0; a distance: as far as can be, half around the globe |
//! | division by zero without `by_zero_default` | 0: nothing is known, so nothing is added |
//! | `sqrt`, `ln`, `log10`, `pow` where they have no value | 0, likewise |
//! | larger than an `f64` can be | the largest `f64`, with its sign |
//!
//! Wherever that happens the explanation has a note. An explanation is read from the numbers that made the score; nothing is computed
//! again for it.

mod error;
mod evaluate;
mod keys;
mod parse;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::{Candidate, Feature};
pub use error::FormulaError;
use evaluate::Computed;
use kindred_core::domain::{Attributes, Condition, FieldId, GeoPoint, Schema, Selection};

/// Deepest nesting of a formula.
pub const MAX_DEPTH: usize = 32;
/// Most expressions in a formula, together.
pub const MAX_NODES: usize = 256;
/// Most values to compare with in a formula's conditions, together: each condition is evaluated for every candidate.
pub const MAX_CONDITION_VALUES: usize = 1_000;

/// A formula that was checked against a schema. It holds positions of fields: it means something for that schema only.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    /// Each behind its parts; the last is the whole formula. Never empty.
    nodes: Vec<Node>,
}

/// Position of a node in its formula.
type NodeId = usize;

/// One expression of a formula.
#[derive(Debug, Clone, PartialEq)]
struct Node {
    /// What an explanation calls it.
    what: String,
    op: Op,
}

/// What an expression computes. A default is what stands for a value that is not there, resolved to a number.
#[derive(Debug, Clone, PartialEq)]
enum Op {
    Constant(f64),
    /// The time of the search, in seconds since 1970.
    Now,
    Feature {
        feature: Feature,
        default: Option<f64>,
    },
    /// The first number of a field.
    Number {
        field: FieldId,
        default: Option<f64>,
    },
    /// The first time of a field, in seconds since 1970.
    Time {
        field: FieldId,
        default: Option<f64>,
    },
    /// Metres to the nearest place of a field.
    Distance {
        origin: GeoPoint,
        field: FieldId,
        default: Option<f64>,
    },
    /// 1 where it holds, else 0.
    Condition(Condition),
    Sum(Vec<NodeId>),
    Mult(Vec<NodeId>),
    Of(Function, NodeId),
    Div {
        left: NodeId,
        right: NodeId,
        by_zero_default: Option<f64>,
    },
    Pow {
        base: NodeId,
        exponent: NodeId,
    },
    Decay {
        curve: Curve,
        x: NodeId,
        /// 0 without it.
        target: Option<NodeId>,
        scale: f64,
        midpoint: f64,
    },
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Neg,
    Abs,
    Sqrt,
    Exp,
    Ln,
    Log10,
}

/// How a decay falls from 1 at its target, by way of its midpoint at its scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    Linear,
    Exponential,
    Gauss,
}

impl Op {
    /// The nodes it is computed from, in their order.
    fn parts(&self) -> Vec<NodeId> {
        match self {
            Self::Constant(_)
            | Self::Now
            | Self::Feature { .. }
            | Self::Number { .. }
            | Self::Time { .. }
            | Self::Distance { .. }
            | Self::Condition(_) => Vec::new(),
            Self::Sum(parts) | Self::Mult(parts) => parts.clone(),
            Self::Of(_, part) => vec![*part],
            Self::Div { left, right, .. } => vec![*left, *right],
            Self::Pow { base, exponent } => vec![*base, *exponent],
            Self::Decay { x, target, .. } => [Some(*x), *target].into_iter().flatten().collect(),
        }
    }
}

impl Formula {
    /// Computes a candidate's score. Its schema must be the one that the formula was read for.
    pub fn evaluate(&self, candidate: &Candidate<'_>) -> Evaluated<'_> {
        self.evaluate_with(candidate.attributes, candidate.wanted.now_us, |feature| feature.value(candidate))
    }

    /// The features that it names, so that what they need can be prepared.
    pub fn features(&self) -> impl Iterator<Item = Feature> {
        self.nodes.iter().filter_map(|node| match node.op {
            Op::Feature { feature, .. } => Some(feature),
            _ => None,
        })
    }

    /// Adds what it looks at in a candidate's attributes.
    pub fn select(&self, schema: &Schema, selection: &mut Selection) {
        self.features().for_each(|feature| feature.select(schema, selection));
        for node in &self.nodes {
            match &node.op {
                Op::Number { field, .. } | Op::Time { field, .. } | Op::Distance { field, .. } => selection.add(Some(*field)),
                Op::Condition(condition) => condition.select(selection),
                _ => {}
            }
        }
    }

    fn evaluate_with(&self, attributes: &Attributes, now_us: f64, feature: impl Fn(Feature) -> Option<f64>) -> Evaluated<'_> {
        let mut computed = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            computed.push(node.op.value(&computed, attributes, now_us, &feature));
        }
        Evaluated { formula: self, computed }
    }
}

/// A candidate's score, and all that it was computed from.
#[derive(Debug, Clone)]
pub struct Evaluated<'a> {
    formula: &'a Formula,
    /// By node.
    computed: Vec<Computed>,
}

impl Evaluated<'_> {
    /// The score; never NaN or infinite.
    pub fn score(&self) -> f64 {
        self.computed[self.root()].value
    }

    /// How it came about. Its value is the score.
    pub fn explanation(&self) -> Explanation {
        self.explain(self.root())
    }

    /// A formula has a node.
    fn root(&self) -> NodeId {
        self.computed.len() - 1
    }

    fn explain(&self, id: NodeId) -> Explanation {
        let node = &self.formula.nodes[id];
        let Computed { value, note } = self.computed[id];
        Explanation { what: node.what.clone(), value, note, parts: node.op.parts().into_iter().map(|part| self.explain(part)).collect() }
    }
}

/// How a score came about: a tree like the formula's, with the value of each expression.
///
/// Where there is no note, the parts' values give the value exactly: a `sum` is what is left when they are added from the first to the last
/// to 0, a `mult` when they are multiplied from the first to the last with 1.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Explanation {
    /// The word of the formula (`mult`), or what was looked up (`$dot`, `salary.min`).
    pub what: String,
    pub value: f64,
    /// Why the value is not what the parts or the document say: there was none, or it is no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub parts: Vec<Explanation>,
}
