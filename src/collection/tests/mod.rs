//! Collections on their own: no encoder, no HTTP.
//!
//! | file | question |
//! |---|---|
//! | `damage.rs` | what is served when any file of a collection is damaged |
//! | `facets.rs` | what does counting values cost |
//! | `faults.rs` | what is left when any step of the disk fails, or is the last before a crash |
//! | `model.rs` | does a long random life give what a plain map gives |
//! | `schedules.rs` | does any order of concurrent steps mix epochs or lose a write |

mod damage;
mod facets;
mod faults;
mod model;
mod schedules;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::*;
use kindred_core::Progress;
use kindred_core::domain::{Choice, CollectionDefinition, Document, DocumentId, Embedding, GenerationId, Precondition};
use kindred_core::error::ErrorKind;

const DIMS: usize = 8;

fn name() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

/// A collection whose embeddings are of this model.
fn description(model: &str) -> Description {
    let fields =
        json!({"title": {"type": "text"}, "kind": {"type": "keyword", "index": true}, "expires_at": {"type": "time", "index": true}});
    let definition =
        CollectionDefinition { template: "{title}".into(), fields: serde_json::from_value(fields).unwrap(), ..Default::default() };
    Description { definition, model: ModelIdentity { name: model.into(), fingerprint: model.into(), dims: DIMS, folder: None } }
}

fn options(durability: Durability) -> OpenOptions {
    OpenOptions { access: Access::Rebuild, durability, wal: WalSettings { rotate_bytes: 2_000 }, clock: Clock::default() }
}

fn params() -> BuildParams {
    BuildParams { threads: 1, ..BuildParams::default() }
}

/// What a model makes of a text: any two models, or texts, give something else. Texts have one to three chunks, by their length.
fn embed(model: &str, text: &str) -> Vec<f32> {
    (0..=text.len() % 3).flat_map(|chunk| embed_chunk(model, &format!("{chunk} of {text}"))).collect()
}

fn embed_chunk(model: &str, text: &str) -> Vec<f32> {
    let mut choice = Choice::new(&format!("{model}: {text}"), 1);
    let numbers = (0..DIMS).map(|_| choice.below(2_001) as f32 - 1_000.5).collect();
    Embedding::new(numbers, DIMS).unwrap().into_vec()
}

/// A document's fields as JSON, checked as users' are.
fn upsert(model: &str, id: &str, fields: &Json, condition: Precondition) -> Change {
    let meaning = Meaning::of(&name(), &description(model).definition).unwrap();
    let id = DocumentId::new(id).unwrap();
    let document =
        Document::from_fields(id.clone(), fields.as_object().unwrap().clone(), &meaning.schema, &meaning.template, 1_000).unwrap();
    let text_hash = document.text_hash();
    let embedding = embed(model, &document.text);
    let document = StoredDocument { fields: fields.to_string(), attributes: document.attributes, embedding, text_hash };
    Change::Upsert { id, document, condition }
}

fn delete(id: &str) -> Change {
    Change::Delete { id: DocumentId::new(id).unwrap(), condition: Precondition::None }
}

fn apply(collection: &Collection, changes: Vec<Change>) -> Result<Vec<Applied>, CollectionError> {
    Ok(collection.apply(Changes::checked_in(&collection.searcher(), changes))?.0)
}

/// Builds a generation, embedded by this model, and activates it.
fn rebuild(collection: &Collection, model: &str) -> Result<(), CollectionError> {
    let pinned = collection.searcher();
    let mut contents = pinned.contents()?;
    if contents.description.model.fingerprint != model {
        contents.description = description(model);
        let embeddings: Vec<Vec<f32>> = contents.fields.iter().map(|fields| embed(model, &title(fields))).collect();
        contents.n_chunks = embeddings.iter().map(|chunks| (chunks.len() / DIMS) as u32).collect();
        contents.vectors = embeddings.concat();
    }
    let id = collection.build(&contents, &pinned, &params(), &Progress::hidden())?;
    activate(collection, id)
}

fn activate(collection: &Collection, id: GenerationId) -> Result<(), CollectionError> {
    collection.activate(id, renew)
}

/// Brings documents into the epoch of a description, as the pipeline does: attributes are read again, other models embed again.
fn renew(description: &Description, foreign: &[ForeignDocument]) -> Result<Vec<StoredDocument>, CollectionError> {
    let meaning = Meaning::of(&name(), &description.definition)?;
    let renewed = |foreign: &ForeignDocument| {
        let fields: Json = serde_json::from_str(&foreign.document.fields).unwrap();
        let (id, fields) = (foreign.id.clone(), fields.as_object().unwrap().clone());
        let document = Document::from_fields(id, fields, &meaning.schema, &meaning.template, 1_000).unwrap();
        let embedding = embed(&description.model.name, &document.text);
        StoredDocument { attributes: document.attributes, embedding, ..foreign.document.clone() }
    };
    Ok(foreign.iter().map(renewed).collect())
}

fn title(fields: &str) -> String {
    serde_json::from_str::<Json>(fields).unwrap()["title"].as_str().unwrap().to_owned()
}

/// All documents of a searcher: fields by id. Checks that each has the embedding that the collection's model makes of it.
fn state(searcher: &Searcher) -> BTreeMap<String, String> {
    let contents = searcher.contents().unwrap();
    let model = &contents.description.model.name;
    let mut vectors = contents.vectors.as_slice();
    for (fields, &n_chunks) in contents.fields.iter().zip(&contents.n_chunks) {
        let (chunks, rest) = vectors.split_at(n_chunks as usize * DIMS);
        vectors = rest;
        let expected = embed(model, &title(fields));
        assert_eq!(chunks.len(), expected.len(), "{fields}");
        assert!(chunks.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2e-3), "{fields} has not the embedding of model {model}");
    }
    assert!(vectors.is_empty(), "every vector is of a document");
    let ids = contents.ids.iter().map(ToString::to_string);
    let state: BTreeMap<String, String> = ids.zip(contents.fields).collect();
    assert_eq!(state.len(), contents.ids.len(), "no document is there twice");
    assert_eq!(state.len() as u64, searcher.n_documents());
    state
}

fn create_and_open(dir: &Path, durability: Durability) -> Result<Collection, CollectionError> {
    Collection::create(dir, &description("one"))?;
    Collection::open(&name(), dir, &description("one"), &options(durability))
}
