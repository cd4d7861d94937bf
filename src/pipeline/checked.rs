//! The items of one attempt to write: parsed, checked, and compared with what is stored, all in the epoch of one searcher.
//!
//! An attempt can fail because the epoch or a document changed under it. The next one starts over from the items.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;

use super::PipelineError;
use super::write::{Item, ItemError, Outcome};
use crate::collection::{Applied, Change, CollectionError, Searcher, StoredDocument};
use crate::telemetry::metrics;
use kindred_core::domain::{Document, DocumentId, Embedding, Precondition, SeqNo, TextHash};
use kindred_core::error::ErrorKind;

/// An item to check, with its position in the request.
pub(super) type Unchecked = (usize, Result<Source, ItemError>);

/// What a change is made of, in any epoch.
pub(super) enum Source {
    Put(Json),
    /// Merge patches of the stored document, in their order.
    Patch(Vec<Json>),
    Delete(DocumentId),
}

impl Source {
    /// Returns the id as it was sent, if there is one.
    fn id(&self) -> Option<String> {
        let json = match self {
            Self::Put(json) => json,
            Self::Patch(patches) => patches.first()?,
            Self::Delete(id) => return Some(id.to_string()),
        };
        json.get("id").map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned))
    }
}

impl From<Item> for Source {
    fn from(item: Item) -> Self {
        match item {
            Item::Put(json) => Self::Put(json),
            Item::Merge(patch) => Self::Patch(vec![patch]),
            Item::Delete(id) => Self::Delete(id),
        }
    }
}

/// A change that may be written.
pub(super) struct Accepted {
    id: DocumentId,
    /// `None`: to be deleted.
    pub document: Option<ToStore>,
    condition: Precondition,
    patched: Option<Patched>,
}

/// How a document was made of a stored one.
#[derive(Clone)]
struct Patched {
    /// The change that wrote the stored document.
    seqno: SeqNo,
    patches: Vec<Json>,
}

/// A document that may be written.
pub(super) struct ToStore {
    fields: String,
    pub document: Document,
    pub hash: TextHash,
    /// Given, or that of the same text.
    pub embedding: Option<Vec<f32>>,
}

/// What all items of a request have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckOptions {
    pub condition: Precondition,
    pub max_text_bytes: usize,
}

/// The changes of this attempt, and an outcome for each item that needs no more attempts.
pub(super) struct Checked {
    options: CheckOptions,
    /// By position of the item. No two are of the same document.
    accepted: BTreeMap<usize, Accepted>,
    outcomes: Vec<Option<Outcome>>,
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
                    embedding: embedding.clone().expect("every document that may be written has been embedded"),
                    text_hash: *hash,
                },
            },
        }
    }

    /// Returns what the change was made of, to be checked again.
    fn into_source(self) -> Source {
        match (self.patched, self.document) {
            (Some(Patched { patches, .. }), _) => Source::Patch(patches),
            (None, Some(document)) => Source::Put(document.document.into_json()),
            (None, None) => Source::Delete(self.id),
        }
    }
}

impl Checked {
    /// No item has been checked yet.
    pub fn new(n_items: usize, options: CheckOptions) -> Self {
        Self { options, accepted: BTreeMap::new(), outcomes: vec![None; n_items] }
    }

    /// Checks items against a searcher, in their order. Of several items with one id, a patch applies to the earlier ones, and any other
    /// replaces them: one document is written.
    ///
    /// # Errors
    /// [`PipelineError`] when nothing can be written. The error of a single item is its outcome.
    pub fn check(&mut self, searcher: &Searcher, items: Vec<Unchecked>) -> Result<(), PipelineError> {
        let mut by_id: HashMap<DocumentId, usize> = HashMap::new();
        for (position, source) in items {
            let (id, parsed) = match source {
                Ok(source) => (source.id(), self.parse(searcher, &by_id, source)?),
                Err(error) => (None, Err(error)),
            };
            let parsed = match parsed {
                Ok(parsed) => parsed,
                Err(error) => {
                    self.outcomes[position] = Some(Outcome::Refused { id, error });
                    continue;
                }
            };
            if let Some(earlier) = by_id.insert(parsed.id.clone(), position)
                && self.accepted.remove(&earlier).is_some()
            {
                self.outcomes[earlier] = Some(Outcome::Superseded(parsed.id.clone()));
            }
            self.accept(searcher, position, parsed)?;
        }
        Ok(())
    }

