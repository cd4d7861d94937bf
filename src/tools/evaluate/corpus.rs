//! A task's corpus in a collection of its own, for as long as the evaluation takes.
//!
//! The corpus goes the way of all documents: written, embedded, built into a graph; its queries go the way of all queries.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::adapted::{self, Asking};
use super::asked::{Asked, CANDIDATES, Crossed, Ranked};
use super::compare::{self, Baseline, QueryScores};
use super::learned::{self, Example};
use super::speed::{Speed, Spent, Way};
use super::table::{ADAPTED, CROSS, DENSE, LEARNED, MIXED, TaskResult, drawn};
use super::{EvaluateArgs, gains};
use crate::app::App;
use crate::collection::Access;
use crate::config::{CollectionSettings, Settings};
use crate::pipeline::evaluate::{Picture, Scores, Stage};
use crate::rescore::{Feature, Profiles, Weights};
use crate::tools::examples;
use crate::tools::fill::fill;
use crate::tools::judgments::{Task, TaskDocument, TaskQuery};
use crate::tools::serve::runtime;
use kindred_core::Progress;
use kindred_core::domain::{ChunkMode, Chunking, CollectionName, Lexical, Retrieval, StrategyChoice};
use kindred_encoder::Encoder;

/// Longest text without a title that is taken for one.
const MAX_NAME_BYTES: usize = 200;
/// Queries under way at once.
const CONCURRENCY: usize = 4;
/// Of a corpus.
#[derive(Debug, Args)]
#[group(id = "of_corpus", conflicts_with = "collection")]
pub(super) struct CorpusArgs {
    /// The text that is embedded of a document
    #[arg(long, default_value = "{title}\n{text}")]
    pub(super) template: String,
    /// Put before a query's text
    #[arg(long, default_value = "")]
    pub(super) query_prompt: String,
    /// Put before a document's text
    #[arg(long, default_value = "")]
    pub(super) document_prompt: String,
    /// Of texts longer than a chunk: cut (embed the beginning), best (each chunk; the best counts) or mean (of the chunks)
    #[arg(long, value_name = "MODE", default_value = "cut")]
    pub(super) chunks: ChunkMode,
    /// Most tokens of a chunk; 0: what the model takes
    #[arg(long, value_name = "N", default_value_t = Chunking::default().max_tokens)]
    pub(super) chunk_tokens: usize,
    /// Tokens that neighbouring chunks share
    #[arg(long, value_name = "N", default_value_t = Chunking::default().overlap_tokens)]
    pub(super) chunk_overlap: usize,
    /// First lines of a text that stand before each of its chunks
    #[arg(long, value_name = "N", default_value_t = Chunking::default().header_lines)]
    pub(super) chunk_header: usize,
    /// The language that texts are searched in by their words; plain for any other, off where that is not wanted
    #[arg(long, value_name = "LANGUAGE", default_value = "english")]
    pub(super) lexical: Lexical,
    /// Words that searches by words leave out of queries, in addition to the language's own
    #[arg(long, value_name = "WORD,...", value_delimiter = ',', default_value = "job,jobs,us")]
    pub(super) stop_words: Vec<String>,
    /// What candidates are found by: dense (meaning), lexical (words: BM25) or hybrid (both)
    #[arg(long, value_name = "RETRIEVAL", default_value = "hybrid")]
    pub(super) retrieval: Retrieval,
    /// Weights of the re-scoring, by feature
    #[arg(long, value_name = "NAME=WEIGHT,...", default_value = "dot=1,bm25=0.2,bm25_unread=1,title_letters=0.1", value_parser = weights)]
    pub(super) weights: Weights,
    /// Learn what to score by from half of the queries and tell how the other half is answered, both ways round
    #[arg(long)]
    pub(super) learn: bool,
    /// Learn an adapter likewise, and tell how queries are answered by meaning with it
    #[arg(long)]
    pub(super) learn_adapter: bool,
    /// Tell of one half of the queries only, and learn from the other: for a cross-encoder that has seen that one (the halves go by ids)
    #[arg(long)]
    pub(super) held_out: bool,
    /// Tell of so many of a task's queries at most; always the same ones
    #[arg(long, value_name = "N")]
    pub(super) max_queries: Option<usize>,
    /// auto, graph or exact: whichever costs less, walk the graph, compare with every document
    #[arg(long, value_name = "STRATEGY", default_value = "auto")]
    pub(super) strategy: StrategyChoice,
    /// Order so many of the best hits by the cross-encoder [setting cross_encoder.model_dir], and tell what that costs and gains
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(super) cross_encode: Option<u16>,
}

