//! The best of many candidates.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use kindred_core::domain::Candidate;

/// The best `k` of all candidates that are offered to it.
#[derive(Debug)]
pub(super) struct TopK {
    k: usize,
    /// The worst of those kept is on top.
    heap: BinaryHeap<Ranked>,
}

/// Best first: the larger score, and of equal scores the smaller row. So the worst is the greatest.
#[derive(Debug)]
struct Ranked(Candidate);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.row.cmp(&other.0.row))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

impl TopK {
    /// Keeps nothing yet.
    pub fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// Keeps the candidate if it is among the best so far.
    #[inline]
    pub fn offer(&mut self, candidate: Candidate) {
        let candidate = Ranked(candidate);
        if self.heap.len() < self.k {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }

    /// Those kept, best first.
    pub fn into_sorted(self) -> Vec<Candidate> {
        self.heap.into_sorted_vec().into_iter().map(|Ranked(candidate)| candidate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_best_and_orders_ties_by_row() {
        let offered = [(5, 0.5), (1, 0.9), (4, 0.5), (2, 0.1), (3, 0.5), (0, -1.0)].map(|(row, score)| Candidate { row, score });
        for k in 0..8 {
            let mut best = TopK::new(k);
            offered.iter().for_each(|c| best.offer(*c));
            let rows: Vec<u32> = best.into_sorted().iter().map(|c| c.row).collect();
            assert_eq!(rows, [1, 3, 4, 5, 2, 0][..k.min(6)], "k = {k}");
        }
    }
}
