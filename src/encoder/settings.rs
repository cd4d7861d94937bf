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

/// The `encoder` part of the settings.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// The model folder.
    pub model_dir: PathBuf,
    pub device: Device,
    /// Threads that run the model, each with its own copy; 0: one per core, at most 8 (on a GPU: one).
    pub threads: usize,
    /// Longer texts are cut to so many tokens; 0: the model's own limit.
    pub max_tokens: usize,
    /// ONNX Runtime's library; empty: `ORT_DYLIB_PATH`, else `onnxruntime/` beside the model folder.
    pub ort_library: PathBuf,
    /// Most texts that may wait for a thread; one more is answered "overloaded".
    pub max_queue: usize,
}
