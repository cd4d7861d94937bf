//! Words beside meaning: what is found by which, before a build and after it.

use serde_json::{Value, json};

use crate::app::{TestApp, ids};

/// A code, a name with an accent, an almost equal title, and company: what embeddings blur.
fn codes() -> Value {
    json!([
        {"id": "k1", "title": "Lathe operator QX-7741", "description": "Turns parts."},
        {"id": "k2", "title": "Lathe operator QX-7714", "description": "Turns parts."},
        {"id": "k3", "title": "Gärtner bei Müller & Söhne", "description": "Pflegt den Garten."},
        {"id": "k4", "title": "Gardener", "description": "Plants flowers and mows lawns."},
        {"id": "k5", "title": "C++ engineer", "description": "Writes compilers."},
        {"id": "k6", "title": "C engineer", "description": "Writes kernels."},
        {"id": "k7", "title": "软件工程师", "description": "开发服务器软件"},
        {"id": "k8", "title": "厨师", "description": "做甜点"},
    ])
}

const EXACT: [(&str, &str); 6] = [
    ("QX-7714", "k2"),
    ("qx 7741", "k1"),
    ("mueller muller", "k3"),
    ("c++", "k5"),
    ("软件工程", "k7"),
    ("someone who mows the lawns", "k4"),
];

