//! `kindred train`: learns from people's judgments what to score candidates by, or what to search with.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::examples;
use super::judgments::{TaskQuery, read_json_lines, read_qrels};
use super::serve::runtime;
use super::train_adapter::{self, AdapterArgs};
use crate::app::App;
use crate::collection::Access;
use crate::config::Settings;
use crate::optional;
use crate::pipeline::evaluate::Judged;
use crate::pipeline::{CrossEncode, Hit, ProfileChoice, Query, QueryRequest, Weights};
use crate::rescore::{self, FROM_TEXT, Group, Profile};
use kindred_core::Progress;
use kindred_core::domain::{CollectionName, DocumentId, Retrieval};

/// Candidates of each query that are learned from.
const CANDIDATES: usize = 200;
/// Candidates that a cross-encoder teaches about: the others are too far behind to matter.
const TAUGHT: usize = 50;
/// Levels of what a teacher says.
const LEVELS: f64 = 4.0;
/// Any number: equal judgments teach the same.
const SEED: u64 = 1;

#[derive(Debug, Subcommand)]
pub enum TrainCommand {
    /// Learn weights and trees for the re-scoring of a collection; the profile that comes out is put with
    /// PUT /v1/collections/{collection}/profiles/{name}
    Rescore(RescoreArgs),
    /// Learn a map on the embeddings of queries, by which a collection is searched; it goes into a profile
    #[command(
        after_help = "Example:\n  kindred train adapter jobs --queries queries.jsonl --judgments qrels.tsv --out profile.json\n  kindred train adapter jobs --from members --judgments qrels.tsv --profile profile.json --out adapted.json"
    )]
    Adapter(AdapterArgs),
}

