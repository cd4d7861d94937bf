//! QUERY: request → embedding → candidates → re-scored hits → the best of them cross-encoded, where that is asked for.
//!
//! A request pins one searcher and uses it to the end; nothing here waits for a lock.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use tracing::Instrument;
use tracing::field::Empty;

use super::diverse;
use super::facets;
use super::listing::{MAX_ANSWER_BYTES, Room, vector_of};
use super::load::{Depth, Load};
use super::monitor::Monitor;
use super::pool::Pool;
use super::prepared::{Asked, AskedBy, Checked, Prepared};
use super::profiles::{Chosen, ProfileCatalog};
use super::project::project;
use super::recall::Measuring;
use super::recent::{Recent, RecentQuery};
use super::request::{Hit, Query, QueryRequest, QueryResponse, Ranks, Timings};
use super::rerank::{RerankPipeline, text_of};
use super::{Encoders, Limits, PipelineError, SearchSettings};
use crate::collection::{Collections, Description, Found, LexicalQuery, Retrieved, Searcher};
use crate::rescore::{self, FROM_TEXT, Scorer, Signals, Wanted};
use crate::telemetry::traces::stage;
use kindred_core::domain::{Attributes, CollectionName, DocumentId, Embedding, Filter, GenerationId, Retrieval, Schema, StrategyChoice};

/// Most names of fields to return.
const MAX_FIELDS: usize = 256;
/// Most candidates, hits, changed documents and words of a short search, and most documents of one that looks for words: such a
/// search takes well under a millisecond.
const MAX_SHORT: usize = 512;
const MAX_SHORT_HITS: usize = 50;
const MAX_SHORT_CHANGES: usize = 2_000;
const MAX_SHORT_WORDS: usize = 16;
const MAX_SHORT_DOCUMENTS: u64 = 200_000;

/// Answers searches.
#[derive(Debug)]
pub struct QueryPipeline {
    pub(super) encoders: Arc<Encoders>,
    pub(super) rerank: Arc<RerankPipeline>,
    pub(super) collections: Arc<Collections>,
    profiles: Arc<ProfileCatalog>,
    pub(super) settings: SearchSettings,
    pub(super) limits: Limits,
    pub(super) pool: Pool,
    /// What recall is measured with.
    pub(super) recent: Recent,
    load: Load,
    /// Watches the recall of live searches.
    pub(super) monitor: Monitor,
    pub(super) measuring: Measuring,
}

impl QueryPipeline {
    pub fn new(
        encoders: Arc<Encoders>,
        rerank: Arc<RerankPipeline>,
        collections: Arc<Collections>,
        profiles: Arc<ProfileCatalog>,
        settings: SearchSettings,
        limits: Limits,
    ) -> Self {
        let pool = Pool::new(settings.threads, settings.max_queue);
        let load = Load::new(settings.load(pool.n_threads()));
        let monitor = Monitor::start(settings.monitor());
        let (recent, measuring) = (Recent::default(), Measuring::default());
        Self { encoders, rerank, collections, profiles, settings, limits, pool, recent, load, monitor, measuring }
    }

    /// Answers a search.
    ///
    /// # Errors
    /// [`PipelineError`] says which part of the request cannot be accepted, or what is not available.
    pub async fn search(&self, request: QueryRequest) -> Result<QueryResponse, PipelineError> {
        let started = Instant::now();
        let _under_way = self.load.enter();
        let (prepared, timings) = self.prepare(request).await?;
        let mut response = self.carry_out(&prepared, timings).await?;
        let Prepared { checked, asked, .. } = &*prepared;
        if let Some(embedding) = asked.by.embedding().cloned() {
            let noted = RecentQuery { embedding, filter: checked.filter.clone(), exclude: asked.exclude.clone() };
            self.recent.note(&checked.collection, noted);
        }
        self.monitor.note(&prepared);
        response.timings.total_us = micros(started);
        response.timings.record();
        Ok(response)
    }

    /// The same on a searcher that need not be the one that serves: not a user's search, so it is neither counted nor remembered, and it may
    /// have as many hits as candidates.
    ///
    /// # Errors
    /// As [`Self::search`].
    pub(super) async fn search_on(&self, on: &Arc<Searcher>, request: QueryRequest) -> Result<QueryResponse, PipelineError> {
        let started = Instant::now();
        let (prepared, timings) = self.prepare_on(Some(on), request).await?;
        let mut response = self.carry_out(&prepared, timings).await?;
        response.timings.total_us = micros(started);
        Ok(response)
    }

