//! From settings and a model folder to sessions: in which precision, how many, on which device; and the self-test of int8.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::closeness::{Closeness, SELF_TEST_TEXTS};
use super::head::{Head, Pooled};
use super::model_folder::{self, ModelConfig, ModelFolder, ModelFolderError, Precision};
use super::session::{Provider, Session, SessionSettings};
use super::tokenizer::{Sequence, Tokenizer, Tokens};
use super::workers::{BatchSettings, Models, RunBatch};
use super::{EncoderError, EncoderSettings, PrecisionChoice, fingerprint_of};
use kindred_core::domain::{Embedding, hex};

/// Most threads that `threads = 0` stands for: each holds its own copy of the model.
const MAX_DEFAULT_THREADS: usize = 8;
/// Most tokens of a batch with its padding on a CPU: short texts together share each read of the weights, which nearly doubles their rate. Larger
/// batches add less than they keep others waiting; a text of more tokens runs alone, as fast and without padding.
const CPU_BATCH_TOKENS: usize = 128;
/// In int8, whose weights are a quarter, there is less to share.
const INT8_BATCH_TOKENS: usize = 64;
/// The same on a GPU, which needs large batches to be busy.
const CUDA_BATCH_TOKENS: usize = 16_384;

/// The part of the settings that an encoder is configured by.
const SECTION: &str = "encoder";

/// What all sessions of an encoder are opened with.
pub struct Loading<'a> {
    pub settings: &'a EncoderSettings,
    pub folder: &'a ModelFolder,
    pub library: PathBuf,
    pub max_tokens: usize,
}

/// Copies of the model in one precision.
pub struct Copies {
    pub precision: Precision,
    pub models: Models<Tokens>,
}

/// The models that encode documents and queries.
pub struct Opened {
    pub provider: Provider,
    pub documents: Copies,
    /// `None`: the documents' models encode queries, too.
    pub queries: Option<Copies>,
}

impl Loading<'_> {
    /// Opens the sessions of one precision.
    pub fn open(&self, precision: Precision, provider: Option<Provider>) -> Result<(Models<Tokens>, Provider), EncoderError> {
        open(self.settings, &self.session(precision)?, self.max_tokens, provider)
    }

    fn session(&self, precision: Precision) -> Result<SessionSettings<Pooled>, EncoderError> {
        let ModelConfig { dims, pooling, .. } = self.folder.config;
        let model = self.folder.model_path(precision).ok_or(EncoderError::Precision { precision })?;
        let (library, head, cuda) = (self.library.clone(), Pooled { dims, pooling }, self.settings.cuda.clone());
        Ok(SessionSettings { library, model, head, precision, cuda })
    }

    /// Compares int8 with fp32 on a few texts where int8 is in use, and replaces it by fp32 where they differ by more than allowed. The
    /// index stays as it is, because fp32 is what int8 approximates. Returns how close they are, or `None` without int8.
    ///
    /// # Errors
    /// What is wrong with the library or the model.
    pub fn self_test(&self, opened: &mut Opened, tokenizer: &Tokenizer) -> Result<Option<Closeness>, EncoderError> {
        let texts = tokenizer.tokenize(&SELF_TEST_TEXTS.map(str::to_owned))?;
        let Opened { provider, documents, queries } = opened;
        let closeness = match (documents.precision, queries) {
            (Precision::Fp32, Some(queries)) if queries.precision == Precision::Int8 => {
                Closeness::between(&encode(&mut documents.models[0], &texts)?, &encode(&mut queries.models[0], &texts)?)
            }
            (Precision::Int8, None) => {
                let mut session = Session::open(&self.session(Precision::Fp32)?, *provider)?;
                let mut fp32: RunBatch = Box::new(move |texts| session.run(texts));
                Closeness::between(&encode(&mut fp32, &texts)?, &encode(&mut documents.models[0], &texts)?)
            }
            _ => return Ok(None),
        };
        if !closeness.is_close() {
            opened.queries = None;
            if opened.documents.precision == Precision::Int8 {
                opened.documents = Copies { precision: Precision::Fp32, models: self.open(Precision::Fp32, Some(opened.provider))?.0 };
            }
        }
        Ok(Some(closeness))
    }

    /// The sha256 of `model.onnx`, and the fingerprint of embeddings in this precision.
    pub fn fingerprint(&self, precision: Precision) -> Result<([u8; 32], String), ModelFolderError> {
        let (folder, max_tokens) = (self.folder, self.max_tokens);
        let of_model = folder.hash_model()?;
        let (model, tokenizer) = (folder.hash(precision, of_model)?, model_folder::hash_file(&folder.tokenizer_path())?);
        let numbers = format!("{} {max_tokens} {}", folder.config.pooling.as_str(), folder.config.dims);
        Ok((of_model, hex(fingerprint_of([&model[..], &tokenizer[..], numbers.as_bytes()]))))
    }

    /// How batches form in this precision.
    pub fn batches(&self, precision: Precision, provider: Provider) -> BatchSettings {
        batches(SECTION, self.settings, precision, provider)
    }
}

