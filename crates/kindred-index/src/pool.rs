//! The most promising rows of a walk: the best of all that were offered, of which the walk takes the best next.
//!
//! Up to [`MAX_SORTED`] entries are kept in a sorted array: an insertion moves at most 32 KiB, which is faster than any tree. A
//! larger pool (an `ef_search` above 2,000, or a filter that few rows match) would spend its time moving memory, O(n) for each
//! of O(n) insertions, so that its entries are kept in an ordered set and a heap, O(log n) each. A walk visits the same rows in
//! the same order with both.

use std::collections::{BTreeSet, BinaryHeap};

/// Entries of the largest pool that is a sorted array. Measured: above it, the ordered set is faster.
const MAX_SORTED: usize = 4_096;

/// The best rows met so far, by estimated score. Those taken stay, so that worse rows keep out.
///
/// An entry is one number: 31 bits of score (less is better), 32 of row, and one that is set once the entry was taken.
#[derive(Debug, Default)]
pub(super) struct Pool {
    capacity: usize,
    /// Score that a row must exceed to enter.
    worst: f32,
    /// In ascending order; empty in a large pool.
    entries: Vec<u64>,
    /// No entry before this is left to take.
    cursor: usize,
    /// Empty in a small pool.
    large: Large,
}

/// The entries of a large pool.
#[derive(Debug, Default)]
struct Large {
    /// Entries to take, each with the number of its insertion, because a row may be there twice with one score.
    waiting: BTreeSet<(u64, u32)>,
    /// Entries that were taken, the worst on top.
    taken: BinaryHeap<u64>,
    n_inserted: u32,
}

impl Pool {
    /// Empties the pool and sets how many rows it keeps.
    pub fn clear(&mut self, capacity: usize) {
        self.entries.clear();
        self.large = Large::default();
        self.capacity = capacity.max(1);
        self.cursor = 0;
        self.worst = f32::NEG_INFINITY;
    }

    #[inline]
    pub fn worst(&self) -> f32 {
        self.worst
    }

    /// Adds a row, and removes the worst if the pool is full.
    #[inline]
    pub fn offer(&mut self, score: f32, row: u32) {
        let entry = u64::from(descending(score) >> 1) << 33 | u64::from(row) << 1;
        if self.capacity > MAX_SORTED {
            return self.offer_large(entry);
        }
        let at = self.entries.partition_point(|&other| other < entry);
        if self.entries.len() >= self.capacity {
            self.entries.pop();
        }
        let at = at.min(self.entries.len());
        self.entries.insert(at, entry);
        self.cursor = self.cursor.min(at);
        if self.entries.len() >= self.capacity
            && let Some(last) = self.entries.last()
        {
            self.worst = score_of((last >> 33) as u32);
        }
    }

    #[cold]
    #[inline(never)]
    fn offer_large(&mut self, entry: u64) {
        if self.large.len() >= self.capacity {
            self.large.remove_worst();
        }
        self.large.insert(entry);
        if self.large.len() >= self.capacity
            && let Some(last) = self.large.worst()
        {
            self.worst = score_of((last >> 33) as u32);
        }
    }

    /// The best row that was not taken yet.
    #[inline]
    pub fn take(&mut self) -> Option<u32> {
        if self.capacity > MAX_SORTED {
            return self.large.take();
        }
        while let Some(entry) = self.entries.get_mut(self.cursor) {
            self.cursor += 1;
            if *entry & 1 == 0 {
                *entry |= 1;
                return Some((*entry >> 1) as u32);
            }
        }
        None
    }

    /// All rows in it with their scores, best first.
    pub fn rows(&self) -> Vec<(f32, u32)> {
        let mut entries = self.entries.clone();
        entries.extend(self.large.waiting.iter().map(|(entry, _)| entry));
        entries.extend(&self.large.taken);
        entries.sort_unstable();
        entries.into_iter().map(|entry| (score_of((entry >> 33) as u32), (entry >> 1) as u32)).collect()
    }
}

impl Large {
    fn len(&self) -> usize {
        self.waiting.len() + self.taken.len()
    }

    fn insert(&mut self, entry: u64) {
        self.waiting.insert((entry, self.n_inserted));
        self.n_inserted = self.n_inserted.wrapping_add(1);
    }

    #[cold]
    #[inline(never)]
    fn take(&mut self) -> Option<u32> {
        let (entry, _) = self.waiting.pop_first()?;
        self.taken.push(entry | 1);
        Some((entry >> 1) as u32)
    }

    fn worst(&self) -> Option<u64> {
        let waiting = self.waiting.last().map(|(entry, _)| *entry);
        waiting.max(self.taken.peek().copied())
    }

    fn remove_worst(&mut self) {
        if self.waiting.last().map(|(entry, _)| *entry) > self.taken.peek().copied() {
            self.waiting.pop_last();
        } else {
            self.taken.pop();
        }
    }
}

