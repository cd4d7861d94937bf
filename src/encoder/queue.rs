//! The bounded queue before the encoder's threads, with a lane for those who cannot wait and one for those who can.
//!
//! *Concurrency*: many producers, many consumers. Online jobs go first, but every eighth turn belongs to the bulk lane, so that
//! neither lane starves the other.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// One turn in so many belongs to the bulk lane when both have work.
const BULK_TURN: usize = 8;

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// So many texts wait already.
    Full { waiting: usize },
    /// The threads have ended.
    Closed,
}

/// Jobs that wait for a thread.
pub struct Queue<J> {
    state: Mutex<State<J>>,
    work: Condvar,
    space: Condvar,
    max_online_texts: usize,
    max_bulk_jobs: usize,
}

struct State<J> {
    online: VecDeque<(usize, J)>,
    online_texts: usize,
    bulk: VecDeque<J>,
    turn: usize,
    closed: bool,
}

impl<J> Queue<J> {
    /// An empty queue for at most so many texts online and so many jobs in bulk.
    pub fn new(max_online_texts: usize, max_bulk_jobs: usize) -> Self {
        let state = State { online: VecDeque::new(), online_texts: 0, bulk: VecDeque::new(), turn: 0, closed: false };
        Self { state: Mutex::new(state), work: Condvar::new(), space: Condvar::new(), max_online_texts, max_bulk_jobs }
    }

    /// Adds all jobs of a call, each with its number of texts, or none. An empty lane takes a call of any size: the limit is on
    /// waiting behind others.
    ///
    /// # Errors
    /// [`Refused::Full`] or [`Refused::Closed`].
    pub fn push_online(&self, jobs: Vec<(usize, J)>) -> Result<(), Refused> {
        let mut state = self.lock();
        let n_texts: usize = jobs.iter().map(|(n, _)| n).sum();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.online_texts > 0 && state.online_texts + n_texts > self.max_online_texts {
            return Err(Refused::Full { waiting: state.online_texts });
        }
        state.online_texts += n_texts;
        state.online.extend(jobs);
        self.work.notify_all();
        Ok(())
    }

    /// Adds a job, waiting for space.
    ///
    /// # Errors
    /// [`Refused::Closed`].
    pub fn push_bulk(&self, job: J) -> Result<(), Refused> {
        let mut state = self.lock();
        while !state.closed && state.bulk.len() >= self.max_bulk_jobs {
            state = self.space.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(Refused::Closed);
        }
        state.bulk.push_back(job);
        self.work.notify_one();
        Ok(())
    }

    /// Takes the next job, waiting for one; `None` once the queue is closed.
    pub fn pop(&self) -> Option<J> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            state.turn = (state.turn + 1) % BULK_TURN;
            let bulk_first = state.turn == 0 || state.online.is_empty();
            if bulk_first && let Some(job) = state.bulk.pop_front() {
                self.space.notify_one();
                return Some(job);
            }
            if let Some((n_texts, job)) = state.online.pop_front() {
                state.online_texts -= n_texts;
                return Some(job);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Refuses new jobs, drops those that wait and ends the consumers.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.online.clear();
        state.online_texts = 0;
        state.bulk.clear();
        self.work.notify_all();
        self.space.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // No step above leaves the state half changed, so a panicked holder is no reason to stop.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn a_call_is_taken_whole_or_not_at_all() {
        let queue = Queue::new(3, 1);
        queue.push_online(vec![(5, 'a')]).unwrap();
        assert_eq!(queue.push_online(vec![(1, 'b')]), Err(Refused::Full { waiting: 5 }));
        assert_eq!(queue.pop(), Some('a'));
        queue.push_online(vec![(1, 'b'), (1, 'c')]).unwrap();
        queue.push_online(vec![(1, 'd')]).unwrap();
        assert_eq!(queue.push_online(vec![(1, 'e')]), Err(Refused::Full { waiting: 3 }));
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some('b'), Some('c'), Some('d')]);
    }

    #[test]
    fn neither_lane_starves() {
        let queue = Queue::new(100, 100);
        for _ in 0..20 {
            queue.push_online(vec![(1, "online")]).unwrap();
            queue.push_bulk("bulk").unwrap();
        }
        let first: Vec<_> = (0..16).map(|_| queue.pop().unwrap()).collect();
        assert_eq!(first.iter().filter(|job| **job == "bulk").count(), 2);
        let rest: Vec<_> = (16..40).map(|_| queue.pop().unwrap()).collect();
        assert_eq!(rest.iter().filter(|job| **job == "bulk").count(), 18);
    }

    #[test]
    fn closing_wakes_everyone() {
        let queue = Arc::new(Queue::new(1, 1));
        queue.push_bulk(1).unwrap();
        let producer = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push_bulk(2)
        });
        let consumer = thread::spawn({
            let queue = Arc::clone(&queue);
            move || while queue.pop().is_some() {}
        });
        queue.push_bulk(3).unwrap();
        queue.close();
        let _ = producer.join().unwrap();
        consumer.join().unwrap();
        assert_eq!(queue.push_online(vec![(1, 4)]), Err(Refused::Closed));
        assert_eq!(queue.push_bulk(5), Err(Refused::Closed));
    }
}
