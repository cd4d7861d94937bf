//! Why a document is where it is, which phrases of it answer, and what a posting asks of a member.

use serde_json::{Value, json};

use crate::app::{TestApp, ids, jobs, members, with_cross_encoder};

async fn filled(flags: &[&str]) -> TestApp {
    let app = TestApp::start_with(flags).await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app.put("/v1/collections/members/documents", members()).await.ok();
    app
}

/// What becomes of a job in a search for a night nurse.
async fn explained(app: &TestApp, id: &str, more: Value) -> Value {
    let mut body = json!({"query": {"text": "night nurse"}, "id": id});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.post("/v1/collections/jobs/explain", body).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_is_told_as_the_search_has_it() {
    let app = filled(&[]).await;
    for built in [false, true] {
        if built {
            let task = app.post("/v1/collections/jobs/rebuild", json!({})).await.ok();
            app.ended(&task).await;
        }
        let answer = app.search("jobs", json!({"query": {"text": "night nurse"}, "explain": true})).await.ok();
        for (position, hit) in answer["hits"].as_array().unwrap().iter().enumerate() {
            let placement = explained(&app, hit["id"].as_str().unwrap(), json!({})).await;
            assert_eq!((&placement["fate"], &placement["rank"]), (&json!("hit"), &json!(position + 1)), "{placement}");
            // Recency goes on while the test runs.
            let near = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-6;
            assert!(near(&placement["rescore"]["score"], &hit["score"]), "{placement} {hit}");
            assert_eq!(placement["rescore"]["rank"], hit["ranks"]["rescore"]);
            assert_eq!(placement["retrieval"]["rank"], hit["ranks"]["retrieval"]);
            assert_eq!(placement["retrieval"]["dense"]["rank"], hit["ranks"]["dense"]);
            assert_eq!(placement["retrieval"]["lexical"].get("rank"), hit["ranks"].get("lexical"), "{placement} {hit}");
            assert!(near(&placement["retrieval"]["dense"]["score"], &hit["retrieval_score"]));
            assert!(near(&placement["retrieval"]["lexical"]["score"], &hit["lexical_score"]));
            let features = |terms: &Value| terms.as_array().unwrap().iter().map(|term| term["feature"].clone()).collect::<Vec<_>>();
            assert_eq!(features(&placement["explanation"]), features(&hit["explanation"]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_document_out_is_named() {
    let app = filled(&[]).await;
    let fate = async |id: &str, more: Value| {
        let placement = explained(&app, id, more).await;
        (placement["fate"].as_str().unwrap().to_owned(), placement["reason"].as_str().unwrap().to_owned(), placement)
    };
    let (name, reason, placement) = fate("rust", json!({"limit": 1})).await;
    assert_eq!(name, "outscored");
    let behind = placement["rescore"]["last_hit"].as_f64().unwrap() - placement["rescore"]["score"].as_f64().unwrap();
    assert!(behind > 0.0 && reason.contains(&format!("{behind:.4} below the last hit")), "{reason}");
    assert!(placement["rescore"]["rank"].as_u64().unwrap() > 1 && placement.get("rank").is_none());

    let filter = json!({"must": [{"key": "remote", "match": {"value": false}}, {"should": [
        {"key": "salary.min", "range": {"gte": 60000}}, {"key": "location.city", "match": {"value": "Hamburg"}}]}],
        "must_not": [{"key": "company", "match": {"value": "Harbour Clinic"}}]});
    let (name, reason, placement) = fate("nurse", json!({"filter": filter})).await;
    assert_eq!(name, "filtered_out");
    for path in ["filter.must[1].should[0]", "filter.must[1].should[1]", "filter.must_not[0]"] {
        assert!(reason.contains(path), "{reason}");
    }
    assert!(!reason.contains("filter.must[0]"), "{reason}");
    let clauses: Vec<(&str, &Value, bool)> = (placement["filter"].as_array().unwrap().iter())
        .map(|clause| (clause["path"].as_str().unwrap(), &clause["values"], clause["holds"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        clauses,
        [
            ("filter.must[0]", &json!([false]), true),
            ("filter.must[1].should[0]", &json!([42000]), false),
            ("filter.must[1].should[1]", &json!(["Berlin"]), false),
            ("filter.must_not[0]", &json!(["Harbour Clinic"]), true),
        ]
    );
    assert_eq!(placement["retrieval"]["dense"]["rank"], 1, "it would be the best: {placement}");
    let (name, ..) = fate("welder", json!({"filter": filter})).await;
    assert_eq!(name, "hit", "a condition of a should that does not hold keeps nothing out where another does");

    let (name, reason, _) = fate("nurse", json!({"query": {"id": "nurse"}})).await;
    assert_eq!((name.as_str(), reason.contains("asked with")), ("asked_with", true));

    let (name, reason, placement) = fate("rust", json!({"limit": 1, "candidates": 1, "retrieval": "dense"})).await;
    assert_eq!(name, "not_retrieved");
    let exact = placement["retrieval"]["dense"]["rank"].as_u64().unwrap();
    assert!(exact > 1 && reason.contains(&format!("by meaning it is number {exact} (")), "{reason}");
    assert!(reason.contains("would be number 2 by score"), "{reason}");
    let (_, reason, placement) = fate("rust", json!({"limit": 1, "candidates": 1})).await;
    assert!(reason.contains("none of the query's words") && placement["retrieval"]["lexical"]["score"] == 0.0, "{reason}");
    let (name, _, placement) = fate("rust", json!({"retrieval": "lexical"})).await;
    assert_eq!((name.as_str(), placement["retrieval"].get("dense")), ("not_retrieved", None));

    app.put(
        "/v1/collections/jobs/documents",
        json!([{"id": "nurse2", "title": "Registered nurse, night shift", "company": "Harbour Clinic"}]),
    )
    .await
    .ok();
    let pair = [fate("nurse", json!({"group_by": "company"})).await, fate("nurse2", json!({"group_by": "company"})).await];
    let grouped = pair.iter().find(|(name, ..)| name == "grouped").expect("one of the two");
    assert!(grouped.1.contains("nurse") && pair.iter().any(|(name, ..)| name == "hit"), "{grouped:?}");
    let pair = [fate("nurse", json!({"limit": 2, "diversity": 0.9})).await, fate("nurse2", json!({"limit": 2, "diversity": 0.9})).await];
    assert!(pair.iter().any(|(name, reason, _)| name == "too_alike" && reason.contains("diversity")), "{pair:?}");

    let explain = async |body: Value| app.post("/v1/collections/jobs/explain", body).await;
    explain(json!({"query": {"text": "nurse"}, "id": "nobody"})).await.fails(404, "not_found", Some("id"), "nobody");
    explain(json!({"query": {"id": "nobody"}, "id": "nurse"})).await.fails(404, "not_found", Some("query.id"), "nobody");
    explain(json!({"query": {"text": "nurse"}})).await.fails(400, "malformed", None, "missing field `id`");
    explain(json!({"query": {"text": "nurse"}, "id": [1]})).await.fails(400, "malformed", Some("id"), "whole number");
    explain(json!({"query": {"text": "nurse"}, "id": "nurse", "limt": 3})).await.fails(400, "malformed", Some("limt"), "limt");
    explain(json!({"query": {"text": "nurse"}, "id": "nurse", "limit": "x"})).await.fails(400, "malformed", Some("limit"), "whole number");
    app.post("/v1/collections/none/explain", json!({"query": {"text": "nurse"}, "id": "nurse"})).await.fails(
        404,
        "not_found",
        Some("collection"),
        "none",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_that_goes_past_a_document_is_told() {
    let app = TestApp::start().await;
    let numbers =
        |seed: u64| -> Vec<f64> { (0..384u64).map(|i| ((seed * 384 + i + 1) as f64 * 78.233).sin() * 43_758.545_3 % 1.0).collect() };
    let documents: Vec<Value> = (0..600).map(|n| json!({"id": n.to_string(), "title": "x", "embedding": numbers(n)})).collect();
    app.put("/v1/collections/jobs/documents", json!(documents)).await.ok();
    let task = app.post("/v1/collections/jobs/rebuild", json!({})).await.ok();
    app.ended(&task).await;
    for seed in 10_000.. {
        let search =
            json!({"query": {"vector": numbers(seed)}, "limit": 1, "candidates": 1, "ef_search": 1, "profile": {"weights": {"dot": 1}}});
        let with = |key: &str, value: Value| {
            let mut body = search.clone();
            body[key] = value;
            body
        };
        let exact = app.search("jobs", with("strategy", json!("exact"))).await.ok();
        let walked = app.search("jobs", with("strategy", json!("graph"))).await.ok();
        if ids(&exact) == ids(&walked) {
            continue;
        }
        // In so many dimensions so narrow a beam goes past some nearest neighbour soon.
        let mut body = with("strategy", json!("graph"));
        body["id"] = json!(ids(&exact)[0]);
        let placement = app.post("/v1/collections/jobs/explain", body).await.ok();
        assert_eq!(placement["fate"], "missed_by_the_walk", "{placement}");
        assert_eq!(placement["retrieval"]["dense"]["rank"], 1);
        assert_eq!(placement["rescore"]["rank"], 1, "it would be the best");
        assert!(placement["reason"].as_str().unwrap().contains("ef_search"), "{placement}");
        return;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cross_encoder_puts_behind_is_told() {
    let app = filled(&[&with_cross_encoder()]).await;
    let search = json!({"query": {"text": "night nurse"}, "limit": 1, "cross_encode": {"candidates": 5}});
    let best = ids(&app.search("jobs", search).await.ok())[0].to_owned();
    for id in ["nurse", "welder", "rust", "teacher", "chef"] {
        let placement = explained(&app, id, json!({"limit": 1, "cross_encode": {"candidates": 5}})).await;
        let fate = if id == best { "hit" } else { "cross_encoded_lower" };
        assert_eq!(placement["fate"], fate, "{placement}");
        let stage = &placement["cross_encode"];
        assert!(stage["score"].as_f64().unwrap() <= stage["last_hit"].as_f64().unwrap() + 1e-4, "{placement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_tell_the_phrases_that_answer() {
    let app = filled(&[]).await;
    let description =
        "Our ward has 20 beds. You give medication to patients at night. Parking is free; lunch costs 4 EUR. Apply by Friday.";
    app.put("/v1/collections/jobs/documents", json!([{"id": "ward", "title": "Ward nurse", "description": description}])).await.ok();
    for (query, best) in
        [("hand out medicine after dark", "You give medication to patients at night."), ("where can I leave my car", "Parking is free;")]
    {
        let answer = app.search("jobs", json!({"query": {"text": query}, "phrases": 2, "fields": ["title"]})).await.ok();
        for hit in answer["hits"].as_array().unwrap() {
            let phrases = hit["phrases"].as_array().unwrap();
            assert!(phrases.len() == 2 && phrases[0]["score"].as_f64() >= phrases[1]["score"].as_f64(), "{hit}");
        }
        let ward = answer["hits"].as_array().unwrap().iter().find(|hit| hit["id"] == "ward").unwrap();
        assert_eq!(ward["phrases"][0]["text"], best);
        // The same by words alone, which have no embedding until phrases ask for it.
        let by_words =
            app.search("jobs", json!({"query": {"text": format!("ward {query}")}, "retrieval": "lexical", "phrases": 1})).await.ok();
        let ward = by_words["hits"].as_array().unwrap().iter().find(|hit| hit["id"] == "ward").unwrap();
        assert!(description.contains(ward["phrases"][0]["text"].as_str().unwrap()) || ward["phrases"][0]["text"] == "Ward nurse");
        let body = json!({"query": {"text": query}, "id": "ward"});
        let placement = app.post("/v1/collections/jobs/explain", body).await.ok();
        assert_eq!(placement["phrases"][0]["text"], best, "{placement}");
    }
    let without = app.search("jobs", json!({"query": {"text": "nurse"}})).await.ok();
    assert!(without["hits"][0].get("phrases").is_none());
    let of_member =
        app.post("/v1/match", json!({"from": {"collection": "members", "id": "m-nurse"}, "to": "jobs", "phrases": 1})).await.ok();
    assert!(of_member["hits"][0]["phrases"][0]["text"].is_string());
    app.search("jobs", json!({"query": {"text": "nurse"}, "phrases": 11})).await.fails(422, "invalid", Some("phrases"), "within 0 to 10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_posting_is_held_against_a_member() {
    let app = filled(&[]).await;
    let posting = json!([{"id": "ward", "title": "Ward nurse", "skills": ["patient care", "dressing of wounds", "welding"], "seniority": "senior",
        "location": {"city": "Berlin", "lat": 52.52, "lon": 13.405}, "remote": false,
        "description": "We are a friendly team. You must have worked on a surgical ward. A driving licence is required. Do you have experience with children?"}]);
    app.put("/v1/collections/jobs/documents", posting).await.ok();
    let fit = app.post("/v1/fit", json!({"member": "m-nurse", "job": "ward"})).await.ok();
    let requirements = fit["requirements"].as_array().unwrap();
    let told: Vec<(&str, &str, &str)> = (requirements.iter())
        .map(|r| (r["kind"].as_str().unwrap(), r["posting"]["text"].as_str().unwrap(), r["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("skill", "patient care", "met"),
            ("skill", "dressing of wounds", "met"),
            ("skill", "welding", "missing"),
            ("seniority", "senior", "partial"),
            ("place", "Berlin", "met"),
            ("statement", "You must have worked on a surgical ward.", "met"),
            ("statement", "A driving licence is required.", "missing"),
        ],
        "{fit:#}"
    );
    assert_eq!(requirements[0]["member"], json!({"field": "skills", "text": "patient care"}));
    assert_eq!(requirements[1]["member"]["text"], "wound dressing");
    assert!(requirements[2]["cosine"].is_f64() && requirements[2]["next_step"].as_str().unwrap().contains("welding"));
    assert_eq!(requirements[3]["member"], json!({"field": "seniority", "text": "mid"}));
    assert!((requirements[4]["distance_km"].as_f64().unwrap() - 27.5).abs() < 2.0, "Potsdam: {}", requirements[4]);
    assert!(requirements[5]["member"]["field"] == "experience.text" && requirements[5]["cosine"].as_f64().unwrap() < 0.99, "by meaning");
    assert!(requirements.iter().all(|r| (r["status"] == "met") == r.get("next_step").is_none()), "{fit:#}");
    assert!(fit.get("score").is_none() && fit["note"].as_str().unwrap().contains("no judgment"));
    assert_eq!(
        app.post("/v1/fit", json!({"member": {"collection": "members", "id": "m-nurse"}, "job": "ward"})).await.ok(),
        fit,
        "the same every time"
    );

    // A member who says nothing, and a posting that asks for nothing.
    app.put("/v1/collections/members/documents", json!([{"id": "quiet", "headline": "Hello"}])).await.ok();
    let fit = app.post("/v1/fit", json!({"member": "quiet", "job": "ward"})).await.ok();
    let unknown: Vec<&Value> =
        fit["requirements"].as_array().unwrap().iter().filter(|r| r["status"] == "unknown").map(|r| &r["kind"]).collect();
    assert_eq!(unknown, ["seniority", "place"]);
    app.put(
        "/v1/collections/jobs/documents",
        json!([{"id": "open", "title": "Anything", "remote": true, "location": {"lat": 1, "lon": 1}}]),
    )
    .await
    .ok();
    assert_eq!(app.post("/v1/fit", json!({"member": "quiet", "job": "open"})).await.ok()["requirements"], json!([]));

    app.post("/v1/fit", json!({"member": "nobody", "job": "ward"})).await.fails(404, "not_found", Some("member"), "nobody");
    app.post("/v1/fit", json!({"member": "quiet", "job": "nothing"})).await.fails(404, "not_found", Some("job"), "nothing");
    app.post("/v1/fit", json!({"member": {"collection": "none", "id": "x"}, "job": "ward"})).await.fails(
        404,
        "not_found",
        Some("member.collection"),
        "none",
    );
    app.post("/v1/fit", json!({"member": "quiet"})).await.fails(400, "malformed", None, "job");
}
