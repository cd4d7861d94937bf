//! Snapshots in memory and in folders, of files that stand for collections.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::transfer::{PART_BYTES, object_path, sha256};
use super::*;
use kindred_core::Cancel;

/// A collection's folder with a large file, an empty one, and a log that has grown since.
fn source(dir: &Path, name: &str) -> SnapshotSource {
    let folder = dir.join(name);
    fs::create_dir_all(folder.join("generations/000001")).unwrap();
    fs::create_dir_all(folder.join("wal")).unwrap();
    let large: Vec<u8> = (0..2 * PART_BYTES + 5).map(|i| (i / 7) as u8).collect();
    fs::write(folder.join("generations/000001/vectors.bin"), large).unwrap();
    fs::write(folder.join("generations/000001/empty.bin"), "").unwrap();
    fs::write(folder.join("wal/00000000000000000001.log"), "durable, not durable yet").unwrap();
    let file = |name: &str, len| SourceFile { name: name.to_owned(), contents: Contents::File { path: folder.join(name), len } };
    SnapshotSource {
        collection: CollectionName::new(name).unwrap(),
        generation: Some("000001".to_owned()),
        covered_seqno: SeqNo(3),
        last_seqno: SeqNo(4),
        model: Model { name: "minilm".to_owned(), fingerprint: "abc".to_owned(), dims: 4 },
        files: vec![
            file("generations/000001/vectors.bin", 2 * PART_BYTES as u64 + 5),
            file("generations/000001/empty.bin", 0),
            file("wal/00000000000000000001.log", 7),
            SourceFile { name: "CURRENT".to_owned(), contents: Contents::Bytes(b"000001\n".to_vec()) },
        ],
    }
}

fn quietly(_: &str, _: u64) -> Progress {
    Progress::hidden()
}

