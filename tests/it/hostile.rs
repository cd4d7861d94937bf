//! Hostile bytes: sound input, changed at random in the ways that break parsers, thousands of times. Whatever comes is accepted or refused:
//! nothing panics, nothing is an error of the server, and the next sound request is answered.

use std::io::Write;

use kindred::collection::Access;
use kindred::http::Keys;
use kindred::ingest::{Format, Ingest, Options, Source};
use kindred::pipeline::evaluate::Judgments;
use kindred_core::Cancel;
use kindred_core::domain::{Choice, CollectionName};
use reqwest::Method;
use serde_json::json;

use crate::app::{TestApp, jobs, open, settings};

const INTERESTING: [&str; 22] = [
    "0",
    "-1",
    "1e308",
    "1e-308",
    "-0.0",
    "18446744073709551616",
    "9223372036854775807",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "\u{0}",
    "\u{feff}",
    "\\ud800",
    "NaN",
    ",",
    "\"",
    "\r\n",
    "é",
    "𐍈",
    "../../etc/passwd",
];

/// Changes bytes as fuzzers do: single ones, ranges, numbers, pieces of other input, nesting.
fn mutate(choice: &mut Choice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = choice.pick(seeds).clone();
    for _ in 0..=choice.below(4) {
        let (at, to) = (choice.below(bytes.len() + 1), choice.below(bytes.len() + 1));
        let (from, to) = (at.min(to), at.max(to));
        match choice.below(8) {
            0 if !bytes.is_empty() => {
                let at = choice.below(bytes.len());
                bytes[at] ^= 1 << choice.below(8);
            }
            1 => drop(bytes.splice(at..at, choice.pick(&INTERESTING).bytes())),
            2 => drop(bytes.drain(from..to.min(from + 40))),
            3 => {
                let part = bytes[from..to.min(from + 400)].to_vec();
                bytes.splice(at..at, part);
            }
            4 => bytes.truncate(at),
            5 => {
                let other = choice.pick(seeds);
                let start = choice.below(other.len() + 1);
                bytes.splice(at..at, other[start..].iter().copied());
            }
            6 => {
                // A number becomes another.
                if let Some(digit) = bytes.iter().skip(at).position(u8::is_ascii_digit).map(|offset| at + offset) {
                    let end = bytes[digit..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |offset| digit + offset);
                    bytes.splice(digit..end, choice.pick(&INTERESTING[..7]).bytes());
                }
            }
            _ => {
                let deep = [1, 10, 200, 5_000][choice.below(4)];
                bytes.splice(at..at, b"[".repeat(deep).into_iter().chain(b"]".repeat(deep)));
            }
        }
    }
    bytes
}