#[tokio::test(flavor = "multi_thread")]
async fn names_and_codes_come_first_before_a_build_and_after() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", codes()).await.ok();
    for is_built in [false, true] {
        if is_built {
            app.ended(&app.post("/v1/collections/jobs/rebuild", json!({})).await.ok()).await;
            // Some documents newer than the build, one deleted, one replaced.
            app.put("/v1/collections/jobs/documents", json!([{"id": "k9", "title": "Welder"}, {"id": "k8", "title": "厨师 Bäcker"}]))
                .await
                .ok();
            app.delete("/v1/collections/jobs/documents/k6").await.ok();
        }
        for (text, best) in EXACT {
            for retrieval in ["lexical", "hybrid"] {
                let body = json!({"query": {"text": text}, "retrieval": retrieval, "explain": true});
                let answer = app.search("jobs", body).await.ok();
                assert_eq!(ids(&answer)[0], best, "{text} by {retrieval}, built: {is_built}: {answer}");
                assert_eq!(answer["plan"]["retrieval"], retrieval);
                let hit = &answer["hits"][0];
                assert!(hit["lexical_score"].as_f64().unwrap() > 0.0);
                assert_eq!((hit["ranks"]["lexical"].as_u64(), hit["ranks"]["rescore"].as_u64()), (Some(1), Some(1)));
                assert_eq!(hit.get("retrieval_score").is_some(), retrieval == "hybrid", "nothing is encoded for words alone");
            }
        }
        let dense = app.search("jobs", json!({"query": {"text": "QX-7714"}, "retrieval": "dense"})).await.ok();
        assert_eq!(dense["plan"]["retrieval"], "dense");
        assert!(dense["hits"][0].get("lexical_score").is_none());
    }
    let gone = app.search("jobs", json!({"query": {"text": "kernels"}, "retrieval": "lexical"})).await.ok();
    assert_eq!(gone["hits"], json!([]), "what has the word was deleted");
    let newer = app.search("jobs", json!({"query": {"text": "backer"}, "retrieval": "lexical"})).await.ok();
    assert_eq!(ids(&newer), ["k8"], "the document as it was written last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_scores_the_same_before_it_is_built_in_and_then() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", codes()).await.ok();
    let scores = async || -> Vec<Value> {
        let body = json!({"query": {"text": "engineer gardener parts"}, "retrieval": "lexical"});
        let answer = app.search("jobs", body).await.ok();
        answer["hits"].as_array().unwrap().iter().map(|hit| json!([hit["id"], hit["lexical_score"]])).collect()
    };
    let before = scores().await;
    assert_eq!(before.len(), 5);
    app.ended(&app.post("/v1/collections/jobs/rebuild", json!({})).await.ok()).await;
    assert_eq!(scores().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_hold_for_words_too() {
    let app = TestApp::start().await;
    let documents: Vec<Value> = (0..3_000)
        .map(|n| json!({"id": format!("d{n}"), "title": "Clerk", "company": format!("c{}", n % 3), "embedding": embedding(n)}))
        .collect();
    app.put("/v1/collections/jobs/documents", json!(documents)).await.ok();
    app.ended(&app.post("/v1/collections/jobs/rebuild", json!({})).await.ok()).await;
    for company in ["c0", "c1"] {
        let filter = json!({"must": [{"key": "company", "match": {"value": company}}]});
        for retrieval in ["lexical", "hybrid"] {
            let body = json!({"query": {"text": "clerk"}, "retrieval": retrieval, "filter": filter, "limit": 100});
            let answer = app.search("jobs", body).await.ok();
            let hits = answer["hits"].as_array().unwrap();
            assert!(hits.len() == 100 && hits.iter().all(|hit| hit["fields"]["company"] == company));
            assert_eq!(answer["plan"]["n_matching"], 1_000);
        }
    }
}

fn embedding(n: usize) -> Vec<f32> {
    (0..384).map(|i| if i == n % 384 { 1.0 } else { 0.01 }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_words_is_told() {
    let app = TestApp::start_with(&["collections.members.lexical=\"off\""]).await;
    app.put("/v1/collections/jobs/documents", codes()).await.ok();
    app.put("/v1/collections/members/documents", json!([{"id": "m", "headline": "Welder"}])).await.ok();
    let body = |query: Value, retrieval: &str| json!({"query": query, "retrieval": retrieval});
    let vector = vec![0.5f32; 384];
    app.search("jobs", body(json!({"vector": vector}), "hybrid")).await.fails(422, "invalid", None, "no words");
    app.search("jobs", body(json!({"text": "..."}), "lexical")).await.fails(422, "invalid", None, "no words");
    app.search("members", body(json!({"text": "welder"}), "hybrid")).await.fails(422, "invalid", None, "lexical = \"off\"");
    let answer = app.search("members", json!({"query": {"text": "welder"}})).await.ok();
    assert_eq!((ids(&answer), &answer["plan"]["retrieval"]), (vec!["m"], &json!("dense")), "nobody asked for words");
    app.search("jobs", body(json!({"text": "x"}), "sparse")).await.fails(400, "malformed", Some("retrieval"), "lexical");
    // A document asks by its title and skills, where that is wanted.
    let answer = app.search("jobs", body(json!({"id": "k1"}), "lexical")).await.ok();
    assert_eq!(ids(&answer)[0], "k2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_bring_its_own_weights() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", codes()).await.ok();
    let body = |weights: Value| json!({"query": {"text": "gardener"}, "profile": {"weights": weights}, "explain": true});
    let answer = app.search("jobs", body(json!({"title_letters": 2.0, "bm25": 1.0, "popularity": 3.0}))).await.ok();
    let hit = &answer["hits"][0];
    assert_eq!((hit["id"].as_str(), hit["score"].as_f64()), (Some("k4"), Some(3.0)), "{hit}");
    let terms: Vec<&str> = hit["explanation"].as_array().unwrap().iter().map(|term| term["feature"].as_str().unwrap()).collect();
    assert_eq!(terms, ["bm25", "title_letters"], "nothing is known of its popularity");
    app.search("jobs", body(json!({"luck": 1.0}))).await.fails(422, "invalid", Some("profile"), "luck");
    app.search("jobs", body(json!({"dot": 1e300}))).await.fails(422, "invalid", Some("profile"), "dot");
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_may_be_asked_to_differ() {
    let app = TestApp::start().await;
    let documents: Vec<Value> = ["Night nurse", "Nurse at night", "Nurse, night shift", "Welder"]
        .iter()
        .enumerate()
        .map(|(n, title)| json!({"id": n.to_string(), "title": title, "company": if n < 2 { "Ward" } else { "Kiln" }, "description": "Work."}))
        .collect();
    app.put("/v1/collections/jobs/documents", json!(documents)).await.ok();
    let search = async |more: Value| {
        let mut body = json!({"query": {"text": "night nurse"}, "limit": 2});
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        app.search("jobs", body).await
    };
    let plain = search(json!({})).await.ok();
    assert!(!ids(&plain).contains(&"3"), "{plain}");
    let differing = search(json!({"diversity": 0.8})).await.ok();
    assert_eq!(ids(&differing), ["0", "3"], "the best, and then the one that is least like it");
    let grouped = search(json!({"group_by": "company"})).await.ok();
    let companies: Vec<&str> = grouped["hits"].as_array().unwrap().iter().map(|hit| hit["fields"]["company"].as_str().unwrap()).collect();
    assert_eq!(companies, ["Ward", "Kiln"]);
    assert_eq!(ids(&search(json!({"group_by": {"field": "company", "size": 2}})).await.ok()), ids(&plain));
    search(json!({"group_by": "employer"})).await.fails(400, "malformed", Some("group_by"), "no such field");
    search(json!({"group_by": "title"})).await.fails(400, "malformed", Some("group_by"), "title");
    search(json!({"group_by": {"field": "company", "size": 0}})).await.fails(422, "invalid", Some("group_by.size"), "within");
    search(json!({"diversity": 2.0})).await.fails(422, "invalid", Some("diversity"), "diversity");
}
