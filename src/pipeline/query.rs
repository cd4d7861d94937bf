//! QUERY: request → embedding → candidates → re-scored hits → the best of them cross-encoded, where that is asked for.
//!
//! A request pins one searcher and uses it to the end; nothing here waits for a lock.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::pool::Pool;
use super::recent::{Recent, RecentQuery};
use super::rerank::{CrossEncode, RerankPipeline, text_of};
use super::{Encoders, Limits, PipelineError, SearchSettings};
use crate::collection::{Collection, Collections, Found, FoundDocument, RetrieveRequest, Searcher};
use crate::domain::{Attributes, CollectionName, DocumentId, Embedding, Filter, GenerationId, Plan, StrategyChoice};
use crate::encoder::QueryOptions;
use crate::rescore::{self, DEFAULT_PROFILE, FROM_TEXT, Profiles, Term, Wanted, Weights};
use crate::telemetry::metrics;

/// Most names of fields to return.
const MAX_FIELDS: usize = 256;
/// Searches for more than so many candidates are not short.
const MAX_SHORT: usize = 512;

/// What is looked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    Text(String),
    Vector(Vec<f32>),
    /// Like this document, which may be of another collection.
    Document {
        collection: CollectionName,
        id: DocumentId,
    },
}

/// A search, as parsed at the edge. `None` stands for the configured default.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRequest {
    pub collection: CollectionName,
    pub query: Query,
    /// Read against the collection's schema here.
    pub filter: Option<Json>,
    pub limit: usize,
    pub candidates: Option<usize>,
    pub ef_search: Option<usize>,
    pub strategy: StrategyChoice,
    pub profile: Option<String>,
    /// Names of the fields to return; all without it.
    pub fields: Option<Vec<String>>,
    pub explain: bool,
    /// Whether, and how, the best hits are ordered by the cross-encoder.
    pub cross_encode: Option<CrossEncode>,
    /// How the query's text is encoded.
    pub encoding: QueryOptions,
}

/// The answer to a search.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct QueryResponse {
    /// Best first.
    pub hits: Vec<Hit>,
    pub timings: Timings,
    pub plan: Plan,
    /// The build that answered; changes newer than it are searched too.
    pub generation: String,
    pub model: String,
    /// What was asked for and could not be done in time, with the reason; the rest of the answer stands without it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

/// A document that was found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Hit {
    #[schema(value_type = String)]
    pub id: DocumentId,
    /// After re-scoring; larger is better.
    pub score: f64,
    /// Full-precision dot product with the query, before re-scoring.
    pub retrieval_score: f32,
    /// The cross-encoder's logit for query and document: hits that have one are ordered by it, before all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_encoder_score: Option<f32>,
    #[schema(value_type = Object)]
    pub fields: Box<RawValue>,
    /// The terms whose contributions, added in their order, are the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Vec<Term>>,
}

/// Where the time went, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Timings {
    pub tokenize_us: u64,
    /// Waiting for an encoder thread and for a search thread.
    pub queue_us: u64,
    pub encode_us: u64,
    pub retrieve_us: u64,
    pub rescore_us: u64,
    /// Ordering by the cross-encoder, waiting for it included.
    pub cross_encode_us: u64,
    pub total_us: u64,
}

impl Timings {
    fn record(&self) {
        let stages = [
            ("tokenize", self.tokenize_us),
            ("queue", self.queue_us),
            ("encode", self.encode_us),
            ("retrieve", self.retrieve_us),
            ("rescore", self.rescore_us),
            ("total", self.total_us),
        ];
        // Of searches that have the stage only.
        let last = (self.cross_encode_us > 0).then_some(("cross_encode", self.cross_encode_us));
        stages.into_iter().chain(last).for_each(|(stage, micros)| metrics::search_stage(stage, micros));
    }
}

/// Answers searches.
#[derive(Debug)]
pub struct QueryPipeline {
    encoders: Arc<Encoders>,
    rerank: Arc<RerankPipeline>,
    pub(super) collections: Arc<Collections>,
    profiles: BTreeMap<CollectionName, Profiles>,
    pub(super) settings: SearchSettings,
    pub(super) limits: Limits,
    pub(super) pool: Pool,
    /// What recall is measured with.
    pub(super) recent: Recent,
    /// Held while recall is measured.
    pub(super) measuring: tokio::sync::Mutex<()>,
}

/// A request whose every part has been checked against the searcher it pinned.
struct Checked {
    collection: Arc<Collection>,
    searcher: Arc<Searcher>,
    filter: Option<Arc<Filter>>,
    weights: Weights,
    candidates: usize,
    ef_search: usize,
    /// Hits that the cross-encoder orders.
    n_cross_encoded: usize,
}