/// Every file below a folder, but for the lock.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "LOCK" {
                found.insert(path.strip_prefix(dir).unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What each kind of place has in common is tried with each.
fn places(dir: &TempDir) -> [Place; 2] {
    [Place::in_memory(), Place::create(&dir.path().join("place").display().to_string(), &dir.path().join("data")).unwrap()]
}

#[tokio::test]
async fn what_is_created_is_restored_and_only_what_is_new_is_uploaded() {
    let dir = tempfile::tempdir().unwrap();
    for place in places(&dir) {
        let work = tempfile::tempdir().unwrap();
        let jobs = source(work.path(), "jobs");
        let first = create(&place, std::slice::from_ref(&jobs), &quietly).await.unwrap();
        assert_eq!((first.n_files, first.n_uploaded, first.uploaded_bytes), (4, 4, first.size_bytes));
        // The log has grown; the collection beside it has the same generation.
        let mut grown = jobs.clone();
        grown.files[2].contents = Contents::File { path: work.path().join("jobs/wal/00000000000000000001.log"), len: 24 };
        let members = source(work.path(), "members");
        let second = create(&place, &[grown, members], &quietly).await.unwrap();
        assert_eq!((second.n_files, second.n_uploaded, second.uploaded_bytes), (8, 1, 24));
        assert!(second.id > first.id);
        let listed = list(&place).await.unwrap();
        assert_eq!(listed.iter().map(|l| l.id.as_str()).collect::<Vec<_>>(), [&first.id, &second.id]);
        assert_eq!(listed[1].manifest.as_ref().unwrap().collections[1].model.name, "minilm");

        let data = tempfile::tempdir().unwrap();
        let restored = restore(&place, Some(&first.id), &[], data.path(), &quietly).await.unwrap();
        assert_eq!((restored.id.as_str(), restored.collections[0].last_seqno), (first.id.as_str(), SeqNo(4)));
        let found = files(data.path());
        assert_eq!(found.len(), 4);
        assert_eq!(found["jobs/wal/00000000000000000001.log"], b"durable", "no more than was durable");
        assert_eq!(found["jobs/CURRENT"], b"000001\n");
        assert_eq!(
            found["jobs/generations/000001/vectors.bin"],
            fs::read(work.path().join("jobs/generations/000001/vectors.bin")).unwrap()
        );

        let refused = restore(&place, None, &[], data.path(), &quietly).await.unwrap_err();
        assert!(matches!(&refused, SnapshotError::Exists { name, .. } if name == "jobs"), "{refused}");
        let members = [CollectionName::new("members").unwrap()];
        restore(&place, None, &members, data.path(), &quietly).await.unwrap();
        assert_eq!(files(data.path()).len(), 8);
        let verified = verify(&place, None, true, &quietly).await.unwrap();
        assert_eq!((verified.snapshots.len(), verified.n_objects, verified.problems), (2, 5, vec![]));
    }
}

#[tokio::test]
async fn damage_is_found_and_not_restored() {
    let (dir, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [_, place] = places(&dir);
    let created = create(&place, &[source(work.path(), "jobs")], &quietly).await.unwrap();
    let digest = sha256(&fs::read(work.path().join("jobs/generations/000001/vectors.bin")).unwrap());
    let object = dir.path().join("place").join(object_path(&digest));
    let whole = fs::read(&object).unwrap();
    let mut flipped = whole.clone();
    flipped[PART_BYTES + 1] ^= 1;
    for (bytes, is_missing) in [(Some(&flipped[..]), false), (Some(&whole[1..]), false), (None, true)] {
        match bytes {
            Some(bytes) => fs::write(&object, bytes).unwrap(),
            None => fs::remove_file(&object).unwrap(),
        }
        let problems = verify(&place, None, false, &quietly).await.unwrap().problems;
        let files = vec![format!("{}/jobs/generations/000001/vectors.bin", created.id)];
        assert_eq!(problems, [Problem { object: digest.clone(), is_missing, files }]);
        let data = tempfile::tempdir().unwrap();
        let refused = restore(&place, None, &[], data.path(), &quietly).await.unwrap_err();
        assert!(refused.to_string().contains("jobs/generations/000001/vectors.bin is "), "{refused}");
        assert!(files_are_none(data.path()), "nothing of it stays");
        // The next snapshot mends what is missing or has another length; what only looks sound is for `verify` to find.
        if bytes.is_none_or(|bytes| bytes.len() != whole.len()) {
            assert_eq!(create(&place, &[source(work.path(), "jobs")], &quietly).await.unwrap().n_uploaded, 1);
            assert_eq!(verify(&place, Some(&created.id), false, &quietly).await.unwrap().problems, []);
            fs::remove_file(dir.path().join(format!("place/snapshots/{}.json", list(&place).await.unwrap()[1].id))).unwrap();
        }
    }
    let manifest = dir.path().join(format!("place/snapshots/{}.json", created.id));
    fs::write(&manifest, "{").unwrap();
    assert!(list(&place).await.unwrap()[0].manifest.as_ref().unwrap_err().contains("damaged"));
    assert!(matches!(verify(&place, None, false, &quietly).await, Err(SnapshotError::Damaged { .. })));
}

fn files_are_none(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().all(|entry| entry.unwrap().file_name() == "LOCK")
}

/// Cancelled at any moment, there is either no snapshot or a whole one, and no collection or a whole one.
#[tokio::test]
async fn what_is_cancelled_leaves_nothing_half() {
    let work = tempfile::tempdir().unwrap();
    let sources = [source(work.path(), "jobs"), source(work.path(), "members")];
    let cancelling = |after: u64| {
        let (cancel, seen) = (Cancel::default(), std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0)));
        move |_: &str, _: u64| {
            let (handle, seen) = (cancel.clone(), std::sync::Arc::clone(&seen));
            let look = move |_| {
                if seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == after {
                    handle.cancel();
                }
            };
            Progress::watched(look).cancelled_by(&cancel)
        }
    };
    let mut n_cancelled = 0;
    for after in 1..30 {
        let place = Place::in_memory();
        match create(&place, &sources, &cancelling(after)).await {
            Ok(_) => assert_eq!(verify(&place, None, true, &quietly).await.unwrap().problems, []),
            Err(e) => {
                assert!(matches!(e, SnapshotError::Cancelled { .. }), "{e}");
                assert_eq!(list(&place).await.unwrap(), []);
                assert!(matches!(restore(&place, None, &[], work.path(), &quietly).await, Err(SnapshotError::None { .. })));
                n_cancelled += 1;
            }
        }
    }
    assert!((5..29).contains(&n_cancelled), "{n_cancelled}");
    let place = Place::in_memory();
    create(&place, &sources, &quietly).await.unwrap();
    for after in 1..12 {
        let data = tempfile::tempdir().unwrap();
        if restore(&place, None, &[], data.path(), &cancelling(after)).await.is_err() {
            assert!(files_are_none(data.path()));
        } else {
            assert_eq!(files(data.path()).len(), 8);
        }
    }
}

