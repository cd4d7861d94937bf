//! Why a document is where it is in the answer to a search, or is not in it: what the filter says, where it stood at each stage, and by how
//! much it was outdone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::fate::{Facts, Fate};
use super::phrases::Phrase;
use super::prepared::Prepared;
use super::query::{QueryPipeline, Scored, label, micros, rescore};
use super::request::{QueryRequest, QueryResponse, Timings};
use super::rerank::{RerankRequest, text_of};
use super::{Overlong, PipelineError};
use crate::collection::{Found, FoundDocument, Question, RetrieveRequest, Retrieved, Signal};
use crate::rescore::Explained;
use kindred_core::domain::{Attributes, Condition, DocumentId, Filter, Plan, StrategyChoice, values_of};
use kindred_encoder::Side;

/// An explanation replaces the deadline of the search by this: it carries the search out several times, and exactly.
const MAX_TIME: Duration = Duration::from_secs(60);
/// Phrases that are told of the document.
const N_PHRASES: usize = 5;
/// Ranks are counted so far: behind that it does not matter where.
pub(super) const MAX_RANK: usize = 10_000;

/// Why a document is where it is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Placement {
    #[schema(value_type = String)]
    pub id: DocumentId,
    pub fate: Fate,
    /// The same in a sentence, with what to do about it.
    pub reason: String,
    /// Its place among the hits, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// Every condition of the filter, and whether the document satisfies it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter: Vec<Clause>,
    pub retrieval: RetrievalStage,
    pub rescore: RescoreStage,
    /// What its score is made of.
    pub explanation: Explained,
    /// The cross-encoder's logits, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_encode: Option<CrossEncodeStage>,
    /// What its text has that is nearest to the query, best first.
    pub phrases: Vec<Phrase>,
    /// Of the search.
    pub plan: Plan,
    pub timings: Timings,
    pub generation: String,
    pub model: String,
    /// What could not be done in time, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

/// A condition of the filter.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Clause {
    /// Where it stands: `filter.must[1]`.
    pub path: String,
    #[schema(value_type = Object)]
    pub condition: Json,
    /// What the document has.
    pub values: Vec<Json>,
    /// Whether the document satisfies it.
    pub holds: bool,
    /// Whether the document is kept out by it: a `must` that does not hold, a `must_not` that does, a `should` where none holds.
    pub keeps_out: bool,
}

/// How it fared among all documents.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RetrievalStage {
    /// Documents that were found and re-scored.
    pub n_candidates: usize,
    /// Its place among them, from 1; not there if it was not found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// By meaning, where the search asked so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense: Option<Way>,
    /// By words, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexical: Option<Way>,
}

/// What one way of searching says about it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Way {
    pub score: f32,
    /// Its place among all documents that match the filter, from 1, by comparing all; not there if it is beyond 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// The lowest score that this way found among the candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_found: Option<f32>,
}

/// How it fared, or would have fared, among the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RescoreStage {
    pub score: f64,
    /// Its place by score, from 1; among the candidates and itself.
    pub rank: usize,
    /// The score of the last hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_hit: Option<f64>,
}

/// What the cross-encoder says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct CrossEncodeStage {
    pub score: f32,
    /// Of the last hit, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_hit: Option<f32>,
}

impl QueryPipeline {
    /// Carries a search out and says what became of a document in it.
    ///
    /// # Errors
    /// As a search; [`PipelineError::UnknownDocument`].
    pub async fn explain(&self, mut request: QueryRequest, id: DocumentId) -> Result<Placement, PipelineError> {
        let started = Instant::now();
        // An explanation is worth waiting for longer than a search.
        request.encoding.deadline = Some(started + MAX_TIME);
        let (prepared, timings) = self.prepare(request).await?;
        let searcher = &prepared.checked.searcher;
        let document = searcher
            .get(&id)?
            .ok_or_else(|| PipelineError::UnknownDocument { collection: prepared.request.collection.to_string(), id: id.to_string() })?;
        let response = self.carry_out(&prepared, timings).await?;
        let cross_encode = self.cross_encoded(&prepared, &response, document, &id).await?;
        let phrases = self.phrases_of(&prepared, &id, N_PHRASES).await?;
        let here = Arc::clone(&prepared);
        let mut placement = self.pool.run(move || place(&here, response, id, document, cross_encode)).await??;
        placement.phrases = phrases;
        placement.timings.total_us = micros(started);
        Ok(placement)
    }

