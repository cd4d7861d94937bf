//! Embeddings, texts in order, and documents with vectors, for clients of other servers: the public clients themselves, and every shape and error over HTTP.

pub mod clients;
mod openai;
mod qdrant;
mod rerank;
mod tei;

use std::sync::Arc;

use futures_util::future::join_all;
use kindred::app::App;
use kindred::collection::Access;
use kindred::http::{self, ConnectionSettings, Gate};
use kindred_encoder::{Encoder, EncoderSettings};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::app::{TestApp, client, encoder, settings};

/// Kindred's own embeddings of texts.
async fn embedded(texts: &[&str]) -> Vec<Vec<f32>> {
    let texts = texts.iter().map(ToString::to_string).collect();
    encoder().encode(texts).await.unwrap().embeddings.into_iter().map(|e| e.into_vec()).collect()
}

/// The numbers of an answer, or of a part of it.
fn numbers(json: &Value) -> Vec<f32> {
    serde_json::from_value(json.clone()).unwrap()
}

/// Whether embeddings are the same but for the order in which a batch is added up.
#[track_caller]
fn same(got: &[f32], wanted: &[f32]) {
    assert_eq!(got.len(), wanted.len());
    let difference = got.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference < 1e-5, "the largest difference is {difference}");
}

/// Texts of many lengths, more than go through the queue at a time.
fn many_texts() -> Vec<String> {
    (0..150).map(|i| format!("nurse number {i} {}", "on the night shift ".repeat(i * 7 % 20))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_tells_every_client_in_its_own_shape() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(http::serve(listener, ConnectionSettings::default(), Gate::default(), None, std::future::pending()));
    let ask = async |method: Method, path: &str| {
        let answer = client().request(method, format!("{base}{path}")).body("{}").send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for path in ["/healthz", "/livez"] {
        assert_eq!(ask(Method::GET, path).await, (200, "ok".to_owned()));
    }
    for (method, path) in
        [(Method::GET, "/health"), (Method::GET, "/info"), (Method::POST, "/embed"), (Method::POST, "/rerank"), (Method::POST, "/")]
    {
        let (status, body) = ask(method, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["error_type"]), (503, &json!("Unhealthy")), "{path}");
        assert!(body["error"].as_str().unwrap().contains("starting"), "{path} {body}");
    }
    for path in ["/v1/embeddings", "/v1/models", "/v1/models/any"] {
        let (status, body) = ask(Method::POST, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["error"]["type"]), (503, &json!("server_error")), "{path}");
        assert!(body["error"]["message"].as_str().unwrap().contains("starting"), "{path} {body}");
    }
    for path in ["/v1/rerank", "/v2/rerank"] {
        let (status, body) = ask(Method::POST, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(status == 503 && body["message"].as_str().unwrap().contains("starting"), "{path} {body}");
    }
    for path in ["/collections", "/collections/jobs", "/collections/jobs/points/query"] {
        let (status, body) = ask(Method::POST, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(status == 503 && body["status"]["error"].as_str().unwrap().contains("starting"), "{path} {body}");
    }
    let (status, body) = ask(Method::GET, "/v1/info").await;
    assert!(status == 503 && body.contains("\"code\":\"unavailable\""), "{body}");
    served.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_429_with_retry_after() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &[]);
    let encoder = EncoderSettings { threads: 1, max_queue: 1, ..settings.encoder.clone() };
    let open = move || App::with_encoder(&settings, Access::Serve, Arc::new(Encoder::load(&encoder).unwrap())).unwrap();
    let app = TestApp::serve(dir, tokio::task::spawn_blocking(open).await.unwrap()).await;
    let texts = vec!["nurse ".repeat(200); 4];
    // A call is taken when it finds the lane empty; of sixteen at once, others find it taken.
    let openai = json!({"model": "all-MiniLM-L6-v2", "input": texts});
    let refused = refusals(&app, "/v1/embeddings", openai).await;
    let error = &refused["error"];
    assert_eq!((&error["type"], &error["code"], &error["param"]), (&json!("requests"), &json!("rate_limit_exceeded"), &json!(null)));
    assert!(error["message"].as_str().unwrap().contains("encoder.max_queue"), "{error}");
    let refused = refusals(&app, "/embed", json!({"inputs": texts})).await;
    assert_eq!(refused["error_type"], "Overloaded");
    assert!(refused["error"].as_str().unwrap().contains("encoder.max_queue"), "{refused}");
}

/// Asks sixteen times at once; some must be refused, and say when to come again. The body of one that was.
async fn refusals(app: &TestApp, path: &str, body: Value) -> Value {
    let ask = || client().post(format!("http://{}{path}", app.address)).body(body.to_string()).send();
    let (mut n_answered, mut refused) = (0, None);
    for response in join_all((0..16).map(|_| ask())).await {
        let response = response.unwrap();
        let (status, retry_after) = (response.status().as_u16(), response.headers().get("retry-after").cloned());
        let body: Value = response.json().await.unwrap();
        match status {
            200 => n_answered += 1,
            _ => {
                let seconds: u64 = retry_after.expect("it says when to come again").to_str().unwrap().parse().unwrap();
                assert!(status == 429 && seconds >= 1, "{status} {seconds} {body}");
                refused = Some(body);
            }
        }
    }
    assert!(n_answered > 0, "whoever finds the lane empty is answered");
    refused.expect("whoever finds it taken is not")
}
