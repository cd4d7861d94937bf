//! Why a text has no embedding.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Device;
use super::model_folder::{ModelFolderError, Precision};
use kindred_core::error::ErrorKind;

/// Why a text has no embedding.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    #[error(transparent)]
    Folder(#[from] ModelFolderError),
    #[error(
        "{section}.max_tokens is {asked}, but the model takes {min_tokens} to {max_tokens}: choose a number in between, or 0 for the model's own"
    )]
    MaxTokens { section: &'static str, asked: usize, min_tokens: usize, max_tokens: usize },
    #[error("there is no ONNX Runtime library at {}. Run `kindred fetch`, or set encoder.ort_library or ORT_DYLIB_PATH to the one you have", path.display())]
    LibraryMissing { path: PathBuf },
    #[error("{} cannot be loaded as ONNX Runtime 1.24 or newer", path.display())]
    Library { path: PathBuf, source: Box<dyn Error + Send + Sync> },
    #[error(
        "the device is {device}, but CUDA cannot be had here: see models/README.md for what it needs, or set encoder.device (or cross_encoder.device) to \"cpu\" or \"auto\""
    )]
    Device { device: Device, source: Box<dyn Error + Send + Sync> },
    #[error("{} cannot be used as a model", path.display())]
    Model { path: PathBuf, source: Box<dyn Error + Send + Sync> },
    #[error("{folder:?} is not the name of a model's folder: name one that lies beside the configured model, without a path")]
    FolderName { folder: String },
    #[error("{} cannot be used as a tokenizer", path.display())]
    Tokenizer { path: PathBuf, source: Box<dyn Error + Send + Sync> },
    #[error("text {position} of the call cannot be tokenised")]
    Tokenize { position: usize, source: Box<dyn Error + Send + Sync> },
    #[error("the query cannot be tokenised")]
    TokenizeQuery { source: Box<dyn Error + Send + Sync> },
    #[error(
        "this model's maximum context length is {limit} tokens, but the query and text {position} have {actual} together: shorten them, or ask for the text to be cut"
    )]
    PairTooLong { position: usize, actual: usize, limit: usize },
    #[error("{id} in text {position} of the call is no token of the model's vocabulary")]
    UnknownToken { position: usize, id: u32 },
    #[error("the model failed on a batch")]
    Run { source: Box<dyn Error + Send + Sync> },
    #[error("{waiting} texts wait for the encoder already ({section}.max_queue is {max_queue}): try again shortly")]
    Overloaded { section: &'static str, waiting: usize, max_queue: usize, retry_after: Duration },
    #[error("the encoder is too busy to answer in time ({section}.max_wait_ms, or the request's own timeout_ms): try again shortly")]
    TooLate { section: &'static str, retry_after: Duration },
    #[error("encoder.precision is {precision}, but {} is not in the model folder: `kindred model import --{precision}` makes it", precision.file())]
    Precision { precision: Precision },
    #[error("int8 runs on CPUs only: set encoder.precision to \"fp32\" or \"fp16\", or encoder.device to \"cpu\"")]
    Int8OnGpu,
    #[error(transparent)]
    Shared(Arc<EncoderError>),
    #[error("an encoder thread ended before it had answered")]
    Stopped,
    #[error("cannot start an encoder thread")]
    Thread { source: std::io::Error },
}

impl EncoderError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Folder(e) => e.kind(),
            Self::MaxTokens { .. } | Self::FolderName { .. } => ErrorKind::Invalid,
            Self::Tokenize { .. } | Self::TokenizeQuery { .. } | Self::UnknownToken { .. } => ErrorKind::Invalid,
            Self::PairTooLong { .. } => ErrorKind::TooLarge,
            Self::LibraryMissing { .. } | Self::Library { .. } | Self::Device { .. } | Self::Thread { .. } => ErrorKind::Unavailable,
            Self::Model { .. } | Self::Tokenizer { .. } => ErrorKind::Unavailable,
            Self::Precision { .. } | Self::Int8OnGpu => ErrorKind::Unavailable,
            Self::Overloaded { .. } | Self::TooLate { .. } => ErrorKind::Overloaded,
            Self::Shared(e) => e.kind(),
            Self::Run { .. } | Self::Stopped => ErrorKind::Internal,
        }
    }

    /// When it is worth trying again, where that is what to do.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } | Self::TooLate { retry_after, .. } => Some(*retry_after),
            Self::Shared(e) => e.retry_after(),
            _ => None,
        }
    }
}
