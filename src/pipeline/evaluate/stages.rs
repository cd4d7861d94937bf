//! One query, asked as users ask it, and stage by stage.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::error::EvaluationError;
use crate::collection::Searcher;
use crate::pipeline::{Hit, PipelineError, Query, QueryPipeline, QueryRequest, QueryResponse};
use kindred_core::Progress;
use kindred_core::domain::Retrieval;
use kindred_core::error::ErrorKind;

/// How often a query is asked again that the server has no room for, and after how long.
const TRIES: usize = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// What puts documents in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Retrieval by meaning alone.
    Dense,
    /// Retrieval by words alone.
    Lexical,
    /// Retrieval by the ranks of both.
    Fused,
    Rescore,
    CrossEncode,
}

impl Stage {
    /// As people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Lexical => "lexical",
            Self::Fused => "fused",
            Self::Rescore => "re-scored",
            Self::CrossEncode => "cross-encoded",
        }
    }
}

/// How one query's candidates are ordered by each stage before the cross-encoder.
#[derive(Debug)]
pub struct Staged {
    /// All candidates' ids, best first.
    pub orders: Vec<(Stage, Vec<String>)>,
    /// The candidates as they were re-scored, each with its explanation.
    pub hits: Vec<Hit>,
}

/// The ids of hits, in their order.
pub fn ids(hits: &[Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.id.to_string()).collect()
}

impl QueryPipeline {
    /// Asks a text. Words that are not there are no reason to stop: nothing is found by them, which is `None`. A server that has no room at
    /// the moment is asked again.
    ///
    /// # Errors
    /// As [`QueryPipeline::search`]; [`EvaluationError::Refused`]; cancelled.
    pub async fn ask_on(
        &self,
        on: &Arc<Searcher>,
        request: &QueryRequest,
        text: &str,
        progress: &Progress,
    ) -> Result<Option<QueryResponse>, PipelineError> {
        let mut reason = String::new();
        for tried in 0..TRIES {
            if progress.is_cancelled() {
                return Err(PipelineError::Cancelled { kept: "nothing was changed" });
            }
            if tried > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let request = QueryRequest { query: Query::Text(text.to_owned()), ..request.clone() };
            match self.search_on(on, request).await {
                // An order that the cross-encoder had no time for is not the one that is evaluated.
                Ok(response) if !response.degraded.iter().any(|what| what.starts_with("cross_encode")) => return Ok(Some(response)),
                Ok(response) => reason = response.degraded.join("; "),
                Err(PipelineError::Wordless) => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Overloaded => reason = e.to_string(),
                Err(e) => return Err(e),
            }
        }
        Err(EvaluationError::Refused { tries: TRIES, reason }.into())
    }

    /// Asks a text for all its candidates, and where both meaning and words find them, by each alone too.
    ///
    /// # Errors
    /// As [`Self::ask_on`].
    pub async fn staged_on(
        &self,
        on: &Arc<Searcher>,
        request: &QueryRequest,
        text: &str,
        progress: &Progress,
    ) -> Result<Staged, PipelineError> {
        let retrieval = self.retrieval_on(on, request);
        let candidates = request.candidates.unwrap_or(self.settings.candidates);
        let mut all = QueryRequest { limit: candidates, explain: true, cross_encode: None, fields: Some(Vec::new()), ..request.clone() };
        all.encoding.skip_cache = false;
        let hits_of = async |request: &QueryRequest| {
            Ok::<_, PipelineError>(self.ask_on(on, request, text, progress).await?.map_or_else(Vec::new, |response| response.hits))
        };
        let hits = hits_of(&all).await?;
        let mut orders = Vec::new();
        for (stage, alone) in [(Stage::Dense, Retrieval::Dense), (Stage::Lexical, Retrieval::Lexical)] {
            if retrieval == alone {
                orders.push((stage, by_retrieval(&hits)));
            } else if retrieval == Retrieval::Hybrid {
                orders.push((stage, by_retrieval(&hits_of(&QueryRequest { retrieval: Some(alone), ..all.clone() }).await?)));
            }
        }
        if retrieval == Retrieval::Hybrid {
            orders.push((Stage::Fused, by_retrieval(&hits)));
        }
        orders.push((Stage::Rescore, ids(&hits)));
        Ok(Staged { orders, hits })
    }
}

fn by_retrieval(hits: &[Hit]) -> Vec<String> {
    let mut ordered: Vec<&Hit> = hits.iter().collect();
    ordered.sort_by_key(|hit| hit.ranks.map(|ranks| ranks.retrieval));
    ordered.iter().map(|hit| hit.id.to_string()).collect()
}
