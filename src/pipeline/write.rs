//! WRITE: documents → checked → embedded → durable and searchable.
//!
//! Each attempt pins one searcher: it checks the items, takes over embeddings, embeds, and hands over the changes with that searcher's
//! epoch. If the model or the definition changed meanwhile, the writer refuses the changes and the next attempt starts over.
//!
//! Wrong items are refused one by one before anything is embedded. All others become durable as a whole or not at all. A text is
//! embedded once: a document whose text is unchanged keeps its embedding, and equal texts share one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value as Json;
use tracing::Instrument;

use super::checked::{CheckOptions, Checked, Source, Unchecked};
use super::{Encoders, Limits, PipelineError, RebuildPipeline, Work};
use crate::collection::{Applied, Change, Changes, Collection, CollectionError, Collections, Searcher};
use crate::telemetry::metrics;
use crate::telemetry::traces::stage;
use kindred_core::Progress;
use kindred_core::domain::{CollectionName, DocumentError, DocumentId, FeedPosition, Filter, Precondition, Refresh, Schema, SeqNo};
use kindred_core::error::ErrorKind;

/// Texts that are embedded between two looks at whether the work is still wanted.
const ENCODED_AT_ONCE: usize = 256;
/// Attempts to write a request whose documents, model or definition are changed by others meanwhile.
const MAX_ATTEMPTS: usize = 10;
/// Documents that are deleted together.
const DELETED_AT_ONCE: usize = 1_000;
/// Most documents that one evaluation of a deletion's filter finds: about 10 MB of ids.
const FOUND_AT_ONCE: usize = 100_000;

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
    /// A later item of the same request replaced or patched it, and the document was written once.
    Superseded(DocumentId),
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
            Self::Superseded(_) => "superseded",
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

    /// Most items of a request.
    pub fn max_items(&self) -> usize {
        self.limits.max_batch_documents
    }

    /// Writes; when this returns, all accepted items are durable and, unless the request says otherwise, found by the next search.
    ///
    /// # Errors
    /// [`PipelineError`] when nothing could be written. Errors of single items are in the report.
    pub async fn write(&self, name: &CollectionName, request: WriteRequest, progress: &Progress) -> Result<WriteReport, PipelineError> {
        let collection = self.collections.get(name)?;
        let WriteRequest { items, condition, refresh, mut positions, whole } = request;
        if items.len() > self.limits.max_batch_documents {
            return Err(PipelineError::TooManyDocuments { actual: items.len(), limit: self.limits.max_batch_documents });
        }
        let options = CheckOptions { condition, max_text_bytes: self.limits.max_text_bytes };
        let mut checked = Checked::new(items.len(), options);
        let mut items: Vec<Unchecked> = items.into_iter().map(|item| item.map(Source::from)).enumerate().collect();
        let mut report = WriteReport { outcomes: Vec::new(), seqno: collection.searcher().seqno(), n_encoded: 0 };
        for attempt in 1..=MAX_ATTEMPTS {
            let searcher = collection.searcher();
            checked = check(checked, &searcher, items).instrument(stage!("check")).await?;
            if whole {
                checked.all_accepted()?;
            }
            if checked.is_empty() && positions.is_empty() {
                break;
            }
            report.n_encoded += self.embed(&searcher, &mut checked, progress).instrument(stage!("embed")).await?;
            let mut changes = Changes::checked_in(&searcher, checked.changes());
            changes.positions = positions.clone();
            changes.refresh = refresh;
            let stage = stage!("apply", n = changes.changes.len());
            let writer = Arc::clone(&collection);
            let applied = blocking(move || writer.apply(changes)).instrument(stage).await?;
            let may_repeat = attempt < MAX_ATTEMPTS;
            items = match applied {
                Ok((applied, seqno)) => {
                    report.seqno = seqno;
                    positions.clear();
                    checked.settle(applied, may_repeat)
                }
                Err(CollectionError::EpochChanged { .. }) if may_repeat => checked.take_items(),
                Err(e) => return Err(e.into()),
            };
            if items.is_empty() {
                break;
            }
        }
        report.outcomes = checked.into_outcomes();
        progress.advance((report.outcomes.len() as u64).saturating_sub(report.n_encoded as u64));
        self.rebuild.start_if_due(&collection);
        report.outcomes.iter().for_each(|outcome| metrics::documents_written(outcome.name(), 1));
        Ok(report)
    }

    /// Deletes all documents that match. Returns how many, and the last durable change.
    ///
    /// # Errors
    /// [`PipelineError::Filter`], [`PipelineError::NoCondition`], [`PipelineError::Collection`]: what has been deleted before
    /// stays deleted.
    pub async fn delete_matching(&self, name: &CollectionName, matching: &Matching) -> Result<(u64, SeqNo), PipelineError> {
        let collection = self.collections.get(name)?;
        let (n, seqno) = blocking({
            let (collection, matching) = (Arc::clone(&collection), matching.clone());
            move || delete_matching(&collection, &matching)
        })
        .await??;
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

    /// The positions whose source begins with `prefix`.
    ///
    /// # Errors
    /// [`PipelineError::Collection`] when there is no collection of that name.
    pub fn positions(&self, name: &CollectionName, prefix: &str) -> Result<BTreeMap<String, u64>, PipelineError> {
        let searcher = self.collections.get(name)?.searcher();
        let positions = searcher.positions().iter().filter(|(source, _)| source.starts_with(prefix));
        Ok(positions.map(|(source, &next)| (source.clone(), next)).collect())
    }

    /// Makes the missing embeddings, each text once. Returns how many texts were encoded.
    async fn embed(&self, searcher: &Searcher, checked: &mut Checked, progress: &Progress) -> Result<usize, PipelineError> {
        let check_cancelled = || {
            let cancelled = PipelineError::Cancelled { kept: "nothing of these was written" };
            if progress.is_cancelled() { Err(cancelled) } else { Ok(()) }
        };
        check_cancelled()?;
        let mut texts = Vec::new();
        let mut by_hash = HashMap::new();
        let mut n_missing = 0;
        for document in checked.documents_mut().filter(|document| document.embedding.is_none()) {
            n_missing += 1;
            by_hash.entry(document.hash).or_insert_with(|| {
                texts.push(document.document.text.clone());
                texts.len() - 1
            });
        }
        if texts.is_empty() {
            return Ok(0);
        }
        let n_texts = texts.len();
        let description = searcher.description();
        let encoder = self.encoders.get(description).await?;
        let prompt = encoder.document_prompt(&description.definition.document_prompt).to_owned();
        let chunking = description.definition.chunks;
        let mut embeddings: Vec<Vec<f32>> = Vec::with_capacity(n_texts);
        let mut texts = texts.into_iter().peekable();
        while texts.peek().is_some() {
            check_cancelled()?;
            let (encoder, prompt) = (Arc::clone(&encoder), prompt.clone());
            let part: Vec<String> = texts.by_ref().take(ENCODED_AT_ONCE).collect();
            let encoded = blocking(move || encoder.encode_documents(&prompt, &part, &chunking)).await??;
            progress.advance(encoded.len() as u64);
            embeddings.extend(encoded);
        }
        for document in checked.documents_mut().filter(|document| document.embedding.is_none()) {
            document.embedding = Some(embeddings[by_hash[&document.hash]].clone());
        }
        metrics::texts_encoded(n_texts);
        metrics::encodes_saved("twice", n_missing - n_texts);
        Ok(n_texts)
    }
}

