//! Turns a sentence-transformers folder, or that of a cross-encoder, into a model folder that Kindred serves, without Python.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | reads the folder, writes the model folder |
//! | `cross_encoder.rs` | the same for a cross-encoder |
//! | `bert.rs` | BERT as an ONNX graph, in f32, f16 or int8 |
//! | `int8.rs` | a linear layer in bytes |
//! | `calibration.rs` | the ranges that int8 needs, and their file |
//! | `calibrate.rs` | sees them on real text, and holds the result against f32 |
//! | `weights.rs` | tensors by name, checked and widened to f32 |
//! | `onnx.rs` | the protobuf messages of ONNX |

mod bert;
mod calibrate;
mod calibration;
mod cross_encoder;
mod int8;
mod onnx;
mod weights;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use prost::Message;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::EncoderError;
use super::classifier_folder::is_classifier;
use super::closeness::Closeness;
use super::model_folder::{CONFIG_FILE, MODEL_FILE, ModelConfig, ModelFolder, Precision, TOKENIZER_FILE, Variant};
use super::sentence_transformers::{Layout, LayoutError, required, required_json};
use bert::{BertConfig, Numbers, Output};
use calibrate::Split;
use calibration::Calibration;
use kindred_core::domain::hex;
use kindred_core::error::ErrorKind;
use kindred_core::storage::{self, StorageError};
use weights::Weights;

/// A protobuf message cannot be larger.
const MAX_MODEL_BYTES: usize = i32::MAX as usize;
/// Texts that a model's licence may ask to keep beside it.
const LEGAL_FILES: [&str; 5] = ["LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "README.md"];
const WEIGHTS_FILE: &str = "model.safetensors";
/// The ranges that the int8 file was made with.
const CALIBRATION_FILE: &str = "calibration.safetensors";
/// An int8 model further from f32 than this embeds something else.
const LEAST_MEAN_COSINE: f64 = 0.95;

/// Why a folder cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(
        "{what} is {found}; the import supports {supported}. Export the model to ONNX with another tool and put model.onnx into the folder"
    )]
    Unsupported { what: &'static str, found: String, supported: &'static str },
    #[error("a cross-encoder is imported in fp32 only: leave --int8 and --fp16 out")]
    OnlyFp32,
    #[error("{reason} in model.safetensors: it is damaged, or its config.json belongs to another model")]
    Weights { reason: String },
    #[error("the calibration cannot be used: {reason}")]
    Calibration { reason: String },
    #[error("calibration needs texts: at least {wanted} of the kind that will be embedded, not {n_texts}")]
    TooFewTexts { n_texts: usize, wanted: usize },
    #[error(
        "in int8 the model is too far from itself (mean cosine {mean:.3} on texts held out): calibrate with texts of the kind that will be embedded, or go without --int8"
    )]
    TooFar { mean: f64 },
    #[error("the model needs {bytes} bytes as 32-bit floats, more than the 2 GB that one ONNX file can hold")]
    TooLarge { bytes: usize },
    #[error("{} exists already: delete it, or choose another name", path.display())]
    Exists { path: PathBuf },
    #[error(transparent)]
    Encoder(Box<EncoderError>),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<EncoderError> for ImportError {
    fn from(e: EncoderError) -> Self {
        Self::Encoder(Box::new(e))
    }
}

impl ImportError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Layout(e) => e.kind(),
            Self::Unsupported { .. } | Self::OnlyFp32 | Self::Weights { .. } | Self::Calibration { .. } => ErrorKind::Invalid,
            Self::TooFewTexts { .. } | Self::TooFar { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::Encoder(e) => e.kind(),
            Self::Storage(e) => e.kind(),
        }
    }
}

/// What to import, and in which numbers beside f32.
#[derive(Debug, Clone, Copy)]
pub struct ImportRequest<'a> {
    /// A sentence-transformers folder.
    pub source: &'a Path,
    /// The model folder to make; its last part becomes the model's name.
    pub target: &'a Path,
    pub int8: Option<Ranges<'a>>,
    pub fp16: bool,
}

/// Where the ranges of an int8 model come from.
#[derive(Debug, Clone, Copy)]
pub enum Ranges<'a> {
    /// A calibration file that was made with these weights before.
    Known(&'a [u8]),
    /// To be seen on these texts, with this ONNX Runtime. Every fifth is held out to check the result.
    Seen { texts: &'a [String], library: &'a Path },
}

