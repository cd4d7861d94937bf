//! WRITE: what is acknowledged is durable, searchable, and embedded once.

use kindred::collection::Access;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, ids, jobs, open, settings};

fn results(answer: &Value) -> Vec<&str> {
    answer["items"].as_array().unwrap().iter().map(|item| item["result"].as_str().unwrap_or("refused")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_created_updated_and_left_alone() {
    let app = TestApp::start().await;
    let first = app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    assert_eq!(results(&first), ["created"; 5]);
    assert_eq!((&first["errors"], &first["seqno"]), (&json!(false), &json!(5)));
    let again = app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    assert_eq!(results(&again), ["unchanged"; 5]);
    assert_eq!(again["seqno"], 5, "nothing was written");
    let lines = "{\"id\": \"welder\", \"title\": \"Kindergarten teacher\"}\n\n{\"id\": 7, \"title\": \"Plumber\"}\n";
    let changed = app.call(Method::PUT, "/v1/collections/jobs/documents", lines).await.ok();
    assert_eq!(results(&changed), ["updated", "created"]);
    let found = app.search("jobs", json!({"query": {"text": "kindergarten teacher"}, "limit": 1})).await.ok();
    assert_eq!(ids(&found), ["welder"], "the new text counts at once");
    assert_eq!(app.get("/v1/collections/jobs/documents/7").await.ok(), json!({"id": "7", "fields": {"title": "Plumber"}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_not_found() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    assert_eq!(app.delete("/v1/collections/jobs/documents/chef").await.ok(), json!({"deleted": "chef", "seqno": 6}));
    let found = app.search("jobs", json!({"query": {"text": "pastry chef"}})).await.ok();
    assert_eq!(found["hits"].as_array().unwrap().len(), 4);
    assert!(!ids(&found).contains(&"chef"));
    app.get("/v1/collections/jobs/documents/chef").await.fails(404, "not_found", Some("id"), "chef");
    app.delete("/v1/collections/jobs/documents/chef").await.fails(404, "not_found", Some("id"), "chef");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_nothing() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.delete("/v1/collections/jobs/documents/chef").await.ok();
    let definition = json!({"template": "{name}", "fields": {"name": {"type": "text"}}});
    app.put("/v1/collections/pets", definition).await.ok();
    app.put("/v1/collections/pets/documents", json!([{"id": "rex", "name": "a big dog"}])).await.ok();
    let dir = app.stop().await;
    let app = TestApp::start_in(dir, &[]).await;
    let info = app.get("/v1/collections/jobs").await.ok();
    assert_eq!((&info["n_documents"], &info["seqno"]), (&json!(4), &json!(6)));
    assert_eq!(ids(&app.search("pets", json!({"query": {"text": "dog"}})).await.ok()), ["rex"]);
    let next = app.put("/v1/collections/jobs/documents", json!([{"id": "new", "title": "Baker"}])).await.ok();
    assert_eq!(next["seqno"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_made_and_deleted() {
    let app = TestApp::start().await;
    let definition = json!({"template": "{title}\n{text}", "fields": {"title": {"type": "text"}, "salary_min": {"type": "number", "index": true}, "at": {"type": "geo", "index": true}}});
    let made = app.put("/v1/collections/posts", definition.clone()).await;
    assert_eq!(made.status, 201);
    assert_eq!(app.put("/v1/collections/posts", definition).await.status, 200, "the same again changes nothing");
    app.put("/v1/collections/posts", json!({"template": "{other}"})).await.fails(409, "conflict", None, "posts");
    let list = app.get("/v1/collections").await.ok();
    let names: Vec<&str> = list["collections"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["jobs", "members", "posts"]);
    app.put("/v1/collections/posts/documents", json!([{"id": "a", "title": "x", "salary_min": 3}])).await.ok();
    app.delete("/v1/collections/posts").await.ok();
    app.get("/v1/collections/posts").await.fails(404, "not_found", Some("collection"), "posts");
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.delete("/v1/collections/jobs").await.ok();
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 0, "one of the configuration is there again, empty");
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 5);
}

#[test]
fn a_folder_has_one_writer_and_many_readers() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &[]);
    let writer = open(&settings, Access::Serve).unwrap();
    let second = open(&settings, Access::Serve).unwrap_err().to_string();
    assert!(second.contains(&format!("process {}", std::process::id())), "{second}");
    open(&settings, Access::Read).unwrap();
    drop(writer);
    open(&settings, Access::Serve).unwrap();
}
