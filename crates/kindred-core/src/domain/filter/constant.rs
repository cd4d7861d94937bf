//! What a filter matches whatever the documents contain.

use super::{Condition, Filter, Range};

impl Filter {
    /// True if the filter selects documents by what they contain. False for `{}`, for lists without conditions at any depth,
    /// for ranges without bounds, and for what matches every document because a part of it does, such as
    /// `{"should": [condition, {}]}`.
    ///
    /// Deletions demand this: a program that builds a filter of optional parts sends one of these when all parts are absent.
    ///
    /// # Example
    /// ```
    /// use kindred_core::domain::{Filter, Schema};
    /// use serde_json::json;
    ///
    /// let filter = |json| Filter::parse(&json, &Schema::default());
    /// assert!(!filter(json!({"must": [{"should": []}]}))?.selects());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn selects(&self) -> bool {
        self.compares() && self.constant() != Some(true)
    }

    /// True if any condition compares a field with a value.
    fn compares(&self) -> bool {
        self.conditions().any(|condition| match condition {
            Condition::Nested(filter) => filter.compares(),
            leaf => !leaf.is_open(),
        })
    }

    /// What the filter says of every document, if that does not depend on the document.
    fn constant(&self) -> Option<bool> {
        let must = self.must.iter().map(Condition::constant);
        let must_not = self.must_not.iter().map(|condition| condition.constant().map(|always| !always));
        let should = (!self.should.is_empty()).then(|| any(self.should.iter().map(Condition::constant)));
        all(must.chain(must_not).chain(should))
    }
}

impl Condition {
    fn constant(&self) -> Option<bool> {
        match self {
            Self::Words { any, .. } if any.is_empty() => Some(false),
            Self::Numbers { any, .. } if any.is_empty() => Some(false),
            Self::Nested(filter) => filter.constant(),
            // It depends on whether the document has a value. A caller that sets no bound does not mean that.
            leaf if leaf.is_open() => Some(true),
            _ => None,
        }
    }

    /// True if every value of the field satisfies the condition, because it names none to compare with.
    fn is_open(&self) -> bool {
        match self {
            Self::Range { range, .. } => *range == Range::default(),
            Self::WordsExcept { except, .. } => except.is_empty(),
            _ => false,
        }
    }
}

/// The conjunction of values of which some are unknown.
fn all(values: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for value in values {
        match value {
            Some(false) => return Some(false),
            None => all = None,
            Some(true) => {}
        }
    }
    all
}

/// The disjunction of values of which some are unknown.
fn any(values: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    all(values.map(|value| value.map(|value| !value))).map(|none| !none)
}
