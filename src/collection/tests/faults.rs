//! A scripted life, with a disk that fails at any step, and with a crash after any step that leaves any of the pictures of
//! `storage/twin.rs`: what opens afterwards is what was acknowledged, at most with the change that was under way.

use super::*;
use kindred_core::storage::twin::{Crash, Failure, Step, Twin, leave};

type State = BTreeMap<String, String>;

/// One step of the life, and what it makes of the documents.
enum Act {
    Apply(Vec<Change>),
    Rebuild(&'static str),
    RollBack,
}

fn titled(id: usize, version: usize) -> (String, Json) {
    let kind = ["a", "b"][id % 2];
    (format!("d{id}"), json!({"title": format!("document {id}, version {version}"), "kind": kind}))
}

/// Writes, rotations, a rebuild, a rebuild with another model, writes for that, a rollback to the first model, writes, a rebuild.
fn life() -> Vec<Act> {
    let put = |model: &str, ids: std::ops::Range<usize>, version| {
        let change = |id| {
            let (id, fields) = titled(id, version);
            upsert(model, &id, &fields, Precondition::None)
        };
        Act::Apply(ids.map(change).collect())
    };
    vec![
        put("one", 0..3, 1),
        put("one", 3..6, 1),
        put("one", 2..4, 2),
        Act::Apply(vec![delete("d0"), delete("none")]),
        put("one", 6..9, 1),
        Act::Rebuild("one"),
        put("one", 1..3, 3),
        Act::Apply(vec![delete("d4")]),
        Act::Rebuild("two"),
        put("two", 0..2, 4),
        Act::Apply(vec![delete("d5")]),
        Act::RollBack,
        put("one", 7..10, 5),
        Act::Rebuild("one"),
        put("one", 0..1, 6),
    ]
}

fn act(collection: &Collection, act: Act) -> Result<(), CollectionError> {
    match act {
        Act::Apply(changes) => apply(collection, changes).map(drop),
        Act::Rebuild(model) => rebuild(collection, model),
        Act::RollBack => activate(collection, collection.previous()?),
    }
}

/// What the documents are after an act.
fn after(before: &State, act: &Act) -> State {
    let mut state = before.clone();
    if let Act::Apply(changes) = act {
        for change in changes {
            match change {
                Change::Upsert { id, document, .. } => drop(state.insert(id.to_string(), document.fields.clone())),
                Change::Delete { id, .. } | Change::Expire { id, .. } => drop(state.remove(id.as_str())),
            }
        }
    }
    state
}

/// Lives the life on a sound disk. Returns the steps of the disk, and after how many of them each state was acknowledged.
fn recorded(dir: &Path) -> (Vec<Step>, Vec<(usize, State)>) {
    let twin = Twin::watch(dir);
    let collection = create_and_open(&dir.join("jobs"), Durability::Sync).unwrap();
    let mut states = vec![(twin.n_steps(), State::new())];
    for next in life() {
        let expected = after(&states.last().unwrap().1, &next);
        act(&collection, next).unwrap();
        assert_eq!(state(&collection.searcher()), expected);
        states.push((twin.n_steps(), expected));
    }
    drop(collection);
    (twin.steps(), states)
}

fn reopened(dir: &Path) -> Result<Collection, CollectionError> {
    Collection::open(&name(), dir, &description("one"), &options(Durability::Sync))
}

#[test]
fn after_a_crash_at_any_step_there_is_what_was_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let (steps, states) = recorded(root.path());
    assert!(steps.len() > 200, "a life has {} steps", steps.len());
    let mut n_images = 0;
    for n in 0..=steps.len() {
        let acknowledged = states.iter().rposition(|(at, _)| *at <= n);
        for crash in Crash::ALL {
            let left = tempfile::tempdir().unwrap();
            leave(&steps, n, crash, root.path(), left.path());
            let dir = left.path().join("jobs");
            let case = format!("{crash:?} after step {n}: {:?}", n.checked_sub(1).map(|last| brief(&steps[last])));
            n_images += 1;
            let Some(acknowledged) = acknowledged else {
                // Being created: it is there or not.
                if dir.join(manifest::DESCRIPTION_FILE).exists() {
                    assert_eq!(state(&reopened(&dir).unwrap_or_else(|e| panic!("{case}: {e}")).searcher()), State::new(), "{case}");
                }
                continue;
            };
            let collection = reopened(&dir).unwrap_or_else(|e| panic!("{case}: {e}"));
            let found = state(&collection.searcher());
            let possible: Vec<&State> = states[acknowledged..].iter().take(2).map(|(_, state)| state).collect();
            assert!(possible.contains(&&found), "{case}: {found:?} is none of {possible:?}");
            // It goes on from there, and what it takes on is there the next time.
            if n % 7 == 0 {
                let (id, fields) = titled(99, 1);
                let model = collection.searcher().description().model.name.clone();
                apply(&collection, vec![upsert(&model, &id, &fields, Precondition::None)]).unwrap();
                rebuild(&collection, "one").unwrap();
                drop(collection);
                let mut expected = found;
                expected.insert(id, fields.to_string());
                assert_eq!(state(&reopened(&dir).unwrap().searcher()), expected, "{case}");
            }
        }
    }
    println!("{n_images} images of {} steps", steps.len());
}

