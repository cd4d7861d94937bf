//! What made a collection differ from its topic: the words, the log lines and the metrics.

use std::time::Duration;

use jiff::Timestamp;

use super::ledger::{Ledger, Moment, Start};
use super::one_state::OneState;
use super::state::{FeedWarning, FeedWarningKind, Warnings};

/// Shows what the collection remembers, and how many offsets of each of these partitions are lost.
pub(super) fn show<'a>(state: &OneState, collection: &str, topic: &str, ledger: &Ledger, partitions: impl Iterator<Item = &'a i32>) {
    let kinds = [
        (Moment::Lost, FeedWarningKind::RecordsLost, "records_lost", lost(collection, topic, ledger)),
        (Moment::Replaced, FeedWarningKind::TopicReplaced, "topic_replaced", replaced(collection, topic)),
        (Moment::DeletionsMissed, FeedWarningKind::DeletionsMissed, "deletions_missed", deletions_missed(collection, topic)),
    ];
    let mut shown = Warnings::default();
    for (moment, kind, label, message) in kinds {
        let at_ms = ledger.time_ms(moment);
        shown.times_s.push((label, at_ms.unwrap_or_default() as f64 / 1e3));
        if let Some(at_ms) = at_ms {
            shown.list.push(FeedWarning { kind, at: time(at_ms), message });
        }
    }
    let lost = |partition: &i32| (*partition, ledger.lost.get(partition).copied().unwrap_or_default());
    shown.lost = partitions.map(lost).collect();
    state.warns(shown);
}

/// Logs what has happened since the feed last read.
pub(super) fn log_start(collection: &str, topic: &str, start: &Start) {
    for (&partition, &n_offsets) in &start.lost {
        tracing::error!(
            collection,
            topic,
            partition,
            n_offsets,
            "records were deleted before the feed read them (retention, or delete_records): documents may be missing or out of date. {}",
            remedy(collection)
        );
    }
    for partition in &start.cut {
        tracing::error!(
            collection,
            topic,
            partition,
            "the partition ends before records that the feed has read (an unclean election of its leader?): it is read again from its first offset"
        );
    }
    if start.is_replaced {
        tracing::error!(collection, topic, "{}", replaced(collection, topic));
    }
}

/// Logs that deletions may be missing.
pub(super) fn log_deletions_missed(collection: &str, topic: &str, away: Duration, delete_retention: Duration) {
    tracing::error!(
        collection,
        topic,
        away_s = away.as_secs(),
        delete_retention_s = delete_retention.as_secs(),
        "{}",
        deletions_missed(collection, topic)
    );
}

fn lost(collection: &str, topic: &str, ledger: &Ledger) -> String {
    let lost: Vec<String> = ledger.lost.iter().map(|(partition, n)| format!("{n} offsets of partition {partition}")).collect();
    format!(
        "{} of the topic {topic} were deleted before the feed read them (retention, or delete_records): documents may be missing or out \
         of date. {}",
        lost.join(", "),
        remedy(collection)
    )
}

fn replaced(collection: &str, topic: &str) -> String {
    format!(
        "the topic {topic} was deleted and created again (it has another topic id): the feed reads the new one from its beginning. \
         Documents of the old topic that the new one does not repeat are still there. To remove them, replay the topic: {}",
        replay(collection)
    )
}

fn deletions_missed(collection: &str, topic: &str) -> String {
    format!(
        "the feed was away from the end of the compacted topic {topic} for longer than its delete.retention.ms: deletions may have been \
         compacted away unread, and their documents are still there. To remove them, replay the topic: {}",
        replay(collection)
    )
}

fn remedy(collection: &str) -> String {
    format!(
        "If the topic still has a record of every document, replay it: {}. Otherwise produce the missing records again",
        replay(collection)
    )
}

fn replay(collection: &str) -> String {
    format!("DELETE /v1/collections/{collection}, and PUT its definition again unless the settings contain it")
}

fn time(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| format!("{at_ms} ms"), |at| at.to_string())
}
