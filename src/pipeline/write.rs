//! WRITE: documents → checked → embedded → durable and searchable.
//!
//! What a user can get wrong is refused item by item before anything is embedded; the rest of the batch goes on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{Limits, PipelineError, RebuildPipeline};
use crate::collection::{Collection, CollectionError, Collections, Searcher, StoredChange};
use crate::domain::{CollectionName, Document, DocumentError, DocumentId, SeqNo};
use crate::encoder::Encoder;
use crate::error::ErrorKind;
use crate::telemetry::{Progress, metrics};

/// Documents that are embedded and made durable together: few enough that a broken-off request loses little.
const CHUNK: usize = 256;

/// One item of a batch: its JSON, or why it could not be read.
pub type Incoming = Result<Json, ItemError>;

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

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Created(DocumentId),
    Updated(DocumentId),
    /// The very same document was there already: nothing was written.
    Unchanged(DocumentId),
    Refused {
        id: Option<String>,
        error: ItemError,
    },
}

/// What became of a batch.
#[derive(Debug)]
pub struct WriteReport {
    /// In the order of the items.
    pub outcomes: Vec<Outcome>,
    /// The last change of the collection that is durable.
    pub seqno: SeqNo,
    /// Texts that went through the encoder.
    pub n_encoded: usize,
}

impl WriteReport {
    fn record(&self) {
        for outcome in &self.outcomes {
            let name = match outcome {
                Outcome::Created(_) => "created",
                Outcome::Updated(_) => "updated",
                Outcome::Unchanged(_) => "unchanged",
                Outcome::Refused { .. } => "refused",
            };
            metrics::documents_written(name, 1);
        }
    }
}

/// Takes documents.
#[derive(Debug)]
pub struct WritePipeline {
    encoder: Arc<Encoder>,
    collections: Arc<Collections>,
    rebuild: Arc<RebuildPipeline>,
    limits: Limits,
}

/// An item that may be written.
struct Accepted {
    position: usize,
    document: Document,
    fields: String,
    existing: Existing,
}

/// What is stored under the same id.
enum Existing {
    None,
    /// With this embedding, if the text to embed is the same.
    Other(Option<Vec<f32>>),
    Same,
}

/// What may be written, and an outcome for each item that may not.
type Checked = (Vec<Accepted>, Vec<Option<Outcome>>);

impl WritePipeline {
    pub fn new(encoder: Arc<Encoder>, collections: Arc<Collections>, rebuild: Arc<RebuildPipeline>, limits: Limits) -> Self {
        Self { encoder, collections, rebuild, limits }
    }

    /// Inserts or replaces documents; when this returns, the accepted ones are durable and found by the next search. It ends
    /// between two chunks when `progress` is cancelled.
    ///
    /// # Errors
    /// [`PipelineError`] when nothing more could be written: chunks before that one stay. What is wrong with single items is in the report.
    pub async fn put(&self, name: &CollectionName, items: Vec<Incoming>, progress: &Progress) -> Result<WriteReport, PipelineError> {
        let collection = self.collections.get(name)?;
        if items.len() > self.limits.max_batch_documents {
            return Err(PipelineError::TooManyDocuments { actual: items.len(), limit: self.limits.max_batch_documents });
        }
        let max_text_bytes = self.limits.max_text_bytes;
        let checking = Arc::clone(&collection);
        let (accepted, mut outcomes) = blocking(move || check(&checking.searcher(), items, max_text_bytes)).await??;
        progress.advance(outcomes.iter().filter(|outcome| matches!(outcome, Some(Outcome::Refused { .. }))).count() as u64);

        let mut report = WriteReport { outcomes: Vec::new(), seqno: collection.searcher().seqno(), n_encoded: 0 };
        let mut accepted = accepted.into_iter().peekable();
        while accepted.peek().is_some() {
            if progress.is_cancelled() {
                return Err(PipelineError::Cancelled { kept: "the rest was not written" });
            }
            let chunk: Vec<Accepted> = accepted.by_ref().take(CHUNK).collect();
            let n = chunk.len();
            let (n_encoded, seqno) = self.write_chunk(&collection, chunk, &mut outcomes).await?;
            report.n_encoded += n_encoded;
            report.seqno = seqno;
            self.rebuild.start_if_due(&collection);
            progress.advance(n as u64);
        }
        metrics::texts_encoded(report.n_encoded);
        report.outcomes = outcomes.into_iter().map(|outcome| outcome.expect("every item was refused or was in a chunk")).collect();
        report.record();
        Ok(report)
    }

