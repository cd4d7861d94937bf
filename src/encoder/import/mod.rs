//! Turns a sentence-transformers folder (safetensors + configuration) into a model folder that Kindred serves, without Python.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | reads the folder's configuration, refuses what would embed wrongly, writes the model folder |
//! | `bert.rs` | the BERT encoder as an ONNX graph |
//! | `weights.rs` | tensors by name, checked and widened to f32 |
//! | `onnx.rs` | the protobuf messages of ONNX |

mod bert;
mod onnx;
mod weights;

#[cfg(test)]
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::model_folder::{CONFIG_FILE, MODEL_FILE, ModelConfig, TOKENIZER_FILE};
use super::pooling::Pooling;
use crate::error::ErrorKind;
use crate::storage::{self, StorageError};
use bert::BertConfig;
use weights::Weights;

/// A protobuf message cannot be larger.
const MAX_MODEL_BYTES: usize = i32::MAX as usize;
/// Texts that a model's licence may ask to keep beside it.
const LEGAL_FILES: [&str; 5] = ["LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "README.md"];

/// Why a folder cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{} is missing: the folder must hold a sentence-transformers model saved with safetensors (model.safetensors, config.json, tokenizer.json)", path.display())]
    Missing { path: PathBuf },
    #[error("{} cannot be read as a model's configuration", path.display())]
    Config { path: PathBuf, source: serde_json::Error },
    #[error(
        "{what} is {found}; the import supports {supported}. Export the model to ONNX with another tool and put model.onnx into the folder"
    )]
    Unsupported { what: &'static str, found: String, supported: &'static str },
    #[error("{reason} in model.safetensors: it is damaged, or its config.json belongs to another model")]
    Weights { reason: String },
    #[error("the model needs {bytes} bytes as 32-bit floats, more than the 2 GB that one ONNX file can hold")]
    TooLarge { bytes: usize },
    #[error("{} exists already: delete it, or choose another name", path.display())]
    Exists { path: PathBuf },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ImportError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::Config { .. } | Self::Unsupported { .. } | Self::Weights { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::Storage(e) => e.kind(),
        }
    }
}

/// What an import made.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    pub name: String,
    pub dims: usize,
    pub max_tokens: usize,
    /// The new model folder, to be named in `encoder.model_dir`.
    pub model_dir: PathBuf,
    /// Whether the ONNX file was written here; otherwise the folder brought its own.
    pub graph_written: bool,
}

/// Makes the model folder `target` from the sentence-transformers folder `source`; the last part of `target` becomes the model's name.
///
/// The folder appears whole or not at all. A `model.onnx` (also `onnx/model.onnx`) in the source is used as it is.
///
/// # Errors
/// [`ImportError::Missing`], [`ImportError::Config`], [`ImportError::Unsupported`] and [`ImportError::Weights`] name what is wrong with the
/// source; [`ImportError::Exists`] is returned when `target` is there already.
pub fn import(source: &Path, target: &Path) -> Result<Imported, ImportError> {
    if target.exists() {
        return Err(ImportError::Exists { path: target.to_owned() });
    }
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    storage::create_dir(parent)?;
    let aside =
        tempfile::Builder::new().prefix(".importing-").tempdir_in(parent).map_err(StorageError::io("create a folder in", parent))?;
    // A folder inside the temporary one: publishing moves it away, and the rest cleans up after itself.
    let made = aside.path().join("model");
    storage::create_dir(&made)?;
    let (config, graph_written) = write_model(source, &made, target)?;
    storage::publish_dir(&made, target)?;
    let ModelConfig { name, dims, max_tokens, .. } = config;
    Ok(Imported { name, dims, max_tokens, model_dir: target.to_owned(), graph_written })
}

