//! How the queries of a task are asked.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::app::App;
use crate::collection::Searcher;
use crate::pipeline::evaluate::{Stage, Staged, ids};
use crate::pipeline::{CrossEncode, ProfileChoice, Query, QueryRequest, Timings, Weights, put_in_order};
use crate::rescore::{Profile, Values};
use crate::tools::examples;
use kindred_core::Progress;
use kindred_core::domain::{CollectionName, Retrieval, StrategyChoice};

/// Hits per query: enough for Recall@100.
pub(super) const DEPTH: usize = 100;
/// Candidates that are re-scored.
pub(super) const CANDIDATES: usize = 200;
/// A tool waits for the cross-encoder.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// How much the cross-encoder counts in a mixed order.
const HALF: f64 = 0.5;

/// How all queries are asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub searcher: Arc<Searcher>,
    pub collection: CollectionName,
    pub retrieval: Retrieval,
    pub strategy: StrategyChoice,
    pub weights: Weights,
    /// Whether the features without a weight are told, too.
    pub all_features: bool,
    /// Hits that the cross-encoder orders.
    pub cross_encode: Option<usize>,
}

/// Ids, best first, at most [`DEPTH`].
#[derive(Debug)]
pub(super) struct Ranked {
    pub stages: Vec<(Stage, Vec<String>)>,
    pub rescored: Vec<String>,
    /// All candidates with their features, as they were re-scored.
    pub candidates: Vec<(String, Values)>,
    pub crossed: Option<Crossed>,
}

/// What the cross-encoder makes of it.
#[derive(Debug, Default)]
pub(super) struct Crossed {
    pub ids: Vec<String>,
    /// The order in which its score counts half, and that of the re-scoring half.
    pub mixed: Vec<String>,
    pub timings: Timings,
}

impl Asked {
    fn request(&self, profile: ProfileChoice) -> QueryRequest {
        QueryRequest {
            limit: DEPTH,
            retrieval: Some(self.retrieval),
            candidates: Some(CANDIDATES),
            strategy: self.strategy,
            profile: Some(profile),
            fields: Some(Vec::new()),
            ..QueryRequest::new(self.collection.clone(), Query::Text(String::new()))
        }
    }

    pub(super) async fn rank(&self, app: &App, text: &str, progress: &Progress) -> Result<Ranked> {
        let inline = |weights: &Weights| ProfileChoice::Inline(Profile::write_weights(weights));
        let explained = if self.all_features { examples::all_features(&self.weights) } else { self.weights.clone() };
        let Staged { mut orders, hits } = app.query.staged_on(&self.searcher, &self.request(inline(&explained)), text, progress).await?;
        orders.iter_mut().for_each(|(_, ids)| ids.truncate(DEPTH));
        let (_, rescored) = orders.pop().expect("the order after re-scoring is always there");
        let crossed = match self.cross_encode {
            None => None,
            Some(n) => {
                // With its own weights alone, for the time that these take.
                let cross_encode = Some(CrossEncode { candidates: Some(n), timeout: Some(PATIENCE), weight: None });
                let request = QueryRequest { cross_encode, ..self.request(inline(&self.weights)) };
                let response = app.query.ask_on(&self.searcher, &request, text, progress).await?;
                let crossed = response.map(|mut response| {
                    let in_order = ids(&response.hits);
                    let n = response.hits.iter().take_while(|hit| hit.cross_encoder_score.is_some()).count();
                    put_in_order(&mut response.hits[..n], HALF);
                    Crossed { ids: in_order, mixed: ids(&response.hits), timings: response.timings }
                });
                Some(crossed.unwrap_or_default())
            }
        };
        let candidates = hits.iter().map(|hit| (hit.id.to_string(), examples::values(hit))).collect();
        Ok(Ranked { stages: orders, rescored, candidates, crossed })
    }

    /// The order by a profile of the collection, and what it took.
    pub(super) async fn rank_by(&self, app: &App, profile: &str, text: &str, progress: &Progress) -> Result<(Vec<String>, Timings)> {
        let request = self.request(ProfileChoice::Named(profile.to_owned()));
        let response = app.query.ask_on(&self.searcher, &request, text, progress).await?;
        Ok(response.map(|response| (ids(&response.hits), response.timings)).unwrap_or_default())
    }
}
