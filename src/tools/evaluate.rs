//! `kindred evaluate`: how well a search finds what people judged relevant.
//!
//! A task's corpus goes the way of all documents: written, embedded, built into a graph; its queries go the way of all queries.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::compare::{self, Baseline, Comparison, Difference, QueryScores};
use super::examples;
use super::fill::fill;
use super::judgments::{Task, TaskDocument, TaskQuery};
use super::measures::Scores;
use super::serve::runtime;
use crate::app::App;
use crate::collection::Access;
use crate::config::{CollectionSettings, Settings};
use crate::domain::{ChunkMode, Chunking, CollectionName, Lexical, Retrieval, StrategyChoice};
use crate::encoder::Encoder;
use crate::pipeline::{Hit, PipelineError, ProfileChoice, Query, QueryRequest};
use crate::rescore::{self, Feature, Group, Profile, Profiles, TrainError, Values, Weights};
use crate::telemetry::Progress;

/// Hits per query: enough for Recall@100.
const DEPTH: usize = 100;
/// Candidates that are re-scored.
const CANDIDATES: usize = 200;
/// Longest text without a title that is taken for one.
const MAX_NAME_BYTES: usize = 200;
/// Any number: equal judgments teach the same.
const LEARNING_SEED: u64 = 1;
/// Queries under way at once.
const CONCURRENCY: usize = 4;

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Folders of tasks, each with corpus.jsonl, queries.jsonl and qrels.tsv
    #[arg(required_unless_present = "corpus", conflicts_with = "corpus")]
    tasks: Vec<PathBuf>,
    /// Documents: one {"_id", "title", "text"} a line
    #[arg(long, value_name = "FILE", requires = "queries", requires = "qrels")]
    corpus: Option<PathBuf>,
    /// Queries: one {"_id", "text"} a line
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// Judgments: TREC qrels, `query 0 document relevance` a line
    #[arg(long, value_name = "FILE")]
    qrels: Option<PathBuf>,
    /// The text that is embedded of a document
    #[arg(long, default_value = "{title}\n{text}")]
    template: String,
    /// Put before a query's text
    #[arg(long, default_value = "")]
    query_prompt: String,
    /// Put before a document's text
    #[arg(long, default_value = "")]
    document_prompt: String,
    /// Of texts longer than a chunk: cut (embed the beginning), best (each chunk; the best counts) or mean (of the chunks)
    #[arg(long, value_name = "MODE", default_value = "cut")]
    chunks: ChunkMode,
    /// Most tokens of a chunk; 0: what the model takes
    #[arg(long, value_name = "N", default_value_t = Chunking::default().max_tokens)]
    chunk_tokens: usize,
    /// Tokens that neighbouring chunks share
    #[arg(long, value_name = "N", default_value_t = Chunking::default().overlap_tokens)]
    chunk_overlap: usize,
    /// First lines of a text that stand before each of its chunks
    #[arg(long, value_name = "N", default_value_t = Chunking::default().header_lines)]
    chunk_header: usize,
    /// The language that texts are searched in by their words; plain for any other, off where that is not wanted
    #[arg(long, value_name = "LANGUAGE", default_value = "english")]
    lexical: Lexical,
    /// What candidates are found by: dense (meaning), lexical (words: BM25) or hybrid (both)
    #[arg(long, value_name = "RETRIEVAL", default_value = "hybrid")]
    retrieval: Retrieval,
    /// Weights of the re-scoring, by feature
    #[arg(long, value_name = "NAME=WEIGHT,...", default_value = "dot=1,bm25=0.2,bm25_unread=1,title_letters=0.1", value_parser = weights)]
    weights: Weights,
    /// Learn what to score by from half of the queries and tell how the other half is answered, both ways round
    #[arg(long)]
    learn: bool,
    /// auto, graph or exact: whichever costs less, walk the graph, compare with every document
    #[arg(long, value_name = "STRATEGY", default_value = "auto")]
    strategy: StrategyChoice,
    /// As JSON lines, one a task
    #[arg(long)]
    json: bool,
    /// Write how each query was answered to this file, for --baseline
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with an evaluation that was saved: the mean difference, and within what it lies with 95 % confidence
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Fail (exit code 1) where the nDCG@10 of a task is lower than in the baseline, beyond chance
    #[arg(long, requires = "baseline")]
    no_worse: bool,
    /// Fail (exit code 1) where the nDCG@10 of a task is lower than this
    #[arg(long, value_name = "NDCG")]
    min_ndcg: Option<f64>,
}