    /// Pins a searcher, checks every part of the request, and encodes the query.
    pub(super) async fn prepare(&self, request: QueryRequest) -> Result<(Arc<Prepared>, Timings), PipelineError> {
        self.prepare_on(None, request).await
    }

    async fn prepare_on(&self, on: Option<&Arc<Searcher>>, request: QueryRequest) -> Result<(Arc<Prepared>, Timings), PipelineError> {
        let collection = self.collections.get(&request.collection)?;
        let searcher = on.cloned().unwrap_or_else(|| collection.searcher());
        self.profiles.prepare(&collection, &searcher, request.profile.as_ref()).await?;
        let checked = self.check(on, &request)?;
        let mut timings = Timings::default();
        let mut asked = self.ask(&request, &checked.searcher, &mut timings).await?;
        let adapted = checked.adapt(&mut asked.by);
        Ok((Arc::new(Prepared { request, checked, asked, adapted }), timings))
    }

    /// Answers with what was pinned.
    pub(super) async fn carry_out(&self, prepared: &Arc<Prepared>, timings: Timings) -> Result<QueryResponse, PipelineError> {
        let Prepared { request, checked, asked, adapted } = &**prepared;
        let waiting = Instant::now();
        let here = Arc::clone(prepared);
        let work = move || answer(&here, timings, waiting);
        let answered = if is_short(prepared) { self.pool.run_short(work).await } else { self.pool.run(work).await };
        let (mut response, texts) = answered??;
        response.plan.adapted = matches!(adapted, Ok(true));
        if let Err(reason) = adapted {
            response.degrade("adapter", reason);
        }
        if let Some(shallow) = &checked.shallow {
            response.degrade("depth", shallow);
        }
        if response.plan.coverage < 1.0 {
            let covered = response.plan.coverage;
            response.degrade(
                "time",
                format_args!("a share of {covered:.4} of the documents that match was compared before timeout_ms was over"),
            );
        }
        if let Some((cross_encode, query)) = request.cross_encode.zip(asked.text.clone()) {
            let ordered = self.rerank.order(&mut response, query, texts, cross_encode, request.encoding.deadline);
            ordered.instrument(stage!("cross_encode", n = checked.n_cross_encoded)).await;
        }
        response.hits.truncate(request.limit);
        if request.phrases > 0 {
            self.tell_phrases(prepared, &mut response).instrument(stage!("phrases")).await;
        }
        Ok(response)
    }

    /// What a request asks with by meaning, before any adapter; a request by words alone asks with none.
    ///
    /// # Errors
    /// As [`Self::search`].
    pub async fn embedding(&self, request: &QueryRequest) -> Result<Option<Arc<Embedding>>, PipelineError> {
        let checked = self.check(None, request)?;
        let asked = self.ask(request, &checked.searcher, &mut Timings::default()).await?;
        Ok(asked.by.embedding().cloned())
    }

    /// Whether a request would be accepted.
    ///
    /// # Errors
    /// As [`Self::search`], but for what its text makes of it.
    pub(super) fn accepts(&self, on: &Arc<Searcher>, request: &QueryRequest) -> Result<(), PipelineError> {
        self.check(Some(on), request)?;
        self.encoders.of(on.description())?;
        self.words(request, on, "word").map(drop)
    }

