//! The handle of long work: shows how far it has come (a bar with rate and ETA on a terminal, a plain line now and then elsewhere),
//! and tells it when it is not wanted any more.

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Cancels work. All clones are one: whoever holds one may cancel, and the work looks at its own now and then.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Says that the work is not wanted any more. It ends at its next look, and leaves everything as it was.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The progress of one step, shared by the threads that work on it. Goes to standard error.
#[derive(Debug)]
pub struct Progress {
    what: String,
    /// 0 where nobody knows.
    total: u64,
    unit: Unit,
    done: AtomicU64,
    show: Show,
    cancel: Cancel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Things,
    Bytes,
}

enum Show {
    Nothing,
    Bar(ProgressBar),
    Lines { started: Instant, last: Mutex<Instant> },
    Call(Box<dyn Fn(u64) + Send + Sync>),
}

impl fmt::Debug for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Bar(_) => "Bar",
            Self::Lines { .. } => "Lines",
            Self::Call(_) => "Call",
        })
    }
}

impl Progress {
    /// Shows `what` (for example `"embedding jobs"`) going from 0 to `total`.
    pub fn new(what: impl Into<String>, total: u64) -> Self {
        Self::shown(what.into(), total, Unit::Things)
    }

    /// Shows `what` going from 0 to `total` bytes; 0 where nobody knows how many there will be.
    pub fn of_bytes(what: impl Into<String>, total: u64) -> Self {
        Self::shown(what.into(), total, Unit::Bytes)
    }

    fn shown(what: String, total: u64, unit: Unit) -> Self {
        let show = if std::io::stderr().is_terminal() {
            let template = match (unit, total) {
                (Unit::Things, 0) => "{msg:<28} {spinner} {pos}  {per_sec}",
                (Unit::Things, _) => "{msg:<28} {bar:32} {pos}/{len}  {per_sec}  {eta} left",
                (Unit::Bytes, 0) => "{msg:<28} {spinner} {bytes}  {bytes_per_sec}",
                (Unit::Bytes, _) => "{msg:<28} {bar:32} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
            };
            let style = ProgressStyle::with_template(template).expect("the templates above are valid");
            Show::Bar(ProgressBar::new(total).with_style(style).with_message(what.clone()))
        } else {
            Show::Lines { started: Instant::now(), last: Mutex::new(Instant::now()) }
        };
        Self { what, total, unit, show, ..Self::hidden() }
    }

    /// Counts, but shows nothing.
    pub fn hidden() -> Self {
        Self { what: String::new(), total: 0, unit: Unit::Things, done: AtomicU64::new(0), show: Show::Nothing, cancel: Cancel::default() }
    }

    /// Shows nothing, but calls `look` with what is done whenever that changes, on the threads that do it.
    pub fn watched(look: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { show: Show::Call(Box::new(look)), ..Self::hidden() }
    }

    /// Makes the step one of those that this handle cancels.
    #[must_use]
    pub fn cancelled_by(self, cancel: &Cancel) -> Self {
        Self { cancel: cancel.clone(), ..self }
    }

    /// Whether the work should end without being done.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Adds to what is done.
    pub fn advance(&self, n: u64) {
        let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
        match &self.show {
            Show::Nothing => {}
            Show::Call(look) => look(done),
            Show::Bar(bar) => bar.inc(n),
            Show::Lines { started, last } => {
                // A line that another thread is writing already need not be written twice.
                if let Ok(mut last) = last.try_lock()
                    && last.elapsed() >= LINE_INTERVAL
                {
                    *last = Instant::now();
                    eprintln!("{}", self.line(done, started.elapsed()));
                }
            }
        }
    }

    /// Ends the step and leaves one line behind.
    pub fn finish(self) {
        let done = self.done.load(Ordering::Relaxed);
        match &self.show {
            Show::Nothing | Show::Call(_) => {}
            Show::Bar(bar) => {
                let elapsed = bar.elapsed();
                bar.finish_and_clear();
                eprintln!("{}", self.last_line(done, elapsed));
            }
            Show::Lines { started, .. } => eprintln!("{}", self.last_line(done, started.elapsed())),
        }
    }

    fn line(&self, done: u64, elapsed: Duration) -> String {
        let rate = done as f64 / elapsed.as_secs_f64().max(1e-9);
        let shown = self.amount(done as f64);
        if self.total == 0 {
            return format!("{}: {shown} ({}/s)", self.what, self.amount(rate));
        }
        // Nobody knows how long it takes before anything is done.
        let left = if done == 0 { String::new() } else { format!(", {:.0} s left", self.total.saturating_sub(done) as f64 / rate) };
        format!("{}: {shown}/{} ({}/s{left})", self.what, self.amount(self.total as f64), self.amount(rate))
    }

    fn last_line(&self, done: u64, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64();
        format!("{}: {} in {seconds:.1} s ({}/s)", self.what, self.amount(done as f64), self.amount(done as f64 / seconds.max(1e-9)))
    }

    fn amount(&self, n: f64) -> String {
        match self.unit {
            Unit::Things => format!("{n:.0}"),
            Unit::Bytes if n < 1e6 => format!("{:.1} kB", n / 1e3),
            Unit::Bytes if n < 1e9 => format!("{:.1} MB", n / 1e6),
            Unit::Bytes => format!("{:.2} GB", n / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_handle_cancels_all_steps_of_a_work() {
        let cancel = Cancel::default();
        let steps = [Progress::hidden().cancelled_by(&cancel), Progress::hidden().cancelled_by(&cancel)];
        let (other, handle) = (Progress::hidden(), cancel.clone());
        let watched = Progress::watched(move |done| {
            if done == 3 {
                handle.cancel()
            }
        });
        watched.advance(2);
        assert!(!steps.iter().any(Progress::is_cancelled));
        watched.advance(1);
        assert!(steps.iter().all(Progress::is_cancelled) && !other.is_cancelled());
    }

    #[test]
    fn lines_tell_rate_and_rest() {
        let progress = Progress { what: "embedding".into(), total: 100, ..Progress::hidden() };
        assert_eq!(progress.line(25, Duration::from_secs(5)), "embedding: 25/100 (5/s, 15 s left)");
        assert_eq!(progress.line(0, Duration::from_secs(5)), "embedding: 0/100 (0/s)");
        assert_eq!(progress.last_line(100, Duration::from_secs(20)), "embedding: 100 in 20.0 s (5/s)");
        let progress = Progress { what: "reading".into(), unit: Unit::Bytes, ..progress };
        assert_eq!(progress.line(25, Duration::from_secs(5)), "reading: 0.0 kB/0.1 kB (0.0 kB/s, 15 s left)");
        let progress = Progress { total: 0, ..progress };
        assert_eq!(progress.line(25_000_000, Duration::from_secs(5)), "reading: 25.0 MB (5.0 MB/s)");
    }
}
