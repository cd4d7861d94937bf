//! What is learned from half of the queries, tried on the other half, both ways round.

use anyhow::Result;
use serde_json::value::to_raw_value;
use serde_json::{Value as Json, json};

use super::asked::Asked;
use super::speed::Spent;
use crate::app::App;
use crate::pipeline::evaluate::Scores;
use crate::rescore::{self, FROM_TEXT, Group, Profile, TrainError};
use crate::tools::examples;
use crate::tools::judgments::Task;
use kindred_core::Progress;
use kindred_core::domain::CollectionName;

/// Any number: equal judgments teach the same.
const SEED: u64 = 1;

/// A query as an example.
pub(super) struct Example {
    pub query: String,
    pub group: Group,
}

/// How queries are answered by what was learned from others, and what scoring by it took: from those that are there to be learned from, else
/// each half from the other.
pub(super) async fn scores(
    app: &App,
    asked: &Asked,
    name: &str,
    task: &Task,
    mut told: Vec<Example>,
    mut seen: Vec<Example>,
) -> Result<(Vec<Scores>, Spent)> {
    // Not in the order in which they were answered: the same must be learned each time.
    [&mut told, &mut seen].into_iter().for_each(|examples| examples.sort_by(|a, b| a.query.cmp(&b.query)));
    let progress = Progress::new(format!("{name}: searching by what was learned"), told.len() as u64);
    let (even, odd): (Vec<_>, Vec<_>);
    let turns = if seen.is_empty() {
        (even, odd) = told.into_iter().partition(|example| examples::is_even(&example.query));
        vec![("even", &even, &odd), ("odd", &odd, &even)]
    } else {
        vec![("seen", &seen, &told)]
    };
    let (mut scores, mut spent) = (Vec::new(), Spent::default());
    for (profile, seen, unseen) in turns {
        let groups: Vec<Group> = seen.iter().map(|example| example.group.clone()).collect();
        let written = match rescore::train(&asked.weights, &groups, SEED) {
            Ok(trained) => Profile::write(FROM_TEXT, &trained.learned, Json::Null),
            // Nothing is written then, and searches go on with what there is.
            Err(e @ (TrainError::NoBetter { .. } | TrainError::TooFew { .. })) => {
                eprintln!("{name}: {e}");
                json!({"directions": {FROM_TEXT: Profile::write_weights(&asked.weights)}})
            }
            Err(e) => return Err(e.into()),
        };
        app.profiles.put(&asked.collection, &CollectionName::new(profile)?, to_raw_value(&written)?)?;
        for example in unseen {
            let text = task.queries.iter().find(|query| query.id == example.query).map_or("", |query| &query.text);
            let (ids, timings) = asked.rank_by(app, profile, text, &progress).await?;
            spent.add(example.group.values.len(), timings.rescore_us);
            scores.push(Scores::of(&ids, &task.judgments[&example.query]));
            progress.advance(1);
        }
    }
    progress.finish();
    Ok((scores, spent))
}
