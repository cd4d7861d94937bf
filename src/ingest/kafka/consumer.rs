//! A consumer of one topic.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::batch::Record;
use super::client::{Cause, base_config, code, refused};
use super::context::{Context, End};
use super::ledger::Watermarks;
use super::one_state::{OneState, Wait};
use super::settings::KafkaSettings;

/// Time in which a broker must answer a question, while the feed does nothing else.
const ANSWER: Duration = Duration::from_secs(2);
/// Pause in librdkafka's events after which all earlier ones have been handled.
const QUIET: Duration = Duration::from_millis(20);
/// Longest time to wait for such a pause.
const DRAIN: Duration = Duration::from_secs(2);

/// What a poll returned.
#[derive(Debug)]
pub(super) enum Polled {
    Record(Record),
    /// The partition has no further record, for now.
    End(i32, Option<End>),
    /// A partition does not have the offset at which it should be read.
    OutOfRange,
    /// The topic was deleted and created again: what follows is from another topic of this name.
    OtherTopic,
    /// The topic cannot be read; it may be gone.
    Trouble(Wait),
    Nothing,
}

/// The topic, as the brokers describe it.
#[derive(Debug)]
pub(super) enum Topic {
    /// By partition, whether it has a leader, without which it cannot be read.
    Partitions(BTreeMap<i32, bool>),
    Missing,
    /// No broker answers.
    Unreachable,
    /// A broker refuses to describe it.
    Unknown(Wait),
}

/// Reads one topic.
pub(super) struct Consumer {
    inner: BaseConsumer<Context>,
    topic: String,
    max_value_bytes: usize,
    is_assigned: Cell<bool>,
}

impl Consumer {
    /// Connects in the background.
    ///
    /// # Errors
    /// Why librdkafka rejects the settings.
    pub fn new(settings: &KafkaSettings, topic: &str, state: OneState) -> Result<Self, String> {
        let context = Context::new(topic, state);
        let inner = consumer_config(settings).create_with_context(context).map_err(|e: KafkaError| refused(settings, &e))?;
        Ok(Self { inner, topic: topic.to_owned(), max_value_bytes: settings.max_value_bytes, is_assigned: Cell::new(false) })
    }

    pub fn is_connected(&self) -> bool {
        self.context().is_connected.load(Ordering::Relaxed)
    }

    /// Why no broker answers.
    pub fn no_broker(&self) -> Wait {
        self.context().no_broker()
    }

    /// The topic's id, once a broker has named it.
    pub fn topic_id(&self) -> Option<String> {
        self.context().heard().topic_id.clone()
    }

    fn context(&self) -> &Context {
        self.inner.context()
    }

