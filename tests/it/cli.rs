//! The command line: the real binary, in a folder of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use kindred_encoder::assets;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::{jobs, models, with_cross_encoder};
use crate::bulk::says;

/// Runs the binary in `dir` with the fetched model.
fn kindred(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
    command.current_dir(dir).env_remove("KINDRED__STORAGE__DATA_DIR").args(args);
    command.arg("--model-dir").arg(models().join(assets::MODEL_NAME));
    command.output().unwrap()
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A folder with `jobs.jsonl`, two of whose lines are bad.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> = jobs().as_array().unwrap().iter().map(Value::to_string).collect();
    lines.insert(1, "{\"id\": \"broken\"".to_owned());
    lines.push(json!({"id": "wage", "title": "x", "salary": {"min": "much"}}).to_string());
    fs::write(dir.path().join("jobs.jsonl"), lines.join("\n")).unwrap();
    dir
}

#[test]
fn ingest_search_and_inspect_go_together() {
    let dir = folder();
    let first = kindred(dir.path(), &["ingest", "jobs", "jobs.jsonl"]);
    assert_eq!(first.status.code(), Some(3), "done in part: {first:?}");
    let refused = String::from_utf8(first.stderr.clone()).unwrap();
    assert!(refused.contains("jobs.jsonl:2:") && refused.contains("jobs.jsonl:7 (wage):") && refused.contains("salary.min"), "{refused}");
    assert!(String::from_utf8_lossy(&first.stdout).contains("5 created, 0 updated, 0 unchanged, 2 refused; 5 texts embedded"), "{first:?}");
    let again = kindred(dir.path(), &["ingest", "jobs", "jobs.jsonl"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("0 created, 0 updated, 5 unchanged, 2 refused; 0 texts embedded"), "{again:?}");

    let table = ok(&kindred(dir.path(), &["search", "jobs", "make desserts", "--limit", "2"]));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].contains("score") && lines[1].contains("chef") && lines[1].contains("Café Lune · Paris · FR"), "{table}");
    assert_eq!(lines.len(), 4, "{table}");
    let filter = r#"{"must": [{"key": "remote", "match": {"value": true}}]}"#;
    let answer: Value = serde_json::from_str(&ok(&kindred(dir.path(), &["search", "jobs", "work", "--json", "--filter", filter]))).unwrap();
    assert_eq!(answer["hits"][0]["id"], "rust");

    let told = ok(&kindred(dir.path(), &["inspect", "jobs"]));
    assert!(told.contains("documents    5 (0 changes") && told.contains("generation   000001") && told.contains("vectors.bin"), "{told}");
    let told: Value = serde_json::from_str(&ok(&kindred(dir.path(), &["inspect", "jobs", "--json"]))).unwrap();
    assert_eq!(told["n_documents"], 5);
    let rebuilt = ok(&kindred(dir.path(), &["rebuild", "jobs", "--min-recall", "0.9", "--min-documents", "5"]));
    assert!(rebuilt.contains("5 documents, 0 embedded again, recall@10 1.0000") && !rebuilt.contains("goes on serving"), "{rebuilt}");
    let few = kindred(dir.path(), &["rebuild", "jobs", "--min-documents", "6"]);
    assert!(!few.status.success() && String::from_utf8_lossy(&few.stderr).contains("min_documents is 5, below the 6"), "{few:?}");
    assert!(ok(&kindred(dir.path(), &["rebuild", "jobs", "--no-activate"])).contains("the old generation goes on serving"));

    // Opening reads little of the documents, inspecting all.
    let documents = dir.path().join("index_data/jobs/generations/000002/documents.bin");
    let mut bytes = fs::read(&documents).unwrap();
    bytes[320] ^= 1;
    fs::write(&documents, bytes).unwrap();
    let refused = kindred(dir.path(), &["inspect", "jobs"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("documents.bin"), "{refused:?}");
}

