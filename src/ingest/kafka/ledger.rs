//! What a collection keeps about its feed, and where the feed starts because of that.
//!
//! All of it is among the collection's positions (a name and a number each), so that it becomes durable with the documents it is about:
//!
//! | name | number |
//! |---|---|
//! | `kafka:{topic}/{partition}@{topic id}` | the offset of the next record; without `@…` where brokers name no topic ids |
//! | `kafka:{topic}/lost/{partition}` | how many offsets were deleted before the feed read them |
//! | `kafka:{topic}/lost_at`, `/replaced_at`, `/deletions_missed_at` | when that was last noticed, in milliseconds since 1970 |
//! | `kafka:{topic}/read_at` | when every partition had last been read to its end, in milliseconds since 1970 |

use std::collections::BTreeMap;

use kindred_core::domain::FeedPosition;

/// The first offset of a partition and the one after its last committed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watermarks {
    pub low: u64,
    pub high: u64,
}

/// Something that a collection remembers the time of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moment {
    /// Records were deleted before the feed read them.
    Lost,
    /// The topic was deleted and created again.
    Replaced,
    /// Tombstones may have been compacted away before the feed read them.
    DeletionsMissed,
    /// Every partition was read to its end.
    Read,
}

impl Moment {
    const ALL: [Self; 4] = [Self::Lost, Self::Replaced, Self::DeletionsMissed, Self::Read];

    fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost_at",
            Self::Replaced => "replaced_at",
            Self::DeletionsMissed => "deletions_missed_at",
            Self::Read => "read_at",
        }
    }
}

/// What a collection keeps about the feed from one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    topic: String,
    /// By partition and topic id, the offset of the next record.
    positions: BTreeMap<(i32, Option<String>), u64>,
    /// By partition.
    pub lost: BTreeMap<i32, u64>,
    times_ms: BTreeMap<Moment, u64>,
}

/// Where a feed starts to read, and what has happened since it last did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// By partition, the offset of the first record. Partitions of which nothing is known yet are left out.
    pub next: BTreeMap<i32, u64>,
    /// By partition, how many offsets were deleted before the feed read them.
    pub lost: BTreeMap<i32, u64>,
    /// Partitions that end before the collection's position. They are read again from their first offset.
    pub cut: Vec<i32>,
    /// True if the topic was deleted and created again.
    pub is_replaced: bool,
    /// What the collection must keep before the first record is read.
    pub updates: Vec<FeedPosition>,
}

/// The beginning of all names that belong to a topic.
pub(super) fn prefix(topic: &str) -> String {
    format!("kafka:{topic}/")
}

/// The name of a partition's position.
pub(super) fn position_name(topic: &str, topic_id: Option<&str>, partition: i32) -> String {
    let id = topic_id.map(|id| format!("@{id}")).unwrap_or_default();
    format!("{}{partition}{id}", prefix(topic))
}

impl Ledger {
    /// Reads what a collection keeps about `topic`.
    pub fn of(topic: &str, kept: &BTreeMap<String, u64>) -> Self {
        let mut ledger = Self { topic: topic.to_owned(), ..Self::default() };
        let prefix = prefix(topic);
        for (name, &number) in kept {
            let Some(name) = name.strip_prefix(&prefix) else { continue };
            let (partition, id) = name.split_once('@').map_or((name, None), |(partition, id)| (partition, Some(id.to_owned())));
            if let Ok(partition) = partition.parse() {
                ledger.positions.insert((partition, id), number);
            } else if let Some(Ok(partition)) = name.strip_prefix("lost/").map(str::parse) {
                ledger.lost.insert(partition, number);
            } else if let Some(moment) = Moment::ALL.into_iter().find(|moment| moment.name() == name) {
                ledger.times_ms.insert(moment, number);
            }
        }
        ledger
    }

    /// Whether the topic was read from a broker that names topic ids.
    pub fn has_topic_ids(&self) -> bool {
        self.positions.keys().any(|(_, id)| id.is_some())
    }

    pub fn time_ms(&self, moment: Moment) -> Option<u64> {
        self.times_ms.get(&moment).copied()
    }

