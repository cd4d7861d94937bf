//! One topic into one collection: read, write, and only then say so.
//!
//! Where the feed stands is kept by the collection itself, in the same log frame as the changes, so a crash anywhere loses nothing and
//! repeats nothing. The consumer group is told afterwards, for tools that show lag.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::batch::Batch;
use super::consumer::{Consumer, Polled, Topic};
use super::dead_letters::DeadLetters;
use super::settings::KafkaSettings;
use super::state::OneState;
use super::stop::{Pause, Stop};
use super::write::Applied;
use crate::pipeline::{PipelineError, WritePipeline};
use kindred_core::Cancel;
use kindred_core::domain::CollectionName;
use kindred_core::error::chain;

/// Bytes of values that are held in one batch.
const BATCH_BYTES: usize = 16 << 20;
/// Longest wait for a record before the feed looks around.
const IDLE: Duration = Duration::from_millis(200);
/// Time between two looks for new partitions.
const DISCOVERY: Duration = Duration::from_secs(30);
/// Time between two looks at where the collection stands.
const COMPARISON: Duration = Duration::from_secs(1);
/// Time that the group's last commit has at the end.
const SETTLE: Duration = Duration::from_secs(2);

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

/// The partitions that are read.
pub(super) struct Assigned {
    /// By partition, where the collection stands.
    pub(super) next: BTreeMap<i32, Option<u64>>,
    /// By partition, what was read last, and the next offset.
    read: BTreeMap<i32, u64>,
    /// Partitions that were read to their ends.
    ended: BTreeSet<i32>,
    looked_up: Instant,
    compared: Instant,
}

impl Worker {
    /// Feeds until it is told to stop.
    pub fn run(self) {
        while let Some(assigned) = self.assign() {
            self.follow(assigned);
        }
        self.consumer.settle(SETTLE);
    }

    /// Finds the topic and where the collection stands in it; waits for both. `None` when it is told to stop.
    fn assign(&self) -> Option<Assigned> {
        let mut pause = Pause::up_to(Duration::from_secs(2));
        self.consumer.unassign();
        while !self.stop.is_stopped() {
            let looked_up = self.consumer.look_up();
            self.state.connected(self.consumer.is_connected());
            let why = match looked_up {
                Topic::Missing => format!("there is no topic {:?} yet", self.topic),
                Topic::Unknown(why) => why,
                Topic::Partitions(ids) => match self.begin(&ids) {
                    Ok(assigned) => {
                        self.state.waiting_for(None);
                        return Some(assigned);
                    }
                    Err(why) => why,
                },
            };
            self.state.waiting_for(Some(why));
            // Serves what librdkafka has to say.
            self.consumer.poll(Duration::ZERO);
            pause.wait(&self.stop);
        }
        None
    }

    fn begin(&self, ids: &[i32]) -> Result<Assigned, String> {
        let next = ids.iter().map(|&partition| Ok((partition, self.position(partition)?)));
        let next: BTreeMap<i32, Option<u64>> = next.collect::<Result<_, PipelineError>>().map_err(|e| chain(&e))?;
        self.consumer.assign(&next)?;
        tracing::info!(collection = %self.collection, topic = self.topic, from = ?next, "the Kafka feed begins");
        let read = next.iter().filter_map(|(&partition, &next)| Some((partition, next?))).collect();
        Ok(Assigned { next, read, ended: BTreeSet::new(), looked_up: Instant::now(), compared: Instant::now() })
    }

    /// Reads and writes, until there are other partitions, or the collection stands elsewhere, or it is told to stop.
    fn follow(&self, mut assigned: Assigned) {
        while !self.stop.is_stopped() {
            let (mut batch, trouble) = self.collect(&mut assigned);
            if !batch.is_empty() {
                match self.apply(&mut batch, &mut assigned) {
                    Applied::Durable => {}
                    Applied::Moved | Applied::Stopped => return,
                }
            }
            self.tell(&assigned, &trouble);
            // A broker that comes back may have other topics under the same names: it is asked anew, and told nothing of the old ones.
            if !self.consumer.is_connected() {
                return;
            }
            let is_due = assigned.looked_up.elapsed() >= DISCOVERY;
            if trouble.is_some() || self.has_moved(&mut assigned) || (is_due && self.has_other_partitions(&mut assigned)) {
                return;
            }
        }
    }

