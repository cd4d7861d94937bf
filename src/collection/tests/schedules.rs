//! Random schedules of everything that may happen to a collection at the same time: writes, deletions by filter, expiry, rebuilds with
//! other models and definitions, rollbacks. Each actor is a sequence of steps, and what happens within a step happens under a lock, so
//! that every order of steps is one that threads can produce. In half of the schedules, some step of the disk fails.
//!
//! `KINDRED_SCHEDULES` and `KINDRED_SCHEDULE_SEED` choose how many are tried, and which come first.

use super::super::activation::Activation;
use super::*;
use kindred_core::domain::{Filter, SeqNo};
use kindred_core::storage::twin::{Failure, Twin};

const SCHEDULES: u64 = 200;
const STEPS: usize = 60;
const IDS: usize = 6;
const KINDS: [&str; 2] = ["a", "b"];
const NOW_US: i64 = 1_800_000_000_000_000;

type State = BTreeMap<String, Json>;

/// A collection in one of four epochs. The second definition has a field that sorts before all others, so that it moves their ids.
fn described(model: &str, has_area: bool) -> Description {
    let mut described = description(model);
    if has_area {
        let area = serde_json::from_value(json!({"type": "keyword", "index": true})).unwrap();
        described.definition.fields.insert("area".to_owned(), area);
    }
    described
}

/// What each document should be in a searcher, by its description.
fn check(searcher: &Searcher, expected: &[State], case: &str) {
    let contents = searcher.contents().unwrap();
    let meaning = searcher.meaning();
    let model = &contents.description.model.name;
    let mut vectors = contents.vectors.as_slice();
    let mut found = State::new();
    for (row, id) in contents.ids.iter().enumerate() {
        let fields: Json = serde_json::from_str(&contents.fields[row]).unwrap();
        let document =
            Document::from_fields(id.clone(), fields.as_object().unwrap().clone(), &meaning.schema, &meaning.template, 1_000).unwrap();
        assert_eq!(contents.attributes[row], document.attributes, "{case}: attributes of {id} are of another definition");
        let (chunks, rest) = vectors.split_at(contents.n_chunks[row] as usize * DIMS);
        vectors = rest;
        let embedding = embed(model, &document.text);
        let is_close = chunks.len() == embedding.len() && chunks.iter().zip(&embedding).all(|(a, b)| (a - b).abs() < 2e-3);
        assert!(is_close, "{case}: the embedding of {id} is not of model {model}");
        assert!(found.insert(id.to_string(), fields).is_none(), "{case}: {id} is there twice");
    }
    assert!(expected.contains(&found), "{case}: {found:?} is none of {expected:?}");
}

/// An actor between two of its steps.
enum Actor<'a> {
    /// Has checked a document in a searcher.
    Write {
        searcher: Arc<Searcher>,
        fields: Json,
        change: Change,
    },
    /// Has found the documents that match a filter, or that have expired.
    Delete {
        searcher: Arc<Searcher>,
        changes: Vec<Change>,
        found: Vec<String>,
    },
    /// Has gathered all documents.
    Build {
        searcher: Arc<Searcher>,
        description: Description,
    },
    Activate(Activation<'a>),
}

struct Schedule<'a> {
    collection: &'a Collection,
    choice: Choice,
    actors: Vec<Actor<'a>>,
    /// The documents as they are, and as they may be after a write that failed without a clear outcome.
    possible: Vec<State>,
    n_versions: usize,
    case: String,
    /// How often each thing happened, so that the test knows that it tests something.
    n_refused: usize,
    n_activated: usize,
    n_not_yet: usize,
}

impl<'a> Schedule<'a> {
    fn run(&mut self) {
        for _ in 0..STEPS {
            if self.actors.is_empty() || (self.actors.len() < 4 && self.choice.chance(40)) {
                self.begin();
            } else {
                let next = self.choice.below(self.actors.len());
                let actor = self.actors.swap_remove(next);
                self.step(actor);
            }
            check(&self.collection.searcher(), &self.possible, &self.case);
        }
    }

    fn begin(&mut self) {
        let searcher = self.collection.searcher();
        let is_activating = self.actors.iter().any(|actor| matches!(actor, Actor::Activate(_) | Actor::Build { .. }));
        match self.choice.below(10) {
            0..5 => self.begin_write(searcher),
            5 => self.begin_delete_by_filter(searcher),
            6 => self.begin_expire(searcher),
            7 if !is_activating => {
                let Ok(previous) = self.collection.previous() else { return };
                if let Ok(activation) = Activation::prepare(self.collection, previous) {
                    self.actors.push(Actor::Activate(activation));
                }
            }
            _ if !is_activating => {
                let description = described(["one", "two"][self.choice.below(2)], self.choice.chance(50));
                self.actors.push(Actor::Build { searcher, description });
            }
            _ => {}
        }
    }