    fn check(&self, on: Option<&Arc<Searcher>>, request: &QueryRequest) -> Result<Checked, PipelineError> {
        let collection = self.collections.get(&request.collection)?;
        let searcher = on.cloned().unwrap_or_else(|| collection.searcher());
        let max_limit = if on.is_none() { self.limits.max_limit } else { self.limits.max_candidates };
        within("limit", request.limit, max_limit)?;
        Self::check_phrases(request.phrases)?;
        at_most("fields", request.fields.as_ref().map_or(0, Vec::len), MAX_FIELDS)?;
        at_most("facets", request.facets.len(), facets::MAX_FACETS)?;
        // Nothing is measured by half.
        let depth = if on.is_none() { self.load.depth() } else { self.load.full_depth() };
        let shallow = self.shallow(request, depth);
        let candidates = request.candidates.unwrap_or(depth.candidates);
        within("candidates", candidates, self.limits.max_candidates)?;
        let ef_search = request.ef_search.unwrap_or(depth.ef_search);
        within("ef_search", ef_search, self.limits.max_ef_search)?;
        let schema = &searcher.meaning().schema;
        let filter = request.filter.as_ref().map(|json| Filter::parse(json, schema).map(Arc::new)).transpose()?;
        let direction = match &request.query {
            Query::Text(_) | Query::Vector(_) => FROM_TEXT,
            Query::Document { collection, .. } => collection.as_str(),
        };
        let Chosen { scorer, adapter } = self.profiles.chosen(&collection, &searcher, request.profile.as_ref(), direction)?;
        if !(0.0..=1.0).contains(&request.diversity) {
            return Err(PipelineError::Diversity { actual: request.diversity });
        }
        let group_by = request.group_by.as_ref().map(|group_by| Ok::<_, PipelineError>((diverse::field(group_by, schema)?, group_by.size)));
        let group_by = group_by.transpose()?;
        if let Some((_, size)) = group_by {
            within("group_by.size", size, self.limits.max_limit)?;
        }
        let facets = facets::fields(&request.facets, schema)?;
        let mut selection = scorer.selection(schema);
        selection.add(group_by.map(|(field, _)| field));
        let n_cross_encoded = self.rerank.n_hits(request.cross_encode, &request.query)?;
        let candidates = candidates.max(request.limit).max(n_cross_encoded);
        Ok(Checked {
            collection,
            searcher,
            filter,
            scorer,
            adapter,
            selection,
            candidates,
            ef_search,
            shallow,
            group_by,
            facets,
            n_cross_encoded,
        })
    }

    /// Why a search looks less deep than the settings say, if it does.
    fn shallow(&self, request: &QueryRequest, depth: Depth) -> Option<String> {
        let full = self.load.full_depth();
        let parts = [
            (request.ef_search.is_none() && depth.ef_search < full.ef_search, "ef_search", depth.ef_search, full.ef_search),
            (request.candidates.is_none() && depth.candidates < full.candidates, "candidates", depth.candidates, full.candidates),
        ];
        let less: Vec<String> =
            parts.iter().filter(|(is_less, ..)| *is_less).map(|(_, name, now, full)| format!("{name} {now} instead of {full}")).collect();
        (!less.is_empty()).then(|| format!("{} searches are under way: {}", self.load.under_way(), less.join(", ")))
    }

