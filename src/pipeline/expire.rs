//! Once a second, deletes documents that expired at least an hour ago by a clock that did not jump. Searches hide them as soon as they
//! expire; this frees their space.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{PipelineError, RebuildPipeline};
use crate::collection::Collections;
use crate::telemetry::metrics;

const INTERVAL: Duration = Duration::from_secs(1);

/// The thread that does it; dropping this ends it.
#[derive(Debug)]
pub struct Expirer {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Expirer {
    /// Starts it.
    ///
    /// # Errors
    /// [`PipelineError::Thread`].
    pub fn start(collections: Arc<Collections>, rebuild: Arc<RebuildPipeline>) -> Result<Self, PipelineError> {
        let (end, ended) = channel();
        let run = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                sweep(&collections, &rebuild);
            }
        };
        let thread = thread::Builder::new().name("expire".to_owned()).spawn(run).map_err(|source| PipelineError::Thread { source })?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Expirer {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sweep(collections: &Collections, rebuild: &Arc<RebuildPipeline>) {
    for collection in collections.all() {
        match collection.sweep_expired() {
            Ok(0) => {}
            Ok(n) => {
                metrics::documents_expired(n);
                rebuild.start_if_due(&collection);
            }
            // The next round tries again; until then searches leave them out.
            Err(e) => tracing::debug!(collection = %collection.name(), error = %e, "expired documents could not be deleted"),
        }
    }
}
