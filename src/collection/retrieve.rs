//! How a searcher finds candidates: by meaning, by words, or by both.
//!
//! Of a hybrid search, each way gives its best candidates; all of them get both scores; and by their ranks (reciprocal rank fusion) as many
//! as were asked for are kept. What orders hits is not that, but the re-scoring, which sees both scores and both ranks.
//!
//! *Source*: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods", 2009.

use std::collections::HashMap;
use std::time::Instant;

use super::delta::AllowedInDelta;
use super::generation::Generation;
use super::searcher::{FoundDocument, Searcher};
use super::{CollectionError, NoWords};
use crate::lexical::{Bm25, LexicalQuery};
use kindred_core::domain::{DocumentId, Embedding, Filter, Plan, Retrieval, StrategyChoice};
use kindred_index::{AllowedRows, FilterDeadline};

/// What is added to a rank before its reciprocal is taken: how little the first ranks differ.
const RANK_OFFSET: f64 = 60.0;
/// So few rows are rather looked up one by one than met on the way through all that have a word.
const FEW_ROWS: u64 = 1_000;

/// What to retrieve.
#[derive(Debug, Clone, Copy)]
pub struct RetrieveRequest<'a> {
    /// How many candidates.
    pub k: usize,
    pub ef_search: usize,
    pub strategy: StrategyChoice,
    pub filter: Option<&'a Filter>,
    /// A document that is not an answer: the one that was asked with.
    pub exclude: Option<&'a DocumentId>,
    /// When documents of the generation are not to be compared one by one any longer: what was found by then is the answer.
    pub until: Option<Instant>,
}

/// What to find it by.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    Meaning(&'a Embedding),
    Words(&'a LexicalQuery),
    Both(&'a Embedding, &'a LexicalQuery),
}

/// What one way of searching says about a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signal {
    pub score: f32,
    /// From 1, among what that way found; `None` if it did not find it.
    pub rank: Option<u32>,
}

/// A candidate of a searcher.
#[derive(Debug, Clone)]
pub struct Found {
    pub document: FoundDocument,
    /// Full-precision dot product with the query; `None` where it was not asked by meaning.
    pub dense: Option<Signal>,
    /// BM25; `None` where it was not asked by words.
    pub lexical: Option<Signal>,
}

/// The candidates, and how they were found.
#[derive(Debug, Clone)]
pub struct Retrieved {
    /// Best first.
    pub found: Vec<Found>,
    pub plan: Plan,
    /// The best BM25 score of all documents that match; 0 where none has any of the words, and where it was not asked by words.
    pub best_lexical: f32,
}

impl Found {
    /// The sum of the reciprocals of its ranks.
    pub fn reciprocal_rank(&self) -> f64 {
        let ranks = [self.dense, self.lexical].into_iter().flatten().filter_map(|signal| signal.rank);
        ranks.map(|rank| 1.0 / (RANK_OFFSET + f64::from(rank))).sum()
    }
}

/// The documents that a search may return.
#[derive(Debug)]
pub struct Scope<'a> {
    pub(super) base: Option<(&'a Generation, AllowedRows<'a>)>,
    pub(super) delta: AllowedInDelta,
}

impl Searcher {
    /// A query's words, if texts are searched by them.
    ///
    /// # Errors
    /// [`NoWords`] says why they are not.
    pub fn words(&self, text: &str) -> Result<LexicalQuery, NoWords> {
        let analyzer = self.meaning().analyzer.as_ref().ok_or(NoWords::Off)?;
        if self.base.as_ref().is_some_and(|base| base.lexical.is_none()) {
            return Err(NoWords::NotBuilt);
        }
        Ok(LexicalQuery::new(analyzer, text))
    }

    /// The best candidates, best first: always as many as were asked for, or as there are matching documents; by words alone, as there are
    /// matching documents with any of them.
    ///
    /// # Errors
    /// [`CollectionError::Index`] when the query does not fit, or the index is damaged; [`CollectionError::Lexical`].
    pub fn retrieve(&self, question: Question<'_>, request: &RetrieveRequest<'_>) -> Result<Retrieved, CollectionError> {
        self.retrieve_among(&self.scope(request)?, question, request)
    }