/// What an import made.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    pub name: String,
    /// Numbers of an embedding; `None` of a cross-encoder, which makes none.
    pub dims: Option<usize>,
    pub max_tokens: usize,
    /// The new model folder, to be named in `encoder.model_dir`, or `cross_encoder.model_dir`.
    pub model_dir: PathBuf,
    /// Whether the ONNX file was written here; otherwise the folder brought its own.
    pub graph_written: bool,
    /// How close int8 is to f32 on texts that it was not calibrated with, where that was measured.
    pub int8: Option<Closeness>,
}

/// Makes a model folder from a sentence-transformers folder.
///
/// The folder appears whole or not at all. A `model.onnx` (also `onnx/model.onnx`) in the source is used as it is, unless other numbers
/// are asked for, which are made from `model.safetensors`.
///
/// # Errors
/// [`ImportError`] names what is wrong with the source or the texts; [`ImportError::Exists`] when `target` is there already.
pub fn import(request: &ImportRequest<'_>) -> Result<Imported, ImportError> {
    let target = request.target;
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
    let is_sentence_encoder = request.source.join("modules.json").is_file();
    let imported = if !is_sentence_encoder && is_classifier(request.source)? {
        cross_encoder::write_model(request, &made)?
    } else {
        write_model(request, &made, aside.path())?
    };
    copy_legal_files(request.source, &made)?;
    storage::publish_dir(&made, target)?;
    Ok(imported)
}

fn write_model(request: &ImportRequest<'_>, made: &Path, scratch: &Path) -> Result<Imported, ImportError> {
    let source = request.source;
    let layout = Layout::read(source)?;
    let tokenizer = required(&layout.transformer.join(TOKENIZER_FILE)).or_else(|_| required(&source.join(TOKENIZER_FILE)))?;
    storage::replace_file(&made.join(TOKENIZER_FILE), &tokenizer)?;
    let mut config = ModelFolder::describe(request.target, &layout);
    let only_f32 = request.int8.is_none() && !request.fp16;
    let ready = graph_in(source).filter(|_| only_f32);
    let int8 = match &ready {
        Some(path) => {
            storage::replace_file(&made.join(MODEL_FILE), &required(path)?)?;
            None
        }
        None => write_graphs(request, &layout, &mut config, made, scratch)?,
    };
    let toml = toml::to_string(&config).expect("a model's configuration is plain values");
    storage::replace_file(&made.join(CONFIG_FILE), toml.as_bytes())?;
    let ModelConfig { name, dims, max_tokens, .. } = config;
    let (model_dir, graph_written) = (request.target.to_owned(), ready.is_none());
    Ok(Imported { name, dims: Some(dims), max_tokens, model_dir, graph_written, int8 })
}

/// The ONNX file that a folder brings.
fn graph_in(source: &Path) -> Option<PathBuf> {
    [source.join(MODEL_FILE), source.join("onnx").join(MODEL_FILE)].into_iter().find(|path| path.is_file())
}

fn copy_legal_files(source: &Path, made: &Path) -> Result<(), ImportError> {
    for name in LEGAL_FILES {
        if let Some(text) = storage::read_file(&source.join(name))? {
            storage::replace_file(&made.join(name), &text)?;
        }
    }
    Ok(())
}

