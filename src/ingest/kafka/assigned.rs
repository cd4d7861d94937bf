//! The partitions that a feed reads, and how far it is in each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::context::End;

/// The partitions that are read, since they were assigned.
pub(super) struct Assigned {
    pub topic_id: Option<String>,
    pub partitions: BTreeMap<i32, Partition>,
    /// Whether the brokers have just confirmed that there are no others.
    pub is_complete: bool,
    pub looked_up: Instant,
    pub compared: Instant,
    pub settled: Instant,
    /// When every partition was last known to be read to its end, as far as the collection keeps it.
    pub kept_read_ms: Option<u64>,
    /// The longest time that the feed was away from the end of a partition that went on meanwhile; since the last look.
    pub away: Duration,
    /// The topic's `delete.retention.ms` if it is compacted; `None` until it was asked for.
    pub delete_retention: Option<Option<Duration>>,
}

/// How far the feed is in one partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// The position that the collection keeps.
    pub next: u64,
    /// The offset after the last record or end that was read.
    read: u64,
    /// The end, until there is a record after it.
    end: Option<End>,
    /// Whether it has been read to its high watermark since it was assigned.
    has_been_read: bool,
    /// When it was last read to its end, and where that was.
    read_ms: u64,
    read_end: u64,
}

impl Partition {
    pub fn is_at_end(&self) -> bool {
        self.end.is_some()
    }
}

impl Assigned {
    pub fn new(topic_id: Option<String>, next: &BTreeMap<i32, u64>, is_complete: bool, kept_read_ms: Option<u64>, now_ms: u64) -> Self {
        let read_ms = kept_read_ms.unwrap_or(now_ms);
        let partition = |&next| Partition { next, read: next, end: None, has_been_read: false, read_ms, read_end: next };
        let now = Instant::now();
        Self {
            topic_id,
            partitions: next.iter().map(|(&id, next)| (id, partition(next))).collect(),
            is_complete,
            looked_up: now,
            compared: now,
            settled: now,
            kept_read_ms,
            away: Duration::ZERO,
            delete_retention: None,
        }
    }

    /// Notes a record.
    pub fn note_record(&mut self, partition: i32, offset: u64, now_ms: u64) {
        let Some(partition) = self.partitions.get_mut(&partition) else { return };
        if partition.end.take().is_some() {
            // It was read to its end until this record came.
            partition.read_ms = now_ms;
        }
        partition.read = offset + 1;
    }

    /// Notes that a partition has no further record. Without numbers the end is where the last record was.
    pub fn note_end(&mut self, partition: i32, end: Option<End>, now_ms: u64) {
        let Some(partition) = self.partitions.get_mut(&partition) else { return };
        let end = end.unwrap_or(End { offset: partition.read, high_watermark: partition.read });
        if end.offset > partition.read_end {
            self.away = self.away.max(Duration::from_millis(now_ms.saturating_sub(partition.read_ms)));
        }
        partition.read = end.offset;
        partition.has_been_read |= end.offset >= end.high_watermark;
        (partition.read_ms, partition.read_end) = (now_ms, end.offset);
        partition.end = Some(end);
    }

    /// Notes that the collection keeps these positions.
    pub fn note_durable(&mut self, next: &BTreeMap<i32, u64>) {
        for (partition, &next) in next {
            if let Some(partition) = self.partitions.get_mut(partition) {
                partition.next = next;
            }
        }
    }

    /// By partition, the lag: the records up to the high watermark that are not in the collection. `heard` is the latest high watermark.
    pub fn lags(&self, heard: impl Fn(i32) -> Option<u64>) -> BTreeMap<i32, Option<u64>> {
        let lag = |(&id, partition): (&i32, &Partition)| {
            let at_end = partition.end.map(|end| end.high_watermark);
            // Statistics may be older than the end.
            let high_watermark = heard(id).max(at_end)?;
            let done = partition.end.map_or(partition.next, |end| end.offset);
            Some(high_watermark.saturating_sub(done))
        };
        self.partitions.iter().map(|entry| (*entry.0, lag(entry))).collect()
    }

