//! What there is: collections, their documents, the model, and whether all of it works.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Encoders, PipelineError, Tasks, listing};
use crate::collection::{Collection, Collections, ModelIdentity, Quantization, Searcher};
use kindred_core::domain::{CollectionDefinition, CollectionName, DocumentId};
use kindred_encoder::{Encoder, EncoderError, ModelInfo, QueryOptions};

/// A collection as its users see it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CollectionInfo {
    pub name: String,
    pub n_documents: u64,
    /// Embeddings of all documents, of replaced and deleted ones too until the next rebuild: more than documents where long texts have
    /// several.
    pub n_vectors: u64,
    /// Changed documents that are not in the generation yet; they are searched all the same.
    pub n_changes: u64,
    /// `none` before the first build.
    pub generation: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_created_at: Option<String>,
    /// The last durable change.
    pub seqno: u64,
    pub model: String,
    pub fingerprint: String,
    pub dims: usize,
    /// How exactly the generation stores vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// The generation's files on disk.
    pub files: Vec<FileInfo>,
    pub definition: CollectionDefinition,
}

/// How the collections are, in numbers alone: probes that need no key report them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Collections that are served.
    pub collections: usize,
    /// Collections that could not be opened.
    pub damaged: usize,
    /// Collections that take no writes until a restart, because their log could not be made durable.
    pub poisoned: usize,
}

/// A file of a generation.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FileInfo {
    pub name: String,
    pub size_bytes: u64,
}

/// A stored document.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct StoredDocument {
    #[schema(value_type = String)]
    pub id: DocumentId,
    /// The document's last change, for conditional writes.
    pub seqno: u64,
    #[schema(value_type = Object)]
    pub fields: Box<RawValue>,
    /// Its embedding, unit length, where that was asked for.
    #[serde(skip)]
    pub vector: Option<Vec<f32>>,
}

/// What stands in a collection's index.
#[derive(Debug)]
pub struct Embeddings {
    pub dims: usize,
    /// `[vectors × dims]`, row-major, unit length; a document has one, or one for each chunk of its text.
    pub vectors: Vec<f32>,
}

/// Knows the collections and the encoder.
#[derive(Debug)]
pub struct Catalog {
    encoders: Arc<Encoders>,
    collections: Arc<Collections>,
    tasks: Arc<Tasks>,
}

/// A collection that is not served.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct DamagedCollection {
    pub name: String,
    /// The damaged file, and what to do.
    pub reason: String,
}

impl Catalog {
    pub fn new(encoders: Arc<Encoders>, collections: Arc<Collections>, tasks: Arc<Tasks>) -> Self {
        Self { encoders, collections, tasks }
    }

    /// A collection as it is now, for those who look at it closely.
    ///
    /// # Errors
    /// An unknown collection.
    pub fn searcher(&self, name: &CollectionName) -> Result<Arc<Searcher>, PipelineError> {
        Ok(self.collections.get(name)?.searcher())
    }

    /// All collections by name.
    pub fn list(&self) -> Vec<CollectionInfo> {
        self.collections.all().iter().map(|c| describe(c)).collect()
    }

    /// Returns the collections that are not served because their files are damaged, and why.
    pub fn damaged(&self) -> Vec<DamagedCollection> {
        let damaged = self.collections.damaged().into_iter();
        damaged.map(|(name, reason)| DamagedCollection { name: name.to_string(), reason: reason.to_string() }).collect()
    }

    /// Whether there is a collection of that name, without describing it.
    ///
    /// # Errors
    /// [`PipelineError::Collection`] when there is none.
    pub fn require(&self, name: &CollectionName) -> Result<(), PipelineError> {
        self.collections.get(name)?;
        Ok(())
    }

    /// Counts the collections, and those that something is wrong with. Takes no lock that a write holds.
    pub fn health(&self) -> Health {
        let all = self.collections.all();
        let poisoned = all.iter().filter(|collection| collection.is_poisoned() == Some(true)).count();
        Health { collections: all.len(), damaged: self.collections.damaged().len(), poisoned }
    }

