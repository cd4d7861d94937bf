//! A consumer of one topic that tells where the topic ends and whether a broker answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

use super::batch::Record;
use super::client::{base_config, code, is_about_the_way, refused};
use super::settings::KafkaSettings;

/// Time that a broker has to tell what it has, while the feed does nothing else.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// What a poll brought.
#[derive(Debug)]
pub(super) enum Polled {
    Record(Record),
    /// There is nothing more in this partition, for now.
    End(i32),
    /// Something that the feed should look into: the topic may have gone.
    Trouble(String),
    Nothing,
}

/// What a topic looks like from here.
#[derive(Debug)]
pub(super) enum Topic {
    Partitions(Vec<i32>),
    Missing,
    /// No broker answers; or they do, but with a refusal.
    Unknown(String),
}

/// Reads one topic.
pub(super) struct Consumer {
    inner: BaseConsumer<Context>,
    topic: String,
    max_value_bytes: usize,
}

/// Hears what librdkafka says beside the records.
#[derive(Default)]
struct Context {
    topic: String,
    is_connected: AtomicBool,
    /// By partition, the offset after its last record.
    ends: Mutex<BTreeMap<i32, u64>>,
    n_commits_under_way: AtomicUsize,
    commit_failed: AtomicBool,
}

impl Consumer {
    /// Connects in the background.
    ///
    /// # Errors
    /// The text of what librdkafka has against the settings.
    pub fn new(settings: &KafkaSettings, topic: &str) -> Result<Self, String> {
        let context = Context { topic: topic.to_owned(), ..Context::default() };
        let inner = consumer_config(settings).create_with_context(context).map_err(|e: KafkaError| refused(&e))?;
        Ok(Self { inner, topic: topic.to_owned(), max_value_bytes: settings.max_value_bytes })
    }

    pub fn is_connected(&self) -> bool {
        self.inner.context().is_connected.load(Ordering::Relaxed)
    }