/// One task's result.
#[derive(Debug, Serialize)]
struct TaskResult {
    task: String,
    n_documents: usize,
    n_queries: usize,
    /// Of the orders before re-scoring: by meaning, by words, by both.
    stages: BTreeMap<&'static str, Scores>,
    #[serde(flatten)]
    scores: Scores,
    /// Against the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Comparison>,
    #[serde(skip)]
    queries: Vec<QueryScores>,
}

/// Evaluates the tasks and prints a table. Returns whether all are as good as was asked for.
///
/// # Errors
/// Files that cannot be read or do not fit together.
pub fn run(settings: &Settings, args: &EvaluateArgs) -> Result<bool> {
    let runtime = runtime()?;
    // Read first: hours of evaluation should not end with a file that is not there.
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let (mut all, mut too_low) = (Vec::new(), Vec::new());
    let encoder = Arc::new(Encoder::load(&settings.encoder)?);
    let files = args.files()?;
    let width = files.iter().map(|(name, _)| name.len()).max().unwrap_or_default().max("task".len());
    if !args.json {
        println!("{:<width$}  documents  queries   dense    BM25   fused learned  nDCG@10     MRR    R@10   R@100", "task");
    }
    for (name, [corpus, queries, qrels]) in files {
        let task = Task::read(&corpus, &queries, &qrels)?;
        warn_of_skipped(&name, &task);
        let mut result = runtime.block_on(evaluate(settings, args, Arc::clone(&encoder), name, task))?;
        result.against = baseline.as_ref().map(|baseline| baseline.compare(&result.task, &result.queries)).transpose()?;
        if args.json {
            println!("{}", serde_json::to_string(&result)?);
        } else {
            println!("{}", line(&result, width));
            result.against.iter().for_each(|against| println!("{}", gains(against)));
        }
        if args.is_too_low(&result) {
            too_low.push(result.task.clone());
        }
        all.append(&mut result.queries);
        if let Some(path) = &args.save {
            // After each task: what was measured is not lost with those to come.
            compare::write(path, &all)?;
        }
    }
    if !too_low.is_empty() {
        eprintln!("nDCG@10 is too low: {}", too_low.join(", "));
    }
    Ok(too_low.is_empty())
}

/// Measures of which a difference is told in the table.
const TOLD: [&str; 4] = ["nDCG@10", "MRR", "R@10", "R@100"];

fn gains(against: &Comparison) -> String {
    let told = against.differences.iter().filter(|difference| TOLD.contains(&difference.measure));
    let one = |d: &Difference| format!("{} {:+.4} [{:+.4}, {:+.4}]", d.measure, d.mean, d.low, d.high);
    format!("  against the baseline, {} queries: {}", against.n_queries, told.map(one).collect::<Vec<_>>().join("  "))
}

impl EvaluateArgs {
    fn is_too_low(&self, result: &TaskResult) -> bool {
        let is_worse = self.no_worse && result.against.as_ref().is_some_and(|against| against.is_worse("nDCG@10"));
        is_worse || self.min_ndcg.is_some_and(|least| result.scores.ndcg_at_10 < least)
    }