/// What a query asks with.
struct Asked {
    embedding: Arc<Embedding>,
    wanted: Wanted,
    exclude: Option<DocumentId>,
    /// For the cross-encoder, where that is asked for.
    text: Option<String>,
}

impl QueryPipeline {
    /// `profiles` by collection; a collection without any is scored by the dot product.
    pub fn new(
        encoders: Arc<Encoders>,
        rerank: Arc<RerankPipeline>,
        collections: Arc<Collections>,
        profiles: BTreeMap<CollectionName, Profiles>,
        settings: SearchSettings,
        limits: Limits,
    ) -> Self {
        let pool = Pool::new(settings.threads, settings.max_queue);
        let (recent, measuring) = (Recent::default(), tokio::sync::Mutex::default());
        Self { encoders, rerank, collections, profiles, settings, limits, pool, recent, measuring }
    }

    /// Answers a search.
    ///
    /// # Errors
    /// [`PipelineError`] says which part of the request cannot be accepted, or what is not available.
    pub async fn search(&self, request: QueryRequest) -> Result<QueryResponse, PipelineError> {
        let started = Instant::now();
        let checked = self.check(&request)?;
        let mut timings = Timings::default();
        let mut asked = self.ask(&request, &checked.searcher, &mut timings).await?;
        let (limit, cross_encode, deadline) = (request.limit, request.cross_encode.zip(asked.text.take()), request.encoding.deadline);
        let (collection, filter) = (Arc::clone(&checked.collection), checked.filter.clone());
        let noted = RecentQuery { embedding: Arc::clone(&asked.embedding), filter, exclude: asked.exclude.clone() };
        let waiting = Instant::now();
        // A walk through the graph for some hundred candidates takes less than waking another thread.
        let is_short = checked.filter.is_none()
            && request.strategy == StrategyChoice::Auto
            && checked.candidates.max(checked.ef_search) <= MAX_SHORT
            && checked.n_cross_encoded == 0;
        let work = move || answer(&request, &checked, &asked, timings, waiting);
        let (mut response, texts) = if is_short { self.pool.run_short(work).await?? } else { self.pool.run(work).await?? };
        self.recent.note(&collection, noted);
        if let Some((cross_encode, query)) = cross_encode {
            self.rerank.order(&mut response, query, texts, cross_encode, deadline).await;
        }
        response.hits.truncate(limit);
        response.timings.total_us = micros(started);
        response.timings.record();
        Ok(response)
    }

    fn check(&self, request: &QueryRequest) -> Result<Checked, PipelineError> {
        let collection = self.collections.get(&request.collection)?;
        let searcher = collection.searcher();
        within("limit", request.limit, self.limits.max_limit)?;
        if let Some(actual) = request.fields.as_ref().map(Vec::len).filter(|&n| n > MAX_FIELDS) {
            return Err(PipelineError::OutOfRange { field: "fields", min: 0, max: MAX_FIELDS, actual });
        }
        let candidates = request.candidates.unwrap_or(self.settings.candidates);
        within("candidates", candidates, self.limits.max_candidates)?;
        let ef_search = request.ef_search.unwrap_or(self.settings.ef_search);
        within("ef_search", ef_search, self.limits.max_ef_search)?;
        let filter = request.filter.as_ref().map(|json| Filter::parse(json, &searcher.meaning().schema).map(Arc::new)).transpose()?;
        let direction = match &request.query {
            Query::Text(_) | Query::Vector(_) => FROM_TEXT,
            Query::Document { collection, .. } => collection.as_str(),
        };
        let none = Profiles::default();
        let weights = self
            .profiles
            .get(&request.collection)
            .unwrap_or(&none)
            .weights(request.profile.as_deref().unwrap_or(DEFAULT_PROFILE), direction)?;
        let n_cross_encoded = self.rerank.n_hits(request.cross_encode, &request.query)?;
        let candidates = candidates.max(request.limit).max(n_cross_encoded);
        Ok(Checked { collection, searcher, filter, weights, candidates, ef_search, n_cross_encoded })
    }

