//! What the files of a sentence-transformers folder say about a model.
//!
//! | file | says |
//! |---|---|
//! | `modules.json` | where transformer and pooling lie; modules that Kindred does not compute are refused |
//! | `config.json` | architecture, dims, positions, `matryoshka_dimensions` |
//! | `1_Pooling/config.json` | how token vectors become one |
//! | `sentence_bert_config.json` | `max_seq_length` |
//! | `config_sentence_transformers.json` | prompts for queries and documents |

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::pooling::Pooling;
use kindred_core::error::ErrorKind;
use kindred_core::storage::{self, StorageError};

/// Why a folder is no sentence-transformers model that Kindred can serve.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("{} is missing: the folder must hold a sentence-transformers model (config.json, tokenizer.json, modules.json where there is one)", path.display())]
    Missing { path: PathBuf },
    #[error("{} cannot be read as a model's configuration", path.display())]
    Config { path: PathBuf, source: serde_json::Error },
    #[error("{what} is {found}; supported: {supported}")]
    Unsupported { what: &'static str, found: String, supported: &'static str },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl LayoutError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::Config { .. } | Self::Unsupported { .. } => ErrorKind::Invalid,
            Self::Storage(e) => e.kind(),
        }
    }
}

/// A model as its folder describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Where `config.json` and the weights lie.
    pub transformer: PathBuf,
    pub pooling: Pooling,
    pub dims: usize,
    pub max_tokens: usize,
    pub query_prompt: String,
    pub document_prompt: String,
    pub matryoshka_dims: Vec<usize>,
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
    #[serde(default = "yes")]
    include_prompt: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct TransformerConfig {
    #[serde(default)]
    model_type: String,
    hidden_size: usize,
    max_position_embeddings: Option<usize>,
    #[serde(default)]
    matryoshka_dimensions: Vec<usize>,
}

#[derive(Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

#[derive(Default, Deserialize)]
struct PromptConfig {
    #[serde(default)]
    prompts: Map<String, Value>,
}

impl Layout {
    /// Reads the folder's configuration. Without `modules.json` it is a bare encoder, whose usual pooling is the mean.
    ///
    /// # Errors
    /// [`LayoutError::Missing`], [`LayoutError::Config`]; [`LayoutError::Unsupported`] for what would be embedded wrongly.
    pub fn read(folder: &Path) -> Result<Self, LayoutError> {
        let (mut transformer, mut pooling) = (folder.to_owned(), Pooling::Mean);
        for module in json::<Vec<Module>>(&folder.join("modules.json"))?.unwrap_or_default() {
            match module.class.rsplit('.').next().unwrap_or_default() {
                "Transformer" => transformer = folder.join(module.path),
                "Pooling" => pooling = read_pooling(&folder.join(module.path).join("config.json"))?,
                "Normalize" => {}
                _ => {
                    let supported = "the modules Transformer, Pooling and Normalize";
                    return Err(LayoutError::Unsupported { what: "a module in modules.json", found: module.class, supported });
                }
            }
        }
        let config: TransformerConfig = required_json(&transformer.join("config.json"))?;
        let sentence: SentenceConfig = json(&transformer.join("sentence_bert_config.json"))?.unwrap_or_default();
        let prompts = json::<PromptConfig>(&folder.join("config_sentence_transformers.json"))?.unwrap_or_default().prompts;
        let prompt = |names: &[&str]| names.iter().find_map(|name| prompts.get(*name)?.as_str()).unwrap_or_default().to_owned();
        Ok(Self {
            transformer,
            pooling,
            dims: config.hidden_size,
            max_tokens: max_tokens(&config, &sentence)?,
            query_prompt: prompt(&["query", "search_query"]),
            document_prompt: prompt(&["document", "passage", "search_document"]),
            matryoshka_dims: config.matryoshka_dimensions,
        })
    }
}

/// How many of a model's positions are a text's.
pub fn positions(model_type: &str, n: usize) -> usize {
    // These number their positions from the padding's on, so that two of them are no text's.
    let unused = if ["roberta", "xlm-roberta", "camembert", "mpnet"].contains(&model_type) { 2 } else { 0 };
    n.saturating_sub(unused)
}

/// The longest text that the model takes, special tokens included.
fn max_tokens(config: &TransformerConfig, sentence: &SentenceConfig) -> Result<usize, LayoutError> {
    let positions = config.max_position_embeddings.map(|n| positions(&config.model_type, n));
    sentence.max_seq_length.into_iter().chain(positions).min().ok_or(LayoutError::Unsupported {
        what: "the longest text",
        found: "not stated".to_owned(),
        supported: "max_seq_length in sentence_bert_config.json, or max_position_embeddings in config.json",
    })
}