    /// Whether the collection was made anew, restored or deleted, while there was nothing to write.
    fn has_moved(&self, assigned: &mut Assigned) -> bool {
        if assigned.compared.elapsed() < COMPARISON {
            return false;
        }
        assigned.compared = Instant::now();
        assigned.next.iter().any(|(&partition, next)| !matches!(self.position(partition), Ok(stands) if stands == *next))
    }

    fn has_other_partitions(&self, assigned: &mut Assigned) -> bool {
        assigned.looked_up = Instant::now();
        match self.consumer.look_up() {
            Topic::Partitions(ids) => !ids.iter().eq(assigned.next.keys()),
            Topic::Missing => true,
            Topic::Unknown(_) => false,
        }
    }

    /// The next records: as many as come within the linger time, or as are there already, up to a full batch.
    fn collect(&self, assigned: &mut Assigned) -> (Batch, Option<String>) {
        let mut batch = Batch::default();
        let mut wait = IDLE;
        let mut begun: Option<Instant> = None;
        while batch.len() < self.settings.max_batch_records && batch.n_bytes() < BATCH_BYTES {
            if let Some(begun) = begun {
                wait = Duration::from_millis(self.settings.linger_ms).saturating_sub(begun.elapsed());
            }
            match self.consumer.poll(wait) {
                Polled::Record(record) => {
                    begun.get_or_insert_with(Instant::now);
                    self.note_restart(assigned, record.partition, record.offset);
                    assigned.read.insert(record.partition, record.offset + 1);
                    assigned.ended.remove(&record.partition);
                    batch.push(record);
                }
                Polled::End(partition) => drop(assigned.ended.insert(partition)),
                Polled::Trouble(why) => return (batch, Some(why)),
                Polled::Nothing if begun.is_some() && !wait.is_zero() => {}
                Polled::Nothing => break,
            }
        }
        (batch, None)
    }

    fn note_restart(&self, assigned: &Assigned, partition: i32, offset: u64) {
        if let Some(&next) = assigned.read.get(&partition)
            && offset < next
        {
            tracing::warn!(
                collection = %self.collection, topic = self.topic, partition, expected = next, found = offset,
                "the partition begins anew: it was made again, or lost its records. The feed follows it"
            );
        }
    }

    pub(super) fn position(&self, partition: i32) -> Result<Option<u64>, PipelineError> {
        self.write.position(&self.collection, &self.source(partition))
    }

    pub(super) fn source(&self, partition: i32) -> String {
        format!("kafka:{}/{partition}", self.topic)
    }

    /// Says how the feed is doing.
    fn tell(&self, assigned: &Assigned, trouble: &Option<String>) {
        let is_connected = self.consumer.is_connected();
        self.state.connected(is_connected);
        let no_broker = (!is_connected).then(|| "no Kafka broker answers: the feed reconnects by itself".to_owned());
        self.state.waiting_for(trouble.clone().or(no_broker));
        let ends = self.consumer.ends();
        let lags = assigned.next.iter().map(|(&partition, next)| {
            let next = next.unwrap_or_default();
            // Ends are heard of once a second; a partition that was read to its end has none.
            let end = if assigned.ended.contains(&partition) { next } else { ends.get(&partition).copied().unwrap_or_default() };
            (partition, end.saturating_sub(next))
        });
        let lags: Vec<(i32, u64)> = lags.collect();
        let total = lags.iter().map(|(_, lag)| lag).sum();
        for (partition, lag) in lags {
            self.state.lag(partition, lag, total);
        }
        if assigned.ended.len() == assigned.next.len() {
            self.state.caught_up();
        }
    }
}