    fn begin_write(&mut self, searcher: Arc<Searcher>) {
        self.n_versions += 1;
        let id = format!("d{}", self.choice.below(IDS));
        let mut fields = json!({
            "title": format!("version {}", self.n_versions),
            "kind": self.choice.pick(&KINDS),
            "area": self.choice.pick(&["north", "south"]),
        });
        if self.choice.chance(20) {
            fields["expires_at"] = json!("2030-01-01T00:00:00Z");
        }
        self.actors.push(checked(searcher, &id, fields));
    }

    fn begin_delete_by_filter(&mut self, searcher: Arc<Searcher>) {
        let kind = *self.choice.pick(&KINDS);
        let filter = Filter::parse(&json!({"must": [{"key": "kind", "match": {"value": kind}}]}), &searcher.meaning().schema).unwrap();
        let matching = searcher.ids_matching(&filter, 3).unwrap();
        // What is found is what matches, whatever the epoch.
        for (id, _) in &matching {
            let is_kind = |state: &State| state.get(id.as_str()).is_some_and(|fields| fields["kind"] == kind);
            assert!(self.possible.iter().any(is_kind), "{}: {id} does not match", self.case);
        }
        let found = matching.iter().map(|(id, _)| id.to_string()).collect();
        let delete = |(id, seqno)| Change::Delete { id, condition: Precondition::IfSeqno(seqno) };
        self.actors.push(Actor::Delete { searcher, changes: matching.into_iter().map(delete).collect(), found });
    }

    fn begin_expire(&mut self, searcher: Arc<Searcher>) {
        // Time does not pass here: every other document that can expire is taken for one that has.
        let expiring: Vec<(DocumentId, SeqNo)> = searcher
            .ids_matching(&Filter::default(), IDS)
            .unwrap()
            .into_iter()
            .filter(|(id, _)| self.possible[0].get(id.as_str()).is_some_and(|fields| fields.get("expires_at").is_some()))
            .collect();
        let found = expiring.iter().map(|(id, _)| id.to_string()).collect();
        let delete = |(id, seqno)| Change::Delete { id, condition: Precondition::IfSeqno(seqno) };
        self.actors.push(Actor::Delete { searcher, changes: expiring.into_iter().map(delete).collect(), found });
    }

