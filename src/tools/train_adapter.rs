//! `kindred train adapter`: learns from judgments what to search with instead of a query's embedding.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::adapted::{JudgedQueries, JudgedQuery, RANK};
use super::judgments::{TaskQuery, read_json_lines, read_qrels};
use super::serve::runtime;
use super::train::{labels, write};
use crate::adapter::{self, MAX_RANK, Trained};
use crate::app::App;
use crate::collection::{Access, Searcher};
use crate::config::Settings;
use crate::pipeline::evaluate::ndcg;
use crate::pipeline::{ProfileChoice, Query, QueryRequest};
use crate::rescore::{FROM_TEXT, Profile};
use kindred_core::Progress;
use kindred_core::domain::{CollectionName, DocumentId};

#[derive(Debug, Args)]
pub struct AdapterArgs {
    /// The collection that is searched
    collection: CollectionName,
    /// Queries: one {"_id", "text"} a line
    #[arg(long, value_name = "FILE", required_unless_present = "from")]
    queries: Option<PathBuf>,
    /// Documents of this collection are the queries: the judgments' query ids are theirs
    #[arg(long, value_name = "COLLECTION", conflicts_with = "queries")]
    from: Option<CollectionName>,
    /// Judgments: TREC qrels, `query 0 document relevance` a line; relevance from 0 to 4
    #[arg(long, visible_alias = "qrels", value_name = "FILE")]
    judgments: PathBuf,
    /// Directions of the embeddings' space that the map changes
    #[arg(long, value_name = "N", default_value_t = RANK as u8, value_parser = clap::value_parser!(u8).range(1..=MAX_RANK as i64))]
    rank: u8,
    /// The profile to add it to; without one, a new profile that scores as the settings say
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Where to write the profile
    #[arg(long, value_name = "FILE", default_value = "profile.json")]
    out: PathBuf,
    /// The card of what was learned, as JSON
    #[arg(long)]
    json: bool,
}

/// Learns and writes.
///
/// # Errors
/// Files that cannot be read or do not fit the collection; too little to learn from; nothing that is better than what there is.
pub fn run(settings: &Settings, args: &AdapterArgs) -> Result<()> {
    let judgments = read_qrels(&args.judgments)?;
    let app = App::open(settings, Access::Read)?;
    let searcher = app.catalog.searcher(&args.collection)?;
    let (direction, queries) = match (&args.from, &args.queries) {
        (Some(from), _) => (from.as_str(), documents(&app, from, judgments.keys())?),
        (None, Some(file)) => (FROM_TEXT, read_json_lines(file, |query: &TaskQuery| &query.id)?),
        (None, None) => bail!("name the queries with --queries, or the collection that they are from with --from"),
    };
    let mut profile = profile(&app, args, &searcher, direction)?;
    let mut labels = labels(&queries, &judgments, &BTreeMap::new(), |id| is_there(&searcher, id))?;
    labels.retain(|_, judged| judged.values().any(|relevance| *relevance > 0));

    let runtime = runtime()?;
    let asking = Progress::new("encoding queries", labels.len() as u64);
    let mut judged = JudgedQueries { searcher: &searcher, ef_search: settings.search.ef_search, queries: Vec::with_capacity(labels.len()) };
    for TaskQuery { id, text } in queries {
        let Some(labels) = labels.remove(&id) else { continue };
        let query = match &args.from {
            Some(from) => Query::Document { collection: from.clone(), id: DocumentId::new(id.as_str())? },
            None => Query::Text(text),
        };
        judged.queries.push(runtime.block_on(JudgedQuery::new(&app, &args.collection, query, labels))?);
        asking.advance(1);
    }
    asking.finish();
    let learning = Progress::new("learning", adapter::MAX_STEPS);
    let trained = judged.train(usize::from(args.rank), &learning)?;
    learning.finish();
    let scorer = profile["directions"][direction].clone();
    let hits = runtime.block_on(hits(&app, args, &scorer, &judged.queries, &trained))?;
    ensure!(
        hits.after >= hits.before,
        "by meaning alone more is found, but hits are worse by the profile's scores, on unseen queries: nDCG@10 {:.4} before, {:.4} with it. Nothing was written: judge more queries, or weigh \"dot\" more",
        hits.before,
        hits.after
    );
    let description = searcher.description();
    profile["directions"][direction]["adapter"] = trained.adapter.write();
    profile["card"]["adapter"][direction] = json!({
        "queries": trained.n_queries,
        "ndcg@10": {"before": trained.before, "after": trained.after, "standard_error": trained.error, "measured": "by meaning, on queries that it did not see, by thirds"},
        "ndcg@10_of_hits": {"before": hits.before, "after": hits.after},
        "rank": trained.adapter.rank(),
        "steps": trained.n_steps,
        "model": description.model.name,
        "generation": searcher.generation().to_string(),
    });
    let told = format!(
        "nDCG@10 by meaning on unseen queries: {:.4} before, {:.4} with the adapter (standard error of the difference {:.4}); of hits {:.4} and {:.4}; {} queries",
        trained.before, trained.after, trained.error, hits.before, hits.after, trained.n_queries
    );
    write(settings, &args.collection, &args.out, &profile, (!args.json).then_some(&told))
}