/// Evaluates the tasks and prints a table. Returns those that are not as good as was asked for.
///
/// # Errors
/// Files that cannot be read or do not fit together.
pub(super) fn run(settings: &Settings, args: &EvaluateArgs, baseline: Option<&Baseline>) -> Result<Vec<String>> {
    let runtime = runtime()?;
    let has_cross_encoder = settings.cross_encoder.is_configured();
    ensure!(
        args.of_corpus.cross_encode.is_none() || has_cross_encoder,
        "--cross-encode needs a cross-encoder: set cross_encoder.model_dir to the folder of one"
    );
    let (mut all, mut too_low, mut series) = (Vec::new(), Vec::new(), Vec::new());
    let encoder = Arc::new(Encoder::load(&settings.encoder)?);
    let files = args.files()?;
    let width = files.iter().map(|(name, _)| name.len()).max().unwrap_or_default().max("task".len());
    if !args.json {
        println!("{}", args.of_corpus.head(width));
    }
    for (name, [corpus, queries, qrels]) in files {
        let task = Task::read(&corpus, &queries, &qrels)?;
        warn_of_skipped(&name, &task);
        let mut result = runtime.block_on(evaluate(settings, &args.of_corpus, Arc::clone(&encoder), name, task))?;
        result.against = baseline.map(|baseline| baseline.compare(&result.task, &result.queries)).transpose()?;
        if args.json {
            println!("{}", serde_json::to_string(&result)?);
        } else {
            println!("{}", args.of_corpus.line(&result, width));
            result.speed.iter().for_each(|speed| println!("{}", speed.line()));
            result.against.iter().for_each(|against| println!("{}", gains("the baseline", against)));
        }
        if args.is_too_low(result.scores.ndcg_at_10, &result.against) {
            too_low.push(result.task.clone());
        }
        series.push(drawn(&result));
        all.append(&mut result.queries);
        if let Some(path) = &args.save {
            // After each task: what was measured is not lost with those to come.
            compare::write(path, &all)?;
        }
    }
    args.draw(&Picture { title: "Judged queries, by task".to_owned(), series })?;
    Ok(too_low)
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

async fn evaluate(settings: &Settings, args: &CorpusArgs, encoder: Arc<Encoder>, name: String, task: Task) -> Result<TaskResult> {
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let collection = CollectionName::new("corpus").expect("a good name");
    let app = Arc::new(App::with_encoder(&temporary(settings, args, dir.path(), &collection), Access::Serve, encoder)?);
    let n_documents = task.documents.len();
    let documents = task.documents.iter().map(as_document).collect();
    fill(&app, &collection, &name, documents).await?;
    let asked = Asked {
        searcher: app.catalog.searcher(&collection)?,
        collection,
        retrieval: args.retrieval,
        strategy: args.strategy,
        weights: args.weights.clone(),
        all_features: args.learn,
        cross_encode: args.cross_encode.map(usize::from),
    };
    let (mut queries, mut of_stages) = (Vec::new(), BTreeMap::<&str, Vec<Scores>>::new());
    let (mut examples, mut rescored_us, mut crossed_us) = (Vec::new(), Spent::default(), Spent::default());
    let Halves { told, seen } = Halves::of(&task, args);
    for (Ranked { stages, rescored, candidates, crossed }, query) in ask_all(&app, &asked, &name, &told).await? {
        let judged = &task.judgments[&query];
        for (stage, ids) in stages {
            let name = match stage {
                Stage::Dense => DENSE,
                stage => stage.label(),
            };
            of_stages.entry(name).or_default().push(Scores::of(&ids, judged));
        }
        if let (Some(Crossed { ids, mixed, timings }), Some(n)) = (crossed, asked.cross_encode) {
            rescored_us.add(candidates.len(), timings.rescore_us);
            crossed_us.add(candidates.len().min(n), timings.cross_encode_us);
            of_stages.entry(CROSS).or_default().push(Scores::of(&ids, judged));
            of_stages.entry(MIXED).or_default().push(Scores::of(&mixed, judged));
        }
        if args.learn {
            examples.push(Example { query: query.clone(), group: examples::group(&candidates, judged) });
        }
        queries.push(QueryScores { task: name.clone(), query, scores: Scores::of(&rescored, judged) });
    }
    queries.sort_unstable_by(|a, b| a.query.cmp(&b.query));
    let mut learned_us = None;
    if args.learn {
        let alone = Asked { cross_encode: None, ..asked.clone() };
        let answers = ask_all(&app, &alone, &name, &seen).await?.into_iter();
        let example = |(Ranked { candidates, .. }, query): (Ranked, String)| Example {
            group: examples::group(&candidates, &task.judgments[&query]),
            query,
        };
        let (scores, spent) = learned::scores(&app, &asked, &name, &task, examples, answers.map(example).collect()).await?;
        of_stages.insert(LEARNED, scores);
        learned_us = Some(spent);
    }
    if args.learn_adapter {
        let asking = Asking { app: &app, collection: &asked.collection, ef_search: settings.search.ef_search, name: &name, task: &task };
        of_stages.insert(ADAPTED, adapted::scores(&asking, &told, &seen).await?);
    }
    let (n_queries, scores) = (queries.len(), Scores::mean(queries.iter().map(|query| query.scores)));
    let stages: BTreeMap<&str, Scores> = of_stages.into_iter().map(|(stage, scores)| (stage, Scores::mean(scores))).collect();
    let of = |stage: &str| stages.get(stage).map(|scores| scores.ndcg_at_10);
    let way = of(CROSS).map(|crossed| Way { dense: of(DENSE), rescored: scores.ndcg_at_10, learned: of(LEARNED), crossed });
    let speed = way.map(|way| Speed::new(rescored_us, learned_us, crossed_us, way));
    Ok(TaskResult { task: name, n_documents, n_queries, stages, scores, speed, against: None, queries })
}

/// The queries that are told of, and those that are learned from alone: none where every query is both.
struct Halves<'a> {
    told: Vec<&'a TaskQuery>,
    seen: Vec<&'a TaskQuery>,
}

