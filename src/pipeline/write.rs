//! WRITE: documents → checked → embedded → durable and searchable.
//!
//! What a user can get wrong is refused item by item before anything is embedded. What is left is made durable as a whole or not
//! at all. A text is embedded once: a document whose text is unchanged keeps its embedding, equal texts share one.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{Encoders, Limits, PipelineError, RebuildPipeline};
use crate::collection::{Applied, Change, Changes, Collection, CollectionError, Collections, FoundDocument, Searcher, StoredDocument};
use crate::domain::{
    CollectionName, Document, DocumentError, DocumentId, Embedding, FeedPosition, Filter, Precondition, Refresh, SeqNo, TextHash,
};
use crate::error::ErrorKind;
use crate::telemetry::{Progress, metrics};

/// Texts that are embedded between two looks at whether the work is still wanted.
const CHUNK: usize = 256;
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

/// An item that may be written.
struct Accepted {
    position: usize,
    id: DocumentId,
    /// `None`: to be deleted.
    document: Option<ToStore>,
    condition: Precondition,
    /// The patch, to be tried again should the document change under it.
    patch: Option<Json>,
}

struct ToStore {
    fields: String,
    document: Document,
    hash: TextHash,
    /// Given, or that of the same text.
    embedding: Option<Vec<f32>>,
}

/// What may be written, and an outcome for each item that is settled already.
struct Checked {
    accepted: Vec<Accepted>,
    outcomes: Vec<Option<Outcome>>,
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
        let mut checked = blocking(move || Checked::of(&pinned.searcher(), items, condition, max_text_bytes)).await??;
        if whole {
            checked.all_accepted()?;
        }
        let mut report = WriteReport { outcomes: Vec::new(), seqno: collection.searcher().seqno(), n_encoded: 0 };
        for attempt in 1.. {
            if checked.accepted.is_empty() && positions.is_empty() {
                break;
            }
            let searcher = collection.searcher();
            report.n_encoded += self.embed(&searcher, &mut checked.accepted, progress).await?;
            let changes = Changes {
                changes: checked.accepted.iter().map(Accepted::change).collect(),
                model: Some(searcher.tag()),
                positions: positions.clone(),
                refresh,
            };
            let writer = Arc::clone(&collection);
            let applied = blocking(move || writer.apply(changes)).await?;
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
        let description = searcher.description();
        let prompt = &description.definition.document_prompt;
        let (mut texts, mut by_hash) = (Vec::new(), HashMap::new());
        let mut n_missing = 0;
        for item in accepted.iter().filter_map(|item| item.document.as_ref()).filter(|item| item.embedding.is_none()) {
            n_missing += 1;
            by_hash.entry(item.hash).or_insert_with(|| {
                texts.push(format!("{prompt}{}", item.document.text));
                texts.len() - 1
            });
        }
        let n_texts = texts.len();
        if n_texts == 0 {
            return Ok(0);
        }
        let encoder = self.encoders.of(description)?;
        let mut embeddings: Vec<Embedding> = Vec::with_capacity(n_texts);
        let mut texts = texts.into_iter().peekable();
        while texts.peek().is_some() {
            if progress.is_cancelled() {
                return Err(PipelineError::Cancelled { kept: "nothing of these was written" });
            }
            let (encoder, chunk) = (Arc::clone(&encoder), texts.by_ref().take(CHUNK).collect());
            let encoded = blocking(move || encoder.encode_blocking(chunk)).await??;
            progress.advance(encoded.embeddings.len() as u64);
            embeddings.extend(encoded.embeddings);
        }
        for item in accepted.iter_mut().filter_map(|item| item.document.as_mut()).filter(|item| item.embedding.is_none()) {
            item.embedding = Some(embeddings[by_hash[&item.hash]].as_slice().to_vec());
        }
        metrics::texts_encoded(n_texts);
        metrics::encodes_saved("twice", n_missing - n_texts);
        Ok(n_texts)
    }
}

impl Accepted {
    fn change(&self) -> Change {
        let (id, condition) = (self.id.clone(), self.condition);
        match &self.document {
            None => Change::Delete { id, condition },
            Some(ToStore { fields, document, hash, embedding }) => Change::Upsert {
                id,
                condition,
                document: StoredDocument {
                    fields: fields.clone(),
                    attributes: document.attributes.clone(),
                    embedding: embedding.clone().expect("it was made or was there"),
                    text_hash: Some(*hash),
                },
            },
        }
    }
}

