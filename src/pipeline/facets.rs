//! How many of all that match have each value of a field: what filters are chosen from.

use std::collections::BTreeMap;

use serde::Serialize;

use super::PipelineError;
use super::prepared::Prepared;
use kindred_core::domain::{FieldId, FieldType, Schema};

/// Most fields whose values are counted in one search.
pub(super) const MAX_FACETS: usize = 32;
/// Most values of each: the most frequent ones.
const MAX_VALUES: usize = 10;

/// A value, and how many of the documents that match have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FacetCount {
    pub value: FacetValue,
    pub count: u64,
}

/// A keyword, or a truth value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum FacetValue {
    Word(String),
    Flag(bool),
}

/// The fields whose values are counted.
///
/// # Errors
/// [`PipelineError::Facet`] when the schema indexes no such keyword or truth value.
pub(super) fn fields(names: &[String], schema: &Schema) -> Result<Vec<FieldId>, PipelineError> {
    let field = |name: &String| {
        let refuse = |reason| PipelineError::Facet { field: name.clone(), reason };
        let field = schema.id(name).ok_or_else(|| refuse("there is no such field"))?;
        let spec = schema.spec(field);
        match spec.field_type {
            _ if !spec.index => Err(refuse("it is not indexed: give it \"index\": true")),
            FieldType::Keyword | FieldType::Bool => Ok(field),
            _ => Err(refuse("it is neither keyword nor bool")),
        }
    };
    names.iter().map(field).collect()
}

/// Counts, by the names that were asked for.
pub(super) fn count(prepared: &Prepared) -> Result<BTreeMap<String, Vec<FacetCount>>, PipelineError> {
    let (searcher, fields) = (&prepared.checked.searcher, &prepared.checked.facets);
    if fields.is_empty() {
        return Ok(BTreeMap::new());
    }
    let scope = searcher.scope(&prepared.retrieve())?;
    let mut facets = BTreeMap::new();
    for (name, &field) in prepared.request.facets.iter().zip(fields) {
        let is_flag = searcher.meaning().schema.spec(field).field_type == FieldType::Bool;
        let value = |word: String| if is_flag { FacetValue::Flag(word == "true") } else { FacetValue::Word(word) };
        let counts = searcher.facet(&scope, field, MAX_VALUES)?;
        facets.insert(name.clone(), counts.into_iter().map(|(word, count)| FacetCount { value: value(word), count }).collect());
    }
    Ok(facets)
}
