//! Phrases: what in a document's text answers a query. A text is cut into short pieces, and each is encoded and compared like a document.

use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::PipelineError;
use super::prepared::Prepared;
use super::query::QueryPipeline;
use super::request::{Query, QueryResponse};
use super::rerank::text_of;
use crate::collection::Searcher;
use kindred_core::domain::{DocumentId, Embedding};
use kindred_core::error::{ErrorKind, chain};
use kindred_encoder::{Encoder, EncoderError};

/// Most phrases that are told of one document.
const MAX_TOLD: usize = 10;
/// Hits whose phrases are looked at: those that people read.
const MAX_HITS: usize = 20;
/// Phrases of one text that are looked at: its first.
pub(super) const MAX_OF_TEXT: usize = 64;
/// Words of a phrase; what has more is cut, at commas where there are some.
const MAX_WORDS: usize = 16;
/// Characters of a phrase: some languages put nothing between words.
const MAX_CHARS: usize = 160;
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

    /// Tells of the first hits which of their phrases are nearest to the query. Where that cannot be done the answer stands without, and says
    /// why.
    pub(super) async fn tell_phrases(&self, prepared: &Prepared, response: &mut QueryResponse) {
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
                        tracing::error!(error = chain(&e), "the hits of a search are told without phrases");
                    }
                    response.degrade("phrases", e);
                    return;
                }
            }
        }
    }

    /// The `n` phrases of a document that are nearest to the query, best first.
    pub(super) async fn phrases_of(&self, prepared: &Prepared, id: &DocumentId, n: usize) -> Result<Vec<Phrase>, PipelineError> {
        let searcher = &prepared.checked.searcher;
        let Some(document) = searcher.get(id)? else { return Ok(Vec::new()) };
        let text = text_of(searcher, &document, id)?;
        let encoder = self.encoders.of(searcher.description())?;
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
        let phrases: Vec<&str> = phrases(&text).into_iter().map(|range| &text[range]).take(MAX_OF_TEXT).collect();
        let embeddings = encode(&encoder, searcher, phrases.iter().copied(), prepared.request.encoding.skip_cache).await?;
        let mut told: Vec<Phrase> =
            phrases.iter().zip(embeddings.iter()).map(|(text, of)| Phrase { text: (*text).to_owned(), score: query.dot(of) }).collect();
        told.sort_by(|a, b| b.score.total_cmp(&a.score));
        told.truncate(n);
        Ok(told)
    }
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

/// Where the phrases of a text lie, in their order, each once: lines, sentences, and parts of long sentences.
pub(super) fn phrases(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for sentence in pieces(text, 0..text.len(), ends_sentence) {
        let parts = match is_short(&text[sentence.clone()]) {
            true => vec![sentence],
            false => joined(text, pieces(text, sentence, ends_clause)).into_iter().flat_map(|part| windows(text, part)).collect(),
        };
        let has_words = |range: &Range<usize>| text[range.clone()].chars().any(char::is_alphanumeric);
        found.extend(parts.into_iter().filter(has_words).filter(|range| seen.insert(&text[range.clone()])));
    }
    found
}

fn is_short(text: &str) -> bool {
    text.split_whitespace().nth(MAX_WORDS).is_none() && text.chars().nth(MAX_CHARS).is_none()
}

/// Whether a sentence ends with a sign before what follows.
fn ends_sentence(sign: char, rest: &str) -> bool {
    match sign {
        '\n' | '。' | '！' | '？' | '；' | '•' => true,
        ';' => rest.starts_with(char::is_whitespace),
        // "e.g. nurses" goes on, and so does "3.5".
        '.' | '!' | '?' => rest.starts_with(char::is_whitespace) && !rest.trim_start().starts_with(char::is_lowercase),
        _ => false,
    }
}

fn ends_clause(sign: char, rest: &str) -> bool {
    match sign {
        '，' | '、' => true,
        ',' | ':' | ')' => rest.starts_with(char::is_whitespace),
        _ => false,
    }
}

