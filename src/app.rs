//! The composition root: settings → components → pipelines. The only place that constructs them.

use std::sync::Arc;

use crate::collection::{Access, CollectionError, Collections, IdentifyModel, ModelIdentity};
use crate::config::Settings;
use crate::domain::CollectionDefinition;
use crate::encoder::{Encoder, EncoderError};
use crate::error::ErrorKind;
use crate::http::{self, Router, Services};
use crate::pipeline::{Catalog, QueryPipeline, RebuildPipeline, WritePipeline};
use crate::telemetry;

/// Why the application could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    #[error(transparent)]
    Collection(#[from] CollectionError),
}

impl AppError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Encoder(e) => e.kind(),
            Self::Collection(e) => e.kind(),
        }
    }
}

/// Everything, ready to use.
#[derive(Debug)]
pub struct App {
    pub query: QueryPipeline,
    pub write: Arc<WritePipeline>,
    pub rebuild: Arc<RebuildPipeline>,
    pub catalog: Arc<Catalog>,
    max_body_bytes: usize,
}

impl App {
    /// Loads the model and opens the collections.
    ///
    /// # Errors
    /// [`AppError`] names the component and says what to do.
    pub fn open(settings: &Settings, access: Access) -> Result<Self, AppError> {
        let encoder = Arc::new(Encoder::load(&settings.encoder)?);
        Self::with_encoder(settings, access, encoder)
    }

    /// Opens the collections for a model that is loaded already.
    ///
    /// # Errors
    /// [`AppError::Collection`].
    pub fn with_encoder(settings: &Settings, access: Access, encoder: Arc<Encoder>) -> Result<Self, AppError> {
        telemetry::metrics::install();
        let configured = settings.collections.iter().map(|(name, c)| (name.clone(), c.definition())).collect();
        let profiles = settings.collections.iter().map(|(name, c)| (name.clone(), c.profiles.clone())).collect();
        let identify = identify_by(Arc::clone(&encoder));
        let collections = Arc::new(Collections::open(&settings.storage.data_dir, configured, identify, access)?);
        let (limits, after) = (settings.limits.clone(), settings.storage.rebuild_after_changes);
        let rebuild =
            Arc::new(RebuildPipeline::new(Arc::clone(&encoder), Arc::clone(&collections), settings.index.clone(), limits.clone(), after));
        let write = Arc::new(WritePipeline::new(Arc::clone(&encoder), Arc::clone(&collections), Arc::clone(&rebuild), limits.clone()));
        let query = QueryPipeline::new(Arc::clone(&encoder), Arc::clone(&collections), profiles, settings.search.clone(), limits);
        let catalog = Arc::new(Catalog::new(encoder, collections));
        Ok(Self { query, write, rebuild, catalog, max_body_bytes: settings.http.max_body_bytes })
    }

    /// The HTTP API over these components.
    pub fn into_router(self) -> Router {
        http::router(Services { query: self.query, write: self.write, catalog: self.catalog, max_body_bytes: self.max_body_bytes })
    }
}

/// A collection's embeddings are those of the loaded model with the collection's prompts.
fn identify_by(encoder: Arc<Encoder>) -> IdentifyModel {
    Arc::new(move |definition: &CollectionDefinition| ModelIdentity {
        name: encoder.info().name.clone(),
        fingerprint: encoder.fingerprint(&definition.query_prompt, &definition.document_prompt),
        dims: encoder.info().dims,
    })
}