#[derive(Debug, Args)]
pub struct RescoreArgs {
    /// The collection that the judgments are about
    collection: CollectionName,
    /// Queries: one {"_id", "text"} a line
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Judgments: TREC qrels, `query 0 document relevance` a line; relevance from 0 to 4
    #[arg(long, visible_alias = "qrels", value_name = "FILE", required_unless_present = "teacher")]
    judgments: Option<PathBuf>,
    /// What people did: as judgments, with a count (clicks, applications) for the relevance. It adds to the judgments
    #[arg(long, value_name = "FILE", requires = "judgments")]
    engagement: Option<PathBuf>,
    /// Learn the order of the cross-encoder (setting cross_encoder.model_dir) instead of judgments
    #[arg(long, conflicts_with = "judgments")]
    teacher: bool,
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
pub fn run(settings: &Settings, command: &TrainCommand) -> Result<()> {
    match command {
        TrainCommand::Rescore(args) => rescore(settings, args),
        TrainCommand::Adapter(args) => train_adapter::run(settings, args),
    }
}

fn rescore(settings: &Settings, args: &RescoreArgs) -> Result<()> {
    ensure!(optional::TREES.is_built, "{}", optional::TREES.missing());
    let mut settings = settings.clone();
    settings.limits.max_limit = settings.limits.max_limit.max(CANDIDATES);
    let queries: Vec<TaskQuery> = read_json_lines(&args.queries, |query: &TaskQuery| &query.id)?;
    let judgments = args.judgments.as_deref().map(read_qrels).transpose()?.unwrap_or_default();
    let engagement = args.engagement.as_deref().map(read_qrels).transpose()?.unwrap_or_default();
    let app = App::open(&settings, Access::Read)?;
    let searcher = app.catalog.searcher(&args.collection)?;
    let is_known = |id: &str| DocumentId::new(id).is_ok_and(|id| searcher.get(&id).is_ok_and(|found| found.is_some()));
    let labels = if args.teacher { None } else { Some(labels(&queries, &judgments, &engagement, is_known)?) };
    let begin = app.profiles.configured_weights(&args.collection, FROM_TEXT);
    let groups = runtime()?.block_on(ask_all(&app, args, &queries, labels.as_ref(), &begin))?;
    eprintln!("learning from {} queries", groups.len());
    let trained = rescore::train(&begin, &groups, SEED)?;
    let card = json!({
        "learned_from": {"queries": trained.n_queries, "teacher": args.teacher, "engagement": args.engagement.is_some()},
        "ndcg@10": {"before": trained.before, "after": trained.after, "standard_error": trained.error, "measured": "on queries that it did not see, by thirds"},
        "model": searcher.description().model.name,
        "generation": searcher.generation().to_string(),
        "trees": trained.learned.trees.n_trees(),
    });
    let profile = Profile::write(FROM_TEXT, &trained.learned, card);
    let told = format!(
        "nDCG@10 on unseen queries: {:.4} before, {:.4} with what was learned (standard error of the difference {:.4}), {} queries",
        trained.before, trained.after, trained.error, trained.n_queries
    );
    write(&settings, &args.collection, &args.out, &profile, (!args.json).then_some(&told))
}

/// Writes what was learned, and tells of it and how to use it; or its card as JSON.
pub(super) fn write(settings: &Settings, collection: &CollectionName, out: &Path, profile: &Value, told: Option<&String>) -> Result<()> {
    std::fs::write(out, serde_json::to_vec(profile)?).with_context(|| format!("cannot write {}", out.display()))?;
    let Some(told) = told else {
        println!("{}", serde_json::to_string_pretty(&profile["card"])?);
        return Ok(());
    };
    println!(
        "{told}\nwritten to {0}; to use it:\n  curl -X PUT http://{1}/v1/collections/{collection}/profiles/default --data-binary @{0}",
        out.display(),
        settings.http.listen
    );
    Ok(())
}

/// What is learned: relevance, and what people did.
pub(super) fn labels(
    queries: &[TaskQuery],
    judgments: &BTreeMap<String, Judged>,
    engagement: &BTreeMap<String, Judged>,
    is_known: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Judged>> {
    let ids: HashSet<&str> = queries.iter().map(|query| query.id.as_str()).collect();
    let mut labels: BTreeMap<String, Judged> = BTreeMap::new();
    let (mut n_unknown_queries, mut n_unknown_documents) = (0, 0);
    for (query, judged) in judgments.iter().chain(engagement) {
        if !ids.contains(query.as_str()) {
            n_unknown_queries += judged.len();
            continue;
        }
        let of_query = labels.entry(query.clone()).or_default();
        for id in judged.keys().filter(|id| !of_query.contains_key(*id)).cloned().collect::<Vec<_>>() {
            if !is_known(&id) {
                n_unknown_documents += 1;
                continue;
            }
            let relevance = judgments.get(query).and_then(|judged| judged.get(&id)).copied().unwrap_or(0).clamp(0, 4);
            let count = engagement.get(query).and_then(|counts| counts.get(&id)).copied().unwrap_or(0);
            // A judge's grade outweighs what people did; many did more than one.
            let level = if engagement.is_empty() { relevance } else { 2 * relevance + i64::from(count > 0) + i64::from(count > 4) };
            of_query.insert(id, level);
        }
    }
    if n_unknown_queries + n_unknown_documents > 0 {
        eprintln!("{n_unknown_queries} judgments of unknown queries and {n_unknown_documents} of unknown documents are left out");
    }
    labels.retain(|_, judged| !judged.is_empty());
    if labels.is_empty() {
        bail!("no judgment is of a query in the queries file and a document of the collection: do these files belong together?");
    }
    if !labels.values().flat_map(Judged::values).any(|label| *label > 0) {
        bail!("no judged document is relevant: relevance is above 0 for documents that are");
    }
    Ok(labels)
}

async fn ask_all(
    app: &App,
    args: &RescoreArgs,
    queries: &[TaskQuery],
    labels: Option<&BTreeMap<String, Judged>>,
    begin: &Weights,
) -> Result<Vec<Group>> {
    let wanted: Vec<&TaskQuery> = queries.iter().filter(|query| labels.is_none_or(|labels| labels.contains_key(&query.id))).collect();
    let progress = Progress::new("searching", wanted.len() as u64);
    let mut groups = Vec::with_capacity(wanted.len());
    for query in wanted {
        let request = QueryRequest {
            limit: CANDIDATES,
            retrieval: Some(Retrieval::Hybrid),
            candidates: Some(CANDIDATES),
            profile: Some(ProfileChoice::Inline(Profile::write_weights(&examples::all_features(begin)))),
            fields: Some(Vec::new()),
            explain: true,
            cross_encode: labels.is_none().then_some(CrossEncode { candidates: Some(TAUGHT), timeout: None, weight: None }),
            ..QueryRequest::new(args.collection.clone(), Query::Text(query.text.clone()))
        };
        let hits = app.query.search(request).await?.hits;
        groups.push(match labels {
            Some(labels) => {
                let candidates: Vec<_> = hits.iter().map(|hit| (hit.id.to_string(), examples::values(hit))).collect();
                examples::group(&candidates, &labels[&query.id])
            }
            None => taught(&hits),
        });
        progress.advance(1);
    }
    progress.finish();
    Ok(groups)
}

/// Candidates with what the cross-encoder says of them, in levels.
fn taught(hits: &[Hit]) -> Group {
    let scores: Vec<(&Hit, f64)> = hits.iter().filter_map(|hit| Some((hit, f64::from(hit.cross_encoder_score?)))).collect();
    let (least, most) = scores.iter().fold((f64::MAX, f64::MIN), |(least, most), (_, score)| (least.min(*score), most.max(*score)));
    let mut group = Group::default();
    for (hit, score) in scores {
        group.values.push(examples::values(hit));
        group.labels.push(((score - least) / (most - least).max(1e-9) * LEVELS).round() as u32);
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries() -> Vec<TaskQuery> {
        ["q1", "q2"].map(|id| TaskQuery { id: id.to_owned(), text: "nurse".to_owned() }).into()
    }

    fn judged(all: &[(&str, &str, i64)]) -> BTreeMap<String, Judged> {
        let mut judgments: BTreeMap<String, Judged> = BTreeMap::new();
        for (query, id, relevance) in all {
            judgments.entry((*query).to_owned()).or_default().insert((*id).to_owned(), *relevance);
        }
        judgments
    }

    #[test]
    fn what_people_did_adds_to_judgments() {
        let judgments = judged(&[("q1", "a", 2), ("q1", "b", 0), ("q9", "a", 1), ("q2", "gone", 1)]);
        let is_known = |id: &str| id != "gone";
        let alone = labels(&queries(), &judgments, &BTreeMap::new(), is_known).unwrap();
        assert_eq!(alone["q1"], Judged::from([("a".to_owned(), 2), ("b".to_owned(), 0)]));
        assert_eq!(alone.len(), 1, "nothing is left of q2, and q9 is no query");
        let both = labels(&queries(), &judgments, &judged(&[("q1", "b", 9), ("q2", "c", 1)]), is_known).unwrap();
        assert_eq!((both["q1"]["a"], both["q1"]["b"], both["q2"]["c"]), (4, 2, 1));
    }

    #[test]
    fn judgments_that_teach_nothing_are_refused() {
        let refused =
            |all: &[(&str, &str, i64)]| labels(&queries(), &judged(all), &BTreeMap::new(), |id| id != "gone").unwrap_err().to_string();
        assert!(refused(&[("q1", "gone", 1), ("q7", "a", 1)]).contains("belong together"));
        assert!(refused(&[("q1", "a", 0), ("q2", "b", 0)]).contains("relevant"));
    }
}