/// Checks items on a thread that may wait for the disk.
async fn check(mut checked: Checked, searcher: &Arc<Searcher>, items: Vec<Unchecked>) -> Result<Checked, PipelineError> {
    let searcher = Arc::clone(searcher);
    blocking(move || checked.check(&searcher, items).map(|()| checked)).await?
}

/// Each round pins one searcher for the meaning of the filter, the documents that match, and their seqnos: after a change of the definition
/// the same filter means other fields.
fn delete_matching(collection: &Collection, matching: &Matching) -> Result<(u64, SeqNo), PipelineError> {
    let mut n = 0;
    loop {
        let searcher = collection.searcher();
        let filter = matching.parse(&searcher.meaning().schema)?;
        let found = searcher.ids_matching(&filter, FOUND_AT_ONCE)?;
        if found.is_empty() {
            if !filter.selects() {
                tracing::info!(collection = %collection.name(), deleted = n, "deleted every document");
            }
            return Ok((n, searcher.seqno()));
        }
        for part in found.chunks(DELETED_AT_ONCE) {
            // A document that has changed since may not match any more: the condition keeps it, and the next round looks again.
            let delete = |(id, seqno): &(DocumentId, SeqNo)| Change::Delete { id: id.clone(), condition: Precondition::IfSeqno(*seqno) };
            match collection.apply(Changes::checked_in(&searcher, part.iter().map(delete).collect())) {
                Ok((applied, _)) => n += applied.iter().filter(|applied| matches!(applied, Applied::Deleted(_))).count() as u64,
                Err(CollectionError::EpochChanged { .. }) => break,
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// Which documents a deletion concerns.
#[derive(Debug, Clone, PartialEq)]
pub enum Matching {
    /// All of them.
    All,
    /// Those that match a filter, which must name a condition.
    Filter(Json),
    /// Those that match a filter; all of them if it names no condition, as Qdrant has it.
    FilterOrAll(Json),
}

impl Matching {
    fn parse(&self, schema: &Schema) -> Result<Filter, PipelineError> {
        match self {
            Self::All => Ok(Filter::default()),
            Self::FilterOrAll(json) => Ok(Filter::parse(json, schema)?),
            Self::Filter(json) => Some(Filter::parse(json, schema)?).filter(Filter::selects).ok_or(PipelineError::NoCondition),
        }
    }
}

/// Runs work that waits for the disk or takes long away from the threads that serve HTTP.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PipelineError> {
    super::blocking(Work::Write, work).await
}
