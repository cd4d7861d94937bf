//! One stretch of load: writers that keep to a rate, searchers that search on and on, probes that wait for what was written.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::rebuilds;
use super::sink::{ELSEWHERE, Sink, Way};
use crate::client::Client;
use crate::corpus::Corpus;
use crate::prepare::{self, path};
use kindred_core::domain::Choice;

/// Threads that send changes: more than are ever under way, so that a slow answer keeps no other change waiting.
const WRITERS: usize = 8;
const PROBERS: usize = 2;
/// Load without a clock before each stretch.
const WARM_UP: Duration = Duration::from_secs(1);
/// Time between two looks for a change.
const LOOK: Duration = Duration::from_millis(2);
/// What is not found by then counts as never.
const MAX_FRESHNESS: Duration = Duration::from_secs(30);
const LIMIT: usize = 10;

/// What a stretch is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Beside {
    /// Changes of the collection that is searched.
    Changes,
    /// Changes of another collection: what the requests cost that have nothing to do with the one that is searched.
    Elsewhere,
    /// Changes, during full rebuilds.
    Rebuild,
    /// None, with so many that were made before and are not in the index yet.
    Pending,
}

/// A stretch: the number is of changes, a second or in all.
pub(super) type Stretch = (Beside, u64);

/// What all stretches have in common.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub root: String,
    pub way: Way,
    pub corpus: &'a Corpus,
    pub n_documents: u64,
    pub seconds: f64,
    pub searchers: usize,
    /// Changes in a request.
    pub batch: u64,
    /// Share of the changes that are waited for.
    pub sample_percent: u64,
    /// Whether texts are sent, and the server makes their vectors.
    pub is_text: bool,
    /// Whether searches have a filter, which every document passes.
    pub is_filtered: bool,
    /// The next change.
    pub next_number: AtomicU64,
}

/// What was measured; times in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub seconds: f64,
    pub n_written: u64,
    pub acknowledged: Vec<f64>,
    pub searchable: Vec<f64>,
    /// Changes that were not found at all.
    pub n_never: u64,
    pub searches: Vec<f64>,
    pub rebuilds: u64,
}

/// A change that is waited for.
struct Probe {
    id: u64,
    number: u64,
    due: Instant,
}

/// When the load begins to count, and ends.
#[derive(Clone, Copy)]
struct Clock {
    begin: Instant,
    end: Instant,
}

impl Clock {
    fn counts(&self, at: Instant) -> bool {
        (self.begin..self.end).contains(&at)
    }
}

