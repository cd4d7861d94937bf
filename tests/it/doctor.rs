//! What tells of a machine, of settings and of the command line: the real binary, in a folder of its own.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use kindred::config::{Settings, Sources};
use kindred_encoder::assets;
use serde_json::{Value, json};

use crate::app::{TestApp, jobs, models, with_poor_int8};
use crate::bulk::{kindred, says};

fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// Runs the binary without the fetched model.
fn bare(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kindred")).current_dir(dir).args(args).output().unwrap()
}

/// Looks around, at a port that is free.
fn doctor(dir: &Path, more: &[&str]) -> (i32, Value) {
    let port: &[&str] = if more.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
    let output = kindred(dir, &[&["doctor", "--json"][..], port, more].concat());
    (output.status.code().unwrap(), parsed(&output))
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn the_doctor_finds_a_machine_well() {
    let dir = tempfile::tempdir().unwrap();
    let (code, report) = doctor(dir.path(), &[]);
    assert_eq!((code, &report["ok"]), (0, &json!(true)), "{report}");
    for (name, word) in [
        ("processor", "core"),
        ("clock", "20"),
        ("runtime", "onnxruntime"),
        ("model", "all-MiniLM-L6-v2: 384 dims"),
        ("int8", "cosine to fp32 0.99"),
        ("device", "CPU"),
        ("embedding", "ms"),
        ("data folder", "is not there yet"),
        ("collections", "none yet"),
        ("port", "is free"),
    ] {
        let check = check(&report, name);
        assert!(check["found"].as_str().unwrap().contains(word) && check["status"] != "fail", "{name}: {check}");
    }
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "it changes nothing");
    // And in words.
    let told = kindred(dir.path(), &["doctor", "--set", "http.listen=127.0.0.1:0"]);
    says(&told, 0, &["ok    model", "ok    port"]);
    assert!(!told.stdout.contains(&0x1b), "no colour where there is no terminal");
}

#[test]
fn the_doctor_warns_of_poor_int8() {
    let (dir, model_dir, library) = (tempfile::tempdir().unwrap(), with_poor_int8(), assets::ensure_library(&models()).unwrap());
    let (model_dir, library) = (model_dir.path().to_str().unwrap(), format!("encoder.ort_library={:?}", library.display().to_string()));
    let output = bare(dir.path(), &["doctor", "--json", "--model-dir", model_dir, "--set", &library, "--set", "http.listen=127.0.0.1:0"]);
    let report = parsed(&output);
    let int8 = check(&report, "int8");
    assert_eq!((output.status.code(), &int8["status"]), (Some(0), &json!("warn")), "{report}");
    let found = int8["found"].as_str().unwrap();
    assert!(found.contains("model.int8.onnx is not used") && found.contains("encoder.precision"), "{int8}");
    assert!(check(&report, "model")["found"].as_str().unwrap().contains("queries in fp32, documents in fp32"), "{report}");
}

