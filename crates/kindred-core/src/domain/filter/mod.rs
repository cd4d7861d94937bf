//! Filters: Qdrant's grammar, closed, and checked against a schema when they are parsed.
//!
//! `{"must": […], "should": […], "must_not": […]}` of `{"key", "match": {"value" | "any" | "except"}}`,
//! `{"key", "range": {"gt", "gte", "lt", "lte"}}`, `{"key", "geo_radius": {"center": {"lat", "lon"}, "radius"}}` (metres) or
//! another filter. A condition is true if any value of the field satisfies it, and false for a document without the field.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the types, and the memory that they take |
//! | `parse.rs` | JSON → filter |
//! | `conditions.rs` | the table of the kinds of conditions, each with its parser |
//! | `limits.rs` | how much a filter may contain |
//! | `matches.rs` | a filter applied to one document |
//! | `constant.rs` | what a filter matches whatever the documents contain |

mod conditions;
mod constant;
mod limits;
mod matches;
mod parse;
#[cfg(test)]
mod tests;

use std::ops::Deref;

pub use conditions::{CLAUSES, CONDITIONS, ConditionKind, begins_condition};
pub use limits::FilterBudget;

use super::{FieldId, GeoPoint, Number};
use crate::error::ErrorKind;

/// Why a filter is rejected, and the place in it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct FilterError {
    pub path: String,
    pub problem: String,
}

impl FilterError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Malformed
    }
}

/// Matches documents that satisfy all of `must`, none of `must_not`, and at least one of `should` unless that is empty.
///
/// # Example
/// ```
/// use kindred_core::domain::{Filter, Schema};
/// use serde_json::json;
///
/// let schema = Schema::new(&serde_json::from_value(json!({"salary": {"type": "number", "index": true}}))?)?;
/// let filter = Filter::parse(&json!({"must": [{"key": "salary", "range": {"gte": 50000}}]}), &schema)?;
/// assert_eq!(filter.must.len(), 1);
/// assert!(Filter::parse(&json!({"must": [{"key": "wage", "range": {"gte": 1}}]}), &schema).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    pub must: Vec<Condition>,
    pub should: Vec<Condition>,
    pub must_not: Vec<Condition>,
}

/// One condition on one field, or another filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A word of the field is one of these.
    Words {
        field: FieldId,
        any: OneOf<String>,
    },
    /// A word of the field is none of these.
    WordsExcept {
        field: FieldId,
        except: OneOf<String>,
    },
    /// A truth value of the field is this.
    Bool {
        field: FieldId,
        value: bool,
    },
    /// A number or time of the field is one of these.
    Numbers {
        field: FieldId,
        any: OneOf<Number>,
    },
    /// A number or time of the field is in the range.
    Range {
        field: FieldId,
        range: Range,
    },
    /// A place of the field is at most this far from the center.
    GeoRadius {
        field: FieldId,
        center: GeoPoint,
        radius_km: f64,
    },
    Nested(Filter),
}

/// Bounds; open where `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Range {
    pub gt: Option<Number>,
    pub gte: Option<Number>,
    pub lt: Option<Number>,
    pub lte: Option<Number>,
}

/// Values to compare with: sorted and without duplicates, so that comparing with all of them takes O(log n).
#[derive(Debug, Clone, PartialEq)]
pub struct OneOf<T>(Vec<T>);

impl<T: Ord> OneOf<T> {
    pub fn new(mut values: Vec<T>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self(values)
    }

    /// True if the value is one of these.
    pub fn contains(&self, value: &T) -> bool {
        self.0.binary_search(value).is_ok()
    }
}

impl<T> Deref for OneOf<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl Filter {
    /// The conditions of all three lists.
    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        [&self.must, &self.should, &self.must_not].into_iter().flatten()
    }

    /// Memory that the filter takes, in bytes, approximately.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.conditions().map(Condition::size_bytes).sum::<usize>()
    }
}

impl Condition {
    fn size_bytes(&self) -> usize {
        let on_the_heap = match self {
            Self::Words { any: words, .. } | Self::WordsExcept { except: words, .. } => {
                words.iter().map(|word| size_of::<String>() + word.len()).sum()
            }
            Self::Numbers { any, .. } => size_of_val(&any[..]),
            Self::Nested(filter) => filter.size_bytes(),
            Self::Bool { .. } | Self::Range { .. } | Self::GeoRadius { .. } => 0,
        };
        size_of::<Self>() + on_the_heap
    }
}