    /// The same among the documents of a scope, which is that of the request.
    ///
    /// # Errors
    /// As [`Self::retrieve`].
    pub fn retrieve_among(
        &self,
        scope: &Scope<'_>,
        question: Question<'_>,
        request: &RetrieveRequest<'_>,
    ) -> Result<Retrieved, CollectionError> {
        match question {
            Question::Meaning(query) => {
                let (best, plan) = self.dense(query, scope, request)?;
                let found = ranked(best).map(|(document, signal)| Found { document, dense: Some(signal), lexical: None });
                Ok(Retrieved { found: found.collect(), plan, best_lexical: 0.0 })
            }
            Question::Words(words) => {
                let lexical = self.lexical(words, scope, request.k)?;
                let best_lexical = lexical.best_score();
                let found = ranked(lexical.best).map(|(document, signal)| Found { document, dense: None, lexical: Some(signal) });
                let plan = Plan { retrieval: Retrieval::Lexical, ..scope.plan() };
                Ok(Retrieved { found: found.collect(), plan, best_lexical })
            }
            Question::Both(query, words) => {
                let (best, plan) = self.dense(query, scope, request)?;
                let lexical = self.lexical(words, scope, request.k)?;
                let mut found: HashMap<FoundDocument, Found> =
                    ranked(best).map(|(document, signal)| (document, Found { document, dense: Some(signal), lexical: None })).collect();
                for (document, signal) in ranked(lexical.best.iter().copied()) {
                    found.entry(document).or_insert(Found { document, dense: None, lexical: None }).lexical = Some(signal);
                }
                let mut found: Vec<Found> = found.into_values().collect();
                found.sort_unstable_by(|a, b| {
                    b.reciprocal_rank().total_cmp(&a.reciprocal_rank()).then_with(|| a.document.order(&b.document))
                });
                found.truncate(request.k);
                self.complete_dense(&mut found, query)?;
                self.complete_lexical(&mut found, &lexical)?;
                let plan = Plan { retrieval: Retrieval::Hybrid, ..plan };
                Ok(Retrieved { found, plan, best_lexical: lexical.best_score() })
            }
        }
    }

    /// What both ways say about one document, found or not.
    ///
    /// # Errors
    /// As [`Self::retrieve`].
    pub fn measure(&self, question: Question<'_>, document: FoundDocument) -> Result<Found, CollectionError> {
        let mut found = [Found { document, dense: None, lexical: None }];
        let (meaning, words) = match question {
            Question::Meaning(query) => (Some(query), None),
            Question::Words(words) => (None, Some(words)),
            Question::Both(query, words) => (Some(query), Some(words)),
        };
        if let Some(query) = meaning {
            self.complete_dense(&mut found, query)?;
        }
        if let Some(words) = words {
            let any = RetrieveRequest { k: 1, ef_search: 1, strategy: StrategyChoice::Auto, filter: None, exclude: None, until: None };
            self.complete_lexical(&mut found, &self.lexical(words, &self.scope(&any)?, 1)?)?;
        }
        let [found] = found;
        Ok(found)
    }

