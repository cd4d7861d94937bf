//! QUERY: text, vector or document in, hits out.

use futures_util::future::join_all;
use kindred_encoder::QueryOptions;
use serde_json::{Value, json};

use crate::app::{TestApp, encoder, ids, jobs, members};

async fn filled() -> TestApp {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.put("/v1/collections/members/documents", members()).await.ok();
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_finds_what_it_means() {
    let app = filled().await;
    for (text, best) in [
        ("keep patients safe in the hospital after dark", "nurse"),
        ("join metal", "welder"),
        ("develop server software for banks", "rust"),
        ("work with kids", "teacher"),
        ("make desserts", "chef"),
    ] {
        let answer = app.search("jobs", json!({"query": {"text": text}})).await.ok();
        assert_eq!(ids(&answer)[0], best, "{text}");
        assert_eq!(answer["hits"].as_array().unwrap().len(), 5, "all there are");
    }
    let kept = app.search("jobs", json!({"query": {"text": " make  desserts"}, "limit": 1})).await.ok();
    assert_eq!(kept["timings"]["encode_us"], 0, "the text was asked before");
    let answer =
        app.search("jobs", json!({"query": {"text": "make desserts"}, "limit": 1, "cache": false, "timeout_ms": u64::MAX})).await.ok();
    assert_eq!(answer["hits"][0]["retrieval_score"], kept["hits"][0]["retrieval_score"]);
    assert_eq!(answer["model"], "all-MiniLM-L6-v2");
    assert_eq!(answer["generation"], "none", "nothing has been built yet");
    assert_eq!(answer["plan"]["strategy"], "exact");
    assert_eq!(answer["plan"]["n_matching"], 5);
    assert!(answer["timings"]["encode_us"].as_u64().unwrap() > 0);
    let total = answer["timings"]["total_us"].as_u64().unwrap();
    let stages: u64 =
        ["tokenize_us", "queue_us", "encode_us", "retrieve_us", "rescore_us"].iter().map(|s| answer["timings"][s].as_u64().unwrap()).sum();
    assert!(stages <= total, "{}", answer["timings"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_finds_what_its_text_finds() {
    let app = filled().await;
    let encoded = encoder().encode_query("", "make desserts", QueryOptions::default()).await.unwrap();
    let vector = encoded.embedding.as_slice().to_vec();
    let by_text = app.search("jobs", json!({"query": {"text": "make desserts"}})).await.ok();
    let by_vector = app.search("jobs", json!({"query": {"vector": vector}})).await.ok();
    // Any length will do: only the direction counts.
    let longer: Vec<f32> = vector.iter().map(|x| x * 3.0).collect();
    let by_longer = app.search("jobs", json!({"query": {"vector": longer}})).await.ok();
    let scores = |answer: &Value| -> std::collections::BTreeMap<String, f64> {
        answer["hits"].as_array().unwrap().iter().map(|hit| (hit["id"].to_string(), hit["retrieval_score"].as_f64().unwrap())).collect()
    };
    for other in [by_vector, by_longer] {
        for (id, score) in scores(&by_text) {
            assert!((scores(&other)[&id] - score).abs() < 1e-5, "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_find_their_like_but_not_themselves() {
    let app = filled().await;
    let similar = app.search("jobs", json!({"query": {"id": "nurse"}, "limit": 10})).await.ok();
    assert_eq!(similar["hits"].as_array().unwrap().len(), 4);
    assert!(!ids(&similar).contains(&"nurse"));
    let same = app.post("/v1/match", json!({"from": {"collection": "jobs", "id": "nurse"}, "to": "jobs"})).await.ok();
    assert_eq!(ids(&similar), ids(&same));
    let for_member =
        app.post("/v1/match", json!({"from": {"collection": "members", "id": "m-nurse"}, "to": "jobs", "explain": true})).await.ok();
    assert_eq!(ids(&for_member)[0], "nurse");
    // The same, asked from the other end.
    let query = json!({"id": "m-nurse", "collection": "members"});
    assert_eq!(ids(&app.search("jobs", json!({"query": query})).await.ok()), ids(&for_member));
    let why = app.post("/v1/collections/jobs/explain", json!({"query": query, "id": "welder", "limit": 1})).await.ok();
    assert_eq!((&why["fate"], why["rescore"]["rank"].as_u64() > Some(1)), (&json!("outscored"), true), "{why}");
    for (query, status, field) in [
        (json!({"id": "nobody", "collection": "members"}), 404, "query.id"),
        (json!({"id": "m-nurse", "collection": "nowhere"}), 404, "query.collection"),
        (json!({"text": "nurse", "collection": "members"}), 400, "query"),
    ] {
        let code = if status == 404 { "not_found" } else { "malformed" };
        app.search("jobs", json!({"query": query})).await.fails(status, code, Some(field), "");
        app.post("/v1/collections/jobs/explain", json!({"query": query, "id": "nurse"})).await.fails(status, code, Some(field), "");
    }
    let for_job = app.post("/v1/match", json!({"from": {"collection": "jobs", "id": "rust"}, "to": "members"})).await.ok();
    assert_eq!(ids(&for_job)[0], "m-coder");
    let terms: Vec<&str> =
        for_member["hits"][0]["explanation"].as_array().unwrap().iter().map(|term| term["feature"].as_str().unwrap()).collect();
    assert_eq!(terms, ["dot", "title_overlap", "skill_overlap", "recency", "same_seniority", "distance_km", "remote"]);
}

/// Vectors of its own: as many as are compared between two looks at the clock, and then some.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_answered_when_its_time_is_over() {
    let app = TestApp::start().await;
    app.put("/collections/points", json!({"vectors": {"size": 384, "distance": "Cosine"}})).await.ok();
    let vector = |x: f64| {
        let mut vector = vec![0.0; 384];
        vector[..3].copy_from_slice(&[x.sin(), x.cos(), 1.0]);
        vector
    };
    let points: Vec<Value> = (1..=1_280).map(|id| json!({"id": id, "vector": vector(f64::from(id)), "payload": {}})).collect();
    app.put("/collections/points/points?wait=true", json!({"points": points})).await.ok();
    let task = app.post("/v1/collections/points/rebuild", json!({})).await.ok();
    assert_eq!(app.ended(&task).await["status"], "done");
    let body = |timeout_ms: u64| json!({"query": {"vector": vector(0.4)}, "strategy": "exact", "timeout_ms": timeout_ms});
    let whole = app.search("points", body(600_000)).await.ok();
    assert_eq!((&whole["plan"]["coverage"], whole.get("degraded")), (&json!(1.0), None));
    let part = app.search("points", body(0)).await.ok();
    assert_eq!((&part["plan"]["coverage"], ids(&part).len()), (&json!(0.8), 10));
    assert!(part["degraded"][0].as_str().unwrap().starts_with("time: a share of 0.8000 "), "{part}");
    // Who asks why gets the whole answer.
    let mut why = body(0);
    why["id"] = whole["hits"][0]["id"].clone();
    assert_eq!(app.post("/v1/collections/points/explain", why).await.ok()["rank"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn phrases_are_told_while_there_is_time() {
    let app = filled().await;
    let body = |timeout_ms: u64| json!({"query": {"vector": vec![1.0; 384]}, "phrases": 1, "timeout_ms": timeout_ms});
    assert!(app.search("jobs", body(600_000)).await.ok().get("degraded").is_none());
    let late = app.search("jobs", body(0)).await.ok();
    assert_eq!(late["degraded"], json!(["phrases: 0 of 5 hits have theirs, then timeout_ms was over"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_may_be_asked_for() {
    let app = filled().await;
    let from = json!({"collection": "members", "id": "m-nurse"});
    for strategy in ["auto", "graph", "exact"] {
        let answer = app.search("jobs", json!({"query": {"text": "make desserts"}, "strategy": strategy})).await.ok();
        assert_eq!(ids(&answer)[0], "chef", "{strategy}");
        let answer = app.post("/v1/match", json!({"from": from, "to": "jobs", "strategy": strategy})).await.ok();
        assert_eq!(ids(&answer)[0], "nurse", "{strategy}");
        assert_eq!(answer["plan"]["strategy"], "exact", "without a generation, there is no graph to walk");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_let_through_what_they_say() {
    let app = filled().await;
    for (filter, expected) in [
        (json!({"must": [{"key": "remote", "match": {"value": true}}]}), vec!["rust"]),
        (json!({"must": [{"key": "location.country", "match": {"any": ["FR"]}}]}), vec!["chef", "rust"]),
        (json!({"must": [{"key": "salary.min", "range": {"gte": 40000}}]}), vec!["nurse", "rust"]),
        (json!({"must": [{"key": "posted_at", "range": {"gt": "2026-11-10"}}]}), vec!["chef"]),
        (json!({"must": [{"key": "location", "geo_radius": {"center": {"lat": 52.4, "lon": 13.06}, "radius": 50000}}]}), vec!["nurse"]),
        (
            json!({"should": [{"key": "skills", "match": {"value": "Rust"}}, {"key": "skills", "match": {"value": "baking"}}], "must_not": [{"key": "seniority", "match": {"value": "senior"}}]}),
            vec!["chef"],
        ),
        (json!({"must": [{"key": "company", "match": {"value": "nobody"}}]}), vec![]),
    ] {
        let answer = app.search("jobs", json!({"query": {"text": "work"}, "filter": filter})).await.ok();
        let mut found = ids(&answer);
        found.sort_unstable();
        assert_eq!(found, expected, "{filter}");
        assert_eq!(answer["plan"]["n_matching"], expected.len(), "{filter}");
        assert_eq!(answer["plan"]["selectivity"], expected.len() as f64 / 5.0, "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explanations_add_up_and_fields_are_picked() {
    let app = filled().await;
    let body =
        json!({"query": {"text": "nurse for patient care at night"}, "explain": true, "fields": ["title", "location.city"], "limit": 3});
    let answer = app.search("jobs", body).await.ok();
    let hit = &answer["hits"][0];
    assert_eq!(hit["fields"], json!({"title": "Registered nurse, night shift", "location": {"city": "Berlin"}}));
    let sum = hit["explanation"].as_array().unwrap().iter().fold(0.0, |sum, term| sum + term["contribution"].as_f64().unwrap());
    assert_eq!(sum, hit["score"].as_f64().unwrap());
    assert!(hit["score"].as_f64().unwrap() > hit["retrieval_score"].as_f64().unwrap(), "the title and the skills add to it");
    let whole = app.search("jobs", json!({"query": {"text": "nurse"}, "limit": 1})).await.ok();
    assert_eq!(
        whole["hits"][0]["fields"]["salary"],
        json!({"min": 42000, "max": 52000, "currency": "EUR"}),
        "fields come back as they were sent"
    );
    assert!(whole["hits"][0].get("explanation").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_searches_at_once_look_less_deep_and_say_so() {
    let app = TestApp::start_with(&["search.shallow_above=1", "search.threads=1", "search.min_ef_search=20"]).await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let alone = app.search("jobs", json!({"query": {"text": "make desserts"}})).await.ok();
    assert_eq!(alone.get("degraded"), None, "one is not many, even where the bound is one");
    for round in 0.. {
        let ask = |i: usize| app.search("jobs", json!({"query": {"text": format!("make desserts {round} {i}")}, "cache": false}));
        let named = app.search("jobs", json!({"query": {"text": format!("bake {round}")}, "ef_search": 200, "candidates": 200}));
        let (answers, named) = tokio::join!(join_all((0..32).map(ask)), named);
        assert_eq!(named.ok().get("degraded"), None, "what a search names itself stands");
        let answers: Vec<Value> = answers.into_iter().map(|answer| answer.ok()).collect();
        assert!(answers.iter().all(|answer| ids(answer)[0] == "chef"), "all are answered");
        let told = answers.iter().filter_map(|answer| answer["degraded"][0].as_str()).find(|told| told.contains("instead of 200"));
        if let Some(told) = told {
            assert!(told.starts_with("depth: ") && told.contains("searches are under way"), "{told}");
            break;
        }
    }
    let metrics = app.get("/metrics").await.ok();
    assert!(metrics.as_str().unwrap().contains("kindred_search_degraded_total{stage=\"depth\"}"));
}

/// Cutting such texts into phrases was quadratic in their white space: 200,000 blanks took a minute, on the threads that serve HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn texts_full_of_white_space_have_phrases() {
    let app = TestApp::start().await;
    for (number, blank) in [" ", "\t", "\u{a0}", "\n", "\u{2028}", "\u{3000}", " \r\n"].into_iter().enumerate() {
        let description = format!("Care for patients.{}At night", blank.repeat(200_000 / blank.len()));
        let document = json!([{"id": number.to_string(), "title": "Nurse", "description": description}]);
        assert_eq!(app.put("/v1/collections/jobs/documents", document).await.ok()["errors"], false);
    }
    let found = app.search("jobs", json!({"query": {"text": "care for patients"}, "phrases": 1, "limit": 10})).await.ok();
    let hits = found["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 7);
    assert!(hits.iter().all(|hit| hit["phrases"][0]["text"] == "Care for patients."), "{found}");
    let asked = json!({"query": {"text": "at night"}, "id": "0"});
    let explained = app.post("/v1/collections/jobs/explain", asked).await.ok();
    assert_eq!(explained["phrases"][0]["text"], "At night");
    let fit = json!({"member": {"collection": "jobs", "id": "1"}, "job": {"collection": "jobs", "id": "2"}});
    app.post("/v1/fit", fit).await.ok();
}