fn write_model(source: &Path, made: &Path, target: &Path) -> Result<(ModelConfig, bool), ImportError> {
    let layout = Layout::read(source)?;
    let bert: BertConfig = required_json(&layout.transformer.join("config.json"))?;
    let tokenizer = required(&layout.transformer.join(TOKENIZER_FILE)).or_else(|_| required(&source.join(TOKENIZER_FILE)))?;
    let ready = [source.join(MODEL_FILE), source.join("onnx").join(MODEL_FILE)].into_iter().find(|path| path.is_file());
    let graph = match &ready {
        Some(path) => required(path)?,
        None => export(&bert, &layout.transformer.join("model.safetensors"))?,
    };
    let config = ModelConfig {
        name: target.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned()),
        dims: bert.hidden_size,
        max_tokens: max_tokens(&layout.transformer, &bert)?,
        pooling: layout.pooling,
        normalize: true,
    };
    let toml = toml::to_string(&config).expect("a model's configuration is plain values");
    storage::replace_file(&made.join(MODEL_FILE), &graph)?;
    storage::replace_file(&made.join(TOKENIZER_FILE), &tokenizer)?;
    storage::replace_file(&made.join(CONFIG_FILE), toml.as_bytes())?;
    for name in LEGAL_FILES {
        if let Some(text) = storage::read_file(&source.join(name))? {
            storage::replace_file(&made.join(name), &text)?;
        }
    }
    Ok((config, ready.is_none()))
}

/// Writes the ONNX file's bytes.
fn export(config: &BertConfig, weights_path: &Path) -> Result<Vec<u8>, ImportError> {
    config.check()?;
    if let Some(bytes) = Some(config.size_bytes().unwrap_or(usize::MAX)).filter(|&bytes| bytes > MAX_MODEL_BYTES) {
        return Err(ImportError::TooLarge { bytes });
    }
    let bytes = required(weights_path)?;
    let model = bert::model(config, &Weights::new(&bytes)?)?;
    drop(bytes);
    match model.encoded_len() {
        bytes if bytes > MAX_MODEL_BYTES => Err(ImportError::TooLarge { bytes }),
        _ => Ok(model.encode_to_vec()),
    }
}

/// Where the parts of a sentence-transformers folder lie.
struct Layout {
    transformer: PathBuf,
    pooling: Pooling,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    class: String,
}

#[derive(Deserialize)]
struct PoolingConfig {
    pooling_mode: Option<String>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Layout {
    /// Reads `modules.json`; a folder without one is a bare encoder, whose usual pooling is the mean.
    fn read(source: &Path) -> Result<Self, ImportError> {
        let mut layout = Self { transformer: source.to_owned(), pooling: Pooling::Mean };
        for module in json::<Vec<Module>>(&source.join("modules.json"))?.unwrap_or_default() {
            match module.class.rsplit('.').next().unwrap_or_default() {
                "Transformer" => layout.transformer = source.join(module.path),
                "Pooling" => check_pooling(&source.join(module.path).join("config.json"))?,
                "Normalize" => {}
                _ => {
                    let supported = "the modules Transformer, Pooling and Normalize";
                    return Err(ImportError::Unsupported { what: "a module in modules.json", found: module.class, supported });
                }
            }
        }
        Ok(layout)
    }
}

/// Refuses every pooling but the mean over a text's tokens.
fn check_pooling(path: &Path) -> Result<(), ImportError> {
    let config: PoolingConfig = required_json(path)?;
    let modes = config.rest.iter().filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool() == Some(true));
    let modes = modes.map(|(key, _)| key.trim_start_matches("pooling_mode_").trim_end_matches("_tokens").to_owned());
    match config.pooling_mode.into_iter().chain(modes).collect::<Vec<_>>().join(" + ") {
        mean if mean == "mean" => Ok(()),
        found => Err(ImportError::Unsupported { what: "the pooling in 1_Pooling/config.json", found, supported: "mean" }),
    }
}

/// The longest text that the model takes, special tokens included.
fn max_tokens(transformer: &Path, bert: &BertConfig) -> Result<usize, ImportError> {
    #[derive(Deserialize)]
    struct SentenceConfig {
        max_seq_length: Option<usize>,
    }
    let stated = json::<SentenceConfig>(&transformer.join("sentence_bert_config.json"))?.and_then(|c| c.max_seq_length);
    Ok(stated.unwrap_or(bert.max_position_embeddings).min(bert.max_position_embeddings))
}

