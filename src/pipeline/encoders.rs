//! The models in use: the configured one, and those that collections were rebuilt with since.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::PipelineError;
use super::blocking::{Work, blocking};
use crate::collection::{Description, ModelIdentity};
use kindred_core::domain::CollectionDefinition;
use kindred_encoder::{Encoder, EncoderError, EncoderSettings};

/// Hands out encoders. A model is loaded when it is first asked for.
#[derive(Debug)]
pub struct Encoders {
    configured: Arc<Encoder>,
    settings: EncoderSettings,
    /// By the name of their folder, which lies beside that of the configured model.
    others: Mutex<BTreeMap<String, Arc<Encoder>>>,
}

impl Encoders {
    pub fn new(configured: Arc<Encoder>, settings: EncoderSettings) -> Self {
        Self { configured, settings, others: Mutex::default() }
    }

    /// The configured one.
    pub fn configured(&self) -> &Arc<Encoder> {
        &self.configured
    }

    /// Returns the encoder of a collection's embeddings. Loads its model, away from the threads that serve HTTP, if nobody has
    /// asked for it before.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub async fn get(self: &Arc<Self>, description: &Description) -> Result<Arc<Encoder>, PipelineError> {
        let is_loaded = description.model.folder.as_ref().is_none_or(|folder| self.lock().contains_key(folder));
        if is_loaded {
            return self.of(description);
        }
        let (encoders, description) = (Arc::clone(self), description.clone());
        blocking(Work::Read, move || encoders.of(&description)).await?
    }

    /// Returns the encoder of a collection's embeddings. Blocks for seconds if its model is not loaded yet.
    ///
    /// # Errors
    /// [`PipelineError::ModelGone`] if the model's folder contains another model than when the collection was embedded.
    pub fn of(&self, description: &Description) -> Result<Arc<Encoder>, PipelineError> {
        let encoder = self.load(description.model.folder.as_deref())?;
        if fingerprint(&encoder, &description.definition) == description.model.fingerprint {
            Ok(encoder)
        } else {
            Err(PipelineError::ModelGone { model: description.model.name.clone() })
        }
    }

    /// What a collection would be that is embedded with the configured model, or with that of a folder.
    ///
    /// # Errors
    /// [`EncoderError`] when the folder holds no model that works.
    pub fn identify(&self, definition: &CollectionDefinition, folder: Option<&str>) -> Result<ModelIdentity, EncoderError> {
        let encoder = self.load(folder)?;
        Ok(ModelIdentity {
            name: encoder.info().name.clone(),
            fingerprint: fingerprint(&encoder, definition),
            dims: encoder.info().dims,
            folder: folder.map(str::to_owned),
        })
    }

    /// Lets go of the models of other folders than these.
    pub fn keep(&self, folders: &[String]) {
        self.lock().retain(|folder, _| folders.contains(folder));
    }

    fn load(&self, folder: Option<&str>) -> Result<Arc<Encoder>, EncoderError> {
        let Some(folder) = folder else { return Ok(Arc::clone(&self.configured)) };
        if let Some(encoder) = self.lock().get(folder) {
            return Ok(Arc::clone(encoder));
        }
        // A name and no path: whoever may ask for a rebuild may not make the server read any file.
        if Path::new(folder).components().count() != 1 || folder.starts_with('.') {
            return Err(EncoderError::FolderName { folder: folder.to_owned() });
        }
        let model_dir = self.settings.model_dir.parent().unwrap_or(Path::new(".")).join(folder);
        // Not under the lock: others search with theirs meanwhile.
        let encoder = Arc::new(Encoder::load(&EncoderSettings { model_dir, ..self.settings.clone() })?);
        Ok(Arc::clone(self.lock().entry(folder.to_owned()).or_insert(encoder)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Encoder>>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fingerprint(encoder: &Encoder, definition: &CollectionDefinition) -> String {
    encoder.fingerprint(&definition.query_prompt, &definition.document_prompt)
}
