//! REBUILD: all documents → a new generation, while the old one serves.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the way: gather, renew, build, check, activate |
//! | `renew.rs` | brings stored documents into another epoch |

mod renew;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Encoders, Limits, ModelInfo, PipelineError, Task, Tasks, index_field, recall};
use crate::collection::{BuildParams, Collection, CollectionError, Collections, Description, GenerationStatus, Searcher};
use crate::telemetry::memory;
use kindred_core::domain::{CollectionName, FieldType, GenerationId};
use kindred_core::{Cancel, Progress, priority};

const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Part of the available memory, in percent, that a build may take where no limit is set: what is left is for the queries.
const MEMORY_PERCENT: u64 = 80;
/// Documents that a gate on recall looks for.
const GATE_QUERIES: usize = 200;

/// When and how generations are built.
#[derive(Debug, Clone)]
pub struct RebuildSettings {
    pub params: BuildParams,
    /// From so many changes on, one is built in the background.
    pub after_changes: usize,
    /// Threads of builds that nobody asked for; 0: half of the cores.
    pub background_threads: usize,
    /// Beam width that gates on recall measure with.
    pub ef_search: usize,
}

/// Which model a rebuild embeds with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ModelChoice {
    /// The collection's own.
    #[default]
    Keep,
    /// The configured one.
    Configured,
    /// That of a folder beside the configured one.
    Folder(String),
}

/// What a build must reach to be activated.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Gates {
    /// Share of the ten nearest documents that searches find.
    #[serde(rename = "recall@10")]
    pub recall_at_10: Option<f64>,
    pub min_documents: Option<u64>,
}

/// What to build.
#[derive(Debug, Clone, PartialEq)]
pub struct RebuildRequest {
    pub model: ModelChoice,
    /// Settings of `[index]` that differ for this build.
    pub params: Option<Json>,
    pub gates: Gates,
    /// Whether it serves as soon as it is built.
    pub activate: bool,
    /// Fields that become filterable, beside those that are.
    pub index: BTreeMap<String, FieldType>,
}

impl Default for RebuildRequest {
    fn default() -> Self {
        Self { model: ModelChoice::Keep, params: None, gates: Gates::default(), activate: true, index: BTreeMap::new() }
    }
}

/// Builds generations, one at a time.
#[derive(Debug)]
pub struct RebuildPipeline {
    encoders: Arc<Encoders>,
    pub(super) collections: Arc<Collections>,
    pub(super) tasks: Arc<Tasks>,
    settings: RebuildSettings,
    limits: Limits,
    /// Building takes all cores and twice the memory of a collection: two at once would starve the queries.
    one_at_a_time: Mutex<()>,
    /// Until when no rebuild starts by itself: one that failed would likely fail again, at the price of a full build.
    not_before: Mutex<Option<Instant>>,
    /// Set at the end of the server.
    ending: Cancel,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq)]
pub struct RebuildReport {
    pub generation: GenerationId,
    pub n_documents: usize,
    /// Documents that were embedded again because the model or their text changed.
    pub n_encoded: usize,
    /// Recall@10, where a gate asked for it.
    pub recall_at_10: Option<f64>,
    pub activated: bool,
    pub elapsed: Duration,
}

/// A generation as users see it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct GenerationSummary {
    pub id: String,
    pub status: GenerationStatus,
    pub n_documents: u64,
    /// The last change that it contains; newer ones are added when it is activated.
    pub covered_seqno: u64,
    /// RFC 3339.
    pub created_at: String,
    pub model: String,
    pub fingerprint: String,
    pub size_bytes: u64,
}

/// How a rebuild shows its progress.
pub type ShowProgress<'a> = &'a (dyn Fn(&str, u64) -> Progress + Sync);

impl RebuildPipeline {
    pub fn new(
        encoders: Arc<Encoders>,
        collections: Arc<Collections>,
        tasks: Arc<Tasks>,
        settings: RebuildSettings,
        limits: Limits,
    ) -> Self {
        Self {
            encoders,
            collections,
            tasks,
            settings,
            limits,
            one_at_a_time: Mutex::new(()),
            not_before: Mutex::new(None),
            ending: Cancel::default(),
        }
    }

    /// The index as builds make it that do not say otherwise.
    pub fn params_by_default(&self) -> &BuildParams {
        &self.settings.params
    }

