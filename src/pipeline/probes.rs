//! The queries that recall is measured with: recent searches and the collection's own documents, chosen by a seed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::PipelineError;
use super::recent::RecentQuery;
use crate::collection::{FoundDocument, Searcher};
use kindred_core::domain::{Choice, Condition, DocumentId, Embedding, FieldType, Filter, OneOf, Value};

/// Where a probe comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A recent search, as it was asked.
    Query,
    /// A document, asked with as a whole.
    Document,
    /// The same, among the documents that share one of its keywords.
    DocumentAmongAlike,
}

/// A query to measure with.
#[derive(Debug)]
pub(super) struct Probe {
    pub origin: Origin,
    pub embedding: Arc<Embedding>,
    pub filter: Option<Arc<Filter>>,
    pub exclude: Option<DocumentId>,
}

/// Chooses about `num` queries, half of them recent searches and half of them documents, or whatever there is; for each
/// document, one more with a filter on one of its keywords. `given` narrows all of them.
///
/// # Errors
/// A stored document is damaged.
pub(super) fn choose(
    searcher: &Searcher,
    mut recent: Vec<Arc<RecentQuery>>,
    num: usize,
    given: Option<&Filter>,
    seed: u64,
) -> Result<Vec<Probe>, PipelineError> {
    let mut choice = Choice::new("recall", seed);
    let (n_queries, n_documents) = shares(num, recent.len(), searcher.n_documents());
    choice.shuffle(&mut recent);
    let of_query = |query: Arc<RecentQuery>| Probe {
        origin: Origin::Query,
        embedding: Arc::clone(&query.embedding),
        filter: both(given, query.filter.as_deref()).map(Arc::new),
        exclude: query.exclude.clone(),
    };
    let mut probes: Vec<Probe> = recent.into_iter().take(n_queries).map(of_query).collect();
    for document in searcher.documents_at(&positions(&mut choice, n_documents, searcher.n_documents())) {
        let embedding = Arc::new(Embedding::mean(&searcher.embeddings(&document)?, searcher.description().model.dims)?);
        let probe = |origin, filter: Option<Filter>, exclude| Probe {
            origin,
            embedding: Arc::clone(&embedding),
            filter: filter.map(Arc::new),
            exclude: Some(exclude),
        };
        let id = searcher.id(&document)?;
        probes.push(probe(Origin::Document, given.cloned(), id.clone()));
        if let Some(alike) = alike(searcher, &document, &mut choice)? {
            probes.push(probe(Origin::DocumentAmongAlike, both(given, Some(&alike)), id));
        }
    }
    Ok(probes)
}

/// How many searches and how many documents.
fn shares(num: usize, n_recent: usize, n_documents: u64) -> (usize, usize) {
    let n_documents = usize::try_from(n_documents).unwrap_or(usize::MAX);
    // An empty collection has nothing to be found.
    let n_recent = if n_documents == 0 { 0 } else { n_recent };
    let n_queries = num.div_ceil(2).max(num.saturating_sub(n_documents)).min(n_recent);
    (n_queries, (num - n_queries).min(n_documents))
}

/// `n` different positions below `end`, which is at least `n`; ascending.
fn positions(choice: &mut Choice, n: usize, end: u64) -> Vec<u64> {
    if n as u64 == end {
        return (0..end).collect();
    }
    let mut positions = BTreeSet::new();
    while positions.len() < n {
        positions.insert(choice.next_u64() % end);
    }
    positions.into_iter().collect()
}

/// A filter on one of a document's own keywords, if it has any that is indexed: first the field is chosen, then the word.
fn alike(searcher: &Searcher, document: &FoundDocument, choice: &mut Choice) -> Result<Option<Filter>, PipelineError> {
    let (attributes, schema) = (searcher.attributes(document)?, &searcher.meaning().schema);
    let keywords = attributes.iter().filter_map(|(field, value)| match (schema.spec(field), value) {
        (spec, Value::Words(words)) if spec.index && spec.field_type == FieldType::Keyword => Some((field, words)),
        _ => None,
    });
    let keywords: Vec<_> = keywords.collect();
    if keywords.is_empty() {
        return Ok(None);
    }
    let (field, words) = *choice.pick(&keywords);
    let any = OneOf::new(vec![choice.pick(words).clone()]);
    Ok(Some(Filter { must: vec![Condition::Words { field, any }], ..Filter::default() }))
}

/// Lets through what both let through.
fn both(a: Option<&Filter>, b: Option<&Filter>) -> Option<Filter> {
    match (a, b) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(one.clone()),
        (Some(a), Some(b)) => Some(Filter { must: vec![Condition::Nested(a.clone()), Condition::Nested(b.clone())], ..Filter::default() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_and_half_or_whatever_there_is() {
        for (num, n_recent, n_documents, expected) in [
            (100, 1_000, 1_000, (50, 50)),
            (101, 1_000, 1_000, (51, 50)),
            (100, 10, 1_000, (10, 90)),
            (100, 1_000, 10, (90, 10)),
            (100, 3, 5, (3, 5)),
            (100, 0, 1_000, (0, 100)),
            (100, 50, 0, (0, 0)),
            (1, 1, 1, (1, 0)),
        ] {
            assert_eq!(shares(num, n_recent, n_documents), expected, "{num} of {n_recent} and {n_documents}");
        }
    }

    #[test]
    fn positions_are_different_and_the_same_for_a_seed() {
        let chosen = |seed| positions(&mut Choice::new("x", seed), 90, 100);
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
        assert!(chosen(1).is_sorted_by(|a, b| a < b) && chosen(1).len() == 90 && chosen(1)[89] < 100);
        assert_eq!(positions(&mut Choice::new("x", 1), 3, 3), [0, 1, 2]);
    }
}