/// Writes the ONNX file of each precision that is asked for, and notes in `config` what belongs together.
fn write_graphs(
    request: &ImportRequest<'_>,
    layout: &Layout,
    config: &mut ModelConfig,
    made: &Path,
    scratch: &Path,
) -> Result<Option<Closeness>, ImportError> {
    let bert = read_config(&layout.transformer)?;
    let bytes = required(&layout.transformer.join(WEIGHTS_FILE))?;
    let weights = Weights::new(&bytes)?;
    let write = |precision: Precision, numbers| -> Result<String, ImportError> {
        let graph = encoded(&bert::model(&bert, &weights, numbers, Output::Hidden)?)?;
        storage::replace_file(&made.join(precision.file()), &graph)?;
        Ok(hex(Sha256::digest(&graph)))
    };
    let made_from = write(Precision::Fp32, Numbers::F32)?;
    if request.fp16 {
        config.fp16 = Some(Variant { sha256: write(Precision::Fp16, Numbers::F16)?, made_from: made_from.clone() });
    }
    let Some(ranges) = request.int8 else { return Ok(None) };
    let weights_sha256 = hex(Sha256::digest(&bytes));
    let (file, held_out) = match ranges {
        Ranges::Known(file) => (file.to_vec(), None),
        Ranges::Seen { texts, library } => {
            let mut observed = bert::model(&bert, &weights, Numbers::F32, Output::Hidden)?;
            let inputs = bert::observed(&bert, &mut observed);
            let path = scratch.join("observed.onnx");
            storage::replace_file(&path, &encoded(&observed)?)?;
            let Split { seen, held_out } = calibrate::tokens(texts, made, config.max_tokens)?;
            (calibrate::see(&inputs, &path, library, &seen)?.to_bytes(&weights_sha256), Some((held_out, library)))
        }
    };
    // From the file in any case: what it rounds, it rounds for all who use it.
    let calibration = Calibration::from_bytes(&file, &weights_sha256)?;
    storage::replace_file(&made.join(CALIBRATION_FILE), &file)?;
    config.int8 = Some(Variant { sha256: write(Precision::Int8, Numbers::Int8(&calibration))?, made_from });
    let Some((held_out, library)) = held_out else { return Ok(None) };
    let closeness = calibrate::compare(made, config, library, held_out)?;
    if closeness.mean_cosine < LEAST_MEAN_COSINE {
        return Err(ImportError::TooFar { mean: closeness.mean_cosine });
    }
    Ok(Some(closeness))
}

/// The `config.json` of a BERT that can be written as a graph.
fn read_config(folder: &Path) -> Result<BertConfig, ImportError> {
    let bert: BertConfig = required_json(&folder.join("config.json"))?;
    bert.check()?;
    match bert.size_bytes().unwrap_or(usize::MAX) {
        bytes if bytes > MAX_MODEL_BYTES => Err(ImportError::TooLarge { bytes }),
        _ => Ok(bert),
    }
}

/// Bytes of the matrices that the linear layers multiply by, which is what every run of the model reads; `None` for a file that cannot be
/// read as a model.
pub fn linear_weight_bytes(model_dir: &Path, precision: Precision) -> Option<u64> {
    let path = ModelFolder::open(model_dir).ok()?.model_path(precision)?;
    let model = onnx::Model::decode(storage::read_file(&path).ok()??.as_slice()).ok()?;
    let graph = model.graph?;
    let multiplies = |op_type: &str| ["MatMul", "Gemm", "MatMulIntegerToFloat"].contains(&op_type);
    let matrices: HashSet<&String> =
        graph.node.iter().filter(|node| multiplies(&node.op_type)).filter_map(|node| node.input.get(1)).collect();
    Some(graph.initializer.iter().filter(|tensor| matrices.contains(&tensor.name)).map(|tensor| tensor.raw_data.len() as u64).sum())
}

