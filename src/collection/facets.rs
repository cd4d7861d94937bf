//! How many of the documents that match have each value of a field.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Instant;

use super::CollectionError;
use super::retrieve::Scope;
use super::searcher::Searcher;
use kindred_core::domain::{Attributes, FieldId, Selection, Value};
use kindred_index::{FilterDeadline, IndexError};

/// Documents between two checks of the deadline; reading one takes about 1 µs.
const DOCUMENTS_AT_ONCE: u64 = 256;

/// What counting the values of fields may cost one search.
#[derive(Debug)]
pub struct FacetBudget {
    /// Documents, or bitmaps of values, that may still be read.
    n_left: u64,
    deadline: FilterDeadline,
}

impl FacetBudget {
    /// Reading this many documents takes about one second.
    pub const MAX_READ: u64 = 1_000_000;

    /// Starts now, with the deadline of a filter.
    pub fn start(request: Option<Instant>) -> Self {
        Self { n_left: Self::MAX_READ, deadline: FilterDeadline::start(request) }
    }

    /// A small one.
    #[cfg(test)]
    pub(super) fn of(n_left: u64) -> Self {
        Self { n_left, ..Self::start(None) }
    }
}

/// The values of a field.
#[derive(Debug, PartialEq, Eq)]
pub enum Facet {
    /// The most frequent ones, and how many of the documents that match have each.
    Counted(Vec<(String, u64)>),
    /// They were not counted, because this many documents and values were to be read, more than the budget had left.
    TooMany(u64),
    /// They were not counted before the deadline.
    Late,
}

impl Searcher {
    /// The `n` most frequent values of an indexed keyword or bool field among all documents that match: most first, equally many
    /// in the order of their words. Bools are `true` and `false`.
    ///
    /// # Errors
    /// [`CollectionError::Index`].
    pub fn facet(&self, scope: &Scope<'_>, field: FieldId, n: usize, budget: &mut FacetBudget) -> Result<Facet, CollectionError> {
        let n_values = scope.base.as_ref().map_or(Ok(0), |(base, _)| base.index.n_words(field))? as u64;
        let n_matching = scope.base.as_ref().map_or(0, |(_, allowed)| allowed.len());
        // Whichever is less to read: the documents, or for each value the rows that have it.
        let to_read = n_matching.min(n_values) + scope.delta.len();
        let Some(n_left) = budget.n_left.checked_sub(to_read) else { return Ok(Facet::TooMany(to_read)) };
        budget.n_left = n_left;
        let counted = match self.count_values(scope, field, n_matching <= n_values, budget.deadline) {
            Err(CollectionError::Index(IndexError::FilterTimeout { .. })) => return Ok(Facet::Late),
            counted => counted?,
        };
        let mut counts: Vec<(String, u64)> = counted.into_iter().collect();
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(n);
        Ok(Facet::Counted(counts))
    }

    fn count_values(
        &self,
        scope: &Scope<'_>,
        field: FieldId,
        by_document: bool,
        deadline: FilterDeadline,
    ) -> Result<HashMap<String, u64>, CollectionError> {
        let mut counts = HashMap::<String, u64>::new();
        let mut n_read = 0;
        let mut check = || {
            n_read += 1;
            if u64::is_multiple_of(n_read, DOCUMENTS_AT_ONCE) { deadline.check() } else { Ok(()) }
        };
        match &scope.base {
            Some((base, allowed)) if by_document => {
                let mut selection = Selection::default();
                selection.add(Some(field));
                for row in allowed.iter() {
                    check()?;
                    count(&base.selected(row, &selection)?, field, &mut counts);
                }
            }
            Some((base, allowed)) => counts.extend(base.index.count_words(field, allowed, deadline)?),
            None => {}
        }
        for row in self.delta.rows().filter(|row| scope.delta.contains(*row)) {
            check()?;
            count(&self.delta.document(row).attributes, field, &mut counts);
        }
        Ok(counts)
    }
}

/// Counts a document once for each of its distinct values.
fn count(attributes: &Attributes, field: FieldId, counts: &mut HashMap<String, u64>) {
    let mut words: Vec<Cow<'_, str>> = match attributes.get(field) {
        Some(Value::Words(words)) => words.iter().map(|word| Cow::Borrowed(word.as_str())).collect(),
        Some(Value::Bools(values)) => values.iter().map(|value| Cow::Owned(value.to_string())).collect(),
        Some(Value::Numbers(_) | Value::Exact(_) | Value::Places(_)) | None => return,
    };
    words.sort_unstable();
    words.dedup();
    for word in words {
        match counts.get_mut(&*word) {
            Some(count) => *count += 1,
            None => drop(counts.insert(word.into_owned(), 1)),
        }
    }
}
