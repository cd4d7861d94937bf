//! RERANK: a query and texts in, an order by the cross-encoder out; also the last stage of a search that asks for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::embed::MAX_INPUTS;
use super::query::{micros, within};
use super::request::{Hit, Query, QueryResponse};
use super::{Limits, Overlong, PipelineError};
use crate::collection::{FoundDocument, Searcher};
use kindred_core::domain::DocumentId;
use kindred_core::error::{ErrorKind, chain};
use kindred_encoder::{CrossEncoder, CrossEncoderInfo, CrossEncoderSettings, EncoderError, PairFit, Scored, probability};

/// Characters of an unknown model's name that an error repeats.
const MAX_NAME_CHARS: usize = 128;
/// Nobody waits longer for a search.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// How a search wants its best hits ordered. `None` stands for the configured default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CrossEncode {
    pub candidates: Option<usize>,
    pub timeout: Option<Duration>,
    /// How much it counts beside the score before, 0 to 1: all, if nothing is said.
    pub weight: Option<f64>,
}

/// Texts to be ordered by how well they answer a query.
#[derive(Debug, Clone)]
pub struct RerankRequest {
    pub query: String,
    pub documents: Vec<String>,
    pub overlong: Overlong,
    /// Documents are cut to so many tokens of their own in any case.
    pub max_document_tokens: Option<usize>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reranked {
    /// Best first; equal scores in the order of the documents.
    pub ranked: Vec<Ranked>,
    /// That went through the model, special tokens included.
    pub n_tokens: usize,
}

/// A document with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// In the request.
    pub index: usize,
    pub logit: f32,
}

impl Ranked {
    /// The score as a number from 0 to 1.
    pub fn probability(&self) -> f32 {
        probability(self.logit)
    }
}

/// Why there is no order.
#[derive(Debug, thiserror::Error)]
pub enum RerankError {
    #[error("there is no cross-encoder here: set cross_encoder.model_dir to the folder of one")]
    NoModel,
    #[error("the query is empty: say what to look for")]
    EmptyQuery,
    #[error("there is no document: give at least one text")]
    NoDocuments,
    #[error("the query has {actual} bytes, over the limit of {limit} (limits.max_query_bytes)")]
    QueryTooLong { actual: usize, limit: usize },
    #[error("{actual} documents are over the limit of {limit} in one request: send them in parts")]
    TooManyDocuments { actual: usize, limit: usize },
    #[error("document {position} has {actual} bytes, over the limit of {limit} (limits.max_text_bytes)")]
    DocumentTooLong { position: usize, actual: usize, limit: usize },
    #[error("there is no model {asked:?} here: this server orders texts with {loaded:?}, and with no other")]
    Model { asked: String, loaded: String },
    #[error(transparent)]
    Encoder(#[from] EncoderError),
}

impl RerankError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoModel | Self::EmptyQuery | Self::NoDocuments => ErrorKind::Invalid,
            Self::QueryTooLong { .. } | Self::TooManyDocuments { .. } | Self::DocumentTooLong { .. } => ErrorKind::TooLarge,
            Self::Model { .. } => ErrorKind::NotFound,
            Self::Encoder(e) => e.kind(),
        }
    }

    /// When it is worth trying again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Encoder(e) => e.retry_after(),
            _ => None,
        }
    }
}

/// Orders texts with the cross-encoder, if there is one.
#[derive(Debug)]
pub struct RerankPipeline {
    cross_encoder: Option<Arc<CrossEncoder>>,
    settings: CrossEncoderSettings,
    limits: Limits,
}

impl RerankPipeline {
    pub fn new(cross_encoder: Option<Arc<CrossEncoder>>, settings: CrossEncoderSettings, limits: Limits) -> Self {
        Self { cross_encoder, settings, limits }
    }

    /// The model, if there is one.
    pub fn model(&self) -> Option<&CrossEncoderInfo> {
        self.cross_encoder.as_ref().map(|cross_encoder| cross_encoder.info())
    }

