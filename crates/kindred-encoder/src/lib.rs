//! Text to embeddings: a sentence encoder on ONNX Runtime, behind one handle.
//!
//! | file | duty |
//! |---|---|
//! | `lib.rs` | the handle: loading, `encode`, fingerprints |
//! | `settings.rs`, `error.rs` | what is configured, what can fail |
//! | `loading.rs` | from settings and a model folder to sessions; the self-test of int8 |
//! | `closeness.rs` | how close int8 is to fp32, and how close it must be |
//! | `cpu.rs` | whether the processor sums products of bytes exactly |
//! | `model_folder.rs` | what a model folder holds |
//! | `sentence_transformers.rs` | the same from the usual files of sentence-transformers |
//! | `tokenizer.rs` | text to token ids |
//! | `tokens.rs` | texts and token ids that must not be cut silently |
//! | `chunks.rs` | documents: a long text has an embedding for each chunk |
//! | `cache.rs` | embeddings of queries that were asked before |
//! | `workers.rs` | the threads that run the model, and callers that do so themselves |
//! | `queue.rs` | what waits for them, in a lane for queries and one for bulk |
//! | `batcher.rs` | which texts run through the model together |
//! | `parts.rs` | long calls, in parts |
//! | `call.rs` | a call that waits for its texts |
//! | `session.rs` | ONNX Runtime: library, providers, one run of the model |
//! | `head.rs` | a model's numbers to embeddings, or to scores of pairs |
//! | `pooling.rs` | token vectors to one unit vector |
//! | `cross_encoder.rs` | the handle of a model that scores pairs of query and document |
//! | `classifier_folder.rs` | what the folder of such a model holds |
//! | `pairs.rs` | a query and a document as one sequence of tokens |
//! | `inline.rs` | the permit to compute on a thread of the async runtime |
//! | `metrics.rs` | the metrics of all this |
//! | `assets/` | fetches ONNX Runtime and the default model through pip |
//! | `import/` | sentence-transformers folder to model folder |
//!
//! *Shape*: texts, prompts applied → `[texts × dims] f32`, unit length, in the order of the texts.
//!
//! *Concurrency*: `threads` copies of the model for queries and as many for documents (the same ones where both are of one precision); any
//! number of callers.

pub mod assets;
mod batcher;
mod cache;
mod call;
mod chunks;
mod classifier_folder;
mod closeness;
mod cpu;
mod cross_encoder;
mod error;
mod head;
mod import;
mod inline;
mod loading;
mod metrics;
mod model_folder;
mod pairs;
mod parts;
mod pooling;
mod queue;
mod sentence_transformers;
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

pub use closeness::Closeness;
pub use cross_encoder::{CrossEncoder, CrossEncoderInfo, CrossEncoderSettings, Scored, probability};
pub use error::EncoderError;
pub use import::{ImportError, ImportRequest, Imported, Ranges, import, linear_weight_bytes};
pub use inline::InlinePermit;
pub use model_folder::{ModelConfig, ModelFolder, ModelFolderError, Precision};
pub use pairs::PairFit;
pub use pooling::Pooling;
pub use session::{find_library, library_build};
pub use settings::{ArenaGrowth, CudaSettings, Device, DeviceError, EncoderSettings, PrecisionChoice};
pub use tokenizer::{Token, Tokens, Whole};
pub use tokens::Side;

use cache::{PhraseCache, QueryCache};
use call::Finished;
use kindred_core::domain::{Embedding, hex};
use loading::{Copies, Loading, Opened};
use tokenizer::Tokenizer;
use workers::{BatchSettings, Workers};

/// Texts of up to so many bytes are tokenised (in well under a millisecond) on the caller's own thread even in async code.
const INLINE_BYTES: usize = 8 * 1024;
/// Queries of up to so many tokens are encoded on the caller's own thread, if nothing waits: some milliseconds.
const INLINE_TOKENS: usize = 32;

/// What a loaded encoder is.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ModelInfo {
    pub name: String,
    /// sha256 over model, tokenizer, pooling, max_tokens and dims, as hex.
    pub model_fingerprint: String,
    pub dims: usize,
    pub max_tokens: usize,
    /// How token vectors become one: `mean`, `cls` or `last`.
    pub pooling: &'static str,
    /// What runs the model: `CPU` or `CUDA:0`.
    pub provider: String,
    /// The numbers that queries are encoded with.
    pub query_precision: Precision,
    /// The numbers that documents are encoded with.
    pub document_precision: Precision,
    /// How close int8 is to fp32 on this CPU, by the self-test at load; only where the settings lead to int8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub int8_closeness: Option<Closeness>,
    /// Why int8 is replaced by fp32, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Lengths to which an embedding may be cut and still be one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matryoshka_dims: Vec<usize>,
    /// Put before queries and documents by collections that have no prompts of their own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub query_prompt: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub document_prompt: String,
    pub threads: usize,
    /// Longest text times texts of one run of the model on documents.
    pub max_batch_tokens: usize,
}

