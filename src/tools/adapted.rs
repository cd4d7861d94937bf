//! Judged queries as examples for an adapter.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::adapter::{self, BoxError, Example, Passages, TrainError, Trained};
use crate::app::App;
use crate::collection::{CollectionError, Found, FoundDocument, Question, RetrieveRequest, Searcher};
use crate::pipeline::evaluate::{Judged, ndcg};
use crate::pipeline::{Query, QueryRequest};
use kindred_core::Progress;
use kindred_core::domain::{CollectionName, DocumentId, Embedding, Retrieval, StrategyChoice};

/// Documents near a query, of which those that are not relevant are learned from as near and wrong.
const NEAR: usize = 50;
/// Documents that a query's ranking is measured by.
const MEASURED: usize = 10;
/// Any number: equal judgments teach the same.
const SEED: u64 = 1;
/// Directions that a map changes, unless told otherwise.
pub const RANK: usize = 32;

/// A query with what it asks with and what is right for it.
pub struct JudgedQuery {
    pub query: Query,
    pub judged: Judged,
    pub embedding: Arc<Embedding>,
    /// The document that asks, where it is of the same collection.
    exclude: Option<DocumentId>,
}

impl JudgedQuery {
    /// Asks with a query as a search would.
    ///
    /// # Errors
    /// What a search would answer.
    pub async fn new(app: &App, collection: &CollectionName, query: Query, judged: Judged) -> Result<Self> {
        let request = QueryRequest { retrieval: Some(Retrieval::Dense), ..QueryRequest::new(collection.clone(), query.clone()) };
        let embedding = app.query.embedding(&request).await?.context("a query by meaning has an embedding")?;
        let exclude = match &query {
            Query::Document { collection: from, id } if from == collection => Some(id.clone()),
            _ => None,
        };
        Ok(Self { query, judged, embedding, exclude })
    }
}

/// Judged queries and the documents that they ask for.
pub struct JudgedQueries<'a> {
    pub searcher: &'a Searcher,
    pub ef_search: usize,
    pub queries: Vec<JudgedQuery>,
}

impl JudgedQueries<'_> {
    /// Learns from the queries that have relevant documents.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn train(&self, rank: usize, progress: &Progress) -> Result<Trained, TrainError> {
        let model = &self.searcher.description().model;
        let mut mined =
            Mined { searcher: self.searcher, passages: Passages::new(model.dims), known: HashMap::new(), documents: HashMap::new() };
        let (mut queries, mut examples) = (Vec::new(), Vec::new());
        for query in &self.queries {
            let example = self.example(query, &mut mined).map_err(failed)?;
            if !example.right.is_empty() {
                queries.push(query);
                examples.push(example);
            }
        }
        let answer = |i: usize, embedding: &Embedding| Ok(ndcg(&self.ids(queries[i], embedding, MEASURED)?, &queries[i].judged, MEASURED));
        adapter::train((&model.fingerprint, rank), &examples, &mined.passages, SEED, answer, progress)
    }

    /// The ids of the `k` documents that a query finds with an embedding, best first.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn ids(&self, query: &JudgedQuery, embedding: &Embedding, k: usize) -> Result<Vec<String>, BoxError> {
        let found = self.nearest(query, embedding, k)?;
        found.iter().map(|found| Ok(self.searcher.id(&found.document)?.to_string())).collect()
    }

    fn nearest(&self, query: &JudgedQuery, embedding: &Embedding, k: usize) -> Result<Vec<Found>, CollectionError> {
        let (strategy, exclude) = (StrategyChoice::Auto, query.exclude.as_ref());
        let request = RetrieveRequest { k, ef_search: self.ef_search.max(k), strategy, filter: None, exclude, until: None };
        Ok(self.searcher.retrieve(Question::Meaning(embedding), &request)?.found)
    }

    fn example(&self, query: &JudgedQuery, mined: &mut Mined<'_>) -> Result<Example, CollectionError> {
        let mut right = Vec::new();
        // In an order of its own: equal judgments teach the same.
        let mut judged: Vec<(&String, &i64)> = query.judged.iter().filter(|(_, relevance)| **relevance > 0).collect();
        judged.sort_unstable();
        for (id, &relevance) in judged {
            if let Some(document) = DocumentId::new(id.as_str()).ok().map(|id| self.searcher.get(&id)).transpose()?.flatten() {
                right.push((mined.passage(&document, &query.embedding)?, u32::try_from(relevance).unwrap_or(u32::MAX).min(100)));
            }
        }
        let mut near = Vec::new();
        for found in self.nearest(query, &query.embedding, NEAR)? {
            let passage = mined.passage(&found.document, &query.embedding)?;
            if !right.iter().any(|(right, _)| *right == passage) {
                near.push(passage);
            }
        }
        Ok(Example { query: Embedding::clone(&query.embedding), right, near })
    }
}

fn failed(e: CollectionError) -> TrainError {
    TrainError::Answer(e.into())
}

/// Passages, each once.
struct Mined<'a> {
    searcher: &'a Searcher,
    passages: Passages,
    /// By document and chunk.
    known: HashMap<(FoundDocument, usize), u32>,
    documents: HashMap<FoundDocument, u32>,
}

impl Mined<'_> {
    /// The part of a document that answers a query best: what a search would score it by.
    fn passage(&mut self, document: &FoundDocument, query: &Embedding) -> Result<u32, CollectionError> {
        let embeddings = self.searcher.embeddings(document)?;
        let chunks = embeddings.chunks_exact(query.as_slice().len()).enumerate();
        let score = |chunk: &[f32]| chunk.iter().zip(query.as_slice()).map(|(a, b)| a * b).sum::<f32>();
        let best = chunks.max_by(|(_, a), (_, b)| score(a).total_cmp(&score(b)));
        let (chunk, embedding) = best.expect("a document has a chunk at least");
        let n_documents = self.documents.len() as u32;
        let number = *self.documents.entry(*document).or_insert(n_documents);
        Ok(*self.known.entry((*document, chunk)).or_insert_with(|| self.passages.push(number, embedding)))
    }
}
