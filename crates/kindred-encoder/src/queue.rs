//! What waits for the model, in two lanes: texts that somebody waits for at once, and texts in bulk.
//!
//! Online texts go first, but every eighth turn belongs to the bulk lane, so that neither starves the other.

use std::collections::VecDeque;

use super::batcher::{self, Text};

/// One turn in so many belongs to the bulk lane when both have work.
const BULK_TURN: usize = 8;

/// Two lanes of waiting texts.
pub struct Queue<T> {
    online: VecDeque<T>,
    bulk: VecDeque<T>,
    online_tokens: usize,
    turn: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { online: VecDeque::new(), bulk: VecDeque::new(), online_tokens: 0, turn: 0 }
    }
}

impl<T: Text> Queue<T> {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.online.is_empty() && self.bulk.is_empty()
    }

    /// Texts that wait in the online lane.
    pub fn n_online(&self) -> usize {
        self.online.len()
    }

    /// Texts that wait in the bulk lane.
    pub fn n_bulk(&self) -> usize {
        self.bulk.len()
    }

    /// Tokens that wait in the online lane.
    pub fn online_tokens(&self) -> usize {
        self.online_tokens
    }

    /// The online text that has waited longest.
    pub fn oldest_online(&self) -> Option<&T> {
        self.online.front()
    }

    /// Adds texts that cannot wait.
    pub fn push_online(&mut self, texts: impl IntoIterator<Item = T>) {
        for text in texts {
            self.online_tokens += text.n_tokens();
            self.online.push_back(text);
        }
    }

    /// Adds a text that can.
    pub fn push_bulk(&mut self, text: T) {
        self.bulk.push_back(text);
    }

    /// Forgets texts that nobody wants any more. Returns them.
    pub fn drop_unwanted(&mut self, mut is_wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut unwanted = Vec::new();
        for lane in [&mut self.online, &mut self.bulk] {
            if !lane.iter().all(&mut is_wanted) {
                let (kept, dropped): (VecDeque<T>, VecDeque<T>) = lane.drain(..).partition(&mut is_wanted);
                *lane = kept;
                unwanted.extend(dropped);
            }
        }
        if !unwanted.is_empty() {
            self.online_tokens = self.online.iter().map(Text::n_tokens).sum();
        }
        unwanted
    }

    /// The next batch; empty when nothing waits.
    pub fn next_batch(&mut self, max_batch_tokens: usize) -> Vec<T> {
        self.turn = (self.turn + 1) % BULK_TURN;
        let bulk_first = self.turn == 0 || self.online.is_empty();
        if bulk_first && !self.bulk.is_empty() {
            return batcher::take(&mut self.bulk, max_batch_tokens);
        }
        let batch = batcher::take(&mut self.online, max_batch_tokens);
        self.online_tokens -= batch.iter().map(Text::n_tokens).sum::<usize>();
        batch
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Text for &str {
        fn n_tokens(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn neither_lane_starves() {
        let mut queue = Queue::default();
        for _ in 0..20 {
            queue.push_online(["query"]);
            queue.push_bulk("document");
        }
        let mut next = || queue.next_batch(1).pop().unwrap();
        let first: Vec<_> = (0..16).map(|_| next()).collect();
        assert_eq!(first.iter().filter(|text| **text == "document").count(), 2);
        let rest: Vec<_> = (16..40).map(|_| next()).collect();
        assert_eq!(rest.iter().filter(|text| **text == "document").count(), 18);
        assert!(queue.is_empty() && queue.next_batch(1).is_empty());
    }

    #[test]
    fn what_nobody_wants_is_dropped_and_the_rest_keeps_its_order() {
        let mut queue = Queue::default();
        queue.push_online(["a", "gone", "b"]);
        queue.push_bulk("gone too");
        assert_eq!((queue.n_online(), queue.n_bulk(), queue.online_tokens()), (3, 1, 6));
        assert_eq!(queue.drop_unwanted(|text| text.len() == 1), ["gone", "gone too"]);
        assert_eq!((queue.oldest_online(), queue.online_tokens()), (Some(&"a"), 2));
        assert_eq!(queue.next_batch(100), ["a", "b"]);
        assert_eq!(queue.online_tokens(), 0);
    }
}
