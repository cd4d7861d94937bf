//! The benchmarks as people start them: `kindred bench …`, with the real model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kindred_encoder::assets;
use serde_json::{Value, json};

/// The `kindred` that was built with this test's `kindred-bench`.
fn server() -> PathBuf {
    let server = Path::new(env!("CARGO_BIN_EXE_kindred-bench")).with_file_name("kindred");
    assert!(server.is_file(), "there is no {}: run `cargo test` for all crates, or `cargo build` first", server.display());
    server
}

/// The folder of the fetched model.
fn model() -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    assets::ensure(&models).expect("the model can be fetched");
    models.join(assets::MODEL_NAME)
}

fn kindred(dir: &Path, args: &[&str]) -> Output {
    Command::new(server()).current_dir(dir).args(args).arg("--model-dir").arg(model()).output().unwrap()
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_benchmark_has_help_and_json() {
    for name in ["ann", "filters", "encoder", "crash", "freshness", "restart"] {
        let help = ok(&Command::new(server()).args(["bench", name, "--help"]).output().unwrap());
        assert!(help.contains("--json") && help.contains(&format!("kindred bench {name}")), "{help}");
    }
    let help = ok(&Command::new(server()).args(["bench", "--help"]).output().unwrap());
    assert!(help.contains("freshness"), "{help}");
}

#[test]
fn settings_before_and_after_the_word_bench_reach_it() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["--set", "no.such=1", "bench", "ann", "--base", "x"][..], &["bench", "ann", "--base", "x", "--set", "no.such=1"]] {
        let output = kindred(dir.path(), args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("unknown field `no`"), "{output:?}");
    }
    let wrong = kindred(dir.path(), &["bench", "nothing"]);
    assert_eq!(wrong.status.code(), Some(2), "its exit code is passed on: {wrong:?}");
}

/// A copy of the server alone, as a package installs it.
#[test]
#[cfg(unix)]
fn a_server_without_the_benchmarks_says_how_to_get_them() {
    let dir = tempfile::tempdir().unwrap();
    let alone = dir.path().join("kindred");
    fs::copy(server(), &alone).unwrap();
    let output = Command::new(&alone).args(["bench", "ann"]).env("PATH", "").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cargo install --path crates/kindred-bench"), "{output:?}");
}

#[test]
fn bench_ann_measures_files_and_collections() {
    let dir = tempfile::tempdir().unwrap();
    // Rows that a simple generator (that of Numerical Recipes) makes; the last four become queries.
    let (n_rows, dims, mut state) = (400, 8i32, 1u32);
    let mut file = Vec::new();
    for _ in 0..n_rows {
        file.extend(dims.to_le_bytes());
        for _ in 0..dims {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            file.extend(((state >> 8) as f32 / (1 << 23) as f32 - 1.0).to_le_bytes());
        }
    }
    fs::write(dir.path().join("base.fvecs"), file).unwrap();
    // As exact as they are given: f16 would change the order of some.
    let set = ["--set", "index.quantization=f32"];
    let args =
        ["bench", "ann", "--base", "base.fvecs", "--index", "built", "--ef", "10,396", "--rounds", "1", "--json", "-", set[0], set[1]];
    let measure = |more: &[&str]| -> Value { serde_json::from_str(&ok(&kindred(dir.path(), &[&args, more].concat()))).unwrap() };
    let first = measure(&["--write-ground-truth", "gt.ivecs", "--svg", "plot.svg", "--threads", "2"]);
    assert_eq!((&first["n_rows"], &first["n_queries"], &first["is_reused"]), (&json!(396), &json!(4), &json!(false)), "{first}");
    let widest = &first["rows"][1];
    assert_eq!((&widest["ef_search"], &widest["recall"], &widest["recall_at"]["1"]), (&json!(396), &json!(1.0), &json!(1.0)), "{first}");
    assert!(widest["qps"].as_f64().unwrap() > 0.0 && first["file_bytes"].as_u64().unwrap() > 396 * 8 * 4, "{first}");
    assert!(fs::read_to_string(dir.path().join("plot.svg")).unwrap().contains("recall@10"));
    let again = measure(&["--ground-truth", "gt.ivecs"]);
    assert_eq!((&again["is_reused"], &again["build_s"], &again["rows"][1]["recall"]), (&json!(true), &first["build_s"], &json!(1.0)));
    let other = kindred(dir.path(), &[&args[..], &["--max-connections", "4"]].concat());
    assert!(String::from_utf8_lossy(&other.stderr).contains("built with"), "{other:?}");
    let narrow = kindred(dir.path(), &[&args[..], &["--k", "20"]].concat());
    assert!(String::from_utf8_lossy(&narrow.stderr).contains("--ef 10 is below --k 20"), "{narrow:?}");

    let jobs = ["make desserts", "fly planes", "mend pipes", "teach maths", "write software"];
    let lines: Vec<String> = jobs.iter().enumerate().map(|(i, title)| json!({"id": i.to_string(), "title": title}).to_string()).collect();
    fs::write(dir.path().join("jobs.jsonl"), lines.join("\n")).unwrap();
    ok(&kindred(dir.path(), &["ingest", "jobs", "jobs.jsonl"]));
    let table = ok(&kindred(dir.path(), &["bench", "ann", "--collection", "jobs", "--k", "2"]));
    assert!(table.contains("jobs: 4 × 384, 1 queries") && table.contains("recall@2"), "{table}");
}

fn bench_crash(folder: &Path, args: &[&str]) -> (Output, Value) {
    let mut command = Command::new(server());
    command.args(["bench", "crash", "--json", "-", "--folder"]).arg(folder).args(args);
    let output = command.arg("--model-dir").arg(model()).output().unwrap();
    let result = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output, result)
}

#[test]
fn nothing_acknowledged_is_lost_however_often_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (output, result) = bench_crash(dir.path(), &["--cycles", "25", "--seed", "4"]);
    assert!(output.status.success(), "{output:?}");
    for count in ["lost", "phantom", "duplicate", "torn", "wrong_answers", "refused_opens"] {
        assert_eq!(result[count], 0, "{count}: {result}");
    }
    assert_eq!(result["cycles"], 25);
    assert!(result["acknowledged_writes"].as_u64().unwrap() > 1_000, "{result}");
}

/// The test above says something only if it would notice: here the newest log loses its end before every start.
#[test]
#[cfg(unix)]
fn a_server_that_forgets_is_found_out() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let (folder, forgetful) = (dir.path().join("run"), dir.path().join("forgetful"));
    let script = format!(
        "#!/bin/sh\nfor log in $(ls {0}/data/crash/wal/*.log 2>/dev/null | tail -n 1); do\n  truncate -s -60000 \"$log\"\ndone\nexec {1} \"$@\"\n",
        folder.display(),
        server().display()
    );
    fs::write(&forgetful, script).unwrap();
    fs::set_permissions(&forgetful, fs::Permissions::from_mode(0o755)).unwrap();
    let args = ["--cycles", "5", "--seed", "1", "--rotate-log-bytes", "1000000000", "--binary", forgetful.to_str().unwrap()];
    let (output, result) = bench_crash(&folder, &args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(result["lost"].as_u64().unwrap() > 0, "{result}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--seed 1") && folder.join("before-restart").exists(), "{output:?}");
}
