//! How much a filter may contain.

use super::FilterError;

/// Deepest nesting of filters.
pub(super) const MAX_DEPTH: usize = 8;

/// What may still come of a filter, or of several that one request has.
///
/// A range, a keyword or a radius each take up to milliseconds over a million rows, wherever the limits of bodies and of time are.
#[derive(Debug)]
pub struct FilterBudget {
    /// What it is for, in messages.
    what: &'static str,
    conditions: Limit,
    values: Limit,
    radii: Limit,
    bytes: Limit,
}

#[derive(Debug)]
struct Limit {
    max: usize,
    left: usize,
    /// What is counted, and what to do where there are too many.
    noun: &'static str,
    advice: &'static str,
}

impl FilterBudget {
    /// Most conditions, nested filters included.
    pub const MAX_CONDITIONS: usize = 256;
    /// Most values of `match`.
    pub const MAX_VALUES: usize = 10_000;
    /// Most `geo_radius` conditions, each of which measures the distance to every place of fitting latitude.
    pub const MAX_RADII: usize = 16;
    /// Most bytes of keywords.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Of one filter.
    pub fn of_filter() -> Self {
        Self::new("a filter", Self::MAX_VALUES)
    }

    /// Of everything that `what` names, with room for fewer values.
    pub fn new(what: &'static str, max_values: usize) -> Self {
        Self {
            what,
            conditions: Limit::new(Self::MAX_CONDITIONS, "conditions", "write alternatives for one field as {\"match\": {\"any\": […]}}"),
            values: Limit::new(max_values, "values", "send the request in parts"),
            radii: Limit::new(Self::MAX_RADII, "geo_radius conditions", "cover them with fewer, larger circles"),
            bytes: Limit::new(Self::MAX_BYTES, "bytes of keywords", "send the request in parts"),
        }
    }

    pub(super) fn count_condition(&mut self, path: &str) -> Result<(), FilterError> {
        self.conditions.take(1, self.what, path)
    }

    pub(super) fn count_radius(&mut self, path: &str) -> Result<(), FilterError> {
        self.radii.take(1, self.what, path)
    }

    pub(super) fn count_values(&mut self, n: usize, n_bytes: usize, path: &str) -> Result<(), FilterError> {
        self.values.take(n, self.what, path)?;
        self.bytes.take(n_bytes, self.what, path)
    }
}

impl Limit {
    fn new(max: usize, noun: &'static str, advice: &'static str) -> Self {
        Self { max, left: max, noun, advice }
    }

    fn take(&mut self, n: usize, what: &str, path: &str) -> Result<(), FilterError> {
        let Self { max, left, noun, advice } = self;
        let problem = || FilterError { path: path.to_owned(), problem: format!("{what} may have at most {max} {noun}: {advice}") };
        *left = left.checked_sub(n).ok_or_else(problem)?;
        Ok(())
    }
}
