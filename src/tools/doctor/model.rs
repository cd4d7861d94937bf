//! ONNX Runtime, the model, what it runs on, and what one embedding takes.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::{Check, Findings, Status};
use crate::config::Settings;
use crate::tools::serve;
use kindred_encoder::{Closeness, CrossEncoder, Encoder, EncoderError, ModelFolder, QueryOptions, find_library, library_build};

/// A text like those that are searched for.
const TEXT: &str = "keep patients safe as a nurse on night shift";
/// Of so many runs the median counts.
const RUNS: usize = 9;

/// The loaded encoder, if all is well.
pub fn look(findings: &mut Findings, settings: &Settings) -> Option<Arc<Encoder>> {
    let of = &settings.encoder;
    match find_library(&of.ort_library, &of.model_dir).and_then(|path| Ok((library_build(&path)?, path))) {
        Ok((build, path)) => {
            let version = version(&path).unwrap_or("of an unknown version");
            findings.ok("runtime", format!("ONNX Runtime {version}, commit {}: {}", commit(build), path.display()));
        }
        Err(e) => findings.failed("runtime", e),
    }
    match ModelFolder::open(&of.model_dir) {
        Ok(_) => {}
        Err(e) => {
            findings.failed("model", e);
            return None;
        }
    }
    let started = Instant::now();
    let encoder = match Encoder::load(of) {
        Ok(encoder) => Arc::new(encoder),
        Err(e @ EncoderError::Device { .. }) => {
            findings.failed("device", e);
            return None;
        }
        // Told already.
        Err(EncoderError::Library { .. } | EncoderError::LibraryMissing { .. }) => return None,
        Err(e) => {
            findings.failed("model", e);
            return None;
        }
    };
    let info = encoder.info();
    let short = info.model_fingerprint.get(..12).unwrap_or(&info.model_fingerprint);
    findings.ok(
        "model",
        format!(
            "{}: {} dims, {} tokens, queries in {}, documents in {}, fingerprint {short}…, loaded in {:.1} s",
            info.name,
            info.dims,
            info.max_tokens,
            info.query_precision,
            info.document_precision,
            started.elapsed().as_secs_f64()
        ),
    );
    match (&info.warning, info.int8_closeness) {
        // It says what to do, too.
        (Some(warning), _) => findings.add(Check { name: "int8", status: Status::Warn, found: warning.clone(), advice: None }),
        (None, Some(Closeness { n_texts, min_cosine, mean_cosine })) => {
            findings.ok("int8", format!("cosine to fp32 {mean_cosine:.4} in the mean, {min_cosine:.4} at worst, on {n_texts} texts"))
        }
        (None, None) => {}
    }
    let built = if cfg!(feature = "cuda") { "this build has CUDA" } else { "this build has no CUDA" };
    findings.ok("device", format!("{} (encoder.device is {}; {built}), {} threads", info.provider, of.device, info.threads));
    embedding(findings, &encoder);
    cross_encoder(findings, settings);
    Some(encoder)
}

/// The version stands behind the library's name (`libonnxruntime.so.1.31.1`), where it was not renamed.
fn version(library: &Path) -> Option<&str> {
    let (_, version) = library.file_name()?.to_str()?.split_once(".so.")?;
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
}

/// What the library says of its build: branch and commit come first.
fn commit(build: &str) -> &str {
    build.split(", ").find_map(|part| part.split_once("git-commit-id=")).map_or("unknown", |(_, commit)| commit)
}

fn embedding(findings: &mut Findings, encoder: &Encoder) {
    let encode = async || -> Result<Vec<u64>, EncoderError> {
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let started = Instant::now();
            encoder.encode_query("", TEXT, QueryOptions { deadline: None, skip_cache: true }).await?;
            times.push(started.elapsed().as_micros() as u64);
        }
        times.sort_unstable();
        Ok(times)
    };
    match serve::runtime().map(|runtime| runtime.block_on(encode())) {
        Ok(Ok(times)) => findings.ok("embedding", format!("{:.1} ms for a query of nine words", times[RUNS / 2] as f64 / 1e3)),
        Ok(Err(e)) => findings.failed("embedding", e),
        Err(e) => findings.failed("embedding", e),
    }
}

fn cross_encoder(findings: &mut Findings, settings: &Settings) {
    if !settings.cross_encoder.is_configured() {
        return;
    }
    match CrossEncoder::load(&settings.cross_encoder, &settings.encoder) {
        Ok(loaded) => findings.ok("cross-encoder", format!("{}, on {}", loaded.info().name, loaded.info().provider)),
        Err(e) => findings.failed("cross-encoder", e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_tells_version_and_commit() {
        assert_eq!(version(Path::new("/opt/libonnxruntime.so.1.31.1")), Some("1.31.1"));
        assert_eq!(version(Path::new("/opt/libonnxruntime.so")), None);
        assert_eq!(commit("ORT Build Info: git-branch=HEAD, git-commit-id=26250ae, build type=Release"), "26250ae");
        assert_eq!(commit("?"), "unknown");
    }
}
