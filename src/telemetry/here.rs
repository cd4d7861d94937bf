//! Whether a little work may be done on the very thread that asks for it.
//!
//! Waking another thread costs more than a short query takes: 0.4 to 0.8 ms on a virtual machine whose core sleeps. So a thread of the
//! async runtime may compute for some milliseconds, as long as another one of them is left to serve everybody else.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

static COMPUTING: AtomicUsize = AtomicUsize::new(0);

/// The right to compute on this thread; given back when dropped.
#[derive(Debug)]
pub struct Here(());

impl Here {
    /// The right, if another thread of the runtime is left.
    pub fn try_enter() -> Option<Self> {
        let n_threads = Handle::try_current().map_or(0, |runtime| runtime.metrics().num_workers());
        let before = COMPUTING.fetch_add(1, Ordering::Relaxed);
        // Made before it is looked at, so that what was counted is given back in any case.
        let here = Self(());
        (before + 1 < n_threads).then_some(here)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        COMPUTING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_is_always_left() {
        assert!(Here::try_enter().is_none(), "no runtime, nobody to serve");
        let runtime = |n| tokio::runtime::Builder::new_multi_thread().worker_threads(n).build().unwrap();
        runtime(1).block_on(async { assert!(Here::try_enter().is_none()) });
        // Other tests may compute at the same time: what is given is bounded, and comes back.
        runtime(40).block_on(async {
            let given: Vec<Here> = std::iter::from_fn(Here::try_enter).take(100).collect();
            assert!(!given.is_empty() && given.len() < 40, "{}", given.len());
            drop(given);
            assert!(Here::try_enter().is_some());
        });
    }
}