    /// Checks the settings against the configured model: what no build could use is better told at start.
    ///
    /// # Errors
    /// [`PipelineError::Params`].
    pub fn check(&self) -> Result<(), PipelineError> {
        may_be_cut(self.encoders.configured().info(), self.settings.params.search_dims)
    }

    /// Builds a collection anew, waiting for a rebuild under way. It ends when the progress that `show` makes is cancelled.
    ///
    /// # Errors
    /// [`PipelineError::DoesNotFit`] names a document that the new definition does not allow; [`PipelineError::Gate`]; more memory
    /// than there is; cancelled. The old generation goes on serving, and nothing is left of the new one.
    pub fn rebuild(&self, name: &CollectionName, request: &RebuildRequest, show: ShowProgress<'_>) -> Result<RebuildReport, PipelineError> {
        let collection = self.collections.get(name)?;
        let params = self.params(request)?;
        let _turn = self.turn();
        self.build(&collection, request, &params, false, show)
    }

    /// The same in the background.
    ///
    /// # Errors
    /// What is wrong with the request; the rest is told by the task.
    pub fn start(self: &Arc<Self>, name: &CollectionName, request: RebuildRequest) -> Result<Arc<Task>, PipelineError> {
        let collection = self.collections.get(name)?;
        self.params(&request)?;
        if let ModelChoice::Folder(folder) = &request.model {
            // Better told at once than by the task.
            let searcher = collection.searcher();
            let identified = self.encoders.identify(&searcher.description().definition, Some(folder));
            identified.map_err(|source| PipelineError::Model { folder: folder.clone(), source: Box::new(source) })?;
        }
        let (this, name) = (Arc::clone(self), name.clone());
        let work = move |task: &Arc<Task>| {
            let collection = this.collections.get(&name)?;
            let _turn = this.turn();
            this.build_for(task, &collection, &request, true)
        };
        self.tasks.start("rebuild", Some(collection.name().to_string()), work)
    }

    /// All finished generations of a collection, newest first.
    ///
    /// # Errors
    /// [`PipelineError::Collection`].
    pub fn generations(&self, name: &CollectionName) -> Result<Vec<GenerationSummary>, PipelineError> {
        let one = |info: crate::collection::GenerationInfo| GenerationSummary {
            id: info.id.to_string(),
            status: info.status,
            n_documents: info.n_documents,
            covered_seqno: info.covered_seqno.0,
            created_at: jiff::Timestamp::from_microsecond(info.created_at_us).map(|at| at.to_string()).unwrap_or_default(),
            model: info.model.name,
            fingerprint: info.model.fingerprint,
            size_bytes: info.size_bytes,
        };
        Ok(self.collections.get(name)?.generations()?.into_iter().map(one).collect())
    }

    /// Makes a finished generation the one that serves, with all changes since it was built.
    ///
    /// # Errors
    /// [`PipelineError::Collection`], [`PipelineError::Encoder`]; what served goes on serving.
    pub fn activate(&self, name: &CollectionName, id: GenerationId) -> Result<(), PipelineError> {
        let collection = self.collections.get(name)?;
        self.activate_in(&collection, id)
    }

    /// Goes back to the generation that served before. Returns which that is.
    ///
    /// # Errors
    /// As [`Self::activate`].
    pub fn roll_back(&self, name: &CollectionName) -> Result<GenerationId, PipelineError> {
        let collection = self.collections.get(name)?;
        let id = collection.previous()?;
        self.activate_in(&collection, id)?;
        Ok(id)
    }

    fn activate_in(&self, collection: &Collection, id: GenerationId) -> Result<(), PipelineError> {
        collection.activate(id, |description, foreign| self.renew_logged(collection.name(), description, foreign))?;
        match self.folders_in_use() {
            Ok(folders) => self.encoders.keep(&folders),
            Err(e) => tracing::warn!(error = %e, "models that are not needed any more may stay in memory"),
        }
        tracing::info!(collection = %collection.name(), generation = %id, "serves");
        Ok(())
    }

    /// Folders of the models of what serves and of what can be gone back to: going back waits for no model to be loaded.
    fn folders_in_use(&self) -> Result<Vec<String>, CollectionError> {
        let mut folders = Vec::new();
        for collection in self.collections.all() {
            folders.extend(collection.searcher().description().model.folder.clone());
            let served = collection.generations()?.into_iter().filter(|generation| generation.status != GenerationStatus::Ready);
            folders.extend(served.filter_map(|generation| generation.model.folder));
        }
        Ok(folders)
    }