fn read_pooling(path: &Path) -> Result<Pooling, LayoutError> {
    let config: PoolingConfig = required_json(path)?;
    let what = "the pooling in 1_Pooling/config.json";
    if !config.include_prompt {
        return Err(LayoutError::Unsupported { what, found: "without the prompt's tokens".to_owned(), supported: "include_prompt = true" });
    }
    let modes = config.rest.iter().filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool() == Some(true));
    let modes =
        modes.map(|(key, _)| key.trim_start_matches("pooling_mode_").trim_end_matches("_tokens").trim_end_matches("_token").to_owned());
    match config.pooling_mode.into_iter().chain(modes).collect::<Vec<_>>().join(" + ").as_str() {
        "mean" => Ok(Pooling::Mean),
        "cls" => Ok(Pooling::Cls),
        "lasttoken" | "last" => Ok(Pooling::Last),
        found => Err(LayoutError::Unsupported { what, found: found.to_owned(), supported: "mean, cls and lasttoken, one of them" }),
    }
}

/// A file that must be there.
///
/// # Errors
/// [`LayoutError::Missing`], [`LayoutError::Storage`].
pub fn required(path: &Path) -> Result<Vec<u8>, LayoutError> {
    storage::read_file(path)?.ok_or_else(|| LayoutError::Missing { path: path.to_owned() })
}

/// A JSON file that must be there.
///
/// # Errors
/// [`LayoutError::Missing`], [`LayoutError::Config`], [`LayoutError::Storage`].
pub fn required_json<T: DeserializeOwned>(path: &Path) -> Result<T, LayoutError> {
    json(path)?.ok_or_else(|| LayoutError::Missing { path: path.to_owned() })
}

/// A JSON file, if it is there.
///
/// # Errors
/// [`LayoutError::Config`], [`LayoutError::Storage`].
pub fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LayoutError> {
    let parse = |bytes: Vec<u8>| serde_json::from_slice(&bytes).map_err(|source| LayoutError::Config { path: path.to_owned(), source });
    storage::read_file(path)?.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(files: &[(&str, Value)]) -> Result<Layout, LayoutError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, value.to_string()).unwrap();
        }
        Layout::read(dir.path()).map(|layout| Layout { transformer: PathBuf::new(), ..layout })
    }

    fn modules(class: &str) -> (&'static str, Value) {
        ("modules.json", json!([{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": class}]))
    }

    const POOLING: &str = "sentence_transformers.models.Pooling";

    #[test]
    fn everything_that_decides_an_embedding_is_read() {
        let config =
            json!({"model_type": "xlm-roberta", "hidden_size": 8, "max_position_embeddings": 514, "matryoshka_dimensions": [4, 2]});
        let prompts = json!({"prompts": {"query": "query: ", "passage": "passage: "}});
        let pooling = json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false, "word_embedding_dimension": 8});
        let layout = read(&[
            ("config.json", config),
            modules(POOLING),
            ("1_Pooling/config.json", pooling),
            ("config_sentence_transformers.json", prompts),
        ]);
        let expected = Layout {
            transformer: PathBuf::new(),
            pooling: Pooling::Cls,
            dims: 8,
            max_tokens: 512,
            query_prompt: "query: ".to_owned(),
            document_prompt: "passage: ".to_owned(),
            matryoshka_dims: vec![4, 2],
        };
        assert_eq!(layout.unwrap(), expected);
    }

    #[test]
    fn a_bare_encoder_is_pooled_by_the_mean() {
        let config = ("config.json", json!({"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 32}));
        let sentence = ("sentence_bert_config.json", json!({"max_seq_length": 20}));
        let layout = read(&[config.clone(), sentence]).unwrap();
        assert_eq!((layout.pooling, layout.max_tokens, layout.query_prompt.as_str()), (Pooling::Mean, 20, ""));
        assert_eq!(read(&[config]).unwrap().max_tokens, 32);
    }

    #[test]
    fn what_would_be_embedded_wrongly_is_refused_by_name() {
        let config = ("config.json", json!({"hidden_size": 8, "max_position_embeddings": 32}));
        let refused = |files: &[(&str, Value)]| read(&[std::slice::from_ref(&config), files].concat()).unwrap_err().to_string();
        assert!(refused(&[modules("sentence_transformers.models.Dense")]).contains("Dense"));
        for (pooling, named) in [
            (json!({"pooling_mode_max_tokens": true}), "max"),
            (json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}), "mean + cls"),
            (json!({"pooling_mode_mean_tokens": true, "include_prompt": false}), "include_prompt"),
        ] {
            let message = refused(&[modules(POOLING), ("1_Pooling/config.json", pooling)]);
            assert!(message.contains(named) || message.contains("cls + mean"), "{message}");
        }
        assert!(refused(&[modules(POOLING)]).contains("1_Pooling"));
        assert!(read(&[]).unwrap_err().to_string().contains("config.json is missing"));
        assert!(read(&[("config.json", json!({"hidden_size": 8}))]).unwrap_err().to_string().contains("max_seq_length"));
    }
}
