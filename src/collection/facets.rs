//! How many of the documents that match have each value of a field.

use std::borrow::Cow;
use std::collections::HashMap;

use super::CollectionError;
use super::retrieve::Scope;
use super::searcher::Searcher;
use kindred_core::domain::{Attributes, FieldId, Selection, Value};

impl Searcher {
    /// The `n` most frequent values of an indexed keyword or truth value among all documents that match, and how many of these have each;
    /// most first, equally many in the order of their words. Truth values are `true` and `false`.
    ///
    /// # Errors
    /// [`CollectionError::Index`].
    pub fn facet(&self, scope: &Scope<'_>, field: FieldId, n: usize) -> Result<Vec<(String, u64)>, CollectionError> {
        let mut counts = HashMap::<String, u64>::new();
        if let Some((base, allowed)) = &scope.base {
            // Whichever is less to read: the documents, or for each value the rows that have it.
            if allowed.len() <= base.index.n_words(field)? as u64 {
                let mut selection = Selection::default();
                selection.add(Some(field));
                for row in allowed.iter() {
                    count(&base.selected(row, &selection)?, field, &mut counts);
                }
            } else {
                counts.extend(base.index.count_words(field, allowed)?);
            }
        }
        for row in self.delta.rows().filter(|row| scope.delta.contains(*row)) {
            count(&self.delta.document(row).attributes, field, &mut counts);
        }
        let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(n);
        Ok(counts)
    }
}

/// Counts a document once for each of its different values.
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
