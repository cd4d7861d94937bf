//! Waiting that an end of the feed ends.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Tells all workers to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    pub fn stop(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    pub fn is_stopped(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end, for this time at most.
    fn wait(&self, time: Duration) {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_timeout_while(guard, time, |stopped| !*stopped));
    }
}

/// Growing pauses between attempts.
pub(super) struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    /// Each pause is twice as long as the one before, up to this.
    pub fn up_to(longest: Duration) -> Self {
        Self { next: Duration::from_millis(100), longest }
    }

    /// The next pause.
    pub fn wait(&mut self, stop: &Stop) {
        stop.wait(self.next);
        self.next = (self.next * 2).min(self.longest);
    }
}
