//! EVALUATE: judged queries → how well searches answer them, by variant, by stage and by query.
//!
//! | file | duty |
//! |---|---|
//! | `judgments.rs` | what people judged, and what of it can be used |
//! | `variant.rs` | what is compared: ways to search |
//! | `stages.rs` | one query, asked stage by stage |
//! | `measures.rs` | nDCG, MRR, MAP, recall, precision, hits and poor matches of an order |
//! | `compare.rs` | is a difference more than chance |
//! | `report.rs` | what was found |
//! | `picture.rs` | that as SVG |
//! | `error.rs` | why nothing is evaluated |
//!
//! One evaluation runs at a time, and asks one query at a time: searches pass between its queries. It pins what it searches, so that all
//! queries meet the same documents, whatever is written meanwhile. Its searches are neither counted nor remembered.

mod compare;
mod error;
mod judgments;
mod measures;
mod picture;
mod report;
mod stages;
mod variant;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

pub use compare::{Comparison, Difference};
pub use error::EvaluationError;
pub use judgments::{JudgedQuery, Judgments, QrelsError, Skipped, Usable};
pub use measures::{Judged, Scores, ndcg};
pub use picture::{Picture, Series};
pub use report::{Against, EvaluationReport, QueryReport, StageReport, StageReports, Times, VariantReport};
pub use stages::{Stage, Staged, ids};
pub use variant::{Ready, Variant};

use super::query::label;
use super::{PipelineError, QueryPipeline, Task, Tasks, Timings};
use kindred_core::domain::{CollectionName, DocumentId};
use kindred_core::{Progress, priority};

/// Evaluations whose results are kept, query by query.
const MAX_REPORTS: usize = 8;

/// What to evaluate, as parsed at the edge.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationRequest {
    pub collection: CollectionName,
    pub queries: Vec<JudgedQuery>,
    pub judgments: Judgments,
    /// Without any, one: a search that says nothing.
    pub variants: Vec<Variant>,
    /// Whether to tell what each stage adds, which takes up to three more searches a query.
    pub stages: bool,
}

/// An evaluation that can begin.
#[derive(Debug)]
pub struct Evaluation {
    collection: String,
    usable: Usable,
    variants: Vec<Ready>,
    stages: bool,
    /// No other one begins meanwhile.
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

/// Evaluates searches of live collections.
#[derive(Debug)]
pub struct EvaluationPipeline {
    query: Arc<QueryPipeline>,
    tasks: Arc<Tasks>,
    /// By task, oldest first.
    reports: Mutex<VecDeque<(String, Arc<EvaluationReport>)>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// How one variant answered so far.
#[derive(Debug, Default)]
struct Answers {
    /// In the order of the queries.
    queries: Vec<QueryReport>,
    stages: Vec<(Stage, StageReport)>,
    timings: Vec<Timings>,
}

impl EvaluationPipeline {
    pub fn new(query: Arc<QueryPipeline>, tasks: Arc<Tasks>) -> Self {
        Self { query, tasks, reports: Mutex::default(), turn: Arc::default() }
    }

    /// Checks everything and opens what will be searched. Waits for the disk; a model may be loaded.
    ///
    /// # Errors
    /// [`PipelineError::Evaluation`] names the part of the request that cannot be accepted; [`EvaluationError::Busy`] while there is another.
    pub fn prepare(&self, request: EvaluationRequest) -> Result<Evaluation, PipelineError> {
        let turn = Arc::clone(&self.turn).try_lock_owned().map_err(|_| EvaluationError::Busy)?;
        let collection = self.query.collections.get(&request.collection)?;
        let serving = collection.searcher();
        let is_known = |id: &str| match DocumentId::new(id) {
            Ok(id) => Ok(serving.get(&id)?.is_some()),
            // What cannot be an id is none.
            Err(_) => Ok::<_, PipelineError>(false),
        };
        let usable = request.judgments.usable(request.queries, self.query.limits.max_query_bytes, is_known)?;
        let variants = variant::ready(&self.query, &collection, request.variants)?;
        Ok(Evaluation { collection: collection.name().to_string(), usable, variants, stages: request.stages, _turn: turn })
    }