/// How a query wants to be encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryOptions {
    /// When an answer is of no use any more.
    pub deadline: Option<Instant>,
    /// Neither read nor fill the cache.
    pub skip_cache: bool,
}

/// The answer to [`Encoder::encode_query`].
#[derive(Debug, Clone)]
pub struct EncodedQuery {
    pub embedding: Arc<Embedding>,
    /// All 0 for an embedding that was kept.
    pub timings: EncodeTimings,
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
    queries: Arc<Workers>,
    /// The same workers where queries and documents are of one precision.
    documents: Arc<Workers>,
    cache: QueryCache,
    phrases: PhraseCache,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Loads ONNX Runtime and the model, starts the threads and encodes one text, so that a model that does not work fails here. Where
    /// int8 differs from fp32 by more than allowed, it logs a warning and uses fp32.
    ///
    /// # Errors
    /// Any [`EncoderError`] but `Overloaded`; its message names the file or setting at fault.
    pub fn load(settings: &EncoderSettings) -> Result<Self, EncoderError> {
        let folder = ModelFolder::open(&settings.model_dir)?;
        let max_tokens = loading::max_tokens(settings.max_tokens, folder.config.max_tokens)?;
        let library = session::find_library(&settings.ort_library, folder.dir())?;
        let tokenizer = Arc::new(Tokenizer::load(&folder.tokenizer_path(), max_tokens)?);
        let loading = Loading { settings, folder: &folder, library, max_tokens };
        let document_precision = settings.precision.of_documents();
        // Hashing 90 MB takes about as long as opening a session: side by side.
        let (opened, fingerprint) = thread::scope(|scope| {
            let fingerprint = scope.spawn(|| loading.fingerprint(document_precision));
            (loading.open(document_precision, None), fingerprint.join().expect("hashing does not panic"))
        });
        let (of_model, model_fingerprint) = fingerprint?;
        let (models, provider) = opened?;
        let mut opened = Opened { provider, documents: Copies { precision: document_precision, models }, queries: None };
        let query_precision = settings.precision.of_queries(provider, &folder)?;
        if query_precision != document_precision {
            folder.hash(query_precision, of_model)?;
            let (models, _) = loading.open(query_precision, Some(provider))?;
            opened.queries = Some(Copies { precision: query_precision, models });
        }
        let int8_closeness = loading.self_test(&mut opened, &tokenizer)?;
        let warning = int8_closeness.and_then(|closeness| closeness.warning(&folder));
        if let Some(warning) = &warning {
            tracing::warn!("{warning}");
        }
        let Opened { documents, queries, .. } = opened;
        let document_precision = documents.precision;
        let query_precision = queries.as_ref().map_or(document_precision, |queries| queries.precision);
        let batches = loading.batches(document_precision, provider);
        // Queries that have threads of their own go before documents.
        let of_documents = BatchSettings { gives_way: queries.is_some(), ..batches };
        let documents = Arc::new(Workers::start("encoder", documents.models, of_documents)?);
        let queries = match queries {
            None => Arc::clone(&documents),
            Some(queries) => Arc::new(Workers::start("queries", queries.models, loading.batches(query_precision, provider))?),
        };
        let ModelConfig { name, dims, pooling, matryoshka_dims, query_prompt, document_prompt, .. } = folder.config.clone();
        let info = ModelInfo {
            name,
            model_fingerprint,
            dims,
            max_tokens,
            pooling: pooling.as_str(),
            provider: provider.to_string(),
            query_precision,
            document_precision,
            int8_closeness,
            warning,
            matryoshka_dims,
            query_prompt,
            document_prompt,
            threads: queries.n_threads(),
            max_batch_tokens: batches.max_batch_tokens,
        };
        let (cache, phrases) = (QueryCache::of_queries(settings.query_cache_bytes), PhraseCache::of_phrases(settings.phrase_cache_bytes));
        Ok(Self { info, tokenizer, queries, documents, cache, phrases })
    }

    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What is put before a query's text: a collection's own prompt, or the model's where it has none.
    pub fn query_prompt<'a>(&'a self, own: &'a str) -> &'a str {
        if own.is_empty() { &self.info.query_prompt } else { own }
    }

    /// What is put before a document's text, likewise.
    pub fn document_prompt<'a>(&'a self, own: &'a str) -> &'a str {
        if own.is_empty() { &self.info.document_prompt } else { own }
    }

    /// The fingerprint of embeddings that this model makes for a collection with these prompts of its own: those of another fingerprint must
    /// not be compared with them.
    pub fn fingerprint(&self, query_prompt: &str, document_prompt: &str) -> String {
        let (query_prompt, document_prompt) = (self.query_prompt(query_prompt), self.document_prompt(document_prompt));
        hex(fingerprint_of([self.info.model_fingerprint.as_bytes(), query_prompt.as_bytes(), document_prompt.as_bytes()]))
    }