    /// Deletes a document. Returns whether it was there, and the last durable change.
    ///
    /// # Errors
    /// [`PipelineError::Collection`].
    pub async fn delete(&self, name: &CollectionName, id: DocumentId) -> Result<(bool, SeqNo), PipelineError> {
        let collection = self.collections.get(name)?;
        let searcher = collection.searcher();
        if searcher.get(&id)?.is_none() {
            return Ok((false, searcher.seqno()));
        }
        let seqno = blocking(move || collection.apply(vec![StoredChange::Delete(id)])).await??;
        metrics::documents_written("deleted", 1);
        self.rebuild.start_if_due(&self.collections.get(name)?);
        Ok((true, seqno))
    }

    async fn write_chunk(
        &self,
        collection: &Arc<Collection>,
        chunk: Vec<Accepted>,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(usize, SeqNo), PipelineError> {
        let prompt = collection.searcher().description().definition.document_prompt.clone();
        let needs_encoding = |item: &&Accepted| matches!(item.existing, Existing::None | Existing::Other(None));
        let texts: Vec<String> = chunk.iter().filter(needs_encoding).map(|item| format!("{prompt}{}", item.document.text)).collect();
        let n_encoded = texts.len();
        let encoder = Arc::clone(&self.encoder);
        let mut embeddings = blocking(move || encoder.encode_blocking(texts)).await??.embeddings.into_iter();
        let mut changes = Vec::with_capacity(chunk.len());
        for Accepted { position, document, fields, existing } in chunk {
            let Document { id, attributes, .. } = document;
            outcomes[position] = Some(match existing {
                Existing::None => Outcome::Created(id.clone()),
                Existing::Other(_) => Outcome::Updated(id.clone()),
                Existing::Same => Outcome::Unchanged(id.clone()),
            });
            let embedding = match existing {
                Existing::Same => continue,
                Existing::Other(Some(embedding)) => embedding,
                Existing::None | Existing::Other(None) => embeddings.next().ok_or(PipelineError::WorkerLost)?.into_vec(),
            };
            changes.push(StoredChange::Upsert { id, fields, attributes, embedding });
        }
        let collection = Arc::clone(collection);
        let seqno = blocking(move || collection.apply(changes)).await??;
        Ok((n_encoded, seqno))
    }
}

/// Splits a batch into what may be written and what is refused.
fn check(searcher: &Searcher, items: Vec<Incoming>, max_text_bytes: usize) -> Result<Checked, PipelineError> {
    let meaning = searcher.meaning();
    let mut outcomes = vec![None; items.len()];
    let mut accepted = Vec::with_capacity(items.len());
    let mut seen: HashMap<DocumentId, usize> = HashMap::new();
    for (position, item) in items.into_iter().enumerate() {
        let id = item.as_ref().ok().and_then(|json| json.get("id")).map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        let document =
            item.and_then(|json| Document::parse(json, &meaning.schema, &meaning.template, max_text_bytes).map_err(ItemError::from));
        let document = document.and_then(|document| match seen.get(&document.id) {
            None => Ok(document),
            Some(first) => Err(ItemError {
                kind: ErrorKind::Invalid,
                message: format!(
                    "the id {:?} stands twice in this batch: item {} has it already, and that one was taken",
                    document.id.as_str(),
                    first + 1
                ),
                field: Some("id".to_owned()),
            }),
        });
        match document {
            Err(error) => outcomes[position] = Some(Outcome::Refused { id, error }),
            Ok(document) => {
                seen.insert(document.id.clone(), position);
                let fields = Json::Object(document.fields.clone()).to_string();
                let existing = compare(searcher, &document, &fields)?;
                accepted.push(Accepted { position, document, fields, existing });
            }
        }
    }
    Ok((accepted, outcomes))
}

/// Looks at what is stored under the document's id. What cannot be read is replaced, but not if that is the id itself: the
/// document might then be there twice.
fn compare(searcher: &Searcher, document: &Document, fields: &str) -> Result<Existing, PipelineError> {
    let Some(found) = searcher.get(&document.id)? else { return Ok(Existing::None) };
    let warn = |e: &CollectionError| {
        tracing::warn!(id = document.id.as_str(), error = %e, "what is stored of a document cannot be read and is replaced");
    };
    let Ok(stored) = searcher.fields(&found).inspect_err(warn) else { return Ok(Existing::Other(None)) };
    if stored == fields {
        return Ok(Existing::Same);
    }
    let text = serde_json::from_str(stored).map(|fields| searcher.meaning().template.render(&fields)).unwrap_or_default();
    let embedding = if text == document.text { searcher.embedding(&found).inspect_err(warn).ok() } else { None };
    Ok(Existing::Other(embedding.map(Cow::into_owned)))
}

/// Runs work that waits for the disk or takes long away from the threads that serve HTTP.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PipelineError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| PipelineError::WorkerLost)
}
