//! Tiny cross-encoders of random weights, held against transformers (tests/fixtures/make_cross_encoder.py).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use super::*;
use crate::{ArenaGrowth, CudaSettings, ImportRequest, Side, assets, import};
use kindred_core::error::ErrorKind;

const CUT: PairFit = PairFit { cut: Some(Side::Right), max_document_tokens: None };

#[derive(Deserialize)]
struct Expected {
    max_tokens: usize,
    pairs: Vec<ExpectedPair>,
    one: Vec<Vec<f32>>,
    two: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct ExpectedPair {
    query: String,
    document: String,
    ids: Vec<u32>,
    types: Vec<u32>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cross_encoder")
}

fn expected() -> Expected {
    serde_json::from_slice(&fs::read(fixtures().join("expected.json")).unwrap()).unwrap()
}

/// A folder as Hugging Face has it, of some of the fixture's files.
fn source(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in files {
        fs::copy(fixtures().join(from), dir.path().join(to)).unwrap();
    }
    dir
}

const TOKENIZER: (&str, &str) = ("one/tokenizer.json", "tokenizer.json");

fn safetensors(name: &str) -> TempDir {
    let (config, weights) = (format!("{name}/config.json"), format!("{name}/model.safetensors"));
    source(&[(&config, "config.json"), (&weights, "model.safetensors"), TOKENIZER])
}

fn settings(model_dir: &Path) -> CrossEncoderSettings {
    CrossEncoderSettings {
        model_dir: model_dir.to_owned(),
        device: Device::Cpu,
        threads: 2,
        max_tokens: 0,
        max_batch_tokens: 0,
        max_queue: 1000,
        max_wait_ms: 600_000,
        candidates: 10,
        max_candidates: 100,
    }
}

/// With the runtime that was fetched.
fn load(settings: &CrossEncoderSettings) -> Result<CrossEncoder, EncoderError> {
    let assets = assets::ensure(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")).expect("the runtime can be fetched");
    let encoder = EncoderSettings {
        model_dir: assets.model_dir,
        device: Device::Cpu,
        precision: PrecisionChoice::Auto,
        threads: 1,
        max_tokens: 0,
        ort_library: assets.ort_library,
        max_batch_tokens: 0,
        max_batch_wait_us: 0,
        max_queue: 1,
        max_wait_ms: 1,
        query_cache_bytes: 0,
        phrase_cache_bytes: 0,
        cuda: CudaSettings { memory_bytes: 0, arena: ArenaGrowth::AsNeeded, lengths: Vec::new(), rows: Vec::new() },
    };
    CrossEncoder::load(settings, &encoder)
}

fn imported(source: &Path) -> CrossEncoder {
    let target = source.join("made");
    let imported = import(&ImportRequest { source, target: &target, int8: None, fp16: false }).unwrap();
    assert_eq!((imported.dims, imported.graph_written), (None, !source.join("model.onnx").exists()));
    load(&settings(&target)).unwrap()
}

/// Each pair alone, and all documents together against one query.
async fn holds(cross_encoder: &CrossEncoder, logit: impl Fn(usize) -> f32) {
    let Expected { pairs, .. } = expected();
    for (i, pair) in pairs.iter().enumerate() {
        let scored = cross_encoder.score(pair.query.clone(), vec![pair.document.clone()], CUT).await.unwrap();
        assert!((scored.logits[0] - logit(i)).abs() < 1e-3, "{}: {} is not {}", pair.document, scored.logits[0], logit(i));
        assert_eq!(scored.n_tokens, pair.ids.len());
    }
    let of_query = |i: &usize| pairs[*i].query == pairs[0].query;
    let same: Vec<usize> = (0..pairs.len()).filter(of_query).collect();
    assert!(same.len() > 2);
    let documents = same.iter().map(|&i| pairs[i].document.clone()).collect();
    let together = cross_encoder.score(pairs[0].query.clone(), documents, CUT).await.unwrap();
    for (&i, &actual) in same.iter().zip(&together.logits) {
        assert!((actual - logit(i)).abs() < 1e-3, "{}", pairs[i].document);
    }
}

#[tokio::test]
async fn scores_agree_with_transformers() {
    let Expected { one, two, max_tokens, .. } = expected();
    let folder = safetensors("one");
    let cross_encoder = imported(folder.path());
    assert_eq!((cross_encoder.info().name.as_str(), cross_encoder.info().max_tokens), ("made", max_tokens));
    holds(&cross_encoder, |i| one[i][0]).await;
    let folder = safetensors("two");
    holds(&imported(folder.path()), |i| two[i][1] - two[i][0]).await;
}

#[tokio::test]
async fn a_graph_of_another_tool_will_do() {
    let one = expected().one;
    let folder = source(&[("one/config.json", "config.json"), ("one/onnx/model.onnx", "model.onnx"), TOKENIZER]);
    holds(&imported(folder.path()), |i| one[i][0]).await;
    holds(&load(&settings(folder.path())).unwrap(), |i| one[i][0]).await;
}

#[test]
fn pairs_are_tokenised_as_transformers_does() {
    let Expected { pairs, max_tokens, .. } = expected();
    let tokenizer = Tokenizer::load(&fixtures().join("one/tokenizer.json"), max_tokens).unwrap();
    let of = |query: &str, document: &str, fit| tokenizer.pairs(query, &[document.to_owned()], fit).map(|mut pairs| pairs.remove(0));
    for ExpectedPair { query, document, ids, types } in pairs {
        assert_eq!(of(&query, &document, CUT).unwrap(), Pair { ids, types }, "{query} | {document}");
    }
    let refuse = PairFit { cut: None, max_document_tokens: None };
    assert_eq!(of("nurse", "night shift", refuse).unwrap(), of("nurse", "night shift", CUT).unwrap());
    let error = of("nurse", &"night ".repeat(100), refuse).unwrap_err();
    assert!(matches!(error, EncoderError::PairTooLong { position: 0, actual: 104, limit: 64 }), "{error}");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    // From the left its end is kept; a query that fills the model leaves half of it.
    let text = format!("{}ward", "night ".repeat(100));
    let left = of("nurse", &text, PairFit { cut: Some(Side::Left), ..CUT }).unwrap();
    let (ward, nurse) = (of("ward", "", CUT).unwrap().ids[1], of("nurse", "", CUT).unwrap().ids[1]);
    assert_eq!((left.ids.len(), left.ids[62]), (64, ward));
    let both = of(&"nurse ".repeat(2_000), &text, CUT).unwrap();
    assert_eq!((both.ids.len(), both.ids.iter().filter(|&&id| id == nurse).count()), (64, 31));
    assert_eq!(both.types.iter().filter(|&&of| of == 1).count(), 31);
    let short = of("nurse", &text, PairFit { max_document_tokens: Some(3), ..CUT }).unwrap();
    assert_eq!(short.ids.len(), 7);
    assert_eq!(of("nurse", &text, PairFit { max_document_tokens: Some(0), ..CUT }).unwrap().ids.len(), 4);
    for odd in ["\0", "\u{feff}\u{200d}", &"x".repeat(1_000_000), &" ".repeat(1_000_000)] {
        assert!(of(odd, odd, CUT).unwrap().ids.len() <= 64);
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_an_answer() {
    let folder = safetensors("one");
    let cross_encoder = imported(folder.path());
    let documents = || vec!["a nurse".to_owned(), "a welder".to_owned()];
    let late = cross_encoder.score_by(Instant::now(), "nurse".to_owned(), documents()).await.unwrap_err();
    assert!(matches!(late, EncoderError::TooLate { .. }) && late.to_string().contains("cross_encoder.max_wait_ms"), "{late}");
    let soon = Instant::now() + Duration::from_secs(600);
    let scored = cross_encoder.score_by(soon, "nurse".to_owned(), documents()).await.unwrap();
    let again = cross_encoder.score("nurse".to_owned(), documents(), CUT).await.unwrap();
    assert!(scored.logits.iter().zip(&again.logits).all(|(a, b)| (a - b).abs() < 1e-5));
    assert!(cross_encoder.score("nurse".to_owned(), Vec::new(), CUT).await.unwrap().logits.is_empty());
}

#[test]
fn what_is_no_cross_encoder_is_refused_by_name() {
    let folder = safetensors("one");
    drop(imported(folder.path()));
    let made = folder.path().join("made");
    let error = load(&CrossEncoderSettings { max_tokens: 65, ..settings(&made) }).unwrap_err().to_string();
    assert!(error.contains("cross_encoder.max_tokens is 65") && error.contains("8 to 64"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = load(&settings(empty.path())).unwrap_err().to_string();
    assert!(error.contains("cross_encoder.model_dir"), "{error}");
    // An encoder's graph, under a cross-encoder's description.
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/all-MiniLM-L6-v2");
    fs::copy(models.join("model.onnx"), made.join("model.onnx")).unwrap();
    let error = load(&settings(&made)).unwrap_err();
    assert!(kindred_core::error::chain(&error).contains("cross-encoder's logits"), "{error:?}");
}

#[test]
fn what_the_import_does_not_make_is_refused_by_name() {
    let folder = safetensors("one");
    let target = folder.path().join("made");
    let request = ImportRequest { source: folder.path(), target: &target, int8: None, fp16: true };
    let error = import(&request).unwrap_err().to_string();
    assert!(error.contains("fp32 only"), "{error}");
    let plain = ImportRequest { fp16: false, ..request };
    fs::copy(fixtures().join("two/config.json"), folder.path().join("config.json")).unwrap();
    fs::write(folder.path().join("model.safetensors"), "garbage").unwrap();
    assert!(import(&plain).unwrap_err().to_string().contains("model.safetensors"));
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    fs::write(folder.path().join("config.json"), config.replace("\"0\": \"LABEL_0\"", "\"0\": \"x\", \"7\": \"y\"")).unwrap();
    let labels = import(&plain).unwrap_err().to_string();
    assert!(labels.contains("labels") || labels.contains("model.safetensors"), "{labels}");
    assert!(!target.exists());
}
