//! SNAPSHOT: collections kept elsewhere and brought back, with the real binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::{TestApp, jobs, members};
use crate::bulk::{kindred, says};

/// A data folder with a generation and changes beyond it, and what its server answers.
async fn served() -> (TempDir, Value) {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.put("/v1/collections/members/documents", members()).await.ok();
    let dir = app.stop().await;
    let data = ["--data-dir", dir.path().to_str().unwrap()];
    says(&kindred(dir.path(), &["rebuild", "jobs", data[0], data[1]]), 0, &["5 documents"]);
    let app = TestApp::start_in(dir, &[]).await;
    app.put("/v1/collections/jobs/documents", json!([{"id": "vet", "title": "Veterinarian"}, {"id": "welder", "title": "Florist"}]))
        .await
        .ok();
    app.delete("/v1/collections/jobs/documents/teacher").await.ok();
    let answers = answers(&app).await;
    (app.stop().await, answers)
}

/// What searches and a match find, and how near. Scores change as time goes by: some of them are for what is recent.
async fn answers(app: &TestApp) -> Value {
    let found = |answer: Value| -> Value {
        answer["hits"].as_array().unwrap().iter().map(|hit| json!([hit["id"], hit["retrieval_score"], hit["fields"]["title"]])).collect()
    };
    let mut answers = Vec::new();
    for text in ["look after sick animals", "arrange flowers", "teach children", "bread"] {
        answers.push(found(app.search("jobs", json!({"query": {"text": text}, "limit": 6})).await.ok()));
    }
    let from = json!({"from": {"collection": "members", "id": "m-nurse"}, "to": "jobs", "limit": 3});
    answers.push(found(app.post("/v1/match", from).await.ok()));
    answers.push(app.get("/v1/collections/jobs").await.ok()["seqno"].clone());
    json!(answers)
}