#[test]
fn the_doctor_says_what_to_mend() {
    let dir = tempfile::tempdir().unwrap();
    let (code, report) = doctor(dir.path(), &["--set", "encoder.ort_library=none.so"]);
    let library = check(&report, "runtime");
    assert_eq!((code, &report["ok"], &library["status"]), (1, &json!(false), &json!("fail")));
    assert!(library["found"].as_str().unwrap().contains("kindred fetch"), "{library}");

    let flags = ["doctor", "--json", "--model-dir", "nowhere", "--set", "http.listen=127.0.0.1:0", "--set", "kafka.brokers=localhost:1"];
    let output = bare(dir.path(), &flags);
    let (code, report) = (output.status.code().unwrap(), parsed(&output));
    let model = check(&report, "model");
    assert_eq!((code, &model["status"]), (1, &json!("fail")));
    assert!(model["found"].as_str().unwrap().contains("kindred model import"), "{model}");
    assert_eq!(check(&report, "kafka")["status"], if cfg!(feature = "kafka") { "ok" } else { "fail" });

    // Somebody else has the port.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let flag = format!("http.listen={}", taken.local_addr().unwrap());
    let answers = std::thread::spawn(move || drop(taken.accept()));
    let output = kindred(dir.path(), &["doctor", "--json", "--set", &flag]);
    answers.join().unwrap();
    let report = parsed(&output);
    let port = check(&report, "port");
    assert_eq!((output.status.code(), &port["status"]), (Some(1), &json!("fail")), "{port}");
    assert!(port["advice"].as_str().unwrap().contains("--listen"), "{port}");

    // Others may come, and nothing asks who they are; files that are not what they should be.
    let (code, report) = doctor(dir.path(), &["--listen", "0.0.0.0:0"]);
    assert_eq!(code, 1);
    assert!(check(&report, "keys")["found"].as_str().unwrap().contains("kindred keys create"), "{report}");
    fs::write(dir.path().join("cert.pem"), "nothing").unwrap();
    let flags = ["--set", "http.tls_certificate=cert.pem", "--set", "http.tls_key=key.pem", "--set", "auth.keys_file=keys.toml"];
    let (_, report) = doctor(dir.path(), &flags);
    assert!(check(&report, "tls")["found"].as_str().unwrap().contains("cert.pem holds no PEM"), "{report}");
    assert!(check(&report, "keys")["found"].as_str().unwrap().contains("keys.toml"), "{report}");

    let (_, report) = doctor(dir.path(), &["--set", "encoder.device=cuda:0"]);
    assert!(report["checks"].as_array().unwrap().iter().any(|c| c["status"] == "fail" && c["found"].as_str().unwrap().contains("CUDA")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_may_come_while_a_server_runs_and_sees_damage() {
    let app = TestApp::start().await;
    app.put("/v1/collections/jobs/documents", jobs()).await.ok();
    let (data, address) = (app.dir.path().to_owned(), app.address.clone());
    let look = move || {
        let dir = tempfile::tempdir().unwrap();
        let flags = [format!("http.listen={address}"), format!("storage.data_dir={:?}", data.display().to_string())];
        let output = kindred(dir.path(), &["doctor", "--json", "--set", &flags[0], "--set", &flags[1]]);
        (output.status.code(), parsed(&output))
    };
    let (code, report) = tokio::task::spawn_blocking(look.clone()).await.unwrap();
    assert_eq!(code, Some(0), "{report}");
    let port = check(&report, "port")["found"].as_str().unwrap();
    assert!(port.contains("a server is running (process "), "{port}");
    assert!(check(&report, "data folder")["found"].as_str().unwrap().contains("in use by process"), "{report}");
    assert!(check(&report, "collections")["found"].as_str().unwrap().contains("jobs: 5 documents, 5 changes"), "{report}");

    let dir = app.stop().await;
    let description = dir.path().join("jobs/collection.json");
    fs::write(&description, "{").unwrap();
    let (code, report) = tokio::task::spawn_blocking(look).await.unwrap();
    let collections = check(&report, "collections");
    assert_eq!((code, &collections["status"]), (Some(1), &json!("fail")), "{report}");
    assert!(collections["found"].as_str().unwrap().contains("jobs is damaged"), "{collections}");
    assert!(collections["advice"].as_str().unwrap().contains("collection.json"), "{collections}");
}

#[test]
fn settings_are_printed_with_where_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = "[storage]\ndata_dir = \"x\"\n[kafka.properties]\n\"sasl.password\" = \"hush\"\n[collections.jobs.fields]\nlogo = { type = \"keyword\" }\n";
    fs::write(dir.path().join("kindred.toml"), file).unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
        command
            .current_dir(dir.path())
            .env("KINDRED__SEARCH__CANDIDATES", "77")
            .args(["config", "check", "--set", "log.level=warn"])
            .args(more);
        command.output().unwrap()
    };
    let told = run(&[]);
    says(&told, 0, &["[storage]", "\"sasl.password\" = \"(not shown)\"", "[collections.jobs.fields]"]);
    let told = String::from_utf8(told.stdout).unwrap();
    for (line, origin) in [
        ("data_dir = \"x\"", "kindred.toml"),
        ("candidates = 77", "KINDRED__SEARCH__CANDIDATES"),
        ("level = \"warn\"", "flag"),
        ("ef_search = 200", "default"),
        ("logo = { type = \"keyword\" }", "kindred.toml"),
        ("title = { type = \"text\" }", "default"),
    ] {
        assert!(told.lines().any(|l| l.starts_with(line) && l.ends_with(&format!("# {origin}"))), "{line} # {origin} is not in:\n{told}");
    }
    assert!(!told.contains("hush"), "{told}");
    // What is printed is what counts: read as a file, it gives the same settings.
    let printed = dir.path().join("printed.toml");
    fs::write(&printed, &told).unwrap();
    let settings = |file: &Path, environment: &[(&str, &str)], flags: &[&str]| {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let flags = flags.iter().map(ToString::to_string).collect();
        let mut settings = Settings::load(&Sources { file: Some(file), environment, flags }).unwrap();
        settings.kafka.properties.clear();
        serde_json::to_value(settings).unwrap()
    };
    let original = settings(&dir.path().join("kindred.toml"), &[("KINDRED__SEARCH__CANDIDATES", "77")], &["log.level=warn"]);
    assert_eq!(settings(&printed, &[], &[]), original);

    let told = parsed(&run(&["--json"]));
    let of =
        |key: &str| told["settings"].as_array().unwrap().iter().find(|s| s["key"] == key).unwrap_or_else(|| panic!("no {key}")).clone();
    assert_eq!(of("search.candidates"), json!({"key": "search.candidates", "value": 77, "origin": "KINDRED__SEARCH__CANDIDATES"}));
    assert_eq!(of("kafka.properties.\"sasl.password\"")["value"], "(not shown)");
    assert_eq!(of("encoder.max_tokens")["value"], 0, "a number is no secret");
    says(&run(&["--set", "search.candidates=0"]), 1, &["search.candidates must be at least 1"]);
}

#[test]
fn shells_and_man_know_every_command() {
    let dir = tempfile::tempdir().unwrap();
    // Neither looks at settings.
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_kindred")).current_dir(dir.path()).env("KINDRED__NONE", "1").args(args).output().unwrap()
    };
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]);
        says(&script, 0, &["kindred", "doctor", "data-dir"]);
        let path = dir.path().join(shell);
        fs::write(&path, &script.stdout).unwrap();
        // The others are tried where they are.
        match Command::new(shell).arg("-n").arg(&path).output() {
            Ok(checked) => assert!(checked.status.success(), "{shell}: {checked:?}"),
            Err(e) => assert!(shell != "bash", "{e}"),
        }
    }
    says(&run(&["completions", "tcl"]), 2, &["bash"]);

    says(&run(&["man"]), 0, &[".TH kindred 1", "doctor", "Exit codes"]);
    let pages = dir.path().join("man1");
    says(&run(&["man", "--to", pages.to_str().unwrap()]), 0, &[]);
    for page in ["kindred.1", "kindred-serve.1", "kindred-snapshot-restore.1", "kindred-config-check.1"] {
        let path = pages.join(page);
        assert!(fs::read_to_string(&path).unwrap().contains(".SH SYNOPSIS"), "{page}");
        // `man` says what it does not like; where there is none, nobody does.
        if let Ok(read) = Command::new("man").args(["--warnings", "-l"]).arg(&path).env("MANROFFSEQ", "").output()
            && read.status.success()
        {
            assert!(read.stderr.is_empty(), "{page}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
}

/// Whatever prints a result can print it for programs, too.
#[test]
fn results_are_there_as_json() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("jobs.jsonl"), jobs().as_array().unwrap().iter().map(|job| format!("{job}\n")).collect::<String>()).unwrap();
    let ingested = parsed(&kindred(dir.path(), &["ingest", "jobs", "jobs.jsonl", "--json"]));
    assert_eq!((&ingested["n_created"], &ingested["n_encoded"], &ingested["seqno"]), (&json!(5), &json!(5), &json!(5)), "{ingested}");
    let rebuilt = parsed(&kindred(dir.path(), &["rebuild", "jobs", "--json", "--min-recall", "0.5"]));
    assert_eq!(
        (&rebuilt["generation"], &rebuilt["n_documents"], &rebuilt["recall@10"]),
        (&json!("000002"), &json!(5), &json!(1.0)),
        "{rebuilt}"
    );
    // Every command that prints results says so in its help.
    let leaves = [
        "fetch",
        "doctor",
        "config check",
        "ingest",
        "search",
        "rebuild",
        "evaluate",
        "train rescore",
        "train adapter",
        "inspect",
        "snapshot create",
        "snapshot restore",
        "snapshot verify",
        "snapshot list",
        "model import",
    ];
    for command in leaves {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        says(&kindred(dir.path(), &words), 0, &["--json"]);
    }
}
