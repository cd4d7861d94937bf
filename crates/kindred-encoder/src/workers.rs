//! The threads that run the model, and the callers that run it themselves.
//!
//! *Concurrency*: there are as many copies of the model as threads. A caller with a short text that finds all of them idle takes one, on its
//! own thread ([`Workers::run_here`]): no other need wake up for it. Else a thread takes an idle copy and a batch of what has gathered
//! while all were busy. So nothing waits longer than it must for company, and under load batches form by themselves.
//!
//! A batch that fails is tried again text by text: one bad text, or a panic, fails its own call and no other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::EncoderError;
use super::batcher::Text;
use super::call::{Answer, Call};
use super::queue::Queue;
use super::tokenizer::{Sequence, Tokens};
use crate::metrics;
use kindred_core::domain::Embedding;
use kindred_core::priority;

/// Runs one batch: an output (an embedding, the score of a pair) for each sequence. A session, or a stand-in for it in tests.
pub type RunBatch<T = Tokens, O = Embedding> = Box<dyn FnMut(&[&T]) -> Result<Vec<O>, EncoderError> + Send>;

/// Copies of a model.
pub type Models<T = Tokens, O = Embedding> = Vec<RunBatch<T, O>>;

/// A copy of the model, and what it is to run.
type Work<T, O> = (RunBatch<T, O>, Vec<Waiting<T, O>>);

/// How much each new measurement changes the estimate of the model's pace.
const PACE_WEIGHT: f64 = 0.1;

/// How batches form, and what may wait.
#[derive(Debug, Clone, Copy)]
pub struct BatchSettings {
    pub max_batch_tokens: usize,
    /// How long a batch that is not full waits for more.
    pub batch_wait: Duration,
    /// Texts that may wait, in each lane.
    pub max_queue: usize,
    /// How long a query may wait.
    pub max_wait: Duration,
    /// Whether these threads give way to others: to those that encode queries.
    pub gives_way: bool,
    /// The part of the settings that errors and metrics name: `encoder` or `cross_encoder`.
    pub section: &'static str,
}

/// A text on its way to the model.
struct Waiting<T, O> {
    position: usize,
    tokens: T,
    answer: UnboundedSender<Answer<O>>,
    queued: Instant,
    /// Of a query.
    deadline: Option<Instant>,
}

impl<T: Sequence, O> Text for Waiting<T, O> {
    fn n_tokens(&self) -> usize {
        self.tokens.ids().len()
    }
}

/// The threads, their models and what waits for them; dropping it ends them.
pub struct Workers<T: Sequence = Tokens, O = Embedding> {
    shared: Arc<Shared<T, O>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<T, O> {
    state: Mutex<State<T, O>>,
    work: Condvar,
    space: Condvar,
    settings: BatchSettings,
    n_models: usize,
}

struct State<T, O> {
    queue: Queue<Waiting<T, O>>,
    idle: Models<T, O>,
    /// Microseconds that one copy of the model takes for a token, lately; 0 before the first batch.
    us_per_token: f64,
    closed: bool,
}

impl<T: Sequence, O: Send + 'static> Workers<T, O> {
    /// Starts one thread per model.
    ///
    /// # Errors
    /// [`EncoderError::Thread`] when the operating system gives none.
    pub fn start(name: &str, models: Models<T, O>, settings: BatchSettings) -> Result<Self, EncoderError> {
        let n_models = models.len();
        let state = State { queue: Queue::default(), idle: models, us_per_token: 0.0, closed: false };
        let shared = Shared { state: Mutex::new(state), work: Condvar::new(), space: Condvar::new(), settings, n_models };
        let mut workers = Self { shared: Arc::new(shared), threads: Vec::new() };
        for i in 0..n_models {
            let shared = Arc::clone(&workers.shared);
            let thread = thread::Builder::new().name(format!("{name}-{i}")).spawn(move || {
                if settings.gives_way {
                    priority::give_way();
                }
                shared.work();
            });
            workers.threads.push(thread.map_err(|source| EncoderError::Thread { source })?);
        }
        Ok(workers)
    }

    /// How many batches can run at once.
    pub fn n_threads(&self) -> usize {
        self.shared.n_models
    }

    /// Longest text times texts of one run of the model.
    pub fn max_batch_tokens(&self) -> usize {
        self.shared.settings.max_batch_tokens
    }

