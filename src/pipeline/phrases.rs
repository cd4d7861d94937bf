//! Phrases: what in a document's text answers a query. A text is cut into short pieces, and each is encoded and compared like a document.

use std::sync::Arc;

use serde::Serialize;

use super::PipelineError;
use super::prepared::Prepared;
use super::query::QueryPipeline;
use super::request::{Query, QueryResponse};
use super::rerank::text_of;
use crate::collection::Searcher;
use kindred_core::domain::{DocumentId, Embedding, phrases};
use kindred_core::error::{ErrorKind, chain};
use kindred_encoder::{Encoder, EncoderError};

/// Most phrases that are returned of one document.
const MAX_TOLD: usize = 10;
/// Hits that phrases are returned for: those that people read.
const MAX_HITS: usize = 20;
/// Phrases of one text that are compared with the query: its first.
pub(super) const MAX_OF_TEXT: usize = 64;
/// Texts that are encoded by one call: searches get in between.
const BATCH: usize = 64;

/// A part of a document's text, word for word.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Phrase {
    pub text: String,
    /// Dot product with the query, -1 to 1.
    pub score: f32,
}

impl QueryPipeline {
    pub(super) fn check_phrases(asked: usize) -> Result<(), PipelineError> {
        match asked > MAX_TOLD {
            true => Err(PipelineError::OutOfRange { field: "phrases", min: 0, max: MAX_TOLD, actual: asked }),
            false => Ok(()),
        }
    }

    /// Adds to each of the first hits its phrases that are nearest to the query. If that fails or takes too long, the remaining
    /// hits have none, and the response reports it as degraded.
    pub(super) async fn tell_phrases(&self, prepared: &Arc<Prepared>, response: &mut QueryResponse) {
        let n_hits = response.hits.len().min(MAX_HITS);
        for position in 0..n_hits {
            if prepared.request.is_over() {
                response.degrade("phrases", format_args!("{position} of {n_hits} hits have theirs, then timeout_ms was over"));
                return;
            }
            match self.phrases_of(prepared, &response.hits[position].id, prepared.request.phrases).await {
                Ok(phrases) => response.hits[position].phrases = phrases,
                Err(e) => {
                    if e.kind() != ErrorKind::Overloaded {
                        tracing::error!(error = chain(&e), "the hits of a search are returned without phrases");
                    }
                    response.degrade("phrases", e);
                    return;
                }
            }
        }
    }

    /// Returns the `n` phrases of a document that are nearest to the query, best first.
    pub(super) async fn phrases_of(&self, prepared: &Arc<Prepared>, id: &DocumentId, n: usize) -> Result<Vec<Phrase>, PipelineError> {
        let searcher = &prepared.checked.searcher;
        let texts = {
            let (searcher, id) = (Arc::clone(searcher), id.clone());
            self.pool.run(move || read_phrases(&searcher, &id)).await??
        };
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let encoder = self.encoders.get(searcher.description()).await?;
        let query = match prepared.asked.by.embedding() {
            Some(embedding) => Arc::clone(embedding),
            None => {
                let words = match &prepared.request.query {
                    Query::Text(text) => text.clone(),
                    Query::Vector(_) | Query::Document { .. } => prepared.asked.wanted.words(),
                };
                let prompt = encoder.query_prompt(&searcher.description().definition.query_prompt);
                encoder.encode_query(prompt, &words, prepared.request.encoding).await?.embedding
            }
        };
        let skip_cache = prepared.request.encoding.skip_cache;
        let embeddings = encode(&encoder, searcher, texts.iter().map(String::as_str), skip_cache).await?;
        let scored = texts.into_iter().zip(embeddings.iter()).map(|(text, of)| Phrase { text, score: query.dot(of) });
        let mut scored: Vec<Phrase> = scored.collect();
        scored.sort_by(|a, b| b.score.total_cmp(&a.score));
        scored.truncate(n);
        Ok(scored)
    }
}

/// Reads the first phrases of a document's text; none if the document does not exist any more.
fn read_phrases(searcher: &Searcher, id: &DocumentId) -> Result<Vec<String>, PipelineError> {
    let Some(document) = searcher.get(id)? else { return Ok(Vec::new()) };
    let text = text_of(searcher, &document, id)?;
    Ok(phrases(&text).take(MAX_OF_TEXT).map(str::to_owned).collect())
}

/// Encodes the phrases of a document as the documents of a searcher are encoded. The same phrases in the same batches, whatever else is going on: equal
/// documents give equal numbers.
pub(super) async fn encode<'a>(
    encoder: &Encoder,
    searcher: &Searcher,
    phrases: impl Iterator<Item = &'a str>,
    skip_cache: bool,
) -> Result<Arc<Vec<Embedding>>, EncoderError> {
    let prompt = encoder.document_prompt(&searcher.description().definition.document_prompt);
    encoder.encode_phrases(phrases.map(|phrase| format!("{prompt}{phrase}")).collect(), BATCH, skip_cache).await
}
