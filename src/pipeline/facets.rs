//! Facets: how many of the documents that match have each value of a field.

use std::collections::BTreeMap;

use serde::Serialize;

use super::PipelineError;
use super::prepared::Prepared;
use crate::collection::{Facet, FacetBudget, Scope};
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

/// The counts of a search.
#[derive(Debug, Default)]
pub(super) struct Facets {
    /// By the names that were asked for.
    pub counts: BTreeMap<String, Vec<FacetCount>>,
    /// Why the others are not there.
    pub left_out: Vec<String>,
}

/// Counts the values of each field once, however often it is named.
pub(super) fn count(prepared: &Prepared, scope: &Scope<'_>) -> Result<Facets, PipelineError> {
    let searcher = &prepared.checked.searcher;
    let mut budget = FacetBudget::start(prepared.request.encoding.deadline);
    let mut facets = Facets::default();
    let fields: BTreeMap<_, _> = prepared.request.facets.iter().zip(&prepared.checked.facets).collect();
    for (name, &field) in fields {
        let is_flag = searcher.meaning().schema.spec(field).field_type == FieldType::Bool;
        let value = |word: String| if is_flag { FacetValue::Flag(word == "true") } else { FacetValue::Word(word) };
        match searcher.facet(scope, field, MAX_VALUES, &mut budget)? {
            Facet::Counted(counts) => {
                let counts = counts.into_iter().map(|(word, count)| FacetCount { value: value(word), count });
                facets.counts.insert(name.clone(), counts.collect());
            }
            Facet::TooMany(to_read) => facets.left_out.push(format!(
                "{name:?} was not counted: it takes reading {to_read} documents or values, and one search may read {}. Filter further, or count fields with fewer distinct values",
                FacetBudget::MAX_READ
            )),
            Facet::Late => facets.left_out.push(format!("{name:?} was not counted in time: allow more (timeout_ms), or filter further")),
        }
    }
    Ok(facets)
}
