//! `kindred model import`: a sentence-transformers folder, or that of a cross-encoder, becomes a model folder.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use super::fetch;
use crate::config::Settings;
use kindred_encoder::{Closeness, ImportRequest, Ranges, find_library, import};

/// Texts that are taken of each file, evenly spread over it: more change the ranges no more.
const TEXTS_PER_FILE: usize = 300;

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Folder with model.safetensors, config.json and tokenizer.json
    folder: PathBuf,
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "models/imported")]
    to: PathBuf,
    /// Make model.int8.onnx, too: three to four times as fast for queries on a CPU
    #[arg(long, requires = "calibrate")]
    int8: bool,
    /// Texts of the kind that will be embedded, some hundred of documents and of queries: one a line, as a JSON string, or as an object with "text"
    /// (without it, all its strings). Every fifth is held out to measure what int8 costs
    #[arg(long, value_name = "TEXTS.JSONL", requires = "int8")]
    calibrate: Vec<PathBuf>,
    /// Make model.fp16.onnx, too, for GPUs
    #[arg(long)]
    fp16: bool,
    /// What was written, as JSON
    #[arg(long)]
    json: bool,
}

/// Imports the folder and says what came of it.
///
/// # Errors
/// What is wrong with the folder, with the texts, or with writing.
pub fn run(settings: &Settings, args: &ImportArgs) -> Result<()> {
    let (mut texts, mut library) = (Vec::new(), PathBuf::new());
    if args.int8 {
        fetch::ensure_library(settings)?;
        library = find_library(&settings.encoder.ort_library, &settings.encoder.model_dir)?;
        for path in &args.calibrate {
            texts.extend(read_texts(path)?);
        }
    }
    let int8 = args.int8.then_some(Ranges::Seen { texts: &texts, library: &library });
    let imported = import(&ImportRequest { source: &args.folder, target: &args.to, int8, fp16: args.fp16 })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&imported)?);
        return Ok(());
    }
    let whence = if imported.graph_written { "its graph written here" } else { "its own model.onnx" };
    let what = imported.dims.map_or_else(|| "a cross-encoder".to_owned(), |dims| format!("{dims} dims"));
    println!("wrote {}: {what}, {} tokens, {whence}", args.to.display(), imported.max_tokens);
    if let Some(closeness @ Closeness { n_texts, min_cosine, mean_cosine }) = imported.int8 {
        println!("int8 against fp32 on {n_texts} texts held out: cosine {mean_cosine:.4} in the mean, {min_cosine:.4} at worst");
        if !closeness.is_close() {
            println!(
                "this is too far: a server that finds the same in its self-test uses fp32. Calibrate with more texts of the kind that will be embedded"
            );
        }
    }
    let flag = if imported.dims.is_some() { "--model-dir " } else { "--set cross_encoder.model_dir=" };
    println!("use it with: kindred serve {flag}{}", args.to.display());
    Ok(())
}

/// Texts of a file, evenly spread over it.
fn read_texts(path: &Path) -> Result<Vec<String>> {
    let open = || File::open(path).with_context(|| format!("cannot read {}", path.display()));
    let mut texts = Vec::new();
    for (i, line) in BufReader::new(open()?).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read line {} of {}", i + 1, path.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let json: Value = serde_json::from_str(&line).with_context(|| format!("line {} of {} is no JSON", i + 1, path.display()))?;
        match text_of(&json) {
            Some(text) => texts.push(text),
            None => bail!("line {} of {} holds no text: write a JSON string, or an object with \"text\"", i + 1, path.display()),
        }
    }
    let n = texts.len();
    let kept = n.min(TEXTS_PER_FILE);
    Ok((0..kept).map(|i| std::mem::take(&mut texts[i * n / kept])).collect())
}

fn text_of(json: &Value) -> Option<String> {
    let text = match json {
        Value::String(text) => text.clone(),
        Value::Object(fields) => match fields.get("text") {
            Some(text) => text.as_str()?.to_owned(),
            None => fields.values().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"),
        },
        _ => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_may_be_written_in_some_ways() {
        assert_eq!(text_of(&json!("nurse")).unwrap(), "nurse");
        assert_eq!(text_of(&json!({"id": "1", "text": "nurse"})).unwrap(), "nurse");
        assert_eq!(text_of(&json!({"title": "nurse", "years": 3, "city": "Bern"})).unwrap(), "nurse\nBern");
        for none in [json!(3), json!(""), json!({"text": 3}), json!({"years": 3})] {
            assert_eq!(text_of(&none), None);
        }
    }

    #[test]
    fn a_long_file_is_sampled_evenly() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines: String = (0..3_000).map(|i| format!("\"text {i}\"\n\n")).collect();
        std::fs::write(file.path(), lines).unwrap();
        let texts = read_texts(file.path()).unwrap();
        assert_eq!((texts.len(), texts[0].as_str(), texts[299].as_str()), (300, "text 0", "text 2990"));
        std::fs::write(file.path(), "\"a\"\nnurse\n").unwrap();
        assert!(format!("{:#}", read_texts(file.path()).unwrap_err()).contains("line 2"));
    }
}