#[test]
fn evaluate_prints_the_measures() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write(
        "corpus.jsonl",
        "{\"_id\": \"n\", \"title\": \"Nurse\", \"text\": \"cares for patients\"}\n{\"_id\": \"w\", \"title\": \"Welder\", \"text\": \"joins metal\"}\n",
    );
    write("queries.jsonl", "{\"_id\": \"1\", \"text\": \"hospital work\"}\n{\"_id\": \"2\", \"text\": \"work with steel\"}\n");
    write("qrels.tsv", "1\t0\tn\t1\n2\t0\tn\t1\n");
    let files = ["evaluate", "--corpus", "corpus.jsonl", "--queries", "queries.jsonl", "--qrels", "qrels.tsv"];
    let result: Value = serde_json::from_str(&ok(&kindred(dir.path(), &[&files[..], &["--json"]].concat()))).unwrap();
    // The first query finds its document first, the second one second.
    let expected = (1.0 + 1.0 / 3f64.log2()) / 2.0;
    assert!((result["ndcg_at_10"].as_f64().unwrap() - expected).abs() < 1e-9, "{result}");
    assert_eq!((&result["mrr"], &result["recall_at_10"], &result["n_queries"]), (&json!(0.75), &json!(1.0), &json!(2)));
    let table = ok(&kindred(dir.path(), &files));
    assert!(table.contains("nDCG@10") && table.contains("0.8155"), "{table}");
    // Saved, compared, and held to what is asked for.
    ok(&kindred(dir.path(), &[&files[..], &["--save", "before.jsonl"]].concat()));
    let again = ok(&kindred(dir.path(), &[&files[..], &["--baseline", "before.jsonl", "--no-worse", "--min-ndcg", "0.8"]].concat()));
    assert!(again.contains("against the baseline, 2 queries: nDCG@10 +0.0000 [+0.0000, +0.0000]"), "{again}");
    let before = fs::read_to_string(dir.path().join("before.jsonl")).unwrap();
    assert_eq!(before.lines().count(), 2);
    write(
        "before.jsonl",
        &before.replace("\"ndcg_at_10\":0.63", "\"ndcg_at_10\":0.93").replace("\"ndcg_at_10\":1.0", "\"ndcg_at_10\":1.3"),
    );
    says(&kindred(dir.path(), &[&files[..], &["--baseline", "before.jsonl", "--no-worse"]].concat()), 1, &["nDCG@10 is too low"]);
    says(&kindred(dir.path(), &[&files[..], &["--min-ndcg", "0.9"]].concat()), 1, &["nDCG@10 is too low"]);
    says(&kindred(dir.path(), &[&files[..], &["--no-worse"]].concat()), 2, &["--baseline"]);
}

/// A cross-encoder of random weights has another mind; what is told of it has to fit together all the same.
#[test]
fn evaluate_tells_what_a_cross_encoder_costs_and_gains() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
    let texts = ["nurse on the night shift", "welder of steel", "bakes bread", "teacher of children", "rust engineer", "care of patients"];
    let lines = |one: &dyn Fn(usize) -> String| (0..texts.len()).map(|i| one(i) + "\n").collect::<String>();
    write("corpus.jsonl", lines(&|i| json!({"_id": i.to_string(), "title": texts[i]}).to_string()));
    write("queries.jsonl", lines(&|i| json!({"_id": i.to_string(), "text": texts[i]}).to_string()));
    write("qrels.tsv", lines(&|i| format!("{i} 0 {} 1", (i + 1) % texts.len())));
    let files = ["evaluate", "--corpus", "corpus.jsonl", "--queries", "queries.jsonl", "--qrels", "qrels.tsv", "--cross-encode", "4"];
    says(&kindred(dir.path(), &files), 1, &["--cross-encode needs a cross-encoder", "cross_encoder.model_dir"]);
    let cross_encoder = with_cross_encoder();
    let with = [&files[..], &["--learn", "--set", &cross_encoder]].concat();
    let result: Value = serde_json::from_str(&ok(&kindred(dir.path(), &[&with[..], &["--json"]].concat()))).unwrap();
    let (stages, speed) = (&result["stages"], &result["speed"]);
    assert_eq!(stages.as_object().unwrap().len(), 6, "{result}");
    assert_eq!((&speed["rescored"]["n"], &speed["learned"]["n"], &speed["cross_encoded"]["n"]), (&json!(36), &json!(36), &json!(24)));
    let number = |json: &Value| json.as_f64().unwrap();
    for (per_second, spent) in [("rescored_per_second", "rescored"), ("cross_encoded_per_second", "cross_encoded")] {
        let expected = number(&speed[spent]["n"]) / (number(&speed[spent]["us"]) / 1e6);
        assert!((number(&speed[per_second]) / expected - 1.0).abs() < 1e-6, "{speed}");
    }
    let [dense, cross] = ["dense", "cross"].map(|stage| number(&stages[stage]["ndcg_at_10"]));
    if cross > dense {
        let expected = (number(&result["ndcg_at_10"]) - dense) / (cross - dense);
        assert!((number(&speed["gap_recovered"]) - expected).abs() < 1e-9, "{result}");
    } else {
        assert!(speed["gap_recovered"].is_null(), "{result}");
    }
    let told = ok(&kindred(dir.path(), &[&with[..], &["--svg", "result.svg"]].concat()));
    assert!(told.contains("candidates a second, by what was learned") && told.contains(&format!("{cross:.4}")), "{told}");
    let svg = fs::read_to_string(dir.path().join("result.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("learned"), "{svg}");
    // One half, and one query of it; the others may be learned from.
    let asked = |flags: &[&str]| -> Vec<String> {
        let result: Value =
            serde_json::from_str(&ok(&kindred(dir.path(), &[&with[..], flags, &["--json", "--save", "told.jsonl"]].concat()))).unwrap();
        let told = fs::read_to_string(dir.path().join("told.jsonl")).unwrap();
        let ids: Vec<String> = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["query"].to_string()).collect();
        assert_eq!((&result["n_queries"], &result["speed"]["learned"]["n"]), (&json!(ids.len()), &json!(6 * ids.len())), "{result}");
        ids
    };
    let half = asked(&["--held-out"]);
    assert!((1..6).contains(&half.len()), "{half:?}");
    let one = asked(&["--held-out", "--max-queries", "1"]);
    assert!(one.len() == 1 && half.contains(&one[0]), "{one:?} of {half:?}");
}