    /// What the cross-encoder says, where it was asked.
    async fn cross_encoded(
        &self,
        prepared: &Prepared,
        response: &QueryResponse,
        document: FoundDocument,
        id: &DocumentId,
    ) -> Result<Option<CrossEncodeStage>, PipelineError> {
        let Some(query) = prepared.asked.text.clone().filter(|_| prepared.request.cross_encode.is_some()) else { return Ok(None) };
        let last_hit = response.hits.last().and_then(|hit| hit.cross_encoder_score);
        let (searcher, id) = (Arc::clone(&prepared.checked.searcher), id.clone());
        let text = self.pool.run(move || text_of(&searcher, &document, &id)).await??;
        let request = RerankRequest { query, documents: vec![text], overlong: Overlong::Cut(Side::Right), max_document_tokens: None };
        // What the cross-encoder cannot do now, the answer has among what is degraded.
        let Ok(reranked) = self.rerank.rerank(request).await else { return Ok(None) };
        Ok(reranked.ranked.first().map(|ranked| CrossEncodeStage { score: ranked.logit, last_hit }))
    }
}

/// Where the document stood at each stage.
fn place(
    prepared: &Prepared,
    response: QueryResponse,
    id: DocumentId,
    document: FoundDocument,
    cross_encode: Option<CrossEncodeStage>,
) -> Result<Placement, PipelineError> {
    let searcher = &prepared.checked.searcher;
    let retrieve = prepared.retrieve();
    let question = prepared.asked.by.question();
    let mut retrieved = searcher.retrieve(question, &retrieve)?;
    let n_candidates = retrieved.found.len();
    let rank = retrieved.found.iter().position(|found| found.document == document);
    let measured = searcher.measure(question, document)?;
    let last_found = last_found(&retrieved);
    if rank.is_none() {
        // As if it were one more candidate.
        retrieved.found.push(measured.clone());
    }
    let way = |question, score, last_found| -> Result<Way, PipelineError> {
        Ok(Way { score, rank: exact_rank(prepared, question, document, score)?, last_found })
    };
    let (meaning, words) = match question {
        Question::Meaning(query) => (Some(Question::Meaning(query)), None),
        Question::Words(words) => (None, Some(Question::Words(words))),
        Question::Both(query, words) => (Some(Question::Meaning(query)), Some(Question::Words(words))),
    };
    let dense = meaning.zip(measured.dense).map(|(question, signal)| way(question, signal.score, last_found[0])).transpose()?;
    let lexical = words.zip(measured.lexical).map(|(question, signal)| way(question, signal.score, last_found[1])).transpose()?;
    let missed = match (question, dense.and_then(|way| way.rank)) {
        (Question::Meaning(query) | Question::Both(query, _), Some(exact)) if rank.is_none() && exact <= retrieve.k => {
            !searcher.retrieve(Question::Meaning(query), &retrieve)?.found.iter().any(|found| found.document == document)
        }
        _ => false,
    };
    let retrieval = RetrievalStage { n_candidates, rank: rank.map(|rank| rank + 1), dense, lexical };

    let attributes = prepared.attributes(&retrieved.found)?;
    let wanted = prepared.wanted(&attributes);
    let scorer = &prepared.checked.scorer;
    let scored = rescore(&retrieved, &attributes, &wanted, scorer, &searcher.meaning().schema);
    let position = scored.iter().position(|scored| scored.found.document == document).expect("it is among what was scored");
    let own = &scored[position];
    let last_hit = response.hits.iter().map(|hit| hit.score).reduce(f64::min);
    let (score, explanation) = (own.score, scorer.explain(&own.candidate));
    let rescored = RescoreStage { score, rank: position + 1, last_hit };

    let filter = clauses(prepared, document, &id)?;
    let hit = response.hits.iter().position(|hit| hit.id == id);
    let better = better_of_group(prepared, &scored, position)?;
    let facts = Facts {
        prepared,
        response: &response,
        id: &id,
        hit,
        filter: &filter,
        missed,
        retrieval: &retrieval,
        rescored,
        cross_encode,
        better,
    };
    let (fate, reason) = facts.fate();
    Ok(Placement {
        fate,
        reason,
        rank: hit.map(|hit| hit + 1),
        filter,
        retrieval,
        rescore: rescored,
        explanation,
        cross_encode,
        phrases: Vec::new(),
        plan: response.plan,
        timings: response.timings,
        generation: label(searcher.generation()),
        model: response.model,
        degraded: response.degraded,
        id,
    })
}

