//! EVALUATE: judged queries over HTTP, by variant and by stage; and from the command line.

use std::fs;
use std::path::Path;

use kindred::pipeline::evaluate::{Judged, Scores};
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Value, json};

use crate::app::{TestApp, jobs, with_cross_encoder};
use crate::rebuild::{CUT, two_models};

const PATH: &str = "/v1/evaluations";

fn queries() -> Value {
    json!([
        {"id": "q1", "text": "look after patients at night"},
        {"id": "q2", "text": "write software"},
        {"id": "q3", "text": "bread and cakes"},
        {"id": "q4", "text": "steel"},
    ])
}

fn judgments() -> Value {
    json!({"q1": {"nurse": 4, "chef": 0}, "q2": {"rust": 3, "teacher": 1, "nurse": 0}, "q3": {"chef": 2}, "q4": {"welder": 3, "rust": 0}})
}

fn body(more: Value) -> Value {
    let mut body = json!({"collection": "jobs", "queries": queries(), "judgments": judgments()});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn filled(flags: &[&str]) -> TestApp {
    let app = TestApp::start_with(flags).await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app
}

/// The whole result of an evaluation that must end well, and its number.
async fn evaluated(app: &TestApp, more: Value) -> (Value, String) {
    let answer = app.post(PATH, body(more)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let started = answer.ok();
    let task = app.ended(&started).await;
    assert_eq!((&task["status"], &task["kind"], &task["collection"]), (&json!("done"), &json!("evaluate"), &json!("jobs")), "{task}");
    let id = started["task"].as_str().unwrap().to_owned();
    let report = app.get(&format!("{PATH}/{id}")).await.ok();
    // The task tells the same, but not query by query.
    let mut summary = report.clone();
    summary["variants"].as_array_mut().unwrap().iter_mut().for_each(|variant| drop(variant.as_object_mut().unwrap().remove("queries")));
    assert_eq!(task["result"], summary);
    (report, id)
}

fn number(json: &Value) -> f64 {
    json.as_f64().unwrap_or_else(|| panic!("{json} is no number"))
}

#[track_caller]
fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() < 1e-9, "{actual} is not {expected}");
}

