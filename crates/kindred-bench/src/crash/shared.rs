//! What the threads of a cycle tell each other.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::fault::Fault;

/// What the server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Idle,
    Writing,
    Rebuilding,
    Activating,
    Snapshotting,
    Rotating,
    Starting,
}

impl Phase {
    pub const ALL: [Self; 7] =
        [Self::Idle, Self::Writing, Self::Rebuilding, Self::Activating, Self::Snapshotting, Self::Rotating, Self::Starting];

    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Writing => "writing",
            Self::Rebuilding => "rebuilding",
            Self::Activating => "activating",
            Self::Snapshotting => "snapshotting",
            Self::Rotating => "rotating",
            Self::Starting => "starting",
        }
    }
}

/// Why a request has no answer to go on with.
#[derive(Debug)]
pub(super) enum Trouble {
    /// As is right when the server is killed.
    NoAnswer(anyhow::Error),
    Fault(Fault),
}

impl From<anyhow::Error> for Trouble {
    fn from(e: anyhow::Error) -> Self {
        Self::NoAnswer(e)
    }
}

impl Trouble {
    pub fn wrong_answer(what: String) -> Self {
        Self::Fault(Fault::WrongAnswer { what })
    }
}

/// One cycle, from the first request until the server is killed.
#[derive(Debug, Default)]
pub(super) struct Shared {
    is_killing: AtomicBool,
    /// Index in [`Phase::ALL`]: what the operator has under way, or idle.
    operation: AtomicU8,
    pub n_writing: AtomicUsize,
    /// Changes of documents that were acknowledged.
    pub n_acknowledged: AtomicU64,
    pub n_rebuilds: AtomicU64,
    pub n_activations: AtomicU64,
    pub n_snapshots: AtomicU64,
    faults: Mutex<Vec<Fault>>,
    /// How long the operator's last work of a kind took, and when what it has under way began.
    took: Mutex<(BTreeMap<Phase, Duration>, Option<Instant>)>,
}

impl Shared {
    /// From now on it is right that there is no answer.
    pub fn kill(&self) {
        self.is_killing.store(true, Ordering::SeqCst);
    }

    pub fn is_killing(&self) -> bool {
        self.is_killing.load(Ordering::SeqCst)
    }

    /// The operator tells what it has under way.
    pub fn set_operation(&self, phase: Phase) {
        let before = Phase::ALL[self.operation.swap(phase as u8, Ordering::SeqCst) as usize];
        let mut took = self.took.lock().expect("no thread panics with it");
        if before != phase {
            let began = took.1.replace(Instant::now());
            took.0.extend(began.map(|began| (before, began.elapsed())));
        }
    }

    pub fn took(&self) -> BTreeMap<Phase, Duration> {
        self.took.lock().expect("no thread panics with it").0.clone()
    }

    pub fn phase(&self) -> Phase {
        match Phase::ALL[self.operation.load(Ordering::SeqCst) as usize] {
            Phase::Idle if self.n_writing.load(Ordering::SeqCst) > 0 => Phase::Writing,
            phase => phase,
        }
    }

    /// Tells of trouble, unless it is the kill's.
    pub fn report(&self, who: &str, trouble: Trouble) {
        let fault = match trouble {
            Trouble::NoAnswer(_) if self.is_killing() => return,
            Trouble::NoAnswer(e) => Fault::WrongAnswer { what: format!("{who}: the server was not killed, but {e:#}") },
            Trouble::Fault(fault) => fault,
        };
        self.faults.lock().expect("no thread panics with it").push(fault);
    }

    pub fn has_faults(&self) -> bool {
        !self.faults.lock().expect("no thread panics with it").is_empty()
    }

    pub fn take_faults(&self) -> Vec<Fault> {
        std::mem::take(&mut self.faults.lock().expect("no thread panics with it"))
    }
}

pub(super) fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
