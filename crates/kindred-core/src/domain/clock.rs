//! The time by which documents expire.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Tells the time, and never an earlier one than before: should the system's clock jump back, what has expired stays expired.
/// All clones are one clock.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The latest time that was told.
    latest_us: AtomicI64,
    /// Stands for the system's time if it is not 0.
    set_us: AtomicI64,
}

impl Clock {
    /// Microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        let now_us = match self.0.set_us.load(Ordering::Relaxed) {
            0 => jiff::Timestamp::now().as_microsecond(),
            set_us => set_us,
        };
        self.0.latest_us.fetch_max(now_us, Ordering::Relaxed).max(now_us)
    }

    /// Tells this time instead of the system's from now on, for tests and for whoever replays the past.
    pub fn set_us(&self, now_us: i64) {
        self.0.set_us.store(now_us, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_back_stands_still() {
        let clock = Clock::default();
        let system = clock.now_us();
        assert!(system > 1_700_000_000_000_000);
        clock.set_us(system + 5_000_000);
        assert_eq!(clock.now_us(), system + 5_000_000);
        clock.set_us(system);
        assert_eq!(clock.clone().now_us(), system + 5_000_000);
    }
}
