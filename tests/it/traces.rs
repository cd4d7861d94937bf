//! Traces: the real server sends them to a collector, which reads them as OpenTelemetry defines them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::routing::post;
use kindred_encoder::assets;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::{client, jobs, models};

/// What was sent: the services that sent it, and their spans.
#[derive(Default)]
struct Received {
    services: Vec<String>,
    spans: Vec<Span>,
}

/// Takes traces at `/v1/traces`. Returns its address.
async fn collector(received: Arc<Mutex<Received>>) -> String {
    let take = async move |body: Bytes| {
        let sent = ExportTraceServiceRequest::decode(body).expect("OTLP");
        let mut received = received.lock().unwrap();
        for part in sent.resource_spans {
            let name = part.resource.iter().flat_map(|of| &of.attributes).find(|attribute| attribute.key == "service.name");
            received.services.extend(name.and_then(|name| match name.value.as_ref()?.value.as_ref()? {
                Any::StringValue(name) => Some(name.clone()),
                _ => None,
            }));
            received.spans.extend(part.scope_spans.into_iter().flat_map(|of| of.spans));
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, axum::Router::new().route("/v1/traces", post(take))).await });
    address
}

struct Server {
    child: Child,
    address: String,
    _dir: TempDir,
}

impl Server {
    /// Starts one that sends its traces when it ends, and not before.
    fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
        command.current_dir(dir.path()).env("OTEL_BSP_SCHEDULE_DELAY", "3600000").args(["serve", "--listen", "127.0.0.1:0"]).args(args);
        command.args(["--set", "log.format=json", "--model-dir"]).arg(models().join(assets::MODEL_NAME));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let told = lines.find_map(|line| serde_json::from_str::<Value>(&line).ok()?["fields"]["address"].as_str().map(str::to_owned));
        // What else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: format!("http://{}", told.expect("it serves")), _dir: dir }
    }

    /// Ends it as a user would.
    fn end(mut self) {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    /// A test that fails leaves none behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    span.attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| match attribute.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text.clone()),
        Any::IntValue(number) => Some(number.to_string()),
        _ => None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_tasks_are_traced() {
    let received = Arc::new(Mutex::new(Received::default()));
    let collector = collector(Arc::clone(&received)).await;
    let endpoint = format!("traces.endpoint={collector}");
    let server = tokio::task::spawn_blocking(move || Server::start(&["--set", &endpoint])).await.unwrap();
    let url = |path: &str| format!("{}{path}", server.address);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let asks_with = |flags: &str| format!("00-{trace}-00f067aa0ba902b7-{flags}");

    let put = client().put(url("/v1/collections/jobs/documents")).json(&jobs()).send().await.unwrap();
    assert!(put.status().is_success());
    let search = |flags: &'static str, text: &'static str| {
        let request = client().post(url("/v1/collections/jobs/search")).header("traceparent", asks_with(flags));
        request.json(&json!({"query": {"text": text}})).send()
    };
    let found = search("01", "care for patients").await.unwrap();
    let answered_in = found.headers()["traceparent"].to_str().unwrap().to_owned();
    assert!(answered_in.starts_with(&format!("00-{trace}-")) && !answered_in.contains("00f067aa0ba902b7"), "{answered_in}");
    assert!(search("00", "not to be traced").await.unwrap().status().is_success());
    let missing = client().post(url("/v1/collections/none/search")).json(&json!({"query": {"text": "x"}})).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    let rebuild =
        client().post(url("/v1/collections/jobs/rebuild")).header("traceparent", asks_with("01")).json(&json!({})).send().await.unwrap();
    let task: Value = rebuild.json().await.unwrap();
    let task = url(&format!("/v1/tasks/{}", task["task"].as_str().unwrap()));
    while client().get(&task).send().await.unwrap().json::<Value>().await.unwrap()["ended_at"].is_null() {}
    tokio::task::spawn_blocking(|| server.end()).await.unwrap();

    let Received { services, spans } = std::mem::take(&mut *received.lock().unwrap());
    assert!(!services.is_empty() && services.iter().all(|name| name == "kindred"), "{services:?}");
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let children = |of: &Span| {
        let mut names: Vec<&str> = spans
            .iter()
            .filter(|span| span.parent_span_id == of.span_id && span.trace_id == of.trace_id)
            .map(|span| span.name.as_str())
            .collect();
        names.dedup();
        names
    };

    let [asked, unasked] = named("POST /v1/collections/{collection}/search")[..] else { panic!("{spans:?}") };
    assert_eq!((hex(&asked.trace_id), hex(&asked.parent_span_id)), (trace.to_owned(), "00f067aa0ba902b7".to_owned()));
    assert_eq!(answered_in, format!("00-{trace}-{}-01", hex(&asked.span_id)));
    assert_eq!(asked.kind, 2, "a server's");
    assert_eq!(attribute(asked, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(attribute(asked, "http.route").as_deref(), Some("/v1/collections/{collection}/search"));
    assert!(attribute(asked, "request_id").is_some());
    assert_eq!(children(asked), ["encode", "retrieve", "rescore"]);
    let stages = spans.iter().filter(|span| span.parent_span_id == asked.span_id);
    assert!(
        stages
            .into_iter()
            .all(|stage| asked.start_time_unix_nano <= stage.start_time_unix_nano && stage.end_time_unix_nano <= asked.end_time_unix_nano)
    );
    assert!(attribute(named("encode")[0], "n_tokens").is_some());
    // One that names no trace begins one.
    assert!(unasked.parent_span_id.is_empty() && unasked.trace_id != asked.trace_id);
    assert_eq!(attribute(unasked, "http.response.status_code").as_deref(), Some("404"));

    let [put] = named("PUT /v1/collections/{collection}/documents")[..] else { panic!("{spans:?}") };
    assert_eq!(children(put), ["check", "embed", "apply"]);

    let [task] = named("rebuild")[..] else { panic!("{spans:?}") };
    let [request] = named("POST /v1/collections/{collection}/rebuild")[..] else { panic!("{spans:?}") };
    assert!(task.trace_id != request.trace_id && task.parent_span_id.is_empty());
    assert_eq!(task.links.iter().map(|link| &link.span_id).collect::<Vec<_>>(), [&request.span_id]);
    assert_eq!(attribute(task, "collection").as_deref(), Some("jobs"));
    assert!(!children(task).is_empty(), "its phases: {spans:?}");
}

/// Whoever watches the server may be away.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_holds_nothing_up() {
    // It takes what comes, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("traces.endpoint=http://{}", silent.local_addr().unwrap());
    let server = tokio::task::spawn_blocking(move || Server::start(&["--set", &endpoint])).await.unwrap();
    let ready = client().get(format!("{}/readyz", server.address)).send().await.unwrap();
    assert!(ready.status().is_success() && ready.headers().contains_key("traceparent"));
    tokio::task::spawn_blocking(|| server.end()).await.unwrap();
}