    /// Checks that no item was refused.
    ///
    /// # Errors
    /// [`PipelineError::ItemsRefused`] names those that were.
    pub fn all_accepted(&self) -> Result<(), PipelineError> {
        let refused = self.outcomes.iter().enumerate().filter_map(|(position, outcome)| match outcome {
            Some(Outcome::Refused { error, .. }) => Some((position, error.clone())),
            _ => None,
        });
        let items: Vec<(usize, ItemError)> = refused.collect();
        if items.is_empty() { Ok(()) } else { Err(PipelineError::ItemsRefused { items }) }
    }

    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }

    /// Returns the documents that may be written.
    pub fn documents_mut(&mut self) -> impl Iterator<Item = &mut ToStore> {
        self.accepted.values_mut().filter_map(|accepted| accepted.document.as_mut())
    }

    /// Returns the changes of this attempt, in the order of the items.
    pub fn changes(&self) -> Vec<Change> {
        self.accepted.values().map(Accepted::change).collect()
    }

    /// Notes the outcomes of [`Self::changes`]. Returns the items that are worth another attempt, if `may_repeat`: patches whose documents
    /// were changed meanwhile.
    pub fn settle(&mut self, applied: Vec<Applied>, may_repeat: bool) -> Vec<Unchecked> {
        // A caller who set a condition wants to learn that it does not hold.
        let may_repeat = may_repeat && self.options.condition == Precondition::None;
        let mut repeated = Vec::new();
        for ((position, accepted), applied) in std::mem::take(&mut self.accepted).into_iter().zip(applied) {
            let id = accepted.id.clone();
            self.outcomes[position] = Some(match applied {
                Applied::Created(seqno) => Outcome::Created(id, seqno),
                Applied::Updated(seqno) => Outcome::Updated(id, seqno),
                Applied::Deleted(seqno) => Outcome::Deleted(id, seqno),
                Applied::NotFound => Outcome::NotFound(id),
                Applied::Conflict(_) if may_repeat && accepted.patched.is_some() => {
                    repeated.push((position, Ok(accepted.into_source())));
                    continue;
                }
                Applied::Conflict(actual) => Outcome::Refused { id: Some(id.to_string()), error: conflict(accepted.condition, actual) },
            });
        }
        repeated
    }

    /// Returns all items of this attempt, so that the next one can check them in another epoch.
    pub fn take_items(&mut self) -> Vec<Unchecked> {
        let accepted = std::mem::take(&mut self.accepted);
        accepted.into_iter().map(|(position, accepted)| (position, Ok(accepted.into_source()))).collect()
    }

    /// Returns the outcome of each item.
    pub fn into_outcomes(self) -> Vec<Outcome> {
        self.outcomes.into_iter().map(|outcome| outcome.expect("every item was refused or written")).collect()
    }

    /// Parses an item; the inner error is about that item alone. A patch applies to the earlier item with its id, or to the stored document.
    fn parse(
        &self,
        searcher: &Searcher,
        by_id: &HashMap<DocumentId, usize>,
        source: Source,
    ) -> Result<Result<Parsed, ItemError>, PipelineError> {
        let patches = match source {
            Source::Delete(id) => return Ok(Ok(Parsed { id, document: None, patched: None })),
            Source::Put(json) => return Ok(self.parse_document(searcher, json, None, None)),
            Source::Patch(patches) => patches,
        };
        let first = patches.first().expect("a patch is made of one JSON object or of several");
        let id = match Document::id_of(first) {
            Ok(id) => id,
            Err(e) => return Ok(Err(e.into())),
        };
        let earlier = by_id.get(&id).and_then(|earlier| self.accepted.get(earlier));
        let base = match earlier {
            Some(earlier) => earlier.patchable(),
            None => stored(searcher, &id)?,
        };
        let Some(Base { mut json, mut patched, kept }) = base else { return Ok(Err(missing(&id))) };
        if let Some(patched) = &mut patched {
            patched.patches.extend(patches.iter().cloned());
        }
        for patch in patches {
            merge(&mut json, patch);
        }
        Ok(self.parse_document(searcher, json, kept, patched))
    }

    fn parse_document(&self, searcher: &Searcher, json: Json, kept: Option<Kept>, patched: Option<Patched>) -> Result<Parsed, ItemError> {
        let meaning = searcher.meaning();
        let mut document = Document::parse(json, &meaning.schema, &meaning.template, self.options.max_text_bytes)?;
        // A given embedding stays with its document as long as no other is given and the text is what it was.
        let kept = kept.filter(|kept| document.embedding.is_none() && kept.text == document.text);
        let hash_of_kept = kept.as_ref().map(|kept| kept.hash);
        if let Some(given) = document.embedding.take().or(kept.map(|kept| kept.embedding)) {
            let embedding = Embedding::new(given, searcher.description().model.dims);
            let in_field = |e: kindred_core::domain::EmbeddingError| ItemError {
                kind: e.kind(),
                message: e.to_string(),
                field: Some("embedding".to_owned()),
            };
            document.embedding = Some(embedding.map_err(in_field)?.into_vec());
        }
        let hash = hash_of_kept.unwrap_or_else(|| document.text_hash());
        Ok(Parsed { id: document.id.clone(), document: Some((document, hash)), patched })
    }

    /// Compares an item with the stored document of the same id: an equal document is not written, an equal text is not embedded.
    fn accept(&mut self, searcher: &Searcher, position: usize, parsed: Parsed) -> Result<(), PipelineError> {
        let Parsed { id, document, patched } = parsed;
        let condition = match (self.options.condition, &patched) {
            (Precondition::None, Some(patched)) => Precondition::IfSeqno(patched.seqno),
            (condition, _) => condition,
        };
        let Some((document, hash)) = document else {
            self.accepted.insert(position, Accepted { id, document: None, condition, patched });
            return Ok(());
        };
        let fields = Json::Object(document.fields.clone()).to_string();
        let mut embedding = document.embedding.clone();
        let was_given = embedding.is_some();
        if let Some(found) = searcher.get(&id)? {
            // An unreadable stored document is replaced.
            let warn = |e: &CollectionError| {
                tracing::warn!(id = id.as_str(), error = %e, "a stored document cannot be read and is replaced");
            };
            let is_same_text = searcher.text_hash(&found).inspect_err(warn).is_ok_and(|stored| stored == hash);
            let is_same = is_same_text && searcher.fields(&found).inspect_err(warn).is_ok_and(|stored| stored == fields);
            let seqno = searcher.seqno_of(&found)?;
            // The writer refuses a condition that does not hold, so that it must see the change.
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
        let document = Some(ToStore { fields, document, hash, embedding });
        self.accepted.insert(position, Accepted { id, document, condition, patched });
        Ok(())
    }
}

