//! A model folder: what a user points `encoder.model_dir` at.
//!
//! *On disk*:
//!
//! | file | holds |
//! |---|---|
//! | `model.onnx` | the encoder: `input_ids`, `attention_mask` (and `token_type_ids`) → `[batch × sequence × dims]` f32 |
//! | `model.int8.onnx`, `model.fp16.onnx` | the same encoder in other numbers, where there are |
//! | `tokenizer.json` | the tokenizer |
//! | `kindred-model.toml` | [`ModelConfig`] |
//!
//! Without `kindred-model.toml` the usual files of sentence-transformers are read ([`super::sentence_transformers`]); `onnx/model.onnx` is
//! where those have their ONNX file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pooling::Pooling;
use super::sentence_transformers::{Layout, LayoutError};
use kindred_core::domain::hex;
use kindred_core::error::ErrorKind;

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
    #[error(
        "{} is missing: cross_encoder.model_dir must hold a cross-encoder (model.onnx, tokenizer.json, and kindred-model.toml or config.json). \
         `kindred model import <folder>` makes such a folder of a BertForSequenceClassification; an empty cross_encoder.model_dir is none",
        path.display()
    )]
    ClassifierMissing { path: PathBuf },
    #[error("{} cannot be read as a model's description", path.display())]
    Config { path: PathBuf, source: toml::de::Error },
    #[error("{field} in {} is {found}, but must be {expected}", path.display())]
    Value { path: PathBuf, field: &'static str, found: String, expected: &'static str },
    #[error("{} cannot be used: {reason}. Make it again with `kindred model import`, or set encoder.precision to \"fp32\"", path.display())]
    Variant { path: PathBuf, reason: String },
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl ModelFolderError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}

/// The numbers that a model computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Fp32,
    Fp16,
    Int8,
}

impl Precision {
    /// The ONNX file of this precision.
    pub fn file(self) -> &'static str {
        match self {
            Self::Fp32 => MODEL_FILE,
            Self::Fp16 => "model.fp16.onnx",
            Self::Int8 => "model.int8.onnx",
        }
    }

    /// What other embedding servers call it.
    pub fn dtype(self) -> &'static str {
        match self {
            Self::Fp32 => "float32",
            Self::Fp16 => "float16",
            Self::Int8 => "int8",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        })
    }
}

/// The same encoder in other numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Of its file, as hex.
    pub sha256: String,
    /// The sha256 of the `model.onnx` that it stands for.
    pub made_from: String,
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
    /// Put before a query's text by collections that do not say otherwise.
    #[serde(default)]
    pub query_prompt: String,
    /// Put before a document's text by collections that do not say otherwise.
    #[serde(default)]
    pub document_prompt: String,
    /// Lengths to which an embedding may be cut and still be one.
    #[serde(default)]
    pub matryoshka_dims: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<Variant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp16: Option<Variant>,
}

/// A folder whose files are there.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    dir: PathBuf,
    model: PathBuf,
    pub config: ModelConfig,
}

impl ModelFolder {
    /// Reads the description and checks that the other files are there.
    ///
    /// # Errors
    /// [`ModelFolderError::Missing`] when the folder or a file of it is not there; [`ModelFolderError::Config`],
    /// [`ModelFolderError::Value`] or [`ModelFolderError::Layout`] when the description does not parse or holds a value that cannot be.
    pub fn open(dir: &Path) -> Result<Self, ModelFolderError> {
        let path = dir.join(CONFIG_FILE);
        let model = [dir.join(MODEL_FILE), dir.join("onnx").join(MODEL_FILE)].into_iter().find(|path| path.is_file());
        let config = if path.is_file() {
            let text = std::fs::read_to_string(&path).map_err(|source| ModelFolderError::Io { path: path.clone(), source })?;
            toml::from_str(&text).map_err(|source| ModelFolderError::Config { path: path.clone(), source })?
        } else if model.is_some() && dir.join("config.json").is_file() {
            Self::describe(dir, &Layout::read(dir)?)
        } else {
            return Err(ModelFolderError::Missing { path });
        };
        let Some(model) = model else { return Err(ModelFolderError::Missing { path: dir.join(MODEL_FILE) }) };
        let folder = Self { dir: dir.to_owned(), model, config };
        if !folder.tokenizer_path().is_file() {
            return Err(ModelFolderError::Missing { path: folder.tokenizer_path() });
        }
        folder.check(path)
    }

    /// What the files of a sentence-transformers folder come to.
    pub fn describe(named: &Path, layout: &Layout) -> ModelConfig {
        ModelConfig {
            name: Self::name_of(named),
            dims: layout.dims,
            max_tokens: layout.max_tokens,
            pooling: layout.pooling,
            normalize: true,
            query_prompt: layout.query_prompt.clone(),
            document_prompt: layout.document_prompt.clone(),
            matryoshka_dims: layout.matryoshka_dims.clone(),
            int8: None,
            fp16: None,
        }
    }

