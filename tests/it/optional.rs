//! What a build leaves out says so, and how to get it; what it has, `doctor` names.

use kindred::optional::PARTS;
use serde_json::Value;

#[cfg(not(feature = "mcp"))]
use crate::app::TestApp;
use crate::bulk::{kindred, says};

#[test]
fn doctor_names_the_parts_of_this_build() {
    let dir = tempfile::tempdir().unwrap();
    let report: Value = serde_json::from_slice(&kindred(dir.path(), &["doctor", "--json"]).stdout).unwrap();
    let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "optional parts").expect("a line about them");
    let (built, left_out) = check["found"].as_str().unwrap().split_once("; left out: ").unwrap();
    for part in PARTS {
        let list = if part.is_built { built } else { left_out };
        assert!(list.contains(part.feature), "{check}");
    }
}

#[test]
fn commands_of_a_part_that_is_left_out_say_how_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("jobs.parquet"), "PAR1").unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("parquet", &["ingest", "jobs", "jobs.parquet"]),
        ("object-store", &["snapshot", "list", "s3://bucket/prefix"]),
        ("otlp", &["serve", "--listen", "127.0.0.1:0", "--set", "traces.endpoint=http://127.0.0.1:4318"]),
        ("trees", &["train", "rescore", "jobs", "--queries", "q.jsonl", "--judgments", "q.tsv", "--out", "profile.json"]),
        ("kafka", &["serve", "--listen", "127.0.0.1:0", "--set", "kafka.brokers=localhost:9092"]),
    ];
    for (feature, args) in cases {
        let part = PARTS.iter().find(|part| part.feature == *feature).expect("a part");
        if !part.is_built {
            says(
                &kindred(dir.path(), args),
                1,
                &["wheel, .deb or container image", &format!("cargo build --release --features {feature}")],
            );
        }
    }
}

#[cfg(not(feature = "mcp"))]
#[tokio::test(flavor = "multi_thread")]
async fn the_route_for_agents_says_so_too() {
    let answer = TestApp::start().await.post("/mcp", serde_json::json!({})).await;
    assert_eq!(answer.status, 501, "{answer:?}");
    assert_eq!(answer.body["error"]["code"], "not_built", "{answer:?}");
    assert!(answer.body["error"]["message"].as_str().unwrap().contains("--features mcp"), "{answer:?}");
}
