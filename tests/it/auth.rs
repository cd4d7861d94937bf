//! Who may do what: API keys, TLS, origins, and clients that only wait.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kindred::collection::Access;
use kindred::http::{About, Certificate, ConnectionSettings, Keys, Need, NewKey, ROUTES, Role, Route};
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
    /// Of a collection that does not exist.
    gone: String,
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
        gone: NewKey { collections: BTreeSet::from([CollectionName::new("gone").unwrap()]), ..key("gone", Role::Admin) }
            .add_to(file)
            .unwrap(),
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

/// Method and path of a route, about a collection.
fn request_to(route: &Route, collection: &str) -> (Method, String) {
    let method = if route.method == "ANY" { "POST" } else { route.method };
    let path = route.path.replace("{collection}", collection).replace("{*file}", "index.html");
    let path = ["{id}", "{profile}", "{task}"].iter().fold(path, |path, part| path.replace(part, "x"));
    (Method::from_bytes(method.as_bytes()).unwrap(), path)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_what_it_needs() {
    let (app, keys) = start(&[], ConnectionSettings::default()).await;
    for route in ROUTES {
        let (method, path) = request_to(route, "jobs");
        let (status, body, headers) = ask(&app, None, &method, &path, Value::Null).await;
        let Need::Key(role, _) = route.need else {
            assert_eq!(status, StatusCode::OK, "{method} {path}");
            continue;
        };
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}: {body}");
        assert_eq!(headers["www-authenticate"], "Bearer");
        let (status, ..) = ask(&app, Some("kindred_wrong"), &method, &path, Value::Null).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
        // Whatever else is wrong with an empty request, a key that may learns it.
        for (key, has) in [(&keys.read, Role::Read), (&keys.write, Role::Write), (&keys.admin, Role::Admin)] {
            let (status, body, _) = ask(&app, Some(key), &method, &path, Value::Null).await;
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{method} {path}: {body}");
            assert_eq!(status == StatusCode::FORBIDDEN, has < role, "{method} {path} with {has}: {body}");
        }
    }
    // A method that a path does not have asks for a key, too.
    assert_eq!(ask(&app, None, &Method::DELETE, "/v1/info", Value::Null).await.0, 401);
    assert_eq!(ask(&app, Some(&keys.admin), &Method::DELETE, "/v1/info", Value::Null).await.0, 405);
}

/// What a request to a route names, where it names collections in its body.
fn bodies_about(path: &str, name: &str) -> Vec<Value> {
    let tool = |tool: &str, arguments: Value| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
    match path {
        "/v1/match" => vec![
            json!({"from": {"collection": name, "id": "nurse"}, "to": "members"}),
            json!({"from": {"collection": "members", "id": "m-nurse"}, "to": name}),
        ],
        "/v1/fit" => vec![
            json!({"member": {"collection": name, "id": "nurse"}, "job": {"collection": "members", "id": "m-nurse"}}),
            json!({"member": {"collection": "members", "id": "m-nurse"}, "job": {"collection": name, "id": "nurse"}}),
        ],
        "/v1/evaluations" => {
            vec![json!({"collection": name, "queries": [{"id": "q", "text": "nurse"}], "judgments": {"q": {"nurse": 1}}})]
        }
        "/mcp" => vec![
            tool("search", json!({"collection": name, "text": "nurse"})),
            tool("match_documents", json!({"from_collection": name, "id": "nurse", "to_collection": "members"})),
            tool("match_documents", json!({"from_collection": "members", "id": "m-nurse", "to_collection": name})),
            tool("get_document", json!({"collection": name, "id": "nurse"})),
            tool("explain_result", json!({"collection": name, "text": "nurse", "id": "nurse"})),
        ],
        "/v1/collections/{collection}/search" => vec![json!({"query": {"id": "nurse", "collection": name}})],
        "/v1/collections/{collection}/explain" => vec![json!({"query": {"id": "nurse", "collection": name}, "id": "m-nurse"})],
        other => panic!("{other} names collections in its body: say here how"),
    }
}

