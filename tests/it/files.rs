//! Files that are not what was written: a clear error that names file and reason, never a panic, never a wrong answer.

use std::fs;
use std::path::{Path, PathBuf};

use kindred::app::App;
use kindred::collection::Access;
use kindred::pipeline::{Item, Outcome, PipelineError, Query, QueryRequest, RebuildRequest, WriteReport, WriteRequest};
use kindred_core::Progress;
use kindred_core::domain::{CollectionName, DocumentId};
use kindred_core::error::ErrorKind;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::{jobs, members, open, request, settings};

const FILES: [&str; 6] = ["manifest.bin", "graph.bin", "vectors.bin", "attributes.bin", "ids.bin", "documents.bin"];
/// Where the first section of a file begins.
const CONTENTS: usize = 320;

fn name(of: &str) -> CollectionName {
    CollectionName::new(of).unwrap()
}

async fn put(app: &App, collection: &str, documents: &Value) -> Result<WriteReport, PipelineError> {
    app.write.write(&name(collection), WriteRequest::put(documents.as_array().unwrap().iter().cloned().map(Ok)), &Progress::hidden()).await
}

/// A folder with both collections built, and the folder of the jobs' generation.
async fn built() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let app = open(&settings(dir.path(), &[]), Access::Serve).unwrap();
    for (collection, documents) in [("jobs", jobs()), ("members", members())] {
        put(&app, collection, &documents).await.unwrap();
        app.rebuild.rebuild(&name(collection), &RebuildRequest::default(), &|_, _| Progress::hidden()).unwrap();
    }
    let generation = dir.path().join("jobs/generations/000001");
    (dir, generation)
}

/// Writes a file anew: an old map of it stays what it was.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Flips a bit of a file. Returns its bytes before.
fn flip(path: &Path, at: usize) -> Vec<u8> {
    let whole = fs::read(path).unwrap();
    let mut damaged = whole.clone();
    damaged[at] ^= 0x01;
    replace(path, &damaged);
    whole
}

