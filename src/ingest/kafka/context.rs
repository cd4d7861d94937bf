//! What librdkafka reports beside the records: connections, errors, ends of partitions, the topic's id.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, TopicPartitionList};

use super::client::{Cause, code, forward_log, without_statistics};
use super::one_state::{OneState, Wait};

/// Called by librdkafka whenever the consumer is polled, on the polling thread and in the order of the events.
pub(super) struct Context {
    topic: String,
    state: OneState,
    pub is_connected: AtomicBool,
    pub n_commits_under_way: AtomicUsize,
    /// How many events have been handled, to notice a pause.
    pub n_events: AtomicUsize,
    commit_failed: AtomicBool,
    heard: Mutex<Heard>,
}

/// The latest reports.
#[derive(Default)]
pub(super) struct Heard {
    /// The topic's id (KIP-516) in base64; `None` until a broker names it.
    pub topic_id: Option<String>,
    /// By partition, the offset after its last record, committed or not.
    pub high_watermarks: BTreeMap<i32, u64>,
    /// The end of a partition that the next `PartitionEOF` is about.
    pub end: Option<End>,
    /// Why the latest connection failed.
    failure: Option<Wait>,
}

/// The end of what can be read of a partition. Behind it lie `high_watermark - offset` records of open transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub offset: u64,
    pub high_watermark: u64,
}

impl End {
    /// Reads "… reached end of partition at offset 100 (HighwaterMark 150)". The rdkafka crate gives these numbers in no other way.
    fn parse(reason: &str) -> Option<Self> {
        let (_, numbers) = reason.split_once("end of partition at offset ")?;
        let (offset, high_watermark) = numbers.split_once(" (HighwaterMark ")?;
        Some(Self { offset: offset.parse().ok()?, high_watermark: high_watermark.strip_suffix(')')?.parse().ok()? })
    }
}

impl Context {
    pub fn new(topic: &str, state: OneState) -> Self {
        Self {
            topic: topic.to_owned(),
            state,
            is_connected: AtomicBool::default(),
            n_commits_under_way: AtomicUsize::default(),
            n_events: AtomicUsize::default(),
            commit_failed: AtomicBool::default(),
            heard: Mutex::default(),
        }
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why no broker answers, as far as librdkafka has reported it.
    pub fn no_broker(&self) -> Wait {
        let failure = self.heard().failure.clone();
        failure.unwrap_or_else(|| Wait::new(Cause::Timeout.name(), "no Kafka broker answers".to_owned()))
    }

    fn failed(&self, cause: Cause, reason: &str) {
        self.heard().failure = Some(Wait::new(cause.name(), format!("no Kafka broker answers as it should: {reason}")));
        self.state.connection_failed(cause, reason);
    }

    /// Notes the outcome of a commit; logs the first failure after a success.
    pub fn committed(&self, result: KafkaResult<()>) {
        let failed = result.is_err();
        let failed_before = self.commit_failed.swap(failed, Ordering::Relaxed);
        if let (Err(e), false) = (result, failed_before) {
            let (topic, error) = (&self.topic, code(&e));
            tracing::warn!(topic, error, "offsets cannot be committed to the consumer group: lag tools will not see how far the feed is");
        }
    }
}

/// The reason in a log line "[thrd:…]: b:9093/bootstrap: Disconnected: … (after 2ms in state APIVERSION_QUERY)".
fn ended_early(message: &str) -> String {
    let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
    let hint = if message.contains("in state APIVERSION_QUERY") { " (does it expect TLS? See security.protocol)" } else { "" };
    format!("{}{hint}", without_statistics(reason))
}

/// The new topic id in a log line "… Topic jobs changed id from … to …". The rdkafka crate gives the id in no other way; librdkafka writes
/// the line (with `debug=topic`) before it fetches the first record of the new topic.
fn new_topic_id<'a>(topic: &str, message: &'a str) -> Option<&'a str> {
    let (_, ids) = message.split_once(&format!("Topic {topic} changed id from "))?;
    ids.split_once(" to ").map(|(_, id)| id)
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.n_events.fetch_add(1, Ordering::Relaxed);
        if let Some(id) = new_topic_id(&self.topic, message) {
            self.heard().topic_id = Some(id.to_owned());
        }
        // librdkafka makes no error of a connection that ends without one.
        if facility == "FAIL" && matches!(level, RDKafkaLogLevel::Info) && !message.contains(" in state UP") {
            self.failed(Cause::Connection, &ended_early(message));
        }
        forward_log(&self.topic, level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.n_events.fetch_add(1, Ordering::Relaxed);
        let is_connected = statistics.brokers.values().any(|broker| broker.state == "UP");
        self.is_connected.store(is_connected, Ordering::Relaxed);
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let high_watermarks = topic.partitions.values().filter_map(|p| Some((p.partition, u64::try_from(p.hi_offset).ok()?)));
        self.heard().high_watermarks.extend(high_watermarks);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.n_events.fetch_add(1, Ordering::Relaxed);
        let Some(code) = error.rdkafka_error_code() else { return };
        if code == RDKafkaErrorCode::PartitionEOF {
            self.heard().end = End::parse(reason);
        } else if code == RDKafkaErrorCode::AllBrokersDown {
            self.is_connected.store(false, Ordering::Relaxed);
        } else if let Some(cause) = Cause::of_failure(code, reason) {
            self.failed(cause, without_statistics(reason));
        }
        tracing::trace!(topic = self.topic, reason, "librdkafka: {error}");
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        self.n_commits_under_way.fetch_sub(1, Ordering::Relaxed);
        self.committed(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ids_are_read_from_librdkafkas_texts() {
        let reason = "Fetch from broker 1 reached end of partition at offset 100 (HighwaterMark 150)";
        assert_eq!(End::parse(reason), Some(End { offset: 100, high_watermark: 150 }));
        assert_eq!(End::parse("Broker: No more messages"), None);
        let line = "[thrd:b:9/bootstrap]: b:9/bootstrap: Disconnected: connection closed by peer (after 2ms in state APIVERSION_QUERY)";
        let reason = "b:9/bootstrap: Disconnected: connection closed by peer (does it expect TLS? See security.protocol)";
        assert_eq!(ended_early(line), reason);
        let line = "[thrd:main]: Topic jobs changed id from AAAAAAAAAAAAAAAAAAAAAA to D6PsvcYJT429EkD/auiIqA";
        assert_eq!(new_topic_id("jobs", line), Some("D6PsvcYJT429EkD/auiIqA"));
        assert_eq!(new_topic_id("other-jobs", line), None);
        assert_eq!(new_topic_id("jobs", "[thrd:main]: Topic other.jobs changed id from A to B"), None);
    }
}