    /// Where to start to read the topic with this id, whose partitions are `found`. `is_out_of_range`: a broker has just refused one of
    /// the positions.
    pub fn start(&self, topic_id: Option<&str>, found: &BTreeMap<i32, Option<Watermarks>>, is_out_of_range: bool, now_ms: u64) -> Start {
        let stood = self.positions_in(topic_id);
        let is_new = self.positions.is_empty();
        let mut start = Start { is_replaced: !is_new && stood.is_empty(), ..Start::default() };
        for (&partition, marks) in found {
            let next = match (stood.get(&partition).copied(), *marks) {
                (None, None) => continue,
                (Some(next), None) => next,
                (Some(next), Some(marks)) if is_out_of_range && next > marks.high => {
                    start.cut.push(partition);
                    marks.low
                }
                (stood, Some(marks)) => {
                    // A partition without a position is read from its first offset. Only in a topic that was never read are earlier
                    // records no loss.
                    let next = stood.unwrap_or(if is_new { marks.low } else { 0 });
                    if next < marks.low {
                        start.lost.insert(partition, marks.low - next);
                    }
                    next.max(marks.low)
                }
            };
            start.next.insert(partition, next);
        }
        start.updates = self.updates(&start, topic_id, is_new, now_ms);
        start
    }

    /// By partition, the positions in the topic with this id. Positions without an id are from a broker without topic ids, or from a
    /// version of Kindred that did not keep them: they count if there are no others.
    fn positions_in(&self, topic_id: Option<&str>) -> BTreeMap<i32, u64> {
        let counts = |id: &Option<String>| if self.has_topic_ids() { id.as_deref() == topic_id } else { true };
        self.positions.iter().filter(|((_, id), _)| counts(id)).map(|((partition, _), &next)| (*partition, next)).collect()
    }

    fn updates(&self, start: &Start, topic_id: Option<&str>, is_new: bool, now_ms: u64) -> Vec<FeedPosition> {
        let mut updates = Vec::new();
        for (&partition, &next) in &start.next {
            if self.positions.get(&(partition, topic_id.map(str::to_owned))) != Some(&next) {
                updates.push(FeedPosition { source: position_name(&self.topic, topic_id, partition), next: Some(next) });
            }
        }
        // Old names go together with the first new ones: if no partition can be read yet, the old ones still say what is expected.
        let old = self.positions.keys().filter(|(_, id)| !start.next.is_empty() && id.as_deref() != topic_id);
        updates
            .extend(old.map(|(partition, id)| FeedPosition { source: position_name(&self.topic, id.as_deref(), *partition), next: None }));
        for (&partition, n) in &start.lost {
            let total = self.lost.get(&partition).copied().unwrap_or_default().saturating_add(*n);
            updates.push(FeedPosition { source: format!("{}lost/{partition}", prefix(&self.topic)), next: Some(total) });
        }
        let times =
            [(Moment::Lost, !start.lost.is_empty()), (Moment::Replaced, start.is_replaced), (Moment::Read, is_new || start.is_replaced)];
        updates.extend(times.into_iter().filter(|(_, is_now)| *is_now).map(|(moment, _)| noted(&self.topic, moment, now_ms)));
        updates
    }
}