#[test]
fn a_disk_that_fails_at_any_step_loses_nothing_and_adds_nothing() {
    let sound = tempfile::tempdir().unwrap();
    let n_steps = recorded(sound.path()).0.len();
    for failure in [Failure::Refuse(std::io::ErrorKind::StorageFull), Failure::Short(std::io::ErrorKind::Other)] {
        for n in 0..n_steps {
            let root = tempfile::tempdir().unwrap();
            let twin = Twin::watch(root.path());
            twin.fail_at(n, failure);
            let dir = root.path().join("jobs");
            let case = format!("{failure:?} at step {n}");
            let Ok(collection) = create_and_open(&dir, Durability::Sync) else { continue };
            let mut acknowledged = State::new();
            let mut possible = vec![];
            for next in life() {
                // A life that went another way: what follows may be of the wrong model.
                let model_is = collection.searcher().description().model.name.clone();
                if let Act::Apply(changes) = &next
                    && let Some(Change::Upsert { document, .. }) = changes.first()
                    && document.embedding != embed(&model_is, &title(&document.fields))
                {
                    continue;
                }
                let expected = after(&acknowledged, &next);
                match act(&collection, next) {
                    Ok(()) => acknowledged = expected,
                    Err(e) => {
                        if twin.n_steps() > n && possible.is_empty() && failure == Failure::Refuse(std::io::ErrorKind::StorageFull) {
                            assert!(matches!(e.kind(), ErrorKind::Full | ErrorKind::Conflict | ErrorKind::Unavailable), "{case}: {e}");
                        }
                        // A failed sync leaves it open what is on the disk.
                        possible.push(expected);
                    }
                }
                assert_eq!(state(&collection.searcher()), acknowledged, "{case}");
            }
            drop(collection);
            possible.push(acknowledged);
            drop(twin);
            let found = state(&reopened(&dir).unwrap_or_else(|e| panic!("{case}: {e}")).searcher());
            assert!(possible.contains(&found), "{case}: {found:?} is none of {possible:?}");
        }
    }
}

/// A write every 20 ms for a second, each alone: the log is synced all the same, ten times or more.
#[test]
fn asynchronous_writes_are_synced_while_others_keep_coming() {
    let root = tempfile::tempdir().unwrap();
    let twin = Twin::watch(root.path());
    let collection = create_and_open(&root.path().join("jobs"), Durability::Async).unwrap();
    let n_syncs =
        || twin.steps().iter().filter(|step| matches!(step, Step::Sync(path) if path.extension().is_some_and(|e| e == "log"))).count();
    let before = n_syncs();
    let (mut n_unsynced, mut most_unsynced, mut last) = (0, 0, before);
    for n in 0..50 {
        let (id, fields) = titled(n, 1);
        apply(&collection, vec![upsert("one", &id, &fields, Precondition::None)]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        n_unsynced = if n_syncs() == last { n_unsynced + 1 } else { 0 };
        most_unsynced = most_unsynced.max(n_unsynced);
        last = n_syncs();
    }
    // Of 50 writes over a second or more, no run of them is left alone for long, however busy the machine is.
    assert!(last - before >= 5, "{} syncs", last - before);
    assert!(most_unsynced < 25, "{most_unsynced} writes in a row without a sync");
}

#[test]
fn a_log_that_could_not_be_made_durable_is_known_as_poisoned() {
    let root = tempfile::tempdir().unwrap();
    let twin = Twin::watch(root.path());
    let collection = create_and_open(&root.path().join("jobs"), Durability::Sync).unwrap();
    let put = |id| {
        let (id, fields) = titled(id, 1);
        apply(&collection, vec![upsert("one", &id, &fields, Precondition::None)])
    };
    // The writer answers before it lets go of the log.
    let is_poisoned = || std::iter::repeat_with(|| collection.is_poisoned()).flatten().next().unwrap();
    put(0).unwrap();
    assert!(!is_poisoned());
    let before = twin.n_steps();
    put(1).unwrap();
    let sync = twin.steps()[before..].iter().position(|step| matches!(step, Step::Sync(_))).unwrap();
    twin.fail_at(twin.n_steps() + sync, Failure::Refuse(std::io::ErrorKind::Other));
    put(2).unwrap_err();
    assert!(is_poisoned());
    put(3).unwrap_err();
    assert!(is_poisoned(), "until a restart");
}

fn brief(step: &Step) -> String {
    match step {
        Step::Write(path, at, bytes) => format!("write {} bytes at {at} of {}", bytes.len(), path.display()),
        other => format!("{other:?}"),
    }
}
