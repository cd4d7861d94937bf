//! The composition root: settings → components → pipelines. The only place that constructs them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::collection::{Access, CollectionError, Collections, IdentifyModel, OpenOptions, WalSettings};
use crate::config::Settings;
use crate::http::{self, Keys, Probe, Router, Services};
use crate::ingest::kafka::{Feed, FeedStates};
use crate::pipeline::evaluate::EvaluationPipeline;
use crate::pipeline::{
    Catalog, EmbedPipeline, Encoders, Expirer, FitPipeline, PipelineError, ProfileCatalog, QueryPipeline, RebuildPipeline, RebuildSettings,
    RerankPipeline, SnapshotPipeline, Tasks, WritePipeline,
};
use crate::telemetry;
use kindred_core::domain::{Clock, CollectionDefinition};
use kindred_core::error::ErrorKind;
use kindred_encoder::{CrossEncoder, Encoder, EncoderError};

/// Why the application could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    #[error(transparent)]
    Collection(#[from] CollectionError),
    #[error(transparent)]
    Pipeline(Box<PipelineError>),
}

impl From<PipelineError> for AppError {
    fn from(e: PipelineError) -> Self {
        Self::Pipeline(Box::new(e))
    }
}

impl AppError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Encoder(e) => e.kind(),
            Self::Collection(e) => e.kind(),
            Self::Pipeline(e) => e.kind(),
        }
    }
}

/// Everything, ready to use.
#[derive(Debug)]
pub struct App {
    pub query: Arc<QueryPipeline>,
    pub evaluations: Arc<EvaluationPipeline>,
    pub embed: EmbedPipeline,
    pub fit: FitPipeline,
    pub rerank: Arc<RerankPipeline>,
    pub write: Arc<WritePipeline>,
    pub rebuild: Arc<RebuildPipeline>,
    pub snapshots: SnapshotPipeline,
    pub catalog: Arc<Catalog>,
    pub profiles: Arc<ProfileCatalog>,
    pub tasks: Arc<Tasks>,
    /// The time by which documents expire.
    pub clock: Clock,
    feed: Option<Feed>,
    feed_states: FeedStates,
    max_body_bytes: usize,
    cors_origins: Vec<String>,
    read_only: bool,
    allowed_hosts: Vec<String>,
    listen: IpAddr,
    mcp: bool,
    _expirer: Option<Expirer>,
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

    /// Opens the collections for a model that is loaded already; a cross-encoder is loaded here.
    ///
    /// # Errors
    /// [`AppError::Collection`]; [`AppError::Encoder`].
    pub fn with_encoder(settings: &Settings, access: Access, encoder: Arc<Encoder>) -> Result<Self, AppError> {
        telemetry::metrics::install();
        let configured = settings.collections.iter().map(|(name, c)| (name.clone(), c.definition())).collect();
        let profiles = settings.collections.iter().map(|(name, c)| (name.clone(), c.profiles.clone())).collect();
        let encoders = Arc::new(Encoders::new(encoder, settings.encoder.clone()));
        let clock = Clock::default();
        let options = OpenOptions {
            access,
            durability: settings.storage.durability,
            wal: WalSettings { rotate_bytes: settings.storage.rotate_log_bytes },
            clock: clock.clone(),
        };
        let collections = Arc::new(Collections::open(&settings.storage.data_dir, configured, identify_by(&encoders), options)?);
        let (limits, tasks) = (settings.limits.clone(), Arc::new(Tasks::default()));
        let rebuild_settings = RebuildSettings {
            params: settings.index.clone(),
            after_changes: settings.storage.rebuild_after_changes,
            background_threads: settings.storage.background_threads,
            ef_search: settings.search.ef_search,
        };
        let rebuild = Arc::new(RebuildPipeline::new(
            Arc::clone(&encoders),
            Arc::clone(&collections),
            Arc::clone(&tasks),
            rebuild_settings,
            limits.clone(),
        ));
        if access != Access::Read {
            rebuild.check()?;
        }
        let write = Arc::new(WritePipeline::new(Arc::clone(&encoders), Arc::clone(&collections), Arc::clone(&rebuild), limits.clone()));
        let fit = FitPipeline::new(Arc::clone(&encoders), Arc::clone(&collections));
        let embed = EmbedPipeline::new(Arc::clone(&encoders), limits.clone(), settings.encoder.max_queue);
        let of_pairs = &settings.cross_encoder;
        let cross_encoder = of_pairs.is_configured().then(|| CrossEncoder::load(of_pairs, &settings.encoder)).transpose()?;
        let rerank = Arc::new(RerankPipeline::new(cross_encoder.map(Arc::new), of_pairs.clone(), limits.clone()));
        let search = settings.search.clone();
        let profiles = Arc::new(ProfileCatalog::new(Arc::clone(&collections), profiles));
        let query =
            QueryPipeline::new(Arc::clone(&encoders), Arc::clone(&rerank), Arc::clone(&collections), Arc::clone(&profiles), search, limits);
        let query = Arc::new(query);
        let evaluations = Arc::new(EvaluationPipeline::new(Arc::clone(&query), Arc::clone(&tasks)));
        let expirer = match access {
            Access::Serve => Some(Expirer::start(Arc::clone(&collections), Arc::clone(&rebuild))?),
            Access::Read | Access::Rebuild => None,
        };
        let snapshots = SnapshotPipeline::new(Arc::clone(&collections), Arc::clone(&tasks));
        let catalog = Arc::new(Catalog::new(encoders, collections, Arc::clone(&tasks)));
        let feed = Feed::new(&settings.kafka, &settings.storage.data_dir, Arc::clone(&write));
        let feed_states = feed.states();
        let (max_body_bytes, read_only) = (settings.http.max_body_bytes, settings.http.read_only);
        Ok(Self {
            query,
            evaluations,
            embed,
            fit,
            rerank,
            write,
            rebuild,
            snapshots,
            catalog,
            profiles,
            tasks,
            clock,
            feed: Some(feed),
            feed_states,
            max_body_bytes,
            cors_origins: settings.http.cors_origins.clone(),
            read_only,
            allowed_hosts: settings.http.allowed_hosts.clone(),
            listen: settings.http.listen.ip(),
            mcp: settings.mcp.enabled,
            _expirer: expirer,
        })
    }

    /// The Kafka feed, to be started by whoever serves; once.
    pub fn take_feed(&mut self) -> Option<Feed> {
        self.feed.take()
    }

    /// The HTTP API over these components.
    pub fn into_router(self, keys: Option<Arc<Keys>>) -> Router {
        let probe = Probe::start(&self.catalog);
        http::router(Services {
            hosts: http::own_names(self.listen, self.allowed_hosts, keys.is_some()),
            query: self.query,
            evaluations: self.evaluations,
            embed: self.embed,
            fit: self.fit,
            rerank: self.rerank,
            write: self.write,
            rebuild: self.rebuild,
            snapshots: self.snapshots,
            catalog: self.catalog,
            profiles: self.profiles,
            tasks: self.tasks,
            feeds: self.feed_states,
            probe,
            keys,
            max_body_bytes: self.max_body_bytes,
            cors_origins: self.cors_origins,
            read_only: self.read_only,
            mcp: self.mcp,
            _expirer: self._expirer,
        })
    }
}

/// A collection's embeddings are those of a model with the collection's prompts.
fn identify_by(encoders: &Arc<Encoders>) -> IdentifyModel {
    let encoders = Arc::clone(encoders);
    Arc::new(move |definition: &CollectionDefinition, folder: Option<&str>| Ok(encoders.identify(definition, folder)?))
}
