//! The state of the feeds, for operators, the log and the metrics.

use std::collections::BTreeMap;
#[cfg(feature = "kafka")]
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "kafka")]
use std::time::Instant;

use serde::Serialize;

use kindred_core::domain::CollectionName;

/// How the feed of one collection is doing. For operators: it names topics, and the reasons name brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FeedState {
    pub collection: String,
    pub topic: String,
    /// Whether a broker answers.
    pub connected: bool,
    /// Whether the collection has everything up to the end (the high watermark) of every partition.
    pub caught_up: bool,
    /// Records of the topic that are not in the collection yet, those of open transactions included; absent while it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<u64>,
    /// Why the feed stands still, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Why the latest connection to a broker failed, if one did within the last minute. Others may work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_error: Option<String>,
    /// Why documents may be missing, out of date or superfluous, and what to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<FeedWarning>,
}

/// Something that made a collection differ from its topic. It stays until the collection is made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FeedWarning {
    pub kind: FeedWarningKind,
    /// When it was last noticed.
    pub at: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedWarningKind {
    /// Records were deleted before the feed read them.
    RecordsLost,
    /// The topic was deleted and created again.
    TopicReplaced,
    /// Deletions may have been compacted away before the feed read them.
    DeletionsMissed,
}

/// The warnings about a feed, and their numbers for the metrics.
#[cfg(feature = "kafka")]
#[derive(Debug, Default)]
pub(super) struct Warnings {
    pub list: Vec<FeedWarning>,
    /// By partition, how many offsets are lost.
    pub lost: BTreeMap<i32, u64>,
    /// By kind, when it was last noticed, in seconds since 1970; 0 if never.
    pub times_s: Vec<(&'static str, f64)>,
}

/// The states of all feeds. All clones are one.
#[derive(Debug, Clone, Default)]
pub struct FeedStates {
    feeds: Arc<Mutex<BTreeMap<CollectionName, OneFeed>>>,
    ready_when_caught_up: bool,
}

#[derive(Debug, Default)]
pub(super) struct OneFeed {
    pub shown: FeedState,
    /// Whether every partition has been read to its end once since the start.
    pub has_caught_up: bool,
    /// The kinds of reasons that have been logged since the feed last went on.
    #[cfg(feature = "kafka")]
    pub logged: BTreeSet<&'static str>,
    /// The causes of failed connections that have been logged since a minute without any.
    #[cfg(feature = "kafka")]
    pub logged_failures: BTreeSet<&'static str>,
    /// When a connection last failed.
    #[cfg(feature = "kafka")]
    pub failed: Option<Instant>,
    #[cfg(feature = "kafka")]
    pub warnings: Warnings,
}

impl FeedStates {
    /// The states of feeds that have not begun.
    pub(super) fn new<'a>(feeds: impl Iterator<Item = (&'a CollectionName, &'a str)>, ready_when_caught_up: bool) -> Self {
        let state = |(collection, topic): (&CollectionName, &str)| {
            let shown = FeedState { collection: collection.to_string(), topic: topic.to_owned(), ..FeedState::default() };
            (collection.clone(), OneFeed { shown, ..OneFeed::default() })
        };
        Self { feeds: Arc::new(Mutex::new(feeds.map(state).collect())), ready_when_caught_up }
    }

    pub(super) fn feeds(&self) -> MutexGuard<'_, BTreeMap<CollectionName, OneFeed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of each state, by collection.
    pub fn list(&self) -> Vec<FeedState> {
        self.feeds().values().map(|feed| feed.shown.clone()).collect()
    }

    /// Whether the feeds allow the server to take traffic: always, unless `kafka.ready_when_caught_up` is set.
    pub fn is_ready(&self) -> bool {
        self.not_ready().is_none()
    }

    /// Why the server should not take traffic yet. For operators: it names collections, topics and brokers.
    pub fn not_ready(&self) -> Option<String> {
        if !self.ready_when_caught_up {
            return None;
        }
        self.feeds().values().find_map(OneFeed::not_ready)
    }
}

impl OneFeed {
    fn not_ready(&self) -> Option<String> {
        let FeedState { collection, topic, waiting_for, warnings, .. } = &self.shown;
        if let Some(lost) = warnings.iter().find(|warning| warning.kind == FeedWarningKind::RecordsLost) {
            return Some(format!("collection {collection} is not complete: {}", lost.message));
        }
        if self.has_caught_up {
            return None;
        }
        let why = waiting_for.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        Some(format!("collection {collection} has not caught up with the topic {topic}{why}"))
    }
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::super::one_state::{OneState, Wait};
    use super::*;

    fn states(ready_when_caught_up: bool) -> (FeedStates, [OneState; 2]) {
        let names = ["jobs", "members"].map(|name| CollectionName::new(name).unwrap());
        let states = FeedStates::new(names.iter().map(|name| (name, "topic")), ready_when_caught_up);
        let each = names.map(|name| OneState::of(&states, &name, "topic"));
        (states, each)
    }

    #[test]
    fn a_server_that_waits_for_its_feeds_is_ready_when_all_have_caught_up() {
        let (all, [jobs, members]) = states(true);
        jobs.has_caught_up();
        members.waits(Wait::new("connection", "a broker".to_owned()));
        assert!(all.not_ready().unwrap().contains("members has not caught up with the topic topic: a broker"));
        members.has_caught_up();
        assert!(all.is_ready());
        assert!(states(false).0.is_ready());
    }

    #[test]
    fn lost_records_keep_a_server_from_traffic_only_if_it_waits_for_its_feeds() {
        for ready_when_caught_up in [true, false] {
            let (all, feeds) = states(ready_when_caught_up);
            for feed in &feeds {
                feed.has_caught_up();
            }
            let warning = |kind| FeedWarning { kind, at: String::new(), message: "why".to_owned() };
            let warns = |list| feeds[0].warns(Warnings { list, ..Warnings::default() });
            warns(vec![warning(FeedWarningKind::TopicReplaced), warning(FeedWarningKind::DeletionsMissed)]);
            assert!(all.is_ready());
            warns(vec![warning(FeedWarningKind::RecordsLost)]);
            assert_eq!(all.is_ready(), !ready_when_caught_up);
        }
    }

    #[test]
    fn lag_is_unknown_while_that_of_a_partition_is() {
        let (all, [jobs, _]) = states(false);
        let shown = || (all.list()[0].lag_records, all.list()[0].caught_up);
        jobs.lag(&BTreeMap::from([(0, Some(0)), (1, None)]), true);
        assert_eq!(shown(), (None, false));
        jobs.lag(&BTreeMap::from([(0, Some(0)), (1, Some(3))]), true);
        assert_eq!(shown(), (Some(3), false));
        jobs.lag(&BTreeMap::from([(0, Some(0)), (1, Some(0))]), false);
        assert_eq!(shown(), (None, false), "there may be further partitions");
        jobs.lag(&BTreeMap::from([(0, Some(0)), (1, Some(0))]), true);
        assert_eq!(shown(), (Some(0), true));
    }
}
