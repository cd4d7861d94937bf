//! One topic into one collection: find it, read it, write it.
//!
//! The collection itself keeps the feed's position, in the same log frame as the changes, so a crash loses nothing and repeats nothing.
//! The consumer group is informed afterwards, for tools that show lag.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::Handle;

use super::assigned::Assigned;
use super::batch::Batch;
use super::consumer::{Consumer, Polled, Topic};
use super::dead_letters::DeadLetters;
use super::ledger::{Ledger, Moment, position_name, prefix};
use super::one_state::{OneState, Wait};
use super::settings::KafkaSettings;
use super::stop::{Pause, Stop};
use super::warnings;
use super::write::Applied;
use crate::pipeline::{PipelineError, WritePipeline};
use kindred_core::Cancel;
use kindred_core::domain::CollectionName;
use kindred_core::error::chain;

/// Bytes of values in one batch.
const BATCH_BYTES: usize = 16 << 20;
/// Longest wait for a record before the feed looks around.
const IDLE: Duration = Duration::from_millis(200);
/// Time between two looks for new partitions. The request is small, and lag is unknown in partitions that nobody has found.
const DISCOVERY: Duration = Duration::from_secs(5);
/// Time between two looks at the collection's positions.
const COMPARISON: Duration = Duration::from_secs(1);
/// Time for the last commit to the consumer group.
const SETTLE: Duration = Duration::from_secs(2);
/// An assignment that lasts this long has worked: the next one may follow soon.
const STEADY: Duration = Duration::from_secs(10);
/// Longest pause between two assignments or two attempts to find the topic.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Attempts after which brokers that name no topic id are believed to have none.
const ATTEMPTS_WITHOUT_ID: u32 = 10;

/// Feeds one collection.
pub(super) struct Worker {
    pub collection: CollectionName,
    pub topic: String,
    pub settings: KafkaSettings,
    pub consumer: Consumer,
    pub write: Arc<WritePipeline>,
    pub runtime: Handle,
    pub dead_letters: Arc<DeadLetters>,
    pub state: OneState,
    pub stop: Stop,
    pub cancel: Cancel,
}

/// Why records are not read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// A broker refused a position.
    OutOfRange,
    /// Anything else: look at the topic and the collection again.
    Otherwise,
}

impl Worker {
    /// Feeds until it is told to stop.
    pub fn run(self) {
        let mut ended = Ended::Otherwise;
        let mut pause = Pause::up_to(LONGEST_PAUSE);
        while let Some(assigned) = self.assign(ended == Ended::OutOfRange) {
            let begun = Instant::now();
            ended = self.follow(assigned);
            if begun.elapsed() > STEADY {
                pause = Pause::up_to(LONGEST_PAUSE);
            }
            pause.wait(&self.stop);
        }
        self.consumer.settle(SETTLE);
    }

    /// Finds the topic and the collection's positions; waits for both. `None` when it is told to stop.
    fn assign(&self, is_out_of_range: bool) -> Option<Assigned> {
        let mut pause = Pause::up_to(LONGEST_PAUSE);
        self.consumer.unassign();
        let mut attempt = 0;
        while !self.stop.is_stopped() {
            self.consumer.drain();
            let found = self.consumer.look_up();
            self.state.connected(self.consumer.is_connected());
            let why = match found {
                Topic::Missing => Wait::new("topic", format!("there is no topic {:?} yet", self.topic)),
                Topic::Unreachable => {
                    // The reason is among the events.
                    self.consumer.drain();
                    self.consumer.no_broker()
                }
                Topic::Unknown(why) => why,
                Topic::Partitions(partitions) => {
                    attempt += 1;
                    match self.begin(&partitions, is_out_of_range, attempt) {
                        Ok(assigned) => return Some(assigned),
                        Err(why) => why,
                    }
                }
            };
            self.state.waits(why);
            pause.wait(&self.stop);
        }
        None
    }

    /// Starts to read these partitions; `attempt` counts from 1.
    fn begin(&self, partitions: &BTreeMap<i32, bool>, is_out_of_range: bool, attempt: u32) -> Result<Assigned, Wait> {
        let found = self.consumer.watermarks(partitions)?;
        // The answers have also brought the topic's id, as an event.
        self.consumer.drain();
        self.consumer.note_answer();
        self.state.connected(true);
        let topic_id = self.consumer.topic_id();
        let ledger = self.ledger()?;
        if topic_id.is_none() && ledger.has_topic_ids() && attempt < ATTEMPTS_WITHOUT_ID {
            return Err(Wait::new("topic id", format!("the brokers have not named the id of the topic {:?} yet", self.topic)));
        }
        let start = ledger.start(topic_id.as_deref(), &found, is_out_of_range, now_ms());
        if start.next.is_empty() {
            return Err(Wait::new("leader", format!("no partition of the topic {:?} has a leader", self.topic)));
        }
        self.keep(start.updates.clone()).map_err(Wait::write)?;
        let collection = self.collection.as_str();
        warnings::log_start(collection, &self.topic, &start);
        let ledger = self.ledger()?;
        warnings::show(&self.state, collection, &self.topic, &ledger, start.next.keys());
        self.consumer.assign(&start.next)?;
        tracing::debug!(collection, topic = self.topic, topic_id, from = ?start.next, "the Kafka feed begins");
        let is_complete = start.next.len() == partitions.len();
        Ok(Assigned::new(topic_id, &start.next, is_complete, ledger.time_ms(Moment::Read), now_ms()))
    }

