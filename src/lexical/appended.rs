//! The terms of documents that come one by one, in memory: those that no segment has yet.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use tantivy::fieldnorm::FieldNormReader;

use super::{Analyzer, Bm25, LexicalQuery, Statistics};

/// Stands for a term: in 64 bits, no two of a collection's terms are likely ever to be the same.
type TermHash = u64;

/// The terms of one document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Ascending.
    hashes: Box<[TermHash]>,
    /// How often it has each of them.
    frequencies: Box<[u32]>,
    /// All of them, each as often as it stands there.
    n_terms: u32,
}

impl Terms {
    pub fn new(analyzer: &Analyzer, text: &str) -> Self {
        let mut all = Vec::new();
        analyzer.each_term(text, |term| all.push(hash(term)));
        all.sort_unstable();
        let (mut hashes, mut frequencies) = (Vec::new(), Vec::new());
        for same in all.chunk_by(|a, b| a == b) {
            hashes.push(same[0]);
            frequencies.push(same.len() as u32);
        }
        Self { hashes: hashes.into(), frequencies: frequencies.into(), n_terms: all.len() as u32 }
    }

    fn frequency(&self, term: TermHash) -> Option<u32> {
        self.hashes.binary_search(&term).ok().map(|at| self.frequencies[at])
    }

    /// As a segment keeps it: in a byte, so that a document scores the same before it is in one and then.
    fn len(&self) -> u32 {
        FieldNormReader::id_to_fieldnorm(FieldNormReader::fieldnorm_to_id(self.n_terms))
    }
}

/// The terms of many documents, put together by term.
#[derive(Debug, Default)]
pub struct AppendedTerms {
    /// Rows that have a term, ascending, with how often they have it.
    postings: HashMap<TermHash, Vec<(u32, u32)>>,
    lens: Vec<u32>,
    n_terms: u64,
}

impl AppendedTerms {
    /// Of documents by row, from 0.
    pub fn new<'a>(documents: impl Iterator<Item = &'a Terms>) -> Self {
        let mut all = Self::default();
        for (row, terms) in (0u32..).zip(documents) {
            for (&hash, &frequency) in terms.hashes.iter().zip(&terms.frequencies) {
                all.postings.entry(hash).or_default().push((row, frequency));
            }
            all.lens.push(terms.len());
            all.n_terms += u64::from(terms.n_terms);
        }
        all
    }

    pub fn n_rows(&self) -> u32 {
        self.lens.len() as u32
    }
}

/// Which of some rows have a query's terms, how often.
#[derive(Debug)]
pub struct Matches {
    hashes: Vec<TermHash>,
    /// Of each term: row, how often, length of the row's text.
    found: Vec<Vec<(u32, u32, u32)>>,
    statistics: Statistics,
}

impl Matches {
    pub fn new(query: &LexicalQuery) -> Self {
        let hashes: Vec<TermHash> = query.terms().map(hash).collect();
        let statistics = Statistics { n_documents: 0, n_terms: 0, n_with: vec![0; hashes.len()] };
        Self { found: vec![Vec::new(); hashes.len()], hashes, statistics }
    }

    /// Looks into many rows, the first of which is the next.
    pub fn look_into(&mut self, terms: &AppendedTerms) {
        let first = self.statistics.n_documents as u32;
        for (hash, found) in self.hashes.iter().zip(&mut self.found) {
            let rows = terms.postings.get(hash).into_iter().flatten();
            found.extend(rows.map(|&(row, frequency)| (first + row, frequency, terms.lens[row as usize])));
        }
        self.statistics.n_documents += u64::from(terms.n_rows());
        self.statistics.n_terms += terms.n_terms;
    }

    /// Looks at the next row.
    pub fn look_at(&mut self, terms: &Terms) {
        let row = self.statistics.n_documents as u32;
        for (&hash, found) in self.hashes.iter().zip(&mut self.found) {
            found.extend(terms.frequency(hash).map(|frequency| (row, frequency, terms.len())));
        }
        self.statistics.n_documents += 1;
        self.statistics.n_terms += u64::from(terms.n_terms);
    }

    /// What these rows are like.
    pub fn statistics(&self) -> Statistics {
        let n_with = self.found.iter().map(|rows| rows.len() as u64).collect();
        Statistics { n_with, ..self.statistics.clone() }
    }

    /// The scores of all rows; 0 for those without any of the terms.
    pub fn scores(&self, bm25: &Bm25) -> Vec<f32> {
        let mut scores = vec![0.0; self.statistics.n_documents as usize];
        for (position, found) in self.found.iter().enumerate() {
            for &(row, frequency, len) in found {
                scores[row as usize] += bm25.term(position, frequency, len);
            }
        }
        scores
    }
}

fn hash(term: &str) -> TermHash {
    let mut hasher = DefaultHasher::new();
    term.hash(&mut hasher);
    hasher.finish()
}