    /// Evaluates, one query after the other. It ends when the progress that `show` makes is cancelled.
    ///
    /// # Errors
    /// As [`QueryPipeline::search`]; cancelled.
    pub async fn run(&self, evaluation: Evaluation, show: impl Fn(&str, u64) -> Progress) -> Result<EvaluationReport, PipelineError> {
        let Evaluation { collection, usable, variants, stages, .. } = &evaluation;
        let mut answers: Vec<Answers> = variants.iter().map(|_| Answers::default()).collect();
        let progress = show("asking", (usable.queries.len() * variants.len()) as u64);
        for (number, query) in usable.queries.iter().enumerate() {
            let judged = &usable.judgments[&query.id];
            for turn in 0..variants.len() {
                // Each is the first as often as any other: the first one finds cold what the next finds warm.
                let variant = (number + turn) % variants.len();
                self.answer(&variants[variant], query, judged, *stages, &progress, &mut answers[variant]).await?;
                progress.advance(1);
            }
        }
        progress.finish();
        let progress = show("comparing", variants.len() as u64);
        let mut reports: Vec<VariantReport> = Vec::with_capacity(variants.len());
        for (variant, answers) in variants.iter().zip(answers) {
            // Queries are drawn again ten thousand times, which nobody waits for.
            let against = reports.first().map(|first| priority::beneath(|| against(first, &answers)));
            reports.push(report(variant, *stages, answers, against));
            progress.advance(1);
            if progress.is_cancelled() {
                return Err(PipelineError::Cancelled { kept: "nothing was changed" });
            }
        }
        Ok(EvaluationReport {
            collection: collection.clone(),
            n_queries: usable.queries.len(),
            n_judgments: usable.queries.iter().map(|query| usable.judgments[&query.id].len()).sum(),
            skipped: usable.skipped,
            warnings: usable.warnings.clone(),
            variants: reports,
        })
    }

    /// The same in the background. To be called where Tokio is; waits for the disk.
    ///
    /// # Errors
    /// What is wrong with the request; the rest is told by the task.
    pub fn start(self: &Arc<Self>, request: EvaluationRequest) -> Result<Arc<Task>, PipelineError> {
        let (this, tokio, collection) = (Arc::clone(self), Handle::current(), request.collection.to_string());
        let prepared = self.prepare(request)?;
        let work = move |task: &Arc<Task>| {
            let report = Arc::new(tokio.block_on(this.run(prepared, |what, total| task.phase(what, total)))?);
            let summary = report.summary();
            let mut reports = this.reports.lock().unwrap_or_else(PoisonError::into_inner);
            reports.push_back((task.id().to_owned(), report));
            if reports.len() > MAX_REPORTS {
                reports.pop_front();
            }
            Ok(summary)
        };
        self.tasks.start("evaluate", Some(collection), work)
    }

    /// What a task found.
    ///
    /// # Errors
    /// [`PipelineError::UnknownTask`], [`EvaluationError::NotDone`], [`EvaluationError::NoReport`].
    pub fn report(&self, task: &str) -> Result<Arc<EvaluationReport>, PipelineError> {
        let found = self.tasks.get(task)?;
        // Looked at before the reports: what ends meanwhile is there.
        let info = found.info();
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        match reports.iter().find(|(id, _)| id == task) {
            Some((_, report)) => Ok(Arc::clone(report)),
            None if info.kind == "evaluate" && !info.status.is_final() => Err(EvaluationError::NotDone { task: task.to_owned() }.into()),
            None => Err(EvaluationError::NoReport { task: task.to_owned() }.into()),
        }
    }

    /// Waits until a cancelled evaluation has ended: it needs Tokio's threads. Not to be called on them.
    pub fn end(&self) {
        drop(self.turn.blocking_lock());
    }

    async fn answer(
        &self,
        variant: &Ready,
        query: &JudgedQuery,
        judged: &Judged,
        stages: bool,
        progress: &Progress,
        answers: &mut Answers,
    ) -> Result<(), PipelineError> {
        let response = self.query.ask_on(&variant.searcher, &variant.request, &query.text, progress).await?;
        let (ids, timings) = response.map(|response| (ids(&response.hits), response.timings)).unwrap_or_default();
        let measures = Scores::of(&ids, judged);
        answers.queries.push(QueryReport { query: query.id.clone(), total_us: timings.total_us, measures });
        answers.timings.push(timings);
        if stages {
            let staged = self.query.staged_on(&variant.searcher, &variant.request, &query.text, progress).await?;
            let of_stage = |(stage, ids): (Stage, Vec<String>)| (stage, StageReport::of(&ids, judged));
            answers.stages.extend(staged.orders.into_iter().map(of_stage));
            if variant.request.cross_encode.is_some() {
                answers.stages.push((Stage::CrossEncode, StageReport::of(&ids, judged)));
            }
        }
        Ok(())
    }
}

fn against(first: &VariantReport, answers: &Answers) -> Against {
    let pairs: Vec<(Scores, Scores)> =
        first.queries.iter().zip(&answers.queries).map(|(before, after)| (before.measures, after.measures)).collect();
    Against { variant: first.name.clone(), comparison: Comparison::of(&pairs) }
}

fn report(variant: &Ready, stages: bool, answers: Answers, against: Option<Against>) -> VariantReport {
    VariantReport {
        name: variant.name.clone(),
        generation: label(variant.searcher.generation()),
        model: variant.searcher.description().model.name.clone(),
        n_documents: variant.searcher.n_documents(),
        measures: Scores::mean(answers.queries.iter().map(|query| query.measures)),
        stages: stages.then(|| StageReports::mean(&answers.stages)),
        times: Times::of(&answers.timings),
        against,
        queries: answers.queries,
    }
}
