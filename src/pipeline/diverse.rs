//! Which of the scored candidates become hits, where ten of one company, or ten of one kind, are not wanted.
//!
//! *Source*: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries", 1998.

use std::collections::HashMap;

use super::PipelineError;
use kindred_core::domain::{Embedding, FieldId, FieldType, Schema};

/// Candidates that are looked at to find different ones: the best.
const MAX_LOOKED_AT: usize = 200;

/// At most so many hits of each value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBy {
    pub field: String,
    /// At least 1.
    pub size: usize,
}

/// The field that hits are grouped by.
///
/// # Errors
/// [`PipelineError::GroupBy`] when the schema keeps no such keyword.
pub(super) fn field(group_by: &GroupBy, schema: &Schema) -> Result<FieldId, PipelineError> {
    let refuse = |reason| PipelineError::GroupBy { field: group_by.field.clone(), reason };
    let field = schema.id(&group_by.field).ok_or_else(|| refuse("there is no such field"))?;
    match schema.spec(field).field_type {
        _ if !schema.keeps(field) => Err(refuse("it is not indexed: give it \"index\": true")),
        FieldType::Keyword => Ok(field),
        _ => Err(refuse("it is no keyword")),
    }
}

/// Keeps the first `size` of each value, in order. What has no value is a group of its own.
pub(super) fn first_of_groups<T>(items: Vec<T>, size: usize, value: impl Fn(&T) -> Option<String>) -> Vec<T> {
    let mut n_of = HashMap::<String, usize>::new();
    let is_kept = |item: &T| {
        let Some(value) = value(item) else { return true };
        let n = n_of.entry(value).or_default();
        *n += 1;
        *n <= size
    };
    let mut is_kept = is_kept;
    items.into_iter().filter(|item| is_kept(item)).collect()
}

/// How many of the candidates matter where different ones are wanted.
pub(super) fn n_looked_at(limit: usize) -> usize {
    limit.max(MAX_LOOKED_AT)
}

/// The positions of up to `limit` candidates, each the best of those left by what it scores and by how little it is like those before it.
/// `scores` are the best first; `diversity` goes from 0, by scores alone, to 1.
pub(super) fn different(scores: &[f64], embeddings: &[Embedding], limit: usize, diversity: f64) -> Vec<usize> {
    let (Some(&most), Some(&least)) = (scores.first(), scores.last()) else { return Vec::new() };
    // Scores are of any scale, likenesses of one.
    let range = (most - least).max(f64::MIN_POSITIVE);
    let mut likeness = vec![0.0f64; scores.len()];
    let mut left: Vec<usize> = (0..scores.len()).collect();
    let mut chosen = Vec::with_capacity(limit.min(scores.len()));
    while chosen.len() < limit && !left.is_empty() {
        let worth = |&i: &usize| (1.0 - diversity) * (scores[i] - least) / range - diversity * likeness[i];
        // Of equal ones the first, which scores more.
        let best = (0..left.len()).reduce(|best, next| if worth(&left[next]) > worth(&left[best]) { next } else { best });
        let next = left.remove(best.expect("some are left"));
        for &other in &left {
            likeness[other] = likeness[other].max(f64::from(embeddings[next].dot(&embeddings[other])));
        }
        chosen.push(next);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keep_their_first() {
        let items = vec![("a", 1), ("b", 2), ("a", 3), ("", 4), ("", 5), ("a", 6)];
        let value = |item: &(&str, i32)| (!item.0.is_empty()).then(|| item.0.to_owned());
        let kept = |size| first_of_groups(items.clone(), size, value).into_iter().map(|(_, n)| n).collect::<Vec<_>>();
        assert_eq!(kept(1), [1, 2, 4, 5]);
        assert_eq!(kept(2), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_is_alike_comes_later() {
        let embedding = |x: f32, y: f32| Embedding::new(vec![x, y], 2).unwrap();
        let embeddings = [embedding(1.0, 0.0), embedding(1.0, 0.01), embedding(0.0, 1.0)];
        let scores = [3.0, 2.9, 1.0];
        assert_eq!(different(&scores, &embeddings, 3, 0.0), [0, 1, 2], "by scores alone");
        assert_eq!(different(&scores, &embeddings, 3, 0.6), [0, 2, 1]);
        assert_eq!(different(&scores, &embeddings, 2, 0.6), [0, 2]);
        assert_eq!(different(&[1.0, 1.0], &embeddings[..2], 5, 0.0), [0, 1], "equal scores stay in order");
        assert_eq!(different(&[], &[], 5, 0.5), [0usize; 0]);
    }
}