    /// Refuses the name of any model but the one that orders.
    ///
    /// # Errors
    /// [`RerankError::Model`]; [`RerankError::NoModel`].
    pub fn require_model(&self, name: &str) -> Result<(), RerankError> {
        let loaded = &self.model().ok_or(RerankError::NoModel)?.name;
        if name == loaded {
            return Ok(());
        }
        // As much of it as a person reads.
        Err(RerankError::Model { asked: name.chars().take(MAX_NAME_CHARS).collect(), loaded: loaded.clone() })
    }

    /// Orders all documents, or none.
    ///
    /// # Errors
    /// [`RerankError`] names what cannot be accepted, or what is not available.
    pub async fn rerank(&self, request: RerankRequest) -> Result<Reranked, RerankError> {
        let cross_encoder = self.cross_encoder.as_ref().ok_or(RerankError::NoModel)?;
        self.check(&request)?;
        let RerankRequest { query, documents, overlong, max_document_tokens } = request;
        let cut = match overlong {
            Overlong::Refuse => None,
            Overlong::Cut(side) => Some(side),
        };
        let Scored { logits, n_tokens } = cross_encoder.score(query, documents, PairFit { cut, max_document_tokens }).await?;
        Ok(Reranked { ranked: best_first(&logits), n_tokens })
    }

    fn check(&self, request: &RerankRequest) -> Result<(), RerankError> {
        check_number(request.documents.len())?;
        if request.query.trim().is_empty() {
            return Err(RerankError::EmptyQuery);
        }
        let (actual, limit) = (request.query.len(), self.limits.max_query_bytes);
        if actual > limit {
            return Err(RerankError::QueryTooLong { actual, limit });
        }
        let limit = self.limits.max_text_bytes;
        match request.documents.iter().map(String::len).enumerate().find(|&(_, actual)| actual > limit) {
            Some((position, actual)) => Err(RerankError::DocumentTooLong { position, actual, limit }),
            None => Ok(()),
        }
    }
}

/// Refuses no documents, and too many.
///
/// # Errors
/// [`RerankError::NoDocuments`] or [`RerankError::TooManyDocuments`].
pub fn check_number(actual: usize) -> Result<(), RerankError> {
    match actual {
        0 => Err(RerankError::NoDocuments),
        1..=MAX_INPUTS => Ok(()),
        _ => Err(RerankError::TooManyDocuments { actual, limit: MAX_INPUTS }),
    }
}

/// The stage of a search.
impl RerankPipeline {
    /// How many of a search's best hits are to be ordered; none where it does not ask.
    ///
    /// # Errors
    /// [`PipelineError::NoCrossEncoder`]; [`PipelineError::OutOfRange`]; [`PipelineError::Params`] for a query without words.
    pub(super) fn n_hits(&self, asked: Option<CrossEncode>, query: &Query) -> Result<usize, PipelineError> {
        let Some(asked) = asked else { return Ok(0) };
        if self.cross_encoder.is_none() {
            return Err(PipelineError::NoCrossEncoder);
        }
        if matches!(query, Query::Vector(_)) {
            let reason = "a cross-encoder reads words, which a vector has none of: ask by text or by document".to_owned();
            return Err(PipelineError::Params { field: "cross_encode", reason });
        }
        let n = asked.candidates.unwrap_or(self.settings.candidates);
        within("cross_encode.candidates", n, self.settings.max_candidates)?;
        if asked.weight.is_some_and(|weight| !(0.0..=1.0).contains(&weight)) {
            return Err(PipelineError::Params { field: "cross_encode.weight", reason: "it must be from 0 to 1".to_owned() });
        }
        Ok(n)
    }

