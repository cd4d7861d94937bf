//! A long random life against a plain map: upserts, conditional writes, deletions, expiry, deletion by filter, exact filtered
//! searches, rebuilds with and without another model, rollbacks, reopening.

use super::*;
use kindred_core::domain::{Filter, StrategyChoice};
use kindred_index::dot;

const OPERATIONS: usize = 100_000;
const IDS: usize = 400;
const KINDS: [&str; 3] = ["a", "b", "c"];
const DAY_US: i64 = 86_400_000_000;

struct Entry {
    fields: Json,
    seqno: SeqNo,
    expires_at_us: i64,
}

struct Life {
    dir: tempfile::TempDir,
    collection: Option<Collection>,
    model: &'static str,
    oracle: BTreeMap<String, Entry>,
    now_us: i64,
    clock: Clock,
    choice: Choice,
}

impl Life {
    fn begin(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Collection::create(dir.path(), &description("one")).unwrap();
        let now_us = 1_800_000_000_000_000;
        let mut life = Self {
            dir,
            collection: None,
            model: "one",
            oracle: BTreeMap::new(),
            now_us,
            clock: Clock::default(),
            choice: Choice::new("model test", seed),
        };
        life.reopen();
        life
    }

    fn reopen(&mut self) {
        self.collection = None;
        // A restart may find the clock set back: what was deleted because its time was over must stay so.
        self.clock = Clock::default();
        self.clock.set_us(self.now_us);
        let options = OpenOptions { clock: self.clock.clone(), ..options(Durability::Async) };
        self.collection = Some(Collection::open(&name(), self.dir.path(), &description("one"), &options).unwrap());
    }

    fn collection(&self) -> &Collection {
        self.collection.as_ref().expect("it is open")
    }

    /// The documents that are there now.
    fn present(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.oracle.iter().filter(|(_, entry)| entry.expires_at_us > self.now_us)
    }