impl Checked {
    /// Splits a request into what may be written and what is settled already.
    fn of(searcher: &Searcher, items: Vec<Incoming>, condition: Precondition, max_text_bytes: usize) -> Result<Self, PipelineError> {
        let mut checked = Self { accepted: Vec::with_capacity(items.len()), outcomes: vec![None; items.len()] };
        let mut seen: HashMap<DocumentId, usize> = HashMap::new();
        for (position, item) in items.into_iter().enumerate() {
            let id = match &item {
                Ok(Item::Put(json) | Item::Merge(json)) => {
                    json.get("id").map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned))
                }
                Ok(Item::Delete(id)) => Some(id.to_string()),
                Err(_) => None,
            };
            let parsed = match item {
                Ok(item) => parse(searcher, item, max_text_bytes)?,
                Err(error) => Err(error),
            };
            let parsed = parsed.and_then(|parsed| match seen.get(&parsed.id) {
                None => Ok(parsed),
                Some(first) => Err(twice(&parsed.id, *first)),
            });
            match parsed {
                Err(error) => checked.outcomes[position] = Some(Outcome::Refused { id, error }),
                Ok(parsed) => {
                    seen.insert(parsed.id.clone(), position);
                    checked.accept(searcher, position, parsed, condition)?;
                }
            }
        }
        Ok(checked)
    }

    /// # Errors
    /// [`PipelineError::ItemsRefused`] when that is not so.
    fn all_accepted(&self) -> Result<(), PipelineError> {
        let refused = self.outcomes.iter().enumerate().filter_map(|(position, outcome)| match outcome {
            Some(Outcome::Refused { error, .. }) => Some((position, error.clone())),
            _ => None,
        });
        let items: Vec<(usize, ItemError)> = refused.collect();
        if items.is_empty() { Ok(()) } else { Err(PipelineError::ItemsRefused { items }) }
    }

    /// Looks at what is stored under the same id: the same document need not be written, the same text not be embedded.
    fn accept(&mut self, searcher: &Searcher, position: usize, parsed: Parsed, condition: Precondition) -> Result<(), PipelineError> {
        let Parsed { id, document, hash, seen_seqno, patch } = parsed;
        // Who set a condition wants to know when it does not hold: such a patch is not tried again.
        let patch = patch.filter(|_| condition == Precondition::None);
        let condition = match (condition, seen_seqno) {
            (Precondition::None, Some(seqno)) => Precondition::IfSeqno(seqno),
            (condition, _) => condition,
        };
        let Some(document) = document else {
            self.accepted.push(Accepted { position, id, document: None, condition, patch });
            return Ok(());
        };
        let fields = Json::Object(document.fields.clone()).to_string();
        let mut embedding = document.embedding.clone();
        let was_given = embedding.is_some();
        if let Some(found) = searcher.get(&id)? {
            let stored = Stored::read(searcher, &found, &id);
            let is_same_text = stored.hash == Some(hash);
            let is_same = stored.fields.as_deref() == Some(&fields) && is_same_text;
            let seqno = searcher.seqno_of(&found)?;
            // A condition that does not hold is refused by the writer, whatever the document would have become.
            if is_same && [Precondition::None, Precondition::IfSeqno(seqno)].contains(&condition) {
                metrics::encodes_saved("unchanged", 1);
                self.outcomes[position] = Some(Outcome::Unchanged(id, seqno));
                return Ok(());
            }
            if is_same_text && !was_given && stored.embedding.is_some() {
                metrics::encodes_saved("same_text", 1);
                embedding = stored.embedding;
            }
        }
        if was_given {
            metrics::encodes_saved("given", 1);
        }
        self.accepted.push(Accepted { position, id, document: Some(ToStore { fields, document, hash, embedding }), condition, patch });
        Ok(())
    }

    /// Notes what became of all that was accepted. Patches whose documents changed under them stay, if they may be tried again.
    fn settle(&mut self, applied: Vec<Applied>, may_try_again: bool) {
        let mut again = Vec::new();
        for (item, applied) in self.accepted.drain(..).zip(applied) {
            let id = item.id.clone();
            self.outcomes[item.position] = Some(match applied {
                Applied::Created(seqno) => Outcome::Created(id, seqno),
                Applied::Updated(seqno) => Outcome::Updated(id, seqno),
                Applied::Deleted(seqno) => Outcome::Deleted(id, seqno),
                Applied::NotFound => Outcome::NotFound(id),
                Applied::Conflict(actual) => {
                    let error = conflict(item.condition, actual);
                    if item.patch.is_some() && may_try_again {
                        again.push(item);
                        continue;
                    }
                    Outcome::Refused { id: Some(id.to_string()), error }
                }
            });
        }
        self.accepted = again;
    }

    /// Patches documents as they are by now.
    fn patch_again(mut self, searcher: &Searcher, max_text_bytes: usize) -> Result<Self, PipelineError> {
        let (patches, others) = std::mem::take(&mut self.accepted).into_iter().partition(|item: &Accepted| item.patch.is_some());
        self.accepted = others;
        for Accepted { position, id, patch, .. } in patches {
            let patch = patch.expect("it was sorted out by having one");
            match parse(searcher, Item::Merge(patch), max_text_bytes)? {
                Ok(parsed) => self.accept(searcher, position, parsed, Precondition::None)?,
                Err(error) => self.outcomes[position] = Some(Outcome::Refused { id: Some(id.to_string()), error }),
            }
        }
        Ok(self)
    }

    /// What is stored is of another model than it was.
    fn forget_embeddings(&mut self) {
        for item in self.accepted.iter_mut().filter_map(|item| item.document.as_mut()) {
            item.embedding = item.document.embedding.clone();
        }
    }
}