#[test]
fn evaluate_compares_variants_of_a_collection() {
    let dir = folder();
    assert_eq!(kindred(dir.path(), &["ingest", "jobs", "jobs.jsonl"]).status.code(), Some(3));
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let queries: String =
        (0..12).map(|i| json!({"_id": format!("q{i}"), "text": format!("bread {}", "and cakes ".repeat(i))}).to_string() + "\n").collect();
    write("queries.jsonl", &queries);
    write("qrels.tsv", &(0..12).map(|i| format!("q{i} 0 chef 3\nq{i} 0 welder 0\n")).collect::<String>());
    let files = ["evaluate", "--collection", "jobs", "--queries", "queries.jsonl", "--qrels", "qrels.tsv"];
    let run = |more: &[&str]| kindred(dir.path(), &[&files[..], more].concat());
    let worse = "turned={\"profile\": {\"weights\": {\"dot\": -1}}}".to_owned();
    let built = "built={\"generation\": \"000001\"}";

    let table = ok(&run(&["--variant", "base", "--variant", built, "--variant", &worse, "--svg", "result.svg", "--per-query"]));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].contains("nDCG@10") && lines[1].starts_with("base") && lines[1].contains("1.0000"), "{table}");
    assert!(table.contains("nDCG@10 by stage: dense 1.0000 (R@5 1.0000)") && table.contains("  q11 "), "{table}");
    assert!(table.contains("against base, 12 queries: nDCG@10 +0.0000 [+0.0000, +0.0000]"), "{table}");
    assert!(fs::read_to_string(dir.path().join("result.svg")).unwrap().contains("turned"));
    let report: Value = serde_json::from_str(&ok(&run(&["--json", "--save", "before.jsonl"]))).unwrap();
    assert_eq!((&report["variants"][0]["name"], &report["variants"][0]["measures"]["mrr"]), (&json!("default"), &json!(1.0)));
    assert_eq!(report["variants"][0]["queries"], json!([]), "only if they are asked for");

    // Gates: a value, the first variant, an earlier evaluation.
    ok(&run(&["--min-ndcg", "0.9", "--baseline", "before.jsonl", "--no-worse"]));
    says(&run(&["--min-ndcg", "1.1"]), 1, &["nDCG@10 is too low: default"]);
    says(&run(&["--variant", "base", "--variant", &worse, "--no-worse"]), 1, &["nDCG@10 is too low: turned"]);
    ok(&run(&["--variant", "base", "--variant", built, "--no-worse"]));
    let as_before = worse.replacen("turned", "default", 1);
    let told = run(&["--json", "--variant", &as_before, "--baseline", "before.jsonl", "--no-worse"]);
    says(&told, 1, &["nDCG@10 is too low: default"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert!(told["variants"][0]["against_baseline"]["differences"][0]["high"].as_f64().unwrap() < 0.0, "{told}");

    // What does not fit together is refused before anything is done.
    says(&run(&["--no-worse"]), 2, &["--baseline"]);
    says(&run(&["--template", "{title}"]), 2, &["--collection"]);
    says(&run(&["--variant", "x={\"limit\": 3}"]), 2, &["limit"]);
    says(&run(&["--variant", "x={\"profile\": \"none-such\"}"]), 1, &["variants[0].profile", "none-such"]);
    says(&kindred(dir.path(), &["evaluate", "--collection", "jobs"]), 2, &["--queries"]);
    write("qrels.tsv", "q1 0 nobody 3\n");
    says(&run(&[]), 1, &["none of the documents"]);
}

#[test]
fn failures_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for (args, code, word) in [
        (&["search", "cats", "x"][..], 1, "there is no data folder at index_data"),
        (&["rebuild", "cats"], 1, "there are jobs, members"),
        (&["search", "cats", "x"], 1, "PUT /v1/collections/cats"),
        (&["search", "Cats", "x"], 2, "not allowed"),
        (&["search", "jobs", "x", "--strategy", "fast"], 2, "expected \"auto\", \"graph\" or \"exact\""),
        (&["search", "jobs", "x", "--filter", "{"], 1, "--filter is not valid JSON"),
        (&["ingest", "jobs", "none.jsonl"], 1, "none.jsonl"),
        (&["ingest", "jobs", "notes.txt"], 1, "--format"),
        (&["inspect", "jobs", "--set", "search.candidates=0"], 1, "search.candidates"),
        (&["inspect", "jobs", "--config", "none.toml"], 1, "none.toml"),
        (&["serve", "--device", "cuda:0"], 1, "CUDA"),
        (&["serve", "--listen", "203.0.113.1:1"], 1, "kindred keys create"),
        (&["serve", "--listen", "203.0.113.1:1", "--set", "auth.public_without_keys=true"], 1, "cannot listen"),
        (&["serve", "--set", "auth.keys_file=none.toml"], 1, "kindred keys create"),
        // A disk that cannot be written to, whoever asks.
        #[cfg(target_os = "linux")]
        (&["serve", "--data-dir", "/sys/kindred"], 1, "or choose another storage.data_dir"),
        (&["rebuild", "jobs", "--min-recall", "95"], 2, "a number from 0 to 1"),
        (&["dance"], 2, "dance"),
    ] {
        let output = kindred(dir.path(), args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
    }
}

/// The file is a pipe that says nothing until the signal has arrived: however fast the machine, it is interrupted half-way.
#[test]
#[cfg(unix)]
fn an_interrupted_ingest_ends_cleanly() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;

    for signal in ["-INT", "-TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("jobs.jsonl");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
        command.current_dir(dir.path()).args(["ingest", "jobs", "jobs.jsonl", "--model-dir"]).arg(models().join(assets::MODEL_NAME));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Opening waits for the other side, which listens for signals by then.
        let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.by_ref().any(|line| line.contains("cancelling")));
        writer.write_all(jobs()[0].to_string().as_bytes()).unwrap();
        drop(writer);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        let rest: String = said.collect();
        assert!(rest.contains("cancelled") && rest.contains("run it again to go on"), "{rest}");
        assert!(ok(&kindred(dir.path(), &["inspect", "jobs"])).contains("documents    0"));
    }
}

