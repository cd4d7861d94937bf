//! An adapter that is learned from half of the queries, tried on the other half, both ways round.

use anyhow::{Error, Result};

use super::asked::{CANDIDATES, DEPTH};
use crate::adapter::{self, TrainError};
use crate::app::App;
use crate::pipeline::Query;
use crate::pipeline::evaluate::Scores;
use crate::tools::adapted::{JudgedQueries, JudgedQuery, RANK};
use crate::tools::examples;
use crate::tools::judgments::{Task, TaskQuery};
use kindred_core::Progress;
use kindred_core::domain::CollectionName;

/// Where the queries are asked.
pub(super) struct Asking<'a> {
    pub app: &'a App,
    pub collection: &'a CollectionName,
    pub ef_search: usize,
    pub name: &'a str,
    pub task: &'a Task,
}

/// How queries are answered by meaning with an adapter that was learned from others: from those that are there to be learned from, else each
/// half from the other.
///
/// # Errors
/// Queries that cannot be asked, documents that cannot be read.
pub(super) async fn scores(asking: &Asking<'_>, told: &[&TaskQuery], seen: &[&TaskQuery]) -> Result<Vec<Scores>> {
    let (even, odd): (Vec<_>, Vec<_>) = told.iter().copied().partition(|query| examples::is_even(&query.id));
    let turns = if seen.is_empty() { vec![(&even[..], &odd[..]), (&odd, &even)] } else { vec![(seen, told)] };
    let searcher = asking.app.catalog.searcher(asking.collection)?;
    let mut scores = Vec::new();
    for (seen, unseen) in turns {
        let [mut learned, mut tried] =
            [(); 2].map(|()| JudgedQueries { searcher: &searcher, ef_search: asking.ef_search, queries: Vec::new() });
        for (queries, judged) in [(seen, &mut learned), (unseen, &mut tried)] {
            // In an order of their own: the same must be learned each time.
            let mut queries = queries.to_vec();
            queries.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            for query in queries {
                let judgments = asking.task.judgments[&query.id].clone();
                judged.queries.push(JudgedQuery::new(asking.app, asking.collection, Query::Text(query.text.clone()), judgments).await?);
            }
        }
        let progress = Progress::new(format!("{}: learning", asking.name), adapter::MAX_STEPS);
        let adapter = match tokio::task::block_in_place(|| learned.train(RANK, &progress)) {
            Ok(trained) => Some(trained.adapter),
            // Nothing is written then, and searches go on as they are.
            Err(e @ (TrainError::NoBetter { .. } | TrainError::TooFew { .. })) => {
                eprintln!("{}: {e}", asking.name);
                None
            }
            Err(e) => return Err(e.into()),
        };
        for query in &tried.queries {
            let embedding = adapter.as_ref().map_or_else(|| (*query.embedding).clone(), |adapter| adapter.apply(&query.embedding));
            let mut ids = tried.ids(query, &embedding, CANDIDATES).map_err(Error::from_boxed)?;
            ids.truncate(DEPTH);
            scores.push(Scores::of(&ids, &query.judged));
        }
    }
    Ok(scores)
}
