//! A filter applied to the values of one document.

use super::{Condition, Filter, Range};
use crate::domain::{Attributes, Number, Selection, Value};

impl Range {
    /// True if a number is within the bounds.
    pub fn contains(&self, x: Number) -> bool {
        self.gt.is_none_or(|b| x > b) && self.gte.is_none_or(|b| x >= b) && self.lt.is_none_or(|b| x < b) && self.lte.is_none_or(|b| x <= b)
    }
}

impl Filter {
    /// True if a document with these values matches.
    pub fn matches(&self, attributes: &Attributes) -> bool {
        self.must.iter().all(|c| c.matches(attributes))
            && !self.must_not.iter().any(|c| c.matches(attributes))
            && (self.should.is_empty() || self.should.iter().any(|c| c.matches(attributes)))
    }
}

impl Condition {
    /// True if a document with these values satisfies the condition.
    pub fn matches(&self, attributes: &Attributes) -> bool {
        match self {
            Self::Words { field, any } => attributes.words(Some(*field)).iter().any(|w| any.contains(w)),
            Self::WordsExcept { field, except } => attributes.words(Some(*field)).iter().any(|w| !except.contains(w)),
            Self::Bool { field, value } => matches!(attributes.get(*field), Some(Value::Bools(b)) if b.contains(value)),
            Self::Numbers { field, any } => attributes.numbers(*field).any(|x| any.contains(&x)),
            Self::Range { field, range } => attributes.numbers(*field).any(|x| range.contains(x)),
            Self::GeoRadius { field, center, radius_km } => {
                attributes.places(Some(*field)).iter().any(|p| p.distance_km(*center) <= *radius_km)
            }
            Self::Nested(filter) => filter.matches(attributes),
        }
    }

    /// Adds the fields that the condition reads to a selection.
    pub fn select(&self, selection: &mut Selection) {
        match self {
            Self::Words { field, .. }
            | Self::WordsExcept { field, .. }
            | Self::Bool { field, .. }
            | Self::Numbers { field, .. }
            | Self::Range { field, .. }
            | Self::GeoRadius { field, .. } => selection.add(Some(*field)),
            Self::Nested(filter) => filter.conditions().for_each(|condition| condition.select(selection)),
        }
    }
}
