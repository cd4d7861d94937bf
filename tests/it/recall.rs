//! RECALL: measured on recent searches and on documents.

use std::path::Path;

use kindred_core::domain::Choice;
use kindred_core::storage::{SectionFile, SectionWriter, container_checksum};
use serde_json::{Value, json};

use crate::app::{TestApp, jobs, members};

const PATH: &str = "/v1/collections/jobs/recall";

fn n_in_groups(report: &Value) -> u64 {
    report["by_selectivity"].as_array().unwrap().iter().map(|group| group["n_queries"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_and_recent_searches_are_measured() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.put("/v1/collections/members/documents", members()).await.ok();
    let report = app.post(PATH, json!({})).await.ok();
    // All five documents, each once more among those that share a keyword; only the graph can miss any, and here is none yet.
    assert_eq!((&report["n_queries"], &report["n_from_queries"]), (&json!(5), &json!(0)), "{report}");
    assert_eq!((&report["k"], &report["ef_search"], &report["generation"]), (&json!(10), &json!(200), &json!("none")));
    assert_eq!((&report["recall"], &report["p5"]), (&json!(1.0), &json!(1.0)));
    let [low, high] = [&report["ci95"][0], &report["ci95"][1]].map(|bound| bound.as_f64().unwrap());
    assert!((0.5..0.6).contains(&low) && high == 1.0, "five queries are not certainty: {report}");
    assert!(report["exact_us"].is_u64() && report["auto_us"].is_u64());
    assert!((5..=10).contains(&n_in_groups(&report)), "{report}");

    let remote = json!({"must": [{"key": "remote", "match": {"value": true}}]});
    app.search("jobs", json!({"query": {"text": "make desserts"}})).await.ok();
    app.search("jobs", json!({"query": {"text": "make desserts"}, "filter": remote})).await.ok();
    app.search("jobs", json!({"query": {"id": "rust"}, "filter": remote})).await.ok();
    app.post("/v1/match", json!({"from": {"collection": "members", "id": "m-nurse"}, "to": "jobs"})).await.ok();
    app.search("jobs", json!({"query": {"text": ""}})).await.fails(422, "invalid", Some("query.text"), "empty");
    let report = app.post(PATH, json!({"num": 6, "k": 1})).await.ok();
    // Nothing but the asking document is remote, and what nothing matches is not measured.
    assert_eq!(report["n_from_queries"].as_u64().unwrap() + 3, report["n_queries"].as_u64().unwrap(), "{report}");
    assert!([2, 3].contains(&report["n_from_queries"].as_u64().unwrap()), "{report}");
    assert_eq!(app.post("/v1/collections/members/recall", json!({})).await.ok()["n_from_queries"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_narrows_and_a_seed_repeats() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    for text in ["night shift", "metal", "children", "bread", "databases", "hospital"] {
        app.search("jobs", json!({"query": {"text": text}})).await.ok();
    }
    let in_france = json!({"must": [{"key": "location.country", "match": {"value": "FR"}}]});
    let report = app.post(PATH, json!({"num": 100, "filter": in_france})).await.ok();
    assert_eq!((&report["n_queries"], &report["n_from_queries"]), (&json!(11), &json!(6)), "{report}");
    assert_eq!(report["by_selectivity"][0]["n_queries"].as_u64().unwrap(), 9, "2 of 5; 1 of 5 when asked with one of the two: {report}");
    let body = json!({"num": 4, "seed": 7, "filter": in_france});
    let [once, again] = [app.post(PATH, body.clone()).await.ok(), app.post(PATH, body).await.ok()];
    for key in ["recall", "p5", "ci95", "n_queries", "n_from_queries", "seed", "by_selectivity"] {
        assert_eq!(once[key], again[key], "{key}");
    }
    assert_eq!(once["seed"], 7);
    let nobody = json!({"must": [{"key": "company", "match": {"value": "nobody"}}]});
    let report = app.post(PATH, json!({"filter": nobody})).await.ok();
    assert_eq!((&report["n_queries"], &report["recall"]), (&json!(0), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_collection_has_no_recall() {
    let app = TestApp::start().await;
    app.search("jobs", json!({"query": {"text": "make desserts"}})).await.ok();
    let report = app.post(PATH, json!({})).await.ok();
    assert_eq!((&report["n_queries"], &report["n_from_queries"]), (&json!(0), &json!(0)));
    for key in ["recall", "p5", "ci95", "exact_us", "auto_us"] {
        assert!(report[key].is_null(), "{report}");
    }
    assert_eq!(report["by_selectivity"].as_array().unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_of_a_collection_that_was_made_anew_are_forgotten() {
    let app = TestApp::start().await;
    let definition =
        |field_type: &str| json!({"template": "{title}", "fields": {"title": {"type": "text"}, "x": {"type": field_type, "index": true}}});
    app.put("/v1/collections/posts", definition("keyword")).await.ok();
    app.put("/v1/collections/posts/documents", json!([{"id": "a", "title": "Baker", "x": "y"}])).await.ok();
    let filter = json!({"must": [{"key": "x", "match": {"value": "y"}}]});
    app.search("posts", json!({"query": {"text": "bread"}, "filter": filter})).await.ok();
    assert_eq!(app.post("/v1/collections/posts/recall", json!({})).await.ok()["n_from_queries"], 1);
    app.delete("/v1/collections/posts").await.ok();
    app.put("/v1/collections/posts", definition("number")).await.ok();
    app.put("/v1/collections/posts/documents", json!([{"id": "a", "title": "Baker", "x": 1}, {"id": "b", "title": "Cook"}])).await.ok();
    let report = app.post("/v1/collections/posts/recall", json!({})).await.ok();
    assert_eq!((&report["n_from_queries"], &report["n_queries"]), (&json!(0), &json!(2)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_is_limited() {
    let app = TestApp::start().await;
    for (body, field, word) in [
        (json!({"num": 0}), "num", "1 to 1000"),
        (json!({"num": 1001}), "num", "1 to 1000"),
        (json!({"k": 1001}), "k", "1 to 1000"),
        (json!({"ef_search": 1_000_000}), "ef_search", "1 to"),
    ] {
        app.post(PATH, body).await.fails(422, "invalid", Some(field), word);
    }
    app.post(PATH, json!({"number": 1})).await.fails(400, "malformed", Some("number"), "number");
    app.post(PATH, json!({"filter": {"must": [{"key": "wage", "match": {"value": 1}}]}})).await.fails(
        400,
        "malformed",
        Some("filter.must[0].key"),
        "wage",
    );
    app.post("/v1/collections/cats/recall", json!({})).await.fails(404, "not_found", Some("collection"), "cats");
}

/// Links all rows of a built graph to the same few, and makes its checksums right again: what a bug in building could leave. (One without links
/// would find too little, which searches notice themselves.)
fn break_graph(generation: &Path) {
    let (graph, manifest) = (generation.join("graph.bin"), generation.join("manifest.bin"));
    let (_, before) = container_checksum(&graph).unwrap();
    rewrite(&graph, *b"GRPH", 2, 5, |section, bytes| {
        if section == 1 {
            let (row, codes, links) = (bytes.len() / 3_000, 384, (0u32..32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
            bytes.chunks_exact_mut(row).for_each(|row| row[codes..codes + links.len()].copy_from_slice(&links));
        }
    });
    let (_, after) = container_checksum(&graph).unwrap();
    rewrite(&manifest, *b"MANI", 3, 1, |_, bytes| {
        let at = bytes.windows(4).position(|four| four == before.to_le_bytes()).expect("the manifest knows the graph");
        bytes[at..at + 4].copy_from_slice(&after.to_le_bytes());
    });
}

/// Writes a container anew with other bytes.
fn rewrite(path: &Path, kind: [u8; 4], version: u32, n_sections: usize, change: impl Fn(usize, &mut [u8])) {
    let file = SectionFile::open(path, kind, version, n_sections).unwrap();
    let sections: Vec<Vec<u8>> = (0..n_sections).map(|section| file.bytes(section).unwrap().to_vec()).collect();
    drop(file);
    std::fs::remove_file(path).unwrap();
    let mut writer = SectionWriter::create(path, kind, version).unwrap();
    for (section, mut bytes) in sections.into_iter().enumerate() {
        change(section, &mut bytes);
        writer.section(&bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn live_searches_are_watched_and_a_broken_graph_raises_an_alarm() {
    let flags = ["search.recall_share=1", "search.candidates=10", "search.ef_search=10"];
    let app = TestApp::start_with(&flags).await;
    let mut choice = Choice::new("watched", 1);
    let mut vector = || -> Vec<f32> { (0..384).map(|_| choice.below(2_000) as f32 - 999.5).collect() };
    let documents: Vec<Value> = (0..3_000).map(|i| json!({"id": format!("d{i}"), "title": "x", "embedding": vector()})).collect();
    app.put("/v1/collections/jobs/documents", json!(documents)).await.ok();
    let started = app.post("/v1/collections/jobs/rebuild", json!({})).await.ok();
    app.ended(&started).await;
    let dir = app.stop().await;
    break_graph(&dir.path().join("jobs/generations/000001"));

    let app = TestApp::start_in(dir, &flags).await;
    assert_eq!(app.get("/v1/collections/jobs/recall").await.ok(), json!({"history": [], "alarm": false}));
    app.get("/v1/collections/nothing/recall").await.fails(404, "not_found", Some("collection"), "nothing");
    loop {
        let found = app.search("jobs", json!({"query": {"vector": vector()}})).await.ok();
        assert_eq!(found["plan"]["strategy"], "graph", "{}", found["plan"]);
        let told = app.get("/v1/collections/jobs/recall").await.ok();
        if told["alarm"] == true {
            let point = &told["history"][0];
            assert!(point["n_queries"].as_u64().unwrap() >= 20 && point["recall"].as_f64().unwrap() < 0.9, "{told}");
            assert_eq!(point["by_selectivity"][0]["n_queries"], point["n_queries"]);
            break;
        }
    }
    let metrics = app.get("/metrics").await.ok();
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("kindred_recall_alarm{collection=\"jobs\"} 1"), "{metrics}");
    assert!(metrics.contains("kindred_recall_count{collection=\"jobs\",selectivity=\"1\"}"), "{metrics}");
    // Made anew, it is another collection.
    app.delete("/v1/collections/jobs").await.ok();
    assert_eq!(app.get("/v1/collections/jobs/recall").await.ok(), json!({"history": [], "alarm": false}));
}
