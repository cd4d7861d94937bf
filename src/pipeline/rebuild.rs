//! REBUILD: all documents → a new generation, while the old one serves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};

use super::{Limits, PipelineError};
use crate::collection::{BuildParams, Collection, CollectionError, Collections, Contents, Description, Meaning, Searcher};
use crate::domain::{CollectionName, Document, Template};
use crate::encoder::Encoder;
use crate::telemetry::{Cancel, Progress, memory};

/// Texts that are embedded in one call.
const CHUNK: usize = 256;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Part of the available memory, in percent, that a build may take where no limit is set: what is left is for the queries.
const MEMORY_PERCENT: u64 = 80;

/// Builds generations, one at a time.
#[derive(Debug)]
pub struct RebuildPipeline {
    encoder: Arc<Encoder>,
    collections: Arc<Collections>,
    params: BuildParams,
    limits: Limits,
    rebuild_after_changes: usize,
    /// Building takes all cores and twice the memory of a collection: two at once would starve the queries.
    one_at_a_time: Mutex<()>,
    /// Until when no rebuild starts by itself: one that failed would likely fail again, at the price of a full build.
    not_before: Mutex<Option<Instant>>,
    /// Cancels what was started in the background.
    ending: Cancel,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildReport {
    pub n_documents: usize,
    /// Documents that were embedded again because the model or their text changed.
    pub n_encoded: usize,
    pub elapsed: Duration,
}

/// How a rebuild shows its progress.
pub type ShowProgress<'a> = &'a dyn Fn(&str, u64) -> Progress;

impl RebuildPipeline {
    pub fn new(
        encoder: Arc<Encoder>,
        collections: Arc<Collections>,
        params: BuildParams,
        limits: Limits,
        rebuild_after_changes: usize,
    ) -> Self {
        Self {
            encoder,
            collections,
            params,
            limits,
            rebuild_after_changes,
            one_at_a_time: Mutex::new(()),
            not_before: Mutex::new(None),
            ending: Cancel::default(),
        }
    }

    /// Builds a collection anew with the loaded model and the configured definition, waiting for a rebuild under way. It ends
    /// when the progress that `show` makes is cancelled.
    ///
    /// # Errors
    /// [`PipelineError::DoesNotFit`] names a document that the new definition does not allow; more memory than there is;
    /// cancelled. The old generation goes on serving, and nothing is left of the new one.
    pub fn rebuild(&self, name: &CollectionName, show: ShowProgress<'_>) -> Result<RebuildReport, PipelineError> {
        let collection = self.collections.get(name)?;
        let _turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        self.build(&collection, show)
    }