    async fn ask(&self, request: &QueryRequest, target: &Arc<Searcher>, timings: &mut Timings) -> Result<Asked, PipelineError> {
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
                let asked_text = request.cross_encode.map(|_| text.clone());
                if self.retrieval(request) == Retrieval::Lexical
                    && let Some(words) = words
                {
                    return Ok(Asked { by: AskedBy::Words(words), wanted, exclude: None, text: asked_text });
                }
                let encoder = self.encoders.get(target.description()).await?;
                let prompt = encoder.query_prompt(&target.description().definition.query_prompt);
                let stage = stage!("encode", n_tokens = Empty, queue_us = Empty);
                let encoded = encoder.encode_query(prompt, text, request.encoding).instrument(stage.clone()).await?;
                stage.record("n_tokens", encoded.timings.n_tokens).record("queue_us", encoded.timings.queue_us);
                timings.tokenize_us = encoded.timings.tokenize_us;
                timings.queue_us = encoded.timings.queue_us;
                timings.encode_us = encoded.timings.encode_us;
                let wanted = wanted.unread(encoder.unread_share(text)?);
                Ok(Asked { by: AskedBy::new(encoded.embedding, words), wanted, exclude: None, text: asked_text })
            }
            Query::Vector(numbers) => {
                let embedding = Arc::new(Embedding::new(numbers.clone(), target.description().model.dims)?);
                if matches!(request.retrieval, Some(Retrieval::Lexical | Retrieval::Hybrid)) {
                    return Err(PipelineError::Wordless);
                }
                Ok(Asked { by: AskedBy::Meaning(embedding), wanted: Wanted::from_text("", now_us), exclude: None, text: None })
            }
            Query::Document { collection, id } => self.ask_with_document(request, target, collection, id, now_us).await,
        }
    }

    /// Asks with a document: with its own embedding if both collections are of one model, else with one that the searched
    /// collection's model makes of its text, because embeddings of two models must not be compared.
    async fn ask_with_document(
        &self,
        request: &QueryRequest,
        target: &Arc<Searcher>,
        collection: &CollectionName,
        id: &DocumentId,
        now_us: f64,
    ) -> Result<Asked, PipelineError> {
        let is_same = *collection == request.collection;
        // The same snapshot when it is the same collection.
        let source = if is_same { Arc::clone(target) } else { self.collections.get(collection)?.searcher() };
        let is_by_meaning = request.retrieval != Some(Retrieval::Lexical);
        let are_of_one_model = is_by_meaning && self.are_of_one_model(source.description(), target.description()).await?;
        let reads_text = request.cross_encode.is_some() || is_by_meaning && !are_of_one_model;
        let reading = Reading { now_us, embedding: are_of_one_model, text: reads_text };
        let asking = {
            let (source, collection, id) = (Arc::clone(&source), collection.clone(), id.clone());
            self.pool.run(move || read_asking(&source, &collection, &id, reading)).await??
        };
        let Asking { wanted, embedding, text } = asking;
        // A document has many words: they are looked for only if the request says so.
        let words = match request.retrieval {
            None | Some(Retrieval::Dense) => None,
            Some(Retrieval::Lexical | Retrieval::Hybrid) => self.words(request, target, &wanted.words())?,
        };
        let exclude = is_same.then(|| id.clone());
        let asked_text = text.clone().filter(|_| request.cross_encode.is_some());
        let words = match words {
            Some(words) if !is_by_meaning => return Ok(Asked { by: AskedBy::Words(words), wanted, exclude, text: asked_text }),
            words => words,
        };
        let embedding = match embedding {
            Some(embedding) => embedding,
            None => {
                let to = target.description();
                let encoder = self.encoders.get(to).await?;
                let prompt = encoder.document_prompt(&to.definition.document_prompt);
                let prompted = format!("{prompt}{}", text.unwrap_or_default());
                encoder.encode(vec![prompted]).await?.embeddings.pop().ok_or(PipelineError::WorkerLost)?
            }
        };
        Ok(Asked { by: AskedBy::new(Arc::new(embedding), words), wanted, exclude, text: asked_text })
    }

    /// True if embeddings of two collections can be compared.
    async fn are_of_one_model(&self, of: &Description, to: &Description) -> Result<bool, PipelineError> {
        let is_same = of.model.fingerprint == to.model.fingerprint;
        Ok(is_same || Arc::ptr_eq(&self.encoders.get(to).await?, &self.encoders.get(of).await?))
    }
}

impl QueryPipeline {
    /// What candidates of a text are found by on a searcher.
    pub(super) fn retrieval_on(&self, on: &Searcher, request: &QueryRequest) -> Retrieval {
        let can_words = request.retrieval.is_some() || on.words("").is_ok();
        if can_words { self.retrieval(request) } else { Retrieval::Dense }
    }

    /// What candidates of a text are to be found by.
    fn retrieval(&self, request: &QueryRequest) -> Retrieval {
        request.retrieval.unwrap_or(self.settings.retrieval)
    }

    /// The words to look for, if words are to be looked for.
    fn words(&self, request: &QueryRequest, target: &Searcher, text: &str) -> Result<Option<LexicalQuery>, PipelineError> {
        let is_asked = request.retrieval.is_some();
        match self.retrieval(request) {
            Retrieval::Dense => Ok(None),
            Retrieval::Lexical | Retrieval::Hybrid => match target.words(text) {
                Ok(words) if words.is_empty() && self.retrieval(request) == Retrieval::Lexical => Err(PipelineError::Wordless),
                Ok(words) => Ok(Some(words)),
                // Lexical search was not requested explicitly, so fall back to dense search without an error.
                Err(_) if !is_asked => Ok(None),
                Err(source) => Err(PipelineError::NoWords { collection: request.collection.to_string(), source }),
            },
        }
    }
}

