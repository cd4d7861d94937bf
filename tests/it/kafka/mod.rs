//! The Kafka feed against a real broker.

mod broker;
mod crash;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use kindred::app::App;
use kindred::collection::Access;
use kindred::ingest::kafka::{FeedState, FeedStates, RunningFeed};
use kindred::pipeline::WriteRequest;
use kindred::telemetry::metrics;
use kindred_core::Progress;
use kindred_core::domain::{CollectionName, DocumentId, FeedPosition};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::app::{open, settings};
use crate::bulk::{kindred, says};
use broker::{Broker, Sent, free_address, sent, tombstone};

/// Waits until something holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn jobs() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

fn job(title: &str) -> String {
    json!({"title": title}).to_string()
}

/// A job whose embedding comes with it.
fn embedded(n: usize) -> String {
    let embedding: Vec<f64> = (0..384).map(|i| f64::from(u32::try_from((n * 31 + i * 17) % 97).unwrap()) - 48.0).collect();
    json!({"title": format!("job {n}"), "embedding": embedding}).to_string()
}

/// An application whose collection jobs is fed from a topic.
struct Fed {
    app: App,
    feed: RunningFeed,
    states: FeedStates,
    topic: String,
}

impl Fed {
    /// Each test has a topic of its own: metrics are those of the whole process.
    fn start(dir: &Path, brokers: &str, topic: &str, flags: &[&str]) -> Self {
        let own = [format!("kafka.brokers={brokers:?}"), format!("kafka.topics.jobs={topic:?}"), "kafka.topics.members=\"\"".to_owned()];
        let all: Vec<&str> = own.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let mut app = open(&settings(dir, &all), Access::Serve).unwrap();
        let feed = app.take_feed().unwrap();
        let states = feed.states();
        let feed = feed.start(&Handle::current()).unwrap();
        Self { app, feed, states, topic: topic.to_owned() }
    }

    /// Ends the feed, then the application.
    fn stop(self) {
        self.feed.end();
        self.app.rebuild.end();
    }

    fn state(&self) -> FeedState {
        self.states.list().remove(0)
    }

    fn n_documents(&self) -> u64 {
        self.app.catalog.get(&jobs()).unwrap().n_documents
    }

    fn seqno(&self) -> u64 {
        self.app.catalog.get(&jobs()).unwrap().seqno
    }

    /// Waits until every record that the topic has is done, `total` of them since the process began.
    #[track_caller]
    fn catches_up(&self, total: u64) {
        until("all records are done", || self.metric("kindred_kafka_records_total", "") == Some(total as f64));
        until("caught up", || self.state().caught_up);
    }

