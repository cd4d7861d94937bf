//! The permit to compute on a thread of the async runtime.
//!
//! Waking another thread costs more than a short query takes: 0.4 to 0.8 ms on a virtual machine whose core sleeps. So a thread of the
//! async runtime may compute for some milliseconds, as long as another thread of the runtime stays free to serve requests.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

static COMPUTING: AtomicUsize = AtomicUsize::new(0);

/// The permit to compute on this thread; returned when dropped.
#[derive(Debug)]
pub struct InlinePermit(());

impl InlinePermit {
    /// Acquires a permit, if another thread of the runtime stays free; never blocks.
    pub fn try_acquire() -> Option<Self> {
        let n_threads = Handle::try_current().map_or(0, |runtime| runtime.metrics().num_workers());
        let before = COMPUTING.fetch_add(1, Ordering::Relaxed);
        // Made before the check, so that dropping it takes the count back in any case.
        let permit = Self(());
        (before + 1 < n_threads).then_some(permit)
    }
}

impl Drop for InlinePermit {
    fn drop(&mut self) {
        COMPUTING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_of_the_runtime_stays_free() {
        assert!(InlinePermit::try_acquire().is_none(), "without a runtime there is nothing to compute on");
        let runtime = |n| tokio::runtime::Builder::new_multi_thread().worker_threads(n).build().unwrap();
        runtime(1).block_on(async { assert!(InlinePermit::try_acquire().is_none()) });
        // Other tests may compute at the same time: permits are bounded, and are returned.
        runtime(40).block_on(async {
            let permits: Vec<InlinePermit> = std::iter::from_fn(InlinePermit::try_acquire).take(100).collect();
            assert!(!permits.is_empty() && permits.len() < 40, "{}", permits.len());
            drop(permits);
            assert!(InlinePermit::try_acquire().is_some());
        });
    }
}
