//! Facets: how many of all that match have each value, whether it was built in or just written.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::app::{TestApp, jobs};

const CITIES: [&str; 3] = ["Berlin", "Paris", "Oslo"];

/// A job whose values follow from its number.
fn job(i: usize) -> Value {
    let skills: Vec<String> = (0..i % 4).map(|s| format!("skill {}", (i * 7 + s * s) % 40)).collect();
    let mut embedding = vec![0.0; 384];
    embedding[i % 384] = 1.0;
    json!({"id": format!("j{i}"), "title": format!("Job {i}"), "company": format!("Company {}", i % 23), "skills": skills, "remote": i.is_multiple_of(3),
           "seniority": (["mid", "senior"][i % 2]), "location": {"city": (CITIES[i % 3])}, "embedding": embedding})
}

/// The ten most frequent values, counted in the documents themselves.
fn counted<'a>(jobs: impl Iterator<Item = &'a Value>, values: impl Fn(&Value) -> Vec<Value>) -> Vec<Value> {
    let mut counts = BTreeMap::<String, (Value, u64)>::new();
    for value in jobs.flat_map(|job| {
        let mut values = values(job);
        values.sort_by_key(Value::to_string);
        values.dedup();
        values
    }) {
        counts.entry(value.to_string()).or_insert((value, 0)).1 += 1;
    }
    let mut counts: Vec<(Value, u64)> = counts.into_values().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.to_string().cmp(&b.0.to_string())));
    counts.into_iter().take(10).map(|(value, count)| json!({"value": value, "count": count})).collect()
}

fn check(answer: &Value, jobs: &[Value], matches: impl Fn(&Value) -> bool, case: &str) {
    let matching = || jobs.iter().filter(|job| matches(job));
    let facets = &answer["facets"];
    assert_eq!(facets["company"], json!(counted(matching(), |job| vec![job["company"].clone()])), "{case}");
    assert_eq!(facets["remote"], json!(counted(matching(), |job| vec![job["remote"].clone()])), "{case}");
    assert_eq!(facets["skills"], json!(counted(matching(), |job| job["skills"].as_array().unwrap().clone())), "{case}");
    assert_eq!(facets["location.city"], json!(counted(matching(), |job| vec![job["location"]["city"].clone()])), "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn facets_count_all_that_match() {
    let app = TestApp::start().await;
    let mut jobs: Vec<Value> = (0..200).map(job).collect();
    app.put("/v1/collections/jobs/documents", json!(jobs)).await.ok();
    let started = app.post("/v1/collections/jobs/rebuild", json!({})).await.ok();
    app.ended(&started).await;
    // Some are replaced and deleted, and new ones come.
    for i in [3, 50, 199] {
        jobs[i] = job(i + 1000);
        jobs[i]["id"] = json!(format!("j{i}"));
    }
    let gone = ["j7", "j8"];
    jobs.extend((300..320).map(job));
    app.put("/v1/collections/jobs/documents", json!(jobs)).await.ok();
    app.post("/v1/collections/jobs/documents/delete", json!({"ids": gone})).await.ok();
    jobs.retain(|job| !gone.contains(&job["id"].as_str().unwrap()));

    let facets = json!(["company", "remote", "skills", "location.city"]);
    let ask = |filter: Value| {
        let body = json!({"query": {"text": "job"}, "retrieval": "lexical", "limit": 1, "facets": facets, "filter": filter});
        app.search("jobs", body)
    };
    let all = ask(Value::Null).await.ok();
    check(&all, &jobs, |_| true, "all");
    assert_eq!(all["hits"].as_array().unwrap().len(), 1);
    let in_berlin = ask(json!({"must": [{"key": "location.city", "match": {"value": "Berlin"}}]})).await.ok();
    check(&in_berlin, &jobs, |job| job["location"]["city"] == "Berlin", "a third");
    // Fewer documents than values: these are read one by one.
    let few = ask(json!({"must": [{"key": "company", "match": {"value": "Company 4"}}]})).await.ok();
    check(&few, &jobs, |job| job["company"] == "Company 4", "few");
    let none = ask(json!({"must": [{"key": "company", "match": {"value": "nobody"}}]})).await.ok();
    assert_eq!(none["facets"], json!({"company": [], "remote": [], "skills": [], "location.city": []}));
    let unasked = app.search("jobs", json!({"query": {"text": "job"}})).await.ok();
    assert_eq!(unasked.get("facets"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_can_be_counted_is_a_facet() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    for (facets, (status, code), word) in [
        (json!(["nothing"]), (400, "malformed"), "no such field"),
        (json!(["title"]), (400, "malformed"), "not indexed"),
        (json!(["salary.min"]), (400, "malformed"), "neither keyword nor bool"),
        (json!(vec!["company"; 33]), (422, "invalid"), "within 0 to 32"),
    ] {
        app.search("jobs", json!({"query": {"text": "nurse"}, "facets": facets})).await.fails(status, code, Some("facets"), word);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_named_twice_is_counted_once() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let search =
        async |facets: Value| app.search("jobs", json!({"query": {"text": "nurse"}, "facets": facets})).await.ok()["facets"].clone();
    assert_eq!(search(json!(["company", "remote", "company"])).await, search(json!(["company", "remote"])).await);
}
