//! The state of one feed, changed by its thread: every change is shown, logged once and measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::client::Cause;
use super::state::{FeedStates, OneFeed, Warnings};
use crate::telemetry::metrics;
use kindred_core::domain::CollectionName;

/// Time after which a failed connection is not shown any more. librdkafka reports one that keeps failing every 30 s.
const FORGET: Duration = Duration::from_secs(60);

/// Why a feed stands still: its kind, which is logged once, and the reason in words, whose details may differ each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    pub kind: &'static str,
    pub reason: String,
}

impl Wait {
    pub fn new(kind: &'static str, reason: String) -> Self {
        Self { kind, reason }
    }

    /// The collection cannot be read or written.
    pub fn write(reason: String) -> Self {
        Self::new("write", reason)
    }
}

/// The state of one feed, for its thread.
#[derive(Debug, Clone)]
pub(super) struct OneState {
    all: FeedStates,
    collection: CollectionName,
    topic: String,
}

impl OneState {
    pub fn of(all: &FeedStates, collection: &CollectionName, topic: &str) -> Self {
        metrics::kafka_begins(collection.as_str(), topic);
        Self { all: all.clone(), collection: collection.clone(), topic: topic.to_owned() }
    }

    fn change<R>(&self, change: impl FnOnce(&mut OneFeed) -> R) -> R {
        change(self.all.feeds().get_mut(&self.collection).expect("the states are those of the configured feeds"))
    }

    /// Whether a broker answers. Called every few seconds, whatever the feed does: gauges that nobody sets are dropped.
    pub fn connected(&self, is_connected: bool) {
        let (collection, topic) = (self.collection.as_str(), &self.topic);
        self.change(|feed| {
            for (&partition, &n) in &feed.warnings.lost {
                metrics::kafka_lost_offsets(collection, topic, partition, n);
            }
            for (kind, at_s) in &feed.warnings.times_s {
                metrics::kafka_warning(collection, topic, kind, *at_s);
            }
            feed.shown.connected = is_connected;
            if feed.failed.is_some_and(|failed| failed.elapsed() > FORGET) {
                feed.failed = None;
                feed.logged_failures.clear();
                feed.shown.broker_error = None;
            }
        });
        metrics::kafka_connected(collection, topic, is_connected);
    }

    /// A connection to a broker failed. While other brokers answer, it is worth a line if only another setting helps.
    pub fn connection_failed(&self, cause: Cause, reason: &str) {
        let is_worth_a_line = self.change(|feed| {
            feed.failed = Some(Instant::now());
            feed.shown.broker_error = Some(reason.to_owned());
            feed.shown.connected && cause.is_a_setting() && feed.logged_failures.insert(cause.name())
        });
        metrics::kafka_connection_error(self.collection.as_str(), &self.topic, cause.name());
        if is_worth_a_line {
            tracing::warn!(collection = %self.collection, topic = self.topic, reason, "a Kafka broker cannot be used");
        }
    }

    /// The feed stands still. Logs one line for each kind of reason until it goes on.
    pub fn waits(&self, why: Wait) {
        let Wait { kind, reason } = why;
        let is_first = self.change(|feed| {
            feed.shown.waiting_for = Some(reason.clone());
            feed.shown.caught_up = false;
            feed.shown.lag_records = None;
            feed.logged.insert(kind)
        });
        metrics::kafka_waiting(self.collection.as_str(), &self.topic, true);
        metrics::kafka_caught_up(self.collection.as_str(), &self.topic, false);
        if is_first {
            tracing::warn!(collection = %self.collection, topic = self.topic, reason, "the Kafka feed waits, nothing is skipped");
        }
    }

    /// The feed reads and writes.
    pub fn goes_on(&self) {
        let has_waited = self.change(|feed| {
            feed.logged.clear();
            feed.shown.waiting_for.take().is_some()
        });
        metrics::kafka_waiting(self.collection.as_str(), &self.topic, false);
        if has_waited {
            tracing::info!(collection = %self.collection, topic = self.topic, "the Kafka feed goes on");
        }
    }

    /// The lag by partition; `None` while it is unknown.
    pub fn lag(&self, lags: &BTreeMap<i32, Option<u64>>, is_complete: bool) {
        let total: Option<u64> = lags.values().copied().sum();
        let total = total.filter(|_| is_complete);
        self.change(|feed| {
            feed.shown.lag_records = total;
            feed.shown.caught_up = total == Some(0);
        });
        metrics::kafka_caught_up(self.collection.as_str(), &self.topic, total == Some(0));
        for (&partition, &lag) in lags {
            if let Some(lag) = lag {
                metrics::kafka_lag(self.collection.as_str(), &self.topic, partition, lag);
            }
        }
    }

    /// Every partition has been read to its end once.
    pub fn has_caught_up(&self) {
        let is_first = self.change(|feed| !std::mem::replace(&mut feed.has_caught_up, true));
        if is_first {
            tracing::info!(collection = %self.collection, topic = self.topic, "the Kafka feed has caught up");
        }
    }

    /// Replaces the warnings.
    pub fn warns(&self, warnings: Warnings) {
        self.change(|feed| {
            feed.shown.warnings.clone_from(&warnings.list);
            feed.warnings = warnings;
        });
    }
}
