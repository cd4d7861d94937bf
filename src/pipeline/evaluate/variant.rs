//! What is compared: ways to search, each with a name.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use super::error::{EvaluationError, over};
use crate::collection::{Collection, Searcher};
use crate::pipeline::{CrossEncode, PipelineError, ProfileChoice, Query, QueryPipeline, QueryRequest};
use kindred_core::domain::{CollectionName, GenerationId, Retrieval, StrategyChoice};
use kindred_encoder::QueryOptions;

/// Most variants of an evaluation.
pub const MAX_VARIANTS: usize = 8;
/// Longest name of a variant.
const MAX_NAME_CHARS: usize = 64;
/// Hits of each query: enough for R@100.
pub(super) const DEPTH: usize = 100;
/// An evaluation waits for the cross-encoder, whatever a user would do.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// A way to search; what it does not say is as in a search.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "fresh", "profile": {"weights": {"dot": 1, "recency": 0.2}}}))]
pub struct Variant {
    pub name: String,
    /// As in a search: the name of a profile, or weights or a formula.
    #[schema(value_type = Option<Object>)]
    pub profile: Option<Json>,
    pub retrieval: Option<Retrieval>,
    pub candidates: Option<usize>,
    pub ef_search: Option<usize>,
    #[serde(default)]
    pub strategy: StrategyChoice,
    /// `true`, or `{"candidates": 50}`; an evaluation waits for it.
    pub cross_encode: Option<CrossEncodeChoice>,
    /// A finished generation, as it was built: newer changes are not in it. Without it, what serves, with its changes.
    pub generation: Option<String>,
}

/// Whether the cross-encoder orders the best hits.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected true, false or {\"candidates\": 50}")]
pub enum CrossEncodeChoice {
    /// So many as the settings say, or none.
    Switch(bool),
    Best(CrossEncodedHits),
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossEncodedHits {
    /// So many of the best hits are ordered.
    pub candidates: usize,
    /// How much it counts beside the score of the re-scoring, 0 to 1 (1).
    pub weight: Option<f64>,
}

/// A variant that can be searched, on documents that stay as they are.
#[derive(Debug)]
pub struct Ready {
    pub name: String,
    pub(super) searcher: Arc<Searcher>,
    /// With all but the query's text.
    pub(super) request: QueryRequest,
}

impl Variant {
    /// One that searches as a user who says nothing.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn request(&self, collection: &CollectionName, default_candidates: usize) -> Result<QueryRequest, PipelineError> {
        let profile = match &self.profile {
            None => None,
            Some(Json::String(name)) => Some(ProfileChoice::Named(name.clone())),
            Some(written @ Json::Object(_)) => Some(ProfileChoice::Inline(written.clone())),
            Some(_) => {
                let reason = "it must be the name of a profile, or an object such as {\"weights\": {\"dot\": 1}}".to_owned();
                return Err(PipelineError::Params { field: "profile", reason });
            }
        };
        let cross_encode = match self.cross_encode {
            None | Some(CrossEncodeChoice::Switch(false)) => None,
            Some(CrossEncodeChoice::Switch(true)) => Some((None, None)),
            Some(CrossEncodeChoice::Best(CrossEncodedHits { candidates, weight })) => Some((Some(candidates), weight)),
        };
        Ok(QueryRequest {
            // More hits than candidates would make more candidates.
            limit: self.candidates.unwrap_or(default_candidates).clamp(1, DEPTH),
            retrieval: self.retrieval,
            candidates: self.candidates,
            ef_search: self.ef_search,
            strategy: self.strategy,
            profile,
            fields: Some(Vec::new()),
            cross_encode: cross_encode.map(|(candidates, weight)| CrossEncode { candidates, timeout: Some(PATIENCE), weight }),
            // Times are to be those of a query that nobody has asked before.
            encoding: QueryOptions { skip_cache: true, ..QueryOptions::default() },
            ..QueryRequest::new(collection.clone(), Query::Text(String::new()))
        })
    }
}

/// Checks variants and opens what they search. Waits for the disk; a model may be loaded.
///
/// # Errors
/// [`EvaluationError`] names the variant, and the part of it.
pub(super) fn ready(query: &QueryPipeline, collection: &Collection, mut variants: Vec<Variant>) -> Result<Vec<Ready>, PipelineError> {
    over("variants", variants.len(), MAX_VARIANTS)?;
    if variants.is_empty() {
        variants.push(Variant::named("default"));
    }
    let serving = collection.searcher();
    let mut ready: Vec<Ready> = Vec::with_capacity(variants.len());
    for (position, variant) in variants.into_iter().enumerate() {
        let at = |part: &str| format!("variants[{position}].{part}");
        let is_name = !variant.name.trim().is_empty() && variant.name.chars().count() <= MAX_NAME_CHARS;
        if !is_name || variant.name.chars().any(char::is_control) {
            let reason = "a variant needs a name, of at most 64 characters and none of them a control character";
            return Err(EvaluationError::VariantName { at: at("name"), reason }.into());
        }
        if ready.iter().any(|other| other.name == variant.name) {
            return Err(EvaluationError::VariantName { at: at("name"), reason: "another variant has that name" }.into());
        }
        let fail = |part: Option<&str>, source: PipelineError| {
            let at = part.or_else(|| source.field()).map_or_else(|| format!("variants[{position}]"), at);
            EvaluationError::Variant { at, source: Box::new(source) }
        };
        let searcher = searcher(collection, &serving, &variant, &ready).map_err(|e| fail(Some("generation"), e))?;
        let request = variant.request(collection.name(), query.settings.candidates).map_err(|e| fail(None, e))?;
        query.accepts(&searcher, &request).map_err(|e| fail(None, e))?;
        ready.push(Ready { name: variant.name, searcher, request });
    }
    Ok(ready)
}

/// What a variant searches; a generation is opened once.
fn searcher(collection: &Collection, serving: &Arc<Searcher>, variant: &Variant, opened: &[Ready]) -> Result<Arc<Searcher>, PipelineError> {
    let Some(written) = &variant.generation else { return Ok(Arc::clone(serving)) };
    let id: GenerationId = written.parse().map_err(|_| PipelineError::Params {
        field: "generation",
        reason: format!(
            "{written:?} is not the number of a generation: GET /v1/collections/{}/generations lists those there are",
            collection.name()
        ),
    })?;
    let known = opened.iter().find(|ready| !Arc::ptr_eq(&ready.searcher, serving) && ready.searcher.generation() == id);
    match known {
        Some(ready) => Ok(Arc::clone(&ready.searcher)),
        None => Ok(Arc::new(collection.preview(id)?)),
    }
}
