//! Sees the ranges of a model's inputs on real text, and holds what was made of them against f32 on other text.

use std::path::Path;

use serde::Serialize;

use super::ImportError;
use super::calibration::Calibration;
use crate::CudaSettings;
use crate::head::Pooled;
use crate::model_folder::{ModelConfig, Precision, TOKENIZER_FILE};
use crate::session::{Observer, Provider, Session, SessionSettings};
use crate::tokenizer::{Tokenizer, Tokens};
use kindred_core::Progress;

/// Fewer texts than this say little of the ranges.
const MIN_TEXTS: usize = 20;
/// One text in so many checks the result instead of making it.
const HELD_OUT: usize = 5;

/// How close two models' embeddings of the same texts are.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Closeness {
    pub n_texts: usize,
    pub min_cosine: f64,
    pub mean_cosine: f64,
}

/// Texts as tokens, in two parts that share none.
pub struct Split {
    pub seen: Vec<Tokens>,
    pub held_out: Vec<Tokens>,
}

/// Tokenises texts by the new model's tokenizer.
///
/// # Errors
/// [`ImportError::TooFewTexts`]; [`ImportError::Encoder`] when the tokenizer or a text is none.
pub fn tokens(texts: &[String], made: &Path, max_tokens: usize) -> Result<Split, ImportError> {
    if texts.len() < MIN_TEXTS {
        return Err(ImportError::TooFewTexts { n_texts: texts.len(), wanted: MIN_TEXTS });
    }
    let all = Tokenizer::load(&made.join(TOKENIZER_FILE), max_tokens)?.tokenize(texts)?;
    let (held_out, seen): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(i, _)| i % HELD_OUT == HELD_OUT - 1);
    let strip = |part: Vec<(usize, Tokens)>| part.into_iter().map(|(_, tokens)| tokens).collect();
    Ok(Split { seen: strip(seen), held_out: strip(held_out) })
}

/// Runs a model that puts out these inputs of its layers, and takes in their ranges.
///
/// # Errors
/// [`ImportError::Encoder`] when it cannot be run.
pub fn see(inputs: &[(String, usize)], model: &Path, library: &Path, texts: &[Tokens]) -> Result<Calibration, ImportError> {
    let mut observer = Observer::open(library, model)?;
    let mut calibration = Calibration::new(inputs);
    let progress = Progress::new("calibrating", texts.len() as u64);
    for tokens in texts {
        observer.observe(tokens, |input, rows| calibration.see(input, rows))?;
        calibration.end_text();
        progress.advance(1);
    }
    progress.finish();
    Ok(calibration)
}

/// Compares a folder's int8 model with its f32 model.
///
/// # Errors
/// [`ImportError::Encoder`] when one of them cannot be run.
pub fn compare(made: &Path, config: &ModelConfig, library: &Path, texts: Vec<Tokens>) -> Result<Closeness, ImportError> {
    let open = |precision: Precision| {
        let (model, cuda) = (made.join(precision.file()), CudaSettings::default());
        let head = Pooled { dims: config.dims, pooling: config.pooling };
        let settings = SessionSettings { library: library.to_owned(), model, head, precision, cuda };
        Session::open(&settings, Provider::Cpu)
    };
    let (mut exact, mut rough) = (open(Precision::Fp32)?, open(Precision::Int8)?);
    let (n_texts, mut min_cosine, mut sum) = (texts.len(), 1f64, 0f64);
    for tokens in texts {
        let (a, b) = (exact.run(&[&tokens])?, rough.run(&[&tokens])?);
        let cosine = f64::from(a[0].dot(&b[0]));
        (min_cosine, sum) = (min_cosine.min(cosine), sum + cosine);
    }
    Ok(Closeness { n_texts, min_cosine, mean_cosine: sum / n_texts.max(1) as f64 })
}