    fn write(&mut self) {
        let mut changes = Vec::new();
        let mut expected = Vec::new();
        let mut ids: Vec<usize> = (0..1 + self.choice.below(4)).map(|_| self.choice.below(IDS)).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let id = format!("d{id}");
            let seqno = self.oracle.get(&id).filter(|entry| entry.expires_at_us > self.now_us).map(|entry| entry.seqno);
            if self.choice.chance(25) {
                changes.push(delete(&id));
                expected.push((id, None, seqno.is_some()));
                continue;
            }
            let expires_at_us = if self.choice.chance(20) { self.now_us + self.choice.below(30) as i64 * DAY_US } else { i64::MAX };
            let mut fields = json!({"title": format!("text {}", self.choice.below(500)), "kind": self.choice.pick(&KINDS)});
            if expires_at_us < i64::MAX {
                fields["expires_at"] = json!(jiff::Timestamp::from_microsecond(expires_at_us).unwrap().to_string());
            }
            let (condition, holds) = match self.choice.below(6) {
                0 => (Precondition::CreateOnly, seqno.is_none()),
                1 => (Precondition::IfSeqno(seqno.unwrap_or(SeqNo(1))), seqno.is_some()),
                2 => (Precondition::IfSeqno(SeqNo(u64::MAX)), false),
                _ => (Precondition::None, true),
            };
            changes.push(upsert(self.model, &id, &fields, condition));
            expected.push((id, Some((fields, expires_at_us)), holds));
        }
        let applied = apply(self.collection(), changes).unwrap();
        for ((id, document, holds), applied) in expected.into_iter().zip(applied) {
            let was_there = self.oracle.get(&id).is_some_and(|entry| entry.expires_at_us > self.now_us);
            match (document, applied) {
                (None, Applied::Deleted(_)) if holds => drop(self.oracle.remove(&id)),
                (None, Applied::NotFound) if !holds => {}
                (Some((fields, expires_at_us)), Applied::Created(seqno)) if holds && !was_there => {
                    self.oracle.insert(id, Entry { fields, seqno, expires_at_us });
                }
                (Some((fields, expires_at_us)), Applied::Updated(seqno)) if holds && was_there => {
                    self.oracle.insert(id, Entry { fields, seqno, expires_at_us });
                }
                (Some(_), Applied::Conflict(actual)) if !holds => {
                    assert_eq!(actual, self.oracle.get(&id).filter(|_| was_there).map(|entry| entry.seqno));
                }
                (document, applied) => panic!("{id}: {applied:?} of {document:?}, which should hold: {holds}"),
            }
        }
    }

    fn delete_by_filter(&mut self) {
        let kind = *self.choice.pick(&KINDS);
        // Not often all: something should be there to be found.
        let searcher = self.collection().searcher();
        let found = searcher.ids_matching(&filter(&searcher, kind), 20).unwrap();
        let delete = |(id, seqno): &(DocumentId, SeqNo)| Change::Delete { id: id.clone(), condition: Precondition::IfSeqno(*seqno) };
        let applied = apply(self.collection(), found.iter().map(delete).collect()).unwrap();
        assert!(applied.iter().all(|applied| matches!(applied, Applied::Deleted(_))));
        assert_eq!(found.len(), self.present().filter(|(_, entry)| entry.fields["kind"] == kind).count().min(20));
        for (id, seqno) in found {
            let entry = self.oracle.remove(id.as_str()).expect("what is found is there");
            assert_eq!((entry.seqno, entry.fields["kind"].as_str()), (seqno, Some(kind)));
        }
    }

    fn search(&mut self) {
        let query = embed_chunk(self.model, &format!("query {}", self.choice.below(1_000)));
        let k = 1 + self.choice.below(20);
        let kind = self.choice.chance(50).then(|| *self.choice.pick(&KINDS));
        let searcher = self.collection().searcher();
        let filter = kind.map(|kind| filter(&searcher, kind));
        let request =
            RetrieveRequest { k, ef_search: 50, strategy: StrategyChoice::Auto, filter: filter.as_ref(), exclude: None, until: None };
        let embedding = Embedding::new(query.clone(), DIMS).unwrap();
        let Retrieved { found, plan, .. } = searcher.retrieve(Question::Meaning(&embedding), &request).unwrap();
        let matching = || self.present().filter(|(_, entry)| kind.is_none_or(|kind| entry.fields["kind"] == kind));
        let score = |title: &str| embed(self.model, title).chunks_exact(DIMS).map(|chunk| dot(&query, chunk)).fold(f32::MIN, f32::max);
        let mut expected: Vec<f32> = matching().map(|(_, entry)| score(entry.fields["title"].as_str().unwrap())).collect();
        assert_eq!(plan.n_matching, expected.len() as u64);
        expected.sort_by(|a, b| b.total_cmp(a));
        expected.truncate(k);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let score = found.dense.unwrap().score;
            assert!((score - expected).abs() < 5e-3, "{score} instead of {expected}");
            let id = searcher.id(&found.document).unwrap();
            let entry = &self.oracle[id.as_str()];
            assert_eq!(searcher.fields(&found.document).unwrap(), entry.fields.to_string());
        }
    }

    fn get(&mut self) {
        let id = format!("d{}", self.choice.below(IDS));
        let searcher = self.collection().searcher();
        let found = searcher.get(&DocumentId::new(id.as_str()).unwrap()).unwrap();
        let expected = self.oracle.get(&id).filter(|entry| entry.expires_at_us > self.now_us);
        assert_eq!(found.map(|found| searcher.seqno_of(&found).unwrap()), expected.map(|entry| entry.seqno), "{id}");
    }

    fn list(&mut self) {
        let kind = self.choice.chance(50).then(|| *self.choice.pick(&KINDS));
        let from = self.choice.chance(70).then(|| DocumentId::new(format!("d{}", self.choice.below(IDS))).unwrap());
        let limit = 1 + self.choice.below(40);
        let searcher = self.collection().searcher();
        let filter = kind.map_or(Filter::default(), |kind| filter(&searcher, kind));
        let matching: Vec<&String> =
            self.present().filter(|(_, entry)| kind.is_none_or(|kind| entry.fields["kind"] == kind)).map(|(id, _)| id).collect();
        assert_eq!(searcher.n_matching(&filter).unwrap(), matching.len() as u64);
        let FoundPage { documents: page, next } = searcher.page(&filter, from.as_ref(), limit).unwrap();
        let mut expected = matching.into_iter().filter(|id| from.as_ref().is_none_or(|from| id.as_str() >= from.as_str()));
        for (id, document) in &page {
            assert_eq!(Some(id.as_str()), expected.next().map(String::as_str));
            assert_eq!(searcher.fields(document).unwrap(), self.oracle[id.as_str()].fields.to_string());
        }
        assert!(page.len() == limit || next.is_none());
        assert_eq!(next.as_ref().map(DocumentId::as_str), expected.next().map(String::as_str));
    }

    fn rebuild(&mut self) {
        if self.choice.chance(30) {
            self.model = if self.model == "one" { "two" } else { "one" };
        }
        rebuild(self.collection(), self.model).unwrap();
    }

    fn roll_back(&mut self) {
        let Ok(id) = self.collection().previous() else { return };
        activate(self.collection(), id).unwrap();
        self.model = if self.collection().searcher().description().model.name == "one" { "one" } else { "two" };
    }

    fn compare(&self) {
        let searcher = self.collection().searcher();
        let mut found = state(&searcher);
        // Those that have expired and not been swept yet are no answers, but are there.
        found.retain(|id, _| self.oracle.get(id).is_none_or(|entry| entry.expires_at_us > self.now_us));
        let expected: BTreeMap<String, String> = self.present().map(|(id, entry)| (id.clone(), entry.fields.to_string())).collect();
        assert_eq!(found, expected);
    }
}

fn filter(searcher: &Searcher, kind: &str) -> Filter {
    Filter::parse(&json!({"must": [{"key": "kind", "match": {"value": kind}}]}), &searcher.meaning().schema).unwrap()
}

fn live(seed: u64, operations: usize) {
    println!("seed {seed}");
    let mut life = Life::begin(seed);
    for n in 0..operations {
        match life.choice.below(1_000) {
            0..400 => life.write(),
            400..700 => life.search(),
            700..940 => life.get(),
            940..950 => life.list(),
            950..970 => life.delete_by_filter(),
            970..985 => {
                life.now_us += life.choice.below(DAY_US as usize) as i64;
                life.clock.set_us(life.now_us);
            }
            985..993 => {
                life.clock.settle();
                life.collection().sweep_expired().unwrap();
                let now_us = life.now_us;
                life.oracle.retain(|_, entry| entry.expires_at_us > now_us);
            }
            993..996 => life.rebuild(),
            996..997 => life.roll_back(),
            _ => life.reopen(),
        }
        if n % 1_000 == 0 {
            life.compare();
        }
    }
    life.compare();
}

#[test]
fn a_long_random_life_is_that_of_a_plain_map() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    live(number("KINDRED_MODEL_SEED", 1), number("KINDRED_MODEL_OPERATIONS", OPERATIONS as u64) as usize);
}