impl Load<'_> {
    /// Puts the server under load.
    ///
    /// # Errors
    /// It answers with anything but success: figures of a server that refuses say nothing.
    pub fn stretch(&self, (beside, number): Stretch) -> Result<Taken> {
        let rebuild = (beside == Beside::Rebuild).then(|| rebuilds::start(&Client::new(&self.root))).transpose()?;
        let rate = if beside == Beside::Pending { 0 } else { number };
        let begin = Instant::now() + WARM_UP;
        let clock = Clock { begin, end: begin + Duration::from_secs_f64(self.seconds) };
        let (send, probes) = channel();
        let (probes, turn) = (Mutex::new(probes), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let probers: Vec<_> = (0..PROBERS).map(|_| scope.spawn(|| self.probe(&probes, clock))).collect();
            let n_writers = if rate == 0 { 0 } else { WRITERS };
            let writers: Vec<_> = (0..n_writers)
                .map(|_| {
                    let (send, turn) = (send.clone(), &turn);
                    scope.spawn(move || self.write(rate, beside == Beside::Elsewhere, clock, turn, &send))
                })
                .collect();
            drop(send);
            let searchers: Vec<_> = (0..self.searchers).map(|i| scope.spawn(move || self.search(i as u64, clock))).collect();
            let rebuilder = rebuild.map(|task| scope.spawn(move || rebuilds::go_on(&Client::new(&self.root), task, clock.end)));

            let mut taken = Taken { seconds: self.seconds, ..Taken::default() };
            for writer in writers {
                let times = writer.join().expect("a writer does not panic")?;
                taken.n_written += times.len() as u64 * self.batch;
                taken.acknowledged.extend(times);
            }
            for searcher in searchers {
                taken.searches.extend(searcher.join().expect("a searcher does not panic")?);
            }
            for prober in probers {
                let (times, n_never) = prober.join().expect("a probe does not panic")?;
                taken.searchable.extend(times);
                taken.n_never += n_never;
            }
            if let Some(rebuilder) = rebuilder {
                taken.rebuilds = rebuilder.join().expect("a rebuild does not panic")?;
            }
            Ok(taken)
        })
    }

    /// Sends changes when they are due, whatever became of those before. Returns the time from then to each answer.
    fn write(&self, rate: u64, is_elsewhere: bool, clock: Clock, turn: &AtomicU64, probes: &Sender<Probe>) -> Result<Vec<f64>> {
        let sink = if is_elsewhere { Sink::http(&self.root, ELSEWHERE) } else { self.way.sink(&self.root)? };
        let interval = self.batch as f64 / rate as f64;
        let mut times = Vec::new();
        loop {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let due = clock.begin - WARM_UP + Duration::from_secs_f64(turn as f64 * interval);
            if due >= clock.end {
                return Ok(times);
            }
            let first = self.next_number.fetch_add(self.batch, Ordering::Relaxed);
            let mut choice = Choice::new("change", first);
            let offset = choice.next_u64();
            // One after the other from a drawn place: no document stands twice in a request.
            let changes: Vec<(u64, u64)> =
                (0..self.batch).map(|i| ((offset % self.n_documents + i) % self.n_documents, first + i)).collect();
            let items: Vec<Value> = changes.iter().map(|(id, number)| self.corpus.item(*id, *number, !self.is_text)).collect();
            let body = sink.body(items);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            for (id, number) in changes {
                if !is_elsewhere && clock.counts(due) && choice.chance(self.sample_percent) {
                    // Whoever waits may have given up; then the stretch fails anyway.
                    let _ = probes.send(Probe { id, number, due });
                }
            }
            sink.send(&body)?;
            if clock.counts(due) {
                times.push(milliseconds(due.elapsed()));
            }
        }
    }

    /// Searches without a pause. Returns the time of each search.
    fn search(&self, searcher: u64, clock: Clock) -> Result<Vec<f64>> {
        let client = Client::new(&self.root);
        let mut choice = Choice::new("search", searcher.wrapping_add(self.next_number.load(Ordering::Relaxed)));
        let mut times = Vec::new();
        loop {
            let body = self.query(choice.next_u64() >> 16).to_string();
            let started = Instant::now();
            if started >= clock.end {
                return Ok(times);
            }
            client.post(&path("/search"), &body)?.ok()?;
            if clock.counts(started) {
                times.push(milliseconds(started.elapsed()));
            }
        }
    }

    /// Waits for changes by searching for them. Returns the times from when they were due, and how many never came.
    fn probe(&self, probes: &Mutex<Receiver<Probe>>, clock: Clock) -> Result<(Vec<f64>, u64)> {
        let client = Client::new(&self.root);
        let (mut times, mut n_never) = (Vec::new(), 0);
        loop {
            let next = probes.lock().expect("no thread panics with it").recv();
            let Ok(probe) = next else { return Ok((times, n_never)) };
            // After the end they are read off, so that no writer is left without a listener.
            if Instant::now() >= clock.end + MAX_FRESHNESS {
                n_never += 1;
                continue;
            }
            match self.wait_for(&client, &probe)? {
                Some(time) => times.push(milliseconds(time)),
                None => n_never += 1,
            }
        }
    }

    fn wait_for(&self, client: &Client, probe: &Probe) -> Result<Option<Duration>> {
        let (id, query) = (probe.id.to_string(), self.query(probe.number).to_string());
        loop {
            let found = client.post(&path("/search"), &query)?.ok()?;
            let is_there = |hit: &Value| hit["id"] == id && hit["fields"]["number"].as_u64() >= Some(probe.number);
            if found["hits"].as_array().is_some_and(|hits| hits.iter().any(is_there)) {
                return Ok(Some(probe.due.elapsed()));
            }
            if probe.due.elapsed() > MAX_FRESHNESS {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn query(&self, number: u64) -> Value {
        let query = if self.is_text { json!({"text": self.corpus.text(number)}) } else { json!({"vector": self.corpus.vector(number)}) };
        let filter = if self.is_filtered { json!({"must": [{"key": "number", "range": {"gte": 0}}]}) } else { Value::Null };
        json!({"query": query, "limit": LIMIT, "fields": ["number"], "filter": filter})
    }

    /// Brings all changes into the index, so that every stretch begins alike; then makes those that it begins with.
    pub fn settle(&self, (beside, number): Stretch) -> Result<()> {
        let client = Client::new(&self.root);
        if prepare::size(&client)?.1 > 0 {
            prepare::rebuild(&client)?;
        }
        match beside {
            Beside::Elsewhere => Sink::http(&self.root, ELSEWHERE).make_anew(),
            Beside::Pending => {
                let first = self.next_number.fetch_add(number, Ordering::Relaxed);
                let change = |id| self.corpus.item(id, first + id, true);
                prepare::in_batches(0..number, |ids| prepare::write(&client, ids.map(change).collect()))
            }
            Beside::Changes | Beside::Rebuild => Ok(()),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
