//! The console's files. What the page does is tested in a browser (`.ci/browser.py`).

use std::collections::BTreeSet;

use kindred::http::{self, ConnectionSettings, Gate};
use reqwest::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH, REFERRER_POLICY};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::app::TestApp;

async fn ask(app: &TestApp, method: Method, path: &str, tag: Option<&str>) -> Response {
    let mut request = Client::new().request(method, format!("http://{}{path}", app.address));
    if let Some(tag) = tag {
        request = request.header(IF_NONE_MATCH, tag);
    }
    request.send().await.unwrap()
}

fn text(headers: &HeaderMap, name: impl reqwest::header::AsHeaderName) -> &str {
    headers.get(name).expect("the header is there").to_str().unwrap()
}

/// What stands in quotes after `before`, as a path of this server.
fn named(text: &str, before: &str) -> Vec<String> {
    let after = text.split(before).skip(1);
    after.filter_map(|rest| rest.split(['"', '\'']).next()).map(|name| name.replace("./", "/console/")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_all_that_it_names_are_there() {
    let app = TestApp::start().await;
    let mut wanted = vec!["/".to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(path) = wanted.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let response = ask(&app, Method::GET, &path, None).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers().clone();
        let expected = match path.rsplit_once('.') {
            None => "text/html; charset=utf-8",
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some(_) => "image/svg+xml",
        };
        assert_eq!(text(&headers, CONTENT_TYPE), expected, "{path}");
        assert_eq!((text(&headers, CACHE_CONTROL), text(&headers, REFERRER_POLICY)), ("no-cache", "no-referrer"));
        assert_eq!(text(&headers, "x-content-type-options"), "nosniff");
        let body = response.text().await.unwrap();
        // What the policy forbids would not work, and nothing may come from elsewhere.
        let policy = text(&headers, CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';") && !policy.contains("unsafe"), "{policy}");
        for forbidden in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=\"", "https://", "@import", "url("]
        {
            assert!(!body.contains(forbidden), "{path} has {forbidden}");
        }
        if path == "/" {
            wanted.extend(
                ["href=\"/console/", "src=\"/console/"]
                    .iter()
                    .flat_map(|before| named(&body, before))
                    .map(|name| format!("/console/{name}")),
            );
        }
        wanted.extend(named(&body, " from '"));
    }
    let kept = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/console")).unwrap().count();
    assert_eq!(seen.len(), kept, "a file of the console is not used, or not there: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_has_a_file_is_told_that_it_is_the_same() {
    let app = TestApp::start().await;
    let first = ask(&app, Method::GET, "/console/app.js", None).await;
    let tag = text(first.headers(), ETAG).to_owned();
    let length = first.bytes().await.unwrap().len();
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let again = ask(&app, Method::GET, "/console/app.js", Some(&known)).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(text(again.headers(), ETAG), tag);
        assert!(again.headers().contains_key(CONTENT_SECURITY_POLICY) && again.bytes().await.unwrap().is_empty());
    }
    assert_eq!(ask(&app, Method::GET, "/console/app.js", Some("\"other\"")).await.status(), StatusCode::OK);
    let head = ask(&app, Method::HEAD, "/console/app.js", None).await;
    assert_eq!((head.status(), text(head.headers(), "content-length")), (StatusCode::OK, length.to_string().as_str()));
    assert_eq!(text(head.headers(), ETAG), tag);
    assert!(head.bytes().await.unwrap().is_empty());
}

/// A person who comes too early gets the page, and the page is told to come again.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_there_before_the_server_is_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let served = tokio::spawn(http::serve(listener, ConnectionSettings::default(), Gate::default(), None, async { drop(ended.await) }));
    let status = async |method: Method, path: &str| {
        let response = Client::new().request(method, format!("http://{address}{path}")).send().await.unwrap();
        response.status().as_u16()
    };
    assert_eq!((status(Method::GET, "/").await, status(Method::GET, "/console/app.js").await), (200, 200));
    assert_eq!((status(Method::GET, "/v1/collections").await, status(Method::POST, "/").await), (503, 503));
    drop(end);
    served.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_and_methods_are_what_they_were() {
    let app = TestApp::start().await;
    app.get("/console/nothing.js").await.fails(404, "not_found", None, "nothing at this path");
    app.get("/console/..%2Fmod.rs").await.fails(404, "not_found", None, "nothing at this path");
    app.delete("/console/app.js").await.fails(405, "method_not_allowed", None, "method");
    let embeddings = app.post("/", json!({"inputs": "night nurse"})).await.ok();
    assert_eq!(embeddings[0].as_array().map(Vec::len), Some(384));
}
