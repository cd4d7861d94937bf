//! How long the evaluation of a filter may take.

use std::time::{Duration, Instant};

use super::super::IndexError;

/// Longest time for any filter.
const MAX: Duration = Duration::from_secs(10);
/// Shortest time, however soon the request's deadline is: a common filter takes less than a millisecond on a million rows, and
/// a search with an expired deadline still returns hits.
const MIN: Duration = Duration::from_millis(20);

/// When the evaluation of a request's filter ends without a result.
#[derive(Debug, Clone, Copy)]
pub struct FilterDeadline {
    started: Instant,
    until: Instant,
}

impl FilterDeadline {
    /// Starts now. It is the request's deadline where there is one, but at least 20 ms and at most 10 s from now.
    pub fn start(request: Option<Instant>) -> Self {
        let started = Instant::now();
        let left = request.map_or(MAX, |until| until.saturating_duration_since(started).clamp(MIN, MAX));
        Self { started, until: started + left }
    }

    /// Fails once the deadline is over. Takes about 30 ns.
    ///
    /// # Errors
    /// [`IndexError::FilterTimeout`].
    pub fn check(self) -> Result<(), IndexError> {
        if Instant::now() < self.until {
            return Ok(());
        }
        Err(IndexError::FilterTimeout { limit_ms: (self.until - self.started).as_millis() as u64 })
    }

    /// Already over: for tests of what then happens.
    #[cfg(test)]
    pub(crate) fn over() -> Self {
        let now = Instant::now();
        Self { started: now, until: now }
    }
}