#[track_caller]
fn refused(dir: &Path, file: &str, what: &str) -> String {
    let app = open(&settings(dir, &[]), Access::Serve).expect("the others are served");
    let [damaged] = &app.catalog.damaged()[..] else { panic!("{what}: one collection is damaged") };
    let error = app.catalog.get(&name(&damaged.name)).expect_err(what).to_string();
    assert!(error.contains(file), "{what}: {error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_named() {
    let (dir, generation) = built().await;
    for file in FILES {
        let path = generation.join(file);
        let whole = fs::read(&path).unwrap();
        for (at, what) in [
            (3, "the mark"),
            (13, "the version"),
            (17, "the length"),
            (30, "the checksum of the checksums"),
            (40, "the table"),
            (290, "the header's checksum"),
            (whole.len() - 1, "a checksum"),
        ] {
            flip(&path, at);
            refused(dir.path(), file, &format!("{file}: {what} flipped"));
            replace(&path, &whole);
        }
        for len in [0, 5, 100, whole.len() - 1] {
            replace(&path, &whole[..len]);
            refused(dir.path(), file, &format!("{file} cut to {len}"));
        }
        replace(&path, &[whole.as_slice(), b"more"].concat());
        refused(dir.path(), file, &format!("{file} grown"));
        replace(&path, b"{\"this is\": \"another file\"}, and long enough to have a header");
        refused(dir.path(), file, &format!("{file} foreign"));
        fs::remove_file(&path).unwrap();
        refused(dir.path(), file, &format!("{file} missing"));
        // A sound file of another collection is not this one's.
        fs::copy(dir.path().join("members/generations/000001").join(file), &path).unwrap();
        refused(dir.path(), if file == "manifest.bin" { "generations" } else { file }, &format!("{file} of another collection"));
        replace(&path, &whole);
    }
    open(&settings(dir.path(), &[]), Access::Serve).unwrap();
}

/// What there is to be asked of the jobs: every document, and searches that use every file.
async fn answers(app: &App) -> Vec<Result<Value, PipelineError>> {
    let mut answers = Vec::new();
    for id in ["nurse", "welder", "rust", "teacher", "chef", "none"] {
        let document = app.catalog.document(&name("jobs"), &DocumentId::new(id).unwrap());
        answers.push(document.map(|document| json!([document.id, document.fields])));
    }
    for filter in [
        None,
        Some(json!({"must": [{"key": "skills", "match": {"any": ["SQL", "baking"]}}]})),
        Some(
            json!({"must_not": [{"key": "skills", "match": {"except": ["Rust"]}}], "must": [{"key": "remote", "match": {"value": true}}]}),
        ),
        Some(json!({"must": [{"key": "salary.min", "range": {"gte": 40_000}}]})),
        Some(json!({"must": [{"key": "location", "geo_radius": {"center": {"lat": 48.8, "lon": 2.3}, "radius": 50_000}}]})),
    ] {
        let query = Query::Document { collection: name("members"), id: DocumentId::new("m-nurse").unwrap() };
        let answer = app.query.search(QueryRequest { filter, ..request(name("jobs"), query) });
        // Scores depend on the time of day.
        let hits = answer.await.map(|answer| answer.hits.into_iter().map(|hit| json!([hit.id, hit.retrieval_score, hit.fields])).collect());
        answers.push(hits);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_anywhere_makes_no_wrong_answer() {
    let (dir, generation) = built().await;
    let settings = settings(dir.path(), &[]);
    let sound = answers(&open(&settings, Access::Read).unwrap()).await;
    assert_eq!(sound.iter().filter(|answer| answer.is_ok()).count(), sound.len() - 1, "all but the document that is not there: {sound:?}");
    for file in FILES {
        let path = generation.join(file);
        let step = fs::metadata(&path).unwrap().len() as usize / 40 + 1;
        for at in (0..fs::metadata(&path).unwrap().len() as usize).step_by(step) {
            let whole = flip(&path, at);
            let app = open(&settings, Access::Read).unwrap();
            match app.catalog.get(&name("jobs")) {
                Err(e) => assert!(e.to_string().contains(file), "{file}, byte {at}: {e}"),
                Ok(_) => {
                    let error = app.catalog.verify(&name("jobs")).expect_err("all bytes are looked at");
                    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains(file), "{file}, byte {at}: {error}");
                    for (answer, right) in answers(&app).await.iter().zip(&sound) {
                        match (answer, right) {
                            (Err(e), _) if e.kind() == ErrorKind::Corrupt => {
                                assert!(e.to_string().contains(file), "{file}, byte {at}: {e}")
                            }
                            (Ok(answer), Ok(right)) => assert_eq!(answer, right, "{file}, byte {at}"),
                            (Err(PipelineError::UnknownDocument { .. }), Err(_)) => {}
                            _ => panic!("{file}, byte {at}: {answer:?} instead of {right:?}"),
                        }
                    }
                }
            }
            replace(&path, &whole);
        }
    }
    open(&settings, Access::Read).unwrap().catalog.verify(&name("jobs")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_beside_ids_that_cannot_be_read() {
    let (dir, generation) = built().await;
    let settings = settings(dir.path(), &[]);
    let path = generation.join("ids.bin");
    let whole = flip(&path, CONTENTS);
    let app = open(&settings, Access::Serve).unwrap();
    let refuse = |error: PipelineError| {
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("ids.bin"), "{error}");
    };
    refuse(put(&app, "jobs", &jobs()).await.unwrap_err());
    refuse(put(&app, "jobs", &json!([{"id": "new", "title": "New"}])).await.unwrap_err());
    let delete = WriteRequest { items: vec![Ok(Item::Delete(DocumentId::new("chef").unwrap()))], ..WriteRequest::default() };
    refuse(app.write.write(&name("jobs"), delete, &Progress::hidden()).await.unwrap_err());
    refuse(app.rebuild.rebuild(&name("jobs"), &RebuildRequest::default(), &|_, _| Progress::hidden()).unwrap_err());
    drop(app);
    replace(&path, &whole);
    let app = open(&settings, Access::Serve).unwrap();
    assert_eq!((app.catalog.get(&name("jobs")).unwrap().n_documents, app.catalog.get(&name("jobs")).unwrap().n_changes), (5, 0));
    let again = put(&app, "jobs", &jobs()).await.unwrap();
    assert!(again.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Unchanged(..))), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_cannot_be_read_can_be_sent_again() {
    let (dir, generation) = built().await;
    let app_settings = settings(dir.path(), &[]);
    flip(&generation.join("documents.bin"), CONTENTS);
    let app = open(&app_settings, Access::Serve).unwrap();
    let error = app.rebuild.rebuild(&name("jobs"), &RebuildRequest::default(), &|_, _| Progress::hidden()).unwrap_err();
    assert!(error.to_string().contains("documents.bin"), "{error}");
    let mut changed = jobs();
    changed.as_array_mut().unwrap().iter_mut().for_each(|job| job["company"] = json!("Elsewhere"));
    put(&app, "jobs", &changed).await.unwrap();
    assert_eq!(app.catalog.get(&name("jobs")).unwrap().n_documents, 5);
    assert!(answers(&app).await.iter().all(|answer| !matches!(answer, Err(e) if e.kind() == ErrorKind::Corrupt)));
    app.rebuild.rebuild(&name("jobs"), &RebuildRequest::default(), &|_, _| Progress::hidden()).unwrap();
    app.catalog.verify(&name("jobs")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_unfinished_generations_are_told_apart() {
    let (dir, generation) = built().await;
    // What a rebuild left behind when the process ended is no generation.
    let unfinished = generation.with_file_name("000002.unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("graph.bin"), b"half").unwrap();
    let app = open(&settings(dir.path(), &[]), Access::Serve).unwrap();
    app.rebuild.rebuild(&name("jobs"), &RebuildRequest::default(), &|_, _| Progress::hidden()).unwrap();
    assert!(!unfinished.exists());
    drop(app);
    let current = dir.path().join("jobs/CURRENT");
    fs::write(&current, "seven").unwrap();
    refused(dir.path(), "CURRENT", "a CURRENT that is no number");
    fs::write(&current, "7").unwrap();
    refused(dir.path(), "000007", "a CURRENT that names nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_log_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &[]);
    let jobs = jobs();
    let (first, second) = jobs.as_array().unwrap().split_at(3);
    let (first, second) = (Value::from(first), Value::from(second));
    let app = open(&settings, Access::Serve).unwrap();
    put(&app, "jobs", &first).await.unwrap();
    let log = fs::read_dir(dir.path().join("jobs/wal")).unwrap().next().unwrap().unwrap().path();
    let acknowledged = fs::read(&log).unwrap();
    put(&app, "jobs", &second).await.unwrap();
    drop(app);
    // The second batch was being written when the process ended.
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    let app = open(&settings, Access::Serve).unwrap();
    assert_eq!(app.catalog.get(&name("jobs")).unwrap().n_documents, 3);
    drop(app);
    // Damage inside what was acknowledged is not passed over.
    let mut damaged = acknowledged.clone();
    damaged[100] ^= 0xff;
    damaged.extend(&whole[acknowledged.len()..]);
    fs::write(&log, damaged).unwrap();
    let error = refused(dir.path(), ".log", "damage in the middle of the log");
    assert!(error.contains("at byte 80"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_generation_is_replaced_by_the_one_before() {
    let (dir, generation) = built().await;
    let settings = settings(dir.path(), &[]);
    let app = open(&settings, Access::Serve).unwrap();
    put(&app, "jobs", &json!([{"id": "vet", "title": "Veterinarian"}])).await.unwrap();
    app.rebuild.rebuild(&name("jobs"), &RebuildRequest::default(), &|_, _| Progress::hidden()).unwrap();
    put(&app, "jobs", &json!([{"id": "clerk", "title": "Clerk"}])).await.unwrap();
    drop(app);
    fs::remove_dir_all(generation.with_file_name("000002")).unwrap();
    let app = open(&settings, Access::Serve).unwrap();
    let info = app.catalog.get(&name("jobs")).unwrap();
    assert_eq!((info.n_documents, info.generation.as_str()), (7, "000001"), "with all changes since");
    app.rebuild.rebuild(&name("jobs"), &RebuildRequest::default(), &|_, _| Progress::hidden()).unwrap();
    assert_eq!(app.catalog.get(&name("jobs")).unwrap().generation, "000003");
    drop(app);
    // With nothing to fall back on, the error says which it is.
    fs::remove_dir_all(dir.path().join("members/generations/000001")).unwrap();
    let error = refused(dir.path(), "000001", "a generation deleted by hand");
    assert!(error.contains("deleted"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_current_one_is_told_what_to_write() {
    let (dir, _) = built().await;
    let settings = settings(dir.path(), &[]);
    let app = open(&settings, Access::Serve).unwrap();
    app.rebuild.rebuild(&name("jobs"), &RebuildRequest::default(), &|_, _| Progress::hidden()).unwrap();
    put(&app, "jobs", &json!([{"id": "vet", "title": "Veterinarian"}])).await.unwrap();
    app.rebuild.rebuild(&name("jobs"), &RebuildRequest::default(), &|_, _| Progress::hidden()).unwrap();
    drop(app);
    let current = dir.path().join("jobs/CURRENT");
    fs::remove_file(&current).unwrap();
    let error = refused(dir.path(), "CURRENT", "no CURRENT");
    assert!(error.contains("000003"), "{error}");
    fs::write(&current, "000003\n").unwrap();
    assert_eq!(open(&settings, Access::Serve).unwrap().catalog.get(&name("jobs")).unwrap().n_documents, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_a_killed_process_held_for_copying_are_let_go() {
    let (dir, generation) = built().await;
    let held = dir.path().join("jobs/pinned-0");
    fs::create_dir(&held).unwrap();
    fs::hard_link(generation.join("graph.bin"), held.join("0")).unwrap();
    open(&settings(dir.path(), &[]), Access::Read).unwrap();
    assert!(held.exists(), "a reader changes nothing");
    let app = open(&settings(dir.path(), &[]), Access::Serve).unwrap();
    assert!(!held.exists());
    app.catalog.verify(&name("jobs")).unwrap();
}