fn seeds(texts: &[serde_json::Value]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.to_string().into_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_or_refused() {
    let app = TestApp::start_with(&["http.max_body_bytes=200000"]).await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let filter = json!({"must": [{"key": "skills", "match": {"any": ["Rust", "SQL"]}}, {"key": "salary.min", "range": {"gte": 1, "lt": 5e4}}],
        "must_not": [{"key": "company", "match": {"value": "Kiln"}}, {"should": [{"key": "posted_at", "range": {"gte": "2026-11-01"}}]}],
        "should": [{"key": "location", "geo_radius": {"center": {"lat": 52.52, "lon": 13.4}, "radius": 30000}}]});
    let formula = json!({"formula": {"sum": ["$score", {"mult": [0.2, {"gauss_decay": {"x": {"geo_distance": {"origin": {"lat": 1, "lon": 2}, "to": "location"}}, "scale": 3}}]},
        {"div": {"left": {"ln": "salary.min"}, "right": {"pow": {"base": 2, "exponent": {"datetime_key": "posted_at"}}}, "by_zero_default": 1}},
        {"key": "remote", "match": {"value": true}}]}, "defaults": {"posted_at": "2025-01-01"}});
    let targets = [
        (
            Method::POST,
            "/v1/collections/jobs/search",
            seeds(&[
                json!({"query": {"text": "night nurse"}, "filter": filter, "limit": 3, "candidates": 20, "retrieval": "lexical"}),
                json!({"query": {"id": "nurse"}, "profile": formula, "explain": true, "group_by": {"field": "company", "size": 2}, "diversity": 0.5}),
                json!({"query": {"text": "x"}, "retrieval": "lexical", "facets": ["company"], "profile": {"weights": {"bm25": 1, "title_letters": -2}}, "fields": ["title", "location.city"]}),
            ]),
        ),
        (Method::POST, "/v1/collections/jobs/explain", seeds(&[json!({"query": {"id": "nurse"}, "id": "chef", "filter": filter})])),
        (Method::POST, "/v1/match", seeds(&[json!({"from": {"collection": "jobs", "id": "nurse"}, "to": "jobs", "limit": 2})])),
        (
            Method::PUT,
            "/v1/collections/jobs/documents",
            seeds(&[
                json!([{"id": "a", "title": "Baker", "skills": ["x", "y"], "location": {"lat": 1, "lon": 2}, "posted_at": "2026-01-01", "remote": true, "embedding": vec![0.5; 384]}]),
                json!({"id": 7, "salary": {"min": 1, "max": 2.5}, "embedding": vec![1; 384]}),
            ]),
        ),
        (Method::PATCH, "/v1/collections/jobs/documents", seeds(&[json!({"id": "nurse", "salary": {"min": null}, "remote": true})])),
        (
            Method::POST,
            "/v1/collections/jobs/documents/delete",
            seeds(&[json!({"ids": ["a", "b"]}), json!({"filter": {"must": [{"key": "company", "match": {"value": "nobody"}}]}})]),
        ),
        (
            Method::PUT,
            "/v1/collections/posts",
            seeds(&[
                json!({"template": "{title}\n{text}", "fields": {"title": {"type": "text"}, "tags": {"type": "keyword", "index": true}}, "chunks": {"mode": "best", "max_tokens": 64}}),
            ]),
        ),
        (
            Method::PUT,
            "/v1/collections/jobs/profiles/p",
            seeds(&[json!({"directions": {"text": {"weights": {"dot": 1}}, "members": formula}})]),
        ),
        (Method::POST, "/tokenize", seeds(&[json!({"inputs": ["a", "b c"], "add_special_tokens": false})])),
        (Method::POST, "/v1/fit", seeds(&[json!({"member": {"collection": "jobs", "id": "nurse"}, "job": "chef"})])),
        (Method::POST, "/v1/collections/jobs/recall", seeds(&[json!({"num": 2, "k": 3, "ef_search": 10, "filter": filter, "seed": 1})])),
    ];
    let mut choice = Choice::new("hostile requests", 1);
    let mut by_status = std::collections::BTreeMap::<u16, usize>::new();
    for (method, path, seeds) in &targets {
        for _ in 0..150 {
            let body = mutate(&mut choice, seeds);
            let answer = app.call(method.clone(), path, body.clone()).await;
            let status = answer.status.as_u16();
            assert!(status < 500, "{method} {path} {status}: {} for {}", answer.body, String::from_utf8_lossy(&body));
            *by_status.entry(status).or_default() += 1;
        }
    }
    assert!(by_status[&200] > 50 && by_status[&400] > 200, "some of it is sound, most is not: {by_status:?}");
    // Paths, queries and headers.
    for path in [
        "/v1/collections/%00/search",
        "/v1/collections/jobs/documents/%ff%fe",
        "/v1/collections/jobs/documents/x?if_seqno=-1",
        "/v1/tasks/..%2f..",
        "/%",
    ] {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let status = app.call(method, path, "{}").await.status.as_u16();
            assert!(status < 500, "{path}: {status}");
        }
    }
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let found = app.search("jobs", json!({"query": {"text": "keep patients safe at night"}, "limit": 1})).await.ok();
    assert_eq!(found["hits"][0]["id"], "nurse", "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_taken_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &[]);
    let app = tokio::task::spawn_blocking(move || open(&settings, Access::Serve).unwrap()).await.unwrap();
    let name = CollectionName::new("jobs").unwrap();
    let schema = app.catalog.searcher(&name).unwrap().meaning().schema.clone();
    let csv = "id,title,skills,location,remote,posted_at\nc1,Baker,a|b,\"52.5,13.4\",yes,2026-01-01\nc2,\"Night \"\"nurse\"\"\",,,no,\n"
        .to_owned();
    let jsonl = format!(
        "{}\n{}\n",
        json!({"id": "l1", "title": "Baker", "remote": true}),
        json!({"id": "l2", "title": "Nurse", "salary": {"min": 3}})
    );
    let mut choice = Choice::new("hostile files", 1);
    for (format, seed) in [(Format::Csv, csv), (Format::Jsonl, jsonl)] {
        let (seeds, mut n_taken) = ([seed.into_bytes()], 0);
        for number in 0..150 {
            let path = dir.path().join(format!("{number}.in"));
            std::fs::File::create(&path).unwrap().write_all(&mutate(&mut choice, &seeds)).unwrap();
            let source = Source::file(&path, Some(format)).unwrap();
            let ingest = Ingest::open(&app.write, &name, &schema, source, &Options { from_start: true, ..Options::default() });
            let Ok(ingest) = ingest else { continue };
            if let Ok(report) = ingest.run(&Cancel::default()).await {
                n_taken += report.n_created + report.n_updated + report.n_unchanged;
            }
        }
        assert!(n_taken > 20, "some of it is sound: {n_taken}");
    }
    let keys = format!(
        "[[keys]]\nname = \"a\"\nsha256 = \"{}\"\nrole = \"read\"\ncollections = [\"jobs\"]\nrequests_per_second = 5\nexpires_at = \"2027-01-01T00:00:00Z\"\n",
        "0a".repeat(32)
    );
    let qrels = "q1 0 a 3\nq1 0 b 0\n\nq2 0 a -1\n".to_owned();
    let [keys, qrels] = [keys, qrels].map(|text| [text.into_bytes()]);
    for _ in 0..500 {
        let path = dir.path().join("keys.toml");
        std::fs::write(&path, mutate(&mut choice, &keys)).unwrap();
        let _ = Keys::open(&path);
        let _ = Judgments::parse(&String::from_utf8_lossy(&mutate(&mut choice, &qrels)));
    }
}
