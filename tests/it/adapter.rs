//! Adapters: learned by the real binary, put into a profile, searched with, and refused where they do not belong.

use std::fs;
use std::path::Path;

use kindred::adapter::Adapter;
use kindred::collection::Access;
use kindred::pipeline::{ModelChoice, RebuildRequest};
use kindred_core::Progress;
use kindred_core::domain::{Choice, CollectionName, Embedding};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::{TestApp, ids, open, settings};
use crate::bulk::{kindred, says};

const DIMS: usize = 384;
/// Of these, so many tell documents apart.
const USED: usize = 24;
/// And so many of these are told the wrong way round by members.
const TURNED: usize = 4;
const N: usize = 100;
const PROFILE: &str = "/v1/collections/jobs/profiles/default";

fn random(choice: &mut Choice) -> Vec<f32> {
    // Sums of some numbers: in all directions about equally.
    let mut number = || (0..6).map(|_| choice.below(2_001) as f32 / 1_000.0 - 1.0).sum();
    (0..DIMS).map(|i| if i < USED { number() } else { 0.0 }).collect()
}

/// A folder with `N` jobs and as many members, each with the embedding of a job, turned and noisy; and the right judgments.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut choice = Choice::new("jobs and members", 5);
    let [mut jobs, mut members, mut judgments, mut shuffled] = [(); 4].map(|()| String::new());
    for i in 0..N {
        let job = Embedding::new(random(&mut choice), DIMS).unwrap().into_vec();
        let noise = Embedding::new(random(&mut choice), DIMS).unwrap().into_vec();
        let mut member: Vec<f32> = job.iter().zip(noise).map(|(x, noise)| x + 0.3 * noise).collect();
        member[..TURNED].iter_mut().for_each(|x| *x *= -2.0);
        jobs += &format!("{}\n", json!({"id": format!("j{i}"), "title": "job", "embedding": job}));
        members += &format!("{}\n", json!({"id": format!("m{i}"), "headline": "member", "embedding": member}));
        judgments += &format!("m{i} 0 j{i} 1\n");
        shuffled += &format!("m{i} 0 j{} 1\n", choice.below(N));
    }
    for (name, text) in [("jobs.jsonl", jobs), ("members.jsonl", members), ("qrels.tsv", judgments), ("shuffled.tsv", shuffled)] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    for collection in ["jobs", "members"] {
        says(&kindred(dir.path(), &["ingest", collection, &format!("{collection}.jsonl"), "--data-dir", "."]), 0, &["100 created"]);
    }
    dir
}

fn train(dir: &Path, judgments: &str, more: &[&str]) -> std::process::Output {
    kindred(dir, &[&["train", "adapter", "jobs", "--from", "members", "--judgments", judgments, "--data-dir", "."], more].concat())
}

fn match_for(member: usize) -> Value {
    json!({"from": {"collection": "members", "id": format!("m{member}")}, "to": "jobs", "limit": 10, "fields": []})
}

