//! REBUILD: a new generation, while the old one serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kindred::app::App;
use kindred::collection::Access;
use kindred::config::Settings;
use kindred::pipeline::{ModelChoice, PipelineError, Query, RebuildRequest, WriteRequest};
use kindred_core::domain::CollectionName;
use kindred_core::error::ErrorKind;
use kindred_core::{Cancel, Progress};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::{TestApp, ids, jobs, open, request, settings};

fn name() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

/// What `kindred rebuild` asks for.
fn to_configured() -> RebuildRequest {
    RebuildRequest { model: ModelChoice::Configured, ..RebuildRequest::default() }
}

async fn put(app: &App, documents: Value) {
    let items = documents.as_array().unwrap().iter().cloned().map(Ok);
    app.write.write(&name(), WriteRequest::put(items), &Progress::hidden()).await.unwrap();
}

fn rebuild(app: &App) -> Result<usize, PipelineError> {
    app.rebuild.rebuild(&name(), &to_configured(), &|_, _| Progress::hidden()).map(|report| report.n_encoded)
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
    let error = app.rebuild.rebuild(&name(), &to_configured(), &show).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("cancelled") && error.to_string().contains("nothing was changed"), "{error}");
    assert_eq!(generations(&settings), ["000001"]);
    assert_eq!(best(&app, "look after sick animals").await, before);
    assert_eq!(app.catalog.get(&name()).unwrap().n_changes, 2);
    rebuild(&app).unwrap();
    assert_eq!(generations(&settings), ["000001", "000002"], "the one before is kept, to go back to");
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
    let error = app.rebuild.rebuild(&name(), &to_configured(), &show).unwrap_err();
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
    let error = app.rebuild.rebuild(&name(), &to_configured(), &show).unwrap_err().to_string();
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

