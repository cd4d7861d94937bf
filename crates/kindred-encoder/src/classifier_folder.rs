//! The folder of a cross-encoder: what a user points `cross_encoder.model_dir` at.
//!
//! *On disk*:
//!
//! | file | holds |
//! |---|---|
//! | `model.onnx` | `input_ids`, `attention_mask` (and `token_type_ids`) → `[batch × 1]`, `[batch × 2]` or `[batch]` f32 |
//! | `tokenizer.json` | the tokenizer |
//! | `kindred-model.toml` | [`ClassifierConfig`] |
//!
//! Without `kindred-model.toml` the usual files of Hugging Face are read: `config.json`, and `tokenizer_config.json` where there is one;
//! `onnx/model.onnx` is where those have their ONNX file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::model_folder::{CONFIG_FILE, MODEL_FILE, ModelFolder, ModelFolderError, TOKENIZER_FILE};
use super::sentence_transformers::{LayoutError, json, positions, required_json};

/// Two texts and what stands around them.
pub const MIN_PAIR_TOKENS: usize = 8;
/// What the architectures are named that score texts.
const ARCHITECTURE: &str = "ForSequenceClassification";

/// What `kindred-model.toml` says of a cross-encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    pub name: String,
    pub kind: Kind,
    /// Longest pair in tokens, special tokens included.
    pub max_tokens: usize,
}

/// Tells such a folder from an encoder's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    CrossEncoder,
}

/// The part of `config.json` that matters here.
#[derive(Deserialize)]
struct HuggingFaceConfig {
    #[serde(default)]
    model_type: String,
    #[serde(default)]
    architectures: Vec<String>,
    max_position_embeddings: Option<usize>,
    #[serde(default)]
    id2label: Map<String, Value>,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    /// A number beyond all texts stands for none.
    model_max_length: Option<f64>,
}

/// A folder whose files are there.
#[derive(Debug, Clone)]
pub struct ClassifierFolder {
    pub config: ClassifierConfig,
    pub model: PathBuf,
    pub tokenizer: PathBuf,
}

impl ClassifierFolder {
    /// Reads the description and checks that the other files are there.
    ///
    /// # Errors
    /// [`ModelFolderError`] names the file that is missing or does not say what it must.
    pub fn open(dir: &Path) -> Result<Self, ModelFolderError> {
        let missing = |name: &str| ModelFolderError::ClassifierMissing { path: dir.join(name) };
        let path = dir.join(CONFIG_FILE);
        let config = if path.is_file() {
            let text = std::fs::read_to_string(&path).map_err(|source| ModelFolderError::Io { path: path.clone(), source })?;
            toml::from_str(&text).map_err(|source| ModelFolderError::Config { path: path.clone(), source })?
        } else if dir.join("config.json").is_file() {
            describe(dir, dir)?
        } else {
            return Err(missing(CONFIG_FILE));
        };
        let model = [dir.join(MODEL_FILE), dir.join("onnx").join(MODEL_FILE)].into_iter().find(|path| path.is_file());
        let model = model.ok_or_else(|| missing(MODEL_FILE))?;
        let tokenizer = Some(dir.join(TOKENIZER_FILE)).filter(|path| path.is_file()).ok_or_else(|| missing(TOKENIZER_FILE))?;
        let ClassifierConfig { max_tokens, .. } = config;
        if max_tokens < MIN_PAIR_TOKENS {
            return Err(ModelFolderError::Value { path, field: "max_tokens", found: max_tokens.to_string(), expected: "at least 8" });
        }
        Ok(Self { config, model, tokenizer })
    }
}

/// Whether a folder's `config.json` says that its model scores texts.
///
/// # Errors
/// [`LayoutError`] when it is not there, or no JSON.
pub fn is_classifier(source: &Path) -> Result<bool, LayoutError> {
    let config: HuggingFaceConfig = required_json(&source.join("config.json"))?;
    Ok(config.architectures.iter().any(|name| name.ends_with(ARCHITECTURE)))
}