    /// Encodes one text on the caller's thread, if it is the only one; otherwise does nothing.
    ///
    /// # Errors
    /// The model's own.
    pub fn run_here(&self, tokens: &T) -> Option<Result<O, EncoderError>> {
        let mut state = self.shared.lock();
        // Where others are at work, more are likely to come: together they are faster, and this thread is needed to let them in.
        if state.closed || state.idle.len() < self.shared.n_models || !state.queue.is_empty() || !self.shared.settings.batch_wait.is_zero()
        {
            return None;
        }
        let mut model = state.idle.pop()?;
        drop(state);
        let started = Instant::now();
        let output = run(&mut model, &[tokens]).map(|mut outputs| outputs.remove(0));
        let n_tokens = tokens.ids().len();
        self.shared.finish(model, 1, n_tokens, n_tokens, started);
        Some(output)
    }

    /// Until when a query may wait that has this deadline of its own.
    pub fn latest(&self, own: Option<Instant>) -> Option<Instant> {
        // A time beyond all clocks is none.
        Instant::now().checked_add(self.shared.settings.max_wait).into_iter().chain(own).min()
    }

    /// Sends texts that somebody waits for, if there is room for all of them and, where there is a deadline, they are likely to be served
    /// before it.
    ///
    /// # Errors
    /// [`EncoderError::Overloaded`], [`EncoderError::TooLate`] or [`EncoderError::Stopped`].
    pub fn submit_online(&self, texts: Vec<T>, deadline: Option<Instant>) -> Result<Call<O>, EncoderError> {
        let (answer, call) = Call::new(texts.len());
        let now = Instant::now();
        let rows: Vec<Waiting<T, O>> = longest_first(texts)
            .map(|(position, tokens)| Waiting { position, tokens, answer: answer.clone(), queued: now, deadline })
            .collect();
        let mut state = self.shared.lock();
        self.shared.admit(&state, rows.len(), deadline.map(|deadline| deadline.saturating_duration_since(now)))?;
        let n_wanted = rows.len().min(state.idle.len());
        state.queue.push_online(rows);
        drop(state);
        (0..n_wanted).for_each(|_| self.shared.work.notify_one());
        Ok(call)
    }

    /// Sends texts one after the other, waiting for room.
    ///
    /// # Errors
    /// [`EncoderError::Stopped`].
    pub fn submit_bulk(&self, texts: Vec<T>) -> Result<Call<O>, EncoderError> {
        let (answer, call) = Call::new(texts.len());
        let queued = Instant::now();
        let mut state = self.shared.lock();
        for (position, tokens) in longest_first(texts) {
            while !state.closed && state.queue.n_bulk() >= self.shared.settings.max_queue {
                state = self.shared.space.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return Err(EncoderError::Stopped);
            }
            state.queue.push_bulk(Waiting { position, tokens, answer: answer.clone(), queued, deadline: None });
            if !state.idle.is_empty() {
                self.shared.work.notify_one();
            }
        }
        Ok(call)
    }
}

