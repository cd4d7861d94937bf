//! One damaged collection, among others and at each of its files.

use super::*;
use kindred_core::storage;

fn opened(data_dir: &Path) -> Result<Collections, CollectionError> {
    let identify: IdentifyModel = Arc::new(|_, _| Ok(description("one").model));
    Collections::open(data_dir, BTreeMap::new(), identify, OpenOptions { access: Access::Serve, ..options(Durability::Sync) })
}

/// Two collections with a document each, in a generation and since. The first has two generations.
fn two_collections(data_dir: &Path) {
    let collections = opened(data_dir).unwrap();
    for collection in ["jobs", "members"].map(|name| CollectionName::new(name).unwrap()) {
        collections.put(&collection, &description("one").definition).unwrap();
        let collection = collections.get(&collection).unwrap();
        for id in ["a", "b"] {
            apply(&collection, vec![upsert("one", id, &json!({"title": id}), Precondition::None)]).unwrap();
            rebuild(&collection, "one").unwrap();
        }
        apply(&collection, vec![upsert("one", "c", &json!({"title": "c"}), Precondition::None)]).unwrap();
    }
}

fn ids(collections: &Collections, name: &str) -> Result<Vec<String>, CollectionError> {
    let searcher = collections.get(&CollectionName::new(name).unwrap())?.searcher();
    Ok(state(&searcher).into_keys().collect())
}

/// Every file of a folder and of those below it.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_collection_with_any_file_damaged_or_missing_keeps_no_other_from_being_served() {
    let sound = tempfile::tempdir().unwrap();
    two_collections(sound.path());
    let names: Vec<PathBuf> =
        files(&sound.path().join("jobs")).iter().map(|path| path.strip_prefix(sound.path()).unwrap().to_owned()).collect();
    let (mut n_served, mut n_damaged) = (0, 0);
    for name in &names {
        for is_missing in [true, false] {
            // Nothing says that the log went on in a file that does not exist.
            if is_missing && name.starts_with("jobs/wal") {
                continue;
            }
            let copy = tempfile::tempdir().unwrap();
            for path in files(sound.path()) {
                let to = copy.path().join(path.strip_prefix(sound.path()).unwrap());
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(&path, to).unwrap();
            }
            let damaged = copy.path().join(name);
            if is_missing {
                std::fs::remove_file(&damaged).unwrap();
            } else {
                std::fs::write(&damaged, "not what it was ".repeat(20)).unwrap();
            }
            let case = format!("{} {}", name.display(), if is_missing { "missing" } else { "damaged" });
            let collections = opened(copy.path()).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(ids(&collections, "members").unwrap(), ["a", "b", "c"], "{case}");
            match ids(&collections, "jobs") {
                // Another generation, or another file, has the same documents. Without its description, the folder is no collection.
                Ok(ids) => {
                    assert_eq!(ids, ["a", "b", "c"], "{case}");
                    n_served += 1;
                }
                Err(CollectionError::Unknown { .. }) => assert!(is_missing && name.ends_with(manifest::DESCRIPTION_FILE), "{case}"),
                Err(e @ CollectionError::Damaged { .. }) => {
                    assert_eq!(e.kind(), ErrorKind::Unavailable, "{case}");
                    let [(name, reason)] = &collections.damaged()[..] else { panic!("{case}: one is damaged") };
                    assert_eq!(name.as_str(), "jobs", "{case}");
                    assert!(e.to_string().contains(&reason.to_string()), "{case}: {e}");
                    assert!(collections.put(name, &description("one").definition).is_err(), "{case}: it is still there");
                    n_damaged += 1;
                }
                Err(e) => panic!("{case}: {e}"),
            }
        }
    }
    assert!(n_served > 8 && n_damaged > 2, "{n_served} served by the previous generation, {n_damaged} damaged");
}

#[test]
fn a_damaged_collection_can_be_deleted_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    two_collections(dir.path());
    for path in files(&dir.path().join("jobs/generations")) {
        std::fs::write(path, "").unwrap();
    }
    let collections = opened(dir.path()).unwrap();
    let jobs = CollectionName::new("jobs").unwrap();
    assert!(matches!(collections.get(&jobs), Err(CollectionError::Damaged { .. })));
    collections.delete(&jobs).unwrap();
    assert!(collections.put(&jobs, &description("one").definition).unwrap());
    assert!(collections.damaged().is_empty() && ids(&collections, "jobs").unwrap().is_empty());
}

#[test]
fn a_model_that_does_not_fit_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    two_collections(dir.path());
    let identify: IdentifyModel = Arc::new(|_, _| Ok(description("two").model));
    let error =
        Collections::open(dir.path(), BTreeMap::new(), identify, OpenOptions { access: Access::Serve, ..options(Durability::Sync) });
    assert!(matches!(error, Err(CollectionError::OtherModel { .. })), "{error:?}");
}

#[test]
fn the_log_is_not_trimmed_when_a_generation_cannot_be_read_for_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let collection = create_and_open(dir.path(), Durability::Sync).unwrap();
    let put = |id: &str| apply(&collection, vec![upsert("one", id, &json!({"title": id}), Precondition::None)]).unwrap();
    put("a");
    rebuild(&collection, "one").unwrap();
    put("b");
    let before = collection.searcher().generation();
    let manifest = generation::folder(dir.path(), before).join(manifest::MANIFEST_FILE);
    let bytes = std::fs::read(&manifest).unwrap();
    // Reading a folder as a file fails, but not as damage does.
    std::fs::remove_file(&manifest).unwrap();
    std::fs::create_dir(&manifest).unwrap();
    rebuild(&collection, "one").unwrap();
    std::fs::remove_dir(&manifest).unwrap();
    std::fs::write(&manifest, bytes).unwrap();
    activate(&collection, before).unwrap();
    assert_eq!(state(&collection.searcher()).into_keys().collect::<Vec<_>>(), ["a", "b"], "the log still has what the first one lacks");
    assert!(storage::list_dir(&dir.path().join(WAL)).unwrap().len() > 1);
}

#[test]
fn a_handle_of_a_deleted_collection_changes_nothing_in_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    two_collections(dir.path());
    let collections = opened(dir.path()).unwrap();
    let jobs = CollectionName::new("jobs").unwrap();
    let stale = collections.get(&jobs).unwrap();
    let profile = || serde_json::value::to_raw_value(&json!({})).unwrap();
    collections.delete(&jobs).unwrap();
    collections.put(&jobs, &description("one").definition).unwrap();
    let successor = collections.get(&jobs).unwrap();
    apply(&successor, vec![upsert("one", "new", &json!({"title": "new"}), Precondition::None)]).unwrap();
    rebuild(&successor, "one").unwrap();
    successor.put_profile(&jobs, profile()).unwrap();
    let pinned = stale.searcher();
    let first = pinned.generation();
    assert!(apply(&stale, vec![delete("new")]).is_err());
    assert!(stale.put_profile(&CollectionName::new("other").unwrap(), profile()).is_err());
    assert!(stale.delete_profile(&jobs).is_err());
    assert!(stale.discard(GenerationId(1)).is_err());
    assert!(activate(&stale, first).is_err());
    assert!(stale.build(&pinned.contents().unwrap(), &pinned, &params(), &Progress::hidden()).is_err());
    assert!(stale.pin_files().is_err());
    drop((stale, successor, collections));
    let collections = opened(dir.path()).unwrap();
    assert_eq!(ids(&collections, "jobs").unwrap(), ["new"]);
    assert_eq!(collections.get(&jobs).unwrap().profiles().keys().collect::<Vec<_>>(), ["jobs"]);
}
