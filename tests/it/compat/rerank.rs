//! `/rerank`, `/v1/rerank`, `/v2/rerank`: shapes, errors, hostile input.

use reqwest::Method;
use serde_json::{Value, json};

use super::refusals;
use crate::app::{Answer, TestApp, logits, with_cross_encoder};

const QUERY: &str = "night nurse";
const TEXTS: [&str; 4] = ["welder of steel", "nurse on the night shift", "", "naïve café, 東京 — déjà vu"];

async fn start() -> TestApp {
    TestApp::start_with(&[&with_cross_encoder(), "http.max_body_bytes=2000000"]).await
}

/// Index and logit of the texts, best first.
async fn ranked() -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = logits(QUERY, &TEXTS).await.into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    assert!(!ranked.is_sorted_by_key(|(index, _)| *index));
    ranked
}

fn sigmoid(logit: f32) -> f64 {
    1.0 / (1.0 + f64::from(-logit).exp())
}

#[track_caller]
fn near(actual: &Value, expected: f64) {
    assert!((actual.as_f64().unwrap() - expected).abs() < 1e-3, "{actual} is not {expected}");
}

#[track_caller]
fn tei_fails(answer: &Answer, status: u16, error_type: &str, word: &str) {
    assert_eq!((answer.status.as_u16(), &answer.body["error_type"]), (status, &json!(error_type)), "{}", answer.body);
    assert!(answer.body["error"].as_str().unwrap().contains(word), "{} lacks {word:?}", answer.body);
}

