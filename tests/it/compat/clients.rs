//! The public clients, unmodified, and Kindred's own, against a real server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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

/// Runs a client's script for points: texts, and the vectors that they should be found by.
async fn points(script: &str) {
    let texts = [
        "Night nurse on a surgical ward",
        "Welder of ships and bridges",
        "Registered nurse, day shift",
        "Backend engineer for payment services",
        "Pastry chef",
        "Teacher of mathematics",
        "Doctor in an emergency department",
        "Steel worker",
    ];
    let expected = json!({"model": encoder().info().name, "texts": texts, "embeddings": embedded(&texts).await});
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
    python.env("HF_HUB_DISABLE_TELEMETRY", "1").env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1").env("HAYSTACK_TELEMETRY_ENABLED", "False");
    let said = succeeds(python, lock, &[]).await;
    assert!(said.ends_with("checks hold\n"), "{said}");
}

/// Runs Python with what a lock file names, and with these folders before that. What it said.
async fn succeeds(mut python: Command, lock: &'static str, folders: &[PathBuf]) -> String {
    let folders = folders.to_vec();
    python.env("NO_PROXY", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1");
    let run = move || {
        let path = std::env::join_paths(folders.iter().map(PathBuf::as_path).chain([installed(lock)])).unwrap();
        python.env("PYTHONPATH", path).output().expect("python3")
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
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

#[tokio::test(flavor = "multi_thread")]
async fn the_qdrant_client_works_as_it_is() {
    points("qdrant_points.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_qdrant_store_of_langchain_works_as_it_is() {
    points("langchain_store.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kindreds_own_python_client_works() {
    let app = TestApp::start().await;
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let mut python = Command::new("python3");
    python.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir"]).arg(&package).arg(package.join("tests"));
    python.env("KINDRED_URL", format!("http://{}", app.address)).env("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1");
    let said = succeeds(python, "clients.lock", &[package.join("src")]).await;
    assert!(said.contains(" passed") && !said.contains("skipped"), "{said}");
}
