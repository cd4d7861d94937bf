//! The console: a page for people, whose files (`console/`) are compiled in. It uses the same API as everybody.

use std::sync::LazyLock;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::error::ApiError;
use super::path::PathParts;
use kindred_core::domain::hex;

/// A file of the console.
#[derive(Debug, Clone, Copy)]
struct File {
    name: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal)*) => { [$(File { name: $name, bytes: include_bytes!(concat!("console/", $name)) }),*] };
}

const FILES: [File; 32] = files! {
    "index.html" "icon.svg" "base.css" "pages.css" "search.css" "api.js" "app.js" "ask.js" "charts.js" "collections.js"
    "details.js" "dialog.js" "dom.js" "errors.js" "evaluation_form.js" "evaluation_input.js" "evaluation_report.js"
    "evaluations.js" "feed.js" "filters.js" "form.js" "format.js" "generations.js" "hits.js" "phrases.js" "picker.js" "recall.js"
    "reference.js" "schema.js" "search.js" "tasks.js" "why.js"
};

/// All files under one tag: they belong together, and a browser that has some of them of another build asks for all again.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = Sha256::new();
    FILES.iter().for_each(|file| hasher.update(file.bytes));
    format!("\"{}\"", hex(&hasher.finalize()[..12]))
});

/// Only what comes from here, and nothing that is written into the page: a document's text can be no script, whatever it holds.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
     frame-ancestors 'none'; form-action 'none'";

/// Paths of the page and of its files, which the gate answers, too, before the server is ready.
pub const INDEX: &str = "/";
pub const FILES_PATH: &str = "/console/{*file}";

/// The page.
pub async fn index(headers: HeaderMap) -> Response {
    answer("index.html", &headers)
}

/// A file of the page.
pub async fn file(PathParts(name): PathParts<String>, headers: HeaderMap) -> Response {
    answer(&name, &headers)
}

fn answer(name: &str, asked: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else { return ApiError::unknown_route().into_response() };
    let headers = [
        (header::CONTENT_TYPE, content_type(name)),
        (header::ETAG, TAG.as_str()),
        // Kept, and asked for each time whether it is still the same.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    if is_known(asked) { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, file.bytes).into_response() }
}

/// Whether who asks has this build's file already.
fn is_known(asked: &HeaderMap) -> bool {
    let tags = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|tags| tags.split(',')).map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == *TAG)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