/// Answers to a scoped key are the same for a collection that exists and for one that does not, and name no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_scoped_key_learns_nothing_of_other_collections() {
    let (app, keys) = start(&[], ConnectionSettings::default()).await;
    let admin = Some(keys.admin.as_str());
    assert_eq!(ask(&app, admin, &Method::PUT, "/v1/collections/jobs/documents", jobs()).await.0, 200);
    assert_eq!(ask(&app, admin, &Method::PUT, "/v1/collections/members/documents", members()).await.0, 200);
    let profile = json!({"directions": {"text": {"weights": {"dot": 1}}, "zjobsz": {"weights": {"dot": 2}}}});
    assert_eq!(ask(&app, admin, &Method::PUT, "/v1/collections/members/profiles/p", profile).await.0, 200);
    // Names of the same length that no path, field or sentence has.
    let (foreign, unknown) = ("zjobsz", "znonez");
    assert_eq!(ask(&app, admin, &Method::PUT, &format!("/v1/collections/{foreign}"), json!({"template": "{title}"})).await.0, 201);
    let answer = async |route: &Route, path_of: &str, name: &str, body: Value| {
        let (method, path) = request_to(route, path_of);
        let mut request = client().request(method, format!("http://{}{path}", app.address)).bearer_auth(&keys.members);
        if route.path == "/mcp" {
            request = request.header("content-type", "application/json").header("accept", "application/json, text/event-stream");
        }
        let request = request.header("x-request-id", "same").body(if body.is_null() { String::new() } else { body.to_string() });
        let answered = request.send().await.unwrap();
        let (status, text) = (answered.status().as_u16(), answered.text().await.unwrap());
        let mut json: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        if let Some(time) = json.get_mut("time") {
            *time = Value::Null;
        }
        (status, json.to_string().replace(name, "NAME"))
    };
    let mut n_compared = 0;
    for route in ROUTES {
        let in_path = |name: &str| (name.to_owned(), Value::Null);
        let in_body = |name: &str| bodies_about(route.path, name).into_iter().map(|body| ("members".to_owned(), body)).collect();
        let of = |name: &str| -> Vec<(String, Value)> {
            match route.need {
                Need::Key(_, About::Body) => in_body(name),
                Need::Key(_, About::Path) if route.path.ends_with("/search") && route.path.starts_with("/v1") => {
                    [vec![in_path(name)], in_body(name)].concat()
                }
                Need::Key(_, About::Path) if route.path.ends_with("/explain") => [vec![in_path(name)], in_body(name)].concat(),
                Need::Key(_, About::Path) => vec![in_path(name)],
                _ => Vec::new(),
            }
        };
        for ((path, body), (other_path, other_body)) in of(foreign).into_iter().zip(of(unknown)) {
            let (there, not_there) = (answer(route, &path, foreign, body).await, answer(route, &other_path, unknown, other_body).await);
            assert_eq!(there, not_there, "{} {}", route.method, route.path);
            let is_refusal = there.0 == 403 || route.path == "/mcp" && there.1.contains("not for collection");
            assert!(is_refusal && !there.1.contains("jobs"), "{} {}: {there:?}", route.method, route.path);
            n_compared += 1;
        }
        // What tells of several collections tells of those that the key is for.
        if matches!(route.need, Need::Key(_, About::Visible | About::Nothing)) && route.method == "GET" {
            let (_, text) = answer(route, "members", unknown, Value::Null).await;
            assert!(!text.contains(foreign), "{}: {text}", route.path);
        }
    }
    assert!(n_compared > 40, "{n_compared}");
    let (_, listed, _) = ask(&app, Some(&keys.members), &Method::GET, "/v1/collections/members/profiles", Value::Null).await;
    let named: Vec<_> = listed["profiles"].as_array().unwrap().iter().find(|profile| profile["name"] == "p").into_iter().collect();
    assert_eq!(named[0]["directions"], json!(["text"]), "a direction is the name of a collection: {listed}");

    // The key's own collection is gone: its error names no other, and an administrator's does.
    assert_eq!(ask(&app, Some(&keys.gone), &Method::GET, "/v1/collections/gone", Value::Null).await.0, 404);
    for path in ["/v1/collections/gone/search", "/collections/gone/points/count"] {
        let (status, told, _) = ask(&app, Some(&keys.gone), &Method::POST, path, json!({})).await;
        assert!([400, 404].contains(&status.as_u16()) && !told.to_string().contains("jobs"), "{path}: {told}");
    }
    let search = json!({"query": {"text": "x"}});
    let (status, told, _) = ask(&app, Some(&keys.gone), &Method::POST, "/v1/collections/gone/search", search.clone()).await;
    assert!(status == 404 && !told.to_string().contains("jobs"), "{told}");
    let (_, told, _) = ask(&app, admin, &Method::POST, "/v1/collections/gone/search", search).await;
    assert!(told.to_string().contains("there are jobs, members, zjobsz"), "{told}");
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

/// Status line and headers of an answer on a connection of its own.
async fn raw(app: &TestApp, path: &str) -> String {
    let mut stream = TcpStream::connect(&app.address).await.unwrap();
    let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
    let mut answer = vec![0; 4_096];
    let n = stream.read(&mut answer).await.unwrap_or_default();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

/// Beyond the limit, probes are answered on connections that are reserved for them; other requests are refused.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_connections_there_may_be_only_probes_are_answered() {
    let (app, _) = start(&[], ConnectionSettings { max_connections: 2, ..ConnectionSettings::default() }).await;
    let hold = async || {
        let mut stream = TcpStream::connect(&app.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        let n = stream.read(&mut answer).await.unwrap_or_default();
        (stream, n)
    };
    let mut held = vec![hold().await, hold().await];
    for path in ["/healthz", "/livez", "/readyz", "/health"] {
        assert!(raw(&app, path).await.starts_with("HTTP/1.1 200 OK"), "{path}");
    }
    for path in ["/v1/info", "/metrics", "/", "/health/x"] {
        let answer = raw(&app, path).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{path}: {answer}");
        assert!(answer.contains("connection: close") && answer.contains("retry-after: 1"), "{path}: {answer}");
    }
    // Reserved connections are bounded, too: at some point one is closed without an answer.
    while held.last().is_some_and(|(_, n)| *n > 0) {
        assert!(held.len() < 100);
        held.push(hold().await);
    }
    drop(held);
    // A place is free again once the server has seen the end of a connection.
    while !raw(&app, "/v1/info").await.starts_with("HTTP/1.1 401") {}
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