    /// Name and files (corpus, queries, qrels) of each task.
    fn files(&self) -> Result<Vec<(String, [PathBuf; 3])>> {
        if let (Some(corpus), Some(queries), Some(qrels)) = (&self.corpus, &self.queries, &self.qrels) {
            return Ok(vec![(name_of(corpus.parent().unwrap_or(corpus)), [corpus.clone(), queries.clone(), qrels.clone()])]);
        }
        let of = |dir: &PathBuf| (name_of(dir), ["corpus.jsonl", "queries.jsonl", "qrels.tsv"].map(|file| dir.join(file)));
        Ok(self.tasks.iter().map(of).collect())
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| "task".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn warn_of_skipped(name: &str, task: &Task) {
    let skipped = &task.skipped;
    if skipped.unknown_queries + skipped.unknown_documents + skipped.unjudged_queries > 0 {
        eprintln!(
            "{name}: {} judgments of unknown queries are left out, {} of unknown documents count as not found, {} queries without relevant documents are left out",
            skipped.unknown_queries, skipped.unknown_documents, skipped.unjudged_queries
        );
    }
}

fn line(result: &TaskResult, width: usize) -> String {
    let mut text = format!("{:<width$}  {:>9}  {:>7}", result.task, result.n_documents, result.n_queries);
    let Scores { ndcg_at_10, mrr, recall_at_10, recall_at_100, .. } = result.scores;
    // The orders before re-scoring first: what it adds to them stands beside them.
    for stage in [DENSE, LEXICAL, FUSED, LEARNED] {
        let _ = match result.stages.get(stage) {
            Some(scores) => write!(text, "  {:.4}", scores.ndcg_at_10),
            None => write!(text, "       -"),
        };
    }
    text.push(' ');
    for value in [ndcg_at_10, mrr, recall_at_10, recall_at_100] {
        let _ = write!(text, "  {value:.4}");
    }
    text
}

async fn evaluate(settings: &Settings, args: &EvaluateArgs, encoder: Arc<Encoder>, name: String, task: Task) -> Result<TaskResult> {
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let collection = CollectionName::new("corpus").expect("a good name");
    let app = Arc::new(App::with_encoder(&temporary(settings, args, dir.path(), &collection), Access::Serve, encoder)?);
    let n_documents = task.documents.len();
    let documents = task.documents.iter().map(as_document).collect();
    fill(&app, &collection, &name, documents).await?;

    let judged: Vec<&TaskQuery> = task.queries.iter().filter(|query| task.judgments.contains_key(&query.id)).collect();
    let progress = Arc::new(Progress::new(format!("{name}: searching"), judged.len() as u64));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..CONCURRENCY {
        let queries: Vec<TaskQuery> = judged.iter().skip(worker).step_by(CONCURRENCY).map(|query| (*query).clone()).collect();
        let (app, progress) = (Arc::clone(&app), Arc::clone(&progress));
        // Features that have no weight are told, too.
        let weights = if args.learn { examples::all_features(&args.weights) } else { args.weights.clone() };
        let asked = Asked { collection: collection.clone(), retrieval: args.retrieval, strategy: args.strategy, weights };
        workers.spawn(async move {
            let mut answers = Vec::with_capacity(queries.len());
            for query in queries {
                answers.push((ranked(&app, &asked, &query.text).await?, query.id));
                progress.advance(1);
            }
            anyhow::Ok(answers)
        });
    }
    let (mut queries, mut of_stages) = (Vec::with_capacity(judged.len()), BTreeMap::<&str, Vec<Scores>>::new());
    let mut examples = Vec::new();
    while let Some(answers) = workers.join_next().await {
        for (Ranked { stages, rescored, candidates }, query) in answers?? {
            let judged = &task.judgments[&query];
            if args.learn {
                examples.push((query.clone(), examples::group(&candidates, judged), candidates));
            }
            queries.push(QueryScores { task: name.clone(), query, scores: Scores::of(&rescored, judged) });
            stages.into_iter().for_each(|(stage, ids)| of_stages.entry(stage).or_default().push(Scores::of(&ids, judged)));
        }
    }
    queries.sort_unstable_by(|a, b| a.query.cmp(&b.query));
    let (n_queries, scores) = (queries.len(), Scores::mean(queries.iter().map(|query| query.scores)));
    if args.learn {
        of_stages.insert(LEARNED, learned_scores(args, &name, &task, examples)?);
    }
    let stages = of_stages.into_iter().map(|(stage, scores)| (stage, Scores::mean(scores))).collect();
    Ok(TaskResult { task: name, n_documents, n_queries, stages, scores, against: None, queries })
}

/// What is no more than a name is its title.
fn as_document(document: &TaskDocument) -> Value {
    let TaskDocument { id, title, text } = document;
    if title.is_empty() && text.len() <= MAX_NAME_BYTES && !text.contains('\n') {
        return json!({"id": id, "title": text, "text": ""});
    }
    json!({"id": id, "title": title, "text": text})
}

/// Settings with one collection, in a folder that goes away.
fn temporary(settings: &Settings, args: &EvaluateArgs, dir: &Path, collection: &CollectionName) -> Settings {
    let mut settings = settings.clone();
    settings.storage.data_dir = dir.to_owned();
    settings.storage.rebuild_after_changes = usize::MAX;
    settings.limits.max_batch_documents = usize::MAX;
    settings.limits.max_limit = settings.limits.max_limit.max(CANDIDATES);
    let fields = serde_json::from_value(json!({"title": {"type": "text"}, "text": {"type": "text"}})).expect("good fields");
    let corpus = CollectionSettings {
        template: args.template.clone(),
        query_prompt: args.query_prompt.clone(),
        document_prompt: args.document_prompt.clone(),
        chunks: Chunking {
            mode: args.chunks,
            max_tokens: args.chunk_tokens,
            overlap_tokens: args.chunk_overlap,
            header_lines: args.chunk_header,
            ..Chunking::default()
        },
        lexical: args.lexical,
        fields,
        // Every search brings its own weights.
        profiles: Profiles::default(),
    };
    settings.collections = [(collection.clone(), corpus)].into();
    settings
}

/// Names of the orders before re-scoring.
const DENSE: &str = "dense";
const LEXICAL: &str = "lexical";
const FUSED: &str = "fused";
/// Of the order by what was learned.
const LEARNED: &str = "learned";

/// A query, as an example, and its candidates.
type Example = (String, Group, Vec<(String, Values)>);

/// How all queries are asked.
struct Asked {
    collection: CollectionName,
    retrieval: Retrieval,
    strategy: StrategyChoice,
    weights: Weights,
}

/// Ids, best first, at most [`DEPTH`].
struct Ranked {
    stages: Vec<(&'static str, Vec<String>)>,
    rescored: Vec<String>,
    /// All candidates with their features, as they were re-scored.
    candidates: Vec<(String, Values)>,
}

async fn ranked(app: &App, asked: &Asked, text: &str) -> Result<Ranked> {
    let search = async |retrieval| {
        let request = QueryRequest {
            limit: CANDIDATES,
            retrieval: Some(retrieval),
            candidates: Some(CANDIDATES),
            strategy: asked.strategy,
            profile: Some(ProfileChoice::Inline(Profile::write_weights(&asked.weights))),
            fields: Some(Vec::new()),
            explain: true,
            ..QueryRequest::new(asked.collection.clone(), Query::Text(text.to_owned()))
        };
        // Words that are not there are no reason to stop: nothing is found by them.
        match app.query.search(request).await {
            Err(PipelineError::Wordless) => Ok(Vec::new()),
            answer => answer.map(|answer| answer.hits),
        }
    };
    let mut hits = search(asked.retrieval).await?;
    let ids = |hits: &[Hit]| hits.iter().take(DEPTH).map(|hit| hit.id.to_string()).collect();
    let rescored = ids(&hits);
    let candidates = hits.iter().map(|hit| (hit.id.to_string(), examples::values(hit))).collect();
    let by_retrieval = |hits: &mut [Hit]| {
        hits.sort_by_key(|hit| hit.ranks.map(|ranks| ranks.retrieval));
        ids(hits)
    };
    let mut stages = Vec::new();
    for (stage, retrieval) in [(DENSE, Retrieval::Dense), (LEXICAL, Retrieval::Lexical)] {
        if asked.retrieval == retrieval {
            stages.push((stage, by_retrieval(&mut hits)));
        } else if asked.retrieval == Retrieval::Hybrid {
            stages.push((stage, by_retrieval(&mut search(retrieval).await?)));
        }
    }
    if asked.retrieval == Retrieval::Hybrid {
        stages.push((FUSED, by_retrieval(&mut hits)));
    }
    Ok(Ranked { stages, rescored, candidates })
}

/// How queries are answered by what was learned from others: from each half for the other one.
fn learned_scores(args: &EvaluateArgs, name: &str, task: &Task, mut examples: Vec<Example>) -> Result<Vec<Scores>> {
    // Not in the order in which they were answered: the same must be learned each time.
    examples.sort_by(|a, b| a.0.cmp(&b.0));
    let (even, odd): (Vec<_>, Vec<_>) = examples.into_iter().partition(|(query, ..)| examples::is_even(query));
    let mut scores = Vec::new();
    for (seen, unseen) in [(&even, &odd), (&odd, &even)] {
        let groups: Vec<Group> = seen.iter().map(|(_, group, _)| group.clone()).collect();
        let learned = match rescore::train(&args.weights, &groups, LEARNING_SEED) {
            Ok(trained) => Some(trained.learned),
            // Nothing is written then, and searches go on with what there is.
            Err(e @ (TrainError::NoBetter { .. } | TrainError::TooFew { .. })) => {
                eprintln!("{name}: {e}");
                None
            }
            Err(e) => return Err(e.into()),
        };
        for (query, _, candidates) in unseen {
            let score = |values: &Values| match &learned {
                Some(learned) => learned.score(values),
                None => rescore::weighted_sum(&args.weights, values),
            };
            let mut order: Vec<(f64, &String)> = candidates.iter().map(|(id, values)| (score(values), id)).collect();
            order.sort_by(|a, b| b.0.total_cmp(&a.0));
            let ids: Vec<&String> = order.into_iter().take(DEPTH).map(|(_, id)| id).collect();
            scores.push(Scores::of(&ids, &task.judgments[query]));
        }
    }
    Ok(scores)
}

fn weights(text: &str) -> Result<Weights, String> {
    let one = |part: &str| {
        let (name, weight) = part.split_once('=').ok_or_else(|| format!("{part:?} is not of the form name=weight"))?;
        let feature = name.trim().parse::<Feature>().map_err(|e| e.to_string())?;
        Ok((feature, weight.trim().parse::<f64>().map_err(|e| format!("{weight:?}: {e}"))?))
    };
    text.split(',').map(one).collect()
}