/// An item that can be read.
struct Parsed {
    id: DocumentId,
    /// `None`: to be deleted.
    document: Option<Document>,
    /// Of what its embedding is made of.
    hash: TextHash,
    /// Of the document that was patched.
    seen_seqno: Option<SeqNo>,
    patch: Option<Json>,
}

/// Reads an item; the inner error is about that item alone.
fn parse(searcher: &Searcher, item: Item, max_text_bytes: usize) -> Result<Result<Parsed, ItemError>, PipelineError> {
    let mut kept = None;
    let (json, seen_seqno, patch) = match item {
        Item::Delete(id) => return Ok(Ok(Parsed { id, document: None, hash: TextHash::of(""), seen_seqno: None, patch: None })),
        Item::Put(json) => (json, None, None),
        Item::Merge(patch) => {
            let id = match Document::id_of(&patch) {
                Ok(id) => id,
                Err(e) => return Ok(Err(e.into())),
            };
            let Some(found) = searcher.get(&id)? else { return Ok(Err(missing(&id))) };
            let fields = searcher.fields(&found)?;
            let mut json: Json =
                serde_json::from_str(fields).map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
            let text = json.as_object().map(|fields| searcher.meaning().template.render(fields)).unwrap_or_default();
            if let Some(hash) = searcher.text_hash(&found)?.filter(|hash| *hash != TextHash::of(&text)) {
                kept = Some((text, searcher.embedding(&found)?.into_owned(), hash));
            }
            merge(&mut json, patch.clone());
            (json, Some(searcher.seqno_of(&found)?), Some(patch))
        }
    };
    let (meaning, dims) = (searcher.meaning(), searcher.description().model.dims);
    let mut document = match Document::parse(json, &meaning.schema, &meaning.template, max_text_bytes) {
        Ok(document) => document,
        Err(e) => return Ok(Err(e.into())),
    };
    // A given embedding stays with its document as long as no other is given and the text is what it was.
    let kept = kept.filter(|(text, ..)| document.embedding.is_none() && *text == document.text);
    let hash_of_kept = kept.as_ref().map(|(.., hash)| *hash);
    document.embedding = document.embedding.or(kept.map(|(_, embedding, _)| embedding));
    let given = document.embedding.clone().map(|numbers| Embedding::new(numbers, dims)).transpose();
    let embedding = match given {
        Ok(given) => given.map(Embedding::into_vec),
        Err(e) => return Ok(Err(ItemError { kind: e.kind(), message: e.to_string(), field: Some("embedding".to_owned()) })),
    };
    let (id, document) = (document.id.clone(), Document { embedding, ..document });
    let hash = hash_of_kept.unwrap_or_else(|| document.text_hash());
    Ok(Ok(Parsed { id, document: Some(document), hash, seen_seqno, patch }))
}

/// RFC 7396: null removes, objects are merged, everything else replaces.
fn merge(into: &mut Json, patch: Json) {
    let Json::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = Json::Object(serde_json::Map::new());
    }
    let into = into.as_object_mut().expect("it was made one above");
    for (key, value) in patch {
        if value.is_null() {
            into.shift_remove(&key);
        } else {
            merge(into.entry(key).or_insert(Json::Null), value);
        }
    }
}

/// What is stored of a document, as far as it can be read: what cannot is replaced.
struct Stored {
    fields: Option<String>,
    hash: Option<TextHash>,
    embedding: Option<Vec<f32>>,
}

impl Stored {
    fn read(searcher: &Searcher, found: &FoundDocument, id: &DocumentId) -> Self {
        let warn = |e: &CollectionError| {
            tracing::warn!(id = id.as_str(), error = %e, "what is stored of a document cannot be read and is replaced");
        };
        Self {
            fields: searcher.fields(found).inspect_err(warn).ok().map(str::to_owned),
            hash: searcher.text_hash(found).inspect_err(warn).ok().flatten(),
            embedding: searcher.embedding(found).inspect_err(warn).ok().map(std::borrow::Cow::into_owned),
        }
    }
}

fn twice(id: &DocumentId, first: usize) -> ItemError {
    let message = format!("the id {:?} stands twice in this batch: item {} has it already, and that one was taken", id.as_str(), first + 1);
    ItemError { kind: ErrorKind::Invalid, message, field: Some("id".to_owned()) }
}

fn missing(id: &DocumentId) -> ItemError {
    let message = format!("there is no document {:?} to update: PUT it whole", id.as_str());
    ItemError { kind: ErrorKind::NotFound, message, field: Some("id".to_owned()) }
}

fn conflict(condition: Precondition, actual: Option<SeqNo>) -> ItemError {
    let message = match (condition, actual) {
        (Precondition::CreateOnly, Some(actual)) => format!("there is a document with this id already, last changed by {actual}"),
        (_, Some(actual)) => format!("the document was last changed by {actual}: read it again and decide anew"),
        (_, None) => "there is no such document any more".to_owned(),
    };
    ItemError { kind: ErrorKind::Conflict, message, field: None }
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
    tokio::task::spawn_blocking(work).await.map_err(|_| PipelineError::WorkerLost)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The examples of RFC 7396.
    #[test]
    fn patches_merge() {
        for (document, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = document.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, expected, "{document} with {patch}");
        }
    }
}