    /// Asks a broker for the topic's partitions.
    pub fn look_up(&self) -> Topic {
        let metadata = self.inner.fetch_metadata(Some(&self.topic), METADATA_TIMEOUT);
        let is_connected = !matches!(&metadata, Err(e) if e.rdkafka_error_code().is_none_or(is_about_the_way));
        self.inner.context().is_connected.store(is_connected, Ordering::Relaxed);
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(e) => return Topic::Unknown(format!("no Kafka broker answers as it should ({})", code(&e))),
        };
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == self.topic) else { return Topic::Missing };
        match topic.error().map(RDKafkaErrorCode::from) {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Topic::Missing,
            Some(code) => Topic::Unknown(format!("the broker says of the topic: {code}")),
            None if topic.partitions().is_empty() => Topic::Missing,
            None => Topic::Partitions(topic.partitions().iter().map(|partition| partition.id()).collect()),
        }
    }

    /// Reads these partitions from now on, each from its offset, or from its beginning. What was fetched before is dropped.
    ///
    /// # Errors
    /// The text of librdkafka's error.
    pub fn assign(&self, partitions: &BTreeMap<i32, Option<u64>>) -> Result<(), String> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (&partition, next) in partitions {
            let offset = next.and_then(|next| i64::try_from(next).ok()).map_or(Offset::Beginning, Offset::Offset);
            list.add_partition_offset(&self.topic, partition, offset).map_err(|e| code(&e))?;
        }
        self.inner.context().ends().clear();
        self.inner.assign(&list).map_err(|e| code(&e))
    }

    /// Reads nothing until the next assignment; what was fetched is dropped.
    pub fn unassign(&self) {
        if let Err(e) = self.inner.unassign() {
            tracing::debug!(topic = self.topic, "librdkafka: {e}");
        }
    }

    /// Waits for a record, or for something else to tell, for this time at most.
    pub fn poll(&self, timeout: Duration) -> Polled {
        match self.inner.poll(timeout) {
            None => Polled::Nothing,
            Some(Ok(message)) => {
                self.inner.context().is_connected.store(true, Ordering::Relaxed);
                Polled::Record(self.own(&message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Polled::End(partition),
            // The context has heard of it, and librdkafka goes on trying.
            Some(Err(e)) if e.rdkafka_error_code().is_some_and(is_about_the_way) => Polled::Nothing,
            Some(Err(e)) => Polled::Trouble(code(&e)),
        }
    }

    /// A copy. An empty value is a deletion like one that is not there: some producers cannot send the latter.
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

    /// By partition, the offset after its last record, as far as brokers have told.
    pub fn ends(&self) -> BTreeMap<i32, u64> {
        self.inner.context().ends().clone()
    }

    /// Tells the consumer group how far the feed is, for tools that show lag. Nothing depends on it.
    pub fn commit(&self, next: &BTreeMap<i32, u64>) {
        let mut list = TopicPartitionList::with_capacity(next.len());
        for (&partition, &next) in next {
            let offset = i64::try_from(next).map_or(Offset::Invalid, Offset::Offset);
            if let Err(e) = list.add_partition_offset(&self.topic, partition, offset) {
                return self.inner.context().committed(Err(e));
            }
        }
        match self.inner.commit(&list, CommitMode::Async) {
            Ok(()) => drop(self.inner.context().n_commits_under_way.fetch_add(1, Ordering::Relaxed)),
            Err(e) => self.inner.context().committed(Err(e)),
        }
    }

    /// Waits for commits under way, for this time at most. What is read meanwhile is dropped.
    pub fn settle(&self, timeout: Duration) {
        let begun = std::time::Instant::now();
        while self.inner.context().n_commits_under_way.load(Ordering::Relaxed) > 0 && begun.elapsed() < timeout {
            self.poll(Duration::from_millis(20));
        }
    }
}

impl Context {
    fn ends(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, u64>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(&self, result: KafkaResult<()>) {
        let failed = result.is_err();
        let failed_before = self.commit_failed.swap(failed, Ordering::Relaxed);
        if let (Err(e), false) = (result, failed_before) {
            let (topic, error) = (&self.topic, code(&e));
            tracing::warn!(topic, error, "offsets cannot be committed to the consumer group: lag tools will not see how far the feed is");
        }
    }
}

impl ClientContext for Context {
    /// One line of our own says what matters; librdkafka says it again and again.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "OFFSET" && (level as i32) <= (RDKafkaLogLevel::Warning as i32) {
            tracing::warn!(
                topic = self.topic,
                message,
                "where the feed stood is not in the topic any more (retention?): it goes on at the oldest record that is left"
            );
        } else {
            tracing::debug!(topic = self.topic, facility, "librdkafka: {message}");
        }
    }

    fn stats(&self, statistics: Statistics) {
        let is_connected = statistics.brokers.values().any(|broker| broker.state == "UP");
        self.is_connected.store(is_connected, Ordering::Relaxed);
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let ends = topic.partitions.values().filter_map(|p| Some((p.partition, u64::try_from(p.hi_offset).ok()?)));
        self.ends().extend(ends);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.is_connected.store(false, Ordering::Relaxed);
        }
        tracing::debug!(topic = self.topic, reason, "librdkafka: {error}");
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        self.n_commits_under_way.fetch_sub(1, Ordering::Relaxed);
        self.committed(result);
    }
}

fn consumer_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = base_config(settings);
    config.set("group.id", settings.group_id.trim());
    // The collections know how far they are; the group is only told.
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("enable.partition.eof", "true");
    config.set("auto.offset.reset", "earliest");
    config.set("statistics.interval.ms", "1000");
    let defaults = [
        // Read ahead no further than this; then brokers wait.
        ("queued.max.messages.kbytes", (settings.prefetch_bytes / 1024).to_string()),
        // How long a broker may keep a question that it has no answer to; some keep it although records have come meanwhile.
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
