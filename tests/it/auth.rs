//! Who may do what: API keys, TLS, origins, and clients that only wait.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kindred::collection::Access;
use kindred::http::{Certificate, ConnectionSettings, Keys, NewKey, Role};
use kindred_core::domain::CollectionName;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{TestApp, client, jobs, members, open, settings};

/// Keys by role, and of some collections only.
struct TestKeys {
    read: String,
    write: String,
    admin: String,
    members: String,
    slow: String,
}

fn key(name: &str, role: Role) -> NewKey {
    NewKey { name: name.to_owned(), role, collections: BTreeSet::new(), requests_per_second: None, expires_at: None }
}

fn make_keys(file: &Path) -> TestKeys {
    let members = BTreeSet::from([CollectionName::new("members").unwrap()]);
    TestKeys {
        read: key("reader", Role::Read).add_to(file).unwrap(),
        write: key("writer", Role::Write).add_to(file).unwrap(),
        admin: key("admin", Role::Admin).add_to(file).unwrap(),
        members: NewKey { collections: members, ..key("members", Role::Admin) }.add_to(file).unwrap(),
        slow: NewKey { requests_per_second: NonZeroU32::new(1), ..key("slow", Role::Read) }.add_to(file).unwrap(),
    }
}

async fn start(flags: &[&str], connections: ConnectionSettings) -> (TestApp, TestKeys) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.toml");
    let made = make_keys(&file);
    let settings = settings(dir.path(), flags);
    let app = tokio::task::spawn_blocking(move || open(&settings, Access::Serve).unwrap()).await.unwrap();
    let keys = Arc::new(Keys::open(&file).unwrap());
    (TestApp::serve_with(dir, app, connections, Some(keys)).await, made)
}

