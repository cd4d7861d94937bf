//! The encoder on the real model, held against sentence-transformers.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::*;
use kindred_core::domain::{ChunkMode, Chunking};
use kindred_core::error::ErrorKind;

static ASSETS: LazyLock<assets::Assets> =
    LazyLock::new(|| assets::ensure(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models")).expect("the model can be fetched"));
static ENCODER: LazyLock<Encoder> = LazyLock::new(|| Encoder::load(&settings()).expect("the default model loads"));

fn settings() -> EncoderSettings {
    let assets = ASSETS.clone();
    EncoderSettings {
        model_dir: assets.model_dir,
        device: Device::Cpu,
        precision: PrecisionChoice::Auto,
        threads: 2,
        max_tokens: 0,
        ort_library: assets.ort_library,
        max_batch_tokens: 0,
        max_batch_wait_us: 0,
        max_queue: 1000,
        max_wait_ms: 600_000,
        query_cache_bytes: 1_000_000,
        phrase_cache_bytes: 1_000_000,
        cuda: CudaSettings::default(),
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// `[120]` texts and `[120 × 384]` embeddings by sentence-transformers.
fn reference() -> (Vec<String>, Vec<Vec<f32>>) {
    let texts: Vec<String> = serde_json::from_str(include_str!("../../../tests/fixtures/encoder/texts.json")).unwrap();
    let bytes = include_bytes!("../../../tests/fixtures/encoder/embeddings.f32");
    let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    (texts, numbers.chunks_exact(384).map(<[f32]>::to_vec).collect())
}

#[test]
fn embeddings_agree_with_sentence_transformers_in_any_batch() {
    let (texts, expected) = reference();
    assert_eq!((texts.len(), expected.len()), (120, 120));
    for batch in [1, 32, 120] {
        let mut worst = 1.0f64;
        for (texts, expected) in texts.chunks(batch).zip(expected.chunks(batch)) {
            let encoded = ENCODER.encode_blocking(texts.to_vec()).unwrap();
            for (actual, expected) in encoded.embeddings.iter().zip(expected) {
                worst = worst.min(cosine(actual.as_slice(), expected));
            }
        }
        assert!(worst >= 0.9999, "worst cosine in batches of {batch}: {worst}");
    }
}

#[tokio::test]
async fn many_callers_at_once_get_their_own() {
    let (texts, expected) = reference();
    let encoder: &'static Encoder = &ENCODER;
    let calls: Vec<_> = (0..40).map(|i| tokio::spawn(encoder.encode(vec![texts[i].clone(), texts[i + 40].clone()]))).collect();
    for (i, call) in calls.into_iter().enumerate() {
        let encoded = call.await.unwrap().unwrap();
        for (position, of) in [i, i + 40].into_iter().enumerate() {
            assert!(cosine(encoded.embeddings[position].as_slice(), &expected[of]) > 0.9999, "caller {i}");
        }
    }
    let encoded = encoder.encode(vec!["night nurse".to_owned()]).await.unwrap();
    assert_eq!(encoded.timings.n_tokens, 4);
    assert!(encoded.timings.encode_us > 0);
}

/// Encodes the texts at these positions as queries and compares them with fp32.
async fn int8_is_close_to_fp32(is_chosen: impl Fn(usize) -> bool) {
    let info = ENCODER.info();
    assert_eq!((info.query_precision, info.document_precision), (Precision::Int8, Precision::Fp32), "{:?}", info.warning);
    assert!(info.warning.is_none() && info.int8_closeness.is_some_and(|closeness| closeness.is_close()), "{info:?}");
    let (texts, expected) = reference();
    let (mut exact, mut rough) = (Vec::new(), Vec::new());
    for (_, (text, expected)) in texts.iter().zip(expected).enumerate().filter(|(i, _)| is_chosen(*i)) {
        let encoded = ENCODER.encode_query("", text, QueryOptions::default()).await.unwrap();
        rough.push(Embedding::clone(&encoded.embedding));
        exact.push(Embedding::new(expected, info.dims).unwrap());
    }
    let closeness = Closeness::between(&exact, &rough);
    println!("{closeness:?}");
    assert!(closeness.is_close() && closeness.min_cosine < 0.9999, "{closeness:?}");
}

/// Few enough texts to run on an emulated processor, too (`.ci/emulated`).
#[tokio::test]
async fn int8_is_close_to_fp32_on_a_sample() {
    int8_is_close_to_fp32(|i| i % 3 == 0).await;
}

#[tokio::test]
async fn int8_is_close_to_fp32_on_the_other_texts() {
    int8_is_close_to_fp32(|i| i % 3 != 0).await;
}

/// A model folder whose int8 file embeds most words as nothing, so that it is far from fp32.
fn with_poor_int8() -> tempfile::TempDir {
    let (from, dir) = (settings().model_dir, tempfile::tempdir().unwrap());
    for name in ["model.onnx", "tokenizer.json"] {
        fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    let mut bytes = fs::read(from.join("model.int8.onnx")).unwrap();
    // The table of words is its first tensor: 30,522 rows of 768 bytes.
    bytes[1_000_000..15_000_000].fill(0);
    fs::write(dir.path().join("model.int8.onnx"), &bytes).unwrap();
    let mut config = ModelFolder::open(&from).unwrap().config;
    config.int8.as_mut().unwrap().sha256 = hex(Sha256::digest(&bytes));
    fs::write(dir.path().join("kindred-model.toml"), toml::to_string(&config).unwrap()).unwrap();
    dir
}

#[tokio::test]
async fn int8_far_from_fp32_is_replaced_with_a_warning() {
    let dir = with_poor_int8();
    let text = "keep patients safe as a nurse on night shift";
    let exact = ENCODER.encode(vec![text.to_owned()]).await.unwrap().embeddings.remove(0);
    for precision in [PrecisionChoice::Auto, PrecisionChoice::Mixed, PrecisionChoice::Int8] {
        let settings = EncoderSettings { model_dir: dir.path().to_owned(), threads: 1, precision, ..settings() };
        let encoder = Encoder::load(&settings).unwrap();
        let info = encoder.info();
        assert_eq!((info.query_precision, info.document_precision), (Precision::Fp32, Precision::Fp32), "{precision:?}");
        assert!(info.int8_closeness.is_some_and(|closeness| !closeness.is_close()), "{info:?}");
        let (warning, file) = (info.warning.clone().unwrap(), dir.path().join("model.int8.onnx"));
        assert!(warning.contains(file.to_str().unwrap()) && warning.contains("fp32 is used instead"), "{warning}");
        let query = encoder.encode_query("", text, QueryOptions::default()).await.unwrap().embedding;
        assert!(query.dot(&exact) > 0.9999, "{precision:?}");
        // The index keeps its fingerprint: fp32 is what int8 stands for.
        let is_of_fp32 = info.model_fingerprint == ENCODER.info().model_fingerprint;
        assert_eq!(is_of_fp32, precision != PrecisionChoice::Int8);
    }
    let without = EncoderSettings { model_dir: dir.path().to_owned(), threads: 1, precision: PrecisionChoice::Fp32, ..settings() };
    let info = Encoder::load(&without).unwrap().info().clone();
    assert!(info.int8_closeness.is_none() && info.warning.is_none(), "int8 is not wanted: {info:?}");
}

#[test]
fn an_int8_embedding_does_not_depend_on_its_batch() {
    let encoder = Encoder::load(&EncoderSettings { precision: PrecisionChoice::Int8, ..settings() }).unwrap();
    assert_ne!(encoder.info().model_fingerprint, ENCODER.info().model_fingerprint, "an index of int8 embeddings is another one");
    let (texts, expected) = reference();
    let alone: Vec<_> = texts.iter().map(|text| encoder.encode_blocking(vec![text.clone()]).unwrap().embeddings.remove(0)).collect();
    let together = encoder.encode_blocking(texts).unwrap().embeddings;
    for ((alone, together), expected) in alone.iter().zip(&together).zip(&expected) {
        assert!(cosine(alone.as_slice(), together.as_slice()) >= 0.9999);
        assert!(cosine(alone.as_slice(), expected) >= 0.99);
    }
}

#[tokio::test]
async fn what_reads_the_same_is_encoded_once() {
    let encode = |text: &'static str, skip_cache| async move {
        let options = QueryOptions { skip_cache, ..QueryOptions::default() };
        ENCODER.encode_query("query:  ", text, options).await.unwrap()
    };
    let first = encode("night  shift\nnurse ", false).await;
    let again = encode("night shift nurse", false).await;
    assert!(Arc::ptr_eq(&first.embedding, &again.embedding) && again.timings == EncodeTimings::default());
    let anew = encode("night shift nurse", true).await;
    assert!(!Arc::ptr_eq(&first.embedding, &anew.embedding) && first.embedding == anew.embedding && anew.timings.n_tokens > 4);
    let other = ENCODER.encode_query("", "night shift nurse", QueryOptions::default()).await.unwrap();
    assert_ne!(first.embedding, other.embedding, "another prompt is another text");
}

#[tokio::test]
async fn nothing_in_nothing_out() {
    assert_eq!(ENCODER.encode(vec![]).await.unwrap().embeddings, []);
    assert_eq!(ENCODER.encode(vec![String::new()]).await.unwrap().timings.n_tokens, 2);
}

#[tokio::test]
async fn a_long_text_is_cut_at_the_models_limit() {
    let words: String = (0..200_000).map(|i| ["nurse ", "night ", "ward\n", "café "][i % 4]).collect();
    assert!(words.len() > 1_000_000);
    let whole = ENCODER.encode(vec![words.clone()]).await.unwrap();
    let cut = ENCODER.encode(vec![words[..8000].to_owned()]).await.unwrap();
    assert_eq!(whole.timings.n_tokens, 256);
    assert_eq!(whole.embeddings, cut.embeddings);
    // Neither white space nor one endless word is a way around it.
    for odd in [" ".repeat(1_000_000), "x".repeat(1_000_000), "職".repeat(300_000)] {
        assert!(ENCODER.encode(vec![odd]).await.unwrap().timings.n_tokens <= 256);
    }
}

#[test]
fn a_shorter_limit_is_ours_to_set() {
    let encoder = Encoder::load(&EncoderSettings { max_tokens: 16, threads: 1, ..settings() }).unwrap();
    assert_eq!(encoder.encode_blocking(vec!["word ".repeat(100)]).unwrap().timings.n_tokens, 16);
    assert_ne!(encoder.info().model_fingerprint, ENCODER.info().model_fingerprint);
    for max_tokens in [2, 257] {
        let error = Encoder::load(&EncoderSettings { max_tokens, ..settings() }).unwrap_err();
        assert!(error.to_string().contains("encoder.max_tokens") && error.kind() == ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn the_fingerprint_tells_prompts_apart() {
    let info = ENCODER.info();
    assert_eq!((info.name.as_str(), info.dims, info.max_tokens, info.provider.as_str()), ("all-MiniLM-L6-v2", 384, 256, "CPU"));
    let fingerprint = ENCODER.fingerprint("query: ", "");
    assert_eq!(fingerprint.len(), 64);
    assert_eq!(fingerprint, ENCODER.fingerprint("query: ", ""));
    assert_ne!(fingerprint, ENCODER.fingerprint("", "query: "));
}

#[test]
fn a_model_s_own_prompts_are_used_where_a_collection_has_none() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["model.onnx", "tokenizer.json"] {
        fs::copy(settings().model_dir.join(name), dir.path().join(name)).unwrap();
    }
    let config =
        "name = \"all-MiniLM-L6-v2\"\ndims = 384\nmax_tokens = 256\npooling = \"mean\"\nnormalize = true\nquery_prompt = \"query: \"\n";
    fs::write(dir.path().join("kindred-model.toml"), config).unwrap();
    let encoder = Encoder::load(&EncoderSettings { model_dir: dir.path().to_owned(), threads: 1, ..settings() }).unwrap();
    assert_eq!((encoder.query_prompt(""), encoder.query_prompt("q: "), encoder.document_prompt("")), ("query: ", "q: ", ""));
    assert_eq!(encoder.fingerprint("", ""), ENCODER.fingerprint("query: ", ""), "the same prompts, the same embeddings");
    assert_ne!(encoder.fingerprint("", ""), ENCODER.fingerprint("", ""));
}

#[test]
fn a_gpu_that_is_not_there_is_said_at_start() {
    let cuda = Encoder::load(&EncoderSettings { device: Device::Cuda(0), threads: 1, ..settings() });
    // On a machine with CUDA and a library that can use it this is no error.
    if let Err(error) = cuda {
        assert!(error.to_string().contains("cuda:0") && error.kind() == ErrorKind::Unavailable, "{error}");
    } else {
        assert_eq!(cuda.unwrap().info().provider, "CUDA:0");
    }
    let auto = Encoder::load(&EncoderSettings { device: Device::Auto, threads: 1, ..settings() }).unwrap();
    assert!(["CPU", "CUDA:0"].contains(&auto.info().provider.as_str()));
}

#[test]
fn a_precision_that_is_not_there_says_what_makes_it() {
    let error = Encoder::load(&EncoderSettings { precision: PrecisionChoice::Fp16, ..settings() }).unwrap_err();
    assert!(error.to_string().contains("model.fp16.onnx") || error.to_string().contains("none"), "{error}");
    let exact = Encoder::load(&EncoderSettings { precision: PrecisionChoice::Fp32, threads: 1, ..settings() }).unwrap();
    assert_eq!(exact.info().query_precision, Precision::Fp32);
    assert_eq!(exact.info().model_fingerprint, ENCODER.info().model_fingerprint, "an index of fp32 embeddings may be asked in int8");
}

#[test]
fn files_that_are_not_what_they_should_be_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let broken = |replaced: &str, bytes: &[u8]| {
        for name in ["model.onnx", "tokenizer.json", "kindred-model.toml"] {
            let (from, to) = (settings().model_dir.join(name), dir.path().join(name));
            if name == replaced { fs::write(to, bytes).unwrap() } else { fs::copy(from, to).map(drop).unwrap() }
        }
        Encoder::load(&EncoderSettings { model_dir: dir.path().to_owned(), threads: 1, ..settings() }).unwrap_err()
    };
    for (name, bytes) in [("model.onnx", &b"garbage"[..]), ("model.onnx", b""), ("tokenizer.json", b"{}"), ("tokenizer.json", b"\xff")] {
        let error = broken(name, bytes);
        assert!(error.to_string().contains(name) && error.source().is_some(), "{error}");
    }
    let half = fs::read(settings().model_dir.join("model.onnx")).unwrap();
    assert!(matches!(broken("model.onnx", &half[..half.len() / 2]), EncoderError::Model { .. }));
    let dims = fs::read_to_string(settings().model_dir.join("kindred-model.toml")).unwrap().replace("384", "768");
    let error = broken("kindred-model.toml", dims.as_bytes());
    assert!(error.source().unwrap().to_string().contains("768"), "{error:?}");
}

#[test]
fn a_library_that_is_not_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = EncoderSettings { ort_library: dir.path().join("libnone.so"), ..settings() };
    let error = Encoder::load(&missing).unwrap_err().to_string();
    assert!(error.contains("libnone.so") && error.contains("kindred fetch"), "{error}");
    let garbage = dir.path().join("libonnxruntime.so");
    fs::write(&garbage, "garbage").unwrap();
    let error = Encoder::load(&EncoderSettings { ort_library: garbage, ..settings() }).unwrap_err();
    assert!(matches!(error, EncoderError::Library { .. }) && error.to_string().contains("libonnxruntime.so"), "{error}");
    let empty = EncoderSettings { model_dir: dir.path().to_owned(), ..settings() };
    let error = Encoder::load(&empty).unwrap_err().to_string();
    assert!(error.contains("kindred-model.toml") && error.contains("kindred fetch"), "{error}");
}

#[test]
fn devices_are_read_and_written() {
    for text in ["cpu", "auto", "cuda:3"] {
        assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
    }
    for text in ["gpu", "cuda", "cuda:", "cuda:-1", "CPU"] {
        assert!(text.parse::<Device>().is_err(), "{text}");
    }
    assert_eq!(serde_json::from_str::<Device>("\"cuda:0\"").unwrap(), Device::Cuda(0));
}

/// Short texts are what they are without chunks; each chunk of a long one is what its own words give, the title before them.
#[test]
fn documents_have_an_embedding_for_each_chunk() {
    let chunking = |mode| Chunking { mode, max_tokens: 64, overlap_tokens: 0, ..Chunking::default() };
    let words = |word: &str| format!("{word} ").repeat(55);
    let (title, parts) = ("Welder\n", ["steel", "bread", "music"].map(words));
    let long = format!("{title}{}", parts.concat());
    let texts = ["a short text".to_owned(), long, "Welder".to_owned()];
    let expected = |text: String| ENCODER.encode_blocking(vec![text]).unwrap().embeddings.remove(0).into_vec();

    let best = ENCODER.encode_documents("", &texts, &chunking(ChunkMode::Best)).unwrap();
    assert_eq!(best.iter().map(|e| e.len() / 384).collect::<Vec<_>>(), [1, 3, 1]);
    assert!(cosine(&best[0], &expected(texts[0].clone())) > 0.9999 && cosine(&best[2], &expected(texts[2].clone())) > 0.9999);
    for (chunk, part) in best[1].chunks_exact(384).zip(&parts) {
        assert!(cosine(chunk, &expected(format!("{title}{part}"))) > 0.9999, "{part}");
    }
    let mean = ENCODER.encode_documents("", &texts, &chunking(ChunkMode::Mean)).unwrap();
    assert_eq!(mean[1].len(), 384);
    assert!((cosine(&mean[1], &mean[1]) - 1.0).abs() < 1e-4);
    assert!(best[1].chunks_exact(384).all(|chunk| cosine(chunk, &mean[1]) > cosine(chunk, &best[0])));
    let cut = ENCODER.encode_documents("", &texts, &chunking(ChunkMode::Cut)).unwrap();
    assert!(cosine(&cut[1], &expected(texts[1].clone())) > 0.9999, "of up to the model's own limit");

    // The prompt stands before each chunk; there are no more of them than allowed.
    let few = Chunking { max_chunks: 2, ..chunking(ChunkMode::Best) };
    let steel = |n: usize| format!("{title}{}", "steel ".repeat(n));
    let prompted = ENCODER.encode_documents("passage: ", &[steel(200)], &few).unwrap();
    assert_eq!(prompted[0].len(), 2 * 384);
    for chunk in prompted[0].chunks_exact(384) {
        let (with, without) = (cosine(chunk, &expected(format!("passage: {}", steel(57)))), cosine(chunk, &expected(steel(57))));
        assert!(with > 0.999 && with > without, "{with} {without}");
    }
}

#[tokio::test]
async fn phrases_that_were_asked_for_before_are_kept_as_they_were_made() {
    let encoder: &'static Encoder = &ENCODER;
    let texts = || ["Gives medication.", "Works nights", "Calls the doctor when that is needed"].map(str::to_owned).to_vec();
    let first = encoder.encode_phrases(texts(), 2, false).await.unwrap();
    let again = encoder.encode_phrases(texts(), 2, false).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let anew = encoder.encode_phrases(texts(), 2, true).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &anew), "it is not wanted");
    let fewer = encoder.encode_phrases(texts()[..2].to_vec(), 2, false).await.unwrap();
    assert_eq!((first.len(), fewer.len()), (3, 2));
    for (kept, made) in first.iter().zip(&*anew).chain(first.iter().zip(&*fewer)) {
        assert!(cosine(kept.as_slice(), made.as_slice()) > 0.9999);
    }
}
