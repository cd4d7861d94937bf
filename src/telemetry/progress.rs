//! Progress of long work: a bar with rate and ETA on a terminal, a plain line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The progress of one step, shared by the threads that work on it. Goes to standard error.
#[derive(Debug)]
pub struct Progress {
    what: String,
    total: u64,
    done: AtomicU64,
    show: Show,
}

#[derive(Debug)]
enum Show {
    Nothing,
    Bar(ProgressBar),
    Lines { started: Instant, last: Mutex<Instant> },
}

impl Progress {
    /// Shows `what` (for example `"embedding jobs"`) going from 0 to `total`.
    pub fn new(what: impl Into<String>, total: u64) -> Self {
        let what = what.into();
        let show = if std::io::stderr().is_terminal() {
            let template = "{msg:<28} {bar:32} {pos}/{len}  {per_sec}  {eta} left";
            let style = ProgressStyle::with_template(template).expect("the template above is valid");
            Show::Bar(ProgressBar::new(total).with_style(style).with_message(what.clone()))
        } else {
            Show::Lines { started: Instant::now(), last: Mutex::new(Instant::now()) }
        };
        Self { what, total, done: AtomicU64::new(0), show }
    }

    /// Counts, but shows nothing.
    pub fn hidden() -> Self {
        Self { what: String::new(), total: 0, done: AtomicU64::new(0), show: Show::Nothing }
    }

    /// Adds to what is done.
    pub fn advance(&self, n: u64) {
        let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
        match &self.show {
            Show::Nothing => {}
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
            Show::Nothing => {}
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
        let left = self.total.saturating_sub(done) as f64 / rate.max(1e-9);
        format!("{}: {done}/{} ({rate:.0}/s, {left:.0} s left)", self.what, self.total)
    }

    fn last_line(&self, done: u64, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64();
        format!("{}: {done} in {seconds:.1} s ({:.0}/s)", self.what, done as f64 / seconds.max(1e-9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_rate_and_rest() {
        let progress = Progress { what: "embedding".into(), total: 100, ..Progress::hidden() };
        assert_eq!(progress.line(25, Duration::from_secs(5)), "embedding: 25/100 (5/s, 15 s left)");
        assert_eq!(progress.last_line(100, Duration::from_secs(20)), "embedding: 100 in 20.0 s (5/s)");
    }
}