#[track_caller]
fn cohere_fails(answer: &Answer, status: u16, word: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    assert!(answer.body["message"].as_str().unwrap().contains(word), "{} lacks {word:?}", answer.body);
    assert!(!answer.body["id"].as_str().unwrap().is_empty() && answer.body.as_object().unwrap().len() == 2, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_come_back_in_order_as_tei_gives_them() {
    let app = start().await;
    let ranked = ranked().await;
    let plain = app.post("/rerank", json!({"query": QUERY, "texts": TEXTS, "unknown": ["keys"]})).await.ok();
    let raw =
        json!({"query": QUERY, "texts": TEXTS, "raw_scores": true, "return_text": true, "truncate": true, "truncation_direction": "Left"});
    let raw = app.post("/rerank", raw).await.ok();
    assert_eq!((plain.as_array().unwrap().len(), raw.as_array().unwrap().len()), (4, 4));
    for (i, &(index, logit)) in ranked.iter().enumerate() {
        assert_eq!((&plain[i]["index"], plain[i].get("text")), (&json!(index), None));
        near(&plain[i]["score"], sigmoid(logit));
        assert_eq!((&raw[i]["index"], &raw[i]["text"]), (&json!(index), &json!(TEXTS[index])));
        near(&raw[i]["score"], f64::from(logit));
    }
    // Many texts, in parts, and each its own score.
    let many: Vec<&str> = (0..2_048).map(|i| TEXTS[i % 4]).collect();
    let answer = app.post("/rerank", json!({"query": QUERY, "texts": many, "raw_scores": true})).await.ok();
    let logits: Vec<f32> = logits(QUERY, &TEXTS).await;
    for rank in answer.as_array().unwrap() {
        near(&rank["score"], f64::from(logits[rank["index"].as_u64().unwrap() as usize % 4]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_back_in_order_as_cohere_and_jina_give_them() {
    let app = start().await;
    let ranked = ranked().await;
    let documents = json!([TEXTS[0], {"text": TEXTS[1]}, TEXTS[2], {"text": TEXTS[3], "id": 7}]);
    for (path, version) in [("/v1/rerank", "1"), ("/v2/rerank", "2")] {
        let answer = app.post(path, json!({"query": QUERY, "documents": documents})).await.ok();
        assert_eq!((&answer["model"], &answer["meta"]["api_version"]["version"]), (&json!("one"), &json!(version)));
        assert!(!answer["id"].as_str().unwrap().is_empty());
        assert_eq!(answer["usage"]["total_tokens"], answer["meta"]["tokens"]["input_tokens"]);
        let results = answer["results"].as_array().unwrap();
        for (result, &(index, logit)) in results.iter().zip(&ranked) {
            assert_eq!((&result["index"], result.get("document")), (&json!(index), None));
            near(&result["relevance_score"], sigmoid(logit));
        }
        let body = json!({"model": "one", "query": QUERY, "documents": documents, "top_n": 2, "return_documents": true, "rank_fields": ["text"],
            "max_chunks_per_doc": 10, "priority": 0, "user": "someone"});
        let answer = app.post(path, body).await.ok();
        assert_eq!(answer["results"].as_array().unwrap().len(), 2);
        assert_eq!(answer["results"][0]["document"], json!({"text": TEXTS[ranked[0].0]}));
        let long = json!({"query": QUERY, "documents": ["nurse ".repeat(500)], "max_tokens_per_doc": 3, "top_n": 100});
        let answer = app.post(path, long).await.ok();
        assert_eq!(answer["usage"]["total_tokens"], 8, "three of the text, two of the query, three around them");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_accepted_is_told_in_the_shape_of_each() {
    let app = start().await;
    let megabyte = "nurse ".repeat(180_000);
    let long = "nurse ".repeat(500);
    for (query, texts, (status, error_type), cohere, word) in [
        (json!(""), json!(["a"]), (400, "Empty"), 400, "query is empty"),
        (json!(" \n"), json!(["a"]), (400, "Empty"), 400, "query is empty"),
        (json!("a"), json!([]), (400, "Empty"), 400, "no document"),
        (json!("a"), json!(vec!["b"; 2_049]), (413, "Validation"), 413, "2049"),
        (json!("a"), json!(["b", megabyte]), (413, "Validation"), 413, "limits.max_text_bytes"),
        (json!("a".repeat(20_000)), json!(["b"]), (413, "Validation"), 413, "limits.max_query_bytes"),
        (json!(7), json!(["a"]), (400, "Validation"), 400, "query"),
        (json!(["a"]), json!(["a"]), (400, "Validation"), 400, "query"),
        (json!("a"), json!("a"), (400, "Validation"), 400, "list of documents"),
        (json!("a"), json!([["a"]]), (400, "Validation"), 400, "expected a"),
        (json!("a"), json!([null]), (400, "Validation"), 400, "expected a"),
        (json!("a"), json!([{"title": "b"}]), (400, "Validation"), 400, "expected a"),
    ] {
        tei_fails(&app.post("/rerank", json!({"query": query, "texts": texts})).await, status, error_type, word);
        for path in ["/v1/rerank", "/v2/rerank"] {
            cohere_fails(&app.post(path, json!({"query": query, "documents": texts})).await, cohere, word);
        }
    }
    // TEI refuses what is too long unless it may be cut; Cohere cuts.
    tei_fails(
        &app.post("/rerank", json!({"query": "a", "texts": ["b", long]})).await,
        413,
        "Validation",
        "64 tokens, but the query and text 1 have 504",
    );
    app.post("/rerank", json!({"query": "a", "texts": [long], "truncate": true})).await.ok();
    app.post("/rerank", json!({"query": long, "texts": [long], "truncate": true})).await.ok();
    app.post("/v2/rerank", json!({"query": long, "documents": [long, "\u{0}", "x".repeat(200_000)]})).await.ok();
    tei_fails(&app.post("/rerank", json!({"query": "a", "texts": ["b"], "raw_scores": 1})).await, 400, "Validation", "raw_scores");
    let with = |key: &str, value: Value| json!({"query": "a", "documents": ["b"], key: value});
    cohere_fails(&app.post("/v2/rerank", with("model", json!("rerank-v3.5"))).await, 404, "\"one\"");
    cohere_fails(&app.post("/v2/rerank", with("top_n", json!(0))).await, 400, "top_n");
    cohere_fails(&app.post("/v2/rerank", with("top_n", json!(-1))).await, 400, "top_n");
    cohere_fails(&app.post("/v2/rerank", with("max_tokens_per_doc", json!(0))).await, 400, "max_tokens_per_doc");
    cohere_fails(&app.post("/v1/rerank", with("rank_fields", json!(["title"]))).await, 400, "rank_fields");
    cohere_fails(&app.post("/v1/rerank", with("colour", json!(1))).await, 400, "colour");
    let deep = format!("{{\"query\": \"a\", \"documents\": {}", "[".repeat(200_000));
    cohere_fails(&app.call(Method::POST, "/v2/rerank", deep.clone()).await, 400, "");
    tei_fails(&app.call(Method::POST, "/rerank", deep.replace("documents", "texts")).await, 400, "Validation", "");
    cohere_fails(&app.call(Method::POST, "/v1/rerank", " ".repeat(2_000_001)).await, 413, "max_body_bytes");
    cohere_fails(&app.get("/v2/rerank").await, 405, "method");
    tei_fails(&app.get("/rerank").await, 405, "Validation", "method");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_the_setting_is_named() {
    let app = TestApp::start().await;
    tei_fails(&app.post("/rerank", json!({"query": "a", "texts": ["b"]})).await, 424, "Backend", "cross_encoder.model_dir");
    for path in ["/v1/rerank", "/v2/rerank"] {
        cohere_fails(&app.post(path, json!({"model": "x", "query": "a", "documents": ["b"]})).await, 400, "cross_encoder.model_dir");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_429_with_retry_after() {
    let app = TestApp::start_with(&[&with_cross_encoder(), "cross_encoder.max_queue=1", "cross_encoder.threads=1"]).await;
    let texts = vec!["nurse ".repeat(50); 2_000];
    let refused = refusals(&app, "/rerank", json!({"query": "a", "texts": texts})).await;
    assert_eq!(refused["error_type"], "Overloaded");
    assert!(refused["error"].as_str().unwrap().contains("cross_encoder.max_queue"), "{refused}");
    let refused = refusals(&app, "/v2/rerank", json!({"query": "a", "documents": texts})).await;
    assert!(refused["message"].as_str().unwrap().contains("cross_encoder.max_queue"), "{refused}");
}
