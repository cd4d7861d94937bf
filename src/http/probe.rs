//! The background probe: once a second it asks the model for an embedding and looks at every collection. Probes over HTTP answer from
//! its last result, so that they cost nothing, name nothing, and work under overload.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::pipeline::{Catalog, Health};
use kindred_core::error::{ErrorKind, chain};

/// Time between two probes.
const INTERVAL: Duration = Duration::from_secs(1);
/// A server whose last probe is older than this is not ready: the model, or the machine, hangs.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// A server whose last probe is older than this is to be restarted.
const ALIVE_WITHIN: Duration = Duration::from_secs(120);

/// What the last probe found.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    answers: bool,
    health: Health,
}

/// Why a server should not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    #[error("the model does not answer: the server's log says why")]
    Model,
    #[error("the last probe of the model and the collections is {seconds} s old")]
    Stale { seconds: u64 },
    #[error("{n} collections take no writes since their log could not be made durable: the server's log says why, and a restart helps")]
    Poisoned { n: usize },
}

/// Probes in the background until it is dropped.
#[derive(Debug)]
pub struct Probe {
    seen: Arc<Mutex<Seen>>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Starts probing. Until the first probe is done, the model counts as working: loading it made an embedding.
    ///
    /// # Panics
    /// The operating system cannot start a thread.
    pub fn start(catalog: &Arc<Catalog>) -> Self {
        let seen = Arc::new(Mutex::new(Seen { at: Instant::now(), answers: true, health: catalog.health() }));
        let (end, ended) = channel();
        let (into, catalog) = (Arc::clone(&seen), Arc::downgrade(catalog));
        // A thread of its own, because the threads that serve HTTP may be what hangs.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime needs no more than memory");
        let work = move || loop {
            let Some(model) = catalog.upgrade().map(|catalog| catalog.prober()) else { return };
            let answers = match runtime.block_on(model.probe()) {
                Ok(()) => true,
                // A model that has much to do works.
                Err(e) if e.kind() == ErrorKind::Overloaded => true,
                Err(e) => {
                    tracing::error!(error = chain(&e), "the model does not answer");
                    false
                }
            };
            drop(model);
            let Some(health) = catalog.upgrade().map(|catalog| catalog.health()) else { return };
            *into.lock().unwrap_or_else(PoisonError::into_inner) = Seen { at: Instant::now(), answers, health };
            if ended.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        };
        let thread = thread::Builder::new().name("probe".to_owned()).spawn(work).expect("the operating system can start threads");
        Self { seen, end: Some(end), thread: Some(thread) }
    }

    /// Returns how many collections there are, or why the server should not be asked.
    pub(super) fn ready(&self) -> Result<Health, NotReady> {
        readiness(&self.last(), self.last().at.elapsed())
    }

    /// True unless the server hangs so that only a restart helps.
    pub(super) fn is_alive(&self) -> bool {
        self.last().at.elapsed() < ALIVE_WITHIN
    }

    fn last(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn readiness(last: &Seen, age: Duration) -> Result<Health, NotReady> {
    match last {
        _ if age >= READY_WITHIN => Err(NotReady::Stale { seconds: age.as_secs() }),
        Seen { answers: false, .. } => Err(NotReady::Model),
        Seen { health, .. } if health.poisoned > 0 => Err(NotReady::Poisoned { n: health.poisoned }),
        Seen { health, .. } => Ok(*health),
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.end.take());
        // Whoever opens the data folder next finds no thread that still has it open. One that hangs is left alone.
        if let Some(thread) = self.thread.take().filter(|_| self.last().at.elapsed() < INTERVAL * 2) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_while_its_probe_is_fresh_and_all_logs_take_writes() {
        let health = Health { collections: 3, damaged: 1, poisoned: 0 };
        let seen = Seen { at: Instant::now(), answers: true, health };
        let after = |seen: &Seen, seconds| readiness(seen, Duration::from_secs(seconds));
        assert_eq!(after(&seen, 2), Ok(health), "one damaged collection takes no server out of service");
        assert_eq!(after(&seen, 10), Err(NotReady::Stale { seconds: 10 }));
        assert_eq!(after(&Seen { answers: false, ..seen }, 0), Err(NotReady::Model));
        let poisoned = Seen { health: Health { poisoned: 2, ..health }, ..seen };
        assert_eq!(after(&poisoned, 0), Err(NotReady::Poisoned { n: 2 }));
    }
}