impl<T: Sequence, O> Drop for Workers<T, O> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.queue.clear();
        drop(state);
        self.shared.work.notify_all();
        self.shared.space.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl<T, O> Shared<T, O> {
    fn lock(&self) -> MutexGuard<'_, State<T, O>> {
        // No step below leaves the state half changed, so a panicked holder is no reason to stop.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Sequence, O> Shared<T, O> {
    /// Refuses what would wait too long: better now than after waiting.
    fn admit(&self, state: &State<T, O>, n_texts: usize, patience: Option<Duration>) -> Result<(), EncoderError> {
        if state.closed {
            return Err(EncoderError::Stopped);
        }
        let BatchSettings { max_queue, section, .. } = self.settings;
        let waiting = state.queue.n_online();
        let expected = Duration::from_secs_f64(state.queue.online_tokens() as f64 * state.us_per_token / 1e6 / self.n_models as f64);
        // An empty lane takes a call of any size: the limit is on waiting behind others.
        if waiting > 0 && waiting + n_texts > max_queue {
            metrics::encoder_refused(section, "full");
            return Err(EncoderError::Overloaded { section, waiting, max_queue, retry_after: expected });
        }
        if let Some(patience) = patience.filter(|patience| waiting > 0 && expected > *patience) {
            metrics::encoder_refused(section, "late");
            return Err(EncoderError::TooLate { section, retry_after: expected - patience });
        }
        Ok(())
    }

    /// What one thread does until the workers are dropped.
    fn work(&self) {
        while let Some((mut model, batch)) = self.next() {
            let started = Instant::now();
            let (n_texts, n_tokens) = (batch.len(), batch.iter().map(Text::n_tokens).sum());
            let longest = batch.iter().map(Text::n_tokens).max().unwrap_or_default();
            answer(&mut model, batch, started);
            self.finish(model, n_texts, n_tokens, n_texts * longest, started);
        }
    }

    /// Waits for work and an idle model.
    fn next(&self) -> Option<Work<T, O>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if state.idle.is_empty() || state.queue.is_empty() {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            let is_wanted = |text: &Waiting<T, O>| !text.answer.is_closed() && text.deadline.is_none_or(|deadline| deadline > now);
            state.queue.drop_unwanted(is_wanted).into_iter().for_each(|text| text.refuse(self.settings.section));
            if let Some(rest) = self.patience(&state, now) {
                state = self.work.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let batch = state.queue.next_batch(self.settings.max_batch_tokens);
            self.space.notify_all();
            if !batch.is_empty() {
                return state.idle.pop().map(|model| (model, batch));
            }
        }
    }

    /// How much longer a batch that is not full should wait for more.
    fn patience(&self, state: &State<T, O>, now: Instant) -> Option<Duration> {
        let waited = now.saturating_duration_since(state.queue.oldest_online()?.queued);
        (state.queue.online_tokens() < self.settings.max_batch_tokens)
            .then(|| self.settings.batch_wait.saturating_sub(waited))
            .filter(|rest| !rest.is_zero())
    }

    /// Gives a model back after a batch.
    fn finish(&self, model: RunBatch<T, O>, n_texts: usize, n_tokens: usize, n_padded: usize, started: Instant) {
        let elapsed = started.elapsed();
        metrics::encoder_batch(self.settings.section, n_texts, n_tokens, n_padded, elapsed.as_secs_f64());
        let pace = elapsed.as_secs_f64() * 1e6 / n_tokens.max(1) as f64;
        let mut state = self.lock();
        state.us_per_token += if state.us_per_token == 0.0 { pace } else { PACE_WEIGHT * (pace - state.us_per_token) };
        state.idle.push(model);
        if !state.queue.is_empty() {
            self.work.notify_one();
        }
    }
}

impl<T, O> Waiting<T, O> {
    /// Tells a caller that waits still that it waited too long.
    fn refuse(self, section: &'static str) {
        if !self.answer.is_closed() {
            metrics::encoder_refused(section, "late");
            let result = Err(EncoderError::TooLate { section, retry_after: Duration::ZERO });
            let _ = self.answer.send(Answer { position: self.position, started: Instant::now(), result });
        }
    }
}

/// The longest first: then the last batch to finish is a short one.
pub fn longest_first<T: Sequence>(texts: Vec<T>) -> impl Iterator<Item = (usize, T)> {
    let mut rows: Vec<(usize, T)> = texts.into_iter().enumerate().collect();
    rows.sort_by_key(|(_, tokens)| std::cmp::Reverse(tokens.ids().len()));
    rows.into_iter()
}

/// Runs a batch and answers each of its texts.
fn answer<T: Sequence, O>(model: &mut RunBatch<T, O>, batch: Vec<Waiting<T, O>>, started: Instant) {
    let texts: Vec<&T> = batch.iter().map(|text| &text.tokens).collect();
    let results: Vec<Result<O, EncoderError>> = match run(model, &texts) {
        Ok(outputs) => outputs.into_iter().map(Ok).collect(),
        Err(e) if batch.len() == 1 => vec![Err(e)],
        Err(_) => texts.iter().map(|text| run(model, &[text]).map(|mut outputs| outputs.remove(0))).collect(),
    };
    for (text, result) in batch.into_iter().zip(results) {
        let _ = text.answer.send(Answer { position: text.position, started, result });
    }
}

/// Runs the model: one output per text, or an error.
fn run<T, O>(model: &mut RunBatch<T, O>, texts: &[&T]) -> Result<Vec<O>, EncoderError> {
    match catch_unwind(AssertUnwindSafe(|| model(texts))) {
        Ok(Ok(outputs)) if outputs.len() != texts.len() => {
            Err(EncoderError::Run { source: format!("{} outputs for {} texts", outputs.len(), texts.len()).into() })
        }
        Ok(result) => result,
        Err(_) => {
            tracing::error!(n_texts = texts.len(), "the model panicked: this is a bug");
            Err(EncoderError::Run { source: "it panicked".into() })
        }
    }
}

#[cfg(test)]
mod tests;
