//! The last stage of a search: its best hits, ordered by a cross-encoder.

use futures_util::future::join_all;
use kindred::collection::Access;
use serde_json::{Value, json};

use crate::app::{TestApp, ids, jobs, logits, members, open, settings, with_cross_encoder};

const TEXTS: [(&str, &str); 6] = [
    ("nurse", "nurse on the night shift"),
    ("welder", "welder of steel and ships"),
    ("baker", "bakes bread in the night"),
    ("teacher", "a teacher of children in a school"),
    ("rust", "rust engineer"),
    ("ward", "care of patients on the ward"),
];

/// A collection whose documents' texts are known.
async fn filled(flags: &[&str]) -> TestApp {
    let app = TestApp::start_with(&[&[&*with_cross_encoder()], flags].concat()).await;
    app.put("/v1/collections/texts", json!({"template": "{text}", "fields": {"text": {"type": "text"}}})).await.ok();
    let documents: Vec<Value> = TEXTS.iter().map(|(id, text)| json!({"id": id, "text": text})).collect();
    app.put("/v1/collections/texts/documents", json!(documents)).await.ok();
    app
}

/// Ids in the order of the cross-encoder's scores.
async fn ordered<'a>(query: &str, ids: &[&'a str]) -> Vec<(&'a str, f32)> {
    let text = |id: &&str| TEXTS.iter().find(|(known, _)| known == id).unwrap().1;
    let scores = logits(query, &ids.iter().map(text).collect::<Vec<_>>()).await;
    let mut scored: Vec<(&str, f32)> = ids.iter().copied().zip(scores).collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_hits_are_ordered_by_the_cross_encoder() {
    let app = filled(&[]).await;
    let search = async |more: Value| {
        let mut body = json!({"query": {"text": "night nurse"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        app.search("texts", body).await.ok()
    };
    let before = search(json!({})).await;
    assert!(before["hits"][0].get("cross_encoder_score").is_none() && before.get("degraded").is_none(), "{before}");
    assert_eq!(before["timings"]["cross_encode_us"], 0);
    let expected = ordered("night nurse", &ids(&before)).await;
    let order: Vec<&str> = expected.iter().map(|(id, _)| *id).collect();
    assert_ne!(order, ids(&before), "the model of the test has another mind");

    for wish in [json!(true), json!({}), json!({"candidates": 6, "timeout_ms": 600_000}), json!({"timeout_ms": u64::MAX})] {
        let answer = search(json!({"cross_encode": wish, "explain": true})).await;
        assert_eq!(ids(&answer), order, "{wish}");
        for (hit, (_, score)) in answer["hits"].as_array().unwrap().iter().zip(&expected) {
            assert!((hit["cross_encoder_score"].as_f64().unwrap() - f64::from(*score)).abs() < 1e-3, "{hit}");
            assert!(hit["explanation"].is_array() && hit["score"].is_f64());
        }
        assert!(answer["timings"]["cross_encode_us"].as_u64().unwrap() > 0 && answer.get("degraded").is_none());
    }
    assert_eq!(ids(&search(json!({"cross_encode": false})).await), ids(&before));
    // What counts nothing changes nothing; what counts half, by where both stand among the hits.
    let weighed = async |weight: f64| search(json!({"cross_encode": {"weight": weight}})).await;
    assert_eq!(ids(&weighed(0.0).await), ids(&before));
    assert_eq!(ids(&weighed(1.0).await), order);
    let half = weighed(0.5).await;
    let of = |key: &str| half["hits"].as_array().unwrap().iter().map(|hit| hit[key].as_f64().unwrap()).collect::<Vec<f64>>();
    let standardized = |values: Vec<f64>| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        values.into_iter().map(|x| (x - mean) / deviation).collect::<Vec<f64>>()
    };
    let sums = standardized(of("cross_encoder_score")).into_iter().zip(standardized(of("score"))).map(|(a, b)| a + b);
    assert!(sums.is_sorted_by(|a, b| a >= b), "{half}");
    let refused = app.search("texts", json!({"query": {"text": "night nurse"}, "cross_encode": {"weight": 1.5}})).await;
    refused.fails(422, "invalid", Some("cross_encode.weight"), "from 0 to 1");
    // Of more hits than are returned, the best come back; of fewer, the others follow as they were.
    assert_eq!(ids(&search(json!({"cross_encode": true, "limit": 2, "fields": []})).await), order[..2]);
    let few = search(json!({"cross_encode": {"candidates": 2}})).await;
    let first: Vec<&str> = ordered("night nurse", &ids(&before)[..2]).await.iter().map(|(id, _)| *id).collect();
    assert_eq!((&ids(&few)[..2], &ids(&few)[2..]), (&first[..], &ids(&before)[2..]));
    assert!(few["hits"][1]["cross_encoder_score"].is_f64() && few["hits"][2].get("cross_encoder_score").is_none());
    app.put("/v1/collections/empty", json!({"template": "{text}"})).await.ok();
    let nothing = app.search("empty", json!({"query": {"text": "nurse"}, "cross_encode": true})).await.ok();
    assert!(ids(&nothing).is_empty() && nothing.get("degraded").is_none(), "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_asks_with_its_own_text() {
    let app = filled(&[]).await;
    let before = app.search("texts", json!({"query": {"id": "nurse"}})).await.ok();
    let order: Vec<&str> = ordered(TEXTS[0].1, &ids(&before)).await.iter().map(|(id, _)| *id).collect();
    let answer = app.search("texts", json!({"query": {"id": "nurse"}, "cross_encode": true})).await.ok();
    assert_eq!(ids(&answer), order);
    let from = json!({"collection": "texts", "id": "nurse"});
    let answer = app.post("/v1/match", json!({"from": from, "to": "texts", "cross_encode": true})).await.ok();
    assert_eq!(ids(&answer), order);
    // Of another collection, with another template.
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.put("/v1/collections/members/documents", members()).await.ok();
    let from = json!({"collection": "members", "id": "m-nurse"});
    let answer = app.post("/v1/match", json!({"from": from, "to": "jobs", "cross_encode": true})).await.ok();
    let scores: Vec<f64> = answer["hits"].as_array().unwrap().iter().map(|hit| hit["cross_encoder_score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 5 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_in_time_is_left_out_and_said() {
    let app = filled(&[]).await;
    let before = app.search("texts", json!({"query": {"text": "night nurse"}})).await.ok();
    let body = json!({"query": {"text": "night nurse"}, "cross_encode": {"timeout_ms": 0}});
    let answer = app.search("texts", body).await.ok();
    assert_eq!(ids(&answer), ids(&before));
    let said = answer["degraded"][0].as_str().unwrap();
    assert!(said.starts_with("cross_encode: ") && said.contains("cross_encoder.max_wait_ms"), "{said}");
    assert!(answer["hits"][0].get("cross_encoder_score").is_none());
    let metrics = app.get("/metrics").await.body;
    assert!(metrics.as_str().unwrap().contains("kindred_search_degraded_total{stage=\"cross_encode\"}"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_overload_searches_are_answered_without_it() {
    let app = filled(&["cross_encoder.max_queue=1", "cross_encoder.threads=1", "cross_encoder.candidates=200"]).await;
    let documents: Vec<Value> =
        (0..200).map(|i| json!({"id": format!("more-{i}"), "text": format!("{i} {}", "nurse ".repeat(60))})).collect();
    app.put("/v1/collections/texts/documents", json!(documents)).await.ok();
    let body = json!({"query": {"text": "night nurse"}, "cross_encode": true, "fields": [], "timeout_ms": 600_000});
    // Whoever finds the lane empty is served; of many at once, some find it taken.
    for _ in 0..100 {
        let answers = join_all((0..16).map(|_| app.search("texts", body.clone()))).await;
        let answers: Vec<Value> = answers.into_iter().map(|answer| answer.ok()).collect();
        assert!(answers.iter().all(|answer| answer["hits"].as_array().unwrap().len() == 10));
        let said = |answer: &Value| answer["degraded"][0].as_str().is_some_and(|said| said.contains("cross_encoder.max_queue"));
        if answers.iter().any(said) {
            return;
        }
    }
    panic!("a queue of one was never full");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_cannot_be_asked_is_refused() {
    let app = filled(&["cross_encoder.max_candidates=500"]).await;
    let ask = async |query: Value, wish: Value| app.search("texts", json!({"query": query, "cross_encode": wish})).await;
    let text = || json!({"text": "nurse"});
    let n = Some("cross_encode.candidates");
    ask(text(), json!({"candidates": 0})).await.fails(422, "invalid", n, "1 to 500");
    ask(text(), json!({"candidates": 501})).await.fails(422, "invalid", n, "1 to 500");
    ask(json!({"vector": vec![1.0; 384]}), json!(true)).await.fails(422, "invalid", Some("cross_encode"), "by text or by document");
    for wish in
        [json!("yes"), json!(7), json!([]), json!({"candidates": -1}), json!({"candidates": 1.5}), json!({"limit": 1}), json!([true])]
    {
        ask(text(), wish).await.fails(400, "malformed", Some("cross_encode"), "timeout_ms");
    }
    let plain = TestApp::start().await;
    plain.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let body = json!({"query": {"text": "nurse"}, "cross_encode": true});
    plain.search("jobs", body).await.fails(422, "invalid", Some("cross_encode"), "cross_encoder.model_dir");
    plain.search("jobs", json!({"query": {"text": "nurse"}, "cross_encode": false})).await.ok();
    assert!(plain.get("/v1/info").await.ok().get("cross_encoder").is_none());
    let info = app.get("/v1/info").await.ok();
    assert_eq!((&info["cross_encoder"]["name"], &info["cross_encoder"]["max_tokens"]), (&json!("one"), &json!(64)));
}

#[test]
fn a_folder_without_a_cross_encoder_is_said_at_start() {
    let (dir, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, word) in
        [(empty.path().to_owned(), "cross_encoder.model_dir"), (crate::app::models().join("all-MiniLM-L6-v2"), "kindred-model.toml")]
    {
        let flag = format!("cross_encoder.model_dir={:?}", folder.display().to_string());
        let error = open(&settings(dir.path(), &[&flag]), Access::Serve).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