    /// Whether every partition has been read to its end once.
    pub fn have_all_been_read(&self) -> bool {
        self.is_complete && self.partitions.values().all(|partition| partition.has_been_read)
    }

    /// By partition, ends that lie after the position, because only records of aborted transactions and markers are between. With them the
    /// position stays ahead of what retention may delete.
    pub fn ends_after_positions(&self) -> BTreeMap<i32, u64> {
        let end = |partition: &Partition| partition.end.map(|end| end.offset).filter(|&end| end > partition.next);
        self.partitions.iter().filter_map(|(&id, partition)| Some((id, end(partition)?))).collect()
    }

    /// When every partition was last read to its end.
    pub fn read_ms(&self, now_ms: u64) -> u64 {
        let times = self.partitions.values().map(|partition| if partition.end.is_some() { now_ms } else { partition.read_ms });
        times.min().unwrap_or(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(next: &[(i32, u64)]) -> Assigned {
        Assigned::new(None, &next.iter().copied().collect(), true, Some(1_000), 5_000)
    }

    fn end(offset: u64, high_watermark: u64) -> Option<End> {
        Some(End { offset, high_watermark })
    }

    #[test]
    fn lag_is_counted_to_the_high_watermark() {
        let mut assigned = assigned(&[(0, 10), (1, 0)]);
        assert_eq!(assigned.lags(|_| None), BTreeMap::from([(0, None), (1, None)]));
        assert_eq!(assigned.lags(|id| (id == 0).then_some(25)), BTreeMap::from([(0, Some(15)), (1, None)]));
        // A transaction is open: 5 records are behind the end.
        assigned.note_end(0, end(20, 25), 5_000);
        assigned.note_end(1, end(0, 0), 5_000);
        assert_eq!(assigned.lags(|_| None), BTreeMap::from([(0, Some(5)), (1, Some(0))]));
        assert!(!assigned.have_all_been_read());
        // It was aborted: only its marker is behind.
        assigned.note_end(0, end(26, 26), 5_000);
        assert_eq!(assigned.lags(|_| Some(0)), BTreeMap::from([(0, Some(0)), (1, Some(0))]));
        assert!(assigned.have_all_been_read());
        // Later ones are lag again, but have been read once.
        assert_eq!(assigned.lags(|_| Some(30)), BTreeMap::from([(0, Some(4)), (1, Some(30))]));
        assert!(assigned.have_all_been_read());
    }

    #[test]
    fn ends_without_records_move_the_position() {
        let mut assigned = assigned(&[(0, 10), (1, 0)]);
        assigned.note_end(0, end(12, 12), 5_000);
        assigned.note_end(1, end(0, 0), 5_000);
        assert_eq!(assigned.ends_after_positions(), BTreeMap::from([(0, 12)]));
        assigned.note_durable(&BTreeMap::from([(0, 12)]));
        assert!(assigned.ends_after_positions().is_empty());
        assigned.note_record(0, 12, 5_000);
        assert!(assigned.ends_after_positions().is_empty());
    }

    #[test]
    fn time_away_counts_from_the_last_end_and_only_if_there_was_something_to_read() {
        let mut assigned = assigned(&[(0, 10), (1, 3)]);
        assert_eq!(assigned.read_ms(5_000), 1_000, "as the collection keeps it");
        assigned.note_end(1, end(3, 3), 5_000);
        assert_eq!((assigned.away, assigned.read_ms(5_500)), (Duration::ZERO, 1_000));
        assigned.note_record(0, 10, 5_000);
        assigned.note_durable(&BTreeMap::from([(0, 11)]));
        assigned.note_end(0, end(11, 11), 6_000);
        assert_eq!((assigned.away, assigned.read_ms(7_000)), (Duration::from_secs(5), 7_000));
        // Idle at the end is not away.
        assigned.away = Duration::ZERO;
        assigned.note_record(0, 11, 90_000);
        assigned.note_end(0, end(12, 12), 90_010);
        assert_eq!(assigned.away, Duration::from_millis(10));
    }
}