/// Whole numbers in the opposite order of scores.
#[inline]
fn descending(score: f32) -> u32 {
    let bits = score.to_bits();
    // Of positive numbers, the sign is set; of negative ones, all bits are turned: an ascending order. Then the opposite.
    !(bits ^ ((bits as i32 >> 31) as u32 | 0x8000_0000))
}

/// The least score that [`descending`], cut to 31 bits, stands for.
#[inline]
fn score_of(cut: u32) -> f32 {
    let ascending = !(cut << 1 | 1);
    f32::from_bits(if ascending & 0x8000_0000 != 0 { ascending ^ 0x8000_0000 } else { !ascending })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::super::tests::Random;
    use super::*;

    #[test]
    fn the_pool_keeps_the_best_and_hands_them_out_in_order() {
        let offered = [(0.5, 5), (-0.25, 1), (0.75, 9), (0.5, u32::MAX - 1), (-1.0, 2), (0.0, 3), (-0.0, 4)];
        let mut pool = Pool::default();
        pool.clear(4);
        for (i, (score, row)) in offered.into_iter().enumerate() {
            assert_eq!(pool.worst() == f32::NEG_INFINITY, i < 4);
            if score > pool.worst() {
                pool.offer(score, row);
            }
        }
        let taken: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken, [9, 5, u32::MAX - 1, 3]);
        // A better one that comes later is next.
        pool.offer(0.6, 7);
        assert_eq!((pool.take(), pool.take()), (Some(7), None));
    }

    #[test]
    fn scores_keep_their_order_as_numbers() {
        let scores = [-1e9, -2.0, -0.5, -1e-3, 0.0, 1e-3, 0.5, 1.0, 2.0, f32::INFINITY];
        assert!(scores.is_sorted_by(|a, b| descending(*a) > descending(*b)));
        for score in scores {
            let cut = score_of(descending(score) >> 1);
            assert!(cut <= score && (cut >= score - 1e-6 * score.abs().max(1.0) || score.is_infinite()), "{score}: {cut}");
        }
    }

    /// A pool whose entries are in the structure of large pools, whatever its capacity.
    #[derive(Default)]
    struct AlwaysLarge(Pool);

    impl AlwaysLarge {
        fn offer(&mut self, score: f32, row: u32) {
            self.0.offer_large(u64::from(descending(score) >> 1) << 33 | u64::from(row) << 1);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn both_structures_return_the_same_rows_in_the_same_order(seed in any::<u64>(), capacity in 1usize..80, n_scores in 1usize..400) {
            let mut random = Random(seed);
            let (mut sorted, mut large) = (Pool::default(), AlwaysLarge::default());
            // A walk skips rows that it has visited: which of two equal entries was taken does not matter.
            let mut visited = [HashSet::new(), HashSet::new()];
            sorted.clear(capacity);
            large.0.clear(capacity);
            for _ in 0..600 {
                prop_assert_eq!(sorted.worst(), large.0.worst());
                if random.chance(3) {
                    let [of_sorted, of_large] = &mut visited;
                    let expected = std::iter::from_fn(|| sorted.take()).find(|row| of_sorted.insert(*row));
                    let taken = std::iter::from_fn(|| large.0.large.take()).find(|row| of_large.insert(*row));
                    prop_assert_eq!(taken, expected);
                    continue;
                }
                // Few scores and rows, so that many entries are equal; next to each other, so that some differ in the bit that is cut.
                let score = f32::from_bits(0.5f32.to_bits() + random.below(n_scores) as u32) * if random.chance(4) { -1.0 } else { 1.0 };
                let row = random.below(300) as u32;
                if score > sorted.worst() {
                    sorted.offer(score, row);
                    large.offer(score, row);
                }
            }
            prop_assert_eq!(sorted.rows(), large.0.rows());
        }
    }

    #[test]
    fn a_large_pool_keeps_the_best() {
        let (mut random, capacity) = (Random(7), MAX_SORTED + 1);
        let mut pool = Pool::default();
        pool.clear(capacity);
        let mut offered: Vec<(f32, u32)> = (0..3 * capacity as u32).map(|row| (random.number(), row)).collect();
        for &(score, row) in &offered {
            if score > pool.worst() {
                pool.offer(score, row);
            }
        }
        offered.sort_by_key(|&(score, row)| (descending(score) >> 1, row));
        let best: Vec<u32> = offered[..capacity].iter().map(|&(_, row)| row).collect();
        assert_eq!(pool.rows().into_iter().map(|(_, row)| row).collect::<Vec<_>>(), best);
        assert_eq!(std::iter::from_fn(|| pool.take()).collect::<Vec<_>>(), best);
        pool.clear(3);
        assert_eq!((pool.take(), pool.worst()), (None, f32::NEG_INFINITY));
    }
}