    /// The documents that a search may return.
    ///
    /// # Errors
    /// [`CollectionError::Index`].
    pub fn scope(&self, request: &RetrieveRequest<'_>) -> Result<Scope<'_>, CollectionError> {
        let (now_us, deadline) = (self.clock.now_us(), FilterDeadline::start(request.until));
        let base = match &self.base {
            None => None,
            Some(base) => {
                let excluded = request.exclude.map(|id| self.row_in_base(id)).transpose()?.flatten();
                let mut hidden = self.hidden_in_base(now_us)?;
                if let Some(row) = excluded.filter(|row| !hidden.contains(*row)) {
                    hidden.to_mut().insert(row);
                }
                Some((base.as_ref(), base.index.allowed(request.filter, hidden, deadline)?))
            }
        };
        let excluded = request.exclude.and_then(|id| self.delta.get(id)?.row);
        Ok(Scope { base, delta: self.delta.allowed(request.filter, excluded, now_us, deadline)? })
    }

    /// The best by meaning.
    fn dense(
        &self,
        query: &Embedding,
        scope: &Scope<'_>,
        request: &RetrieveRequest<'_>,
    ) -> Result<(Vec<(FoundDocument, f32)>, Plan), CollectionError> {
        let mut plan = Plan::new(0, 0, 1.0);
        let mut best = Vec::new();
        if let Some((base, allowed)) = &scope.base {
            let from_base = base.index.search_among(allowed, query, request.k, request.ef_search, request.strategy, request.until)?;
            plan = from_base.plan;
            best.extend(from_base.candidates.into_iter().map(|c| (FoundDocument::Base(c.row), c.score)));
        }
        let newer = self.delta.search(query.as_slice(), request.k, &scope.delta);
        plan.add_compared(scope.delta.len(), scope.delta.n_documents);
        best.extend(newer.into_iter().map(|c| (FoundDocument::Delta(c.row), c.score)));
        Ok((k_best(best, request.k), plan))
    }

    /// The best by words.
    fn lexical<'a>(&self, words: &'a LexicalQuery, scope: &Scope<'_>, k: usize) -> Result<ByWords<'a>, CollectionError> {
        let newer = self.delta.matches(words);
        let mut statistics = newer.statistics();
        let in_base = scope.base.as_ref().and_then(|(base, allowed)| Some((base.lexical.as_ref()?, allowed)));
        if let Some((segment, _)) = in_base {
            statistics.add(&segment.statistics(words)?);
        }
        let bm25 = Bm25::new(words, &statistics);
        let mut best = Vec::new();
        if let Some((segment, allowed)) = in_base {
            let mut rows: Vec<u32> = if allowed.len() <= FEW_ROWS {
                allowed.iter().collect()
            } else {
                segment.search(words, &statistics, k, |row| allowed.contains(row))?.iter().map(|c| c.row).collect()
            };
            rows.sort_unstable();
            let scores = segment.scores(words, &bm25, &rows)?;
            best.extend(rows.into_iter().map(FoundDocument::Base).zip(scores));
        }
        let newer = newer.scores(&bm25);
        let rows = (0u32..).zip(&newer).filter(|(row, _)| scope.delta.contains(*row));
        best.extend(rows.map(|(row, &score)| (FoundDocument::Delta(row), score)));
        best.retain(|(_, score)| *score > 0.0);
        Ok(ByWords { words, bm25, best: k_best(best, k), newer })
    }

    /// Gives candidates that were not found by meaning their scores by it.
    fn complete_dense(&self, found: &mut [Found], query: &Embedding) -> Result<(), CollectionError> {
        for found in found.iter_mut().filter(|found| found.dense.is_none()) {
            let score = match found.document {
                FoundDocument::Base(row) => self.base().index.score(query, row)?,
                FoundDocument::Delta(row) => self.delta.score(query.as_slice(), row),
            };
            found.dense = Some(Signal { score, rank: None });
        }
        Ok(())
    }

    /// The same by words.
    fn complete_lexical(&self, found: &mut [Found], lexical: &ByWords<'_>) -> Result<(), CollectionError> {
        let mut rows = Vec::new();
        for found in found.iter_mut().filter(|found| found.lexical.is_none()) {
            match found.document {
                FoundDocument::Base(row) => rows.push((row, &mut found.lexical)),
                FoundDocument::Delta(row) => found.lexical = Some(Signal { score: lexical.newer[row as usize], rank: None }),
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_unstable_by_key(|(row, _)| *row);
        let ascending: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
        let segment = self.base().lexical.as_ref().expect("words are asked for where all can be searched by them");
        let scores = segment.scores(lexical.words, &lexical.bm25, &ascending)?;
        rows.into_iter().zip(scores).for_each(|((_, signal), score)| *signal = Some(Signal { score, rank: None }));
        Ok(())
    }
}

/// What a search by words found.
struct ByWords<'a> {
    words: &'a LexicalQuery,
    bm25: Bm25,
    best: Vec<(FoundDocument, f32)>,
    /// The scores of all rows of the delta.
    newer: Vec<f32>,
}

impl ByWords<'_> {
    fn best_score(&self) -> f32 {
        self.best.first().map_or(0.0, |(_, score)| *score)
    }
}

impl Scope<'_> {
    /// The plan of a search that compares no vectors.
    fn plan(&self) -> Plan {
        let (n_matching, n_documents) = self.base.as_ref().map_or((0, 0), |(_, allowed)| (allowed.len(), allowed.n_documents()));
        let estimate = self.base.as_ref().map_or(1.0, |(_, allowed)| allowed.estimated_selectivity());
        let mut plan = Plan::new(n_matching, n_documents, estimate);
        plan.add_compared(self.delta.len(), self.delta.n_documents);
        plan.n_distances = 0;
        plan
    }
}

/// The `k` best, best first, ties by document.
fn k_best(mut found: Vec<(FoundDocument, f32)>, k: usize) -> Vec<(FoundDocument, f32)> {
    let order = |a: &(FoundDocument, f32), b: &(FoundDocument, f32)| b.1.total_cmp(&a.1).then_with(|| a.0.order(&b.0));
    if k < found.len() && k > 0 {
        found.select_nth_unstable_by(k - 1, order);
    }
    found.truncate(k);
    found.sort_unstable_by(order);
    found
}

fn ranked(best: impl IntoIterator<Item = (FoundDocument, f32)>) -> impl Iterator<Item = (FoundDocument, Signal)> {
    best.into_iter().zip(1..).map(|((document, score), rank)| (document, Signal { score, rank: Some(rank) }))
}