/// What the files of a Hugging Face folder come to, named after a folder.
///
/// # Errors
/// [`LayoutError`] names the file that is missing, or what would be scored wrongly.
pub fn describe(named: &Path, source: &Path) -> Result<ClassifierConfig, LayoutError> {
    let config: HuggingFaceConfig = required_json(&source.join("config.json"))?;
    let tokenizer: TokenizerConfig = json(&source.join("tokenizer_config.json"))?.unwrap_or_default();
    let unsupported = |what, found, supported| Err(LayoutError::Unsupported { what, found, supported });
    if !config.architectures.is_empty() && !config.architectures.iter().any(|name| name.ends_with(ARCHITECTURE)) {
        let supported = "a cross-encoder: …ForSequenceClassification";
        return unsupported("architectures in config.json", config.architectures.join(", "), supported);
    }
    if config.id2label.len() > 2 {
        let supported = "one label, or two of which the second is the positive one";
        return unsupported("the number of labels in config.json", config.id2label.len().to_string(), supported);
    }
    let stated = tokenizer.model_max_length.filter(|&n| (1.0..1e9).contains(&n)).map(|n| n as usize);
    let positions = config.max_position_embeddings.map(|n| positions(&config.model_type, n));
    let Some(max_tokens) = stated.into_iter().chain(positions).min() else {
        let supported = "max_position_embeddings in config.json, or model_max_length in tokenizer_config.json";
        return unsupported("the longest pair", "not stated".to_owned(), supported);
    };
    Ok(ClassifierConfig { name: ModelFolder::name_of(named), kind: Kind::CrossEncoder, max_tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(files: &[(&str, &str)]) -> Result<ClassifierConfig, ModelFolderError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        ClassifierFolder::open(dir.path()).map(|folder| ClassifierConfig { name: String::new(), ..folder.config })
    }

    const REST: [(&str, &str); 2] = [("model.onnx", ""), ("tokenizer.json", "")];
    const HF: &str = r#"{"model_type": "bert", "architectures": ["BertForSequenceClassification"], "max_position_embeddings": 512, "id2label": {"0": "A"}}"#;

    #[test]
    fn either_description_will_do() {
        let expected = |max_tokens| ClassifierConfig { name: String::new(), kind: Kind::CrossEncoder, max_tokens };
        let with = |name, text| open(&[&[(name, text)], &REST[..]].concat());
        assert_eq!(with("kindred-model.toml", "name = \"x\"\nkind = \"cross_encoder\"\nmax_tokens = 300\n").unwrap(), expected(300));
        assert_eq!(with("config.json", HF).unwrap(), expected(512));
        let stated = |n| open(&[&[("config.json", HF), ("tokenizer_config.json", n)], &REST[..]].concat()).unwrap();
        assert_eq!(stated(r#"{"model_max_length": 256}"#), expected(256));
        assert_eq!(stated(r#"{"model_max_length": 1e30}"#), expected(512));
    }

    #[test]
    fn what_cannot_score_is_refused_by_name() {
        let refused = |name: &str, text: &str| open(&[&[(name, text)], &REST[..]].concat()).unwrap_err().to_string();
        assert!(refused("config.json", &HF.replace("BertForSequenceClassification", "BertModel")).contains("BertModel"));
        assert!(refused("config.json", &HF.replace(r#"{"0": "A"}"#, r#"{"0": "A", "1": "B", "2": "C"}"#)).contains("is 3"));
        assert!(refused("config.json", &HF.replace("512", "null")).contains("max_position_embeddings"));
        assert!(refused("kindred-model.toml", "name = \"x\"\nkind = \"cross_encoder\"\nmax_tokens = 3\n").contains("max_tokens"));
        let encoder = "name = \"m\"\ndims = 8\nmax_tokens = 20\npooling = \"mean\"\nnormalize = true\n";
        assert!(refused("kindred-model.toml", encoder).contains("kindred-model.toml"));
        for files in [&[][..], &[("config.json", HF)], &[("config.json", HF), REST[0]]] {
            let message = open(files).unwrap_err().to_string();
            assert!(message.contains("is missing") && message.contains("cross_encoder.model_dir"), "{message}");
        }
    }
}