    /// Reads and writes, until the topic or the collection is not as it was, or until it is told to stop.
    fn follow(&self, mut assigned: Assigned) -> Ended {
        while !self.stop.is_stopped() {
            let (mut batch, last) = self.collect(&mut assigned);
            if !batch.is_empty() {
                match self.apply(&mut batch, &mut assigned) {
                    Applied::Durable => {}
                    Applied::Moved | Applied::Stopped => return Ended::Otherwise,
                }
            }
            match last {
                Polled::OutOfRange => {
                    self.state.waits(Wait::new("position", "a broker no longer has the next record: looking for what is left".to_owned()));
                    return Ended::OutOfRange;
                }
                Polled::OtherTopic => return Ended::Otherwise,
                Polled::Trouble(why) => {
                    self.state.waits(why);
                    return Ended::Otherwise;
                }
                Polled::Record(_) | Polled::End(..) | Polled::Nothing => {}
            }
            // A broker that returns may have lost records or topics: look at all of them again.
            if !self.consumer.is_connected() {
                self.consumer.unassign();
                self.consumer.drain();
                self.state.connected(false);
                self.state.waits(self.consumer.no_broker());
                return Ended::Otherwise;
            }
            self.show(&assigned);
            self.settle(&mut assigned, false);
            if self.has_moved_lately(&mut assigned) || self.has_other_partitions(&mut assigned) {
                return Ended::Otherwise;
            }
        }
        self.settle(&mut assigned, true);
        Ended::Otherwise
    }

    /// Whether the collection was made anew, restored or deleted, while there was nothing to write. Looks once a second.
    fn has_moved_lately(&self, assigned: &mut Assigned) -> bool {
        if assigned.compared.elapsed() < COMPARISON {
            return false;
        }
        assigned.compared = Instant::now();
        self.has_moved(assigned)
    }

    /// Whether the collection keeps other positions than the feed wrote last.
    pub(super) fn has_moved(&self, assigned: &Assigned) -> bool {
        let topic_id = assigned.topic_id.as_deref();
        let has_moved = |id, next| !matches!(self.position(topic_id, id), Ok(Some(stands)) if stands == next);
        assigned.partitions.iter().any(|(&id, partition)| has_moved(id, partition.next))
    }

    fn has_other_partitions(&self, assigned: &mut Assigned) -> bool {
        if assigned.looked_up.elapsed() < DISCOVERY {
            return false;
        }
        assigned.looked_up = Instant::now();
        match self.consumer.look_up() {
            Topic::Partitions(found) => {
                assigned.is_complete = found.keys().eq(assigned.partitions.keys());
                // One without a leader is not worth a new beginning yet.
                found.iter().any(|(id, has_leader)| *has_leader && !assigned.partitions.contains_key(id))
            }
            Topic::Missing => true,
            Topic::Unreachable | Topic::Unknown(_) => {
                assigned.is_complete = false;
                false
            }
        }
    }

    /// The next records: as many as come within the linger time, or as are there already, up to a full batch. Also returns the event that
    /// ended the batch.
    fn collect(&self, assigned: &mut Assigned) -> (Batch, Polled) {
        let mut batch = Batch::default();
        let mut wait = IDLE;
        let mut begun: Option<Instant> = None;
        while batch.len() < self.settings.max_batch_records && batch.n_bytes() < BATCH_BYTES {
            if let Some(begun) = begun {
                wait = Duration::from_millis(self.settings.linger_ms).saturating_sub(begun.elapsed());
            }
            match self.consumer.poll(wait, assigned.topic_id.as_deref()) {
                Polled::Record(record) => {
                    begun.get_or_insert_with(Instant::now);
                    assigned.note_record(record.partition, record.offset, now_ms());
                    batch.push(record);
                }
                Polled::End(partition, end) => assigned.note_end(partition, end, now_ms()),
                Polled::Nothing if begun.is_some() && !wait.is_zero() => {}
                last => return (batch, last),
            }
        }
        (batch, Polled::Nothing)
    }

    /// What the collection keeps about this feed.
    pub(super) fn ledger(&self) -> Result<Ledger, Wait> {
        let kept = self.write.positions(&self.collection, &prefix(&self.topic)).map_err(|e| Wait::write(chain(&e)))?;
        Ok(Ledger::of(&self.topic, &kept))
    }

    /// The collection's position in a partition of the topic with this id.
    pub(super) fn position(&self, topic_id: Option<&str>, partition: i32) -> Result<Option<u64>, PipelineError> {
        self.write.position(&self.collection, &position_name(&self.topic, topic_id, partition))
    }

    /// Shows how the feed is doing.
    fn show(&self, assigned: &Assigned) {
        self.state.connected(true);
        self.state.goes_on();
        self.state.lag(&assigned.lags(|partition| self.consumer.high_watermark(partition)), assigned.is_complete);
        if assigned.have_all_been_read() {
            self.state.has_caught_up();
        }
    }
}

/// The time in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}
