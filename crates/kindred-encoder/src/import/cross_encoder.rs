//! The model folder of a cross-encoder: a `BertForSequenceClassification`, or any ONNX file that scores pairs.

use std::path::Path;

use super::bert::{self, Numbers, Output};
use super::weights::Weights;
use super::{ImportError, ImportRequest, Imported, WEIGHTS_FILE, encoded, graph_in, read_config};
use crate::classifier_folder::{ClassifierConfig, describe};
use crate::model_folder::{CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE};
use crate::sentence_transformers::required;
use kindred_core::storage;

/// Writes the files of the folder.
///
/// # Errors
/// [`ImportError`] names what is wrong with the source.
pub fn write_model(request: &ImportRequest<'_>, made: &Path) -> Result<Imported, ImportError> {
    let ImportRequest { source, target, int8, fp16 } = *request;
    if int8.is_some() || fp16 {
        return Err(ImportError::OnlyFp32);
    }
    let config = describe(target, source)?;
    storage::replace_file(&made.join(TOKENIZER_FILE), &required(&source.join(TOKENIZER_FILE))?)?;
    let ready = graph_in(source);
    let graph = match &ready {
        Some(path) => required(path)?,
        None => graph(source)?,
    };
    storage::replace_file(&made.join(MODEL_FILE), &graph)?;
    let toml = toml::to_string(&config).expect("a model's configuration is plain values");
    storage::replace_file(&made.join(CONFIG_FILE), toml.as_bytes())?;
    let ClassifierConfig { name, max_tokens, .. } = config;
    Ok(Imported { name, dims: None, max_tokens, model_dir: target.to_owned(), graph_written: ready.is_none(), int8: None })
}

/// The graph of the weights.
fn graph(source: &Path) -> Result<Vec<u8>, ImportError> {
    let config = read_config(source)?;
    let bytes = required(&source.join(WEIGHTS_FILE))?;
    let weights = Weights::new(&bytes)?;
    let n_classes = weights.shape_at("classifier.weight")?.first().copied().unwrap_or_default();
    if !(1..=2).contains(&n_classes) {
        let supported = "one label, or two of which the second is the positive one";
        return Err(ImportError::Unsupported { what: "the number of labels", found: n_classes.to_string(), supported });
    }
    encoded(&bert::model(&config, &weights, Numbers::F32, Output::Logits { n_classes })?)
}
