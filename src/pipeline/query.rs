//! QUERY: request → embedding → candidates → re-scored hits.
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
use super::{Encoders, Limits, PipelineError, SearchSettings};
use crate::collection::{
    Collection, Collections, Found, FoundDocument, LexicalQuery, Question, RetrieveRequest, Retrieved, Searcher,
};
use crate::domain::{Attributes, CollectionName, DocumentId, Embedding, Filter, GenerationId, Plan, Retrieval, StrategyChoice};
use crate::encoder::QueryOptions;
use crate::rescore::{self, DEFAULT_PROFILE, FROM_TEXT, Profiles, Signals, Term, Wanted, Weights};
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
    pub retrieval: Option<Retrieval>,
    pub candidates: Option<usize>,
    pub ef_search: Option<usize>,
    pub strategy: StrategyChoice,
    pub profile: Option<String>,
    /// Names of the fields to return; all without it.
    pub fields: Option<Vec<String>>,
    pub explain: bool,
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
}

/// A document that was found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Hit {
    #[schema(value_type = String)]
    pub id: DocumentId,
    /// After re-scoring; larger is better.
    pub score: f64,
    /// Full-precision dot product with the query, where it was asked by meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval_score: Option<f32>,
    /// BM25, where it was asked by words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexical_score: Option<f32>,
    #[schema(value_type = Object)]
    pub fields: Box<RawValue>,
    /// The terms whose contributions, added in their order, are the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Vec<Term>>,
    /// Where it stood at each stage, with the explanation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks: Option<Ranks>,
}

/// Where a document stood at each stage, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Ranks {
    /// By meaning; not there if it was not among those found so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense: Option<u32>,
    /// By words, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexical: Option<u32>,
    /// Among all candidates, before re-scoring.
    pub retrieval: u32,
    /// After it.
    pub rescore: u32,
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
        stages.iter().for_each(|&(stage, micros)| metrics::search_stage(stage, micros));
    }
}

/// Answers searches.
#[derive(Debug)]
pub struct QueryPipeline {
    encoders: Arc<Encoders>,
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
}

/// What a query asks with.
struct Asked {
    by: AskedBy,
    wanted: Wanted,
    exclude: Option<DocumentId>,
}

/// What candidates are found by.
enum AskedBy {
    Meaning(Arc<Embedding>),
    Words(LexicalQuery),
    Both(Arc<Embedding>, LexicalQuery),
}

impl AskedBy {
    fn new(embedding: Arc<Embedding>, words: Option<LexicalQuery>) -> Self {
        match words {
            Some(words) => Self::Both(embedding, words),
            None => Self::Meaning(embedding),
        }
    }

    fn embedding(&self) -> Option<&Arc<Embedding>> {
        match self {
            Self::Meaning(embedding) | Self::Both(embedding, _) => Some(embedding),
            Self::Words(_) => None,
        }
    }

    fn question(&self) -> Question<'_> {
        match self {
            Self::Meaning(embedding) => Question::Meaning(embedding),
            Self::Words(words) => Question::Words(words),
            Self::Both(embedding, words) => Question::Both(embedding, words),
        }
    }
}

impl QueryPipeline {
    /// `profiles` by collection; a collection without any is scored by the dot product.
    pub fn new(
        encoders: Arc<Encoders>,
        collections: Arc<Collections>,
        profiles: BTreeMap<CollectionName, Profiles>,
        settings: SearchSettings,
        limits: Limits,
    ) -> Self {
        let pool = Pool::new(settings.threads, settings.max_queue);
        let (recent, measuring) = (Recent::default(), tokio::sync::Mutex::default());
        Self { encoders, collections, profiles, settings, limits, pool, recent, measuring }
    }

    /// Answers a search.
    ///
    /// # Errors
    /// [`PipelineError`] says which part of the request cannot be accepted, or what is not available.
    pub async fn search(&self, request: QueryRequest) -> Result<QueryResponse, PipelineError> {
        let started = Instant::now();
        let checked = self.check(&request)?;
        let mut timings = Timings::default();
        let asked = self.ask(&request, &checked.searcher, &mut timings).await?;
        let (collection, filter) = (Arc::clone(&checked.collection), checked.filter.clone());
        let noted = asked.by.embedding().cloned().map(|embedding| RecentQuery { embedding, filter, exclude: asked.exclude.clone() });
        let waiting = Instant::now();
        // A walk through the graph for some hundred candidates takes less than waking another thread.
        let is_short =
            checked.filter.is_none() && request.strategy == StrategyChoice::Auto && checked.candidates.max(checked.ef_search) <= MAX_SHORT;
        let work = move || answer(&request, &checked, &asked, timings, waiting);
        let mut response = if is_short { self.pool.run_short(work).await?? } else { self.pool.run(work).await?? };
        if let Some(noted) = noted {
            self.recent.note(&collection, noted);
        }
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
        Ok(Checked { collection, searcher, filter, weights, candidates: candidates.max(request.limit), ef_search })
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
                let words = self.words(request, target, text)?;
                let wanted = Wanted::from_text(text, now_us);
                if let (Some(Retrieval::Lexical), Some(words)) = (request.retrieval, &words) {
                    return Ok(Asked { by: AskedBy::Words(words.clone()), wanted, exclude: None });
                }
                let encoder = self.encoders.of(target.description())?;
                let prompt = encoder.query_prompt(&target.description().definition.query_prompt);
                let encoded = encoder.encode_query(prompt, text, request.encoding).await?;
                timings.tokenize_us = encoded.timings.tokenize_us;
                timings.queue_us = encoded.timings.queue_us;
                timings.encode_us = encoded.timings.encode_us;
                let wanted = wanted.unread(encoder.unread_share(text)?);
                Ok(Asked { by: AskedBy::new(encoded.embedding, words), wanted, exclude: None })
            }
            Query::Vector(numbers) => {
                let embedding = Arc::new(Embedding::new(numbers.clone(), target.description().model.dims)?);
                if matches!(request.retrieval, Some(Retrieval::Lexical | Retrieval::Hybrid)) {
                    return Err(PipelineError::Wordless);
                }
                Ok(Asked { by: AskedBy::Meaning(embedding), wanted: Wanted::from_text("", now_us), exclude: None })
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
                let wanted = Wanted::from_document(&*source.attributes(&document)?, &source.meaning().schema, now_us);
                // A document says what it means in many words: they are looked for where that is wanted only.
                let words = match request.retrieval {
                    None | Some(Retrieval::Dense) => None,
                    Some(Retrieval::Lexical | Retrieval::Hybrid) => self.words(request, target, &wanted.words())?,
                };
                let by = match (request.retrieval, words) {
                    (Some(Retrieval::Lexical), Some(words)) => AskedBy::Words(words),
                    (_, words) => AskedBy::new(Arc::new(self.as_asked_of(target, source, &document, id).await?), words),
                };
                Ok(Asked { by, wanted, exclude: (*collection == request.collection).then(|| id.clone()) })
            }
        }
    }
}

