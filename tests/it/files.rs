//! Files that are not what was written: a clear error that names file and reason, never a panic, never a wrong answer.

use std::fs;
use std::path::{Path, PathBuf};

use kindred::collection::Access;
use kindred::domain::CollectionName;
use kindred::telemetry::Progress;
use tempfile::TempDir;

use crate::app::{jobs, members, open, settings};

/// A folder with both collections built, and the folder of the jobs' generation.
async fn built() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let app = open(&settings(dir.path(), &[]), Access::Serve).unwrap();
    for (name, documents) in [("jobs", jobs()), ("members", members())] {
        let name = CollectionName::new(name).unwrap();
        app.write.put(&name, documents.as_array().unwrap().iter().cloned().map(Ok).collect(), &Progress::hidden()).await.unwrap();
        app.rebuild.rebuild(&name, &|_, _| Progress::hidden()).unwrap();
    }
    let generation = dir.path().join("jobs/generations/000001");
    (dir, generation)
}

#[track_caller]
fn refused(dir: &Path, file: &str, what: &str) -> String {
    let error = open(&settings(dir, &[]), Access::Serve).expect_err(what).to_string();
    assert!(error.contains(file), "{what}: {error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_named() {
    let (dir, generation) = built().await;
    let files = ["manifest.bin", "graph.bin", "vectors.bin", "attributes.bin", "ids.bin", "documents.bin"];
    for file in files {
        let path = generation.join(file);
        let whole = fs::read(&path).unwrap();
        for (at, what) in [
            (3, "the mark"),
            (13, "the version"),
            (17, "the length"),
            (30, "the header's checksum"),
            (40, "the table"),
            (whole.len() - 1, "the contents"),
        ] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x01;
            fs::write(&path, damaged).unwrap();
            refused(dir.path(), file, &format!("{file}: {what} flipped"));
        }
        for len in [0, 5, 100, whole.len() - 1] {
            fs::write(&path, &whole[..len]).unwrap();
            refused(dir.path(), file, &format!("{file} cut to {len}"));
        }
        fs::write(&path, [whole.as_slice(), b"more"].concat()).unwrap();
        refused(dir.path(), file, &format!("{file} grown"));
        fs::write(&path, b"{\"this is\": \"another file\"}, and long enough to have a header").unwrap();
        refused(dir.path(), file, &format!("{file} foreign"));
        fs::remove_file(&path).unwrap();
        refused(dir.path(), file, &format!("{file} missing"));
        // A sound file of another collection is not this one's.
        fs::copy(dir.path().join("members/generations/000001").join(file), &path).unwrap();
        refused(dir.path(), if file == "manifest.bin" { "generations" } else { file }, &format!("{file} of another collection"));
        fs::write(&path, &whole).unwrap();
    }
    open(&settings(dir.path(), &[]), Access::Serve).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_unfinished_generations_are_told_apart() {
    let (dir, generation) = built().await;
    // What a rebuild left behind when the process ended is no generation.
    let unfinished = generation.with_file_name("000002.unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("graph.bin"), b"half").unwrap();
    let app = open(&settings(dir.path(), &[]), Access::Serve).unwrap();
    let name = CollectionName::new("jobs").unwrap();
    app.rebuild.rebuild(&name, &|_, _| Progress::hidden()).unwrap();
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
    let name = CollectionName::new("jobs").unwrap();
    let put = async |app: &kindred::app::App, documents: &[serde_json::Value]| {
        app.write.put(&name, documents.iter().cloned().map(Ok).collect(), &Progress::hidden()).await.unwrap();
    };
    let jobs = jobs();
    let (first, second) = jobs.as_array().unwrap().split_at(3);
    let app = open(&settings, Access::Serve).unwrap();
    put(&app, first).await;
    let log = fs::read_dir(dir.path().join("jobs/wal")).unwrap().next().unwrap().unwrap().path();
    let acknowledged = fs::read(&log).unwrap();
    put(&app, second).await;
    drop(app);
    // The second batch was being written when the process ended.
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    let app = open(&settings, Access::Serve).unwrap();
    assert_eq!(app.catalog.get(&name).unwrap().n_documents, 3);
    drop(app);
    // Damage inside what was acknowledged is not passed over.
    let mut damaged = acknowledged.clone();
    damaged[60] ^= 0xff;
    damaged.extend(&whole[acknowledged.len()..]);
    fs::write(&log, damaged).unwrap();
    let error = refused(dir.path(), ".log", "damage in the middle of the log");
    assert!(error.contains("at byte 24"), "{error}");
}
