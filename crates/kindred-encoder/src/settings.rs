//! The `encoder` part of the settings.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the model should run: `cpu`, `cuda:N` or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    Cpu,
    /// The GPU of this number, or an error at start.
    Cuda(u32),
    /// The first GPU if it can be had, else the CPU.
    Auto,
}

/// A device that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device: write cpu, cuda:0 (or another number) or auto")]
pub struct DeviceError(String);

impl FromStr for Device {
    type Err = DeviceError;
    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("cpu", _) => Ok(Self::Cpu),
            ("auto", _) => Ok(Self::Auto),
            (_, Some(Ok(id))) => Ok(Self::Cuda(id)),
            _ => Err(DeviceError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = DeviceError;
    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(id) => write!(f, "cuda:{id}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// Which numbers the model computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// `mixed` on a CPU if the model folder has an int8 model, else `fp32`.
    Auto,
    Fp32,
    Fp16,
    Int8,
    /// Queries in int8, documents in fp32: the two may be compared.
    Mixed,
}

/// How memory for the GPU's tensors grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArenaGrowth {
    /// By what is needed.
    #[default]
    AsNeeded,
    /// To the next power of two.
    Doubling,
}

/// The `encoder.cuda` part of the settings.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CudaSettings {
    /// Most memory of the GPU; 0: no limit.
    pub memory_bytes: usize,
    pub arena: ArenaGrowth,
    /// Batches are padded to the next of these lengths, so that the GPU sees few shapes; each is run once at start.
    pub lengths: Vec<usize>,
    /// The same for the number of texts.
    pub rows: Vec<usize>,
}

/// The `encoder` part of the settings.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// The model folder.
    pub model_dir: PathBuf,
    pub device: Device,
    pub precision: PrecisionChoice,
    /// Threads that run the model, each with its own copy; 0: one per core, at most 8 (on a GPU: one).
    pub threads: usize,
    /// Longer texts are cut to so many tokens; 0: the model's own limit.
    pub max_tokens: usize,
    /// ONNX Runtime's library; empty: `ORT_DYLIB_PATH`, else `onnxruntime/` beside the model folder.
    pub ort_library: PathBuf,
    /// Most tokens of a batch with its padding; 0: chosen by the device.
    pub max_batch_tokens: usize,
    /// How long a batch that is not full waits for more texts.
    pub max_batch_wait_us: u64,
    /// Most texts that may wait for a thread; one more is answered "overloaded".
    pub max_queue: usize,
    /// How long a query may wait for a thread; one that would wait longer is answered "overloaded".
    pub max_wait_ms: u64,
    /// Memory for the embeddings of queries that were asked before; 0: none are kept.
    pub query_cache_bytes: u64,
    /// Memory for the embeddings of documents' phrases that were asked for before; 0: none are kept.
    pub phrase_cache_bytes: u64,
    pub cuda: CudaSettings,
}