/// By meaning and by words: the lowest score that was found so.
fn last_found(retrieved: &Retrieved) -> [Option<f32>; 2] {
    let lowest = |signals: &mut dyn Iterator<Item = Signal>| {
        signals.filter(|signal| signal.rank.is_some()).map(|signal| signal.score).reduce(f32::min)
    };
    [
        lowest(&mut retrieved.found.iter().filter_map(|found| found.dense)),
        lowest(&mut retrieved.found.iter().filter_map(|found| found.lexical)),
    ]
}

/// Its place among all documents that match, by one way, by comparing all of them; none if it is too far behind, or has none of the words.
fn exact_rank(prepared: &Prepared, question: Question<'_>, document: FoundDocument, score: f32) -> Result<Option<usize>, PipelineError> {
    if matches!(question, Question::Words(_)) && score <= 0.0 {
        return Ok(None);
    }
    let request = RetrieveRequest { k: MAX_RANK, strategy: StrategyChoice::Exact, ..prepared.retrieve() };
    let found = prepared.checked.searcher.retrieve(question, &request)?.found;
    let of = |found: &Found| match question {
        Question::Words(_) => found.lexical,
        _ => found.dense,
    };
    let before =
        found.iter().take_while(|other| other.document != document && of(other).is_some_and(|signal| signal.score >= score)).count();
    Ok((before < MAX_RANK).then_some(before + 1))
}

/// What every condition of the filter says about a document.
fn clauses(prepared: &Prepared, document: FoundDocument, id: &DocumentId) -> Result<Vec<Clause>, PipelineError> {
    let (Some(json), Some(filter)) = (&prepared.request.filter, &prepared.checked.filter) else { return Ok(Vec::new()) };
    let searcher = &prepared.checked.searcher;
    let attributes = searcher.attributes(&document)?;
    let fields: Map<String, Json> = serde_json::from_str(searcher.fields(&document)?)
        .map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
    let mut found = Vec::new();
    tell(json, filter, "filter", true, &attributes, &fields, &mut found);
    Ok(found)
}

/// `counts`: whether the document is kept out where this filter does not let it through.
fn tell(
    json: &Json,
    filter: &Filter,
    path: &str,
    counts: bool,
    attributes: &Attributes,
    fields: &Map<String, Json>,
    found: &mut Vec<Clause>,
) {
    let none_holds = !filter.should.iter().any(|condition| condition.matches(attributes));
    let lists = [("must", &filter.must), ("should", &filter.should), ("must_not", &filter.must_not)];
    for (name, conditions) in lists {
        for (position, condition) in conditions.iter().enumerate() {
            let (json, path) = (&json[name][position], format!("{path}.{name}[{position}]"));
            let holds = condition.matches(attributes);
            let keeps_out = counts
                && match name {
                    "must" => !holds,
                    "should" => none_holds,
                    _ => holds,
                };
            match condition {
                // What is inside a `must_not` keeps out as a whole, which its conditions cannot tell one by one.
                Condition::Nested(inner) if name != "must_not" => tell(json, inner, &path, keeps_out, attributes, fields, found),
                _ => {
                    let values = json["key"].as_str().map(|key| values_of(fields, key)).unwrap_or_default();
                    found.push(Clause { path, condition: json.clone(), values, holds, keeps_out });
                }
            }
        }
    }
}

/// Where hits are grouped: the ids of those before a candidate that take the places of its group.
fn better_of_group(prepared: &Prepared, scored: &[Scored<'_>], position: usize) -> Result<Vec<DocumentId>, PipelineError> {
    let Some((field, size)) = prepared.checked.group_by else { return Ok(Vec::new()) };
    let group = |scored: &Scored<'_>| scored.candidate.attributes.words(Some(field)).first().cloned();
    let Some(own) = group(&scored[position]) else { return Ok(Vec::new()) };
    let before = scored[..position].iter().filter(|other| group(other).as_ref() == Some(&own)).take(size);
    let before = before.map(|other| prepared.checked.searcher.id(&other.found.document)).collect::<Result<Vec<_>, _>>()?;
    Ok(if before.len() == size { before } else { Vec::new() })
}