    /// What a model is called that lies in this folder.
    pub fn name_of(dir: &Path) -> String {
        // The folder may be named ".": its full path has a name.
        let path = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        path.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    fn check(self, path: PathBuf) -> Result<Self, ModelFolderError> {
        let value = |field, found: String, expected| Err(ModelFolderError::Value { path, field, found, expected });
        match &self.config {
            c if c.dims == 0 => value("dims", "0".to_owned(), "at least 1"),
            // Two special tokens surround a text.
            c if c.max_tokens < 3 => value("max_tokens", c.max_tokens.to_string(), "at least 3"),
            c if !c.normalize => value("normalize", "false".to_owned(), "true: Kindred compares embeddings of unit length"),
            c if c.matryoshka_dims.iter().any(|&dims| dims == 0 || dims > c.dims) => {
                value("matryoshka_dims", format!("{:?}", c.matryoshka_dims), "numbers from 1 to dims")
            }
            _ => Ok(self),
        }
    }

    /// The ONNX file that computes in these numbers, if there is one.
    pub fn model_path(&self, precision: Precision) -> Option<PathBuf> {
        match precision {
            Precision::Fp32 => Some(self.model.clone()),
            Precision::Fp16 => self.config.fp16.as_ref().map(|_| self.dir.join(precision.file())),
            Precision::Int8 => self.config.int8.as_ref().map(|_| self.dir.join(precision.file())),
        }
    }

    /// The sha256 of `model.onnx`.
    ///
    /// # Errors
    /// [`ModelFolderError::Io`].
    pub fn hash_model(&self) -> Result<[u8; 32], ModelFolderError> {
        hash_file(&self.model)
    }

    /// The sha256 of the ONNX file of a precision, that of `model.onnx` being `of_model`.
    ///
    /// # Errors
    /// [`ModelFolderError::Variant`] when it is missing, is not the file that was made, or was made from another model.
    pub fn hash(&self, precision: Precision, of_model: [u8; 32]) -> Result<[u8; 32], ModelFolderError> {
        let variant = match precision {
            Precision::Fp32 => return Ok(of_model),
            Precision::Fp16 => &self.config.fp16,
            Precision::Int8 => &self.config.int8,
        };
        let path = self.dir.join(precision.file());
        let refuse = |reason: &str| Err(ModelFolderError::Variant { path: path.clone(), reason: reason.to_owned() });
        let Some(variant) = variant else { return refuse("the folder has none") };
        if !path.is_file() {
            return refuse("it is missing");
        }
        let hash = hash_file(&path)?;
        if hex(hash) != variant.sha256 {
            return refuse("it is not the file that was made: its sha256 is another");
        }
        if hex(of_model) != variant.made_from {
            return refuse("it was made from another model.onnx");
        }
        Ok(hash)
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
            ("normalize = true", "normalize = true\nmatryoshka_dims = [4, 9]", "matryoshka_dims"),
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
    fn a_variant_must_belong_to_its_model() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let sha = |text: &str| hex(Sha256::digest(text));
        let config = format!("{CONFIG}[int8]\nsha256 = \"{}\"\nmade_from = \"{}\"\n", sha("bytes"), sha("floats"));
        [(CONFIG_FILE, &*config), (MODEL_FILE, "floats"), (TOKENIZER_FILE, "")].iter().for_each(|(name, text)| write(name, text));
        let hash = |precision| {
            let folder = ModelFolder::open(dir.path()).unwrap();
            folder.hash(precision, folder.hash_model().unwrap())
        };
        let refused = || hash(Precision::Int8).unwrap_err().to_string();
        assert!(refused().contains("model.int8.onnx") && refused().contains("missing"));
        write("model.int8.onnx", "bytes");
        assert_eq!(hex(hash(Precision::Int8).unwrap()), sha("bytes"));
        write(MODEL_FILE, "other floats");
        assert!(refused().contains("another model.onnx"));
        write("model.int8.onnx", "bytez");
        assert!(refused().contains("sha256"));
        assert!(hash(Precision::Fp16).unwrap_err().to_string().contains("none"));
    }

    #[test]
    fn the_files_of_sentence_transformers_will_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("onnx")).unwrap();
        let config = r#"{"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 32}"#;
        for (name, text) in [("config.json", config), ("onnx/model.onnx", "x"), (TOKENIZER_FILE, "{}")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let folder = ModelFolder::open(dir.path()).unwrap();
        assert_eq!((folder.config.dims, folder.config.max_tokens, folder.config.pooling), (8, 32, Pooling::Mean));
        assert_eq!(folder.model_path(Precision::Fp32), Some(dir.path().join("onnx/model.onnx")));
        assert_eq!(folder.config.name, dir.path().file_name().unwrap().to_str().unwrap());
    }

    #[test]
    fn hashing_is_sha256() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        assert_eq!(hash_file(file.path()).unwrap()[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
