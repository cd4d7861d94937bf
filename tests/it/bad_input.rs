//! Bad input: each kind has its status and its sentence; the server stays up, and nothing else in a batch is lost.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, ids, jobs};

async fn raw(app: &TestApp, body: impl Into<reqwest::Body>) -> Answer {
    app.call(Method::POST, "/v1/collections/jobs/search", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_that_cannot_be_read_are_400() {
    let app = TestApp::start().await;
    raw(&app, "{\"query\": ").await.fails(400, "malformed", Some("query"), "EOF");
    raw(&app, "").await.fails(400, "malformed", None, "missing field `query`");
    raw(&app, "{\"query\": {\"text\": \"x\"}} {}").await.fails(400, "malformed", None, "more behind");
    raw(&app, vec![0xff, 0xfe]).await.fails(400, "malformed", None, "JSON object");
    raw(&app, "[{\"text\": \"nurse\"}]").await.fails(400, "malformed", None, "JSON object");
    raw(&app, "{\"query\": \"nurse\"}").await.fails(400, "malformed", Some("query"), "night nurse");
    raw(&app, "{\"query\": {\"vector\": [NaN]}}").await.fails(400, "malformed", Some("query.vector[0]"), "expected value");
    raw(&app, "{\"query\": {\"vector\": [1e39]}}").await.fails(400, "malformed", Some("query.vector[0]"), "out of range");
    raw(&app, "{\"query\": {\"vector\": [1e999]}}").await.fails(400, "malformed", Some("query.vector[0]"), "out of range");
    let cases = [
        (json!({"query": {"text": "x"}, "limmit": 3}), Some("limmit"), "limmit"),
        (json!({"query": {"text": "x", "vector": [1.0]}}), Some("query"), "exactly one"),
        (json!({"query": {}}), Some("query"), "exactly one"),
        (json!({"limit": 3}), None, "query"),
        (json!({"query": {"text": 3}}), Some("query.text"), "string"),
        (json!({"query": {"text": "x"}, "limit": -1}), Some("limit"), "-1"),
        (json!({"query": {"text": "x"}, "limit": "many"}), Some("limit"), "many"),
        (json!({"query": {"text": "x"}, "filter": {"must": [{"key": "wage", "range": {"gt": 1}}]}}), Some("filter.must[0].key"), "wage"),
        (
            json!({"query": {"text": "x"}, "filter": {"must": [{"key": "title", "match": {"value": "x"}}]}}),
            Some("filter.must[0].key"),
            "not indexed",
        ),
        (json!({"query": {"text": "x"}, "strategy": "fast"}), Some("strategy"), "\"fast\", expected \"auto\", \"graph\" or \"exact\""),
        (json!({"query": {"text": "x"}, "strategy": true}), Some("strategy"), "expected \"auto\", \"graph\" or \"exact\""),
        (json!({"query": {"text": "x"}, "exact": true}), Some("exact"), "`strategy`"),
        (json!({"query": {"text": "x"}, "filter": {"maybe": []}}), Some("filter"), "maybe"),
    ];
    for (body, field, word) in cases {
        app.search("jobs", body).await.fails(400, "malformed", field, word);
    }
    app.get("/readyz").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_cannot_be_accepted_are_422() {
    let app = TestApp::start().await;
    let of_length = |n: usize, x: f64| json!({"query": {"vector": vec![x; n]}});
    let cases = [
        (json!({"query": {"text": ""}}), "query.text", "empty"),
        (json!({"query": {"text": " \n"}}), "query.text", "empty"),
        (of_length(3, 1.0), "query.vector", "384"),
        (of_length(0, 1.0), "query.vector", "384"),
        (of_length(384, 0.0), "query.vector", "length zero"),
        (json!({"query": {"text": "x"}, "profile": "stale"}), "profile", "default"),
        (json!({"query": {"text": "x"}, "fields": vec!["x"; 257]}), "fields", "256"),
        (json!({"query": {"id": ""}}), "query.id", "512 bytes"),
        (json!({"query": {"text": "x"}, "limit": 0}), "limit", "1 to 1000"),
        (json!({"query": {"text": "x"}, "limit": 1001}), "limit", "1 to 1000"),
        (json!({"query": {"text": "x"}, "candidates": 0}), "candidates", "1 to"),
        (json!({"query": {"text": "x"}, "ef_search": 1_000_000}), "ef_search", "1 to"),
    ];
    for (body, field, word) in cases {
        app.search("jobs", body).await.fails(422, "invalid", Some(field), word);
    }
    app.put("/v1/collections/Bad%20Name", json!({"template": "{a}"})).await.fails(422, "invalid", None, "not allowed");
    app.put("/v1/collections/posts", json!({"template": "no field"})).await.fails(422, "invalid", None, "names no field");
    app.get("/readyz").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_404() {
    let app = TestApp::start().await;
    app.search("cats", json!({"query": {"text": "x"}})).await.fails(404, "not_found", Some("collection"), "jobs, members");
    app.search("..%2f..%2fetc", json!({"query": {"text": "x"}})).await.fails(404, "not_found", Some("collection"), "not allowed");
    app.search("jobs", json!({"query": {"id": "nobody"}})).await.fails(404, "not_found", Some("query.id"), "nobody");
    app.search("jobs", json!({"query": {"id": 7}})).await.fails(404, "not_found", Some("query.id"), "7");
    app.get("/v1/collections/%ff").await.fails(400, "malformed", None, "path");
    app.post("/v1/match", json!({"from": {"collection": "members", "id": "m0"}, "to": "jobs"})).await.fails(
        404,
        "not_found",
        Some("from.id"),
        "m0",
    );
    app.get("/v1/collections/jobs/documents/none").await.fails(404, "not_found", Some("id"), "none");
    app.delete("/v1/collections/cats").await.fails(404, "not_found", Some("collection"), "cats");
    app.get("/v2/anything").await.fails(404, "not_found", None, "openapi.json");
    app.delete("/v1/info").await.fails(405, "method_not_allowed", None, "openapi.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_413() {
    let app = TestApp::start_with(&["http.max_body_bytes=2000000"]).await;
    let megabyte = "nurse ".repeat(180_000);
    let long = &megabyte[..100_000];
    app.search("jobs", json!({"query": {"text": long}})).await.fails(413, "too_large", Some("query.text"), "max_query_bytes");
    // A question is short: 1 MiB, whatever documents may have.
    app.search("jobs", json!({"query": {"text": megabyte}})).await.fails(413, "too_large", None, "the limit of this route");
    raw(&app, " ".repeat(2_000_001)).await.fails(413, "too_large", None, "max_body_bytes");
    let documents = json!([{"id": "long", "title": megabyte}, {"id": "short", "title": "Nurse"}]);
    let answer = app.put("/v1/collections/jobs/documents", documents).await.ok();
    assert_eq!(answer["items"][0]["status"], 413);
    assert_eq!(answer["items"][0]["error"]["code"], "too_large");
    assert_eq!(answer["items"][1]["status"], 201);
    assert_eq!(ids(&app.search("jobs", json!({"query": {"text": "nurse"}})).await.ok()), ["short"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_document_spoils_no_other() {
    let app = TestApp::start().await;
    let mut lines = Vec::new();
    lines.extend(b"{\"id\": \"good\", \"title\": \"Nurse\"}\n");
    lines.extend(b"{\"id\": \"broken\", \"title\": \n");
    lines.extend(b"{\"id\": \"latin1\", \"title\": \"Caf\xe9\"}\n");
    lines.extend(b"{\"title\": \"no id\"}\n");
    lines.extend(b"{\"id\": \"good\", \"title\": \"Nurse again\"}\n");
    lines.extend(b"{\"id\": \"empty\"}\n");
    lines.extend(b"{\"id\": \"wage\", \"title\": \"x\", \"salary\": {\"min\": \"much\"}}\n");
    lines.extend(b"{\"id\": \"huge\", \"title\": \"x\", \"salary\": {\"min\": 1e999}}\n");
    lines.extend(b"[1, 2]\n");
    lines.extend(b"{\"id\": \"last\", \"title\": \"Welder\"}");
    let answer = app.call(Method::PUT, "/v1/collections/jobs/documents", lines).await.ok();
    assert_eq!(answer["errors"], true);
    let items: Vec<(u64, &str, &str)> = answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (item["status"].as_u64().unwrap(), item["error"]["code"].as_str().unwrap_or(""), item["error"]["field"].as_str().unwrap_or(""))
        })
        .collect();
    let expected = [
        (200, "", ""),
        (400, "malformed", ""),
        (400, "malformed", ""),
        (422, "invalid", "id"),
        (201, "", ""),
        (422, "invalid", ""),
        (422, "invalid", "salary.min"),
        (400, "malformed", ""),
        (400, "malformed", ""),
        (201, "", ""),
    ];
    assert_eq!(items, expected);
    assert_eq!(answer["items"][0]["result"], "superseded");
    assert_eq!(app.get("/v1/collections/jobs/documents/good").await.ok()["fields"]["title"], "Nurse again", "the last of the two");
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_hold_nothing_or_too_much_are_refused_whole() {
    let app = TestApp::start_with(&["limits.max_batch_documents=4"]).await;
    let path = "/v1/collections/jobs/documents";
    app.put(path, jobs()).await.fails(413, "too_large", None, "max_batch_documents");
    let lines = "{\"id\": 1}\n".repeat(5);
    app.call(Method::PUT, path, lines).await.fails(413, "too_large", None, "max_batch_documents");
    app.put(path, json!([])).await.fails(400, "malformed", None, "no documents");
    app.call(Method::PUT, path, "\n \n").await.fails(400, "malformed", None, "no documents");
    app.call(Method::PUT, path, "[{\"id\": 1}, ").await.fails(400, "malformed", None, "array");
    app.put("/v1/collections/cats/documents", jobs()).await.fails(404, "not_found", Some("collection"), "cats");
    assert_eq!(app.get("/v1/collections/jobs").await.ok()["n_documents"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_the_request_id() {
    let app = TestApp::start().await;
    let client = crate::app::client();
    let response = client.get(format!("http://{}/nothing", app.address)).header("x-request-id", "mine-1").send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["request_id"], "mine-1");
}

/// Whatever a filter is for, too much of it is refused before anything is evaluated.
#[tokio::test(flavor = "multi_thread")]
async fn filters_have_limits_on_every_route() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.put("/collections/posts", json!({"vectors": {"size": 384, "distance": "Cosine"}})).await.ok();
    let near = json!({"key": "location", "geo_radius": {"center": {"lat": 52.5, "lon": 13.4}, "radius": 1e6}});
    let city = json!({"key": "location.city", "match": {"value": "Berlin"}});
    let cases = [
        (json!({"must": vec![near.clone(); 17]}), "at most 16 geo_radius"),
        (json!({"should": [{"must": vec![near.clone(); 9]}, {"must_not": vec![near.clone(); 8]}]}), "at most 16 geo_radius"),
        (json!({"must_not": vec![city.clone(); 257]}), "at most 256 conditions"),
        (json!({"must": vec![json!({}); 257]}), "at most 256 conditions"),
        (json!({"must": [{"key": "location.city", "match": {"any": vec!["x"; 10_001]}}]}), "at most 10000 values"),
        (json!({"must": [{"key": "location.city", "match": {"except": ["x".repeat(1 << 20), "y"]}}]}), "at most 1048576 bytes"),
    ];
    for (filter, limit) in cases {
        for (path, body) in [
            ("/v1/collections/jobs/search", json!({"query": {"text": "nurse"}, "filter": filter})),
            ("/v1/collections/jobs/explain", json!({"query": {"text": "nurse"}, "filter": filter, "id": "nurse"})),
            ("/v1/collections/jobs/recall", json!({"filter": filter})),
            ("/v1/collections/jobs/documents/delete", json!({"filter": filter})),
            ("/collections/jobs/points/query", json!({"query": vec![0.5; 384], "filter": filter})),
            ("/collections/jobs/points/scroll", json!({"filter": filter})),
            ("/collections/jobs/points/count", json!({"filter": filter})),
            ("/collections/jobs/points/delete", json!({"filter": filter})),
        ] {
            // A question may have 1 MiB in all, so that such a filter fits into a deletion only.
            let is_too_long = body.to_string().len() > 1 << 20 && !path.ends_with("/delete");
            let answer = app.post(path, body).await;
            if is_too_long {
                assert_eq!(answer.status.as_u16(), 413, "{path}: {}", answer.body);
                continue;
            }
            assert_eq!(answer.status.as_u16(), 400, "{path}: {}", answer.body);
            assert!(answer.body.to_string().contains(limit), "{path}: {}", answer.body);
        }
    }
    let formula = json!({"formula": {"sum": vec![near.clone(); 17]}});
    app.search("jobs", json!({"query": {"text": "nurse"}, "profile": formula})).await.fails(
        422,
        "invalid",
        Some("profile"),
        "at most 16 geo_radius",
    );
    // What is within the limits is answered, nested or not.
    let filter = json!({"must": vec![near; 16], "should": vec![city; 200]});
    assert_eq!(ids(&app.search("jobs", json!({"query": {"text": "nurse"}, "filter": filter})).await.ok()), ["nurse"]);
}

/// Some editors put a mark before what they save, and `curl -d @file` sends it along.
#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_is_no_mistake() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let marked = |body: Value| format!("\u{feff}{body}");
    for (method, path, body) in [
        (Method::PUT, "/v1/collections/jobs/documents", json!([{"id": "a", "title": "Baker"}])),
        (Method::PUT, "/v1/collections/jobs/documents/b", json!({"title": "Baker"})),
        (Method::POST, "/v1/collections/jobs/search", json!({"query": {"text": "x"}})),
        (Method::POST, "/v1/embeddings", json!({"input": "x", "model": "all-MiniLM-L6-v2"})),
        (Method::POST, "/embed", json!({"inputs": "x"})),
        (Method::POST, "/collections/jobs/points/count", json!({})),
        (Method::PUT, "/v1/collections/jobs/profiles/p", json!({"directions": {"text": {"weights": {"dot": 1}}}})),
    ] {
        app.call(method, path, marked(body)).await.ok();
    }
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let request = crate::app::client().post(format!("http://{}/mcp", app.address)).header("content-type", "application/json");
    let request = request.header("accept", "application/json, text/event-stream").body(marked(call));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(answer["result"]["tools"].is_array(), "{answer}");
}

/// A gzip member whose contents are stored as they are.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    let blocks: Vec<&[u8]> = bytes.chunks(60_000).collect();
    for (position, block) in blocks.iter().enumerate() {
        let len = u16::try_from(block.len()).unwrap();
        packed.push(u8::from(position + 1 == blocks.len()));
        packed.extend(len.to_le_bytes());
        packed.extend((!len).to_le_bytes());
        packed.extend(*block);
    }
    packed.extend(crc32fast::hash(bytes).to_le_bytes());
    packed.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    packed
}

/// A zstd frame of one raw block.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).unwrap();
    let header = (u32::from(len) << 3 | 1).to_le_bytes();
    [b"\x28\xb5\x2f\xfd\x20".as_slice(), &[len], &header[..3], bytes].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_may_be_compressed_and_answers_are_when_asked() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let url = |path: &str| format!("http://{}{path}", app.address);
    let send = async |path: &str, encoding: &str, body: Vec<u8>| {
        let request = crate::app::client().post(url(path)).header("content-encoding", encoding).body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let search = "/v1/collections/jobs/search";
    let body = json!({"query": {"text": "keep patients safe at night"}, "limit": 1}).to_string().into_bytes();
    for (encoding, packed) in
        [("gzip", gzip(&body)), ("GZIP", gzip(&body)), ("x-gzip", gzip(&body)), ("zstd", zstd(&body)), ("identity", body.clone())]
    {
        let (status, found) = send(search, encoding, packed).await;
        assert_eq!((status, &found["hits"][0]["id"]), (200, &json!("nurse")), "{encoding}: {found}");
    }
    let (_, embedded) = send("/embed", "gzip", gzip(b"{\"inputs\": \"x\"}")).await;
    assert_eq!(embedded[0].as_array().unwrap().len(), 384);
    for encoding in ["br", "deflate", "gzip, gzip", "compress"] {
        let (status, refused) = send(search, encoding, body.clone()).await;
        assert_eq!((status, &refused["error"]["code"]), (415, &json!("unsupported_encoding")), "{encoding}: {refused}");
    }
    let (status, refused) = send("/embed", "br", body.clone()).await;
    assert_eq!((status, &refused["error_type"]), (415, &json!("Validation")), "in the shape of the route");
    let (status, refused) = send(search, "gzip", body.clone()).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("malformed")), "no gzip: {refused}");
    // What counts is the length of what is inside.
    let bomb = include_bytes!("../fixtures/two_mebibytes.gz");
    assert!(bomb.len() < 10_000);
    let (status, refused) = send(search, "gzip", bomb.to_vec()).await;
    assert_eq!((status, &refused["error"]["code"]), (413, &json!("too_large")), "{refused}");

    for (accepted, encoding) in [("gzip", Some("gzip")), ("zstd", Some("zstd")), ("br", None), ("identity", None)] {
        let answer = crate::app::client().get(url("/v1/collections")).header("accept-encoding", accepted).send().await.unwrap();
        let told = answer.headers().get("content-encoding").map(|told| told.to_str().unwrap().to_owned());
        assert_eq!(told.as_deref(), encoding);
        let (is_json, n_bytes) = answer.bytes().await.map(|bytes| (bytes.starts_with(b"{"), bytes.len())).unwrap();
        assert_eq!(is_json, encoding.is_none(), "{accepted}: {n_bytes} bytes");
    }
}

/// Two bodies of the greatest length are all that there is memory for; others are told to come again, and searches have memory of their
/// own.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_flight_are_bounded_together() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let app = TestApp::start_with(&["http.max_body_bytes=2000000"]).await;
    let path = "/v1/collections/jobs/documents";
    let begin = async || {
        let mut stream = tokio::net::TcpStream::connect(&app.address).await.unwrap();
        let head = format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000000\r\n\r\n[");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let mut held = vec![begin().await, begin().await];
    let document = json!([{"id": "a", "title": "Baker", "free": "x".repeat(100_000)}]);
    let refused = loop {
        let answer = app.put(path, document.clone()).await;
        if answer.status != 200 {
            break answer;
        }
        // The server has not seen both yet, or one came while this had room.
        held.push(begin().await);
    };
    refused.fails(429, "overloaded", None, "try again in a moment");
    app.search("jobs", json!({"query": {"text": "x"}})).await.ok();
    drop(held);
    while app.put(path, document.clone()).await.status != 200 {}
    // Without a length, a body takes what comes.
    let mut stream = tokio::net::TcpStream::connect(&app.address).await.unwrap();
    let head = format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    let document = json!([{"id": "c", "title": "Baker"}]).to_string();
    let chunk = format!("{:x}\r\n{document}\r\n0\r\n\r\n", document.len());
    stream.write_all((head + &chunk).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
