//! REBUILD: a new generation, while the old one serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kindred::app::App;
use kindred::collection::Access;
use kindred::config::Settings;
use kindred::domain::CollectionName;
use kindred::error::ErrorKind;
use kindred::pipeline::{PipelineError, Query};
use kindred::telemetry::{Cancel, Progress};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::{TestApp, ids, jobs, open, request, settings};

fn name() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

async fn put(app: &App, documents: Value) {
    let items = documents.as_array().unwrap().iter().cloned().map(Ok).collect();
    app.write.put(&name(), items, &Progress::hidden()).await.unwrap();
}

fn rebuild(app: &App) -> Result<usize, PipelineError> {
    app.rebuild.rebuild(&name(), &|_, _| Progress::hidden()).map(|report| report.n_encoded)
}

async fn best(app: &App, text: &str) -> (Vec<String>, String) {
    let request = request(name(), Query::Text(text.to_owned()));
    let response = app.query.search(request).await.unwrap();
    (response.hits.iter().map(|hit| hit.id.to_string()).collect(), response.generation)
}

/// A folder with a built collection and, after that, a change.
async fn built() -> (TempDir, Settings) {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &[]);
    let app = open(&settings, Access::Serve).unwrap();
    put(&app, jobs()).await;
    rebuild(&app).unwrap();
    put(&app, json!([{"id": "vet", "title": "Veterinarian"}, {"id": "welder", "title": "Florist"}])).await;
    (dir, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_changes_the_generation_and_nothing_else() {
    let (_dir, settings) = built().await;
    let app = open(&settings, Access::Serve).unwrap();
    let before = best(&app, "look after sick animals").await;
    assert_eq!((before.0[0].as_str(), before.1.as_str()), ("vet", "000001"));
    assert_eq!(app.catalog.get(&name()).unwrap().n_changes, 2);
    assert_eq!(rebuild(&app).unwrap(), 0, "nothing is embedded again");
    let after = best(&app, "look after sick animals").await;
    assert_eq!((&after.0, after.1.as_str()), (&before.0, "000002"));
    assert_eq!(best(&app, "arrange flowers").await.0[0], "welder", "as it was changed to");
    let info = app.catalog.get(&name()).unwrap();
    assert_eq!((info.n_documents, info.n_changes), (6, 0));
    drop(app);
    let app = open(&settings, Access::Serve).unwrap();
    assert_eq!(best(&app, "look after sick animals").await, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_and_writes_go_on_during_rebuilds() {
    let dir = tempfile::tempdir().unwrap();
    let app = Arc::new(open(&settings(dir.path(), &[]), Access::Serve).unwrap());
    put(&app, jobs()).await;
    let done = Arc::new(AtomicBool::new(false));
    let searching = tokio::spawn({
        let (app, done) = (Arc::clone(&app), Arc::clone(&done));
        async move {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(best(&app, "make desserts").await.0[0], "chef");
                n += 1;
            }
            n
        }
    });
    let writing = tokio::spawn({
        let app = Arc::clone(&app);
        async move {
            for i in 0..10 {
                put(&app, json!([{"id": format!("new-{i}"), "title": format!("Clerk number {i}")}])).await;
            }
        }
    });
    for _ in 0..5 {
        let app = Arc::clone(&app);
        tokio::task::spawn_blocking(move || rebuild(&app).unwrap()).await.unwrap();
    }
    writing.await.unwrap();
    done.store(true, Ordering::Relaxed);
    assert!(searching.await.unwrap() > 0);
    rebuild(&app).unwrap();
    assert_eq!(app.catalog.get(&name()).unwrap().n_documents, 15, "no write was lost between two generations");
}

#[tokio::test(flavor = "multi_thread")]
async fn enough_changes_start_a_rebuild_by_themselves() {
    let app = TestApp::start_with(&["storage.rebuild_after_changes=3"]).await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    // The rebuild runs in the background: what is waited for is its effect, and a search never sees anything missing.
    loop {
        let answer = app.search("jobs", json!({"query": {"text": "make desserts"}})).await.ok();
        assert_eq!(ids(&answer).len(), 5);
        if answer["generation"] == "000001" {
            break;
        }
    }
}

/// What lies in the generations' folder.
fn generations(settings: &Settings) -> Vec<String> {
    let entries = std::fs::read_dir(settings.storage.data_dir.join("jobs/generations")).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_rebuild_leaves_the_old_generation_and_nothing_else() {
    let (_dir, settings) = built().await;
    let app = open(&settings, Access::Serve).unwrap();
    let before = best(&app, "look after sick animals").await;
    let cancel = Cancel::default();
    // From within the build: when its first row is done.
    let show = |_: &str, _: u64| {
        let handle = cancel.clone();
        Progress::watched(move |_| handle.cancel()).cancelled_by(&cancel)
    };
    let error = app.rebuild.rebuild(&name(), &show).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("cancelled") && error.to_string().contains("nothing was changed"), "{error}");
    assert_eq!(generations(&settings), ["000001"]);
    assert_eq!(best(&app, "look after sick animals").await, before);
    assert_eq!(app.catalog.get(&name()).unwrap().n_changes, 2);
    rebuild(&app).unwrap();
    assert_eq!(generations(&settings), ["000002"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn embedding_again_can_be_cancelled() {
    let (dir, settings_before) = built().await;
    let prompted = settings(dir.path(), &["collections.jobs.document_prompt=\"passage: \""]);
    let app = open(&prompted, Access::Rebuild).unwrap();
    let cancel = Cancel::default();
    let show = |what: &str, _: u64| {
        assert_eq!(what, "embedding jobs", "nothing is built");
        cancel.cancel();
        Progress::hidden().cancelled_by(&cancel)
    };
    let error = app.rebuild.rebuild(&name(), &show).unwrap_err();
    assert!(matches!(error, PipelineError::Cancelled { .. }), "{error}");
    drop(app);
    open(&settings_before, Access::Serve).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_server_ends_its_rebuilds() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &["storage.rebuild_after_changes=3"]);
    let app = open(&settings, Access::Serve).unwrap();
    put(&app, jobs()).await;
    app.rebuild.end();
    // It was cancelled or was done before: there is no third way, and nothing half-done.
    let generation = best(&app, "make desserts").await.1;
    assert_eq!(generations(&settings), if generation == "none" { vec![] } else { vec![generation.clone()] });
    put(&app, json!([{"id": "a", "title": "Vet"}, {"id": "b", "title": "Florist"}, {"id": "c", "title": "Clerk"}])).await;
    app.rebuild.end();
    assert_eq!(best(&app, "make desserts").await.1, generation, "none is started any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_needs_too_much_memory_is_refused_at_once() {
    let (dir, _) = built().await;
    let settings = settings(dir.path(), &["index.max_build_bytes=2000", "collections.jobs.document_prompt=\"passage: \""]);
    let app = open(&settings, Access::Rebuild).unwrap();
    let show = |what: &str, _: u64| -> Progress { panic!("{what} was begun") };
    let error = app.rebuild.rebuild(&name(), &show).unwrap_err().to_string();
    assert!(error.contains("index.max_build_bytes"), "{error}");
    assert_eq!(generations(&settings), ["000001"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_or_prompt_is_refused_until_it_is_rebuilt() {
    let (dir, _) = built().await;
    let prompted = settings(dir.path(), &["collections.jobs.document_prompt=\"passage: \""]);
    let refused = open(&prompted, Access::Serve).unwrap_err().to_string();
    assert!(refused.contains("all-MiniLM-L6-v2") && refused.contains("kindred rebuild jobs"), "{refused}");
    let app = open(&prompted, Access::Rebuild).unwrap();
    assert_eq!(rebuild(&app).unwrap(), 6, "everything is embedded again");
    drop(app);
    let app = open(&prompted, Access::Serve).unwrap();
    assert_eq!(best(&app, "look after sick animals").await.0[0], "vet");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_definition_is_refused_until_it_is_rebuilt() {
    let (dir, settings_before) = built().await;
    let changed = settings(dir.path(), &["collections.jobs.fields.source={type=\"keyword\", index=true}"]);
    let refused = open(&changed, Access::Serve).unwrap_err().to_string();
    assert!(refused.contains("definition") && refused.contains("kindred rebuild jobs"), "{refused}");
    let app = open(&changed, Access::Rebuild).unwrap();
    assert_eq!(rebuild(&app).unwrap(), 0, "the texts are the same");
    drop(app);
    open(&changed, Access::Serve).unwrap();
    open(&settings_before, Access::Serve).unwrap_err();
    // A definition that stored documents do not fit changes nothing.
    let impossible = settings(dir.path(), &["collections.jobs.fields.company={type=\"number\", index=true}"]);
    let app = open(&impossible, Access::Rebuild).unwrap();
    let refused = rebuild(&app).unwrap_err().to_string();
    assert!(refused.contains("company"), "{refused}");
}
