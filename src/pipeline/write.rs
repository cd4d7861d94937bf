//! WRITE: documents → checked → embedded → durable and searchable.
//!
//! What a user can get wrong is refused item by item before anything is embedded. What is left is made durable as a whole or not
//! at all. A text is embedded once: a document whose text is unchanged keeps its embedding, equal texts share one.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;
use tracing::Instrument;

use super::checked::{Accepted, Checked};
use super::{Encoders, Limits, PipelineError, RebuildPipeline};
use crate::collection::{Applied, Change, Changes, Collection, CollectionError, Collections, Searcher};
use crate::telemetry::metrics;
use crate::telemetry::traces::{in_current_span, stage};
use kindred_core::Progress;
use kindred_core::domain::{CollectionName, DocumentError, DocumentId, FeedPosition, Filter, Precondition, Refresh, SeqNo};
use kindred_core::error::ErrorKind;

/// Texts that are embedded between two looks at whether the work is still wanted.
const ENCODED_AT_ONCE: usize = 256;
/// How often a partial update is tried again when the document changes under it.
const MAX_ATTEMPTS: usize = 10;
/// Documents that are deleted together.
const DELETED_AT_ONCE: usize = 1_000;

/// What is to be done with one document.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Insert it, or replace the one with its id.
    Put(Json),
    /// Change some of its fields: an RFC 7396 merge patch with the id.
    Merge(Json),
    Delete(DocumentId),
}

/// An item, or why it could not be read.
pub type Incoming = Result<Item, ItemError>;

/// What to write, as parsed at the edge.
#[derive(Debug, Default)]
pub struct WriteRequest {
    pub items: Vec<Incoming>,
    /// Holds for every item.
    pub condition: Precondition,
    pub refresh: Refresh,
    /// Where the feed stands that the items came from: becomes durable with them.
    pub positions: Vec<FeedPosition>,
    /// Nothing is written when an item is refused; the error tells which.
    pub whole: bool,
}

impl WriteRequest {
    /// Insert or replace documents.
    pub fn put(documents: impl IntoIterator<Item = Result<Json, ItemError>>) -> Self {
        Self { items: documents.into_iter().map(|document| document.map(Item::Put)).collect(), ..Self::default() }
    }
}

/// Why one item was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    pub kind: ErrorKind,
    pub message: String,
    pub field: Option<String>,
}

impl From<DocumentError> for ItemError {
    fn from(e: DocumentError) -> Self {
        Self { kind: e.kind(), message: e.to_string(), field: e.field().map(str::to_owned) }
    }
}

/// What became of one item, with the seqno of the document's last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Created(DocumentId, SeqNo),
    Updated(DocumentId, SeqNo),
    /// The very same document was there already: nothing was written.
    Unchanged(DocumentId, SeqNo),
    Deleted(DocumentId, SeqNo),
    /// There was nothing to delete.
    NotFound(DocumentId),
    Refused {
        id: Option<String>,
        error: ItemError,
    },
}

impl Outcome {
    /// One word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created(..) => "created",
            Self::Updated(..) => "updated",
            Self::Unchanged(..) => "unchanged",
            Self::Deleted(..) => "deleted",
            Self::NotFound(_) => "not_found",
            Self::Refused { .. } => "refused",
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct WriteReport {
    /// In the order of the items.
    pub outcomes: Vec<Outcome>,
    /// The last change of the collection that is durable.
    pub seqno: SeqNo,
    /// Texts that went through the encoder.
    pub n_encoded: usize,
}

/// Takes documents.
#[derive(Debug)]
pub struct WritePipeline {
    encoders: Arc<Encoders>,
    collections: Arc<Collections>,
    rebuild: Arc<RebuildPipeline>,
    limits: Limits,
}

impl WritePipeline {
    pub fn new(encoders: Arc<Encoders>, collections: Arc<Collections>, rebuild: Arc<RebuildPipeline>, limits: Limits) -> Self {
        Self { encoders, collections, rebuild, limits }
    }

    /// Writes; when this returns, all that was accepted is durable and, unless the request says otherwise, found by the next search.
    ///
    /// # Errors
    /// [`PipelineError`] when nothing could be written. What is wrong with single items is in the report.
    pub async fn write(&self, name: &CollectionName, request: WriteRequest, progress: &Progress) -> Result<WriteReport, PipelineError> {
        let collection = self.collections.get(name)?;
        let WriteRequest { items, condition, refresh, mut positions, whole } = request;
        if items.len() > self.limits.max_batch_documents {
            return Err(PipelineError::TooManyDocuments { actual: items.len(), limit: self.limits.max_batch_documents });
        }
        let max_text_bytes = self.limits.max_text_bytes;
        let pinned = Arc::clone(&collection);
        let check = blocking(move || Checked::of(&pinned.searcher(), items, condition, max_text_bytes));
        let mut checked = check.instrument(stage!("check")).await??;
        if whole {
            checked.all_accepted()?;
        }
        let mut report = WriteReport { outcomes: Vec::new(), seqno: collection.searcher().seqno(), n_encoded: 0 };
        for attempt in 1.. {
            if checked.accepted.is_empty() && positions.is_empty() {
                break;
            }
            let searcher = collection.searcher();
            report.n_encoded += self.embed(&searcher, &mut checked.accepted, progress).instrument(stage!("embed")).await?;
            let changes = Changes {
                changes: checked.accepted.iter().map(Accepted::change).collect(),
                model: Some(searcher.tag()),
                positions: positions.clone(),
                refresh,
            };
            let writer = Arc::clone(&collection);
            let stage = stage!("apply", n = changes.changes.len());
            let applied = blocking(move || writer.apply(changes)).instrument(stage).await?;
            match applied {
                Ok((applied, seqno)) => {
                    report.seqno = seqno;
                    positions.clear();
                    checked.settle(applied, attempt < MAX_ATTEMPTS);
                }
                // The collection was embedded anew meanwhile: once more, with the new model.
                Err(CollectionError::ModelChanged { .. }) if attempt < MAX_ATTEMPTS => checked.forget_embeddings(),
                Err(e) => return Err(e.into()),
            }
            let pinned = Arc::clone(&collection);
            checked = blocking(move || checked.patch_again(&pinned.searcher(), max_text_bytes)).await??;
        }
        progress.advance((checked.outcomes.len() as u64).saturating_sub(report.n_encoded as u64));
        self.rebuild.start_if_due(&collection);
        report.outcomes = checked.outcomes.into_iter().map(|outcome| outcome.expect("every item was refused or was written")).collect();
        report.outcomes.iter().for_each(|outcome| metrics::documents_written(outcome.name(), 1));
        Ok(report)
    }