/// Opens one session per thread, the first alone, which says on what the model runs if that is not known; each has run once.
///
/// # Errors
/// What is wrong with library, device or model.
pub fn open<T: Sequence, H: Head>(
    settings: &EncoderSettings,
    of: &SessionSettings<H>,
    max_tokens: usize,
    provider: Option<Provider>,
) -> Result<(Models<T, H::Output>, Provider), EncoderError> {
    let (mut first, provider) = match provider {
        Some(provider) => (Session::open(of, provider)?, provider),
        None => Session::open_on(of, settings.device)?,
    };
    let n_threads = match (settings.threads, provider) {
        (0, Provider::Cpu) => thread::available_parallelism().map_or(1, usize::from).min(MAX_DEFAULT_THREADS),
        (0, Provider::Cuda(_)) => 1,
        (n, _) => n,
    };
    let max_batch_tokens = batches(SECTION, settings, of.precision, provider).max_batch_tokens;
    first.warm_up(max_batch_tokens, max_tokens)?;
    let open = || {
        let mut session = Session::open(of, provider)?;
        session.warm_up(max_batch_tokens, max_tokens)?;
        Ok(session)
    };
    let rest: Result<Vec<Session<H>>, EncoderError> = thread::scope(|scope| {
        let opening: Vec<_> = (1..n_threads).map(|_| scope.spawn(open)).collect();
        opening.into_iter().map(|thread| thread.join().expect("opening a session does not panic")).collect()
    });
    let run = |mut session: Session<H>| -> RunBatch<T, H::Output> { Box::new(move |texts| session.run(texts)) };
    Ok(([vec![first], rest?].into_iter().flatten().map(run).collect(), provider))
}

/// Encodes each text alone.
fn encode(run: &mut RunBatch, texts: &[Tokens]) -> Result<Vec<Embedding>, EncoderError> {
    let mut embeddings = Vec::with_capacity(texts.len());
    for text in texts {
        embeddings.append(&mut run(&[text])?);
    }
    Ok(embeddings)
}

/// How batches form, by the settings of this section of the file.
pub fn batches(section: &'static str, settings: &EncoderSettings, precision: Precision, provider: Provider) -> BatchSettings {
    let EncoderSettings { max_batch_tokens, max_batch_wait_us, max_queue, max_wait_ms, .. } = *settings;
    let max_batch_tokens = match (max_batch_tokens, provider) {
        (0, Provider::Cpu) if precision == Precision::Int8 => INT8_BATCH_TOKENS,
        (0, Provider::Cpu) => CPU_BATCH_TOKENS,
        (0, Provider::Cuda(_)) => CUDA_BATCH_TOKENS,
        (n, _) => n,
    };
    let (batch_wait, max_wait) = (Duration::from_micros(max_batch_wait_us), Duration::from_millis(max_wait_ms));
    BatchSettings { max_batch_tokens, batch_wait, max_queue, max_wait, gives_way: false, section }
}

impl PrecisionChoice {
    /// The numbers that documents are encoded with. They decide what an index holds, so they depend on nothing but the setting.
    pub fn of_documents(self) -> Precision {
        match self {
            Self::Auto | Self::Fp32 | Self::Mixed => Precision::Fp32,
            Self::Fp16 => Precision::Fp16,
            Self::Int8 => Precision::Int8,
        }
    }

    /// The numbers that queries are encoded with.
    pub fn of_queries(self, provider: Provider, folder: &ModelFolder) -> Result<Precision, EncoderError> {
        let precision = match self {
            Self::Auto if provider == Provider::Cpu && folder.config.int8.is_some() => Precision::Int8,
            Self::Mixed => Precision::Int8,
            other => other.of_documents(),
        };
        match (precision, provider) {
            (Precision::Int8, Provider::Cuda(_)) => Err(EncoderError::Int8OnGpu),
            _ => Ok(precision),
        }
    }
}

/// Two special tokens surround a text.
const MIN_TOKENS: usize = 3;

/// The longest text in tokens: what is asked for, if the model takes it; its own limit with 0.
///
/// # Errors
/// [`EncoderError::MaxTokens`].
pub fn max_tokens(asked: usize, of_model: usize) -> Result<usize, EncoderError> {
    within(SECTION, asked, MIN_TOKENS, of_model)
}

/// The same by the settings of any section, for a model that needs at least so many.
///
/// # Errors
/// [`EncoderError::MaxTokens`].
pub fn within(section: &'static str, asked: usize, min_tokens: usize, max_tokens: usize) -> Result<usize, EncoderError> {
    match asked {
        0 => Ok(max_tokens),
        _ if (min_tokens..=max_tokens).contains(&asked) => Ok(asked),
        _ => Err(EncoderError::MaxTokens { section, asked, min_tokens, max_tokens }),
    }
}
