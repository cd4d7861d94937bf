//! WRITE: what is acknowledged is durable, searchable, and embedded once.

use std::sync::Arc;

use kindred::app::App;
use kindred::collection::Access;
use kindred::pipeline::{Outcome, Query, RebuildRequest, WriteRequest};
use kindred_core::Progress;
use kindred_core::domain::{CollectionName, DocumentId, parse_time_us};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, ids, jobs, open, request, settings};

fn name() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

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
    assert_eq!(app.get("/v1/collections/jobs/documents/7").await.ok(), json!({"id": "7", "seqno": 7, "fields": {"title": "Plumber"}}));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_document_may_be_changed_in_part() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let patch = json!({"company": "Dock Clinic", "salary": {"max": null, "min": 45000}, "remote": true});
    let answer = app.call(Method::PATCH, "/v1/collections/jobs/documents/nurse", patch.to_string()).await.ok();
    assert_eq!(answer, json!({"id": "nurse", "result": "updated", "seqno": 6}));
    let more = app
        .call(Method::PATCH, "/v1/collections/jobs/documents", r#"{"id": "nurse", "remote": true, "company": "Quay Clinic"}"#)
        .await
        .ok();
    assert_eq!((results(&more), &more["n_encoded"]), (vec!["updated"], &json!(0)), "no text has changed");
    let stored = app.get("/v1/collections/jobs/documents/nurse").await.ok();
    assert_eq!(
        (&stored["fields"]["company"], &stored["fields"]["salary"]),
        (&json!("Quay Clinic"), &json!({"min": 45000, "currency": "EUR"}))
    );
    assert_eq!(stored["fields"]["title"], "Registered nurse, night shift", "the rest stays");
    let remote = json!({"must": [{"key": "remote", "match": {"value": true}}]});
    let found = app.search("jobs", json!({"query": {"text": "nurse"}, "filter": remote})).await.ok();
    assert_eq!(ids(&found), ["nurse", "rust"]);
    let patches = "{\"id\": \"welder\", \"title\": \"Florist\", \"skills\": null, \"description\": null}\n{\"id\": \"none\", \"title\": \"x\"}\n{\"id\": \"chef\"}";
    let answer = app.call(Method::PATCH, "/v1/collections/jobs/documents", patches).await.ok();
    assert_eq!(results(&answer), ["updated", "refused", "unchanged"]);
    assert_eq!(answer["items"][1]["status"], 404);
    assert_eq!(ids(&app.search("jobs", json!({"query": {"text": "arrange flowers"}, "limit": 1})).await.ok()), ["welder"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_may_depend_on_what_is_there() {
    let app = TestApp::start().await;
    let path = "/v1/collections/jobs/documents/a";
    let put = async |query: &str, title: &str| app.put(&format!("{path}{query}"), json!({"title": title})).await;
    assert_eq!(put("?create_only=true", "Clerk").await.status, 201);
    put("?create_only=true", "Cook").await.fails(409, "conflict", None, "last changed by 1");
    put("?if_seqno=7", "Cook").await.fails(409, "conflict", None, "last changed by 1");
    assert_eq!(put("?if_seqno=1", "Cook").await.ok(), json!({"id": "a", "result": "updated", "seqno": 2}));
    put("?if_seqno=1&create_only=true", "Cook").await.fails(400, "malformed", Some("if_seqno"), "contradict");
    put("?if_seqnr=1", "Cook").await.fails(400, "malformed", None, "if_seqnr");
    app.delete(&format!("{path}?if_seqno=1")).await.fails(409, "conflict", None, "last changed by 2");
    assert_eq!(app.delete(&format!("{path}?if_seqno=2")).await.ok()["seqno"], 3);
    put("?if_seqno=3", "Cook").await.fails(409, "conflict", None, "no such document");
    app.put(path, json!({"id": "b", "title": "x"})).await.fails(422, "invalid", Some("id"), "path");
    app.put("/v1/collections/jobs/documents?if_seqno=1", jobs()).await.fails(400, "malformed", Some("if_seqno"), "one document");
    let many = app
        .put("/v1/collections/jobs/documents?create_only=true&refresh=none", json!([{"id": "a", "title": "x"}, {"id": "b", "title": "y"}]))
        .await
        .ok();
    assert_eq!(results(&many), ["created", "created"]);
    let many = app
        .put("/v1/collections/jobs/documents?create_only=true", json!([{"id": "a", "title": "z"}, {"id": "c", "title": "y"}]))
        .await
        .ok();
    assert_eq!(results(&many), ["refused", "created"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_patches_of_one_document_lose_nothing() {
    let app = Arc::new(TestApp::start().await);
    app.put("/v1/collections/jobs/documents", json!([{"id": "a", "title": "Clerk"}])).await.ok();
    let patch = |n: usize| {
        let app = Arc::clone(&app);
        let patch = json!({format!("field{n}"): n}).to_string();
        tokio::spawn(async move { app.call(Method::PATCH, "/v1/collections/jobs/documents/a", patch).await.ok() })
    };
    for patched in (0..8).map(patch).collect::<Vec<_>>() {
        patched.await.unwrap();
    }
    let stored = app.get("/v1/collections/jobs/documents/a").await.ok();
    assert!((0..8).all(|n| stored["fields"][format!("field{n}")] == n), "{stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_deleted_at_once() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let path = "/v1/collections/jobs/documents/delete";
    let french = json!({"filter": {"must": [{"key": "location.country", "match": {"value": "FR"}}]}});
    assert_eq!(app.post(path, french.clone()).await.ok(), json!({"deleted": 2, "seqno": 7}));
    assert_eq!(app.post(path, french).await.ok(), json!({"deleted": 0, "seqno": 7}));
    assert_eq!(app.post(path, json!({"ids": ["nurse", "none", "nurse"]})).await.ok(), json!({"deleted": 1, "seqno": 8}));
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 2);
    app.post(path, json!({})).await.fails(400, "malformed", Some("filter"), "exactly one");
    app.post(path, json!({"filter": {"must": [{"key": "title", "match": {"value": "x"}}]}})).await.fails(
        400,
        "malformed",
        Some("filter.must[0].key"),
        "title",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_commit_of_documents_is_deleted() {
    let app = TestApp::start().await;
    let document = |i: usize| {
        let mut embedding = vec![0; 384];
        embedding[i % 384] = 1;
        json!({"id": i.to_string(), "title": "Clerk", "company": (["Kiln", "Ward"][i % 2]), "embedding": embedding})
    };
    app.put("/v1/collections/jobs/documents", (0..2_600).map(document).collect()).await.ok();
    let ward = json!({"filter": {"must": [{"key": "company", "match": {"value": "Ward"}}]}});
    let path = "/v1/collections/jobs/documents/delete";
    assert_eq!(app.post(path, ward).await.ok()["deleted"], 1_300);
    assert_eq!(app.post(path, json!({"all": true})).await.ok()["deleted"], 1_300);
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_all_deletes_every_document() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let path = "/v1/collections/jobs/documents/delete";
    let no_salary = json!({"key": "salary.min", "range": {"gte": null, "lte": null}});
    for filter in [
        json!({}),
        json!({"must": []}),
        json!({"should": []}),
        json!({"must_not": []}),
        json!({"must": [{}]}),
        json!({"should": [{}]}),
        json!({"must_not": [{}]}),
        json!({"must": [{"must": []}]}),
        json!({"must": [{"should": [{"must_not": [{}]}]}]}),
        json!({"must": [no_salary]}),
        json!({"must_not": [no_salary]}),
        json!({"should": [{"key": "location.country", "match": {"value": "FR"}}, {}]}),
        json!({"must_not": [{"key": "location.country", "match": {"any": []}}]}),
    ] {
        app.post(path, json!({"filter": filter})).await.fails(422, "invalid", Some("filter"), "\"all\": true");
    }
    for body in [json!({"all": false}), json!({"all": true, "ids": ["nurse"]}), json!({"all": true, "filter": {}}), json!({"all": null})] {
        app.post(path, body).await.fails(400, "malformed", Some("filter"), "exactly one");
    }
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 5, "nothing was deleted so far");
    assert_eq!(app.post(path, json!({"all": true})).await.ok()["deleted"], 5);
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_may_bring_their_embeddings() {
    let app = TestApp::start().await;
    let axis = |n: usize| (0..384).map(|i| if i == n { 2.0 } else { 0.0 }).collect::<Vec<f64>>();
    let documents = json!([{"id": "a", "title": "Clerk", "embedding": axis(0)}, {"id": "b", "embedding": axis(1)}, {"id": "c", "title": "x", "embedding": [1.0]}]);
    let answer = app.put("/v1/collections/jobs/documents", documents.clone()).await.ok();
    assert_eq!((results(&answer), &answer["n_encoded"]), (vec!["created", "created", "refused"], &json!(0)));
    assert_eq!(answer["items"][2]["error"]["field"], "embedding");
    assert_eq!(results(&app.put("/v1/collections/jobs/documents", documents).await.ok()), ["unchanged", "unchanged", "refused"]);
    let found = app.search("jobs", json!({"query": {"vector": axis(1)}, "limit": 1})).await.ok();
    assert_eq!((ids(&found), &found["hits"][0]["retrieval_score"]), (vec!["b"], &json!(1.0)));
    assert_eq!(app.get("/v1/collections/jobs/documents/a").await.ok()["fields"], json!({"title": "Clerk"}), "it is no field");
    // A change of another field keeps it; a change of the text does not.
    app.call(Method::PATCH, "/v1/collections/jobs/documents/a", json!({"company": "x"}).to_string()).await.ok();
    assert_eq!(ids(&app.search("jobs", json!({"query": {"vector": axis(0)}, "limit": 1})).await.ok()), ["a"]);
    app.call(Method::PATCH, "/v1/collections/jobs/documents/a", json!({"title": "Sailor"}).to_string()).await.ok();
    assert_eq!(ids(&app.search("jobs", json!({"query": {"text": "Sailor"}, "limit": 1})).await.ok()), ["a"]);
}

/// Half of a feed's documents come again as they were, a quarter with other fields but the same text, a quarter with another text;
/// some texts come twice. The encoder sees the new texts, once each.
#[tokio::test(flavor = "multi_thread")]
async fn only_new_texts_are_encoded() {
    let app = TestApp::start().await;
    let document = |id: usize, version: usize, salary: usize| json!({"id": id, "title": format!("Job {} in version {version}", id / 2), "salary": {"min": salary}});
    let first: Vec<Value> = (0..64).map(|id| document(id, 1, 1)).collect();
    assert_eq!(app.put("/v1/collections/jobs/documents", json!(first)).await.ok()["n_encoded"], 32, "two documents share each text");
    let again: Vec<Value> = (0..64).map(|id| document(id, if id < 16 { 2 } else { 1 }, if id < 32 { 2 } else { 1 })).collect();
    let answer = app.put("/v1/collections/jobs/documents", json!(again)).await.ok();
    let n = |result: &str| results(&answer).iter().filter(|found| **found == result).count();
    assert_eq!((n("updated"), n("unchanged")), (32, 32));
    assert_eq!(answer["n_encoded"], 8, "new texts of 64 documents");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_expire_on_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &[]);
    let app = open(&settings, Access::Serve).unwrap();
    let put = async |app: &App, documents: Value| {
        let items = documents.as_array().unwrap().clone().into_iter().map(Ok);
        app.write.write(&name(), WriteRequest::put(items), &Progress::hidden()).await.unwrap()
    };
    let found = async |app: &App| {
        let hits = app.query.search(request(name(), Query::Text("clerk".to_owned()))).await.unwrap().hits;
        let mut ids: Vec<String> = hits.iter().map(|hit| hit.id.to_string()).collect();
        ids.sort();
        ids
    };
    app.clock.set_us(parse_time_us("2030-01-01").unwrap() as i64);
    put(&app, json!([{"id": "a", "title": "Clerk", "expires_at": "2030-01-02"}, {"id": "b", "title": "Clerk"}, {"id": "old", "title": "Clerk", "expires_at": "2020-01-01"}])).await;
    app.rebuild.rebuild(&name(), &RebuildRequest::default(), &|_, _| Progress::hidden()).unwrap();
    put(&app, json!([{"id": "c", "title": "Clerk", "expires_at": "2030-01-03T12:00:00Z"}])).await;
    assert_eq!(found(&app).await, ["a", "b", "c"], "one that is over already is never found");
    app.clock.set_us(parse_time_us("2030-01-02").unwrap() as i64);
    assert_eq!(found(&app).await, ["b", "c"], "at the very moment");
    assert!(app.catalog.document(&name(), &DocumentId::new("a").unwrap()).is_err());
    app.clock.set_us(parse_time_us("2030-01-04").unwrap() as i64);
    assert_eq!(found(&app).await, ["b"]);
    // A clock that was wrong for a moment brings back what it hid.
    app.clock.set_us(parse_time_us("2030-01-01").unwrap() as i64);
    assert_eq!(found(&app).await, ["a", "b", "c"]);
    // Once it has shown the time for an hour, the documents are deleted.
    app.clock.set_us(parse_time_us("2030-01-04").unwrap() as i64);
    app.clock.settle();
    while app.catalog.get(&name()).unwrap().n_documents > 1 {
        tokio::task::yield_now().await;
    }
    drop(app);
    let app = open(&settings, Access::Serve).unwrap();
    app.clock.set_us(parse_time_us("2025-01-01").unwrap() as i64);
    assert_eq!(found(&app).await, ["b"]);
    let again = put(&app, json!([{"id": "a", "title": "Clerk", "expires_at": "2031-01-01"}])).await;
    assert!(matches!(again.outcomes[0], Outcome::Created(..)), "an id that has expired is free: {again:?}");
    assert_eq!(found(&app).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_no_writes_over_http() {
    let app = TestApp::start_with(&["http.read_only=true"]).await;
    for (method, path) in [
        (Method::PUT, "/v1/collections/jobs/documents"),
        (Method::PATCH, "/v1/collections/jobs/documents/a"),
        (Method::DELETE, "/v1/collections/jobs/documents/a"),
        (Method::DELETE, "/v1/collections/jobs"),
    ] {
        app.call(method, path, r#"{"id": "a", "title": "x"}"#).await.fails(409, "conflict", None, "read_only");
    }
    app.search("jobs", json!({"query": {"text": "x"}})).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_does_not_hold_is_refused_whatever_would_have_become_of_the_document() {
    let app = TestApp::start().await;
    let path = "/v1/collections/jobs/documents/baker";
    let first = app.put(path, json!({"title": "Baker"})).await.ok()["seqno"].as_u64().unwrap();
    let second = app.call(Method::PATCH, path, json!({"company": "Café Lune"}).to_string()).await.ok()["seqno"].as_u64().unwrap();
    let patch = json!({"company": "Café Lune"}).to_string();
    let stale = app.call(Method::PATCH, &format!("{path}?if_seqno={first}"), patch.clone()).await;
    stale.fails(409, "conflict", None, "last changed by");
    let holds = app.call(Method::PATCH, &format!("{path}?if_seqno={second}"), patch).await.ok();
    assert_eq!((&holds["result"], &holds["seqno"]), (&json!("unchanged"), &json!(second)));
}

/// Each adds one on the condition that nobody else did meanwhile, and tries again if somebody did.
#[tokio::test(flavor = "multi_thread")]
async fn conditional_patches_lose_none_of_many_increments() {
    const WRITERS: u64 = 4;
    const INCREMENTS: u64 = 15;
    let app = Arc::new(TestApp::start().await);
    let path = "/v1/collections/jobs/documents/counter";
    app.put(path, json!({"title": "Counter", "count": 0})).await.ok();
    let writers = (0..WRITERS).map(|_| {
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            let mut left = INCREMENTS;
            while left > 0 {
                let now = app.get(path).await.ok();
                let patch = json!({"count": now["fields"]["count"].as_u64().unwrap() + 1}).to_string();
                let answer = app.call(Method::PATCH, &format!("{path}?if_seqno={}", now["seqno"]), patch).await;
                assert!(answer.status == 200 || answer.status == 409, "{answer:?}");
                left -= u64::from(answer.status == 200);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(app.get(path).await.ok()["fields"]["count"], WRITERS * INCREMENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_embeddings_are_known_again_however_they_are_stored() {
    let app = TestApp::start().await;
    let embedding: Vec<f64> = (0..384).map(|i| f64::from(i * 37 % 101) / 101.0 - 0.4).collect();
    let document = json!([{"id": "a", "title": "Clerk", "embedding": embedding}]);
    app.put("/v1/collections/jobs/documents", document.clone()).await.ok();
    let task = app.post("/v1/collections/jobs/rebuild", json!({"params": {"quantization": "int8"}})).await.ok();
    app.ended(&task).await;
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_changes"], 0);
    assert_eq!(results(&app.put("/v1/collections/jobs/documents", document.clone()).await.ok()), ["unchanged"]);
    app.call(Method::PATCH, "/v1/collections/jobs/documents/a", r#"{"company": "x"}"#).await.ok();
    app.call(Method::PATCH, "/v1/collections/jobs/documents/a", r#"{"company": null}"#).await.ok();
    assert_eq!(results(&app.put("/v1/collections/jobs/documents", document).await.ok()), ["unchanged"], "through patches too");
}

/// Of several items with one id, a patch applies to the earlier ones and any other replaces them; the document is written once.
#[tokio::test(flavor = "multi_thread")]
async fn items_with_one_id_are_one_document() {
    let app = TestApp::start().await;
    let path = "/v1/collections/jobs/documents";
    let write = async |method: Method, lines: Value| {
        let answer = app.call(method, path, lines.to_string()).await.ok();
        answer["items"].as_array().unwrap().iter().map(|item| item["result"].as_str().unwrap_or("refused").to_owned()).collect::<Vec<_>>()
    };
    let fields = async |id: &str| app.get(&format!("{path}/{id}")).await.ok()["fields"].clone();
    let put = json!([{"id": "a", "title": "First"}, {"id": "b", "title": "Other"}, {"id": "a", "title": "Second"}, {"id": "a", "title": "Third"}]);
    assert_eq!(write(Method::PUT, put.clone()).await, ["superseded", "created", "superseded", "created"]);
    assert_eq!(fields("a").await, json!({"title": "Third"}));
    assert_eq!(
        write(Method::PUT, put).await,
        ["superseded", "unchanged", "superseded", "unchanged"],
        "the last is compared with what is stored"
    );
    let patches = json!([{"id": "a", "company": "X"}, {"id": "a", "company": null, "skills": ["y"]}, {"id": "c", "title": "not there"}]);
    assert_eq!(write(Method::PATCH, patches).await, ["superseded", "updated", "refused"]);
    assert_eq!(fields("a").await, json!({"title": "Third", "skills": ["y"]}), "both patches count");
    // A wrong item replaces nothing.
    let wrong = json!([{"id": "b", "title": "Good"}, {"id": "b", "salary": {"min": "much"}, "title": "Bad"}]);
    assert_eq!(write(Method::PUT, wrong).await, ["updated", "refused"]);
    assert_eq!(fields("b").await, json!({"title": "Good"}));
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 2);
}