/// True if a search costs less than waking another thread: a walk through the graph for some hundred candidates, whose cost is
/// bounded whatever the request and the documents are.
fn is_short(prepared: &Prepared) -> bool {
    let Prepared { request, checked, asked, .. } = prepared;
    let is_plain = checked.filter.is_none()
        && request.strategy == StrategyChoice::Auto
        && checked.n_cross_encoded == 0
        && checked.facets.is_empty()
        && checked.group_by.is_none()
        && request.diversity == 0.0
        && !request.explain
        && !request.vectors
        && matches!(checked.scorer, Scorer::Weights(_));
    let are_words_few = match asked.by.words() {
        Some(words) => words.terms().len() <= MAX_SHORT_WORDS && checked.searcher.n_documents() <= MAX_SHORT_DOCUMENTS,
        None => true,
    };
    is_plain
        && are_words_few
        && checked.candidates.max(checked.ef_search) <= MAX_SHORT
        && request.limit <= MAX_SHORT_HITS
        && checked.searcher.n_changes() <= MAX_SHORT_CHANGES
}

/// What is read of a document that is asked with.
struct Asking {
    wanted: Wanted,
    /// The mean of its chunks' embeddings, where it can be compared with those of the searched collection.
    embedding: Option<Embedding>,
    /// The text, where a cross-encoder or another model reads it.
    text: Option<String>,
}

/// Reads a document that is asked with. Waits for the disk.
fn read_asking(source: &Searcher, collection: &CollectionName, id: &DocumentId, of: Reading) -> Result<Asking, PipelineError> {
    let unknown = || PipelineError::UnknownDocument { collection: collection.to_string(), id: id.to_string() };
    let document = source.get(id)?.ok_or_else(unknown)?;
    let wanted = Wanted::from_document(&*source.attributes(&document)?, &source.meaning().schema, of.now_us);
    let dims = source.description().model.dims;
    let embedding = of.embedding.then(|| Ok::<_, PipelineError>(Embedding::mean(&source.embeddings(&document)?, dims)?)).transpose()?;
    let text = of.text.then(|| text_of(source, &document, id)).transpose()?;
    Ok(Asking { wanted, embedding, text })
}

/// Which parts of a document are read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    now_us: f64,
    embedding: bool,
    text: bool,
}

/// A candidate with its score.
pub(super) struct Scored<'a> {
    pub score: f64,
    pub candidate: rescore::Candidate<'a>,
    pub found: &'a Found,
    /// Its place before re-scoring, from 1.
    retrieval: u32,
}

/// Retrieval and re-scoring, on a search thread; and the texts of the hits that the cross-encoder is to order.
fn answer(prepared: &Prepared, mut timings: Timings, waiting: Instant) -> Result<(QueryResponse, Vec<String>), PipelineError> {
    timings.queue_us += micros(waiting);
    let Prepared { request, checked, asked, .. } = prepared;
    let searcher = &checked.searcher;

    let retrieving = Instant::now();
    let stage = stage!("retrieve", n_candidates = Empty).entered();
    let retrieve = prepared.retrieve();
    let scope = searcher.scope(&retrieve)?;
    let retrieved = searcher.retrieve_among(&scope, asked.by.question(), &retrieve)?;
    stage.record("n_candidates", retrieved.found.len());
    drop(stage);
    timings.retrieve_us = micros(retrieving);

    let rescoring = Instant::now();
    let stage = stage!("rescore").entered();
    let attributes = prepared.attributes(&retrieved.found)?;
    let wanted = prepared.wanted(&attributes);
    let mut scored = rescore(&retrieved, &attributes, &wanted, &checked.scorer, &searcher.meaning().schema);
    if let Some((field, size)) = checked.group_by {
        let value = |scored: &Scored<'_>| scored.candidate.attributes.words(Some(field)).first().cloned();
        scored = diverse::first_of_groups(scored, size, value);
    }
    let n_kept = request.limit.max(checked.n_cross_encoded);
    if request.diversity > 0.0 {
        scored = different(scored, searcher, n_kept, request.diversity)?;
    }
    scored.truncate(n_kept);
    drop(stage);
    timings.rescore_us = micros(rescoring);

    let text = |scored: &Scored<'_>| text_of(searcher, &scored.found.document, &searcher.id(&scored.found.document)?);
    let texts = scored.iter().take(checked.n_cross_encoded).map(text).collect::<Result<_, _>>()?;
    let mut room = Room::default();
    let mut hit = |(rescore, Scored { score, candidate, found, retrieval }): (u32, Scored<'_>)| -> Result<Hit, PipelineError> {
        let id = searcher.id(&found.document)?;
        let fields = project(searcher.fields(&found.document)?, request.fields.as_deref())
            .map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
        if !room.takes(fields.get().len()) {
            return Err(PipelineError::AnswerTooLong { limit: MAX_ANSWER_BYTES });
        }
        let [retrieval_score, lexical_score] = [found.dense, found.lexical].map(|signal| signal.map(|signal| signal.score));
        let [dense, lexical] = [found.dense, found.lexical].map(|signal| signal.and_then(|signal| signal.rank));
        let (explanation, ranks) = match request.explain {
            true => (Some(checked.scorer.explain(&candidate)), Some(Ranks { dense, lexical, retrieval, rescore })),
            false => (None, None),
        };
        let (seqno, vector) =
            (searcher.seqno_of(&found.document)?, request.vectors.then(|| vector_of(searcher, &found.document)).transpose()?);
        let (cross_encoder_score, phrases) = (None, Vec::new());
        Ok(Hit { id, score, retrieval_score, lexical_score, cross_encoder_score, fields, seqno, vector, phrases, explanation, ranks })
    };
    let hits = (1..).zip(scored).map(&mut hit).collect::<Result<_, _>>()?;
    let facets::Facets { counts, left_out } = facets::count(prepared, &scope)?;
    let generation = searcher.generation();
    let plan = retrieved.plan.clone();
    let model = searcher.description().model.name.clone();
    let generation = label(generation);
    let mut response = QueryResponse { hits, facets: counts, timings, plan, generation, model, degraded: Vec::new() };
    left_out.iter().for_each(|reason| response.degrade("facets", reason));
    Ok((response, texts))
}

