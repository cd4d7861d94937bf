//! MONITOR: live searches, of which a share is answered once more by comparing every matching document. What a broken graph, a beam that is
//! too narrow or filters that defeat the walk cost is seen while it happens, and not when somebody thinks of measuring it.
//!
//! One thread beneath all others does that, one search at a time, and rests between them: it takes a twentieth of a core at most. What comes
//! while it is busy is not looked at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::prepared::Prepared;
use super::probes::{Origin, Probe};
use super::recall::{self, Measured, RecallOfGroup};
use crate::collection::{Collection, Searcher};
use crate::telemetry::metrics;
use kindred_core::domain::{CollectionName, StrategyChoice, mix_bits};
use kindred_core::priority;

/// Nearest documents that a search should find.
const K: usize = 10;
/// How much longer than it works the thread rests, and how long at least.
const REST: u32 = 20;
const MIN_REST: Duration = Duration::from_millis(20);
/// Searches of one point of the history, and time that it covers at most.
const POINT_SEARCHES: usize = 100;
const POINT_TIME: Duration = Duration::from_secs(600);
/// Points that are kept of a collection: a day of busy ones.
const MAX_POINTS: usize = 864;
/// Fewer than so many say little.
const MIN_SEARCHES: usize = 20;

/// How live searches are watched.
#[derive(Debug, Clone, Copy)]
pub struct MonitorSettings {
    /// Share of the searches, 0 to 1; 0: none.
    pub share: f64,
    /// Below this mean recall, an alarm is raised.
    pub alarm_below: f64,
}

/// Recall of live searches in a time.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct RecallPoint {
    /// When the last of its searches was asked.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Mean share of the 10 nearest matching documents that these searches found.
    pub recall: f64,
    /// 95 % interval of it: Wilson's.
    pub ci95: [f64; 2],
    pub n_queries: usize,
    pub by_selectivity: Vec<RecallOfGroup>,
}

/// A collection's recall over time.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct RecallHistory {
    /// Oldest first; the last one still grows.
    pub history: Vec<RecallPoint>,
    /// Whether it is below the alarm's bound (`search.recall_alarm_below`).
    pub alarm: bool,
}

/// A search to look at.
struct Sample {
    name: CollectionName,
    of: Weak<Collection>,
    searcher: Arc<Searcher>,
    probe: Probe,
    ef_search: usize,
}

/// Watches live searches.
#[derive(Debug)]
pub(super) struct Monitor {
    settings: MonitorSettings,
    n_seen: AtomicU64,
    samples: Option<SyncSender<Sample>>,
    seen: Arc<Mutex<BTreeMap<CollectionName, Seen>>>,
}

/// What was seen of a collection.
#[derive(Debug)]
struct Seen {
    /// A collection that was deleted and made again is another one, with a history of its own.
    of: Weak<Collection>,
    /// Finished ones, oldest first.
    points: VecDeque<RecallPoint>,
    /// Of the one that grows.
    growing: Vec<Measured>,
    since: Option<Instant>,
    last_at: Option<Timestamp>,
    alarm: bool,
}

impl Monitor {
    /// Starts watching, if any share is to be watched.
    pub fn start(settings: MonitorSettings) -> Self {
        let seen = Arc::<Mutex<BTreeMap<CollectionName, Seen>>>::default();
        let samples = (settings.share > 0.0).then(|| {
            // One waits at most: what is looked at should be recent, and holds its snapshot of the collection.
            let (samples, waiting) = mpsc::sync_channel(1);
            let into = Arc::clone(&seen);
            let work = move || priority::beneath(move || watch(&waiting, &into, settings.alarm_below));
            match thread::Builder::new().name("recall".to_owned()).spawn(work) {
                Ok(_) => Some(samples),
                Err(e) => {
                    tracing::warn!(error = %e, "the recall of live searches is not watched");
                    None
                }
            }
        });
        Self { settings, n_seen: AtomicU64::new(0), samples: samples.flatten(), seen }
    }

    /// Takes a search for a sample, perhaps. It never waits.
    pub fn note(&self, prepared: &Prepared) {
        let Some(samples) = &self.samples else { return };
        let Some(embedding) = prepared.asked.by.embedding() else { return };
        if prepared.request.strategy == StrategyChoice::Exact {
            return;
        }
        // Not every n-th: clients have rhythms, too.
        let drawn = mix_bits(self.n_seen.fetch_add(1, Ordering::Relaxed)) as f64 / u64::MAX as f64;
        if drawn >= self.settings.share {
            return;
        }
        let checked = &prepared.checked;
        let probe = Probe {
            origin: Origin::Query,
            embedding: Arc::clone(embedding),
            filter: checked.filter.clone(),
            exclude: prepared.asked.exclude.clone(),
        };
        let (name, of) = (checked.collection.name().clone(), Arc::downgrade(&checked.collection));
        let searcher = Arc::clone(&checked.searcher);
        let ef_search = checked.ef_search.max(checked.candidates);
        // A full channel: another one is being looked at.
        let _ = samples.try_send(Sample { name, of, searcher, probe, ef_search });
    }