impl<'a> Halves<'a> {
    fn of(task: &'a Task, args: &CorpusArgs) -> Self {
        let judged = task.queries.iter().filter(|query| task.judgments.contains_key(&query.id));
        let (mut seen, mut told): (Vec<_>, Vec<_>) = judged.partition(|query| args.held_out && examples::is_even(&query.id));
        if let Some(max) = args.max_queries {
            told.sort_by_key(|query| examples::hash(&query.id));
            told.truncate(max);
        }
        if !args.learn && !args.learn_adapter {
            seen.clear();
        }
        Self { told, seen }
    }
}

/// Asks queries; one after the other where it matters how long each takes.
async fn ask_all(app: &Arc<App>, asked: &Asked, name: &str, judged: &[&TaskQuery]) -> Result<Vec<(Ranked, String)>> {
    let progress = Arc::new(Progress::new(format!("{name}: searching"), judged.len() as u64));
    let n_workers = if asked.cross_encode.is_some() { 1 } else { CONCURRENCY };
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..n_workers {
        let queries: Vec<TaskQuery> = judged.iter().skip(worker).step_by(n_workers).map(|query| (*query).clone()).collect();
        let (app, progress, asked) = (Arc::clone(app), Arc::clone(&progress), asked.clone());
        workers.spawn(async move {
            let mut answers = Vec::with_capacity(queries.len());
            for query in queries {
                answers.push((asked.rank(&app, &query.text, &progress).await?, query.id));
                progress.advance(1);
            }
            anyhow::Ok(answers)
        });
    }
    let mut all = Vec::with_capacity(judged.len());
    while let Some(answers) = workers.join_next().await {
        all.extend(answers??);
    }
    Ok(all)
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
fn temporary(settings: &Settings, args: &CorpusArgs, dir: &Path, collection: &CollectionName) -> Settings {
    let mut settings = settings.clone();
    settings.storage.data_dir = dir.to_owned();
    settings.storage.rebuild_after_changes = usize::MAX;
    settings.limits.max_batch_documents = usize::MAX;
    settings.limits.max_candidates = settings.limits.max_candidates.max(CANDIDATES);
    settings.cross_encoder.max_candidates = settings.cross_encoder.max_candidates.max(CANDIDATES);
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
        stop_words: args.stop_words.clone(),
        fields,
        // Every search brings its own weights.
        profiles: Profiles::default(),
    };
    settings.collections = [(collection.clone(), corpus)].into();
    settings
}

fn weights(text: &str) -> Result<Weights, String> {
    let one = |part: &str| {
        let (name, weight) = part.split_once('=').ok_or_else(|| format!("{part:?} is not of the form name=weight"))?;
        let feature = name.trim().parse::<Feature>().map_err(|e| e.to_string())?;
        Ok((feature, weight.trim().parse::<f64>().map_err(|e| format!("{weight:?}: {e}"))?))
    };
    text.split(',').map(one).collect()
}
