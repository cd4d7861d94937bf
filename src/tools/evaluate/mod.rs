//! `kindred evaluate`: how well a search finds what people judged relevant.
//!
//! | file | duty |
//! |---|---|
//! | `corpus.rs` | a task's corpus in a collection of its own, for as long as that takes |
//! | `asked.rs` | how its queries are asked |
//! | `learned.rs` | what is learned from half of them, tried on the other half |
//! | `adapted.rs` | likewise an adapter |
//! | `speed.rs` | what the last stages cost, and how near they come to each other |
//! | `live.rs` | a collection as it is, searched in several ways |
//! | `table.rs` | what is told of a task |
//! | `compare.rs` | evaluations that were saved |

mod adapted;
mod asked;
mod compare;
mod corpus;
mod learned;
mod live;
mod speed;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{ArgGroup, Args};

use crate::config::Settings;
use crate::pipeline::evaluate::{Comparison, Difference, Picture};
use compare::Baseline;
use corpus::CorpusArgs;
use kindred_core::domain::CollectionName;
use live::LiveArgs;

/// Measures of which a difference is told in the table.
const TOLD: [&str; 4] = ["nDCG@10", "MRR", "R@10", "R@100"];

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("other").args(["baseline", "variants"]).multiple(true))]
pub struct EvaluateArgs {
    /// Folders of tasks, each with corpus.jsonl, queries.jsonl and qrels.tsv
    #[arg(required_unless_present_any = ["corpus", "collection"], conflicts_with_all = ["corpus", "collection"])]
    tasks: Vec<PathBuf>,
    /// Documents: one {"_id", "title", "text"} a line
    #[arg(long, value_name = "FILE", requires = "queries", requires = "qrels")]
    corpus: Option<PathBuf>,
    /// A collection of the data folder, as it is, instead of a corpus
    #[arg(long, value_name = "COLLECTION", requires = "queries", requires = "qrels", conflicts_with = "corpus")]
    collection: Option<CollectionName>,
    /// Queries: one {"_id", "text"} a line
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// Judgments: TREC qrels, `query 0 document relevance` a line
    #[arg(long, visible_alias = "judgments", value_name = "FILE")]
    qrels: Option<PathBuf>,
    #[command(flatten)]
    of_corpus: CorpusArgs,
    #[command(flatten)]
    of_collection: LiveArgs,
    /// As JSON lines, one a task; of a collection one object
    #[arg(long)]
    json: bool,
    /// Draw the measures, the stages and the differences into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write how each query was answered to this file, for --baseline
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with an evaluation that was saved: the mean difference, and within what it lies with 95 % confidence
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Fail (exit code 1) where the nDCG@10 of a task is lower than in the baseline, beyond chance; or that of a variant than the first one's
    #[arg(long, requires = "other")]
    no_worse: bool,
    /// Fail (exit code 1) where the nDCG@10 of a task, or of a variant, is lower than this
    #[arg(long, value_name = "NDCG")]
    min_ndcg: Option<f64>,
}

/// Evaluates and prints a table. Returns whether all are as good as was asked for.
///
/// # Errors
/// Files that cannot be read or do not fit together.
pub fn run(settings: &Settings, args: &EvaluateArgs) -> Result<bool> {
    let has_other = args.baseline.is_some() || args.of_collection.has_several();
    ensure!(!args.no_worse || has_other, "--no-worse than what? Give --baseline FILE, or with --collection a second --variant");
    // Read first: hours of evaluation should not end with a file that is not there.
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let too_low = match &args.collection {
        Some(collection) => live::run(settings, args, collection, baseline.as_ref())?,
        None => corpus::run(settings, args, baseline.as_ref())?,
    };
    if !too_low.is_empty() {
        eprintln!("nDCG@10 is too low: {}", too_low.join(", "));
    }
    Ok(too_low.is_empty())
}

impl EvaluateArgs {
    fn is_too_low<'a>(&self, ndcg_at_10: f64, against: impl IntoIterator<Item = &'a Comparison>) -> bool {
        let is_worse = self.no_worse && against.into_iter().any(|against| against.is_worse("nDCG@10"));
        is_worse || self.min_ndcg.is_some_and(|least| ndcg_at_10 < least)
    }

    fn draw(&self, picture: &Picture) -> Result<()> {
        let Some(path) = &self.svg else { return Ok(()) };
        std::fs::write(path, picture.svg()).with_context(|| format!("cannot write {}", path.display()))
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

/// A line that says what was gained over something.
fn gains(over: &str, against: &Comparison) -> String {
    let told = against.differences.iter().filter(|difference| TOLD.contains(&difference.measure));
    let one = |d: &Difference| format!("{} {:+.4} [{:+.4}, {:+.4}]", d.measure, d.mean, d.low, d.high);
    format!("  against {over}, {} queries: {}", against.n_queries, told.map(one).collect::<Vec<_>>().join("  "))
}