/// Status, error code and headers of an answer.
async fn ask(
    app: &TestApp,
    key: Option<&str>,
    method: &Method,
    path: &str,
    body: Value,
) -> (StatusCode, Value, reqwest::header::HeaderMap) {
    let mut request = crate::app::client().request(method.clone(), format!("http://{}{path}", app.address));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let response = request.body(if body.is_null() { String::new() } else { body.to_string() }).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, response.json().await.unwrap_or(Value::Null), headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_what_it_needs() {
    let (app, keys) = start(&[], ConnectionSettings::default()).await;
    let api: Value = app.get("/openapi.json").await.ok();
    let mut n_checked = 0;
    for (path, operations) in api["paths"].as_object().unwrap() {
        let real = path
            .replace("{collection}", "jobs")
            .replace("{id}", "x")
            .replace("{profile}", "x")
            .replace("{task}", "x")
            .replace("{name}", "x");
        for method in operations.as_object().unwrap().keys().filter(|method| *method != "parameters") {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let is_probe = ["/healthz", "/livez", "/readyz", "/health"].contains(&path.as_str());
            let (status, body, headers) = ask(&app, None, &method, &real, Value::Null).await;
            if is_probe || (method == Method::GET && path == "/") {
                assert_eq!(status, StatusCode::OK, "{method} {path}");
                continue;
            }
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}: {body}");
            assert_eq!(headers["www-authenticate"], "Bearer");
            let (status, ..) = ask(&app, Some("kindred_wrong"), &method, &real, Value::Null).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
            // What changes something is not for those who only read; whatever else is wrong with an empty request, an administrator gets to know.
            let is_asking = method == Method::GET
                || [
                    "search",
                    "explain",
                    "match",
                    "fit",
                    "embed",
                    "rerank",
                    "similarity",
                    "tokenize",
                    "mcp",
                    "query",
                    "scroll",
                    "count",
                    "facet",
                ]
                .iter()
                .any(|word| path.contains(word))
                || path == "/"
                || path.ends_with("/points") && method == Method::POST;
            let (status, body, _) = ask(&app, Some(&keys.read), &method, &real, Value::Null).await;
            assert_eq!(status == StatusCode::FORBIDDEN, !is_asking, "{method} {path}: {body}");
            let (status, body, _) = ask(&app, Some(&keys.admin), &method, &real, Value::Null).await;
            assert!(![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status), "{method} {path}: {body}");
            n_checked += 1;
        }
    }
    assert!(n_checked > 30, "{n_checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_scopes_hold() {
    let (app, keys) = start(&[], ConnectionSettings::default()).await;
    let (put, post, get) = (Method::PUT, Method::POST, Method::GET);
    let (jobs_path, members_path) = ("/v1/collections/jobs/documents", "/v1/collections/members/documents");
    assert_eq!(ask(&app, Some(&keys.read), &put, jobs_path, jobs()).await.0, 403);
    assert_eq!(ask(&app, Some(&keys.write), &put, jobs_path, jobs()).await.0, 200);
    assert_eq!(ask(&app, Some(&keys.members), &put, members_path, members()).await.0, 200);
    let search = json!({"query": {"text": "nurse"}});
    let (status, found, _) = ask(&app, Some(&keys.read), &post, "/v1/collections/jobs/search", search.clone()).await;
    assert_eq!((status, &found["hits"][0]["id"]), (StatusCode::OK, &json!("nurse")));

    // A key of the members finds nothing out about jobs, by whatever route.
    let only = Some(keys.members.as_str());
    assert_eq!(ask(&app, only, &post, "/v1/collections/members/search", search.clone()).await.0, 200);
    for (method, path, body) in [
        (&post, "/v1/collections/jobs/search", search.clone()),
        (&post, "/v1/match", json!({"from": {"collection": "members", "id": "m-nurse"}, "to": "jobs"})),
        (&post, "/v1/match", json!({"from": {"collection": "jobs", "id": "nurse"}, "to": "members"})),
        (&post, "/v1/fit", json!({"member": "m-nurse", "job": "nurse"})),
        (
            &post,
            "/v1/evaluations",
            json!({"collection": "jobs", "queries": [{"id": "q", "text": "nurse"}], "judgments": {"q": {"nurse": 1}}}),
        ),
        (&post, "/v1/snapshots", json!({"to": app.dir.path().join("kept")})),
        (&get, "/metrics", Value::Null),
    ] {
        let (status, body, _) = ask(&app, only, method, path, body).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")), "{path}: {body}");
    }
    let (_, listed, _) = ask(&app, only, &get, "/v1/collections", Value::Null).await;
    assert_eq!(listed["collections"].as_array().unwrap().len(), 1);
    let (_, listed, _) = ask(&app, only, &get, "/collections", Value::Null).await;
    assert_eq!(listed["result"]["collections"], json!([{"name": "members"}]));
    let (status, refused, _) = ask(&app, only, &post, "/collections/jobs/points/count", json!({})).await;
    assert!(status == 403 && refused["status"]["error"].as_str().unwrap().contains("\"jobs\""), "{refused}");
    assert_eq!(ask(&app, only, &get, "/v1/info", Value::Null).await.1["collections"], json!(["members"]));
    let (_, started, _) = ask(&app, Some(&keys.admin), &post, "/v1/collections/jobs/rebuild", json!({})).await;
    let task = format!("/v1/tasks/{}", started["task"].as_str().unwrap());
    assert_eq!(ask(&app, only, &get, "/v1/tasks", Value::Null).await.1["tasks"], json!([]));
    assert_eq!(ask(&app, only, &get, &task, Value::Null).await.0, 404);
    assert_eq!(ask(&app, only, &Method::DELETE, &task, Value::Null).await.0, 404);
    assert_eq!(ask(&app, Some(&keys.read), &get, &task, Value::Null).await.0, 200);

    // The key may come in the headers of other servers' clients, and their errors have their shape.
    let with = |name: &'static str, key: &str| {
        let url = format!("http://{}/v1/models", app.address);
        crate::app::client().get(url).header(name, key).send()
    };
    assert_eq!(with("api-key", &keys.read).await.unwrap().status(), 200);
    assert_eq!(with("x-api-key", &keys.read).await.unwrap().status(), 200);
    assert_eq!(with("x-other-key", &keys.read).await.unwrap().status(), 401);
    let (_, refused, _) = ask(&app, None, &post, "/v1/embeddings", json!({"input": "x", "model": "x"})).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("API key"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let (app, keys) = start(&[], ConnectionSettings::default()).await;
    let mut refused = None;
    for _ in 0..20 {
        let (status, _, headers) = ask(&app, Some(&keys.slow), &Method::GET, "/v1/info", Value::Null).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(headers);
            break;
        }
    }
    assert!(refused.expect("one a second is not twenty at once")["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(ask(&app, Some(&keys.read), &Method::GET, "/v1/info", Value::Null).await.0, 200, "others are not held up");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_and_a_renewed_certificate_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let renew = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&chain, made.cert.pem()).unwrap();
        reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
    };
    let first = renew();
    let tls =
        ConnectionSettings { tls: Some(Certificate::open(chain.clone(), key.clone()).await.unwrap()), ..ConnectionSettings::default() };
    let (app, _) = start(&[], tls).await;
    let port = app.address.rsplit_once(':').unwrap().1.to_owned();
    let url = format!("https://localhost:{port}/healthz");
    let trusting = |certificate: reqwest::Certificate| {
        reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([certificate])
            .resolve("localhost", ([127, 0, 0, 1], 0).into())
            .build()
            .unwrap()
    };
    assert_eq!(trusting(first.clone()).get(&url).send().await.unwrap().status(), 200);
    assert!(crate::app::client().get(format!("http://localhost:{port}/healthz")).send().await.is_err(), "nothing is answered in the clear");
    let second = renew();
    let client = trusting(second);
    // Whoever trusts the new certificate only is answered once it counts.
    while client.get(&url).send().await.is_err() {}
    assert!(trusting(first).get(&url).send().await.is_err());
}

/// A page may give its own name the address of this server (DNS rebinding): by its name it is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_answers_to_its_own_names() {
    let status = async |app: &TestApp, host: &str| {
        client().get(format!("http://{}/v1/collections", app.address)).header("host", host).send().await.unwrap().status().as_u16()
    };
    let (app, _) = start(&[], ConnectionSettings::default()).await;
    for host in ["localhost", "LocalHost:7700", "127.0.0.1:1", "[::1]", "[::1]:7700"] {
        assert_eq!(status(&app, host).await, 401, "{host}: it is this server, which asks for a key");
    }
    assert_eq!(status(&app, "kindred.example.com").await, 401, "whoever has a key may come by any name");
    let open = TestApp::start().await;
    assert_eq!(status(&open, "localhost:7700").await, 200);
    for host in ["evil.example", "evil.example:7700", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", "::1", ""] {
        assert_eq!(status(&open, host).await, 403, "{host}");
    }
    let named = TestApp::start_with(&["http.allowed_hosts=[\"kindred.example.com\"]"]).await;
    assert_eq!(status(&named, "Kindred.example.com:443").await, 200);
    assert_eq!(status(&named, "kindred.example.com.").await, 200);
    assert_eq!(status(&named, "evil.example").await, 403);
    // Whoever looks after it calls it by its address.
    for (path, expected) in [("livez", 200), ("readyz", 200), ("healthz", 200), ("metrics", 403)] {
        let request = client().get(format!("http://{}/{path}", named.address)).header("host", "10.0.0.7:7700");
        assert_eq!(request.send().await.unwrap().status(), expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_may_ask_from_named_origins_only() {
    let preflight = async |app: &TestApp, origin: &str| {
        let request = crate::app::client().request(Method::OPTIONS, format!("http://{}/v1/collections/jobs/search", app.address));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        let response = request.header("access-control-request-headers", "authorization").send().await.unwrap();
        response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    let (app, _) = start(&["http.cors_origins=[\"https://jobs.example.com\"]"], ConnectionSettings::default()).await;
    assert_eq!(preflight(&app, "https://jobs.example.com").await.as_deref(), Some("https://jobs.example.com"));
    assert_eq!(preflight(&app, "https://evil.example.com").await, None);
    let closed = TestApp::start().await;
    assert_eq!(preflight(&closed, "https://jobs.example.com").await, None);
    // What a form of another page could send, which no browser asks about before.
    let send = async |app: &TestApp, origin: Option<String>| {
        let mut request = client().post(format!("http://{}/v1/collections/jobs/documents/delete", app.address));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.header("content-type", "text/plain").body(json!({"ids": ["x"]}).to_string()).send().await.unwrap().status().as_u16()
    };
    let own = format!("http://{}", closed.address);
    for (origin, status) in [
        (None, 200),
        (Some(own.clone()), 200),
        (Some("https://evil.example.com".to_owned()), 403),
        (Some("null".to_owned()), 403),
        (Some(format!("{own}0")), 403),
        (Some(String::new()), 403),
    ] {
        assert_eq!(send(&closed, origin.clone()).await, status, "{origin:?}");
    }
    // One that may ask needs a key, like everybody.
    assert_eq!(send(&app, Some("https://jobs.example.com".to_owned())).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_there_may_be_are_closed() {
    let (app, _) = start(&[], ConnectionSettings { max_connections: 2, ..ConnectionSettings::default() }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(&app.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        held.push(stream);
    }
    let mut third = TcpStream::connect(&app.address).await.unwrap();
    let _ = third.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = third.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    drop(held);
    // A place is free again once the server has seen the end of a connection.
    answered(&app).await;
}

async fn answered(app: &TestApp) {
    loop {
        let mut stream = TcpStream::connect(&app.address).await.unwrap();
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let mut answer = Vec::new();
        if stream.read_to_end(&mut answer).await.is_ok() && answer.starts_with(b"HTTP/1.1 200") {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_does_not_listen_loses_the_connection() {
    let settings = ConnectionSettings { max_connections: 1, take: Duration::from_millis(50), ..ConnectionSettings::default() };
    let (app, _) = start(&[], settings).await;
    let mut deaf = TcpStream::connect(&app.address).await.unwrap();
    // More than any buffer on the way holds.
    let _ = deaf.write_all(&b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500)).await;
    answered(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_says_it_is_too_long_is_refused_before_it_is_sent() {
    let app = TestApp::start().await;
    for path in ["/v1/collections/jobs/documents", "/collections/jobs/points"] {
        let mut stream = TcpStream::connect(&app.address).await.unwrap();
        let head = format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\nexpect: 100-continue\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413", "{path}");
    }
}
