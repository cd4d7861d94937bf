//! What operators and their machines ask.

use serde_json::{Value, json};

use crate::app::{TestApp, jobs};

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_info_answer() {
    let app = TestApp::start().await;
    for path in ["/healthz", "/livez"] {
        assert_eq!(app.get(path).await.ok(), "ok");
    }
    assert_eq!(app.get("/readyz").await.ok(), json!({"ready": true, "collections": 2}));
    let info = app.get("/v1/info").await.ok();
    assert_eq!(info["model"]["provider"], "CPU");
    assert_eq!((&info["model"]["query_precision"], &info["model"]["document_precision"]), (&json!("int8"), &json!("fp32")));
    assert_eq!(info["model"]["dims"], 384);
    assert_eq!(info["collections"], json!(["jobs", "members"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.search("jobs", json!({"query": {"text": "nurse"}})).await.ok();
    let Value::String(text) = app.get("/metrics").await.ok() else { panic!("metrics are text") };
    for line in [
        "kindred_search_stage_seconds_count{stage=\"encode\"}",
        "kindred_documents_written_total{outcome=\"created\"}",
        "kindred_http_requests_total{method=\"PUT\",route=\"/v1/collections/{collection}/documents\",status=\"200\"}",
        "kindred_documents{collection=\"jobs\"}",
        "kindred_encoder_info{model=\"all-MiniLM-L6-v2\",provider=\"CPU\",query_precision=\"int8\",document_precision=\"fp32\"} 1",
        "kindred_encoder_batch_texts_bucket{of=\"encoder\",le=\"1\"}",
        "kindred_query_cache_total{result=\"",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}

/// The description is made from the handlers; this holds it against the promise of the README.
#[tokio::test(flavor = "multi_thread")]
async fn the_description_names_every_path() {
    let app = TestApp::start().await;
    let api = app.get("/openapi.json").await.ok();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut paths: Vec<String> = Vec::new();
    for (path, methods) in api["paths"].as_object().unwrap() {
        paths.extend(methods.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    paths.sort();
    let expected = [
        "delete /collections/{collection}",
        "delete /v1/collections/{collection}",
        "delete /v1/collections/{collection}/documents/{id}",
        "delete /v1/collections/{collection}/profiles/{profile}",
        "delete /v1/tasks/{id}",
        "get /collections",
        "get /collections/{collection}",
        "get /collections/{collection}/exists",
        "get /collections/{collection}/points/{id}",
        "get /health",
        "get /healthz",
        "get /info",
        "get /livez",
        "get /metrics",
        "get /readyz",
        "get /v1/collections",
        "get /v1/collections/{collection}",
        "get /v1/collections/{collection}/documents/{id}",
        "get /v1/collections/{collection}/generations",
        "get /v1/collections/{collection}/profiles",
        "get /v1/collections/{collection}/profiles/{profile}",
        "get /v1/collections/{collection}/recall",
        "get /v1/evaluations/{task}",
        "get /v1/evaluations/{task}/svg",
        "get /v1/info",
        "get /v1/models",
        "get /v1/models/{id}",
        "get /v1/tasks",
        "get /v1/tasks/{id}",
        "get /v1/tasks/{id}/events",
        "patch /v1/collections/{collection}/documents",
        "patch /v1/collections/{collection}/documents/{id}",
        "post /",
        "post /collections/{collection}/points",
        "post /collections/{collection}/points/count",
        "post /collections/{collection}/points/delete",
        "post /collections/{collection}/points/query",
        "post /collections/{collection}/points/scroll",
        "post /collections/{collection}/points/search",
        "post /embed",
        "post /rerank",
        "post /similarity",
        "post /tokenize",
        "post /v1/collections/{collection}/documents/delete",
        "post /v1/collections/{collection}/explain",
        "post /v1/collections/{collection}/generations/{id}/activate",
        "post /v1/collections/{collection}/rebuild",
        "post /v1/collections/{collection}/recall",
        "post /v1/collections/{collection}/rollback",
        "post /v1/collections/{collection}/search",
        "post /v1/embeddings",
        "post /v1/evaluations",
        "post /v1/fit",
        "post /v1/match",
        "post /v1/rerank",
        "post /v1/snapshots",
        "post /v2/rerank",
        "put /collections/{collection}",
        "put /collections/{collection}/index",
        "put /collections/{collection}/points",
        "put /v1/collections/{collection}",
        "put /v1/collections/{collection}/documents",
        "put /v1/collections/{collection}/documents/{id}",
        "put /v1/collections/{collection}/profiles/{profile}",
    ];
    assert_eq!(paths, expected);
}