    /// Ends building: cancels what is under way, waits until it has tidied up, and starts nothing any more.
    pub fn end(&self) {
        self.ending.cancel();
        self.tasks.cancel_all();
        drop(self.turn());
    }

    /// Starts a rebuild in the background when enough has changed and none is under way.
    pub fn start_if_due(self: &Arc<Self>, collection: &Arc<Collection>) {
        if !self.is_due(&collection.searcher()) || self.take_turn().is_none() {
            return;
        }
        let (this, collection) = (Arc::clone(self), Arc::clone(collection));
        let name = collection.name().to_string();
        let work = move |task: &Arc<Task>| {
            let Some(_turn) = this.take_turn() else { return Ok(Json::Null) };
            // Another thread may have done it while this one started.
            if !this.is_due(&collection.searcher()) {
                return Ok(Json::Null);
            }
            this.build_for(task, &collection, &RebuildRequest::default(), true).inspect_err(|_| {
                if !task.cancel().is_cancelled() {
                    *this.not_before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PAUSE_AFTER_FAILURE);
                }
            })
        };
        if let Err(e) = self.tasks.start("rebuild", Some(name), work) {
            tracing::error!(error = %e, "could not start a thread to rebuild; the next write tries again");
        }
    }

    /// Changed documents are searched one by one, and logged changes are replayed at the next start: both should stay few,
    /// or at least few beside the collection.
    fn is_due(&self, searcher: &Searcher) -> bool {
        if self.ending.is_cancelled() {
            return false;
        }
        let not_before = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        let few = (self.settings.after_changes as u64).max(searcher.n_documents() / 10);
        let is_much = searcher.n_changes() as u64 >= few || searcher.n_logged() >= few.saturating_mul(4);
        is_much && not_before.is_none_or(|t| Instant::now() >= t)
    }

    /// The right to build, when nobody else does.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to build, unless a build is under way. One that panicked has left nothing behind that matters.
    fn take_turn(&self) -> Option<MutexGuard<'_, ()>> {
        match self.one_at_a_time.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Builds for a task; one that nobody waits for gives way to searches.
    pub(super) fn build_for(
        &self,
        task: &Arc<Task>,
        collection: &Collection,
        request: &RebuildRequest,
        gives_way: bool,
    ) -> Result<Json, PipelineError> {
        let params = self.params(request)?;
        let params = if gives_way { self.in_background(params) } else { params };
        let report = self.build(collection, request, &params, gives_way, &|what, total| task.phase(what, total))?;
        tracing::info!(collection = %collection.name(), n_documents = report.n_documents, elapsed_ms = report.elapsed.as_millis() as u64, "rebuilt");
        Ok(report.to_json())
    }

    fn build(
        &self,
        collection: &Collection,
        request: &RebuildRequest,
        params: &BuildParams,
        is_background: bool,
        show: ShowProgress<'_>,
    ) -> Result<RebuildReport, PipelineError> {
        let started = Instant::now();
        let pinned = collection.searcher();
        let wanted = self.wanted(collection, &pinned, request)?;
        if params.search_dims != 0 {
            may_be_cut(self.encoders.of(&wanted)?.info(), params.search_dims)?;
        }
        // Better now than after hours of embedding. The build looks again, by how many vectors there are then.
        params.check_memory(pinned.n_documents(), wanted.model.dims).map_err(CollectionError::from)?;
        let mut contents = run(is_background, || pinned.contents())?;
        // Not beneath others: encoders that are loaded for it serve queries afterwards.
        let n_encoded =
            if contents.description == wanted { 0 } else { self.renew_contents(collection.name(), &mut contents, wanted, show)? };
        let n_documents = contents.ids.len();
        let (generation, recall_at_10) = run(is_background, || {
            let n_vectors = contents.n_chunks.iter().map(|&n| u64::from(n)).sum();
            let progress = show(&format!("building {}", collection.name()), n_vectors);
            let generation = collection.build(&contents, &pinned, params, &progress)?;
            progress.finish();
            drop(contents);
            let recall_at_10 = self.pass_gates(collection, generation, n_documents as u64, &request.gates).inspect_err(|_| {
                if let Err(e) = collection.discard(generation) {
                    tracing::warn!(error = %e, "a build that is not wanted could not be removed; the next one removes it");
                }
            })?;
            Ok::<_, PipelineError>((generation, recall_at_10))
        })?;
        if request.activate {
            self.activate_in(collection, generation)?;
        }
        Ok(RebuildReport { generation, n_documents, n_encoded, recall_at_10, activated: request.activate, elapsed: started.elapsed() })
    }

    /// What the collection is to be.
    fn wanted(&self, collection: &Collection, pinned: &Searcher, request: &RebuildRequest) -> Result<Description, PipelineError> {
        let mut definition = self.collections.wanted_definition(collection);
        index_field::add(&mut definition, &request.index);
        let folder = match &request.model {
            ModelChoice::Keep => pinned.description().model.folder.as_deref(),
            ModelChoice::Configured => None,
            ModelChoice::Folder(folder) => Some(folder.as_str()),
        };
        Ok(self.collections.describe(collection.name(), &definition, folder)?)
    }

    /// Looks at what was built before it serves.
    fn pass_gates(
        &self,
        collection: &Collection,
        generation: GenerationId,
        n_documents: u64,
        gates: &Gates,
    ) -> Result<Option<f64>, PipelineError> {
        if let Some(min) = gates.min_documents.filter(|min| n_documents < *min) {
            return Err(PipelineError::Gate { gate: "min_documents", wanted: min as f64, actual: n_documents as f64 });
        }
        let Some(wanted) = gates.recall_at_10 else { return Ok(None) };
        let recall = recall::of_documents(&collection.preview(generation)?, 10, self.settings.ef_search, GATE_QUERIES)?;
        match recall {
            Some(actual) if actual < wanted => Err(PipelineError::Gate { gate: "recall@10", wanted, actual }),
            recall => Ok(recall),
        }
    }

    /// The settings with what the request changes, and with the limit that they leave to the system's memory as it is now.
    fn params(&self, request: &RebuildRequest) -> Result<BuildParams, PipelineError> {
        if request.gates.recall_at_10.is_some_and(|recall| !(0.0..=1.0).contains(&recall)) {
            return Err(PipelineError::Params { field: "gates.recall@10", reason: "it is a share, from 0 to 1".to_owned() });
        }
        let mut params = self.settings.params.clone();
        if let Some(changes) = &request.params {
            let mut all = serde_json::to_value(&params).expect("settings are numbers and names");
            let changes = changes
                .as_object()
                .ok_or_else(|| PipelineError::Params { field: "params", reason: "they are not a JSON object".to_owned() })?;
            changes.iter().for_each(|(key, value)| all[key.as_str()] = value.clone());
            params = serde_json::from_value(all).map_err(|e| PipelineError::Params { field: "params", reason: e.to_string() })?;
            params.check().map_err(CollectionError::from)?;
        }
        if params.max_bytes == 0
            && let Some(available) = memory::available_bytes()
        {
            // Nothing at all must not read as no limit.
            params.max_bytes = (available / 100 * MEMORY_PERCENT).max(1);
        }
        Ok(params)
    }

    /// Nobody waits for it: it takes part of the machine only.
    fn in_background(&self, params: BuildParams) -> BuildParams {
        let half = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        let threads = match (params.threads, self.settings.background_threads) {
            (0, 0) => half,
            (0, threads) | (threads, _) => threads,
        };
        BuildParams { threads, ..params }
    }
}

/// Most models put what a text means into all numbers; some put most of it into the first, and say into how many.
fn may_be_cut(model: &ModelInfo, search_dims: usize) -> Result<(), PipelineError> {
    let (name, allowed) = (&model.name, &model.matryoshka_dims);
    let reason = match allowed[..] {
        _ if search_dims == 0 || search_dims == model.dims || allowed.contains(&search_dims) => return Ok(()),
        [] => format!("the embeddings of {name} may not be cut: it names no matryoshka_dims"),
        _ => format!("the embeddings of {name} may be cut to {allowed:?} numbers, not to {search_dims}"),
    };
    Err(PipelineError::Params { field: "search_dims", reason })
}

/// Does work as it is, or in the background.
fn run<T: Send>(is_background: bool, work: impl FnOnce() -> T + Send) -> T {
    if is_background { priority::beneath(work) } else { work() }
}

impl RebuildReport {
    /// As tasks and the command line tell it.
    pub fn to_json(&self) -> Json {
        json!({
            "generation": self.generation.to_string(),
            "n_documents": self.n_documents,
            "n_encoded": self.n_encoded,
            "recall@10": self.recall_at_10,
            "activated": self.activated,
            "elapsed_ms": self.elapsed.as_millis() as u64,
        })
    }
}
