//! Integers of 64 bits, exact from the request to the stored document and back, in every filter and as ids.

use serde_json::{Value, json};

use crate::app::{TestApp, ids};

/// Integers of which neighbours are nearest to the same `f64`, and one float between them.
const NUMBERS: [&str; 7] = [
    "1768907725507217522",
    "1768907725507217523",
    "9007199254740993",
    "9007199254740992.0",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551614",
];

async fn put(app: &TestApp) {
    let lines: String =
        NUMBERS.iter().map(|n| format!("{{\"id\": {}, \"title\": \"Clerk\", \"salary\": {{\"min\": {n}}}}}\n", id(n))).collect();
    let written = app.call(reqwest::Method::PUT, "/v1/collections/jobs/documents", lines).await.ok();
    assert_eq!(written["errors"], false, "{written}");
}

/// The number itself where an id may be it.
fn id(number: &str) -> String {
    if number.contains('.') { "\"float\"".to_owned() } else { number.to_owned() }
}

async fn check(app: &TestApp, case: &str) {
    for number in NUMBERS {
        let id = id(number).trim_matches('"').to_owned();
        let value: Value = serde_json::from_str(number).unwrap();
        let key = "salary.min";
        let conditions = [
            json!({"key": key, "match": {"value": value}}),
            json!({"key": key, "match": {"any": [value, 0.5, 7]}}),
            json!({"key": key, "range": {"gte": value, "lte": value}}),
        ];
        for condition in &conditions {
            let body = json!({"query": {"text": "clerk"}, "filter": {"must": [condition]}, "facets": ["company"]});
            assert_eq!(ids(&app.search("jobs", body).await.ok()), [&id], "{case}: {condition}");
            let profile = json!({"formula": {"mult": [2, condition]}});
            let body = json!({"query": {"text": "clerk"}, "profile": profile, "limit": 2});
            let found = app.search("jobs", body).await.ok();
            let scores = [0, 1].map(|hit| found["hits"][hit]["score"].as_f64().unwrap());
            assert_eq!((ids(&found)[0], scores), (id.as_str(), [2.0, 0.0]), "{case}: {condition} in a formula");
        }
        let stored = app.call(reqwest::Method::GET, &format!("/v1/collections/jobs/documents/{id}"), "").await;
        assert!(stored.body.to_string().contains(&format!("\"min\":{number}")), "{case}: {}", stored.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_stay_exact_from_the_request_to_the_file_and_back() {
    let app = TestApp::start().await;
    put(&app).await;
    check(&app, "newer than the index").await;
    let started = app.post("/v1/collections/jobs/rebuild", json!({})).await.ok();
    app.ended(&started).await;
    check(&app, "built").await;
    let app = TestApp::start_in(app.stop().await, &[]).await;
    check(&app, "opened again").await;
    // Deleting one leaves its neighbour.
    let filter = json!({"must": [{"key": "salary.min", "match": {"value": 1_768_907_725_507_217_522_u64}}]});
    assert_eq!(app.post("/v1/collections/jobs/documents/delete", json!({"filter": filter})).await.ok()["deleted"], 1);
    app.get("/v1/collections/jobs/documents/1768907725507217523").await.ok();
    app.get("/v1/collections/jobs/documents/1768907725507217522").await.fails(404, "not_found", Some("id"), "no document");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_qdrants_route_too() {
    let app = TestApp::start().await;
    app.put("/collections/posts", json!({"vectors": {"size": 384, "distance": "Cosine"}})).await.ok();
    app.put("/collections/posts/index?wait=true", json!({"field_name": "snowflake", "field_schema": "integer"})).await.ok();
    let ids: Vec<u64> = vec![u64::MAX, u64::MAX - 1, 1_768_907_725_507_217_522, 1_768_907_725_507_217_523];
    let vector: Vec<f32> = (0..384).map(|i| if i == 0 { 1.0 } else { 0.0 }).collect();
    let points: Vec<Value> = ids.iter().map(|id| json!({"id": id, "vector": vector, "payload": {"snowflake": id}})).collect();
    app.put("/collections/posts/points?wait=true", json!({"points": points})).await.ok();
    for id in &ids {
        let filter = json!({"must": [{"key": "snowflake", "match": {"value": id}}]});
        let found =
            app.post("/collections/posts/points/query", json!({"query": vector, "filter": filter, "with_payload": true})).await.ok();
        let points = found["result"]["points"].as_array().unwrap().clone();
        let [point] = points.as_slice() else { panic!("{id}: {points:?}") };
        assert_eq!((&point["id"], &point["payload"]["snowflake"]), (&json!(id), &json!(id)));
        let by_id = app.post("/collections/posts/points", json!({"ids": [id]})).await.ok();
        assert_eq!(by_id["result"][0]["payload"]["snowflake"], json!(id));
    }
}
