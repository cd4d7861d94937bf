//! `/collections` and below: shapes, errors, hostile input, and that it is Kindred's own data. What clients do is in tests/clients/.

use reqwest::Method;
use serde_json::{Value, json};

use super::{embedded, numbers, same};
use crate::app::{Answer, TestApp, ids, jobs};

const POSTS: &str = "/collections/posts";

async fn posts(app: &TestApp) {
    let dims = embedded(&["a"]).await[0].len();
    app.put(POSTS, json!({"vectors": {"size": dims, "distance": "Cosine"}})).await.ok();
}

async fn upsert(app: &TestApp, points: Value) -> Answer {
    app.put(&format!("{POSTS}/points?wait=true"), json!({"points": points})).await
}

async fn index(app: &TestApp, field: &str, of: &str) -> Answer {
    app.put(&format!("{POSTS}/index?wait=true"), json!({"field_name": field, "field_schema": of})).await
}

#[track_caller]
fn fails(answer: &Answer, status: u16, word: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    let error = answer.body["status"]["error"].as_str().unwrap_or_else(|| panic!("another shape: {}", answer.body));
    assert!(error.contains(word), "{error} lacks {word:?}");
    assert!(answer.body["time"].is_f64(), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_documents_and_documents_are_points() {
    let app = TestApp::start().await;
    posts(&app).await;
    let vectors = embedded(&["night nurse", "welder"]).await;
    let written = upsert(
        &app,
        json!([{"id": 7, "vector": vectors[0], "payload": {"text": "night nurse", "n": 1}}, {"id": "w", "vector": {"": vectors[1]}}]),
    );
    let written = written.await.ok();
    assert_eq!((&written["result"], &written["status"]), (&json!({"operation_id": 2, "status": "completed"}), &json!("ok")));
    let document = app.get("/v1/collections/posts/documents/7").await.ok();
    assert_eq!(document["fields"], json!({"text": "night nurse", "n": 1}));
    // Its text is found by its words, too.
    let found = app.search("posts", json!({"query": {"text": "nurse"}, "retrieval": "lexical"})).await.ok();
    assert_eq!(ids(&found), ["7"]);

    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let point = app.get("/collections/jobs/points/nurse").await.ok();
    let document = app.get("/v1/collections/jobs/documents/nurse").await.ok();
    assert_eq!((&point["result"]["id"], &point["result"]["payload"]), (&json!("nurse"), &document["fields"]));
    let body = json!({"query": "nurse", "limit": 2, "with_payload": ["title"], "filter": {"must": {"key": "location.country", "match": {"value": "DE"}}}});
    let alike = app.post("/collections/jobs/points/query", body).await.ok();
    let own = json!({"query": {"id": "nurse"}, "limit": 2, "profile": {"weights": {"dot": 1}}, "filter": {"must": [{"key": "location.country", "match": {"value": "DE"}}]}});
    let own = app.search("jobs", own).await.ok();
    let points = alike["result"]["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| point["id"].as_str().unwrap()).collect::<Vec<_>>(), ids(&own));
    for (point, hit) in points.iter().zip(own["hits"].as_array().unwrap()) {
        assert_eq!(point["score"], hit["retrieval_score"]);
        assert_eq!(point["payload"], json!({"title": hit["fields"]["title"]}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_in_older_words_and_in_newer_ones_find_the_same() {
    let app = TestApp::start().await;
    posts(&app).await;
    let vectors = embedded(&["night nurse", "welder", "day nurse"]).await;
    let points: Vec<Value> = (1..).zip(&vectors).map(|(id, vector)| json!({"id": id, "vector": vector, "payload": {"n": id}})).collect();
    upsert(&app, json!(points)).await.ok();
    for path in ["points/search", "points/query"] {
        let key = if path == "points/search" { "vector" } else { "query" };
        let body = json!({key: vectors[0], "limit": 2, "with_payload": true, "with_vector": true});
        let answer = app.post(&format!("{POSTS}/{path}"), body).await.ok();
        let points = if path == "points/search" { &answer["result"] } else { &answer["result"]["points"] };
        let points = points.as_array().unwrap();
        assert_eq!(points.iter().map(|point| &point["payload"]).collect::<Vec<_>>(), [&json!({"n": 1}), &json!({"n": 3})], "{path}");
        same(&numbers(&points[0]["vector"]), &vectors[0]);
        assert_eq!((&points[0]["version"], &points[1]["version"]), (&json!(1), &json!(3)));
        assert!((points[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    }
    let differ = json!({"query": {"nearest": vectors[0], "mmr": {"diversity": 0.9, "candidates_limit": 3}}, "limit": 2});
    let points = app.post(&format!("{POSTS}/points/query"), differ).await.ok()["result"]["points"].clone();
    assert_eq!((&points[0]["id"], &points[1]["id"]), (&json!(1), &json!(2)), "the other nurse is too much alike");
    let named = json!({"vector": {"name": "", "vector": vectors[1]}, "limit": 1});
    let answer = app.post(&format!("{POSTS}/points/search"), named).await.ok();
    assert_eq!(
        (&answer["result"][0]["id"], &answer["result"][0]["payload"]),
        (&json!(2), &Value::Null),
        "older searches return no payload unasked"
    );
    assert_eq!(answer["result"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_is_indexed_before_and_after_points_come_and_stays_so() {
    let app = TestApp::start().await;
    posts(&app).await;
    let own_file = app.dir.path().join("posts/collection.json");
    let before = std::fs::read(&own_file).unwrap();
    index(&app, "city", "keyword").await.ok();
    let vector = &embedded(&["welder"]).await[0];
    let point = |id: u64, city: &str, year: Value| json!({"id": id, "vector": vector, "payload": {"city": city, "year": year}});
    upsert(&app, json!([point(1, "Brest", json!(1999)), point(2, "Bonn", json!(2020))])).await.ok();
    index(&app, "year", "integer").await.ok();
    // Once more: nothing is built.
    let generation = app.get("/v1/collections/posts").await.ok()["generation"].clone();
    index(&app, "year", "float").await.ok();
    assert_eq!(app.get("/v1/collections/posts").await.ok()["generation"], generation);
    upsert(&app, json!([point(3, "Brest", json!(2024))])).await.ok();
    let filter = json!({"must": [{"key": "city", "match": {"value": "Brest"}}, {"key": "year", "range": {"gte": 2000}}]});
    let count =
        async |app: &TestApp| app.post(&format!("{POSTS}/points/count"), json!({"filter": filter})).await.ok()["result"]["count"].clone();
    assert_eq!(count(&app).await, 1);
    fails(&upsert(&app, json!([point(4, "Brest", json!("soon"))])).await, 400, "point 0: field \"year\" must be a finite number");

    upsert(&app, json!([{"id": 5, "vector": vector, "payload": {"shift": 3}}])).await.ok();
    fails(&index(&app, "shift", "keyword").await, 409, "document \"5\" does not fit");
    // As after a crash between the generation and the collection's own file.
    let dir = app.stop().await;
    assert_ne!(std::fs::read(&own_file).unwrap(), before);
    std::fs::write(&own_file, before).unwrap();
    let app = TestApp::start_in(dir, &[]).await;
    // The vectors were given, and no text is there that could be embedded instead: they are kept.
    assert_eq!(count(&app).await, 1);
    let points = app.post(&format!("{POSTS}/points/query"), json!({"query": vector, "limit": 9})).await.ok()["result"]["points"].clone();
    assert!(points.as_array().unwrap().iter().all(|point| point["score"].as_f64().unwrap() > 0.999), "{points}");
    assert_eq!(points.as_array().unwrap().len(), 4);
}

/// Haystack's document store empties itself so.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_without_conditions_deletes_all_points() {
    let app = TestApp::start().await;
    posts(&app).await;
    let vector = &embedded(&["welder"]).await[0];
    for filter in [json!({}), json!({"must": []}), json!({"must": [{"should": null}]})] {
        upsert(&app, json!([{"id": 1, "vector": vector}, {"id": 2, "vector": vector}])).await.ok();
        app.post(&format!("{POSTS}/points/delete"), json!({"filter": filter})).await.ok();
        assert_eq!(app.post(&format!("{POSTS}/points/count"), json!({})).await.ok()["result"]["count"], 0, "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_nobody_waits_for_is_acknowledged() {
    let app = TestApp::start().await;
    posts(&app).await;
    let acknowledged = app.put(&format!("{POSTS}/index"), json!({"field_name": "city", "field_schema": {"type": "keyword"}})).await.ok();
    assert_eq!(acknowledged["result"]["status"], "acknowledged");
    let tasks = app.get("/v1/tasks").await.ok();
    let task = &tasks["tasks"][0];
    assert_eq!((&task["kind"], &task["collection"]), (&json!("index_field"), &json!("posts")));
    assert_eq!(app.ended(&json!({"task": task["id"]})).await["status"], "done");
    let vector = &embedded(&["welder"]).await[0];
    let written =
        app.put(&format!("{POSTS}/points"), json!({"points": [{"id": 1, "vector": vector, "payload": {"city": "Bonn"}}]})).await.ok();
    assert_eq!(written["result"]["status"], "acknowledged");
    let filter = json!({"must": [{"key": "city", "match": {"value": "Bonn"}}]});
    let deleted = app.post(&format!("{POSTS}/points/delete"), json!({"filter": filter})).await.ok();
    assert_eq!(deleted["result"]["status"], "completed");
    assert_eq!(
        app.post(&format!("{POSTS}/points/scroll"), json!({})).await.ok()["result"],
        json!({"points": [], "next_page_offset": null})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_qdrants_shape() {
    let app = TestApp::start_with(&["limits.max_batch_documents=2"]).await;
    posts(&app).await;
    let vector = &embedded(&["welder"]).await[0];
    let point = |id: u64| json!({"id": id, "vector": vector});
    fails(&upsert(&app, json!([point(1), point(2), point(3)])).await, 413, "max_batch_documents");
    fails(&upsert(&app, json!([point(1), {"id": 2, "vector": [0.5]}])).await, 400, "point 1: the vector has 1 numbers");
    fails(&upsert(&app, json!([{"id": 1, "vector": {}}])).await, 400, "nothing to embed");
    assert_eq!(app.post(&format!("{POSTS}/points/count"), json!({})).await.ok()["result"]["count"], 0, "all or none");
    for (path, body, status, word) in [
        ("/collections/none/points/query", json!({"query": vector}), 404, "none"),
        ("/collections/None/points/count", json!({}), 404, "None"),
        ("/collections/posts/points/query", json!({"query": vector, "limit": 0}), 400, "limit: 0"),
        ("/collections/posts/points/query", json!({"query": vector, "limit": 1001}), 400, "limit: 1001"),
        ("/collections/posts/points/query", json!({"query": vector, "limit": 5, "offset": u64::MAX}), 400, "limit"),
        ("/collections/posts/points/query", json!({"query": vector, "params": {"hnsw_ef": 100_000_000}}), 400, "ef_search"),
        ("/collections/posts/points/query", json!({"query": vector, "top": 5}), 400, "unknown field `top`"),
        ("/collections/posts/points/query", json!({"query": [1, "a"]}), 400, "query"),
        ("/collections/posts/points/query", json!({"query": [[1.0]]}), 400, "one vector"),
        ("/collections/posts/points/query", json!({"query": {"nearest": {"text": "a"}}}), 400, "model"),
        ("/collections/posts/points/query", json!({"query": {"nearest": vector, "mmr": {"diversity": 1.5}}}), 400, "diversity is 1.5"),
        ("/collections/posts/points/query", json!({"query": {"nearest": vector, "mmr": {"lambda": 0.5}}}), 400, "lambda"),
        ("/collections/posts/points/query", json!({"query": -7}), 400, "whole number"),
        ("/collections/posts/points/search", json!({"limit": 5}), 400, "list of numbers"),
        ("/collections/posts/points/search", json!({"vector": {"name": "image", "vector": vector}}), 400, "named vectors"),
        (
            "/collections/posts/points/scroll",
            json!({"filter": {"must": [{"key": "x", "match": {"value": 1}}]}}),
            400,
            "PUT /collections/{collection}/index",
        ),
        ("/collections/posts/points/scroll", json!({"filter": {"min_should": {}}}), 400, "min_should"),
        ("/collections/posts/points/scroll", json!([]), 400, "JSON object"),
        ("/collections/posts/points/delete", json!({}), 400, "exactly one"),
        ("/collections/posts/points", json!({"ids": vec![1; 10_001]}), 400, "10001"),
        ("/collections/posts/points/recommend", json!({}), 405, "method"),
        ("/collections/posts/aliases/x", json!({}), 404, "nothing at this path"),
    ] {
        fails(&app.post(path, body).await, status, word);
    }
    fails(&app.get(&format!("{POSTS}/points/12345")).await, 404, "12345");
    fails(&app.get("/collections/%FF").await, 400, "path");
    fails(&app.get(&format!("{POSTS}/points/%FF")).await, 400, "path");
    fails(&app.put(&format!("{POSTS}/points?wait=perhaps"), json!({"points": []})).await, 400, "wait");
    fails(&app.put(&format!("{POSTS}/index?wait=1"), json!({"field_name": "x", "field_schema": "keyword"})).await, 400, "wait");
    fails(&app.put(POSTS, json!({"vectors": {"size": 3, "distance": "Cosine"}})).await, 400, "POST /v1/embeddings");
    fails(
        &app.put("/collections/others", json!({"vectors": {"size": vector.len(), "distance": "Cosine", "datatype": "uint8"}})).await,
        400,
        "uint8",
    );
    fails(&app.put("/collections/others", json!({})).await, 400, "vectors");
    fails(&index(&app, "a..b", "keyword").await, 400, "a..b");
    fails(&index(&app, "id", "keyword").await, 400, "\"id\"");
    for (depth, word) in [(9, "deep"), (2_000, "recursion")] {
        let deep = format!("{{\"filter\": {}{{}}{}}}", "{\"must\": [".repeat(depth), "]}".repeat(depth));
        fails(&app.call(Method::POST, &format!("{POSTS}/points/count"), deep).await, 400, word);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_says_so() {
    let app = TestApp::start_with(&["http.read_only=true"]).await;
    let vector = &embedded(&["welder"]).await[0];
    for (path, body) in [
        ("/collections/others", json!({"vectors": {"size": vector.len(), "distance": "Cosine"}})),
        ("/collections/jobs/points", json!({"points": [{"id": 1, "vector": vector}]})),
        ("/collections/jobs/index", json!({"field_name": "x", "field_schema": "keyword"})),
    ] {
        fails(&app.put(path, body).await, 409, "read_only");
    }
    fails(&app.post("/collections/jobs/points/delete", json!({"points": [1]})).await, 409, "read_only");
    fails(&app.delete("/collections/jobs").await, 409, "read_only");
    assert_eq!(app.get("/collections/jobs/exists").await.ok()["result"]["exists"], true);
}

/// 10,000 times the id of a long document was an answer of gigabytes.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_bounded() {
    let app = TestApp::start().await;
    posts(&app).await;
    let long = "x".repeat(3_000_000);
    for batch in 0..5 {
        let points: Vec<Value> = (0..6).map(|i| json!({"id": batch * 6 + i, "payload": {"text": "nurse", "free": long}})).collect();
        upsert(&app, json!(points)).await.ok();
    }
    let once = app.post(&format!("{POSTS}/points"), json!({"ids": vec![7; 10_000]})).await.ok();
    assert_eq!(once["result"].as_array().unwrap().len(), 1, "each point once");
    let order = app.post(&format!("{POSTS}/points"), json!({"ids": [3, "1", 3, 1, 2], "with_payload": false})).await.ok();
    let order: Vec<&Value> = order["result"].as_array().unwrap().iter().map(|point| &point["id"]).collect();
    assert_eq!(order, [&json!(3), &json!(1), &json!(2)]);
    let all: Vec<usize> = (0..30).collect();
    fails(&app.post(&format!("{POSTS}/points"), json!({"ids": all})).await, 413, "ask for fewer");
    // A page ends where it would be too long, and says where the next one begins.
    let mut n_listed = 0;
    let mut offset = Value::Null;
    loop {
        let page = app.post(&format!("{POSTS}/points/scroll"), json!({"limit": 100, "offset": offset})).await.ok();
        let points = page["result"]["points"].as_array().unwrap();
        assert!(points.len() < 30);
        n_listed += points.len();
        offset = page["result"]["next_page_offset"].clone();
        if offset.is_null() {
            break;
        }
    }
    assert_eq!(n_listed, 30);
    let asked = |fields: Value| json!({"query": {"text": "nurse"}, "limit": 30, "fields": fields});
    app.search("posts", asked(json!(["text"]))).await.ok();
    app.search("posts", json!({"query": {"text": "nurse"}, "limit": 30})).await.fails(413, "too_large", None, "name the fields");
}