fn is_there(searcher: &Searcher, id: &str) -> bool {
    DocumentId::new(id).is_ok_and(|id| searcher.get(&id).is_ok_and(|found| found.is_some()))
}

/// Those ids that are documents of a collection, as queries.
fn documents<'a>(app: &App, from: &CollectionName, ids: impl Iterator<Item = &'a String>) -> Result<Vec<TaskQuery>> {
    let source = app.catalog.searcher(from)?;
    Ok(ids.filter(|id| is_there(&source, id)).map(|id| TaskQuery { id: id.clone(), text: String::new() }).collect())
}

/// The profile to add an adapter to, with a card. What scores the direction stands in it; an adapter that it has for it does not.
fn profile(app: &App, args: &AdapterArgs, searcher: &Searcher, direction: &str) -> Result<Value> {
    let mut profile = match &args.profile {
        None => json!({"directions": {}}),
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Profile::parse(&text, &searcher.meaning().schema).with_context(|| path.display().to_string())?;
            serde_json::from_str(&text)?
        }
    };
    let scorer = &mut profile["directions"][direction];
    if scorer.is_null() {
        *scorer = Profile::write_weights(&app.profiles.configured_weights(&args.collection, direction));
    }
    scorer.as_object_mut().context("a direction is an object")?.remove("adapter");
    if profile.get("card").is_some_and(|card| !card.is_object()) {
        profile["card"] = json!({"profile": profile["card"]});
    }
    if !profile["card"]["adapter"].is_object() {
        profile["card"]["adapter"] = json!({});
    }
    Ok(profile)
}

/// nDCG@10 of what users get, without and with an adapter.
struct OfHits {
    before: f64,
    after: f64,
}

/// Asks all queries as users do, each with what was learned without it.
async fn hits(app: &App, args: &AdapterArgs, scorer: &Value, queries: &[JudgedQuery], trained: &Trained) -> Result<OfHits> {
    let progress = Progress::new("searching", queries.len() as u64);
    let [mut before, mut after] = [0.0; 2];
    for (i, query) in queries.iter().enumerate() {
        let mut adapted = scorer.clone();
        adapted["adapter"] = trained.without(i).write();
        for (profile, sum) in [(scorer.clone(), &mut before), (adapted, &mut after)] {
            let request = QueryRequest {
                profile: Some(ProfileChoice::Inline(profile)),
                fields: Some(Vec::new()),
                ..QueryRequest::new(args.collection.clone(), query.query.clone())
            };
            let ids: Vec<String> = app.query.search(request).await?.hits.iter().map(|hit| hit.id.to_string()).collect();
            *sum += ndcg(&ids, &query.judged, 10);
        }
        progress.advance(1);
    }
    progress.finish();
    let n = queries.len().max(1) as f64;
    Ok(OfHits { before: before / n, after: after / n })
}