    /// Deletes all documents that match a filter. Returns how many, and the last durable change.
    ///
    /// # Errors
    /// [`PipelineError::Filter`], [`PipelineError::Collection`]: what has been deleted before stays deleted.
    pub async fn delete_matching(&self, name: &CollectionName, filter: &Json) -> Result<(u64, SeqNo), PipelineError> {
        let collection = self.collections.get(name)?;
        let filter = Filter::parse(filter, &collection.searcher().meaning().schema)?;
        let deleted = blocking({
            let collection = Arc::clone(&collection);
            move || delete_matching(&collection, &filter)
        });
        let (n, seqno) = deleted.await??;
        metrics::documents_written("deleted", n as usize);
        self.rebuild.start_if_due(&collection);
        Ok((n, seqno))
    }

    /// Where a feed stands: every record of the source before this one is in the collection.
    ///
    /// # Errors
    /// [`PipelineError::Collection`] when there is none of that name.
    pub fn position(&self, name: &CollectionName, source: &str) -> Result<Option<u64>, PipelineError> {
        Ok(self.collections.get(name)?.searcher().positions().get(source).copied())
    }

    /// Makes the embeddings that are missing, each text once. Returns how many.
    async fn embed(&self, searcher: &Searcher, accepted: &mut [Accepted], progress: &Progress) -> Result<usize, PipelineError> {
        let go_on =
            || if progress.is_cancelled() { Err(PipelineError::Cancelled { kept: "nothing of these was written" }) } else { Ok(()) };
        go_on()?;
        let description = searcher.description();
        if accepted.iter().filter_map(|item| item.document.as_ref()).all(|item| item.embedding.is_some()) {
            return Ok(0);
        }
        let encoder = self.encoders.of(description)?;
        let prompt = encoder.document_prompt(&description.definition.document_prompt).to_owned();
        let chunking = description.definition.chunks;
        let (mut texts, mut by_hash) = (Vec::new(), HashMap::new());
        let mut n_missing = 0;
        for item in accepted.iter().filter_map(|item| item.document.as_ref()).filter(|item| item.embedding.is_none()) {
            n_missing += 1;
            by_hash.entry(item.hash).or_insert_with(|| {
                texts.push(item.document.text.clone());
                texts.len() - 1
            });
        }
        let n_texts = texts.len();
        let mut embeddings: Vec<Vec<f32>> = Vec::with_capacity(n_texts);
        let mut texts = texts.into_iter().peekable();
        while texts.peek().is_some() {
            go_on()?;
            let (encoder, prompt) = (Arc::clone(&encoder), prompt.clone());
            let part: Vec<String> = texts.by_ref().take(ENCODED_AT_ONCE).collect();
            let encoded = blocking(move || encoder.encode_documents(&prompt, &part, &chunking)).await??;
            progress.advance(encoded.len() as u64);
            embeddings.extend(encoded);
        }
        for item in accepted.iter_mut().filter_map(|item| item.document.as_mut()).filter(|item| item.embedding.is_none()) {
            item.embedding = Some(embeddings[by_hash[&item.hash]].clone());
        }
        metrics::texts_encoded(n_texts);
        metrics::encodes_saved("twice", n_missing - n_texts);
        Ok(n_texts)
    }
}

fn delete_matching(collection: &Collection, filter: &Filter) -> Result<(u64, SeqNo), CollectionError> {
    let mut n = 0;
    loop {
        // One that changes meanwhile may not match any more: hence the condition, and another look.
        let found = collection.matching(filter, DELETED_AT_ONCE)?;
        let delete = |(id, seqno)| Change::Delete { id, condition: Precondition::IfSeqno(seqno) };
        let changes = Changes { changes: found.into_iter().map(delete).collect(), ..Changes::default() };
        if changes.changes.is_empty() {
            return Ok((n, collection.searcher().seqno()));
        }
        let (applied, _) = collection.apply(changes)?;
        n += applied.iter().filter(|applied| matches!(applied, Applied::Deleted(_))).count() as u64;
    }
}

/// Runs work that waits for the disk or takes long away from the threads that serve HTTP.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PipelineError> {
    tokio::task::spawn_blocking(in_current_span(work)).await.map_err(|_| PipelineError::WorkerLost)
}