    /// Ends building in the background: cancels what is under way, waits until it has tidied up, and starts nothing any more.
    pub fn end(&self) {
        self.ending.cancel();
        drop(self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Starts a rebuild in the background when enough has changed and none is under way.
    pub fn start_if_due(self: &Arc<Self>, collection: &Arc<Collection>) {
        if !self.is_due(&collection.searcher()) || self.take_turn().is_none() {
            return;
        }
        let (this, collection) = (Arc::clone(self), Arc::clone(collection));
        let work = move || {
            let Some(_turn) = this.take_turn() else { return };
            // Another thread may have done it while this one started.
            if !this.is_due(&collection.searcher()) {
                return;
            }
            match this.build(&collection, &|_, _| Progress::hidden().cancelled_by(&this.ending)) {
                Ok(report) => {
                    tracing::info!(collection = %collection.name(), n_documents = report.n_documents, elapsed_ms = report.elapsed.as_millis() as u64, "rebuilt")
                }
                Err(_) if this.ending.is_cancelled() => tracing::info!(collection = %collection.name(), "the rebuild was cancelled"),
                Err(e) => {
                    *this.not_before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PAUSE_AFTER_FAILURE);
                    tracing::error!(collection = %collection.name(), error = %e, "the rebuild failed; the old generation and the changes since go on serving")
                }
            }
        };
        if let Err(e) = std::thread::Builder::new().name("rebuild".to_owned()).spawn(work) {
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
        let few = (self.rebuild_after_changes as u64).max(searcher.n_documents() / 4);
        let is_much = searcher.n_changes() as u64 >= few || searcher.n_logged() >= few.saturating_mul(4);
        is_much && not_before.is_none_or(|t| Instant::now() >= t)
    }

    /// The right to build, unless a build is under way. One that panicked has left nothing behind that matters.
    fn take_turn(&self) -> Option<MutexGuard<'_, ()>> {
        match self.one_at_a_time.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn build(&self, collection: &Collection, show: ShowProgress<'_>) -> Result<RebuildReport, PipelineError> {
        let started = Instant::now();
        let pinned = collection.searcher();
        let wanted = self.collections.describe(&self.collections.wanted_definition(collection));
        // Better now than after hours of embedding.
        self.params().check_memory(pinned.n_documents(), wanted.model.dims).map_err(CollectionError::from)?;
        let mut contents = pinned.contents()?;
        let n_encoded = if contents.description == wanted { 0 } else { self.renew(collection.name(), &mut contents, wanted, show)? };
        let progress = show(&format!("building {}", collection.name()), contents.ids.len() as u64);
        collection.publish(&contents, &pinned, &self.params(), &progress)?;
        progress.finish();
        Ok(RebuildReport { n_documents: contents.ids.len(), n_encoded, elapsed: started.elapsed() })
    }

    /// The settings, with the limit that they leave to the system's memory as it is now.
    fn params(&self) -> BuildParams {
        let mut params = self.params.clone();
        if params.max_bytes == 0
            && let Some(available) = memory::available_bytes()
        {
            // Nothing at all must not read as no limit.
            params.max_bytes = (available / 100 * MEMORY_PERCENT).max(1);
        }
        params
    }

    /// Makes contents what another definition or model wants them to be. Returns how many were embedded again.
    fn renew(
        &self,
        name: &CollectionName,
        contents: &mut Contents,
        wanted: Description,
        show: ShowProgress<'_>,
    ) -> Result<usize, PipelineError> {
        let old = Meaning::of(name, &contents.description.definition)?.template;
        let new = Meaning::of(name, &wanted.definition)?;
        let same_model = contents.description.model.fingerprint == wanted.model.fingerprint;
        let (mut stale, mut texts) = (Vec::new(), Vec::new());
        for (row, id) in contents.ids.iter().enumerate() {
            let fields: Map<String, Json> = serde_json::from_str(&contents.fields[row])
                .map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
            let old_text = same_model.then(|| Template::render(&old, &fields));
            let document = Document::from_fields(id.clone(), fields, &new.schema, &new.template, self.limits.max_text_bytes)
                .map_err(|source| PipelineError::DoesNotFit { id: id.to_string(), source })?;
            if old_text.as_ref() != Some(&document.text) {
                stale.push(row);
                texts.push(format!("{}{}", wanted.definition.document_prompt, document.text));
            }
            contents.attributes[row] = document.attributes;
        }
        self.embed(name, contents, wanted.model.dims, &stale, texts, show)?;
        contents.description = wanted;
        Ok(stale.len())
    }

    /// Replaces the embeddings of the stale rows. With other dims, all rows are stale.
    fn embed(
        &self,
        name: &CollectionName,
        contents: &mut Contents,
        dims: usize,
        stale: &[usize],
        texts: Vec<String>,
        show: ShowProgress<'_>,
    ) -> Result<(), PipelineError> {
        contents.vectors.resize(contents.ids.len() * dims, 0.0);
        let progress = show(&format!("embedding {name}"), stale.len() as u64);
        let mut rows = stale.iter();
        let mut texts = texts.into_iter().peekable();
        while texts.peek().is_some() {
            if progress.is_cancelled() {
                return Err(PipelineError::Cancelled { kept: "nothing was changed" });
            }
            let chunk: Vec<String> = texts.by_ref().take(CHUNK).collect();
            let n = chunk.len() as u64;
            for (embedding, row) in self.encoder.encode_blocking(chunk)?.embeddings.iter().zip(rows.by_ref()) {
                contents.vectors[row * dims..(row + 1) * dims].copy_from_slice(embedding.as_slice());
            }
            progress.advance(n);
        }
        progress.finish();
        Ok(())
    }
}