/// An item that was parsed.
struct Parsed {
    id: DocumentId,
    /// With the hash of the source of its embedding; `None`: to be deleted.
    document: Option<(Document, TextHash)>,
    patched: Option<Patched>,
}

/// What a patch is applied to.
struct Base {
    /// With the id.
    json: Json,
    patched: Option<Patched>,
    kept: Option<Kept>,
}

/// A given embedding, which stays with its text.
struct Kept {
    text: String,
    embedding: Vec<f32>,
    hash: TextHash,
}

impl Accepted {
    /// Returns what a later patch of the same request applies to, `None` if it deletes the document.
    fn patchable(&self) -> Option<Base> {
        let ToStore { document, hash, .. } = self.document.as_ref()?;
        let kept = document.embedding.clone().map(|embedding| Kept { text: document.text.clone(), embedding, hash: *hash });
        let json = Document { embedding: None, ..document.clone() }.into_json();
        Some(Base { json, patched: self.patched.clone(), kept })
    }
}

/// Returns a stored document as a patch applies to it.
fn stored(searcher: &Searcher, id: &DocumentId) -> Result<Option<Base>, PipelineError> {
    let Some(found) = searcher.get(id)? else { return Ok(None) };
    let unreadable = |e: serde_json::Error| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() };
    let mut fields: serde_json::Map<String, Json> = serde_json::from_str(searcher.fields(&found)?).map_err(unreadable)?;
    let hash = searcher.text_hash(&found)?;
    let mut kept = None;
    if hash.is_given() {
        let text = searcher.meaning().template.render(&fields);
        let embedding = Embedding::mean(&searcher.embeddings(&found)?, searcher.description().model.dims)?.into_vec();
        kept = Some(Kept { text, embedding, hash });
    }
    fields.insert("id".to_owned(), Json::String(id.to_string()));
    let patched = Patched { seqno: searcher.seqno_of(&found)?, patches: Vec::new() };
    Ok(Some(Base { json: Json::Object(fields), patched: Some(patched), kept }))
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
