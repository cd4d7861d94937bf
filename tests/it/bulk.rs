//! BULK LOAD: files of all kinds through the real binary, in a folder of its own.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kindred::app::App;
use kindred::collection::Access;
use kindred::ingest::{Ingest, IngestError, IngestReport, Options, Source};
use kindred_core::Cancel;
use kindred_core::domain::CollectionName;
use kindred_encoder::assets;
use serde_json::{Value, json};

use crate::app::{models, open, settings};

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
    command.current_dir(dir).env_remove("KINDRED__STORAGE__DATA_DIR").args(args);
    command.arg("--model-dir").arg(models().join(assets::MODEL_NAME));
    command
}

pub fn kindred(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

/// Runs the binary with something on its standard input.
pub fn piped(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = command(dir, args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What refuses its input may be gone before it has read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[track_caller]
pub fn says(output: &Output, code: i32, words: &[&str]) {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} is not in: {said}"));
}

/// The best hit of a search, with a filter.
pub fn best(dir: &Path, text: &str, filter: Value) -> Value {
    let output = kindred(dir, &["search", "jobs", text, "--json", "--limit", "1", "--filter", &filter.to_string()]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["hits"][0].clone()
}

const CSV: &str = "\
id,title,description,skills,remote,salary.min,location,location.city,posted_at,team
nurse,\"Nurse, nights\",\"Watch over patients
on the ward\",triage|patient care,no,42000,\"52.52,13.405\",Berlin,2026-11-01,
welder,Welder,Join steel,,no,much,,,,
short,row
chef,Pastry chef,\"Bake \"\"croissants\"\"\",baking,yes,30000.5,,Paris,2026-11-20T08:00:00Z,night
";

#[test]
fn csv_is_typed_by_the_schema_and_bad_rows_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("jobs.csv"), CSV).unwrap();
    let output = kindred(dir.path(), &["ingest", "jobs", "jobs.csv", "--refused", "refused.jsonl"]);
    says(&output, 3, &["2 created", "2 refused; 2 texts embedded", "jobs: "]);
    let refused: Vec<Value> =
        fs::read_to_string(dir.path().join("refused.jsonl")).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&refused[0]["line"], &refused[0]["id"], &refused[0]["field"]), (&json!(4), &json!("welder"), &json!("salary.min")));
    assert_eq!((&refused[1]["line"], &refused[1]["id"], &refused[1]["field"]), (&json!(5), &json!(null), &json!(null)));
    assert!(refused[1]["error"].as_str().unwrap().contains("2 values, but the first row names 10 columns"), "{refused:?}");
    assert_eq!(refused.len(), 2);

    let nurse = best(dir.path(), "hospital", json!({"must": [{"key": "skills", "match": {"value": "patient care"}}]}));
    assert_eq!(nurse["id"], "nurse");
    let near = json!({"must": [{"key": "location", "geo_radius": {"center": {"lat": 52.4, "lon": 13.1}, "radius": 50000}}, {"key": "salary.min", "range": {"gte": 42000}}, {"key": "remote", "match": {"value": false}}]});
    let nurse = best(dir.path(), "work", near);
    assert_eq!(nurse["fields"]["location"], json!({"lat": 52.52, "lon": 13.405, "city": "Berlin"}));
    assert_eq!(nurse["fields"]["description"], "Watch over patients\non the ward");
    let chef = best(dir.path(), "work", json!({"must": [{"key": "posted_at", "range": {"gte": "2026-11-15"}}]}));
    assert_eq!(
        (&chef["id"], &chef["fields"]["salary"]["min"], &chef["fields"]["team"]),
        (&json!("chef"), &json!(30000.5), &json!("night"))
    );
}

#[test]
fn a_table_without_ids_says_which_columns_it_has() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("empty.csv"), "title,city\nx,y\n").unwrap();
    says(&kindred(dir.path(), &["ingest", "jobs", "empty.csv"]), 1, &["cannot read empty.csv", "no column \"id\""]);
}

#[test]
fn standard_input_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let lines = b"{\"id\": 1, \"title\": \"Nurse\"}\n{\"id\": 1, \"title\": \"Welder\"}\noops\n{\"id\": 2, \"title\": \"Chef\"}";
    says(&piped(dir.path(), &["ingest", "jobs"], lines), 3, &["-:3: ", "2 created, 1 updated, 0 unchanged, 1 refused"]);
    let rows = b"id;title\n1;Welder\n3;Florist\n";
    says(&piped(dir.path(), &["ingest", "jobs", "-", "--format", "csv"], rows), 0, &["1 created, 0 updated, 1 unchanged, 0 refused"]);
}

