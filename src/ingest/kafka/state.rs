//! What is told of the feed: to `GET /readyz`, to the log, and to the metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

#[cfg(feature = "kafka")]
use crate::telemetry::metrics;
use kindred_core::domain::CollectionName;

/// How the feed of one collection is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FeedState {
    pub collection: String,
    pub topic: String,
    /// Whether a broker answers.
    pub connected: bool,
    /// Whether every partition has been read to its end since the start.
    pub caught_up: bool,
    /// Records that are in the topic, but not in the collection yet; of what has been heard of so far.
    pub lag_records: u64,
    /// Why the feed stands still, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

/// The states of all feeds. All clones are one.
#[derive(Debug, Clone, Default)]
pub struct FeedStates {
    states: Arc<Mutex<BTreeMap<CollectionName, FeedState>>>,
    ready_when_caught_up: bool,
}

impl FeedStates {
    /// Of these collections and topics, none of which has begun.
    pub(super) fn new<'a>(feeds: impl Iterator<Item = (&'a CollectionName, &'a str)>, ready_when_caught_up: bool) -> Self {
        let of = |(collection, topic): (&CollectionName, &str)| {
            let state = FeedState { collection: collection.to_string(), topic: topic.to_owned(), ..FeedState::default() };
            (collection.clone(), state)
        };
        Self { states: Arc::new(Mutex::new(feeds.map(of).collect())), ready_when_caught_up }
    }

    /// A copy of each, by collection.
    pub fn list(&self) -> Vec<FeedState> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Why a server should not be asked yet, where it is told to wait for its feeds.
    pub fn not_ready(&self) -> Option<String> {
        let behind = self.list().into_iter().find(|state| self.ready_when_caught_up && !state.caught_up)?;
        let why = behind.waiting_for.map(|why| format!(": {why}")).unwrap_or_default();
        Some(format!("collection {} has not caught up with the topic {}{why}", behind.collection, behind.topic))
    }
}

/// The state of one feed, for the one who changes it.
#[cfg(feature = "kafka")]
#[derive(Debug, Clone)]
pub(super) struct OneState {
    all: FeedStates,
    collection: CollectionName,
}

#[cfg(feature = "kafka")]
impl OneState {
    pub fn of(all: &FeedStates, collection: &CollectionName) -> Self {
        Self { all: all.clone(), collection: collection.clone() }
    }

    /// Changes the state; returns what it was before.
    fn change(&self, change: impl FnOnce(&mut FeedState)) -> FeedState {
        let mut states = self.all.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.get_mut(&self.collection).expect("the states are those of the configured feeds");
        let before = state.clone();
        change(state);
        before
    }

    pub fn connected(&self, connected: bool) {
        let before = self.change(|state| state.connected = connected);
        metrics::kafka_connected(&before.collection, &before.topic, connected);
    }

    /// The feed stands still, or (`None`) goes on; every change of that is one line of the log.
    pub fn waiting_for(&self, why: Option<String>) {
        let before = self.change(|state| state.waiting_for.clone_from(&why));
        metrics::kafka_waiting(&before.collection, &before.topic, why.is_some());
        match why {
            Some(why) if before.waiting_for.as_ref() != Some(&why) => {
                tracing::warn!(
                    collection = before.collection,
                    topic = before.topic,
                    reason = why,
                    "the Kafka feed waits, nothing is skipped"
                );
            }
            None if before.waiting_for.is_some() => {
                tracing::info!(collection = before.collection, topic = before.topic, "the Kafka feed goes on");
            }
            _ => {}
        }
    }

    pub fn lag(&self, partition: i32, lag: u64, total: u64) {
        let before = self.change(|state| state.lag_records = total);
        metrics::kafka_lag(&before.collection, &before.topic, partition, lag);
    }

    /// All partitions have been read to their ends.
    pub fn caught_up(&self) {
        let before = self.change(|state| state.caught_up = true);
        if !before.caught_up {
            tracing::info!(collection = before.collection, topic = before.topic, "the Kafka feed has caught up");
        }
    }
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_waits_for_its_feeds_is_ready_when_all_have_caught_up() {
        let names = ["jobs", "members"].map(|name| CollectionName::new(name).unwrap());
        let states = FeedStates::new(names.iter().map(|name| (name, "topic")), true);
        OneState::of(&states, &names[0]).caught_up();
        let members = OneState::of(&states, &names[1]);
        members.waiting_for(Some("a broker".to_owned()));
        assert!(states.not_ready().unwrap().contains("members has not caught up with the topic topic: a broker"));
        members.caught_up();
        assert_eq!(states.not_ready(), None);
        assert!(FeedStates::new(names.iter().map(|name| (name, "topic")), false).not_ready().is_none());
    }
}
