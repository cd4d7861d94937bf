//! What operators and their machines ask.

use std::sync::Arc;

use kindred::app::App;
use kindred::collection::Access;
use kindred::http::{Handler, ROUTES};
use kindred_encoder::{Encoder, EncoderSettings, assets};
use serde_json::{Value, json};

use crate::app::{TestApp, jobs, models, settings, with_poor_int8};

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_info_answer() {
    let app = TestApp::start().await;
    for path in ["/healthz", "/livez"] {
        assert_eq!(app.get(path).await.ok(), "ok");
    }
    assert_eq!(app.get("/readyz").await.ok(), json!({"ready": true, "collections": 2, "damaged": 0}));
    let info = app.get("/v1/info").await.ok();
    assert_eq!(info["model"]["provider"], "CPU");
    assert_eq!((&info["model"]["query_precision"], &info["model"]["document_precision"]), (&json!("int8"), &json!("fp32")));
    assert!(info["model"]["int8_closeness"]["min_cosine"].as_f64().unwrap() >= 0.995 && info["model"]["warning"].is_null(), "{info}");
    assert_eq!(info["model"]["dims"], 384);
    assert_eq!(info["collections"], json!(["jobs", "members"]));
}

/// They answer from what a probe in the background found, whatever else the model has to do.
#[tokio::test(flavor = "multi_thread")]
async fn probes_answer_under_overload_and_name_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &[]);
    let slow = EncoderSettings { threads: 1, max_queue: 1, ..settings.encoder.clone() };
    let open = move || App::with_encoder(&settings, Access::Serve, Arc::new(Encoder::load(&slow).unwrap())).unwrap();
    let app = TestApp::serve(dir, tokio::task::spawn_blocking(open).await.unwrap()).await;
    let texts = vec!["nurse ".repeat(200); 200];
    let busy = app.post("/embed", json!({"inputs": texts, "truncate": true}));
    let probes = async {
        // Each of them asked the model before, and was refused.
        for path in ["/readyz", "/health", "/livez", "/healthz"].repeat(50) {
            let answer = app.get(path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            assert!(!answer.body.to_string().contains("jobs"), "{path}: {}", answer.body);
        }
    };
    let (busy, ()) = tokio::join!(busy, probes);
    busy.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_poor_int8_answers_in_fp32_and_says_so() {
    let (dir, model_dir) = (tempfile::tempdir().unwrap(), with_poor_int8());
    let flags = [
        format!("encoder.model_dir={:?}", model_dir.path().display().to_string()),
        format!("encoder.ort_library={:?}", assets::ensure_library(&models()).unwrap().display().to_string()),
    ];
    let settings = settings(dir.path(), &flags.each_ref().map(String::as_str));
    let app = App::with_encoder(&settings, Access::Serve, Arc::new(Encoder::load(&settings.encoder).unwrap())).unwrap();
    let app = TestApp::serve(dir, app).await;
    let info = app.get("/v1/info").await.ok();
    assert_eq!((&info["model"]["query_precision"], &info["model"]["document_precision"]), (&json!("fp32"), &json!("fp32")));
    assert!(info["model"]["int8_closeness"]["mean_cosine"].as_f64().unwrap() < 0.998, "{info}");
    let warning = info["model"]["warning"].as_str().unwrap();
    assert!(warning.contains("model.int8.onnx is not used") && warning.contains("kindred model import --int8"), "{warning}");
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let hits = app.search("jobs", json!({"query": {"text": "nurse"}, "retrieval": "dense"})).await.ok();
    assert!(hits["hits"][0]["fields"]["title"].as_str().unwrap().to_lowercase().contains("nurse"), "{hits}");
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
    let documented = ROUTES.iter().filter(|route| matches!(route.handler, Handler::Documented(_)));
    let mut expected: Vec<String> = documented.map(|route| format!("{} {}", route.method.to_lowercase(), route.path)).collect();
    expected.sort();
    assert_eq!(paths, expected);
    assert!(paths.len() > 60, "{}", paths.len());
}