fn objects(place: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(place.join("objects")).unwrap() {
        found.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_server_gives_the_same_answers() {
    let (dir, expected) = served().await;
    let work = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let run = |args: &[&str], data: &str| kindred(work.path(), &[args, &["--data-dir", data]].concat());
    says(&run(&["snapshot", "create", "place"], data), 0, &["of jobs, members in place"]);
    let n_objects = objects(&work.path().join("place")).len();

    says(&run(&["snapshot", "restore", "place"], "restored"), 0, &["restored jobs up to change 8", "restored members", "all-MiniLM-L6-v2"]);
    says(&run(&["snapshot", "restore", "place"], "restored"), 1, &["\"jobs\" is there already", "--data-dir"]);
    let restored = tempfile::tempdir().unwrap();
    fs::rename(work.path().join("restored"), restored.path().join("data")).unwrap();
    let flags = [format!("storage.data_dir={:?}", restored.path().join("data").display().to_string())];
    let app = TestApp::start_in(restored, &[&flags[0]]).await;
    assert_eq!(answers(&app).await, expected);
    app.put("/v1/collections/jobs/documents", json!([{"id": "new", "title": "Baker"}])).await.ok();
    let restored = app.stop().await;

    // Of the second snapshot, only the log is new: the generation is in the place already.
    let restored = restored.path().join("data").display().to_string();
    let second = run(&["snapshot", "create", "place", "--collection", "jobs", "--json"], &restored);
    let second: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert!(second["n_files"].as_u64().unwrap() > 4 && second["n_uploaded"].as_u64().unwrap() <= 2, "{second}");
    assert!(objects(&work.path().join("place")).len() <= n_objects + 2);
    let listed = run(&["snapshot", "list", "place", "--json"], data);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["manifest"]["collections"][0]["generation"], "000001");
    assert_eq!(listed[1]["manifest"]["collections"], json!([listed[1]["manifest"]["collections"][0]]));
    assert_eq!(listed[1]["manifest"]["collections"][0]["last_seqno"], 9);
    says(&run(&["snapshot", "list", "place"], data), 0, &["members", "000001", "all-MiniLM-L6-v2"]);
    says(&run(&["snapshot", "verify", "place", "--all"], data), 0, &["all of it is what was written"]);

    let damaged = objects(&work.path().join("place")).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    says(&run(&["snapshot", "verify", "place", "--all"], data), 1, &["damaged", "jobs/generations/000001/", "1 objects"]);
    says(&run(&["snapshot", "restore", "place"], "elsewhere"), 1, &["is damaged", "snapshot verify"]);
    assert_eq!(fs::read_dir(work.path().join("elsewhere")).unwrap().count(), 1, "the lock alone");
    // As it says.
    fs::remove_file(damaged).unwrap();
    says(&run(&["snapshot", "create", "place"], &restored), 0, &["1 of them new"]);
    says(&run(&["snapshot", "restore", "place"], "elsewhere"), 0, &["restored jobs up to change 9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_left_to_its_server() {
    let app = TestApp::start().await;
    let data = app.dir.path().to_str().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    says(&kindred(dir.path(), &["snapshot", "create", "place", "--data-dir", &data]), 1, &["in use", "HTTP"]);
    says(&kindred(dir.path(), &["snapshot", "create", "place"]), 1, &["there is no data folder"]);
    says(&kindred(dir.path(), &["snapshot", "restore", "none"]), 1, &["no such folder"]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    says(&kindred(dir.path(), &["snapshot", "verify", "empty"]), 1, &["there is no snapshot in empty"]);
    says(&kindred(dir.path(), &["snapshot", "list", "empty"]), 0, &["there is no snapshot in empty"]);
    says(&kindred(dir.path(), &["snapshot", "list", "ftp://x/y"]), 1, &["s3://bucket/prefix"]);
}

/// Restoring needs no model; opening says which one it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_another_model_says_which_one_it_needs() {
    let (dir, _) = served().await;
    let work = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    says(&kindred(work.path(), &["snapshot", "create", "place", "--collection", "jobs", "--data-dir", data]), 0, &[]);
    says(
        &kindred(work.path(), &["snapshot", "restore", "place", "--data-dir", "there"]),
        0,
        &["embedded with all-MiniLM-L6-v2", "--model-dir"],
    );
    // Another prompt makes other embeddings of the same texts: another model, as far as collections can tell.
    let other = ["--data-dir", "there", "--set", "collections.jobs.document_prompt=passage: "];
    says(
        &kindred(work.path(), &[&["inspect", "jobs"], &other[..]].concat()),
        1,
        &["was embedded with all-MiniLM-L6-v2", "kindred rebuild jobs"],
    );
    says(&kindred(work.path(), &["inspect", "jobs", "--data-dir", "there"]), 0, &["documents    5"]);
}

/// The server writes and rebuilds while it copies; what is restored holds all that was acknowledged before.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_makes_snapshots() {
    let app = Arc::new(TestApp::start().await);
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let documents = |from: usize| -> Value {
        (from..from + 20).map(|i| json!({"id": i, "title": format!("Job {i}"), "embedding": vec![1; 384]})).collect()
    };
    let writing = tokio::spawn({
        let app = Arc::clone(&app);
        async move {
            for from in (0..2_000).step_by(20) {
                app.put("/v1/collections/jobs/documents", documents(from)).await.ok();
                if from == 500 {
                    app.post("/v1/collections/jobs/rebuild", json!({})).await.ok();
                }
            }
        }
    });
    let work = tempfile::tempdir().unwrap();
    let place = work.path().join("place").display().to_string();
    let mut expected = Vec::new();
    while expected.len() < 5 && (!writing.is_finished() || expected.is_empty()) {
        let n_documents = app.get("/v1/collections/jobs").await.ok()["n_documents"].as_u64().unwrap();
        let started = app.post("/v1/snapshots", json!({"to": place, "collections": ["jobs"]})).await;
        assert_eq!(started.status, 202, "{started:?}");
        let task = app.ended(&started.body).await;
        assert_eq!((&task["status"], &task["kind"]), (&json!("done"), &json!("snapshot")), "{task}");
        expected.push((task["result"]["id"].as_str().unwrap().to_owned(), n_documents));
    }
    writing.await.unwrap();
    app.post("/v1/snapshots", json!({"to": "ftp://x"})).await.fails(422, "invalid", Some("to"), "s3://bucket/prefix");
    app.post("/v1/snapshots", json!({"to": place, "collections": ["cats"]})).await.fails(404, "not_found", Some("collection"), "cats");
    says(&kindred(work.path(), &["snapshot", "verify", "place", "--all"]), 0, &["all of it is what was written"]);
    for (i, (id, n_documents)) in expected.iter().enumerate() {
        let data = format!("restored-{i}");
        says(&kindred(work.path(), &["snapshot", "restore", "place", "--id", id, "--data-dir", &data]), 0, &["restored jobs"]);
        let told = kindred(work.path(), &["inspect", "jobs", "--json", "--data-dir", &data]);
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert!(told["n_documents"].as_u64().unwrap() >= *n_documents, "{id}: {told}");
    }
    let left = fs::read_dir(app.dir.path().join("jobs")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with("pinned-")), "nothing is held any longer");
}
