//! Profiles over HTTP: weights, formulas and what was learned; by name and in a request.

use kindred::rescore::{Feature, Group, Profile, Weights, train};
use kindred_core::domain::Choice;
use serde_json::{Value, json};

use crate::app::{TestApp, ids, jobs};

const PROFILE: &str = "/v1/collections/jobs/profiles/mine";

async fn filled() -> TestApp {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    app
}

fn by_name(name: &str) -> Value {
    json!({"query": {"text": "work"}, "profile": name, "explain": true})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_kept_and_counted() {
    let app = filled().await;
    let remote = json!({"directions": {"text": {"weights": {"remote": 1.0}}}, "card": {"by": "hand"}});
    app.search("jobs", by_name("mine")).await.fails(422, "invalid", Some("profile"), "default");
    assert_eq!(app.put(PROFILE, remote.clone()).await.ok(), json!({"name": "mine", "version": 1}));
    assert_eq!(ids(&app.search("jobs", by_name("mine")).await.ok())[0], "rust");
    let office = json!({"directions": {"text": {"weights": {"remote": -1.0}}}});
    assert_eq!(app.put(PROFILE, office.clone()).await.ok()["version"], 2);
    assert_eq!(ids(&app.search("jobs", by_name("mine")).await.ok())[4], "rust", "at once");
    // What stands in the settings goes behind what is stored, and is there again when that is deleted.
    let list = app.get("/v1/collections/jobs/profiles").await.ok();
    let told: Vec<_> =
        list["profiles"].as_array().unwrap().iter().map(|profile| (profile["name"].as_str().unwrap(), &profile["version"])).collect();
    assert_eq!(told, [("default", &Value::Null), ("mine", &json!(2))]);
    app.put("/v1/collections/jobs/profiles/default", remote).await.ok();
    assert_eq!(ids(&app.search("jobs", json!({"query": {"text": "make desserts"}})).await.ok())[0], "rust");
    assert_eq!(app.get("/v1/collections/jobs/profiles/default").await.ok()["version"], 1);
    assert_eq!(app.delete("/v1/collections/jobs/profiles/default").await.ok(), json!({"deleted": "default"}));
    let of_settings = app.get("/v1/collections/jobs/profiles/default").await.ok();
    assert_eq!((of_settings.get("version"), &of_settings["profile"]["directions"]["text"]["weights"]["bm25"]), (None, &json!(0.2)));
    assert_eq!(ids(&app.search("jobs", json!({"query": {"text": "make desserts"}})).await.ok())[0], "chef");
    let app = TestApp::start_in(app.stop().await, &[]).await;
    assert_eq!(app.get(PROFILE).await.ok(), json!({"name": "mine", "version": 2, "profile": office}), "also after a restart");
    app.delete(PROFILE).await.ok();
    app.delete(PROFILE).await.fails(404, "not_found", None, "mine");
    app.get(PROFILE).await.fails(404, "not_found", None, "mine");
    app.get("/v1/collections/nobody/profiles").await.fails(404, "not_found", Some("collection"), "nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_profile_is_refused() {
    let app = filled().await;
    for (profile, word) in [
        (json!([]), "object"),
        (json!({"text": {}}), "directions"),
        (json!({"directions": {"text": {"weights": {"luck": 1.0}}}}), "luck"),
        (json!({"directions": {"text": {"weights": {"dot": 1e9}}}}), "dot"),
        (json!({"directions": {"text": {"trees": {"learner": 1}}}}), "XGBoost"),
        (json!({"directions": {"text": {"formula": {"sum": ["salary.mni"]}}}}), "formula.sum[0]"),
        (json!({"directions": {"text": {"formula": "$score", "weights": {"dot": 1.0}}}}), "choose one"),
    ] {
        let answer = app.put(PROFILE, profile.clone()).await;
        assert!(answer.status.is_client_error(), "{profile}");
        assert!(answer.body["error"]["message"].as_str().unwrap().contains(word), "{profile}: {}", answer.body);
    }
    app.put("/v1/collections/jobs/profiles/a%20b", json!({"directions": {}})).await.fails(422, "invalid", None, "a b");
    app.get(PROFILE).await.fails(404, "not_found", None, "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn formulas_are_computed_and_explained() {
    let app = filled().await;
    let formula = json!({"sum": [
        {"mult": [0.001, "$score"]},
        {"mult": [2.0, {"key": "remote", "match": {"value": true}}]},
        {"lin_decay": {"x": {"geo_distance": {"origin": {"lat": 52.52, "lon": 13.4}, "to": "location"}}, "scale": 100_000}},
    ]});
    let inline = json!({"query": {"text": "make desserts"}, "profile": {"formula": formula}, "explain": true});
    let stored = json!({"directions": {"text": {"formula": formula}}});
    app.put(PROFILE, stored).await.ok();
    for body in [inline, json!({"query": {"text": "make desserts"}, "profile": "mine", "explain": true})] {
        let answer = app.search("jobs", body).await.ok();
        assert_eq!(ids(&answer)[..2], ["rust", "nurse"], "remote, then Berlin");
        for hit in answer["hits"].as_array().unwrap() {
            let tree = &hit["explanation"];
            assert_eq!((&tree["what"], &tree["value"]), (&json!("sum"), &hit["score"]));
            let sum = tree["parts"].as_array().unwrap().iter().fold(0.0, |sum, part| sum + part["value"].as_f64().unwrap());
            assert_eq!(sum, hit["score"].as_f64().unwrap());
        }
    }
    let wrong = json!({"query": {"text": "x"}, "profile": {"formula": {"max": [1]}}});
    let answer = app.search("jobs", wrong).await;
    assert!(answer.status.is_client_error() && answer.body["error"]["message"].as_str().unwrap().contains("max"), "{}", answer.body);
}

/// Judgments by which recent postings count, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_scores_and_adds_up() {
    let mut choice = Choice::new("learned", 1);
    let mut draw = || choice.below(1_000) as f64 / 1_000.0;
    let groups: Vec<Group> = (0..60)
        .map(|_| {
            let mut group = Group::default();
            for _ in 0..20 {
                let mut values = [f64::NAN; Feature::ALL.len()];
                let (dot, recency) = (draw(), draw());
                (values[Feature::Dot as usize], values[Feature::Recency as usize]) = (dot, recency);
                group.values.push(values);
                group.labels.push(u32::from(recency > 0.7));
            }
            group
        })
        .collect();
    let trained = train(&Weights::from([(Feature::Dot, 1.0)]), &groups, 1).unwrap();
    let app = filled().await;
    app.put(PROFILE, Profile::write("text", &trained.learned, json!({"by": "a test"}))).await.ok();
    let answer = app.search("jobs", by_name("mine")).await.ok();
    let hits = answer["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 5);
    for hit in hits {
        let terms = hit["explanation"].as_array().unwrap();
        assert_eq!(terms[0]["feature"], "base");
        let sum = terms.iter().fold(0.0, |sum, term| sum + term["contribution"].as_f64().unwrap());
        assert_eq!(sum, hit["score"].as_f64().unwrap(), "to the last bit");
    }
    assert_eq!(app.get(PROFILE).await.ok()["profile"]["card"], json!({"by": "a test"}));
}