fn encoded(model: &onnx::Model) -> Result<Vec<u8>, ImportError> {
    match model.encoded_len() {
        bytes if bytes > MAX_MODEL_BYTES => Err(ImportError::TooLarge { bytes }),
        _ => Ok(model.encode_to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Pooled;
    use crate::session::{Provider, Session, SessionSettings};
    use crate::{CudaSettings, assets};
    use std::fs;

    fn import_from(source: &Path, target: &Path) -> Result<Imported, ImportError> {
        import(&ImportRequest { source, target, int8: None, fp16: false })
    }

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
        let error = import_from(source.path(), &target).unwrap_err();
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

    /// A model of random weights that is small but whole.
    fn tiny() -> tempfile::TempDir {
        let mut state = 1u32;
        let mut random = |n: usize| -> Vec<u8> {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            (0..n).flat_map(|_| next().to_le_bytes()).collect()
        };
        let layer = "encoder.layer.0.";
        let mut shapes = vec![
            ("embeddings.word_embeddings.weight".to_owned(), vec![30_522, 8]),
            ("embeddings.position_embeddings.weight".to_owned(), vec![32, 8]),
            ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, 8]),
        ];
        for norm in ["embeddings.LayerNorm", "encoder.layer.0.attention.output.LayerNorm", "encoder.layer.0.output.LayerNorm"] {
            shapes.extend(["weight", "bias"].map(|part| (format!("{norm}.{part}"), vec![8])));
        }
        for (name, out, inner) in [
            ("attention.self.query", 8, 8),
            ("attention.self.key", 8, 8),
            ("attention.self.value", 8, 8),
            ("attention.output.dense", 8, 8),
            ("intermediate.dense", 16, 8),
            ("output.dense", 8, 16),
        ] {
            shapes.push((format!("{layer}{name}.weight"), vec![out, inner]));
            shapes.push((format!("{layer}{name}.bias"), vec![out]));
        }
        let data: Vec<_> = shapes.into_iter().map(|(name, shape)| (name, random(shape.iter().product()), shape)).collect();
        let views = data.iter().map(|(name, bytes, shape)| {
            (name.as_str(), safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
        });
        let source = folder(&[("config.json", &CONFIG.replace("\"vocab_size\": 10", "\"vocab_size\": 30522"))]);
        fs::write(source.path().join(WEIGHTS_FILE), safetensors::serialize(views, None).unwrap()).unwrap();
        let default = assets::ensure_model(&models()).unwrap();
        fs::copy(default.join(TOKENIZER_FILE), source.path().join(TOKENIZER_FILE)).unwrap();
        source
    }

    fn models() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
    }

    #[test]
    fn other_numbers_embed_almost_the_same() {
        let (source, library) = (tiny(), assets::ensure_library(&models()).unwrap());
        let texts: Vec<String> = (0..40).map(|i| format!("nurse number {i} on ward {}", i * 7 % 11)).collect();
        let target = source.path().join("made");
        let request = |texts| ImportRequest {
            source: source.path(),
            target: &target,
            int8: Some(Ranges::Seen { texts, library: &library }),
            fp16: true,
        };
        assert!(matches!(import(&request(&texts[..5])), Err(ImportError::TooFewTexts { n_texts: 5, .. })));
        assert!(!target.exists());
        let imported = import(&request(&texts)).unwrap();
        let closeness = imported.int8.unwrap();
        assert!(closeness.n_texts == 8 && closeness.min_cosine > 0.99 && closeness.min_cosine < 1.0, "{closeness:?}");
        let folder = ModelFolder::open(&target).unwrap();
        let tokens = calibrate::tokens(&texts, &target, 32).unwrap().seen;
        let embed = |precision| {
            folder.hash(precision, folder.hash_model().unwrap()).unwrap();
            let model = folder.model_path(precision).unwrap();
            let (library, head, cuda) = (library.clone(), Pooled { dims: 8, pooling: folder.config.pooling }, CudaSettings::default());
            let mut session = Session::open(&SessionSettings { library, model, head, precision, cuda }, Provider::Cpu).unwrap();
            session.run(&tokens.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
        };
        for (exact, half) in embed(Precision::Fp32).iter().zip(embed(Precision::Fp16)) {
            let cosine: f32 = exact.as_slice().iter().zip(half.as_slice()).map(|(a, b)| a * b).sum();
            assert!((0.999..1.001).contains(&cosine), "{cosine}");
        }
        // The same ranges make the same file, without looking at texts.
        let again = source.path().join("again");
        let known = fs::read(target.join(CALIBRATION_FILE)).unwrap();
        import(&ImportRequest { target: &again, int8: Some(Ranges::Known(&known)), ..request(&texts) }).unwrap();
        assert!(fs::read(again.join("model.int8.onnx")).unwrap() == fs::read(target.join("model.int8.onnx")).unwrap());
    }

    #[test]
    fn an_onnx_file_is_used_as_it_is() {
        let sentence = r#"{"max_seq_length": 20}"#;
        let files = [("config.json", CONFIG), ("tokenizer.json", "{}"), ("onnx/model.onnx", "bytes"), ("LICENSE", "free")];
        let source = folder(&[files.as_slice(), &[("sentence_bert_config.json", sentence)]].concat());
        let target = source.path().join("mine");
        let imported = import_from(source.path(), &target).unwrap();
        assert_eq!((imported.name.as_str(), imported.dims, imported.max_tokens, imported.graph_written), ("mine", Some(8), 20, false));
        assert_eq!(fs::read(target.join("model.onnx")).unwrap(), b"bytes");
        assert_eq!(storage::list_dir(&target).unwrap(), ["LICENSE", "kindred-model.toml", "model.onnx", "tokenizer.json"]);
        assert!(matches!(import_from(source.path(), &target), Err(ImportError::Exists { .. })));
    }
}