    async fn ask(&self, request: &QueryRequest, target: &Searcher, timings: &mut Timings) -> Result<Asked, PipelineError> {
        let now_us = jiff::Timestamp::now().as_microsecond() as f64;
        match &request.query {
            Query::Text(text) => {
                if text.trim().is_empty() {
                    return Err(PipelineError::EmptyQuery);
                }
                if text.len() > self.limits.max_query_bytes {
                    return Err(PipelineError::QueryTooLong { actual: text.len(), limit: self.limits.max_query_bytes });
                }
                let encoder = self.encoders.of(target.description())?;
                let prompt = encoder.query_prompt(&target.description().definition.query_prompt);
                let encoded = encoder.encode_query(prompt, text, request.encoding).await?;
                timings.tokenize_us = encoded.timings.tokenize_us;
                timings.queue_us = encoded.timings.queue_us;
                timings.encode_us = encoded.timings.encode_us;
                let words = request.cross_encode.map(|_| text.clone());
                Ok(Asked { embedding: encoded.embedding, wanted: Wanted::from_text(text, now_us), exclude: None, text: words })
            }
            Query::Vector(numbers) => {
                let embedding = Arc::new(Embedding::new(numbers.clone(), target.description().model.dims)?);
                Ok(Asked { embedding, wanted: Wanted::from_text("", now_us), exclude: None, text: None })
            }
            Query::Document { collection, id } => {
                // The same snapshot when it is the same collection.
                let other;
                let source = if *collection == request.collection {
                    target
                } else {
                    other = self.collections.get(collection)?.searcher();
                    &other
                };
                let document = source
                    .get(id)?
                    .ok_or_else(|| PipelineError::UnknownDocument { collection: collection.to_string(), id: id.to_string() })?;
                let embedding = Arc::new(self.as_asked_of(target, source, &document, id).await?);
                let wanted = Wanted::from_document(&*source.attributes(&document)?, &source.meaning().schema, now_us);
                let text = request.cross_encode.map(|_| text_of(source, &document, id)).transpose()?;
                Ok(Asked { embedding, wanted, exclude: (*collection == request.collection).then(|| id.clone()), text })
            }
        }
    }
}

impl QueryPipeline {
    /// The embedding of a document for a search of another collection: its own if both are of one model, else one that the other
    /// collection's model makes of its text. Embeddings of two models are never compared.
    async fn as_asked_of(
        &self,
        target: &Searcher,
        source: &Searcher,
        document: &FoundDocument,
        id: &DocumentId,
    ) -> Result<Embedding, PipelineError> {
        let (of, to) = (source.description(), target.description());
        let encoder = self.encoders.of(to)?;
        if of.model.fingerprint == to.model.fingerprint || Arc::ptr_eq(&encoder, &self.encoders.of(of)?) {
            return Ok(Embedding::mean(&source.embeddings(document)?, to.model.dims)?);
        }
        let text = format!("{}{}", encoder.document_prompt(&to.definition.document_prompt), text_of(source, document, id)?);
        encoder.encode(vec![text]).await?.embeddings.pop().ok_or(PipelineError::WorkerLost)
    }
}

/// A candidate with its terms.
struct Scored<'a> {
    score: f64,
    terms: Vec<Term>,
    found: &'a Found,
}

/// Retrieval and re-scoring, on a search thread; and the texts of the hits that the cross-encoder is to order.
fn answer(
    request: &QueryRequest,
    checked: &Checked,
    asked: &Asked,
    mut timings: Timings,
    waiting: Instant,
) -> Result<(QueryResponse, Vec<String>), PipelineError> {
    timings.queue_us += micros(waiting);
    let searcher = &checked.searcher;

    let retrieving = Instant::now();
    let retrieve = RetrieveRequest {
        k: checked.candidates,
        ef_search: checked.ef_search,
        strategy: request.strategy,
        filter: checked.filter.as_deref(),
        exclude: asked.exclude.as_ref(),
    };
    let (found, plan) = searcher.retrieve(&asked.embedding, &retrieve)?;
    timings.retrieve_us = micros(retrieving);

    let rescoring = Instant::now();
    let mut scored = rescore(&found, checked, asked)?;
    // The sort is stable: equal scores stay in the order of retrieval.
    scored.sort_by(|a, b| b.score.total_cmp(&a.score));
    scored.truncate(request.limit.max(checked.n_cross_encoded));
    timings.rescore_us = micros(rescoring);

    let text = |scored: &Scored<'_>| text_of(searcher, &scored.found.document, &searcher.id(&scored.found.document)?);
    let texts = scored.iter().take(checked.n_cross_encoded).map(text).collect::<Result<_, _>>()?;
    let hit = |Scored { score, terms, found }: Scored<'_>| -> Result<Hit, PipelineError> {
        let id = searcher.id(&found.document)?;
        let fields = project(searcher.fields(&found.document)?, request.fields.as_deref())
            .map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
        let explanation = request.explain.then_some(terms);
        Ok(Hit { id, score, retrieval_score: found.score, cross_encoder_score: None, fields, explanation })
    };
    let hits = scored.into_iter().map(hit).collect::<Result<_, _>>()?;
    let generation = searcher.generation();
    let model = searcher.description().model.name.clone();
    Ok((QueryResponse { hits, timings, plan, generation: label(generation), model, degraded: Vec::new() }, texts))
}

