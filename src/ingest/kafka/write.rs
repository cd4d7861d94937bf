//! A batch into its collection: what is refused becomes dead letters first, and what fails is tried again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::Instrument;

use super::assigned::Assigned;
use super::batch::{Batch, Refusal};
use super::dead_letters::DeadLetter;
use super::ledger::position_name;
use super::one_state::Wait;
use super::stop::Pause;
use super::worker::Worker;
use crate::pipeline::{PipelineError, WriteRequest};
use crate::telemetry::metrics;
use crate::telemetry::traces::stage;
use kindred_core::Progress;
use kindred_core::domain::FeedPosition;
use kindred_core::error::chain;

/// What became of a batch.
pub(super) enum Applied {
    Durable,
    /// The collection does not stand where it was thought to: begin again from where it does.
    Moved,
    Stopped,
}

impl Worker {
    /// Writes a batch, however long it takes.
    pub(super) fn apply(&self, batch: &mut Batch, assigned: &mut Assigned) -> Applied {
        let mut pause = Pause::up_to(Duration::from_secs(10));
        loop {
            match self.attempt(batch, assigned) {
                Ok(Some(applied)) => {
                    if matches!(applied, Applied::Durable) {
                        assigned.note_durable(batch.next());
                        self.count(batch);
                        self.consumer.commit(batch.next());
                    }
                    self.state.goes_on();
                    return applied;
                }
                // Something was refused and put away; the rest is still to be written.
                Ok(None) => {}
                Err(_) if self.stop.is_stopped() => return Applied::Stopped,
                Err(why) => {
                    metrics::kafka_retry(self.collection.as_str(), &self.topic);
                    self.state.waits(Wait::write(why));
                    pause.wait(&self.stop);
                    if self.stop.is_stopped() {
                        return Applied::Stopped;
                    }
                }
            }
        }
    }

    /// One attempt to write a batch; the text of an error is why it will be tried again.
    fn attempt(&self, batch: &mut Batch, assigned: &Assigned) -> Result<Option<Applied>, String> {
        if let Some(applied) = self.where_it_stands(batch, assigned)? {
            return Ok(Some(applied));
        }
        let (mut numbers, mut items, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (number, change) in batch.changes(self.settings.max_value_bytes) {
            match change {
                Ok(item) => {
                    numbers.push(number);
                    items.push(Ok(item));
                }
                Err(refusal) => refused.push((number, refusal)),
            }
        }
        if refused.is_empty() {
            let topic_id = assigned.topic_id.as_deref();
            let source = |partition| position_name(&self.topic, topic_id, partition);
            let positions = batch.next().iter().map(|(&partition, &next)| FeedPosition { source: source(partition), next: Some(next) });
            // Nothing is written while something is refused: the dead letter comes before the position.
            let request = WriteRequest { items, positions: positions.collect(), whole: true, ..WriteRequest::default() };
            let progress = Progress::hidden().cancelled_by(&self.cancel);
            let span = stage!(parent: None, "feed", topic = self.topic, collection = %self.collection, n = request.items.len());
            match self.runtime.block_on(self.write.write(&self.collection, request, &progress).instrument(span)) {
                Ok(_) => {}
                Err(PipelineError::ItemsRefused { items }) => {
                    refused.extend(items.into_iter().map(|(item, error)| (numbers[item], Refusal::from(error))));
                }
                Err(e) => return Err(chain(&e)),
            }
        }
        if refused.is_empty() {
            return Ok(Some(Applied::Durable));
        }
        self.put_away(batch, &refused)?;
        Ok(None)
    }

    /// Looks whether the collection still stands where this batch begins: it may have been made anew, or an attempt that failed may
    /// have been durable all the same.
    fn where_it_stands(&self, batch: &Batch, assigned: &Assigned) -> Result<Option<Applied>, String> {
        let (mut is_before, mut is_after) = (true, true);
        for (&partition, &next) in batch.next() {
            let stands = self.position(assigned.topic_id.as_deref(), partition).map_err(|e| chain(&e))?;
            is_before &= stands == assigned.partitions.get(&partition).map(|partition| partition.next);
            is_after &= stands == Some(next);
        }
        if is_before {
            return Ok(None);
        }
        if is_after {
            return Ok(Some(Applied::Durable));
        }
        tracing::warn!(collection = %self.collection, topic = self.topic, "the collection stands elsewhere in the topic than the feed left it: it begins again from there");
        Ok(Some(Applied::Moved))
    }

    fn put_away(&self, batch: &mut Batch, refused: &[(usize, Refusal)]) -> Result<(), String> {
        let letter = |(number, refusal)| DeadLetter {
            collection: self.collection.as_str(),
            topic: &self.topic,
            record: batch.record(number),
            refusal,
        };
        let letters: Vec<DeadLetter<'_>> = refused.iter().map(|(number, refusal)| letter((*number, refusal))).collect();
        self.dead_letters.write(&letters).map_err(|e| chain(&e))?;
        for (number, refusal) in refused {
            metrics::kafka_dead_letter(self.collection.as_str(), &self.topic, refusal.reason);
            let record = batch.record(*number);
            tracing::debug!(topic = self.topic, record.partition, record.offset, refusal.reason, refusal.message, "dead letter");
            batch.refuse(*number);
        }
        Ok(())
    }

    fn count(&self, batch: &Batch) {
        metrics::kafka_records(self.collection.as_str(), &self.topic, batch.len());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        for produced in batch.taken().filter_map(|record| record.timestamp_ms) {
            // Clocks of two machines differ: a record from the future is a fresh one.
            metrics::kafka_freshness(self.collection.as_str(), &self.topic, (now - produced).max(0) as f64 / 1e3);
        }
    }
}