/// How many of the last members find their job first.
async fn n_right(app: &TestApp) -> usize {
    let mut n = 0;
    for member in N - 30..N {
        let answer = app.post("/v1/match", match_for(member)).await.ok();
        n += usize::from(ids(&answer)[0] == format!("j{member}"));
    }
    n
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_is_searched_with() {
    let dir = folder();
    // Judgments of most members: of the others nothing is known to it.
    let judgments = fs::read_to_string(dir.path().join("qrels.tsv")).unwrap();
    let known: Vec<&str> = judgments.lines().take(N - 30).collect();
    fs::write(dir.path().join("known.tsv"), known.join("\n")).unwrap();
    says(&train(dir.path(), "known.tsv", &["--rank", "8"]), 0, &["with the adapter", "70 queries", "PUT"]);
    let profile: Value = serde_json::from_slice(&fs::read(dir.path().join("profile.json")).unwrap()).unwrap();
    let card = &profile["card"]["adapter"]["members"];
    assert_eq!((&card["queries"], &card["rank"], &card["model"]), (&json!(70), &json!(8), &json!("all-MiniLM-L6-v2")), "{card}");
    let ndcg = |key: &str| card["ndcg@10"][key].as_f64().unwrap();
    assert!(ndcg("after") > ndcg("before") + 0.1 && card["steps"].as_u64().unwrap() > 0, "{card}");
    says(&train(dir.path(), "known.tsv", &["--rank", "8", "--out", "again.json"]), 0, &[]);
    assert_eq!(fs::read(dir.path().join("again.json")).unwrap(), fs::read(dir.path().join("profile.json")).unwrap(), "the same again");

    let app = TestApp::start_in(dir, &[]).await;
    let (before, plain) = (n_right(&app).await, app.post("/v1/match", match_for(N - 1)).await.ok());
    assert_eq!(plain["plan"]["adapted"], false);
    app.put(PROFILE, profile.clone()).await.ok();
    let after = n_right(&app).await;
    assert!(after > before + 3, "{before} of 30 right before, {after} with it");
    // As predicted: the map's embedding finds the same.
    let answer = app.post("/v1/match", match_for(N - 1)).await.ok();
    assert_eq!(answer["plan"]["adapted"], true);
    let adapter = Adapter::read(&profile["directions"]["members"]["adapter"]).unwrap();
    let member = fs::read_to_string(app.dir.path().join("members.jsonl")).unwrap();
    let member: Value = serde_json::from_str(member.lines().last().unwrap()).unwrap();
    let numbers: Vec<f32> = serde_json::from_value(member["embedding"].clone()).unwrap();
    let mapped = adapter.apply(&Embedding::new(numbers, DIMS).unwrap()).into_vec();
    let predicted = app.search("jobs", json!({"query": {"vector": mapped}})).await.ok();
    assert_eq!(ids(&answer), ids(&predicted));
    assert_ne!(ids(&answer), ids(&plain));
    assert_eq!(predicted["plan"]["adapted"], false, "of this direction there is none");
    // A request may bring it, beside or without what scores.
    let inline = json!({"adapter": profile["directions"]["members"]["adapter"]});
    app.delete(PROFILE).await.ok();
    assert_eq!(ids(&app.post("/v1/match", match_for(N - 1)).await.ok()), ids(&plain), "gone with its profile");
    let mut with_inline = match_for(N - 1);
    with_inline["profile"] = inline;
    assert_eq!(ids(&app.post("/v1/match", with_inline).await.ok()), ids(&answer));

    // Words are not mapped, and after a rebuild with another model nothing is.
    let mut of_text = profile.clone();
    of_text["directions"]["text"] = of_text["directions"]["members"].clone();
    app.put(PROFILE, of_text.clone()).await.ok();
    let by = |retrieval: &str| json!({"query": {"text": "job"}, "retrieval": retrieval});
    assert_eq!(app.search("jobs", by("dense")).await.ok()["plan"]["adapted"], true);
    let lexical = app.search("jobs", by("lexical")).await.ok();
    assert_eq!((&lexical["plan"]["adapted"], &lexical["degraded"]), (&json!(false), &Value::Null));
    let dir = app.stop().await;
    let prompted = "collections.jobs.document_prompt=\"passage: \"";
    let other = open(&settings(dir.path(), &[prompted]), Access::Rebuild).unwrap();
    let request = RebuildRequest { model: ModelChoice::Configured, ..RebuildRequest::default() };
    other.rebuild.rebuild(&CollectionName::new("jobs").unwrap(), &request, &|_, _| Progress::hidden()).unwrap();
    drop(other);
    let app = TestApp::start_in(dir, &[prompted]).await;
    let answer = app.search("jobs", by("dense")).await.ok();
    assert_eq!(answer["plan"]["adapted"], false);
    assert!(answer["degraded"][0].as_str().unwrap().contains("adapter: it was trained for the model"), "{answer}");
    app.put(PROFILE, of_text).await.fails(422, "invalid", Some("profile"), "kindred train adapter");
}

#[test]
fn what_is_not_better_is_not_written() {
    let dir = folder();
    says(&train(dir.path(), "shuffled.tsv", &["--rank", "8"]), 1, &["Nothing was written"]);
    let few: Vec<String> = (0..39).map(|i| format!("m{i} 0 j{i} 1")).collect();
    fs::write(dir.path().join("few.tsv"), few.join("\n")).unwrap();
    says(&train(dir.path(), "few.tsv", &[]), 1, &["39 queries", "at least 40"]);
    fs::write(dir.path().join("foreign.tsv"), "q1 0 d1 1\nm1 0 d1 1\n").unwrap();
    says(&train(dir.path(), "foreign.tsv", &[]), 1, &["belong together"]);
    fs::write(dir.path().join("none.tsv"), "m1 0 j1 0\n").unwrap();
    says(&train(dir.path(), "none.tsv", &[]), 1, &["no judged document is relevant"]);
    fs::write(dir.path().join("wrong.json"), "{\"directions\": {\"text\": {\"weights\": {\"luck\": 1}}}}").unwrap();
    says(&train(dir.path(), "qrels.tsv", &["--profile", "wrong.json"]), 1, &["wrong.json", "luck"]);
    says(&train(dir.path(), "qrels.tsv", &["--rank", "65"]), 2, &["65"]);
    assert!(!dir.path().join("profile.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_adapter_for_the_collection_is_refused() {
    let app = TestApp::start().await;
    let model = app.get("/v1/collections/jobs").await.ok()["fingerprint"].as_str().unwrap().to_owned();
    let zeros = |n: usize| "A".repeat(n * 16 / 3);
    let good = json!({"model": model, "rank": 1, "u": zeros(DIMS), "v": zeros(DIMS)});
    let with = |key: &str, value: Value| {
        let mut adapter = good.clone();
        adapter[key] = value;
        json!({"directions": {"text": {"adapter": adapter}}})
    };
    for (profile, word) in [
        (with("model", json!("another")), "trained for the model another"),
        (with("rank", json!(0)), "rank"),
        (with("rank", json!(7)), "bytes"),
        (with("u", json!("?")), "base64"),
        (with("v", json!(zeros(3))), "bytes"),
        // An f32 that is not a number.
        (with("u", json!(format!("AADAfwAA{}", &zeros(DIMS)[8..]))), "number 0 of \"u\""),
        (with("bias", json!(1)), "bias"),
        (json!({"directions": {"text": {"adapter": {"model": model, "rank": 1, "u": zeros(3), "v": zeros(3)}}}}), "3 dimensions"),
    ] {
        app.put(PROFILE, profile).await.fails(422, "invalid", Some("profile"), word);
    }
    app.search("jobs", json!({"query": {"text": "x"}, "profile": with("model", json!("another"))["directions"]["text"]})).await.fails(
        422,
        "invalid",
        Some("profile"),
        "another",
    );
    app.put(PROFILE, with("rank", json!(1))).await.ok();
    assert_eq!(app.search("jobs", json!({"query": {"text": "x"}})).await.ok()["plan"]["adapted"], true);
}