impl QueryPipeline {
    /// The words to look for, if words are to be looked for.
    fn words(&self, request: &QueryRequest, target: &Searcher, text: &str) -> Result<Option<LexicalQuery>, PipelineError> {
        let is_asked = request.retrieval.is_some();
        match request.retrieval.unwrap_or(self.settings.retrieval) {
            Retrieval::Dense => Ok(None),
            Retrieval::Lexical | Retrieval::Hybrid => match target.words(text) {
                Ok(words) if words.is_empty() && request.retrieval == Some(Retrieval::Lexical) => Err(PipelineError::Wordless),
                Ok(words) => Ok(Some(words)),
                // What nobody asked for is not missed.
                Err(_) if !is_asked => Ok(None),
                Err(source) => Err(PipelineError::NoWords { collection: request.collection.to_string(), source }),
            },
        }
    }

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
        let fields = serde_json::from_str(source.fields(document)?)
            .map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
        let text = format!("{}{}", encoder.document_prompt(&to.definition.document_prompt), source.meaning().template.render(&fields));
        encoder.encode(vec![text]).await?.embeddings.pop().ok_or(PipelineError::WorkerLost)
    }
}

/// A candidate with its terms.
struct Scored<'a> {
    score: f64,
    terms: Vec<Term>,
    found: &'a Found,
    /// Its place before re-scoring, from 1.
    retrieval: u32,
}

/// Retrieval and re-scoring, on a search thread.
fn answer(
    request: &QueryRequest,
    checked: &Checked,
    asked: &Asked,
    mut timings: Timings,
    waiting: Instant,
) -> Result<QueryResponse, PipelineError> {
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
    let Retrieved { found, plan, best_lexical } = searcher.retrieve(asked.by.question(), &retrieve)?;
    timings.retrieve_us = micros(retrieving);

    let rescoring = Instant::now();
    let mut scored = rescore(&found, best_lexical, checked, asked)?;
    // The sort is stable: equal scores stay in the order of retrieval.
    scored.sort_by(|a, b| b.score.total_cmp(&a.score));
    scored.truncate(request.limit);
    timings.rescore_us = micros(rescoring);

    let hit = |(rescore, Scored { score, terms, found, retrieval }): (u32, Scored<'_>)| -> Result<Hit, PipelineError> {
        let id = searcher.id(&found.document)?;
        let fields = project(searcher.fields(&found.document)?, request.fields.as_deref())
            .map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
        let [retrieval_score, lexical_score] = [found.dense, found.lexical].map(|signal| signal.map(|signal| signal.score));
        let [dense, lexical] = [found.dense, found.lexical].map(|signal| signal.and_then(|signal| signal.rank));
        let (explanation, ranks) = match request.explain {
            true => (Some(terms), Some(Ranks { dense, lexical, retrieval, rescore })),
            false => (None, None),
        };
        Ok(Hit { id, score, retrieval_score, lexical_score, fields, explanation, ranks })
    };
    let hits = (1..).zip(scored).map(hit).collect::<Result<_, _>>()?;
    let generation = searcher.generation();
    Ok(QueryResponse { hits, timings, plan, generation: label(generation), model: searcher.description().model.name.clone() })
}

fn rescore<'a>(found: &'a [Found], best_lexical: f32, checked: &Checked, asked: &Asked) -> Result<Vec<Scored<'a>>, PipelineError> {
    let schema = &checked.searcher.meaning().schema;
    let attributes = found.iter().map(|found| checked.searcher.attributes(&found.document)).collect::<Result<Vec<_>, _>>()?;
    let wanted = asked.wanted.weighed(attributes.iter().map(AsRef::as_ref));
    let one = |(retrieval, (found, attributes)): (u32, (&'a Found, &Cow<'_, Attributes>))| {
        let signals = Signals {
            dot: found.dense.map(|signal| f64::from(signal.score)),
            bm25: found.lexical.map(|signal| if best_lexical > 0.0 { f64::from(signal.score / best_lexical) } else { 0.0 }),
            reciprocal_rank: found.reciprocal_rank(),
        };
        let terms = rescore::terms(&checked.weights, &wanted, &signals, attributes, schema);
        Scored { score: rescore::score(&terms), terms, found, retrieval }
    };
    Ok((1..).zip(found.iter().zip(&attributes)).map(one).collect())
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