/// A range of a text cut behind each sign that ends a piece; white space around pieces is left out.
fn pieces(text: &str, range: Range<usize>, ends: impl Fn(char, &str) -> bool) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = range.start;
    for (at, sign) in text[range.clone()].char_indices() {
        let behind = range.start + at + sign.len_utf8();
        if ends(sign, &text[behind..range.end]) {
            found.push(trimmed(text, start..behind));
            start = behind;
        }
    }
    found.push(trimmed(text, start..range.end));
    found.retain(|range| !range.is_empty());
    found
}

/// Neighbours put together while they are short enough.
fn joined(text: &str, parts: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    for part in parts {
        match all.last_mut().filter(|last| is_short(&text[last.start..part.end])) {
            Some(last) => last.end = part.end,
            None => all.push(part),
        }
    }
    all
}

/// A range cut into parts that are short enough.
fn windows(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut rest = range;
    while !is_short(&text[rest.clone()]) {
        let inside = &text[rest.clone()];
        let by_chars = inside.char_indices().nth(MAX_CHARS).map_or(inside.len(), |(at, _)| at);
        // Behind the last word that still belongs to it.
        let mut spaces = inside.match_indices(char::is_whitespace).map(|(at, _)| at).filter(|&at| !inside[at..].trim_start().is_empty());
        let by_words =
            spaces.by_ref().filter(|&at| !inside[..at].ends_with(char::is_whitespace)).nth(MAX_WORDS - 1).unwrap_or(inside.len());
        let most = by_chars.min(by_words);
        let cut = if most == by_words { most } else { inside[..most].rfind(char::is_whitespace).filter(|&at| at > 0).unwrap_or(most) };
        found.push(trimmed(text, rest.start..rest.start + cut));
        rest = trimmed(text, rest.start + cut..rest.end);
    }
    found.push(rest);
    found
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let inside = &text[range.clone()];
    let start = range.start + (inside.len() - inside.trim_start().len());
    start..start + inside.trim().len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Vec<&str> {
        phrases(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn texts_are_cut_at_lines_sentences_and_clauses() {
        assert_eq!(
            of("Night nurse\nin Bonn. You care for patients, e.g. after surgery! Version 3.5 helps; SQL too.\n\n- \nNight nurse"),
            ["Night nurse", "in Bonn.", "You care for patients, e.g. after surgery!", "Version 3.5 helps;", "SQL too."]
        );
        let long = "The nurse plans and documents the care of patients, supports doctors during their rounds, trains new colleagues in \
                    hygiene and safety, and orders what the ward needs";
        assert_eq!(
            of(long),
            [
                "The nurse plans and documents the care of patients, supports doctors during their rounds,",
                "trains new colleagues in hygiene and safety, and orders what the ward needs"
            ]
        );
        assert_eq!(of("照顾病人。夜班！"), ["照顾病人。", "夜班！"]);
        assert_eq!(of(" ... \n"), [""; 0]);
    }

    proptest! {
        #[test]
        fn phrases_are_short_parts_of_the_text_in_their_order(text in "([a-zäß0-9]{0,12}[ ,.;:\n。]{0,2}){0,80}|\\PC{0,400}") {
            let found = phrases(&text);
            let mut end = 0;
            for range in found {
                prop_assert!(range.start >= end && range.end <= text.len());
                end = range.end;
                let phrase = &text[range];
                prop_assert!(is_short(phrase) && phrase == phrase.trim() && phrase.chars().any(char::is_alphanumeric));
            }
        }

        #[test]
        fn no_word_of_plain_text_is_lost(words in prop::collection::vec("[a-z]{1,30}", 1..100)) {
            let text = words.join(" ");
            let again: Vec<&str> = phrases(&text).into_iter().flat_map(|range| text[range].split(' ').collect::<Vec<_>>()).collect();
            // A phrase that comes twice is told once.
            let distinct: std::collections::BTreeSet<_> = words.iter().map(String::as_str).collect();
            prop_assert_eq!(again.into_iter().collect::<std::collections::BTreeSet<_>>(), distinct);
        }
    }
}
