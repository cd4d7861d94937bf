//! `kindred evaluate`: how well a search finds what people judged relevant.
//!
//! A task's corpus goes the way of all documents: written, embedded, built into a graph; its queries go the way of all queries.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::compare::{self, Baseline, Comparison, Difference, QueryScores};
use super::fill::fill;
use super::judgments::{Task, TaskQuery};
use super::measures::Scores;
use super::serve::runtime;
use crate::app::App;
use crate::collection::Access;
use crate::config::{CollectionSettings, Settings};
use crate::domain::{ChunkMode, Chunking, CollectionName, StrategyChoice};
use crate::encoder::Encoder;
use crate::pipeline::{Hit, Query, QueryOptions, QueryRequest};
use crate::rescore::{DEFAULT_PROFILE, FROM_TEXT, Feature, Profiles, Weights};
use crate::telemetry::Progress;

/// Hits per query: enough for Recall@100.
const DEPTH: usize = 100;
/// Candidates that are re-scored.
const CANDIDATES: usize = 200;
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
    /// Weight of text_overlap in the re-scoring; 0 leaves the order of retrieval
    #[arg(long, default_value_t = 0.3)]
    text_overlap: f64,
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
    /// Of the order of retrieval, before re-scoring.
    retrieval: Scores,
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
        println!("{:<width$}  documents  queries  retrieved  nDCG@10     MRR    R@10   R@100", "task");
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
    // The order of retrieval first: what re-scoring adds to it stands beside it.
    let _ = write!(text, "     {:.4}   ", result.retrieval.ndcg_at_10);
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
    let documents = task.documents.iter().map(|d| json!({"id": d.id, "title": d.title, "text": d.text})).collect();
    fill(&app, &collection, &name, documents).await?;

    let judged: Vec<&TaskQuery> = task.queries.iter().filter(|query| task.judgments.contains_key(&query.id)).collect();
    let progress = Arc::new(Progress::new(format!("{name}: searching"), judged.len() as u64));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..CONCURRENCY {
        let queries: Vec<TaskQuery> = judged.iter().skip(worker).step_by(CONCURRENCY).map(|query| (*query).clone()).collect();
        let (app, collection, progress, strategy) = (Arc::clone(&app), collection.clone(), Arc::clone(&progress), args.strategy);
        workers.spawn(async move {
            let mut answers = Vec::with_capacity(queries.len());
            for query in queries {
                answers.push((ranked(&app, &collection, query.text, strategy).await?, query.id));
                progress.advance(1);
            }
            anyhow::Ok(answers)
        });
    }
    let (mut queries, mut of_retrieval) = (Vec::with_capacity(judged.len()), Vec::with_capacity(judged.len()));
    while let Some(answers) = workers.join_next().await {
        for (Ranked { retrieved, rescored }, query) in answers?? {
            let judged = &task.judgments[&query];
            queries.push(QueryScores { task: name.clone(), query, scores: Scores::of(&rescored, judged) });
            of_retrieval.push(Scores::of(&retrieved, judged));
        }
    }
    queries.sort_unstable_by(|a, b| a.query.cmp(&b.query));
    let (n_queries, scores) = (queries.len(), Scores::mean(queries.iter().map(|query| query.scores)));
    Ok(TaskResult { task: name, n_documents, n_queries, retrieval: Scores::mean(of_retrieval), scores, against: None, queries })
}

/// Settings with one collection, in a folder that goes away.
fn temporary(settings: &Settings, args: &EvaluateArgs, dir: &Path, collection: &CollectionName) -> Settings {
    let mut settings = settings.clone();
    settings.storage.data_dir = dir.to_owned();
    settings.storage.rebuild_after_changes = usize::MAX;
    settings.limits.max_batch_documents = usize::MAX;
    settings.limits.max_limit = settings.limits.max_limit.max(CANDIDATES);
    let fields = serde_json::from_value(json!({"title": {"type": "text"}, "text": {"type": "text"}})).expect("good fields");
    let weights = Weights::from([(Feature::Dot, 1.0), (Feature::TextOverlap, args.text_overlap)]);
    let profiles = Profiles::of(DEFAULT_PROFILE, FROM_TEXT, weights);
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
        fields,
        profiles,
    };
    settings.collections = [(collection.clone(), corpus)].into();
    settings
}

/// Ids, best first, at most [`DEPTH`].
struct Ranked {
    retrieved: Vec<String>,
    rescored: Vec<String>,
}

async fn ranked(app: &App, collection: &CollectionName, text: String, strategy: StrategyChoice) -> Result<Ranked> {
    let request = QueryRequest {
        collection: collection.clone(),
        query: Query::Text(text),
        filter: None,
        limit: CANDIDATES,
        candidates: Some(CANDIDATES),
        ef_search: None,
        strategy,
        profile: None,
        fields: Some(Vec::new()),
        explain: false,
        cross_encode: None,
        encoding: QueryOptions::default(),
    };
    let mut hits = app.query.search(request).await?.hits;
    let ids = |hits: &[Hit]| hits.iter().take(DEPTH).map(|hit| hit.id.to_string()).collect();
    let rescored = ids(&hits);
    hits.sort_by(|a, b| b.retrieval_score.total_cmp(&a.retrieval_score));
    Ok(Ranked { retrieved: ids(&hits), rescored })
}
