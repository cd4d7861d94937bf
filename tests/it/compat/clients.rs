//! The public clients, unmodified, against a real server.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::embedded;
use crate::app::{TestApp, encoder, logits, with_cross_encoder};

/// The folder that holds what a lock file names, installed once through pip and kept in `target/`; another lock file gets another folder.
fn installed(lock: &'static str) -> &'static Path {
    static INSTALLED: Mutex<BTreeMap<&str, &Path>> = Mutex::new(BTreeMap::new());
    // Whoever wants the same waits until it is there.
    INSTALLED.lock().unwrap().entry(lock).or_insert_with(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let lock = root.join("tests/clients").join(lock);
        let hash: String = Sha256::digest(std::fs::read(&lock).unwrap()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let folder = root.join("target").join(format!("clients-{hash}"));
        if !folder.exists() {
            std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
            let unfinished = tempfile::tempdir_in(folder.parent().unwrap()).unwrap();
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-input", "--target"]);
            let output = pip.arg(unfinished.path()).arg("-r").arg(lock).output().expect("python3 with pip");
            assert!(output.status.success(), "pip brings no clients: {output:?}");
            std::fs::rename(unfinished.path(), &folder).unwrap();
        }
        &*Box::leak(folder.into_boxed_path())
    })
}

/// Runs a client's script for embeddings.
async fn embed(script: &str) {
    let texts = ["night nurse", "Welder of ships and bridges", "naïve  café, 東京 — déjà vu", "a"];
    let ids = |text: &&str| -> Vec<u32> { encoder().spell(text, 0, false).unwrap().iter().map(|token| token.id).collect() };
    let tokens: Vec<Vec<u32>> = texts.iter().map(ids).collect();
    let model = encoder().info().name.clone();
    let expected = json!({"model": model, "texts": texts, "tokens": tokens, "embeddings": embedded(&texts).await});
    run(script, &TestApp::start().await, &expected).await;
}

/// Runs a client's script for texts in order.
async fn rerank(script: &str) {
    let texts = ["Welder of ships and bridges", "nurse on the night shift", "naïve  café, 東京 — déjà vu", "a"];
    let query = "night nurse";
    let expected = json!({"model": "one", "query": query, "texts": texts, "logits": logits(query, &texts).await});
    run(script, &TestApp::start_with(&[&with_cross_encoder()]).await, &expected).await;
}

/// Runs a client's script against a server of its own, with what it should find.
async fn run(script: &str, app: &TestApp, all: &Value) {
    run_of("clients.lock", script, app, all).await;
}

/// The same, of the clients that another lock file names.
pub async fn run_of(lock: &'static str, script: &str, app: &TestApp, all: &Value) {
    let expected = app.dir.path().join("expected.json");
    std::fs::write(&expected, all.to_string()).unwrap();
    let mut python = Command::new("python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script));
    python.arg(format!("http://{}", app.address)).arg(expected);
    python.env("NO_PROXY", "127.0.0.1").env("HF_HUB_DISABLE_TELEMETRY", "1").env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
    python.env("PYTHONDONTWRITEBYTECODE", "1").env("HAYSTACK_TELEMETRY_ENABLED", "False");
    let output = tokio::task::spawn_blocking(move || python.env("PYTHONPATH", installed(lock)).output().expect("python3")).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.ends_with("checks hold\n"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_package_works_as_it_is() {
    embed("openai_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inference_client_of_huggingface_hub_works_as_it_is() {
    embed("tei_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cohere_package_works_as_it_is() {
    rerank("cohere_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tei_ranker_of_haystack_works_as_it_is() {
    rerank("haystack_client.py").await;
}
