//! Sees the ranges of a model's inputs on real text, and holds what was made of them against f32 on other text.

use std::path::Path;

use super::ImportError;
use super::calibration::Calibration;
use crate::CudaSettings;
use crate::closeness::Closeness;
use crate::head::Pooled;
use crate::model_folder::{ModelConfig, Precision, TOKENIZER_FILE};
use crate::session::{Observer, Provider, Session, SessionSettings};
use crate::tokenizer::{Tokenizer, Tokens};
use kindred_core::Progress;

/// Fewer texts than this say little of the ranges.
const MIN_TEXTS: usize = 20;
/// One text in so many checks the result instead of making it.
const HELD_OUT: usize = 5;

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
    let (mut fp32, mut int8) = (open(Precision::Fp32)?, open(Precision::Int8)?);
    let (mut exact, mut rough) = (Vec::new(), Vec::new());
    for tokens in texts {
        exact.append(&mut fp32.run(&[&tokens])?);
        rough.append(&mut int8.run(&[&tokens])?);
    }
    Ok(Closeness::between(&exact, &rough))
}