/// Values of ir-measures (trec_eval) and ranx on random judgments and orders: tests/fixtures/measures/make.py.
#[test]
fn measures_are_those_of_public_packages() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/measures/measures.json");
    let all: Vec<Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(all.len() >= 50);
    for one in all {
        let judged: Judged = serde_json::from_value(one["judgments"].clone()).unwrap();
        let order: Vec<String> = serde_json::from_value(one["order"].clone()).unwrap();
        let ours = serde_json::to_value(Scores::of(&order, &judged)).unwrap();
        for package in ["ir_measures", "ranx"] {
            let theirs = one[package].as_object().unwrap();
            assert_eq!(theirs.len(), 7);
            theirs.iter().for_each(|(measure, value)| close(number(&ours[measure]), number(value)));
        }
        close(number(&ours["poor_at_10"]), number(&one["poor_at_10"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn judged_queries_are_measured_by_stage_and_one_by_one() {
    let app = filled(&[]).await;
    let (report, _) = evaluated(&app, json!({})).await;
    assert_eq!((&report["n_queries"], &report["n_judgments"]), (&json!(4), &json!(8)));
    assert!(report["warnings"][0].as_str().unwrap().contains("few"), "{report}");
    let variant = &report["variants"][0];
    assert_eq!((&variant["name"], &variant["generation"], &variant["n_documents"]), (&json!("default"), &json!("none"), &json!(5)));
    // As trec_eval would count what searches return.
    let mut expected = Vec::new();
    for (position, query) in queries().as_array().unwrap().iter().enumerate() {
        let answer = app.search("jobs", json!({"query": {"text": query["text"]}})).await.ok();
        let judged: Judged = serde_json::from_value(judgments()[query["id"].as_str().unwrap()].clone()).unwrap();
        let scores = Scores::of(&crate::app::ids(&answer), &judged);
        let told = &variant["queries"][position];
        assert_eq!(told["query"], query["id"]);
        close(number(&told["ndcg_at_10"]), scores.ndcg_at_10);
        assert!(number(&told["total_us"]) > 0.0);
        expected.push(scores);
    }
    let mean = Scores::mean(expected);
    assert!(mean.ndcg_at_10 > 0.8 && mean.poor_at_10 > 0.0, "five documents, and all are found: {mean:?}");
    assert_eq!(serde_json::from_value::<Scores>(variant["measures"].clone()).unwrap(), mean);
    let stages = variant["stages"].as_object().unwrap();
    assert_eq!(stages.keys().collect::<Vec<_>>(), ["dense", "lexical", "fused", "rescore"]);
    assert_eq!((&stages["dense"]["recall"], &stages["dense"]["n"]), (&json!(1.0), &json!(5.0)));
    assert!(number(&stages["lexical"]["recall"]) < 1.0 && number(&stages["lexical"]["n"]) < 5.0, "words find what has them: {stages:?}");
    assert_eq!(stages["rescore"]["ndcg_at_10"], variant["measures"]["ndcg_at_10"]);
    assert!(number(&variant["times"]["encode_us"]) > 0.0 && number(&variant["times"]["p95_us"]) > 0.0, "{variant}");
    // It was nobody's search.
    assert_eq!(app.post("/v1/collections/jobs/recall", json!({})).await.ok()["n_from_queries"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_are_compared_with_the_first() {
    let app = filled(&[&with_cross_encoder()]).await;
    let upside_down = json!({"weights": {"dot": -1.0}});
    app.put("/v1/collections/jobs/profiles/mine", json!({"directions": {"text": {"weights": {"dot": 1.0}}}})).await.ok();
    let variants = json!([
        {"name": "as it is"},
        {"name": "same", "profile": "default", "retrieval": "hybrid", "candidates": 200, "ef_search": 200},
        {"name": "<b> & \"worse\"", "profile": upside_down, "retrieval": "dense"},
        {"name": "words", "retrieval": "lexical", "profile": "mine"},
        {"name": "read again", "cross_encode": {"candidates": 3}},
    ]);
    let (report, id) =
        evaluated(&app, json!({"variants": variants, "judgments": "q1 0 nurse 4\nq2 0 rust 3\nq2 0 nurse 0\nq3 0 chef 2\n"})).await;
    assert_eq!(report["skipped"], json!({"unknown_queries": 0, "unknown_documents": 0, "unjudged_queries": 1}));
    let [first, same, worse, words, crossed] = [0, 1, 2, 3, 4].map(|i| report["variants"][i].clone());
    assert!(first.get("against").is_none());
    let gain = |variant: &Value| variant["against"]["differences"][0].clone();
    assert_eq!(gain(&same), json!({"measure": "nDCG@10", "mean": 0.0, "low": 0.0, "high": 0.0}));
    assert_eq!((&worse["against"]["variant"], &worse["against"]["n_queries"]), (&json!("as it is"), &json!(3)));
    let mean = number(&worse["measures"]["ndcg_at_10"]) - number(&first["measures"]["ndcg_at_10"]);
    close(number(&gain(&worse)["mean"]), mean);
    assert!(mean < 0.0 && number(&gain(&worse)["high"]) < 0.0 && number(&gain(&worse)["low"]) <= mean, "{worse}");
    // Re-scoring made it worse, not retrieval.
    assert_eq!(worse["stages"].as_object().unwrap().keys().collect::<Vec<_>>(), ["dense", "rescore"]);
    assert_eq!(worse["stages"]["dense"]["ndcg_at_10"], first["stages"]["dense"]["ndcg_at_10"]);
    assert_eq!(words["stages"].as_object().unwrap().keys().collect::<Vec<_>>(), ["lexical", "rescore"]);
    let stages = &crossed["stages"];
    assert_eq!(stages["rescore"]["ndcg_at_10"], first["measures"]["ndcg_at_10"]);
    assert_eq!(stages["cross_encode"]["ndcg_at_10"], crossed["measures"]["ndcg_at_10"]);
    assert!(number(&crossed["times"]["cross_encode_us"]) > 0.0 && number(&first["times"]["cross_encode_us"]) == 0.0);

    let svg = app.get(&format!("{PATH}/{id}/svg")).await.ok();
    let texts = texts_of(svg.as_str().unwrap());
    for name in ["as it is", "same", "<b> & \"worse\"", "words", "read again"] {
        assert!(texts.iter().any(|text| text.starts_with(name)), "{name} is not in {texts:?}");
    }
    for text in ["jobs: 3 judged queries", "nDCG@10", "cross-encoded", "Differences, with 95 % intervals (filled: more than chance)"] {
        assert!(texts.iter().any(|found| found == text), "{text} is not in {texts:?}");
    }
    let (report, _) = evaluated(&app, json!({"stages": false})).await;
    assert!(report["variants"][0].get("stages").is_none());
}

/// The texts of an XML document that is well-formed.
fn texts_of(xml: &str) -> Vec<String> {
    let mut reader = Reader::from_str(xml);
    let (mut texts, mut text, mut depth) = (Vec::new(), String::new(), 0);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(_) => depth += 1,
            Event::End(_) => {
                depth -= 1;
                texts.push(std::mem::take(&mut text));
            }
            Event::Text(part) => text += &part.decode().unwrap(),
            Event::GeneralRef(name) => {
                text.push(match &*name.decode().unwrap() {
                    "amp" => '&',
                    "lt" => '<',
                    "gt" => '>',
                    "quot" => '"',
                    other => panic!("{other} is no entity of XML"),
                });
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(depth, 0);
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_that_do_not_serve_are_searched_as_they_were_built() {
    let models = two_models();
    let model_dir = format!("encoder.model_dir={:?}", models.path().join("all-MiniLM-L6-v2").display().to_string());
    let app = filled(&[&model_dir, CUT]).await;
    let rebuild = async |body: Value| app.ended(&app.post("/v1/collections/jobs/rebuild", body).await.ok()).await;
    assert_eq!(rebuild(json!({})).await["status"], "done");
    app.put("/v1/collections/jobs/documents", json!([{"id": "vet", "title": "Veterinarian"}])).await.ok();
    assert_eq!(rebuild(json!({})).await["status"], "done");
    app.put("/v1/collections/jobs/documents", json!([{"id": "zoo", "title": "Zookeeper"}])).await.ok();
    assert_eq!(app.post("/v1/collections/jobs/rollback", json!({})).await.ok()["generation"], "000001");
    let queries = json!([{"id": "animals", "text": "look after sick animals"}]);
    let found = async |variants: Value| {
        let more = json!({"queries": queries, "judgments": {"animals": {"vet": 3, "zoo": 1}}, "variants": variants, "stages": false});
        evaluated(&app, more).await.0["variants"].clone()
    };
    // What serves has everything; the generation that was gone back from lacks the newest, the older one both.
    let by_number = json!([{"name": "serves"}, {"name": "two", "generation": "000002"}, {"name": "one", "generation": "1"}]);
    let told = found(by_number).await;
    let of = |told: &Value| [0, 1, 2].map(|i| (number(&told[i]["n_documents"]), number(&told[i]["measures"]["recall_at_10"])));
    assert_eq!(of(&told), [(7.0, 1.0), (6.0, 0.5), (5.0, 0.0)], "{told}");
    assert_eq!([0, 1, 2].map(|i| told[i]["generation"].clone()), ["000001", "000002", "000001"]);

    // One that was built with another model is asked with that model.
    assert_eq!(rebuild(json!({"model": "short-sighted", "activate": "manual"})).await["status"], "done");
    let told = found(json!([{"name": "before"}, {"name": "after", "generation": "000003"}])).await;
    assert_eq!((&told[0]["model"], &told[1]["model"]), (&json!("all-MiniLM-L6-v2"), &json!("short-sighted")));
    assert_eq!((&told[1]["n_documents"], &told[1]["generation"]), (&json!(7), &json!("000003")));
    let info = app.get("/v1/collections/jobs").await.ok();
    assert_eq!((&info["generation"], &info["model"]), (&json!("000001"), &json!("all-MiniLM-L6-v2")), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_evaluation_runs_at_a_time_and_can_be_cancelled() {
    let app = filled(&[]).await;
    let many: Vec<Value> = (0..5_000).map(|i| json!({"id": i.to_string(), "text": format!("nurse number {i}")})).collect();
    let judged: Value = (0..5_000).map(|i| (i.to_string(), json!({"nurse": 1}))).collect::<serde_json::Map<_, _>>().into();
    let long = body(json!({"queries": many, "judgments": judged, "variants": [{"name": "a"}, {"name": "b"}]}));
    let started = app.post(PATH, long).await.ok();
    let id = started["task"].as_str().unwrap();
    app.post(PATH, body(json!({}))).await.fails(429, "overloaded", None, "another evaluation");
    app.get(&format!("{PATH}/{id}")).await.fails(409, "conflict", Some("task"), "GET /v1/tasks/");
    // Searches pass meanwhile.
    app.search("jobs", json!({"query": {"text": "make desserts"}})).await.ok();
    // Its thread begins when it likes.
    while app.get(&format!("/v1/tasks/{id}")).await.ok()["total"] != 10_000 {}
    app.delete(&format!("/v1/tasks/{id}")).await.ok();
    let task = app.ended(&started).await;
    assert_eq!(task["status"], "cancelled", "{task}");
    assert!(task["done"].as_u64().unwrap() < 10_000, "{task}");
    app.get(&format!("{PATH}/{id}")).await.fails(404, "not_found", Some("task"), "no result");
    // The next one may begin.
    evaluated(&app, json!({"stages": false})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_evaluated_is_named() {
    let app = filled(&["limits.max_query_bytes=100"]).await;
    let long = "x".repeat(101);
    let many: Vec<Value> = (0..=5_000).map(|i| json!({"id": i.to_string(), "text": "x"})).collect();
    let named: Vec<Value> = (0..9).map(|i| json!({"name": i.to_string()})).collect();
    for (more, field, word) in [
        (json!({"queries": []}), "queries", "at least one"),
        (json!({"queries": [{"id": "", "text": "x"}]}), "queries[0].id", "empty"),
        (json!({"queries": [{"id": "q1", "text": "x"}, {"id": "q1", "text": "y"}]}), "queries[1].id", "queries[0]"),
        (json!({"queries": [{"id": "q1", "text": " "}]}), "queries[0].text", "empty"),
        (json!({"queries": [{"id": "q1", "text": long}]}), "queries[0].text", "limits.max_query_bytes"),
        (json!({"judgments": {}}), "judgments", "any of these queries"),
        (json!({"judgments": {"q9": {"nurse": 1}}}), "judgments", "1 are of others"),
        (json!({"judgments": {"q1": {"nobody": 1}}}), "judgments", "none of the documents"),
        (json!({"judgments": {"q1": {"nurse": 0}}}), "judgments", "no judged document is relevant"),
        (json!({"judgments": {"q1": {"nurse": 5}}}), "judgments", "-2 to 4"),
        (json!({"judgments": {"q1": {"nurse": -3}}}), "judgments", "-3"),
        (json!({"variants": [{"name": ""}]}), "variants[0].name", "needs a name"),
        (json!({"variants": [{"name": "a"}, {"name": "a"}]}), "variants[1].name", "another variant"),
        (json!({"variants": [{"name": "a", "profile": "none-such"}]}), "variants[0].profile", "none-such"),
        (json!({"variants": [{"name": "a", "profile": {"weights": {"luck": 1}}}]}), "variants[0].profile", "luck"),
        (json!({"variants": [{"name": "a", "profile": 7}]}), "variants[0].profile", "name of a profile"),
        (json!({"variants": [{"name": "a", "candidates": 0}]}), "variants[0].candidates", "1 to"),
        (json!({"variants": [{"name": "a", "ef_search": 1_000_000}]}), "variants[0].ef_search", "1 to"),
        (json!({"variants": [{"name": "a", "cross_encode": true}]}), "variants[0].cross_encode", "cross_encoder.model_dir"),
        (json!({"variants": [{"name": "a", "generation": "seven"}]}), "variants[0].generation", "seven"),
    ] {
        app.post(PATH, body(more)).await.fails(422, "invalid", Some(field), word);
    }
    app.post(PATH, body(json!({"queries": many}))).await.fails(413, "too_large", Some("queries"), "5000");
    app.post(PATH, body(json!({"variants": named}))).await.fails(413, "too_large", Some("variants"), "limit of 8");
    let unknown = json!({"variants": [{"name": "ok"}, {"name": "a", "generation": "000007"}]});
    app.post(PATH, body(unknown)).await.fails(404, "not_found", Some("variants[1].generation"), "000007");
    app.post(PATH, body(json!({"collection": "cats"}))).await.fails(404, "not_found", Some("collection"), "cats");
    for (more, field, word) in [
        (json!({"judgments": 7}), "judgments", "TREC qrels"),
        (json!({"judgments": "q1 nurse 3"}), "judgments", "line 1: 3 columns"),
        (json!({"judgments": "q1 0 nurse 3\nq1 0 nurse 3"}), "judgments", "line 2"),
        (json!({"judgments": {"q1": {"nurse": "much"}}}), "judgments.q1.nurse", "much"),
        (json!({"queries": [{"id": "q1"}]}), "queries[0]", "text"),
        (json!({"variants": [{"name": "a", "limit": 3}]}), "variants[0].limit", "limit"),
        (json!({"variants": [{"name": "a", "cross_encode": {"timeout_ms": 3}}]}), "variants[0].cross_encode", "candidates"),
        (json!({"variants": [{"name": "a", "retrieval": "best"}]}), "variants[0].retrieval", "hybrid"),
        (json!({"variant": []}), "variant", "variant"),
    ] {
        app.post(PATH, body(more)).await.fails(400, "malformed", Some(field), word);
    }
    app.get(&format!("{PATH}/77")).await.fails(404, "not_found", None, "77");
    let rebuilt = app.post("/v1/collections/jobs/rebuild", json!({})).await.ok();
    app.ended(&rebuilt).await;
    app.get(&format!("{PATH}/{}/svg", rebuilt["task"].as_str().unwrap())).await.fails(404, "not_found", Some("task"), "no evaluation");
}
