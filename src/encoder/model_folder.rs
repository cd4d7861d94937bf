//! A model folder: what a user points `encoder.model_dir` at.
//!
//! *On disk*:
//!
//! | file | holds |
//! |---|---|
//! | `model.onnx` | the encoder: `input_ids`, `attention_mask` (and `token_type_ids`) → `[batch × sequence × dims]` f32 |
//! | `tokenizer.json` | the tokenizer |
//! | `kindred-model.toml` | name, dims, max_tokens, pooling, normalize |

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pooling::Pooling;
use crate::error::ErrorKind;

pub const MODEL_FILE: &str = "model.onnx";
pub const TOKENIZER_FILE: &str = "tokenizer.json";
pub const CONFIG_FILE: &str = "kindred-model.toml";

/// Why a folder is no model folder.
#[derive(Debug, thiserror::Error)]
pub enum ModelFolderError {
    #[error(
        "{} is missing. Run `kindred fetch` for the default model, or `kindred model import <folder>` for a sentence-transformers model of your own, \
         and point encoder.model_dir to the model folder",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error("{} cannot be read as a model's description", path.display())]
    Config { path: PathBuf, source: toml::de::Error },
    #[error("{field} in {} is {found}, but must be {expected}", path.display())]
    Value { path: PathBuf, field: &'static str, found: String, expected: &'static str },
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl ModelFolderError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}

/// What `kindred-model.toml` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    pub name: String,
    pub dims: usize,
    /// Longest text in tokens, special tokens included.
    pub max_tokens: usize,
    pub pooling: Pooling,
    /// Whether embeddings are scaled to unit length: always, in Kindred.
    pub normalize: bool,
}

/// A folder whose three files are there.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    dir: PathBuf,
    pub config: ModelConfig,
}

impl ModelFolder {
    /// Reads the description and checks that the other files are there.
    ///
    /// # Errors
    /// [`ModelFolderError::Missing`] when the folder or a file of it is not there; [`ModelFolderError::Config`] or
    /// [`ModelFolderError::Value`] when the description does not parse or holds a value that cannot be.
    pub fn open(dir: &Path) -> Result<Self, ModelFolderError> {
        if let Some(path) = [CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE].map(|name| dir.join(name)).into_iter().find(|path| !path.is_file()) {
            return Err(ModelFolderError::Missing { path });
        }
        let path = dir.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path).map_err(|source| ModelFolderError::Io { path: path.clone(), source })?;
        let config: ModelConfig = toml::from_str(&text).map_err(|source| ModelFolderError::Config { path: path.clone(), source })?;
        let value = |field, found: String, expected| Err(ModelFolderError::Value { path: path.clone(), field, found, expected });
        match &config {
            c if c.dims == 0 => value("dims", "0".to_owned(), "at least 1"),
            // Two special tokens surround a text.
            c if c.max_tokens < 3 => value("max_tokens", c.max_tokens.to_string(), "at least 3"),
            c if !c.normalize => value("normalize", "false".to_owned(), "true: Kindred compares embeddings of unit length"),
            _ => Ok(Self { dir: dir.to_owned(), config }),
        }
    }

    /// The ONNX file.
    pub fn model_path(&self) -> PathBuf {
        self.dir.join(MODEL_FILE)
    }

    /// The tokenizer's file.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.dir.join(TOKENIZER_FILE)
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The sha256 of a file.
///
/// # Errors
/// [`ModelFolderError::Io`].
pub fn hash_file(path: &Path) -> Result<[u8; 32], ModelFolderError> {
    let read = || -> io::Result<[u8; 32]> {
        let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hash.finalize().into()),
                n => hash.update(&buffer[..n]),
            }
        }
    };
    read().map_err(|source| ModelFolderError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "name = \"m\"\ndims = 8\nmax_tokens = 20\npooling = \"mean\"\nnormalize = true\n";

    fn open(config: &str) -> Result<ModelFolder, ModelFolderError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [(CONFIG_FILE, config), (MODEL_FILE, ""), (TOKENIZER_FILE, "")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        ModelFolder::open(dir.path())
    }

    #[test]
    fn a_description_is_read_and_checked() {
        assert_eq!(open(CONFIG).unwrap().config.max_tokens, 20);
        for (from, to, named) in [
            ("dims = 8", "dims = 0", "dims"),
            ("max_tokens = 20", "max_tokens = 2", "max_tokens"),
            ("normalize = true", "normalize = false", "normalize"),
        ] {
            let message = open(&CONFIG.replace(from, to)).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
        assert!(matches!(open(&CONFIG.replace("mean", "max")), Err(ModelFolderError::Config { .. })));
        assert!(matches!(open(&format!("{CONFIG}colour = 1")), Err(ModelFolderError::Config { .. })));
    }

    #[test]
    fn an_empty_folder_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let message = ModelFolder::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("kindred fetch") && message.contains("kindred model import"), "{message}");
    }

    #[test]
    fn hashing_is_sha256() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        assert_eq!(hash_file(file.path()).unwrap()[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