/// A file of 3,000 documents that bring their embeddings, with one bad line.
fn write_lines(path: &Path) {
    let line = |i: usize| {
        let mut embedding = vec![0; 384];
        embedding[i % 384] = 1;
        if i == 1_500 { "{oops".to_owned() } else { json!({"id": i, "title": format!("Job {i}"), "embedding": embedding}).to_string() }
    };
    fs::write(path, (1..=3_000).map(|i| line(i) + "\n").collect::<String>()).unwrap();
}

/// Ingests a file in this process. Returns the line at which it began, if not the first.
async fn ingest(app: &App, file: &Path, refused: &Path, from_start: bool) -> Result<(Option<u64>, IngestReport), IngestError> {
    ingest_until(&Cancel::default(), app, file, &Options { refused: Some(refused), from_start }).await
}

async fn ingest_until(cancel: &Cancel, app: &App, file: &Path, options: &Options<'_>) -> Result<(Option<u64>, IngestReport), IngestError> {
    let name = CollectionName::new("jobs").unwrap();
    let schema = app.catalog.get(&name).unwrap().definition.check().unwrap().1;
    let ingest = Ingest::open(&app.write, &name, &schema, Source::file(file, None)?, options)?;
    let resumed_at = ingest.resumed_at();
    Ok((resumed_at, ingest.run(cancel).await?))
}

/// What was written before a cancel is not taken again.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_is_gone_on_with_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jobs.jsonl");
    write_lines(&file);
    let app = open(&settings(dir.path(), &[]), Access::Serve).unwrap();
    let (cancel, all) = (Cancel::default(), Options::default());
    let run = async {
        let cancelled = ingest_until(&cancel, &app, &file, &all).await.unwrap_err();
        assert!(cancelled.to_string().starts_with("cancelled"), "{cancelled}");
    };
    let name = CollectionName::new("jobs").unwrap();
    let after_a_batch = async {
        while app.catalog.searcher(&name).unwrap().n_documents() == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    tokio::join!(run, after_a_batch);
    let n_written = app.catalog.searcher(&name).unwrap().n_documents();
    let (resumed_at, rest) = ingest_until(&Cancel::default(), &app, &file, &all).await.unwrap();
    let n_refused_before = u64::from(n_written > 1_500);
    assert_eq!((resumed_at, rest.n_unchanged), (Some(n_written + n_refused_before + 1), 0));
    assert_eq!(n_written + rest.n_created as u64, 2_999);
}

/// The report cannot be written: the run ends in the middle, after the batch of the bad line.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &[]);
    let (file, report) = (dir.path().join("jobs.jsonl"), dir.path().join("refused.jsonl"));
    write_lines(&file);
    let app = open(&settings, Access::Serve).unwrap();
    let broken = ingest(&app, &file, Path::new("/dev/full"), false).await.unwrap_err();
    assert!(matches!(broken, IngestError::Report { .. }), "{broken}");
    drop(app);

    let app = open(&settings, Access::Serve).unwrap();
    let (resumed_at, rest) = ingest(&app, &file, &report, false).await.unwrap();
    assert_eq!(resumed_at, Some(1_025), "what was written and not reported is taken again");
    assert_eq!((rest.n_unchanged, rest.n_created, rest.n_refused, rest.n_encoded), (1_023, 952, 1, 0));
    let told: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!((&told["line"], told["error"].as_str().unwrap().contains("JSON")), (&json!(1_500), true));

    // Done: the next run takes the whole file, and so does one of a file that has changed half-way.
    let (resumed_at, again) = ingest(&app, &file, &report, false).await.unwrap();
    assert_eq!((resumed_at, again.n_unchanged, again.n_refused), (None, 2_999, 1));
    ingest(&app, &file, Path::new("/dev/full"), false).await.unwrap_err();
    assert_eq!(ingest(&app, &file, &report, true).await.unwrap().0, None, "as it was asked for");
    ingest(&app, &file, Path::new("/dev/full"), false).await.unwrap_err();
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"id\": 3001, \"title\": \"New\"}\n").unwrap();
    let (resumed_at, changed) = ingest(&app, &file, &report, false).await.unwrap();
    assert_eq!((resumed_at, changed.n_unchanged, changed.n_created), (None, 2_999, 1));
}
