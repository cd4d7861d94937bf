//! A filter's rows, from those of its conditions: exactly the rows whose documents [`Filter::matches`].
//!
//! The cheapest conditions come first, each result is merged at once, and evaluation stops when no row is left: it holds at most
//! three bitmaps for each level of nesting, whatever the number of conditions. The deadline is checked before every condition,
//! and within those that take long.
//!
//! Each bitmap comes with an estimate of its share of rows: that of a condition is counted, and shares are combined as if
//! conditions were independent. If no row is left before the last condition, the others do not count.

use roaring::RoaringBitmap;

use super::super::IndexError;
use super::super::attributes::AttributeFile;
use super::{FilterDeadline, all_rows};
use kindred_core::domain::{Condition, Filter};

/// The rows that match, and the estimate of their share of all rows.
#[derive(Debug)]
pub(in super::super) struct Passing {
    pub rows: RoaringBitmap,
    pub(super) estimate: f64,
}

/// Evaluates filters over columns.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Evaluator<'a> {
    pub attributes: &'a AttributeFile,
    pub deadline: FilterDeadline,
}

impl Evaluator<'_> {
    /// The rows that match a filter.
    ///
    /// # Errors
    /// [`IndexError::NotIndexed`], [`IndexError::FilterTimeout`], [`IndexError::Storage`].
    pub fn passing(self, filter: &Filter) -> Result<Passing, IndexError> {
        let mut passing = None;
        for condition in cheapest_first(&filter.must) {
            passing = Some(both(passing, self.satisfying(condition)?));
            if passing.as_ref().is_some_and(Passing::is_empty) {
                break;
            }
        }
        if !filter.should.is_empty() && !passing.as_ref().is_some_and(Passing::is_empty) {
            passing = Some(both(passing, self.any(&filter.should)?));
        }
        let mut passing = passing.unwrap_or_else(|| Passing { rows: all_rows(self.attributes.n_rows()), estimate: 1.0 });
        for condition in cheapest_first(&filter.must_not) {
            if passing.is_empty() {
                break;
            }
            let one = self.satisfying(condition)?;
            passing.rows -= one.rows;
            passing.estimate *= 1.0 - one.estimate;
        }
        Ok(passing)
    }

    /// The rows that satisfy at least one condition.
    fn any(self, conditions: &[Condition]) -> Result<Passing, IndexError> {
        let (mut rows, mut none) = (RoaringBitmap::new(), 1.0);
        for condition in cheapest_first(conditions) {
            let one = self.satisfying(condition)?;
            rows |= one.rows;
            none *= 1.0 - one.estimate;
        }
        Ok(Passing { rows, estimate: 1.0 - none })
    }

    fn satisfying(self, condition: &Condition) -> Result<Passing, IndexError> {
        self.deadline.check()?;
        if let Condition::Nested(filter) = condition {
            return self.passing(filter);
        }
        let rows = self.rows(condition)?;
        let estimate = rows.len() as f64 / f64::from(self.attributes.n_rows().max(1));
        Ok(Passing { rows, estimate })
    }
}

impl Passing {
    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// The rows that are in both; `None` stands for all rows.
fn both(a: Option<Passing>, b: Passing) -> Passing {
    match a {
        None => b,
        Some(a) => Passing { rows: a.rows & b.rows, estimate: a.estimate * b.estimate },
    }
}

/// Conditions in the order of their expected cost.
fn cheapest_first(conditions: &[Condition]) -> Vec<&Condition> {
    let mut conditions: Vec<&Condition> = conditions.iter().collect();
    conditions.sort_by_key(|condition| cost(condition));
    conditions
}

/// The expected cost of a condition, in bitmaps to read or fill. Measured on a million rows: a keyword's takes 0.1 ms, and the
/// places of a radius up to 70 ms.
fn cost(condition: &Condition) -> u64 {
    match condition {
        Condition::Bool { .. } | Condition::Range { .. } => 1,
        Condition::Words { any, .. } => any.len() as u64,
        Condition::Numbers { any, .. } => any.len() as u64,
        Condition::WordsExcept { except, .. } => 2 + except.len() as u64,
        Condition::GeoRadius { .. } => 700,
        Condition::Nested(Filter { must, should, must_not }) => [must, should, must_not].into_iter().flatten().map(cost).sum(),
    }
}
