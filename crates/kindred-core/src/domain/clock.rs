//! The time by which documents expire.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the clock must show a time before anything is deleted because of it. An hour is enough for an operator, or for NTP, to set a
/// wrong clock right; the expired documents that are kept meanwhile are hidden, and are few.
const GRACE: Duration = Duration::from_secs(3_600);
/// Readings within this time are kept as one, their earliest.
const READING_EVERY: Duration = Duration::from_secs(60);

/// The system's clock, which may jump. All clones are one clock.
///
/// Documents are hidden by [`Self::now_us`], so that a clock that jumps back brings them back. They are deleted by
/// [`Self::settled_us`], which a jump ahead does not move.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    /// Readings of the system's clock, oldest first: when they were taken by the monotonic clock, and the earliest time they showed.
    readings: Mutex<VecDeque<(Duration, i64)>>,
    /// Replaces the system's time if it is not 0.
    set_us: AtomicI64,
    /// Added to the monotonic clock.
    skipped_us: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            readings: Mutex::default(),
            set_us: AtomicI64::default(),
            skipped_us: AtomicU64::default(),
        }))
    }
}

impl Clock {
    /// Returns the time in microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        match self.0.set_us.load(Ordering::Relaxed) {
            0 => jiff::Timestamp::now().as_microsecond(),
            set_us => set_us,
        }
    }

    /// Takes a reading, and returns the earliest time that was read during the last hour of the monotonic clock; `None` during the
    /// first hour. To be called at least once a minute.
    pub fn settled_us(&self) -> Option<i64> {
        let now = self.0.started.elapsed() + Duration::from_micros(self.0.skipped_us.load(Ordering::Relaxed));
        let now_us = self.now_us();
        let mut readings = self.0.readings.lock().unwrap_or_else(PoisonError::into_inner);
        match readings.back_mut() {
            Some((taken, earliest_us)) if now < *taken + READING_EVERY => *earliest_us = now_us.min(*earliest_us),
            _ => readings.push_back((now, now_us)),
        }
        // The first reading that is kept is older than the grace period, or there is none that old.
        while readings.get(1).is_some_and(|(taken, _)| *taken + GRACE <= now) {
            readings.pop_front();
        }
        let is_settled = readings.front().is_some_and(|(taken, _)| *taken + GRACE <= now);
        readings.iter().map(|(_, earliest_us)| *earliest_us).min().filter(|_| is_settled)
    }

    /// Shows this time instead of the system's from now on, for tests and for replays of the past.
    pub fn set_us(&self, now_us: i64) {
        self.0.set_us.store(now_us, Ordering::Relaxed);
    }

    /// Moves the monotonic clock ahead, for tests.
    pub fn skip(&self, time: Duration) {
        self.0.skipped_us.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// Lets the grace period pass while the clock shows the time that it shows now, for tests.
    pub fn settle(&self) {
        for _ in 0..2 * GRACE.as_secs() / READING_EVERY.as_secs() {
            self.skip(READING_EVERY);
            self.settled_us();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_US: i64 = 60_000_000;
    const START_US: i64 = 1_800_000_000_000_000;

    /// Lets minutes pass by both clocks; returns what is settled at the end.
    fn pass(clock: &Clock, minutes: i64) -> Option<i64> {
        let mut settled = None;
        for _ in 0..minutes {
            clock.skip(Duration::from_secs(60));
            clock.set_us(clock.now_us() + MINUTE_US);
            settled = clock.settled_us();
        }
        settled
    }

    #[test]
    fn it_is_the_systems_clock() {
        let clock = Clock::default();
        let before = jiff::Timestamp::now().as_microsecond();
        assert!((before..before + 60 * MINUTE_US).contains(&clock.clone().now_us()));
        clock.set_us(START_US);
        assert_eq!(clock.clone().now_us(), START_US);
    }

    #[test]
    fn a_time_settles_when_the_clock_has_shown_it_for_an_hour() {
        let clock = Clock::default();
        clock.set_us(START_US);
        assert_eq!(clock.settled_us(), None);
        assert_eq!(pass(&clock, 59), None);
        let settled = pass(&clock, 120).unwrap();
        let lag_minutes = (clock.now_us() - settled) / MINUTE_US;
        assert!((60..=61).contains(&lag_minutes), "{lag_minutes} minutes");
    }

    #[test]
    fn a_jump_ahead_that_is_set_right_within_an_hour_settles_nothing() {
        for minutes in [0, 1, 10, 58] {
            let clock = Clock::default();
            clock.set_us(START_US);
            pass(&clock, 180);
            let true_us = clock.now_us();
            clock.set_us(true_us + 10_000 * MINUTE_US);
            assert!(clock.settled_us().unwrap() < true_us);
            assert!(pass(&clock, minutes).is_none_or(|settled| settled < true_us), "wrong for {minutes} minutes");
            clock.set_us(true_us + minutes * MINUTE_US);
            assert!(clock.settled_us().unwrap() < true_us);
            assert!(pass(&clock, 200).unwrap() < clock.now_us());
        }
    }

    #[test]
    fn a_jump_back_counts_at_once() {
        let clock = Clock::default();
        clock.set_us(START_US);
        pass(&clock, 180);
        clock.set_us(START_US - 1_000 * MINUTE_US);
        assert_eq!(clock.settled_us(), Some(START_US - 1_000 * MINUTE_US));
    }

    #[test]
    fn a_machine_that_slept_has_not_read_its_clock_meanwhile() {
        let clock = Clock::default();
        clock.set_us(START_US);
        let settled = pass(&clock, 180).unwrap();
        clock.skip(Duration::from_secs(100 * 3_600));
        clock.set_us(START_US + 1_000_000 * MINUTE_US);
        assert!(clock.settled_us().unwrap() <= settled + 62 * MINUTE_US, "the readings before the sleep still count");
    }
}