    /// Encodes a query: prompt and text, whose white space is made even, so that what reads the same is the same.
    ///
    /// # Errors
    /// [`EncoderError::Overloaded`] or [`EncoderError::TooLate`], at once where that can be foreseen; [`EncoderError::Tokenize`],
    /// [`EncoderError::Run`] or [`EncoderError::Stopped`].
    pub async fn encode_query(&self, prompt: &str, text: &str, options: QueryOptions) -> Result<EncodedQuery, EncoderError> {
        let mut prompted = prompt.to_owned();
        for (i, word) in text.split_whitespace().enumerate() {
            prompted.extend((i > 0).then_some(' '));
            prompted.push_str(word);
        }
        let mut timings = EncodeTimings::default();
        let encode = async {
            let started = Instant::now();
            let tokens = self.tokenize(vec![prompted.clone()]).await?;
            let stages = Stages::tokenized(started, &tokens);
            if tokens[0].len() <= INLINE_TOKENS
                && let Some(_permit) = InlinePermit::try_acquire()
                && let Some(embedding) = self.queries.run_here(&tokens[0])
            {
                let finished = Finished { outputs: vec![embedding?], first_started: None };
                return Ok(stages.encoded(finished, &mut timings).remove(0));
            }
            let finished = self.queries.submit_online(tokens, self.queries.latest(options.deadline))?.finish().await?;
            Ok(stages.encoded(finished, &mut timings).remove(0))
        };
        let embedding = self.cache.get(prompted.clone(), options.skip_cache, encode).await?;
        Ok(EncodedQuery { embedding, timings })
    }

    /// The share of a query's tokens that stand for nothing but that there was something: what the model cannot read of it.
    ///
    /// # Errors
    /// [`EncoderError::Tokenize`].
    pub fn unread_share(&self, text: &str) -> Result<f64, EncoderError> {
        // No vocabulary lacks these letters.
        if text.is_ascii() { Ok(0.0) } else { self.tokenizer.unknown_share(text) }
    }

    /// Encodes texts as documents are, without holding the caller's thread. They are served before [`Encoder::encode_blocking`]'s.
    ///
    /// # Errors
    /// As [`Encoder::encode_query`].
    pub async fn encode(&self, texts: Vec<String>) -> Result<Encoded, EncoderError> {
        let started = Instant::now();
        let tokens = self.tokenize(texts).await?;
        let (stages, mut timings) = (Stages::tokenized(started, &tokens), EncodeTimings::default());
        let finished = self.documents.submit_online(tokens, None)?.finish().await?;
        Ok(Encoded { embeddings: stages.encoded(finished, &mut timings), timings })
    }

    /// Encodes texts that belong together, a document's phrases for example, as [`Encoder::encode`] does, so many at once; and keeps them for who asks
    /// for the same again, unless `skip_cache`.
    ///
    /// # Errors
    /// As [`Encoder::encode_query`].
    pub async fn encode_phrases(&self, texts: Vec<String>, at_once: usize, skip_cache: bool) -> Result<Arc<Vec<Embedding>>, EncoderError> {
        let key = fingerprint_of(texts.iter().map(String::as_bytes));
        let encode = async {
            let mut embeddings = Vec::with_capacity(texts.len());
            for batch in texts.chunks(at_once) {
                embeddings.extend(self.encode(batch.to_vec()).await?.embeddings);
            }
            Ok(embeddings)
        };
        self.phrases.get(key, skip_cache, encode).await
    }

    /// Encodes texts, waiting for room in the queue. Async code calls [`Encoder::encode`] instead: its threads must not wait.
    ///
    /// # Errors
    /// [`EncoderError::Tokenize`], [`EncoderError::Run`] or [`EncoderError::Stopped`].
    pub fn encode_blocking(&self, texts: Vec<String>) -> Result<Encoded, EncoderError> {
        let started = Instant::now();
        let tokens = self.tokenizer.tokenize(&texts)?;
        let (stages, mut timings) = (Stages::tokenized(started, &tokens), EncodeTimings::default());
        let finished = self.documents.submit_bulk(tokens)?.finish_blocking()?;
        Ok(Encoded { embeddings: stages.encoded(finished, &mut timings), timings })
    }

    /// Tokenises short texts here, long ones where threads may be held.
    async fn tokenize(&self, texts: Vec<String>) -> Result<Vec<Tokens>, EncoderError> {
        if texts.iter().map(String::len).sum::<usize>() <= INLINE_BYTES {
            return self.tokenizer.tokenize(&texts);
        }
        let tokenizer = Arc::clone(&self.tokenizer);
        tokio::task::spawn_blocking(move || tokenizer.tokenize(&texts)).await.map_err(|_| EncoderError::Stopped)?
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

    fn encoded<O>(mut self, finished: Finished<O>, timings: &mut EncodeTimings) -> Vec<O> {
        let first_started = finished.first_started.unwrap_or(self.queued);
        self.timings.queue_us = micros(self.queued, first_started);
        self.timings.encode_us = micros(first_started, Instant::now());
        *timings = self.timings;
        finished.outputs
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

/// sha256 over parts, each with its length, so that no two lists of parts read the same.
fn fingerprint_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
