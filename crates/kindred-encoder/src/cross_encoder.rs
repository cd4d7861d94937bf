//! The handle of a cross-encoder: a model that reads a query and a document together and says how well the one answers the other.
//!
//! *Shape*: a query and documents → `[documents] f32`, larger is better, in the order of the documents.
//!
//! *Concurrency*: workers of its own, with the encoder's queue and batches; any number of callers.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::classifier_folder::{ClassifierFolder, MIN_PAIR_TOKENS};
use super::head::Logits;
use super::loading;
use super::pairs::{Pair, PairFit};
use super::session::{self, SessionSettings};
use super::tokenizer::Tokenizer;
use super::workers::Workers;
use super::{Device, EncoderError, EncoderSettings, INLINE_BYTES, Precision, PrecisionChoice};

/// The part of the settings that it is configured by.
const SECTION: &str = "cross_encoder";

/// The `cross_encoder` part of the settings.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CrossEncoderSettings {
    /// The folder of the model; empty: there is none.
    pub model_dir: PathBuf,
    pub device: Device,
    /// Threads that run the model, each with its own copy; 0: one per core, at most 8 (on a GPU: one).
    pub threads: usize,
    /// Longer pairs are cut to so many tokens; 0: the model's own limit.
    pub max_tokens: usize,
    /// Most tokens of a batch with its padding; 0: chosen by the device.
    pub max_batch_tokens: usize,
    /// Most pairs that may wait for a thread.
    pub max_queue: usize,
    /// How long a search waits for it that does not say.
    pub max_wait_ms: u64,
    /// Hits that it orders where a search does not say how many.
    pub candidates: usize,
    /// Most hits that a search may ask it to order.
    pub max_candidates: usize,
}

impl CrossEncoderSettings {
    /// Whether there is a cross-encoder.
    pub fn is_configured(&self) -> bool {
        !self.model_dir.as_os_str().is_empty()
    }

    /// Its settings as an encoder's; what it has none of is the encoder's own.
    fn as_of(&self, encoder: &EncoderSettings) -> EncoderSettings {
        EncoderSettings {
            model_dir: self.model_dir.clone(),
            device: self.device,
            precision: PrecisionChoice::Fp32,
            threads: self.threads,
            max_tokens: self.max_tokens,
            max_batch_tokens: self.max_batch_tokens,
            max_batch_wait_us: 0,
            max_queue: self.max_queue,
            max_wait_ms: self.max_wait_ms,
            query_cache_bytes: 0,
            phrase_cache_bytes: 0,
            ..encoder.clone()
        }
    }
}

/// What a loaded cross-encoder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CrossEncoderInfo {
    pub name: String,
    pub max_tokens: usize,
    /// What runs the model: `CPU` or `CUDA:0`.
    pub provider: String,
    pub threads: usize,
    /// Longest pair times pairs of one run of the model.
    pub max_batch_tokens: usize,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// In the order of the documents; [`probability`] makes a share of one.
    pub logits: Vec<f32>,
    /// That went through the model, special tokens included.
    pub n_tokens: usize,
}

/// A logit as a number from 0 to 1.
pub fn probability(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// A loaded cross-encoder and the threads that run it. Dropping it ends the threads.
pub struct CrossEncoder {
    info: CrossEncoderInfo,
    tokenizer: Arc<Tokenizer>,
    workers: Workers<Pair, f32>,
}

impl fmt::Debug for CrossEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrossEncoder").field("info", &self.info).finish_non_exhaustive()
    }
}

impl CrossEncoder {
    /// Loads the model, starts the threads and scores once, so that a model that does not work fails here. ONNX Runtime is the one that
    /// the encoder has: a process can load only one.
    ///
    /// # Errors
    /// An [`EncoderError`] whose message names the file or setting at fault.
    pub fn load(settings: &CrossEncoderSettings, encoder: &EncoderSettings) -> Result<Self, EncoderError> {
        let folder = ClassifierFolder::open(&settings.model_dir)?;
        let max_tokens = loading::within(SECTION, settings.max_tokens, MIN_PAIR_TOKENS, folder.config.max_tokens)?;
        let library = session::find_library(&encoder.ort_library, &encoder.model_dir)?;
        let tokenizer = Arc::new(Tokenizer::load(&folder.tokenizer, max_tokens)?);
        let (settings, precision, cuda) = (settings.as_of(encoder), Precision::Fp32, encoder.cuda.clone());
        let of = SessionSettings { library, model: folder.model, head: Logits, precision, cuda };
        let (models, provider) = loading::open(&settings, &of, max_tokens, None)?;
        let batches = loading::batches(SECTION, &settings, precision, provider);
        let workers = Workers::start("cross-encoder", models, batches)?;
        let info = CrossEncoderInfo {
            name: folder.config.name,
            max_tokens,
            provider: provider.to_string(),
            threads: workers.n_threads(),
            max_batch_tokens: batches.max_batch_tokens,
        };
        Ok(Self { info, tokenizer, workers })
    }

    /// What was loaded.
    pub fn info(&self) -> &CrossEncoderInfo {
        &self.info
    }

    /// Scores documents against a query, however many, without holding the caller's thread; they go through the queue in parts.
    ///
    /// # Errors
    /// [`EncoderError::PairTooLong`], [`EncoderError::TokenizeQuery`], [`EncoderError::Tokenize`], [`EncoderError::Overloaded`],
    /// [`EncoderError::Run`] or [`EncoderError::Stopped`].
    pub async fn score(&self, query: String, documents: Vec<String>, fit: PairFit) -> Result<Scored, EncoderError> {
        let pairs = self.pairs(query, documents, fit).await?;
        let n_tokens = pairs.iter().map(|pair| pair.ids.len()).sum();
        Ok(Scored { logits: self.workers.run_in_parts(pairs).await?, n_tokens })
    }

    /// Scores documents against a query before a deadline, or not at all; those that are too long are cut.
    ///
    /// # Errors
    /// [`EncoderError::TooLate`] when the deadline has passed, or would; otherwise as [`CrossEncoder::score`].
    pub async fn score_by(&self, deadline: Instant, query: String, documents: Vec<String>) -> Result<Scored, EncoderError> {
        let work = async {
            let fit = PairFit { cut: Some(super::Side::Right), max_document_tokens: None };
            let pairs = self.pairs(query, documents, fit).await?;
            let n_tokens = pairs.iter().map(|pair| pair.ids.len()).sum();
            Ok(Scored { logits: self.workers.submit_online(pairs, Some(deadline))?.finish().await?.outputs, n_tokens })
        };
        // A batch that is under way at the deadline is not waited for; what waits then is dropped with the call.
        let late = |_| EncoderError::TooLate { section: SECTION, retry_after: std::time::Duration::ZERO };
        tokio::time::timeout_at(deadline.into(), work).await.map_err(late)?
    }

    /// Tokenises short texts here, long ones where threads may be held.
    async fn pairs(&self, query: String, documents: Vec<String>, fit: PairFit) -> Result<Vec<Pair>, EncoderError> {
        if query.len() * documents.len() + documents.iter().map(String::len).sum::<usize>() <= INLINE_BYTES {
            return self.tokenizer.pairs(&query, &documents, fit);
        }
        let tokenizer = Arc::clone(&self.tokenizer);
        tokio::task::spawn_blocking(move || tokenizer.pairs(&query, &documents, fit)).await.map_err(|_| EncoderError::Stopped)?
    }
}

#[cfg(test)]
mod tests;