    fn step(&mut self, actor: Actor<'a>) {
        match actor {
            Actor::Write { searcher, fields, change } => {
                let id = change.id().to_string();
                match self.apply(&searcher, vec![change]) {
                    Ok(_) => self.possible.iter_mut().for_each(|state| drop(state.insert(id.clone(), fields.clone()))),
                    // The next attempt starts over from the check.
                    Err(CollectionError::EpochChanged { .. }) => {
                        self.n_refused += 1;
                        self.actors.push(checked(self.collection.searcher(), &id, fields));
                    }
                    Err(_) => self.may_have_happened(|state| drop(state.insert(id.clone(), fields.clone()))),
                }
            }
            Actor::Delete { searcher, changes, found } => match self.apply(&searcher, changes) {
                Ok(applied) => {
                    let deleted = found.iter().zip(&applied).filter(|(_, applied)| matches!(applied, Applied::Deleted(_)));
                    for (id, _) in deleted {
                        self.possible.iter_mut().for_each(|state| drop(state.remove(id)));
                    }
                }
                Err(CollectionError::EpochChanged { .. }) => self.n_refused += 1,
                Err(_) => self.may_have_happened(|state| found.iter().for_each(|id| drop(state.remove(id)))),
            },
            Actor::Build { searcher, description } => {
                let contents = in_epoch(&searcher, description);
                let built = self.collection.build(&contents, &searcher, &params(), &Progress::hidden());
                if let Ok(activation) = built.and_then(|id| Activation::prepare(self.collection, id)) {
                    self.actors.push(Actor::Activate(activation));
                }
            }
            Actor::Activate(mut activation) => {
                if self.choice.chance(50) {
                    if activation.catch_up(&renew).is_ok() {
                        self.actors.push(Actor::Activate(activation));
                    }
                    return;
                }
                match activation.commit() {
                    Ok(true) => {
                        self.n_activated += 1;
                        activation.tidy();
                    }
                    Ok(false) => {
                        self.n_not_yet += 1;
                        self.actors.push(Actor::Activate(activation));
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// Commits without the queue and the gate: requests that were queued before the gate was closed arrive like this.
    fn apply(&self, searcher: &Searcher, changes: Vec<Change>) -> Result<Vec<Applied>, CollectionError> {
        Ok(self.collection.shared()?.apply_now(Changes::checked_in(searcher, changes))?.0)
    }

    /// After a failed write, the log may hold it or not; what serves does not.
    fn may_have_happened(&mut self, change: impl Fn(&mut State)) {
        let mut changed = self.possible.clone();
        changed.iter_mut().for_each(change);
        self.possible.extend(changed);
    }
}

fn checked<'a>(searcher: Arc<Searcher>, id: &str, fields: Json) -> Actor<'a> {
    let (meaning, model) = (searcher.meaning(), &searcher.description().model.name);
    let id = DocumentId::new(id).unwrap();
    let document =
        Document::from_fields(id.clone(), fields.as_object().unwrap().clone(), &meaning.schema, &meaning.template, 1_000).unwrap();
    let stored = StoredDocument {
        fields: fields.to_string(),
        text_hash: document.text_hash(),
        embedding: embed(model, &document.text),
        attributes: document.attributes,
    };
    let change = Change::Upsert { id, document: stored, condition: Precondition::None };
    Actor::Write { searcher, fields, change }
}

/// The documents of a searcher as another description makes them.
fn in_epoch(searcher: &Searcher, description: Description) -> Contents {
    let mut contents = searcher.contents().unwrap();
    let meaning = Meaning::of(&name(), &description.definition).unwrap();
    let mut embeddings = Vec::new();
    for (row, id) in contents.ids.iter().enumerate() {
        let fields: Json = serde_json::from_str(&contents.fields[row]).unwrap();
        let fields = fields.as_object().unwrap().clone();
        let document = Document::from_fields(id.clone(), fields, &meaning.schema, &meaning.template, 1_000).unwrap();
        contents.attributes[row] = document.attributes;
        embeddings.push(embed(&description.model.name, &document.text));
    }
    contents.n_chunks = embeddings.iter().map(|chunks| (chunks.len() / DIMS) as u32).collect();
    contents.vectors = embeddings.concat();
    contents.description = description;
    contents
}

/// Memory instead of a disk, where there is such a folder: schedules sync a lot.
fn folder() -> tempfile::TempDir {
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() { tempfile::tempdir_in(in_memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

#[test]
fn no_order_of_steps_mixes_epochs_or_loses_a_write() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let first_seed = number("KINDRED_SCHEDULE_SEED", 0);
    let (mut n_refused, mut n_activated, mut n_not_yet) = (0, 0, 0);
    for seed in first_seed..first_seed + number("KINDRED_SCHEDULES", SCHEDULES) {
        let root = folder();
        let dir = root.path().join("jobs");
        let twin = Twin::watch(root.path());
        let clock = Clock::default();
        clock.set_us(NOW_US);
        let durability = [Durability::Sync, Durability::Async][seed as usize % 2];
        let options = OpenOptions { clock, ..options(durability) };
        Collection::create(&dir, &described("one", false)).unwrap();
        let collection = Collection::open(&name(), &dir, &described("one", false), &options).unwrap();
        let mut schedule = Schedule {
            collection: &collection,
            choice: Choice::new("schedule", seed),
            actors: Vec::new(),
            possible: vec![State::new()],
            n_versions: 0,
            case: format!("seed {seed}"),
            n_refused: 0,
            n_activated: 0,
            n_not_yet: 0,
        };
        if seed % 4 > 1 {
            let failure =
                [Failure::Refuse(std::io::ErrorKind::StorageFull), Failure::Short(std::io::ErrorKind::Other)][seed as usize / 4 % 2];
            twin.fail_at(twin.n_steps() + schedule.choice.below(400), failure);
        }
        schedule.run();
        n_refused += schedule.n_refused;
        n_activated += schedule.n_activated;
        n_not_yet += schedule.n_not_yet;
        let Schedule { possible, case, .. } = schedule;
        drop(collection);
        drop(twin);
        let reopened = Collection::open(&name(), &dir, &described("one", false), &options).unwrap_or_else(|e| panic!("{case}: {e}"));
        check(&reopened.searcher(), &possible, &format!("{case}, reopened"));
    }
    println!("{n_activated} activations, {n_refused} writes of another epoch, {n_not_yet} commits that had to wait");
    assert!(n_refused > 0 && n_activated > 0 && n_not_yet > 0);
}