    /// One collection.
    ///
    /// # Errors
    /// [`PipelineError::Collection`] when there is none of that name.
    pub fn get(&self, name: &CollectionName) -> Result<CollectionInfo, PipelineError> {
        Ok(describe(&*self.collections.get(name)?))
    }

    /// Checks every byte of a collection's files.
    ///
    /// # Errors
    /// [`PipelineError::Collection`] names the file that is damaged, and where.
    pub fn verify(&self, name: &CollectionName) -> Result<(), PipelineError> {
        Ok(self.collections.get(name)?.searcher().verify()?)
    }

    /// Makes a collection. Returns whether it is new.
    ///
    /// # Errors
    /// [`PipelineError::Collection`] when the definition cannot be accepted or another one is there.
    pub fn put(&self, name: &CollectionName, definition: &CollectionDefinition) -> Result<bool, PipelineError> {
        Ok(self.collections.put(name, definition)?)
    }

    /// Deletes a collection and its documents; its tasks are cancelled. One that comes from the configuration is there again, empty.
    ///
    /// # Errors
    /// [`PipelineError::Collection`].
    pub fn delete(&self, name: &CollectionName) -> Result<(), PipelineError> {
        // A rebuild beneath everything else could take long, and deleting would wait for it.
        self.tasks.cancel_of(name);
        Ok(self.collections.delete(name)?)
    }

    /// A stored document.
    ///
    /// # Errors
    /// [`PipelineError::UnknownDocument`]; [`PipelineError::Collection`].
    pub fn document(&self, name: &CollectionName, id: &DocumentId) -> Result<StoredDocument, PipelineError> {
        let searcher = self.collections.get(name)?.searcher();
        let found = searcher.get(id)?.ok_or_else(|| PipelineError::UnknownDocument { collection: name.to_string(), id: id.to_string() })?;
        listing::stored(&searcher, id.clone(), &found, false)
    }

    /// The embeddings of all documents of a collection.
    ///
    /// # Errors
    /// [`PipelineError::Collection`] when there is none of that name.
    pub fn embeddings(&self, name: &CollectionName) -> Result<Embeddings, PipelineError> {
        let contents = self.collections.get(name)?.searcher().contents()?;
        Ok(Embeddings { dims: contents.description.model.dims, vectors: contents.vectors })
    }

    /// The loaded model and where it runs.
    pub fn model(&self) -> &ModelInfo {
        self.encoders.configured().info()
    }

    /// Returns what asks the model whether it works. It holds no collection.
    pub fn prober(&self) -> Prober {
        Prober(Arc::clone(self.encoders.configured()))
    }
}

/// Asks the model whether it works.
#[derive(Debug)]
pub struct Prober(Arc<Encoder>);

impl Prober {
    /// Asks the model for an embedding, as a query that nothing is kept of.
    ///
    /// # Errors
    /// [`EncoderError`] if it does not answer.
    pub async fn probe(&self) -> Result<(), EncoderError> {
        let options = QueryOptions { skip_cache: true, ..QueryOptions::default() };
        self.0.encode_query("", "ready?", options).await?;
        Ok(())
    }
}

fn describe(collection: &Collection) -> CollectionInfo {
    let searcher = collection.searcher();
    let description = searcher.description();
    let ModelIdentity { name: model, fingerprint, dims, folder: _ } = description.model.clone();
    CollectionInfo {
        name: collection.name().to_string(),
        n_documents: searcher.n_documents(),
        n_vectors: searcher.n_vectors(),
        n_changes: searcher.n_changes() as u64,
        generation: super::query::label(searcher.generation()),
        generation_created_at: searcher
            .generation_created_at_us()
            .and_then(|us| jiff::Timestamp::from_microsecond(us).ok())
            .map(|t| t.to_string()),
        seqno: searcher.seqno().0,
        model,
        fingerprint,
        dims,
        quantization: searcher.quantization(),
        files: searcher.files().into_iter().map(|(name, size_bytes)| FileInfo { name, size_bytes }).collect(),
        definition: description.definition.clone(),
    }
}