    /// Orders the first hits, whose texts these are, by how well they answer the query. Where that cannot be done in time they stay as they
    /// are, and the response says why.
    pub(super) async fn order(
        &self,
        response: &mut QueryResponse,
        query: String,
        texts: Vec<String>,
        asked: CrossEncode,
        deadline: Option<Instant>,
    ) {
        let Some(cross_encoder) = self.cross_encoder.as_ref().filter(|_| !texts.is_empty()) else { return };
        let started = Instant::now();
        let wait = asked.timeout.unwrap_or(Duration::from_millis(self.settings.max_wait_ms)).min(LONGEST_WAIT);
        let own = started + wait;
        match cross_encoder.score_by(deadline.map_or(own, |deadline| deadline.min(own)), query, texts).await {
            Ok(Scored { logits, .. }) => {
                for (hit, &logit) in response.hits.iter_mut().zip(&logits) {
                    hit.cross_encoder_score = Some(logit);
                }
                put_in_order(&mut response.hits[..logits.len()], asked.weight.unwrap_or(1.0));
            }
            Err(e) => {
                if e.kind() != ErrorKind::Overloaded {
                    tracing::error!(error = chain(&e), "the hits of a search stay as they were before the cross-encoder");
                }
                let why = match e {
                    EncoderError::TooLate { .. } => {
                        format!(
                            "{} ms passed before the hits were read: ask for fewer candidates, or give it more time (timeout_ms, cross_encoder.max_wait_ms)",
                            started.elapsed().as_millis()
                        )
                    }
                    e => e.to_string(),
                };
                response.degrade("cross_encode", why);
            }
        }
        response.timings.cross_encode_us = micros(started);
    }
}

/// Puts hits that all have the cross-encoder's score in order: by that, and by the score before as far as it does not count. The two are of
/// different scales: each is taken by how many standard deviations it is off its mean among these hits.
pub fn put_in_order(hits: &mut [Hit], weight: f64) {
    let logits = standardized(hits.iter().map(|hit| f64::from(hit.cross_encoder_score.unwrap_or_default())));
    let scores = standardized(hits.iter().map(|hit| hit.score));
    let mixed: HashMap<DocumentId, f64> = hits
        .iter()
        .zip(logits.iter().zip(&scores))
        .map(|(hit, (logit, score))| (hit.id.clone(), weight * logit + (1.0 - weight) * score))
        .collect();
    // Stable: equal ones stay in the order before.
    hits.sort_by(|a, b| mixed[&b.id].total_cmp(&mixed[&a.id]));
}

fn standardized(values: impl ExactSizeIterator<Item = f64> + Clone) -> Vec<f64> {
    let n = values.len().max(1) as f64;
    let mean = values.clone().sum::<f64>() / n;
    let deviation = (values.clone().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
    values.map(|value| if deviation > 0.0 { (value - mean) / deviation } else { 0.0 }).collect()
}

/// The text that a collection's template makes of a stored document.
pub(super) fn text_of(searcher: &Searcher, document: &FoundDocument, id: &DocumentId) -> Result<String, PipelineError> {
    let fields = serde_json::from_str(searcher.fields(document)?)
        .map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
    Ok(searcher.meaning().template.render(&fields))
}

fn best_first(logits: &[f32]) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = logits.iter().enumerate().map(|(index, &logit)| Ranked { index, logit }).collect();
    // Stable: equal scores stay in the order of the documents.
    ranked.sort_by(|a, b| b.logit.total_cmp(&a.logit));
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_equals_stay_in_order() {
        let order = |logits: &[f32]| best_first(logits).iter().map(|ranked| ranked.index).collect::<Vec<_>>();
        assert_eq!(order(&[-1.0, 3.0, 0.0, 3.0]), [1, 3, 2, 0]);
        assert_eq!(order(&[]), [] as [usize; 0]);
        let half = Ranked { index: 0, logit: 0.0 };
        assert_eq!(half.probability(), 0.5);
        assert!(Ranked { logit: -200.0, ..half }.probability() >= 0.0 && Ranked { logit: 200.0, ..half }.probability() <= 1.0);
    }

    #[test]
    fn the_number_of_documents_is_bounded() {
        assert!(matches!(check_number(0), Err(RerankError::NoDocuments)));
        assert!(check_number(1).is_ok() && check_number(MAX_INPUTS).is_ok());
        assert!(matches!(check_number(MAX_INPUTS + 1), Err(RerankError::TooManyDocuments { .. })));
    }
}
