//! AGENTS: tools at `/mcp`, called by the official client and by hand.

use std::collections::BTreeSet;
use std::sync::Arc;

use kindred::collection::Access;
use kindred::http::{ConnectionSettings, Keys, NewKey, Role};
use kindred_core::domain::CollectionName;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HOST, ORIGIN};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::{TestApp, client, ids, jobs, members, open, settings};
use crate::compat::clients;

async fn start(flags: &[&str]) -> TestApp {
    let app = TestApp::start_with(flags).await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.put("/v1/collections/members/documents", members()).await.ok();
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mcp_package_works_as_it_is() {
    let app = start(&[]).await;
    let found = app.search("jobs", json!({"query": {"text": "look after patients at night"}, "limit": 2})).await.ok();
    let expected = json!({"night": ids(&found)});
    clients::run_of("mcp.lock", "mcp_client.py", &app, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_see_what_the_key_may_see() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.toml");
    let collections = BTreeSet::from([CollectionName::new("members").unwrap()]);
    let key = NewKey { name: "agent".to_owned(), role: Role::Read, collections, requests_per_second: None, expires_at: None };
    let key = format!("Bearer {}", key.add_to(&file).unwrap());
    let settings = settings(dir.path(), &[]);
    let app = tokio::task::spawn_blocking(move || open(&settings, Access::Serve).unwrap()).await.unwrap();
    let app = TestApp::serve_with(dir, app, ConnectionSettings::default(), Some(Arc::new(Keys::open(&file).unwrap()))).await;
    assert_eq!(send(&app, &[], &listing()).await.0, 401);
    let call = async |tool: &str, arguments: Value| -> Value {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
        let (status, body) = send(&app, &[("authorization", &key)], &message).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["result"].clone()
    };
    let listed = call("list_collections", json!({})).await;
    let names: Vec<&str> =
        listed["structuredContent"]["collections"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["members"], "{listed}");
    assert_eq!(call("search", json!({"collection": "members", "text": "nurse"})).await["isError"], false);
    for (tool, arguments) in [
        ("search", json!({"collection": "jobs", "text": "nurse"})),
        ("match_documents", json!({"from_collection": "jobs", "id": "a", "to_collection": "members"})),
        ("match_documents", json!({"from_collection": "members", "id": "a", "to_collection": "jobs"})),
        ("get_document", json!({"collection": "jobs", "id": "a"})),
        ("explain_result", json!({"collection": "jobs", "text": "nurse", "id": "a"})),
        ("assess_fit", json!({"member_id": "a", "job_id": "a"})),
    ] {
        let refused = call(tool, arguments.clone()).await;
        let text = refused["content"][0]["text"].as_str().unwrap();
        assert!(refused["isError"] == true && text.contains("not for collection \"jobs\""), "{tool} {arguments}: {text}");
    }
}

/// A message as a client of before 2026 sends it, without a session.
async fn send(app: &TestApp, headers: &[(&str, &str)], message: &Value) -> (StatusCode, String) {
    let request = client().request(Method::POST, format!("http://{}/mcp", app.address));
    let request = request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json, text/event-stream");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = request.body(message.to_string()).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

fn listing() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_others_are_refused() {
    let app = start(&["http.cors_origins=[\"https://agents.example.com\"]"]).await;
    let (status, body) = send(&app, &[], &listing()).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["result"]["tools"].as_array().unwrap().len(), 6, "{body}");
    for origin in ["http://localhost:6274", "http://127.0.0.1", "https://agents.example.com"] {
        assert_eq!(send(&app, &[(ORIGIN.as_str(), origin)], &listing()).await.0, 200, "{origin}");
    }
    for origin in ["http://evil.example", "https://localhost.evil.example", "http://agents.example.com", "null"] {
        assert_eq!(send(&app, &[(ORIGIN.as_str(), origin)], &listing()).await.0, 403, "{origin}");
    }
    assert_eq!(send(&app, &[(HOST.as_str(), "evil.example:7700")], &listing()).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_is_refused() {
    let app = start(&[]).await;
    let (status, body) = send(&app, &[], &json!({"jsonrpc": "2.0", "id": 7, "method": "tools/dance"})).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status.is_success() || status.is_client_error(), &answer["id"], &answer["error"]["code"]),
        (true, &json!(7), &json!(-32601)),
        "{body}"
    );
    assert_eq!(send(&app, &[], &json!({"a": 1})).await.0, 415, "no message");
    let long = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": {"text": "x".repeat(1 << 20)}}});
    assert_eq!(send(&app, &[], &long).await.0, 413);
    assert_eq!(app.get("/mcp").await.status, 405, "there are no sessions to listen to");
    // Calls are requests like any other.
    let Value::String(metrics) = app.get("/metrics").await.ok() else { panic!("metrics are text") };
    assert!(metrics.contains("kindred_http_requests_total{method=\"POST\",route=\"/mcp\",status=\"413\"}"), "{metrics}");

    let without = start(&["mcp.enabled=false"]).await;
    assert_eq!(send(&without, &[], &listing()).await.0, 404);
}