/// Gives all candidates their scores and puts the best first.
pub(super) fn rescore<'a>(
    retrieved: &'a Retrieved,
    attributes: &'a [Cow<'_, Attributes>],
    wanted: &'a Wanted,
    scorer: &Scorer,
    schema: &'a Schema,
) -> Vec<Scored<'a>> {
    let best_dot = retrieved.found.iter().filter_map(|found| found.dense).map(|dense| f64::from(dense.score)).fold(f64::MIN, f64::max);
    let best_lexical = f64::from(retrieved.best_lexical);
    let one = |(retrieval, (found, attributes)): (u32, (&'a Found, &'a Cow<'_, Attributes>))| {
        let signals = Signals {
            dot: found.dense.map(|dense| f64::from(dense.score)),
            best_dot,
            bm25: found.lexical.map(|lexical| if best_lexical > 0.0 { f64::from(lexical.score) / best_lexical } else { 0.0 }),
            dense_rank: found.dense.and_then(|dense| dense.rank),
            lexical_rank: found.lexical.and_then(|lexical| lexical.rank),
            reciprocal_rank: found.reciprocal_rank(),
        };
        let candidate = rescore::Candidate::new(wanted, signals, attributes, schema);
        Scored { score: scorer.score(&candidate), candidate, found, retrieval }
    };
    let mut scored: Vec<Scored<'_>> = (1..).zip(retrieved.found.iter().zip(attributes)).map(one).collect();
    // The sort is stable: equal scores stay in the order of retrieval.
    scored.sort_by(|a, b| b.score.total_cmp(&a.score));
    scored
}

/// The best that differ from each other.
fn different<'a>(mut scored: Vec<Scored<'a>>, searcher: &Searcher, limit: usize, diversity: f64) -> Result<Vec<Scored<'a>>, PipelineError> {
    scored.truncate(diverse::n_looked_at(limit));
    let dims = searcher.description().model.dims;
    let embedding = |scored: &Scored<'_>| Ok(Embedding::mean(&searcher.embeddings(&scored.found.document)?, dims)?);
    let embeddings = scored.iter().map(embedding).collect::<Result<Vec<_>, PipelineError>>()?;
    let scores: Vec<f64> = scored.iter().map(|scored| scored.score).collect();
    let mut left: Vec<Option<Scored<'a>>> = scored.into_iter().map(Some).collect();
    let chosen = diverse::different(&scores, &embeddings, limit, diversity);
    Ok(chosen.into_iter().filter_map(|position| left[position].take()).collect())
}

pub(super) fn at_most(field: &'static str, actual: usize, max: usize) -> Result<(), PipelineError> {
    if actual <= max { Ok(()) } else { Err(PipelineError::OutOfRange { field, min: 0, max, actual }) }
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
