//! Exact search: every row compared, the best kept. The oracle of the graph, and the better way for few rows.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::distance::dot;
use crate::domain::Candidate;

/// Best first: the larger score, and of equal scores the smaller row.
pub(super) fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.row.cmp(&b.row))
}

/// The best `k` of all candidates that are offered to it.
#[derive(Debug)]
pub struct TopK {
    k: usize,
    /// The worst of those kept is on top.
    heap: BinaryHeap<Ranked>,
}

/// A candidate in the order of [`best_first`], so the worst is the greatest.
#[derive(Debug)]
pub(super) struct Ranked(pub Candidate);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        best_first(&self.0, &other.0)
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
        if self.heap.len() < self.k {
            self.heap.push(Ranked(candidate));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && best_first(&candidate, &worst.0).is_lt()
        {
            worst.0 = candidate;
        }
    }

    /// Those kept, best first.
    pub fn into_sorted(self) -> Vec<Candidate> {
        self.heap.into_sorted_vec().into_iter().map(|Ranked(candidate)| candidate).collect()
    }
}

/// The `k` rows whose vectors have the largest dot products with the query, best first; `vectors` is `[rows × dims]`.
///
/// Rows without a vector are skipped. Also returns how many were compared.
pub(super) fn scan(query: &[f32], vectors: &[f32], rows: impl Iterator<Item = u32>, k: usize) -> (Vec<Candidate>, u64) {
    let (dims, mut best, mut n_distances) = (query.len(), TopK::new(k), 0);
    for row in rows {
        let start = row as usize * dims;
        let Some(vector) = vectors.get(start..start + dims) else { continue };
        best.offer(Candidate { row, score: dot(query, vector) });
        n_distances += 1;
    }
    (best.into_sorted(), n_distances)
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

    #[test]
    fn rows_without_a_vector_are_skipped() {
        let (found, n_distances) = scan(&[1.0], &[0.5, 0.7], [1, 9, u32::MAX, 0].into_iter(), 10);
        assert_eq!(found, [Candidate { row: 1, score: 0.7 }, Candidate { row: 0, score: 0.5 }]);
        assert_eq!(n_distances, 2);
    }
}
