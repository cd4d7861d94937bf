//! The bounded threads that search. HTTP's own threads do so only for a short one, while another is left to serve.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::PipelineError;
use crate::telemetry::traces::in_current_span;
use kindred_encoder::InlinePermit;

/// A pool of threads with a limit on the work that may wait for it.
#[derive(Debug)]
pub(super) struct Pool {
    threads: rayon::ThreadPool,
    in_flight: Arc<AtomicUsize>,
    max_in_flight: usize,
}

/// Counts one piece of work as long as it lives, however it ends.
struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// `threads` = 0 makes one per core.
    pub fn new(threads: usize, max_queue: usize) -> Self {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("search-{i}"))
            // The caller learns of a panic by the answer that does not come; without a handler the process would end.
            .panic_handler(|_| tracing::error!("a search panicked: this is a bug"))
            .build()
            .expect("the operating system can start threads");
        let max_in_flight = max_queue + threads.current_num_threads();
        Self { threads, in_flight: Arc::default(), max_in_flight }
    }

    /// Threads that search.
    pub fn n_threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs `work`, which is short, on the calling thread if that is allowed and the pool has nothing that waits; else on the pool.
    ///
    /// # Errors
    /// As [`Pool::run`].
    pub async fn run_short<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PipelineError> {
        let Some(_permit) =
            InlinePermit::try_acquire().filter(|_| self.in_flight.load(Ordering::Relaxed) < self.threads.current_num_threads())
        else {
            return self.run(work).await;
        };
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let _in_flight = InFlight(Arc::clone(&self.in_flight));
        catch_unwind(AssertUnwindSafe(work)).map_err(|_| PipelineError::WorkerLost)
    }

    /// Runs `work` on the pool.
    ///
    /// # Errors
    /// [`PipelineError::Overloaded`] when too much is waiting; [`PipelineError::WorkerLost`] when it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PipelineError> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight(Arc::clone(&self.in_flight));
        if before >= self.max_in_flight {
            return Err(PipelineError::Overloaded { actual: before });
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        let work = in_current_span(work);
        self.threads.spawn(move || {
            let _in_flight = in_flight;
            // A caller that hung up needs no answer, so none is worked out.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        });
        answered.await.map_err(|_| PipelineError::WorkerLost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_pool_answers_and_a_panic_does_not_hang() {
        let pool = Arc::new(Pool::new(1, 1));
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let busy = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(move || gate.recv()).await.is_ok() }
        });
        while pool.in_flight.load(Ordering::Relaxed) < 1 {
            tokio::task::yield_now().await;
        }
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(|| 7).await.unwrap() }
        });
        while pool.in_flight.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(pool.run(|| 0).await, Err(PipelineError::Overloaded { actual: 2 })));
        release.send(()).unwrap();
        assert!(busy.await.unwrap());
        assert_eq!(waiting.await.unwrap(), 7);
        assert!(matches!(pool.run(|| panic!("on purpose")).await, Err::<(), _>(PipelineError::WorkerLost)));
        assert_eq!(pool.run(|| 1).await.unwrap(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 40)]
    async fn what_is_short_needs_no_other_thread() {
        let pool = Pool::new(1, 1);
        let caller = std::thread::current().id();
        assert_eq!(pool.run_short(|| std::thread::current().id()).await.unwrap(), caller);
        assert!(matches!(pool.run_short(|| panic!("on purpose")).await, Err::<(), _>(PipelineError::WorkerLost)));
        assert_eq!(pool.in_flight.load(Ordering::Relaxed), 0);
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let busy = pool.run(move || gate.recv());
        let meanwhile = async {
            let there = pool.run_short(|| std::thread::current().id());
            release.send(()).unwrap();
            there.await.unwrap()
        };
        let (done, there) = tokio::join!(busy, meanwhile);
        assert!(done.unwrap().is_ok());
        assert_ne!(there, caller, "the pool was busy: after what waited before");
    }
}