    /// What was seen of a collection.
    pub fn history(&self, collection: &Arc<Collection>) -> RecallHistory {
        let history = self.seen_of(collection, |seen| {
            let history = seen.points.iter().cloned().chain(seen.growing()).collect();
            RecallHistory { history, alarm: seen.alarm }
        });
        history.unwrap_or(RecallHistory { history: Vec::new(), alarm: false })
    }

    /// Whether live searches of a collection find too little.
    pub fn alarm(&self, collection: &Arc<Collection>) -> bool {
        self.seen_of(collection, |seen| seen.alarm).unwrap_or(false)
    }

    fn seen_of<T>(&self, collection: &Arc<Collection>, look: impl FnOnce(&Seen) -> T) -> Option<T> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(collection.name()).filter(|seen| std::ptr::eq(seen.of.as_ptr(), Arc::as_ptr(collection))).map(look)
    }
}

impl Seen {
    fn new(of: Weak<Collection>) -> Self {
        Self { of, points: VecDeque::new(), growing: Vec::new(), since: None, last_at: None, alarm: false }
    }

    fn growing(&self) -> Option<RecallPoint> {
        let (recall, at) = (recall::mean_of(&self.growing)?, self.last_at?);
        let n_queries = self.growing.len();
        Some(RecallPoint { at, recall, ci95: recall::wilson(recall, n_queries), n_queries, by_selectivity: recall::groups(&self.growing) })
    }

    /// Adds a search. Whether there is an alarm now, where that has changed.
    fn add(&mut self, measured: Measured, alarm_below: f64) -> Option<bool> {
        if self.growing.len() >= POINT_SEARCHES || self.since.is_some_and(|since| since.elapsed() >= POINT_TIME) {
            self.points.extend(self.growing());
            while self.points.len() > MAX_POINTS {
                self.points.pop_front();
            }
            self.growing.clear();
        }
        if self.growing.is_empty() {
            self.since = Some(Instant::now());
        }
        self.growing.push(measured);
        self.last_at = Some(Timestamp::now());
        let recall = recall::mean_of(&self.growing).filter(|_| self.growing.len() >= MIN_SEARCHES)?;
        let alarm = recall < alarm_below;
        (std::mem::replace(&mut self.alarm, alarm) != alarm).then_some(alarm)
    }
}

/// Adds a search to what was seen of its collection, and forgets collections that were deleted.
fn add(
    seen: &mut BTreeMap<CollectionName, Seen>,
    name: &CollectionName,
    of: Weak<Collection>,
    measured: Measured,
    alarm_below: f64,
) -> Option<bool> {
    seen.retain(|_, seen| seen.of.strong_count() > 0);
    if of.strong_count() == 0 {
        return None;
    }
    let of_name = seen.entry(name.clone()).or_insert_with(|| Seen::new(of.clone()));
    if !of_name.of.ptr_eq(&of) {
        *of_name = Seen::new(of);
    }
    of_name.add(measured, alarm_below)
}

fn watch(waiting: &Receiver<Sample>, seen: &Mutex<BTreeMap<CollectionName, Seen>>, alarm_below: f64) {
    // It ends with the pipeline that sends.
    while let Ok(Sample { name, of, searcher, probe, ef_search }) = waiting.recv() {
        let started = Instant::now();
        let measured = match recall::measure(&searcher, &probe, K, ef_search) {
            Ok(Some(measured)) => measured,
            // Nothing matches.
            Ok(None) => continue,
            Err(e) => {
                tracing::warn!(collection = %name, error = kindred_core::error::chain(&e), "a search could not be looked at");
                continue;
            }
        };
        drop(searcher);
        metrics::recall(name.as_str(), recall::group_of(measured.selectivity), measured.recall);
        let changed = add(&mut seen.lock().unwrap_or_else(PoisonError::into_inner), &name, of, measured, alarm_below);
        let name = name.as_str();
        match changed {
            Some(true) => {
                tracing::warn!(collection = name, alarm_below, "live searches find too little: rebuild the collection, or widen ef_search")
            }
            Some(false) => tracing::info!(collection = name, "live searches find enough again"),
            None => {}
        }
        thread::sleep((started.elapsed() * REST).max(MIN_REST));
    }
}