    /// Asks a broker for the topic's partitions. Blocks for [`ANSWER`] at most.
    pub fn look_up(&self) -> Topic {
        let metadata = self.inner.fetch_metadata(Some(&self.topic), ANSWER);
        let is_connected = !matches!(&metadata, Err(e) if e.rdkafka_error_code().is_none_or(|code| Cause::of(code).is_some()));
        let metadata = match metadata {
            Ok(metadata) => {
                self.note_answer();
                metadata
            }
            Err(e) => {
                self.context().is_connected.store(is_connected, Ordering::Relaxed);
                let refusal = || Wait::new("broker", format!("a Kafka broker refuses to describe the topic: {}", code(&e)));
                return if is_connected { Topic::Unknown(refusal()) } else { Topic::Unreachable };
            }
        };
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == self.topic) else { return Topic::Missing };
        match topic.error().map(RDKafkaErrorCode::from) {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Topic::Missing,
            Some(code) => Topic::Unknown(Wait::new("topic", format!("a Kafka broker refuses the topic {:?}: {code}", self.topic))),
            None if topic.partitions().is_empty() => Topic::Missing,
            None => Topic::Partitions(topic.partitions().iter().map(|partition| (partition.id(), partition.leader() >= 0)).collect()),
        }
    }

    /// Asks the leaders of these partitions for their first and last offsets. Blocks for [`ANSWER`] a partition at most.
    ///
    /// # Errors
    /// A leader did not answer.
    pub fn watermarks(&self, partitions: &BTreeMap<i32, bool>) -> Result<BTreeMap<i32, Option<Watermarks>>, Wait> {
        let mut watermarks = BTreeMap::new();
        for (&partition, &has_leader) in partitions {
            let marks = if has_leader { Some(self.watermarks_of(partition)?) } else { None };
            watermarks.insert(partition, marks);
        }
        Ok(watermarks)
    }

    fn watermarks_of(&self, partition: i32) -> Result<Watermarks, Wait> {
        let refusal = |kind, why| Wait::new(kind, format!("partition {partition} of the topic {:?} cannot be read: {why}", self.topic));
        let (low, high) = self.inner.fetch_watermarks(&self.topic, partition, ANSWER).map_err(|e| {
            let cause = e.rdkafka_error_code().and_then(Cause::of);
            refusal(cause.map_or("broker", Cause::name), code(&e))
        })?;
        match (u64::try_from(low), u64::try_from(high)) {
            (Ok(low), Ok(high)) => Ok(Watermarks { low, high }),
            _ => Err(refusal("broker", format!("its leader reports the offsets {low} to {high}"))),
        }
    }

    /// Handles all events that have come so far and drops the records among them. Events of a connection that has failed since must not
    /// count against the next one, and the topic's id is among them.
    ///
    /// # Panics
    /// While partitions are assigned, because their records would be lost.
    pub fn drain(&self) {
        assert!(!self.is_assigned.get(), "records of assigned partitions must not be dropped");
        let begun = Instant::now();
        let n_events = || self.context().n_events.load(Ordering::Relaxed);
        while begun.elapsed() < DRAIN {
            let before = n_events();
            if self.inner.poll(QUIET).is_none() && n_events() == before {
                break;
            }
        }
    }

    /// A broker has just answered, whatever earlier events say.
    pub fn note_answer(&self) {
        self.context().is_connected.store(true, Ordering::Relaxed);
    }

    /// Reads these partitions from now on, each from its offset. Records that were fetched before are dropped.
    ///
    /// # Errors
    /// Why librdkafka refuses.
    pub fn assign(&self, next: &BTreeMap<i32, u64>) -> Result<(), Wait> {
        let refusal = |e: &KafkaError| Wait::new("broker", format!("the topic {:?} cannot be read: {}", self.topic, code(e)));
        let mut list = TopicPartitionList::with_capacity(next.len());
        for (&partition, &next) in next {
            list.add_partition_offset(&self.topic, partition, offset(next)).map_err(|e| refusal(&e))?;
        }
        self.context().heard().high_watermarks.clear();
        self.inner.assign(&list).map_err(|e| refusal(&e))?;
        self.is_assigned.set(true);
        Ok(())
    }

    /// Reads nothing until the next assignment; records that were fetched are dropped.
    pub fn unassign(&self) {
        if let Err(e) = self.inner.unassign() {
            tracing::debug!(topic = self.topic, "librdkafka: {e}");
        }
        self.is_assigned.set(false);
    }

    /// Waits for a record or another event, at most for `timeout`. `topic_id` is the topic that the assignment was made for.
    pub fn poll(&self, timeout: Duration, topic_id: Option<&str>) -> Polled {
        match self.inner.poll(timeout) {
            None => Polled::Nothing,
            Some(Ok(_)) if self.context().heard().topic_id.as_deref() != topic_id => Polled::OtherTopic,
            Some(Ok(message)) => {
                self.note_answer();
                Polled::Record(self.own(&message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Polled::End(partition, self.context().heard().end.take()),
            Some(Err(e)) => match e.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::LogTruncation) => Polled::OutOfRange,
                // The context has noted the reason, and librdkafka tries again.
                Some(code) if Cause::of(code).is_some() => Polled::Nothing,
                _ => Polled::Trouble(Wait::new("topic", format!("the topic {:?} cannot be read: {}", self.topic, code(&e)))),
            },
        }
    }

    /// A copy. An empty value deletes like an absent one, because some producers cannot send the latter.
    fn own(&self, message: &impl Message) -> Record {
        let value = message.payload().filter(|value| !value.is_empty());
        Record {
            partition: message.partition(),
            offset: u64::try_from(message.offset()).expect("records have offsets from 0 on"),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: value.map(|value| value[..value.len().min(self.max_value_bytes)].to_vec()),
            n_value_bytes: value.map_or(0, <[u8]>::len),
        }
    }

    /// The offset after the last record of a partition, committed or not; `None` until its leader has reported it.
    pub fn high_watermark(&self, partition: i32) -> Option<u64> {
        self.context().heard().high_watermarks.get(&partition).copied()
    }

    /// Commits the feed's positions to the consumer group, for tools that show lag. Nothing else reads them.
    pub fn commit(&self, next: &BTreeMap<i32, u64>) {
        let mut list = TopicPartitionList::with_capacity(next.len());
        for (&partition, &next) in next {
            if let Err(e) = list.add_partition_offset(&self.topic, partition, offset(next)) {
                return self.context().committed(Err(e));
            }
        }
        match self.inner.commit(&list, CommitMode::Async) {
            Ok(()) => drop(self.context().n_commits_under_way.fetch_add(1, Ordering::Relaxed)),
            Err(e) => self.context().committed(Err(e)),
        }
    }

    /// Waits for commits under way, at most for `timeout`. Records that come meanwhile are dropped.
    pub fn settle(&self, timeout: Duration) {
        let begun = Instant::now();
        while self.context().n_commits_under_way.load(Ordering::Relaxed) > 0 && begun.elapsed() < timeout {
            drop(self.inner.poll(QUIET));
        }
    }
}

fn offset(next: u64) -> Offset {
    i64::try_from(next).map_or(Offset::Invalid, Offset::Offset)
}

fn consumer_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = base_config(settings);
    config.set("group.id", settings.group_id.trim());
    // The collections keep their positions; the group is only informed.
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("enable.partition.eof", "true");
    // The feed decides where to go on, and reports what is missing; librdkafka would skip it without an event.
    config.set("auto.offset.reset", "error");
    config.set("statistics.interval.ms", "1000");
    // The context reads the topic's id from the log, and `forward_log` keeps the rest of these lines out of it.
    let debug = config.get("debug").map_or_else(|| "topic".to_owned(), |contexts| format!("topic,{contexts}"));
    config.set("debug", debug);
    config.set_log_level(RDKafkaLogLevel::Debug);
    let defaults = [
        // Read ahead no further than this; then brokers wait.
        ("queued.max.messages.kbytes", (settings.prefetch_bytes / 1024).to_string()),
        // How long a broker may keep a request that it has no record for; some keep it although records have come meanwhile.
        ("fetch.wait.max.ms", "50".to_owned()),
        ("fetch.queue.backoff.ms", "20".to_owned()),
        ("fetch.error.backoff.ms", "100".to_owned()),
        ("allow.auto.create.topics", "false".to_owned()),
    ];
    for (name, value) in defaults {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    config
}
