//! Work that waits for the disk or takes long, on Tokio's blocking threads.
//!
//! Each kind of work has a share of those threads, and waits for it without holding one. Together the shares are less than
//! Tokio's 512 threads, so that short internal work, such as reloading keys and certificates, always finds one.

use tokio::sync::Semaphore;

use super::PipelineError;
use crate::telemetry::traces::in_current_span;

/// What blocking work does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Parses a request's body.
    Parse,
    /// Reads stored documents or files.
    Read,
    /// Writes documents: embeds them, and waits until they are durable.
    Write,
    /// Changes collections, generations and profiles.
    Change,
}

static PARSING: Semaphore = Semaphore::const_new(32);
static READING: Semaphore = Semaphore::const_new(64);
/// One group commit takes this many writers at once (see `collection/writer.rs`), so more threads would not write faster.
static WRITING: Semaphore = Semaphore::const_new(256);
static CHANGING: Semaphore = Semaphore::const_new(32);

impl Work {
    fn share(self) -> &'static Semaphore {
        match self {
            Self::Parse => &PARSING,
            Self::Read => &READING,
            Self::Write => &WRITING,
            Self::Change => &CHANGING,
        }
    }
}

/// Runs work away from the threads that serve HTTP. Work of one kind must not wait for other work of the same kind.
///
/// # Errors
/// [`PipelineError::WorkerLost`] if the work panicked.
pub async fn blocking<T: Send + 'static>(kind: Work, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PipelineError> {
    let permit = kind.share().acquire().await.expect("the shares are never closed");
    let work = in_current_span(work);
    let run = move || {
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(run).await.map_err(|_| PipelineError::WorkerLost)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many writers as there could be blocking threads, each waiting for something, leave threads for other work.
    #[tokio::test]
    async fn writers_leave_threads_for_other_work() {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = std::sync::Arc::new(std::sync::Mutex::new(released));
        let wait = |released: std::sync::Arc<std::sync::Mutex<std::sync::mpsc::Receiver<()>>>| {
            tokio::spawn(blocking(Work::Write, move || released.lock().unwrap().recv().is_err()))
        };
        let writers: Vec<_> = (0..1_000).map(|_| wait(std::sync::Arc::clone(&released))).collect();
        while WRITING.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(blocking(Work::Read, || 1).await.unwrap(), 1);
        assert_eq!(tokio::task::spawn_blocking(|| 2).await.unwrap(), 2, "as reloading keys does");
        drop(release);
        for writer in writers {
            assert!(writer.await.unwrap().unwrap());
        }
        assert!(matches!(blocking(Work::Read, || panic!("on purpose")).await, Err::<(), _>(PipelineError::WorkerLost)));
        assert_eq!(READING.available_permits(), 64, "a panic returns its permit");
    }
}
