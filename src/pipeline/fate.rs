//! What became of a document in a search, in a word and in a sentence that says what to do about it.

use std::fmt::Write;

use serde::Serialize;

use super::diverse;
use super::explain::{Clause, CrossEncodeStage, MAX_RANK, RescoreStage, RetrievalStage, Way};
use super::prepared::Prepared;
use super::request::QueryResponse;
use kindred_core::domain::DocumentId;

/// What became of a document in a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is one of the hits.
    Hit,
    /// The filter does not let it through.
    FilteredOut,
    /// It is the document that was asked with.
    AskedWith,
    /// Other documents were found before it, by meaning and by words.
    NotRetrieved,
    /// It belongs among the candidates, and the walk through the graph went past it.
    MissedByTheWalk,
    /// Other candidates have higher scores.
    Outscored,
    /// Enough hits of its group come before it.
    Grouped,
    /// It is too much like better hits.
    TooAlike,
    /// The cross-encoder put others before it.
    CrossEncodedLower,
}

/// All that is known, to be told in a sentence.
pub(super) struct Facts<'a> {
    pub prepared: &'a Prepared,
    pub response: &'a QueryResponse,
    pub id: &'a DocumentId,
    /// Its position among the hits.
    pub hit: Option<usize>,
    pub filter: &'a [Clause],
    /// Whether the walk through the graph should have found it.
    pub missed: bool,
    pub retrieval: &'a RetrievalStage,
    pub rescored: RescoreStage,
    pub cross_encode: Option<CrossEncodeStage>,
    /// The hits that take the places of its group.
    pub better: Vec<DocumentId>,
}

impl Facts<'_> {
    /// What became of the document, and a sentence that says it.
    pub fn fate(&self) -> (Fate, String) {
        let RescoreStage { rank, score, last_hit } = self.rescored;
        let n_candidates = self.retrieval.n_candidates;
        if let Some(hit) = self.hit {
            return (Fate::Hit, format!("it is hit {} of {}", hit + 1, self.response.hits.len()));
        }
        if self.prepared.asked.exclude.as_ref() == Some(self.id) {
            return (Fate::AskedWith, "it is the document that was asked with, which is no answer".to_owned());
        }
        let keeping_out: Vec<&str> = self.filter.iter().filter(|clause| clause.keeps_out).map(|clause| clause.path.as_str()).collect();
        if !keeping_out.is_empty() {
            return (Fate::FilteredOut, format!("the filter does not let it through: {}", keeping_out.join(", ")));
        }
        if self.retrieval.rank.is_none() {
            return self.not_retrieved();
        }
        if !self.better.is_empty() {
            let better: Vec<&str> = self.better.iter().map(DocumentId::as_str).collect();
            return (Fate::Grouped, format!("hits of its group come before it: {}", better.join(", ")));
        }
        if let (true, Some(CrossEncodeStage { score, last_hit: Some(last_hit) })) =
            (rank <= self.prepared.checked.n_cross_encoded, self.cross_encode)
        {
            let reason = format!("the cross-encoder gives it {score:.3}, and {last_hit:.3} to the last hit");
            return (Fate::CrossEncodedLower, reason);
        }
        if self.prepared.request.diversity > 0.0 && rank <= diverse::n_looked_at(self.prepared.request.limit) {
            let reason =
                format!("number {rank} of {n_candidates} by score ({score:.4}), and too much like better hits: less diversity lets it in");
            return (Fate::TooAlike, reason);
        }
        let last_hit = last_hit.unwrap_or(score);
        let behind = last_hit - score;
        (
            Fate::Outscored,
            format!("number {rank} of {n_candidates} by score: {score:.4}, which is {behind:.4} below the last hit ({last_hit:.4})"),
        )
    }

    fn not_retrieved(&self) -> (Fate, String) {
        let RetrievalStage { n_candidates, dense, lexical, .. } = *self.retrieval;
        let asked = self.prepared.checked.candidates;
        let place = |rank: Option<usize>| rank.map_or_else(|| format!("beyond number {MAX_RANK}"), |rank| format!("number {rank}"));
        if self.missed {
            let ef_search = self.prepared.checked.ef_search;
            let reason = format!(
                "the walk through the graph went past it: by meaning it is {} of all that match. A wider beam finds it (ef_search, now {ef_search}), or \"strategy\": \"exact\"",
                place(dense.and_then(|way| way.rank))
            );
            return (Fate::MissedByTheWalk, reason);
        }
        let mut reason = format!("it is not among the {n_candidates} candidates:");
        if let Some(Way { score, rank, last_found }) = dense {
            let _ = write!(reason, " by meaning it is {} ({score:.4}", place(rank));
            if let Some(last) = last_found {
                let _ = write!(reason, "; the last that was found so has {last:.4}");
            }
            reason.push_str("),");
        }
        match lexical {
            Some(Way { score, .. }) if score <= 0.0 => reason.push_str(" it has none of the query's words,"),
            Some(Way { score, rank, last_found }) => {
                let _ = write!(reason, " by words it is {} ({score:.2}", place(rank));
                if let Some(last) = last_found {
                    let _ = write!(reason, "; the last that was found so has {last:.2}");
                }
                reason.push_str("),");
            }
            None => {}
        }
        let RescoreStage { rank, score, .. } = self.rescored;
        let _ = write!(reason, " and as a candidate it would be number {rank} by score ({score:.4})");
        if rank <= self.prepared.request.limit {
            let _ = write!(reason, ": more candidates (now {asked}) let it in");
        }
        (Fate::NotRetrieved, reason)
    }
}