/// What a collection must keep to remember that something happened now.
pub(super) fn noted(topic: &str, moment: Moment, now_ms: u64) -> FeedPosition {
    FeedPosition { source: format!("{}{}", prefix(topic), moment.name()), next: Some(now_ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ledger after the updates of a start.
    fn apply(kept: &mut BTreeMap<String, u64>, start: &Start) -> Ledger {
        for FeedPosition { source, next } in &start.updates {
            match next {
                Some(next) => drop(kept.insert(source.clone(), *next)),
                None => drop(kept.remove(source)),
            }
        }
        Ledger::of("t", kept)
    }

    fn found(partitions: &[(i32, u64, u64)]) -> BTreeMap<i32, Option<Watermarks>> {
        partitions.iter().map(|&(partition, low, high)| (partition, Some(Watermarks { low, high }))).collect()
    }

    fn kept(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
        entries.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn a_topic_is_first_read_from_its_first_offsets_and_then_from_the_positions() {
        let mut kept = kept(&[("kafka:other/0@x", 7), ("file:t", 3)]);
        let start = Ledger::of("t", &kept).start(Some("a/b+"), &found(&[(0, 5, 9), (1, 0, 0)]), false, 42);
        assert_eq!((&start.next, start.lost.len(), start.is_replaced), (&BTreeMap::from([(0, 5), (1, 0)]), 0, false));
        let ledger = apply(&mut kept, &start);
        assert_eq!(ledger.time_ms(Moment::Read), Some(42));
        let again = ledger.start(Some("a/b+"), &found(&[(0, 5, 9), (1, 0, 0)]), false, 50);
        assert_eq!(again, Start { next: start.next, ..Start::default() }, "nothing is written again");
        assert_eq!(kept["kafka:other/0@x"], 7);
    }

    #[test]
    fn offsets_that_were_deleted_unread_are_counted_and_added_up() {
        let mut kept = kept(&[("kafka:t/0@a", 100), ("kafka:t/1@a", 0), ("kafka:t/lost/0", 10)]);
        // Partition 1 had never had a record, partition 2 was added since: both are expected from offset 0 on.
        let start = Ledger::of("t", &kept).start(Some("a"), &found(&[(0, 350, 400), (1, 7, 7), (2, 3, 9)]), false, 42);
        assert_eq!(start.next, BTreeMap::from([(0, 350), (1, 7), (2, 3)]));
        assert_eq!(start.lost, BTreeMap::from([(0, 250), (1, 7), (2, 3)]));
        let ledger = apply(&mut kept, &start);
        assert_eq!(ledger.lost, BTreeMap::from([(0, 260), (1, 7), (2, 3)]));
        assert_eq!((ledger.time_ms(Moment::Lost), ledger.time_ms(Moment::Read)), (Some(42), None));
    }

    #[test]
    fn another_id_is_another_topic_however_long_it_is() {
        for high in [5, 100, 5_000] {
            let mut kept = kept(&[("kafka:t/0@a", 100), ("kafka:t/1@a", 100)]);
            let start = Ledger::of("t", &kept).start(Some("b"), &found(&[(0, 0, high)]), false, 42);
            assert_eq!((&start.next, start.is_replaced), (&BTreeMap::from([(0, 0)]), true));
            let ledger = apply(&mut kept, &start);
            assert_eq!(ledger.positions, BTreeMap::from([((0, Some("b".to_owned())), 0)]));
            assert_eq!(ledger.time_ms(Moment::Replaced), Some(42));
        }
    }

    #[test]
    fn positions_without_an_id_are_accepted_once() {
        let mut kept = kept(&[("kafka:t/0", 100)]);
        let start = Ledger::of("t", &kept).start(Some("a"), &found(&[(0, 0, 200)]), false, 42);
        assert_eq!((&start.next, start.is_replaced), (&BTreeMap::from([(0, 100)]), false));
        let ledger = apply(&mut kept, &start);
        assert_eq!(ledger.positions, BTreeMap::from([((0, Some("a".to_owned())), 100)]));
        assert!(ledger.start(Some("b"), &found(&[(0, 0, 200)]), false, 43).is_replaced);
        // A cluster without topic ids is another cluster.
        assert!(ledger.start(None, &found(&[(0, 0, 200)]), false, 43).is_replaced);
    }

    #[test]
    fn a_partition_that_ends_before_the_position_is_read_again_once_a_broker_refuses_the_position() {
        let ledger = Ledger::of("t", &kept(&[("kafka:t/0@a", 100), ("kafka:t/1@a", 10)]));
        let shrunk = found(&[(0, 20, 60), (1, 0, 10)]);
        assert_eq!(ledger.start(Some("a"), &shrunk, false, 42).next, BTreeMap::from([(0, 100), (1, 10)]));
        let start = ledger.start(Some("a"), &shrunk, true, 42);
        assert_eq!((start.next, start.cut), (BTreeMap::from([(0, 20), (1, 10)]), vec![0]));
    }

    #[test]
    fn a_partition_without_a_leader_waits_unless_its_position_is_known() {
        let ledger = Ledger::of("t", &kept(&[("kafka:t/0@a", 100)]));
        let start = ledger.start(Some("a"), &BTreeMap::from([(0, None), (1, None)]), false, 42);
        assert_eq!((start.next, start.updates), (BTreeMap::from([(0, 100)]), vec![]));
        let replaced = ledger.start(Some("b"), &BTreeMap::from([(0, None)]), false, 42);
        assert!(replaced.is_replaced && replaced.next.is_empty());
    }
}