fn rescore<'a>(found: &'a [Found], checked: &Checked, asked: &Asked) -> Result<Vec<Scored<'a>>, PipelineError> {
    let schema = &checked.searcher.meaning().schema;
    let attributes = found.iter().map(|found| checked.searcher.attributes(&found.document)).collect::<Result<Vec<_>, _>>()?;
    let wanted = asked.wanted.weighed(attributes.iter().map(AsRef::as_ref));
    let one = |(found, attributes): (&'a Found, &Cow<'_, Attributes>)| {
        let terms = rescore::terms(&checked.weights, &wanted, found.score, attributes, schema);
        Scored { score: rescore::score(&terms), terms, found }
    };
    Ok(found.iter().zip(&attributes).map(one).collect())
}

/// The stored JSON as it is, or the named fields of it. A dotted name gives the objects around it, with that part alone.
fn project(stored: &str, names: Option<&[String]>) -> Result<Box<RawValue>, serde_json::Error> {
    let Some(names) = names else { return RawValue::from_string(stored.to_owned()) };
    let all: Json = serde_json::from_str(stored)?;
    let mut kept = Json::Object(serde_json::Map::new());
    for name in names {
        if let Some(value) = all.get(name) {
            kept[name.as_str()] = value.clone();
        } else if let Some(part) = part_at(&all, &name.split('.').collect::<Vec<_>>()) {
            merge(&mut kept, part);
        }
    }
    serde_json::value::to_raw_value(&kept)
}

/// What lies at a path, inside the objects and arrays on the way to it; `None` if nothing does.
fn part_at(json: &Json, path: &[&str]) -> Option<Json> {
    match (json, path) {
        (value, []) => Some(value.clone()),
        (Json::Object(map), [key, rest @ ..]) => Some(serde_json::json!({*key: part_at(map.get(*key)?, rest)?})),
        (Json::Array(items), _) => {
            let parts: Vec<Option<Json>> = items.iter().map(|item| part_at(item, path)).collect();
            // Items without it stay as empty objects: the others keep their positions.
            parts.iter().any(Option::is_some).then(|| parts.into_iter().map(|part| part.unwrap_or_else(|| serde_json::json!({}))).collect())
        }
        _ => None,
    }
}

/// Puts two parts of one document together.
fn merge(into: &mut Json, part: Json) {
    match (into, part) {
        (Json::Object(into), Json::Object(part)) => {
            for (key, value) in part {
                merge(into.entry(key).or_insert_with(|| value.clone()), value);
            }
        }
        (Json::Array(into), Json::Array(part)) => into.iter_mut().zip(part).for_each(|(into, part)| merge(into, part)),
        (into, part) => *into = part,
    }
}

pub(super) fn within(field: &'static str, actual: usize, max: usize) -> Result<(), PipelineError> {
    if (1..=max).contains(&actual) { Ok(()) } else { Err(PipelineError::OutOfRange { field, min: 1, max, actual }) }
}

/// `"none"` before the first build, when every document is in the delta.
pub(super) fn label(generation: GenerationId) -> String {
    if generation == GenerationId(0) { "none".to_owned() } else { generation.to_string() }
}

pub(super) fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::project;

    fn projected(names: &[&str]) -> String {
        let stored =
            r#"{"title":"Nurse","location":{"city":"Bonn","lat":50.7},"experience":[{"title":"a","years":1},{"title":"b"}],"x.y":1}"#;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        project(stored, Some(&names)).unwrap().get().to_owned()
    }

    #[test]
    fn fields_are_picked_by_name_and_path() {
        assert_eq!(projected(&["title"]), r#"{"title":"Nurse"}"#);
        assert_eq!(projected(&["location.city", "none", "x.y"]), r#"{"location":{"city":"Bonn"},"x.y":1}"#);
        assert_eq!(projected(&["experience.title"]), r#"{"experience":[{"title":"a"},{"title":"b"}]}"#);
        assert_eq!(projected(&["experience.title", "experience.years"]), r#"{"experience":[{"title":"a","years":1},{"title":"b"}]}"#);
        assert_eq!(projected(&["location.none", "title.x", "experience.years", "x.y.z"]), r#"{"experience":[{"years":1},{}]}"#);
        assert_eq!(projected(&[]), "{}");
        assert_eq!(project(r#"{"a": 1}"#, None).unwrap().get(), r#"{"a": 1}"#);
    }
}