    /// A metric of this topic; `label` narrows it.
    fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let topic = format!("topic=\"{}\"", self.topic);
        let text = metrics::install().render();
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(&topic) && line.contains(label))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    fn title(&self, id: &str) -> Option<String> {
        self.document(id)?.pointer("/fields/title").and_then(Value::as_str).map(str::to_owned)
    }

    fn document(&self, id: &str) -> Option<Value> {
        let document = self.app.catalog.document(&jobs(), &DocumentId::new(id).unwrap()).ok()?;
        Some(serde_json::to_value(document).unwrap())
    }

    /// By name, the positions of this topic's partitions. Names end with the topic's id, where the broker has one.
    fn positions(&self) -> BTreeMap<String, u64> {
        let prefix = format!("kafka:{}/", self.topic);
        let mut kept = self.app.write.positions(&jobs(), &prefix).unwrap();
        kept.retain(|name, _| name[prefix.len()..].starts_with(|c: char| c.is_ascii_digit()));
        kept
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_become_documents_and_a_restart_goes_on_where_it_was() {
    let (dir, broker) = (folder(), Broker::start());
    broker.create_topic("restart", 4);
    let (nurse, welder, chef) = (job("Nurse"), job("Welder"), job("Pastry chef"));
    let first: Vec<Sent<'_>> =
        vec![sent("a", &nurse), sent("b", &welder), sent("c", &chef), sent("b", &chef), tombstone("c"), tombstone("nobody")];
    broker.produce("restart", &first);
    let fed = Fed::start(dir.path(), &broker.address, "restart", &[]);
    fed.catches_up(6);
    assert_eq!((fed.title("a").as_deref(), fed.title("b").as_deref(), fed.title("c")), (Some("Nurse"), Some("Pastry chef"), None));
    assert_eq!(fed.n_documents(), 2);
    let state = fed.state();
    assert!(state.connected && state.waiting_for.is_none(), "{state:?}");
    assert_eq!(fed.metric("kindred_kafka_connected", ""), Some(1.0));
    assert_eq!(fed.metric("kindred_kafka_lag_records", "partition=\"0\""), Some(0.0));
    assert_eq!(fed.metric("kindred_kafka_freshness_seconds_count", ""), Some(6.0));
    assert_eq!(fed.positions().values().sum::<u64>(), 6);
    let seqno = fed.seqno();
    fed.stop();

    broker.produce("restart", &[sent("d", &welder), tombstone("a")]);
    let fed = Fed::start(dir.path(), &broker.address, "restart", &[]);
    // Six before, two now: nothing was read again.
    fed.catches_up(8);
    assert_eq!((fed.title("a"), fed.title("d").as_deref(), fed.n_documents()), (None, Some("Welder"), 2));
    assert_eq!(fed.seqno(), seqno + 2);
    broker.produce("restart", &[sent("a", &nurse)]);
    fed.catches_up(9);
    assert_eq!(fed.title("a").as_deref(), Some("Nurse"));
    fed.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_taken_become_dead_letters_and_spoil_nothing() {
    let (dir, broker) = (folder(), Broker::start());
    broker.create_topic("poison", 1);
    let (nurse, welder, huge) = (job("Nurse"), job("Welder"), job(&"x".repeat(3_000)));
    let wage = r#"{"title": "Baker", "salary": {"min": "a lot"}}"#;
    let bad: &[u8] = &[b'{', 0xff, b'}'];
    let records = [
        sent("a", &nurse),
        Sent { partition: None, key: Some(b"b"), value: Some(bad) },
        sent("c", "{oops"),
        Sent { partition: None, key: None, value: Some(welder.as_bytes()) },
        sent("d", r#"{"id": "e", "title": "Welder"}"#),
        sent("f", &huge),
        sent("g", &welder),
        // The collection refuses this one, so the one before it counts.
        sent("g", wage),
        sent("h", "[]"),
        sent("i", &welder),
    ];
    broker.produce("poison", &records);
    let fed = Fed::start(dir.path(), &broker.address, "poison", &["kafka.max_value_bytes=2000", "kafka.linger_ms=500"]);
    fed.catches_up(10);
    assert_eq!(
        (fed.title("a").as_deref(), fed.title("g").as_deref(), fed.title("i").as_deref()),
        (Some("Nurse"), Some("Welder"), Some("Welder"))
    );
    assert_eq!(fed.n_documents(), 3);
    let text = std::fs::read_to_string(dir.path().join("dead-letters.ndjson")).unwrap();
    let mut letters: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    letters.sort_by_key(|letter| letter["offset"].as_u64());
    let told: Vec<(u64, &str)> = letters.iter().map(|l| (l["offset"].as_u64().unwrap(), l["reason"].as_str().unwrap())).collect();
    assert_eq!(told, [(1, "utf8"), (2, "json"), (3, "key"), (4, "id"), (5, "size"), (7, "document"), (8, "json")]);
    assert!(letters.iter().all(|letter| letter["topic"] == "poison" && letter["partition"] == 0 && letter["timestamp"].is_string()));
    assert_eq!((&letters[0]["key"], &letters[0]["value_base64"]), (&json!("b"), &json!("e/99")));
    assert!(letters[5]["message"].as_str().unwrap().contains("salary.min"), "{}", letters[5]);
    assert_eq!(letters[5]["value"], wage);
    assert_eq!((&letters[4]["value_bytes"], &letters[4]["is_truncated"]), (&json!(huge.len()), &json!(true)));
    assert_eq!(fed.metric("kindred_kafka_dead_letters_total", "reason=\"json\""), Some(2.0));
    assert_eq!(fed.positions().into_values().collect::<Vec<_>>(), [10]);
    fed.stop();
    // They are done: a second start does not meet them again.
    let fed = Fed::start(dir.path(), &broker.address, "poison", &[]);
    broker.produce("poison", &[tombstone("a")]);
    fed.catches_up(11);
    assert_eq!(std::fs::read_to_string(dir.path().join("dead-letters.ndjson")).unwrap(), text);
    fed.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_go_to_a_topic_as_they_were() {
    let (dir, broker) = (folder(), Broker::start());
    broker.create_topic("letters", 1);
    broker.create_topic("dead", 1);
    let welder = job("Welder");
    broker.produce("letters", &[sent("a", "{oops"), sent("b", &welder)]);
    let fed = Fed::start(dir.path(), &broker.address, "letters", &["kafka.dead_letter_topic=\"dead\""]);
    fed.catches_up(2);
    assert_eq!(fed.n_documents(), 1);
    fed.stop();
    let letters = broker.read("dead", 1);
    let (key, value, headers) = &letters[0];
    assert_eq!((key.as_slice(), value.as_slice()), (b"a".as_slice(), b"{oops".as_slice()));
    assert_eq!((&*headers["kindred.reason"], &*headers["kindred.topic"], &*headers["kindred.offset"]), ("json", "letters", "0"));
    assert!(!dir.path().join("dead-letters.ndjson").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_broker_serves_on_and_the_feed_begins_when_there_is_one() {
    let (dir, address) = (folder(), free_address());
    let fed = Fed::start(dir.path(), &address, "late", &["kafka.ready_when_caught_up=true"]);
    until("the feed says what it waits for", || fed.state().waiting_for.is_some_and(|why| why.contains("no Kafka broker answers")));
    assert!(!fed.state().connected && fed.states.not_ready().unwrap().contains("no Kafka broker answers"));
    assert_eq!(fed.metric("kindred_kafka_connected", ""), Some(0.0));
    let broker = Broker::start_at(&address);
    until("the feed says what it waits for", || fed.state().waiting_for.is_some_and(|why| why.contains("there is no topic \"late\" yet")));
    assert!(fed.state().connected);
    broker.create_topic("late", 2);
    let (nurse, welder) = (job("Nurse"), job("Welder"));
    broker.produce("late", &[sent("a", &nurse)]);
    fed.catches_up(1);
    assert_eq!((fed.state().waiting_for, fed.states.not_ready()), (None, None));

    drop(broker);
    until("the feed notices", || !fed.state().connected && fed.state().waiting_for.is_some());
    assert_eq!((fed.title("a").as_deref(), fed.states.not_ready()), (Some("Nurse"), None));
    assert_eq!(fed.metric("kindred_kafka_waiting", ""), Some(1.0));

    // Another broker with nothing of the first: the topic begins anew, and so does the feed.
    let broker = Broker::start_at(&address);
    broker.create_topic("late", 2);
    broker.produce("late", &[sent("a", &welder), sent("b", &nurse)]);
    until("the feed goes on by itself", || fed.title("b").is_some());
    assert!(fed.state().connected);
    fed.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_records_again_change_nothing() {
    let (dir, broker) = (folder(), Broker::start());
    broker.create_topic("replay", 2);
    let values: Vec<(String, String)> = (0..40).map(|n| (format!("j{n}"), job(&format!("Job number {n}")))).collect();
    let records: Vec<Sent<'_>> = values.iter().map(|(key, value)| sent(key, value)).collect();
    broker.produce("replay", &records);
    let fed = Fed::start(dir.path(), &broker.address, "replay", &[]);
    fed.catches_up(40);
    let before: Vec<Value> = (0..40).map(|n| fed.document(&format!("j{n}")).unwrap()).collect();
    let positions = fed.positions().into_keys().map(|source| FeedPosition { source, next: None }).collect();
    // Without its position the feed must begin again; it notices by itself.
    let request = WriteRequest { positions, ..WriteRequest::default() };
    fed.app.write.write(&jobs(), request, &Progress::hidden()).await.unwrap();
    until("all is read again", || fed.metric("kindred_kafka_records_total", "") == Some(80.0));
    assert_eq!(fed.positions().values().sum::<u64>(), 40);
    let after: Vec<Value> = (0..40).map(|n| fed.document(&format!("j{n}")).unwrap()).collect();
    assert_eq!(before, after, "each has the seqno that it had: it was not written, and its text not embedded");
    fed.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_is_made_anew_is_fed_anew() {
    let (dir, broker) = (folder(), Broker::start());
    broker.create_topic("anew", 1);
    let nurse = job("Nurse");
    broker.produce("anew", &[sent("a", &nurse)]);
    let fed = Fed::start(dir.path(), &broker.address, "anew", &[]);
    fed.catches_up(1);
    // It comes from the configuration, and is there again at once: without documents, and without a position.
    fed.app.catalog.delete(&jobs()).unwrap();
    fed.catches_up(2);
    assert_eq!(fed.title("a").as_deref(), Some("Nurse"));
    fed.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_from_a_snapshot_goes_on_where_the_snapshot_stands() {
    let (dir, broker) = (folder(), Broker::start());
    broker.create_topic("replica", 2);
    let (nurse, welder, chef) = (job("Nurse"), job("Welder"), job("Pastry chef"));
    broker.produce("replica", &[sent("a", &nurse), sent("b", &welder), sent("c", &chef)]);
    let fed = Fed::start(dir.path(), &broker.address, "replica", &[]);
    fed.catches_up(3);
    fed.stop();
    let (work, replica) = (folder(), folder());
    let run = |args: &[&str], data: &Path| kindred(work.path(), &[args, &["--data-dir", data.to_str().unwrap()]].concat());
    says(&run(&["snapshot", "create", "place"], dir.path()), 0, &["of jobs"]);
    says(&run(&["snapshot", "restore", "place"], replica.path()), 0, &["restored jobs"]);

    broker.produce("replica", &[sent("d", &nurse), tombstone("b")]);
    let fed = Fed::start(replica.path(), &broker.address, "replica", &["http.read_only=true", "kafka.ready_when_caught_up=true"]);
    // Three before, two now: what the snapshot has was not read again.
    fed.catches_up(5);
    assert_eq!((fed.title("c").as_deref(), fed.title("d").as_deref(), fed.title("b")), (Some("Pastry chef"), Some("Nurse"), None));
    // The positions at which the feed first began have a seqno of their own.
    assert_eq!((fed.n_documents(), fed.seqno()), (3, 1 + 5));
    fed.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_records_arrive_through_a_narrow_door() {
    const N: usize = 20_000;
    let (dir, broker) = (folder(), Broker::start());
    broker.create_topic("flood", 4);
    let values: Vec<(String, String)> = (0..N).map(|n| (format!("j{n}"), embedded(n))).collect();
    let records: Vec<Sent<'_>> = values.iter().map(|(key, value)| sent(key, value)).collect();
    broker.produce("flood", &records);
    // A thousandth of what there is may wait inside.
    let fed = Fed::start(dir.path(), &broker.address, "flood", &["kafka.prefetch_bytes=65536"]);
    let begun = Instant::now();
    until("the state shows how far behind the feed is", || fed.state().lag_records.is_some_and(|lag| lag > 0));
    until("all have arrived", || fed.n_documents() == N as u64);
    eprintln!("{N} records in {:.1} s", begun.elapsed().as_secs_f64());
    fed.catches_up(N as u64);
    fed.stop();
}