#[test]
fn settings_come_from_the_environment_too() {
    let dir = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_kindred"))
        .current_dir(dir.path())
        .env("KINDRED__STORAGE__DATA_DIR", "elsewhere")
        .env("KINDRED__ENCODER__MODEL_DIR", models().join(assets::MODEL_NAME))
        .args(["ingest", "jobs", "jobs.jsonl"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(dir.path().join("elsewhere/jobs/CURRENT").exists() && !dir.path().join("index_data").exists());
}

#[test]
fn keys_are_made_and_told_once() {
    let dir = folder();
    let file = dir.path().join("keys.toml");
    let create = |rest: &[&str]| kindred(dir.path(), &[&["keys", "create", "--file", file.to_str().unwrap()], rest].concat());
    let made = create(&["search-page", "--collection", "jobs", "--requests-per-second", "50", "--expires-in-days", "30"]);
    assert!(made.status.success(), "{made:?}");
    let key = String::from_utf8(made.stdout).unwrap();
    assert!(key.starts_with("kindred_") && key.lines().count() == 1, "{key}");
    assert!(String::from_utf8_lossy(&made.stderr).contains("auth.keys_file="), "what to do next");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(!kept.contains(key.trim()) && kept.contains("role = \"read\"") && kept.contains("expires_at"), "{kept}");
    let again = create(&["search-page", "--role", "owner"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("there are read, write and admin"), "{again:?}");
    let again = create(&["search-page"]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("two keys are named"), "{again:?}");
    let open = kindred(dir.path(), &["serve", "--listen", "0.0.0.0:0"]);
    assert!(!open.status.success() && String::from_utf8_lossy(&open.stderr).contains("kindred keys create"), "{open:?}");
}