#[tokio::test]
async fn a_restore_after_a_killed_one_begins_anew() {
    let (work, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = Place::in_memory();
    create(&place, &[source(work.path(), "jobs")], &quietly).await.unwrap();
    fs::create_dir_all(data.path().join("jobs.restoring/wal")).unwrap();
    fs::write(data.path().join("jobs.restoring/wal/half.log"), "x").unwrap();
    restore(&place, None, &[], data.path(), &quietly).await.unwrap();
    assert_eq!(files(data.path()).len(), 4, "and nothing of the killed one is left");
    let unknown = restore(&place, Some("2020"), &[], data.path(), &quietly).await.unwrap_err();
    assert!(matches!(unknown, SnapshotError::Unknown { .. }));
    let cats = [CollectionName::new("cats").unwrap()];
    assert!(restore(&place, None, &cats, data.path(), &quietly).await.unwrap_err().to_string().contains("it has jobs"));
}

#[tokio::test]
async fn a_file_that_shrinks_is_noticed() {
    let work = tempfile::tempdir().unwrap();
    let jobs = source(work.path(), "jobs");
    fs::write(work.path().join("jobs/wal/00000000000000000001.log"), "dur").unwrap();
    let place = Place::in_memory();
    let refused = create(&place, &[jobs], &quietly).await.unwrap_err();
    assert!(matches!(refused, SnapshotError::Changed { .. }), "{refused}");
    assert_eq!(list(&place).await.unwrap(), []);
}

/// With a real server: `KINDRED_TEST_S3=s3://bucket/prefix` and the `AWS_*` variables that reach it.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_keeps_snapshots_too() {
    let Ok(name) = std::env::var("KINDRED_TEST_S3") else { return };
    let work = tempfile::tempdir().unwrap();
    let place = Place::create(&format!("{name}/{}", std::process::id()), Path::new("index_data")).unwrap();
    assert!(matches!(verify(&place, None, false, &quietly).await, Err(SnapshotError::None { .. })));
    let sources = [source(work.path(), "jobs"), source(work.path(), "members")];
    let first = create(&place, &sources, &quietly).await.unwrap();
    assert_eq!((first.n_files, first.n_uploaded), (8, 4), "each content once");
    assert_eq!(create(&place, &sources, &quietly).await.unwrap().n_uploaded, 0);
    assert!(!place.put_new(&super::create::path_of(&first.id), vec![]).await.unwrap(), "a manifest is never replaced");
    let verified = verify(&place, None, true, &quietly).await.unwrap();
    assert_eq!((verified.snapshots.len(), verified.problems), (2, vec![]));
    let data = tempfile::tempdir().unwrap();
    restore(&place, Some(&first.id), &[], data.path(), &quietly).await.unwrap();
    assert_eq!(files(data.path()).len(), 8);
}
