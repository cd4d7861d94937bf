//! What a feed does at the ends of its partitions: keep how far and when they were read, and notice deletions that it may have missed.

use std::time::{Duration, Instant};

use super::assigned::Assigned;
use super::ledger::{Moment, noted, position_name};
use super::topic_settings;
use super::warnings;
use super::worker::{Worker, now_ms};
use crate::pipeline::WriteRequest;
use kindred_core::Progress;
use kindred_core::domain::FeedPosition;
use kindred_core::error::chain;

/// Shortest time between two writes that are only about ends.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest time after which a collection keeps that a compacted topic is still read to its end.
const LONGEST_SILENCE: Duration = Duration::from_secs(3_600);

impl Worker {
    /// Keeps ends and times in the collection, where they have changed. `is_last`: the feed stops.
    pub(super) fn settle(&self, assigned: &mut Assigned, is_last: bool) {
        if (assigned.settled.elapsed() < PERIOD && !is_last) || !assigned.partitions.values().any(|partition| partition.is_at_end()) {
            return;
        }
        assigned.settled = Instant::now();
        let now_ms = now_ms();
        let delete_retention = self.delete_retention(assigned, is_last);
        let missed = delete_retention.filter(|&delete_retention| assigned.away > delete_retention);
        let (ends, read_ms) = (assigned.ends_after_positions(), assigned.read_ms(now_ms));
        let is_due = delete_retention.is_some_and(|delete_retention| {
            let kept_for = Duration::from_millis(read_ms.saturating_sub(assigned.kept_read_ms.unwrap_or_default()));
            is_last || kept_for >= (delete_retention / 8).clamp(PERIOD, LONGEST_SILENCE)
        });
        if ends.is_empty() && missed.is_none() && !is_due {
            return;
        }
        // The collection may have been made anew since: then its positions are not this feed's to move.
        if self.has_moved(assigned) {
            return;
        }
        let id = assigned.topic_id.as_deref();
        let end = |(&partition, &end): (&i32, &u64)| FeedPosition { source: position_name(&self.topic, id, partition), next: Some(end) };
        let mut positions: Vec<FeedPosition> = ends.iter().map(end).collect();
        positions.push(noted(&self.topic, Moment::Read, read_ms));
        positions.extend(missed.map(|_| noted(&self.topic, Moment::DeletionsMissed, now_ms)));
        if let Err(error) = self.keep(positions) {
            // The next batch needs the same writes, and waits for them.
            tracing::debug!(collection = %self.collection, topic = self.topic, error, "the ends of the topic could not be kept");
            return;
        }
        assigned.note_durable(&ends);
        assigned.kept_read_ms = Some(read_ms);
        if let Some(delete_retention) = missed {
            warnings::log_deletions_missed(self.collection.as_str(), &self.topic, assigned.away, delete_retention);
            if let Ok(ledger) = self.ledger() {
                warnings::show(&self.state, self.collection.as_str(), &self.topic, &ledger, assigned.partitions.keys());
            }
        }
        assigned.away = Duration::ZERO;
    }

    /// The topic's `delete.retention.ms`, asked for once an assignment. `None` if the topic is not compacted, or if that is unknown.
    fn delete_retention(&self, assigned: &mut Assigned, is_last: bool) -> Option<Duration> {
        if let Some(known) = assigned.delete_retention {
            return known;
        }
        if is_last {
            return None;
        }
        let asked = topic_settings::delete_retention(&self.settings, &self.topic, &self.runtime);
        let delete_retention = asked.unwrap_or_else(|error| {
            tracing::debug!(topic = self.topic, error, "the topic's settings cannot be read: missed deletions will not be noticed");
            None
        });
        assigned.delete_retention = Some(delete_retention);
        delete_retention
    }

    /// Makes positions and notes durable.
    ///
    /// # Errors
    /// Why the collection could not be written.
    pub(super) fn keep(&self, positions: Vec<FeedPosition>) -> Result<(), String> {
        if positions.is_empty() {
            return Ok(());
        }
        let request = WriteRequest { positions, ..WriteRequest::default() };
        let progress = Progress::hidden().cancelled_by(&self.cancel);
        self.runtime.block_on(self.write.write(&self.collection, request, &progress)).map_err(|e| chain(&e))?;
        Ok(())
    }
}
