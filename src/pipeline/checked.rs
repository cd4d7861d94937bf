//! The items of a write: read, checked, held against what is there. What is left may be written; the rest is settled.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::PipelineError;
use super::write::{Incoming, Item, ItemError, Outcome};
use crate::collection::{Applied, Change, CollectionError, Searcher, StoredDocument};
use crate::telemetry::metrics;
use kindred_core::domain::{Document, DocumentId, Embedding, Precondition, SeqNo, TextHash};
use kindred_core::error::ErrorKind;

/// An item that may be written.
pub(super) struct Accepted {
    position: usize,
    id: DocumentId,
    /// `None`: to be deleted.
    pub document: Option<ToStore>,
    condition: Precondition,
    /// The patch, to be tried again should the document change under it.
    patch: Option<Json>,
}

pub(super) struct ToStore {
    fields: String,
    pub document: Document,
    pub hash: TextHash,
    /// Given, or that of the same text.
    pub embedding: Option<Vec<f32>>,
}

/// What may be written, and an outcome for each item that is settled already.
pub(super) struct Checked {
    pub accepted: Vec<Accepted>,
    pub outcomes: Vec<Option<Outcome>>,
}

impl Accepted {
    pub fn change(&self) -> Change {
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
    pub fn of(searcher: &Searcher, items: Vec<Incoming>, condition: Precondition, max_text_bytes: usize) -> Result<Self, PipelineError> {
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
    pub fn all_accepted(&self) -> Result<(), PipelineError> {
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
            // What cannot be read of it is replaced.
            let warn = |e: &CollectionError| {
                tracing::warn!(id = id.as_str(), error = %e, "what is stored of a document cannot be read and is replaced");
            };
            let is_same_text = searcher.text_hash(&found).inspect_err(warn).is_ok_and(|stored| stored == Some(hash));
            let is_same = is_same_text && searcher.fields(&found).inspect_err(warn).is_ok_and(|stored| stored == fields);
            let seqno = searcher.seqno_of(&found)?;
            // A condition that does not hold is refused by the writer, whatever the document would have become.
            if is_same && [Precondition::None, Precondition::IfSeqno(seqno)].contains(&condition) {
                metrics::encodes_saved("unchanged", 1);
                self.outcomes[position] = Some(Outcome::Unchanged(id, seqno));
                return Ok(());
            }
            if is_same_text
                && !was_given
                && let Ok(stored) = searcher.embeddings(&found).inspect_err(warn)
            {
                metrics::encodes_saved("same_text", 1);
                embedding = Some(stored.into_owned());
            }
        }
        if was_given {
            metrics::encodes_saved("given", 1);
        }
        self.accepted.push(Accepted { position, id, document: Some(ToStore { fields, document, hash, embedding }), condition, patch });
        Ok(())
    }

    /// Notes what became of all that was accepted. Patches whose documents changed under them stay, if they may be tried again.
    pub fn settle(&mut self, applied: Vec<Applied>, may_try_again: bool) {
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
    pub fn patch_again(mut self, searcher: &Searcher, max_text_bytes: usize) -> Result<Self, PipelineError> {
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
    pub fn forget_embeddings(&mut self) {
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
                let given = Embedding::mean(&searcher.embeddings(&found)?, searcher.description().model.dims)?;
                kept = Some((text, given.into_vec(), hash));
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