fn statuses(list: &Value) -> Vec<(&str, &str)> {
    let of = |generation: &'_ Value| (generation["id"].as_str().unwrap().to_owned(), generation["status"].as_str().unwrap().to_owned());
    let all: Vec<(String, String)> = list["generations"].as_array().unwrap().iter().map(of).collect();
    all.into_iter().map(|(id, status)| (&*id.leak(), &*status.leak())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_are_built_activated_and_gone_back_to_over_http() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let rebuild = async |body: Value| app.post("/v1/collections/jobs/rebuild", body).await;
    let list = async || app.get("/v1/collections/jobs/generations").await.ok();
    let first = rebuild(json!({})).await;
    assert_eq!(first.status, 202);
    let task = app.ended(&first.body).await;
    assert_eq!((&task["status"], &task["kind"], &task["collection"]), (&json!("done"), &json!("rebuild"), &json!("jobs")), "{task}");
    assert_eq!((&task["result"]["generation"], &task["result"]["activated"]), (&json!("000001"), &json!(true)));
    let events = app.get(&format!("/v1/tasks/{}/events", task["id"].as_str().unwrap())).await.body;
    assert!(events.as_str().unwrap().contains("event: task") && events.as_str().unwrap().contains("\"done\""), "{events}");
    app.put("/v1/collections/jobs/documents", json!([{"id": "vet", "title": "Veterinarian"}])).await.ok();
    app.delete("/v1/collections/jobs/documents/chef").await.ok();
    let wanted = json!({"activate": "manual", "params": {"quantization": "int8"}, "gates": {"recall@10": 0.9, "min_documents": 5}});
    let task = app.ended(&rebuild(wanted).await.ok()).await;
    assert_eq!((&task["status"], &task["result"]["recall@10"]), (&json!("done"), &json!(1.0)), "{task}");
    assert_eq!(statuses(&list().await), [("000002", "ready"), ("000001", "current")]);
    app.put("/v1/collections/jobs/documents", json!([{"id": "late", "title": "Latecomer"}])).await.ok();
    assert_eq!(app.post("/v1/collections/jobs/generations/000002/activate", json!({})).await.ok()["generation"], "000002");
    assert_eq!(statuses(&list().await), [("000002", "current"), ("000001", "previous")]);
    let all = async || {
        let answer = app.search("jobs", json!({"query": {"text": "work"}, "limit": 20})).await.ok();
        let mut found: Vec<String> = ids(&answer).iter().map(ToString::to_string).collect();
        found.sort();
        (found, answer["generation"].as_str().unwrap().to_owned())
    };
    let expected = ["late", "nurse", "rust", "teacher", "vet", "welder"].map(str::to_owned).to_vec();
    assert_eq!(all().await, (expected.clone(), "000002".to_owned()));
    assert_eq!(app.post("/v1/collections/jobs/rollback", json!({})).await.ok()["generation"], "000001");
    assert_eq!(all().await, (expected.clone(), "000001".to_owned()), "with all changes since");
    // What does not pass its gates is not kept, and changes nothing.
    let task = app.ended(&rebuild(json!({"gates": {"min_documents": 7}})).await.ok()).await;
    assert_eq!(task["status"], "failed", "{task}");
    assert!(task["error"].as_str().unwrap().contains("goes on serving"), "{task}");
    assert_eq!(all().await.1, "000001");
    assert_eq!(statuses(&list().await), [("000002", "previous"), ("000001", "current")]);
    // One that waits is given up by the next build, which does not get its number.
    let waits = app.ended(&rebuild(json!({"activate": "manual"})).await.ok()).await["result"]["generation"].clone();
    let next = app.ended(&rebuild(json!({})).await.ok()).await["result"]["generation"].clone();
    assert!(waits.as_str() > Some("000002") && next.as_str() > waits.as_str(), "{waits} {next}");
    assert_eq!(all().await, (expected, next.as_str().unwrap().to_owned()));
    let app = TestApp::start_in(app.stop().await, &[]).await;
    let info = app.get("/v1/collections/jobs").await.ok();
    assert_eq!((&info["generation"], &info["n_documents"]), (&next, &json!(6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_or_activated_is_refused() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let path = "/v1/collections/jobs/rebuild";
    app.post(path, json!({"params": {"max_conections": 3}})).await.fails(422, "invalid", Some("params"), "max_conections");
    app.post(path, json!({"params": {"max_connections": 1}})).await.fails(422, "invalid", None, "max_connections");
    app.post(path, json!({"gates": {"recall@10": 95}})).await.fails(422, "invalid", Some("gates.recall@10"), "0 to 1");
    app.post(path, json!({"model": "../secrets"})).await.fails(422, "invalid", Some("model"), "secrets");
    app.post(path, json!({"model": "none-such"})).await.fails(422, "invalid", Some("model"), "none-such");
    app.post(path, json!({"activate": "later"})).await.fails(400, "malformed", Some("activate"), "later");
    app.post("/v1/collections/none/rebuild", json!({})).await.fails(404, "not_found", Some("collection"), "none");
    app.post("/v1/collections/jobs/rollback", json!({})).await.fails(409, "conflict", None, "nothing to go back to");
    for id in ["000007", "seven"] {
        app.post(&format!("/v1/collections/jobs/generations/{id}/activate"), json!({})).await.fails(
            404,
            "not_found",
            if id == "seven" { Some("id") } else { Some("collection") },
            id,
        );
    }
    app.get("/v1/tasks/7").await.fails(404, "not_found", None, "task");
    app.delete("/v1/tasks/7").await.fails(404, "not_found", None, "task");
}

/// Without it, a model that reads two words at a time would read all of them.
pub const CUT: &str = "collections.jobs.chunks.mode=\"cut\"";

/// A folder with the fetched model and, beside it, one that reads no more than two words of a text: other embeddings.
pub fn two_models() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // ONNX Runtime is looked for beside the models.
    std::os::unix::fs::symlink(crate::app::models().join("onnxruntime").canonicalize().unwrap(), dir.path().join("onnxruntime")).unwrap();
    for model in ["all-MiniLM-L6-v2", "short-sighted"] {
        let folder = dir.path().join(model);
        std::fs::create_dir(&folder).unwrap();
        for file in ["model.onnx", "tokenizer.json"] {
            let fetched = crate::app::models().join("all-MiniLM-L6-v2").join(file);
            std::os::unix::fs::symlink(fetched.canonicalize().unwrap(), folder.join(file)).unwrap();
        }
        let max_tokens = if model == "short-sighted" { 4 } else { 256 };
        let cuts = if model == "short-sighted" { "[64]" } else { "[]" };
        let config = format!(
            "name = {model:?}\ndims = 384\nmax_tokens = {max_tokens}\npooling = \"mean\"\nnormalize = true\nmatryoshka_dims = {cuts}\n"
        );
        std::fs::write(folder.join("kindred-model.toml"), config).unwrap();
    }
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_of_fewer_numbers_is_for_models_that_allow_it() {
    let models = two_models();
    let model_dir = format!("encoder.model_dir={:?}", models.path().join("all-MiniLM-L6-v2").display().to_string());
    let app = TestApp::start_with(&[&model_dir, CUT]).await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let rebuild = async |body: Value| app.ended(&app.post("/v1/collections/jobs/rebuild", body).await.ok()).await;
    let refused = rebuild(json!({"params": {"search_dims": 64}})).await;
    assert_eq!(refused["status"], "failed");
    assert!(refused["error"].as_str().unwrap().contains("all-MiniLM-L6-v2 may not be cut"), "{refused}");
    let refused = rebuild(json!({"model": "short-sighted", "params": {"search_dims": 63}})).await;
    assert!(refused["error"].as_str().unwrap().contains("cut to [64] numbers"), "{refused}");
    let built = rebuild(json!({"model": "short-sighted", "params": {"search_dims": 64}, "gates": {"recall@10": 0.9}})).await;
    assert_eq!(built["status"], "done", "{built}");
    // The configured model's settings are looked at before anything is served.
    let data = tempfile::tempdir().unwrap();
    let refused = App::open(&settings(data.path(), &["index.search_dims=128"]), Access::Serve).unwrap_err().to_string();
    assert!(refused.contains("search_dims") && refused.contains("may not be cut"), "{refused}");
    // Scores are of all numbers.
    let answer = app.search("jobs", json!({"query": {"text": "Pastry chef"}, "limit": 1})).await.ok();
    assert_eq!(ids(&answer), ["chef"]);
    assert!(answer["hits"][0]["retrieval_score"].as_f64().unwrap() > 0.99, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_takes_over_while_the_old_one_answers() {
    let models = two_models();
    let model_dir = format!("encoder.model_dir={:?}", models.path().join("all-MiniLM-L6-v2").display().to_string());
    let app = Arc::new(TestApp::start_with(&[&model_dir, CUT]).await);
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.put("/v1/collections/members/documents", crate::app::members()).await.ok();
    app.ended(&app.post("/v1/collections/jobs/rebuild", json!({})).await.ok()).await;
    let done = Arc::new(AtomicBool::new(false));
    // "zebra" makes all the difference, and only for a model that reads beyond two words.
    app.put(
        "/v1/collections/jobs/documents",
        json!([{"id": "zoo", "title": "keeper of many a striped zebra"}, {"id": "bar", "title": "keeper of many a crowded bar"}]),
    )
    .await
    .ok();
    let query = json!({"query": {"text": "keeper of many a striped zebra"}, "limit": 2});
    let searching = tokio::spawn({
        let (app, done, query) = (Arc::clone(&app), Arc::clone(&done), query.clone());
        async move {
            let mut models = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let answer = app.search("jobs", query.clone()).await.ok();
                let scores: Vec<f64> =
                    answer["hits"].as_array().unwrap().iter().map(|hit| hit["retrieval_score"].as_f64().unwrap()).collect();
                // Of one model throughout: the same text scores 1 (in int8, almost), and whether "zebra" counts is the model's own.
                assert!(scores[0] > 0.99, "{answer}");
                assert_eq!(scores[1] > 0.99, answer["model"] == "short-sighted", "{answer}");
                models.push(answer["model"].as_str().unwrap().to_owned());
            }
            models.dedup();
            models
        }
    });
    let writing = tokio::spawn({
        let app = Arc::clone(&app);
        async move {
            for n in 0..20 {
                app.put("/v1/collections/jobs/documents", json!([{"id": format!("n{n}"), "title": format!("Clerk {n}")}])).await.ok();
            }
        }
    });
    let task = app.ended(&app.post("/v1/collections/jobs/rebuild", json!({"model": "short-sighted"})).await.ok()).await;
    assert_eq!(task["status"], "done", "{task}");
    writing.await.unwrap();
    app.search("jobs", query.clone()).await.ok();
    done.store(true, Ordering::Relaxed);
    let models_seen = searching.await.unwrap();
    assert!(
        models_seen == ["all-MiniLM-L6-v2", "short-sighted"] || models_seen == ["all-MiniLM-L6-v2"] || models_seen == ["short-sighted"],
        "{models_seen:?}"
    );
    assert_eq!(app.search("jobs", query.clone()).await.ok()["model"], "short-sighted");
    // A member of the other model is asked with its text.
    let matched = app.post("/v1/match", json!({"from": {"collection": "members", "id": "m-nurse"}, "to": "jobs", "limit": 3})).await.ok();
    assert_eq!(matched["model"], "short-sighted");
    let Ok(app) = Arc::try_unwrap(app) else { panic!("nobody else has it") };
    // It stays so over a restart, and one goes back to the other, with all that was written since.
    let app = TestApp::start_in(app.stop().await, &[&model_dir, CUT]).await;
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 27);
    assert_eq!(app.search("jobs", query.clone()).await.ok()["model"], "short-sighted");
    app.post("/v1/collections/jobs/rollback", json!({})).await.ok();
    let answer = app.search("jobs", json!({"query": {"text": "Clerk 7"}, "limit": 1})).await.ok();
    assert_eq!((&answer["model"], ids(&answer)), (&json!("all-MiniLM-L6-v2"), vec!["n7"]));
    let app = TestApp::start_in(app.stop().await, &[&model_dir, CUT]).await;
    let answer = app.search("jobs", json!({"query": {"text": "Clerk 7"}, "limit": 1})).await.ok();
    assert_eq!((&answer["model"], ids(&answer)), (&json!("all-MiniLM-L6-v2"), vec!["n7"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_collection_is_the_end_of_its_rebuild() {
    let app = TestApp::start().await;
    let documents: Vec<Value> = (0..400).map(|i| json!({"id": format!("d{i}"), "title": format!("Posting number {i}")})).collect();
    // Seldom, a rebuild is done before.
    loop {
        app.put("/v1/collections/jobs/documents", json!(documents)).await.ok();
        let started = app.post("/v1/collections/jobs/rebuild", json!({})).await.ok();
        app.delete("/v1/collections/jobs").await.ok();
        if app.ended(&started).await["status"] == "cancelled" {
            break;
        }
    }
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 0);
}