fn required(path: &Path) -> Result<Vec<u8>, ImportError> {
    storage::read_file(path)?.ok_or_else(|| ImportError::Missing { path: path.to_owned() })
}

fn required_json<T: DeserializeOwned>(path: &Path) -> Result<T, ImportError> {
    json(path)?.ok_or_else(|| ImportError::Missing { path: path.to_owned() })
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ImportError> {
    let parse = |bytes: Vec<u8>| serde_json::from_slice(&bytes).map_err(|source| ImportError::Config { path: path.to_owned(), source });
    storage::read_file(path)?.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 32, "vocab_size": 10}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn failure(files: &[(&str, &str)]) -> String {
        let source = folder(files);
        let target = source.path().join("out");
        let error = import(source.path(), &target).unwrap_err();
        assert!(!target.exists(), "a failed import leaves nothing behind");
        let left = storage::list_dir(source.path()).unwrap();
        assert!(!left.iter().any(|name| name.starts_with(".importing")), "{left:?}");
        error.to_string()
    }

    #[test]
    fn what_cannot_be_embedded_rightly_is_refused_by_name() {
        let tokenizer = ("tokenizer.json", "{}");
        assert!(failure(&[]).contains("config.json is missing"));
        assert!(failure(&[("config.json", "{")]).contains("config.json cannot be read"));
        assert!(failure(&[("config.json", CONFIG)]).contains("tokenizer.json is missing"));
        assert!(failure(&[("config.json", CONFIG), tokenizer]).contains("model.safetensors is missing"));
        let garbage = failure(&[("config.json", CONFIG), tokenizer, ("model.safetensors", "garbage")]);
        assert!(garbage.contains("model.safetensors"), "{garbage}");
        for (from, to, named) in [
            ("\"bert\"", "\"roberta\"", "model_type"),
            ("\"model_type\"", "\"position_embedding_type\": \"relative_key\", \"model_type\"", "relative_key"),
            ("\"model_type\"", "\"hidden_act\": \"gelu_new\", \"model_type\"", "gelu_new"),
            ("\"num_attention_heads\": 2", "\"num_attention_heads\": 3", "num_attention_heads"),
            ("\"vocab_size\": 10", "\"vocab_size\": 900000000", "2 GB"),
        ] {
            let config = CONFIG.replace(from, to);
            let message = failure(&[("config.json", &config), tokenizer, ("model.safetensors", "")]);
            assert!(message.contains(named), "{message}");
        }
    }

    #[test]
    fn only_mean_pooling_is_taken() {
        let modules = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#;
        let cls = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
        let message = failure(&[("config.json", CONFIG), ("modules.json", modules), ("1_Pooling/config.json", cls)]);
        assert!(message.contains("cls_token"), "{message}");
        let dense = modules.replace("models.Pooling", "models.Dense");
        let message = failure(&[("config.json", CONFIG), ("modules.json", &dense)]);
        assert!(message.contains("Dense"), "{message}");
    }

    #[test]
    fn an_onnx_file_is_used_as_it_is() {
        let sentence = r#"{"max_seq_length": 20}"#;
        let files = [("config.json", CONFIG), ("tokenizer.json", "{}"), ("onnx/model.onnx", "bytes"), ("LICENSE", "free")];
        let source = folder(&[files.as_slice(), &[("sentence_bert_config.json", sentence)]].concat());
        let target = source.path().join("mine");
        let imported = import(source.path(), &target).unwrap();
        assert_eq!((imported.name.as_str(), imported.dims, imported.max_tokens, imported.graph_written), ("mine", 8, 20, false));
        assert_eq!(fs::read(target.join("model.onnx")).unwrap(), b"bytes");
        assert_eq!(storage::list_dir(&target).unwrap(), ["LICENSE", "kindred-model.toml", "model.onnx", "tokenizer.json"]);
        assert!(matches!(import(source.path(), &target), Err(ImportError::Exists { .. })));
    }
}
