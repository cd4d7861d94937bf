//! BM25 beside the graph: finds documents by the words that they share with a query, as names, codes and rare words want it.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | a query's words, and what they weigh (the one BM25) |
//! | `analyzer.rs` | text to terms |
//! | `tokenizer.rs` | text to words: letters and digits, `C++`, pairs of Chinese signs |
//! | `segment.rs` | the terms of a generation: write, open, find, score |
//! | `packed.rs` | the files of that segment as one container |
//! | `appended.rs` | the terms of documents that no segment has yet |
//!
//! The inverted index of a generation is tantivy's (the only place that names it); the scores are computed here, from term frequencies and
//! lengths, so that a document scores the same in the generation and before it is in it.
//!
//! *Concurrency*: a segment never changes; any number of threads search it.
//!
//! *Source*: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.

mod analyzer;
mod appended;
mod packed;
mod segment;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use analyzer::Analyzer;
pub use appended::{AppendedTerms, Matches, Terms};
pub use segment::{LEXICAL_FILE, LexicalSegment, LexicalWriter};

use kindred_core::error::ErrorKind;
use kindred_core::storage::StorageError;

/// Different terms of a query that count, the first ones: what is longer is no query, but a text.
const MAX_TERMS: usize = 64;

/// How soon more of the same word says little more.
const K1: f32 = 1.2;
/// How much a long text's words count for less.
const B: f32 = 0.75;

/// What can go wrong with a lexical index.
#[derive(Debug, thiserror::Error)]
pub enum LexicalError {
    #[error(
        "the words of the documents take more than {limit_bytes} bytes while they are sorted, which is the most: set lexical = \"off\" for this collection, or keep less text in its template"
    )]
    TooLarge { limit_bytes: usize },
    #[error("the lexical index cannot be used: {0}")]
    Index(#[from] tantivy::TantivyError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl LexicalError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::Conflict,
            Self::Index(_) => ErrorKind::Corrupt,
            Self::Storage(e) => e.kind(),
        }
    }
}

/// A query's terms.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LexicalQuery {
    terms: Vec<QueryTerm>,
}

#[derive(Debug, Clone, PartialEq)]
struct QueryTerm {
    text: String,
    /// What it counts: 1 + ln of how often the query has it.
    weight: f32,
}

impl LexicalQuery {
    /// The terms of a text that say what is looked for: the first 64 different ones.
    pub fn new(analyzer: &Analyzer, text: &str) -> Self {
        let mut counted: Vec<(String, f32)> = Vec::new();
        analyzer.each_telling_term(text, |term| match counted.iter().position(|(known, _)| known == term) {
            Some(known) => counted[known].1 += 1.0,
            None if counted.len() < MAX_TERMS => counted.push((term.to_owned(), 1.0)),
            None => {}
        });
        Self { terms: counted.into_iter().map(|(text, count)| QueryTerm { text, weight: 1.0 + count.ln() }).collect() }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The terms, in the order in which the text has them first.
    pub fn terms(&self) -> impl ExactSizeIterator<Item = &str> {
        self.terms.iter().map(|term| term.text.as_str())
    }
}

/// What a set of documents is like, for a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    pub n_documents: u64,
    /// Terms of all documents, each as often as it stands there.
    pub n_terms: u64,
    /// How many documents have each of the query's terms.
    pub n_with: Vec<u64>,
}

impl Statistics {
    /// Those of two sets of documents together.
    pub fn add(&mut self, other: &Self) {
        self.n_documents += other.n_documents;
        self.n_terms += other.n_terms;
        self.n_with.iter_mut().zip(&other.n_with).for_each(|(n, more)| *n += more);
    }
}

/// What a query's terms weigh among some documents.
#[derive(Debug, Clone)]
pub struct Bm25 {
    /// Of each term: its inverse document frequency times its weight in the query.
    weights: Vec<f32>,
    mean_len: f32,
}

impl Bm25 {
    pub fn new(query: &LexicalQuery, statistics: &Statistics) -> Self {
        let n = statistics.n_documents as f32;
        let idf = |n_with: u64| (1.0 + (n - n_with as f32 + 0.5) / (n_with as f32 + 0.5)).ln();
        let weights = query.terms.iter().zip(&statistics.n_with).map(|(term, &n_with)| term.weight * idf(n_with)).collect();
        Self { weights, mean_len: statistics.n_terms as f32 / n.max(1.0) }
    }

    /// What a term adds to the score of a document that has it `frequency` times among its `len` terms.
    fn term(&self, term: usize, frequency: u32, len: u32) -> f32 {
        let frequency = frequency as f32;
        self.weights[term] * frequency * (K1 + 1.0) / (frequency + K1 * (1.0 - B + B * len as f32 / self.mean_len))
    }
}
