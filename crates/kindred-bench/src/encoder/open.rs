//! Queries that come when they come, whether or not those before have been answered.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tokio::task::JoinSet;

use super::closed::Closed;
use super::{Bench, Times, encode, median};
use kindred_core::domain::Choice;
use kindred_core::error::ErrorKind;
use kindred_encoder::{Encoder, EncoderError, PrecisionChoice};

/// One rate.
#[derive(Debug, Serialize)]
pub(super) struct Open {
    /// Of what the closed loop reached.
    pub load: f64,
    pub queries_per_s: f64,
    pub answered_per_s: f64,
    /// To what the closed loop reached.
    pub goodput: f64,
    pub refused_per_s: f64,
    /// Of those that were answered, from the moment at which they were to be sent.
    #[serde(flatten)]
    pub times: Times,
    /// Of those that were refused.
    pub refusal: Times,
}

#[derive(Default)]
struct Answers {
    answered: Vec<f64>,
    refused: Vec<f64>,
    failed: Option<EncoderError>,
}

/// What one round came to.
struct Taken {
    n_answered: usize,
    n_refused: usize,
    answered: Times,
    refused: Times,
}

impl Bench<'_> {
    /// Measures each rate, on an encoder like that of the row of the closed loop.
    pub fn open(&self, reached: &Closed) -> Result<Vec<Open>> {
        let precision: PrecisionChoice = serde_json::from_value(reached.precision.clone().into())?;
        let encoder = self.encoder(precision, |_| {})?;
        let keys: Vec<usize> = (0..self.args.load.len()).collect();
        let rate = |i: usize| self.args.load[i] * reached.queries_per_s;
        let taken = self.rounds("open load", &keys, |i, round| self.arrivals(&encoder, rate(i), (i * 1_000 + round) as u64))?;
        let row = |(i, rounds): (usize, Vec<Taken>)| {
            let per_s = |count: fn(&Taken) -> usize| median(rounds.iter().map(|t| count(t) as f64 / self.args.seconds).collect());
            let times = |of: fn(&Taken) -> Times| Times::median(&rounds.iter().map(of).collect::<Vec<_>>());
            let answered_per_s = per_s(|t| t.n_answered);
            Open {
                load: self.args.load[i],
                queries_per_s: rate(i),
                answered_per_s,
                goodput: answered_per_s / reached.queries_per_s,
                refused_per_s: per_s(|t| t.n_refused),
                times: times(|t| t.answered),
                refusal: times(|t| t.refused),
            }
        };
        Ok(taken.into_iter().map(row).collect())
    }

    /// Sends queries at random moments, so many a second on average, and waits for all answers.
    fn arrivals(&self, encoder: &Arc<Encoder>, rate: f64, seed: u64) -> Result<Taken> {
        let taken = Arc::new(Mutex::new(Answers::default()));
        let mut choice = Choice::new("arrivals", seed);
        let begin = Instant::now();
        let mut due = begin;
        let mut asked = JoinSet::new();
        let mut turn = 0;
        while due < begin + Duration::from_secs_f64(self.args.seconds) {
            // This thread does nothing else, so that no answer keeps the next query from being sent.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (encoder, taken, query) = (Arc::clone(encoder), Arc::clone(&taken), self.texts.query(turn).to_owned());
            let intended = due;
            let ask = async move {
                let answer = encode(&encoder, &query).await;
                let seconds = intended.elapsed().as_secs_f64();
                let mut taken = taken.lock().expect("no holder panics");
                match answer {
                    Ok(()) => taken.answered.push(seconds),
                    Err(e) if e.kind() == ErrorKind::Overloaded => taken.refused.push(seconds),
                    Err(e) => taken.failed = Some(e),
                }
            };
            asked.spawn_on(ask, self.runtime.handle());
            // Those that are done are let go: a long run must not fill the memory by itself.
            while asked.try_join_next().is_some() {}
            turn += 1;
            let uniform = (choice.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            due += Duration::from_secs_f64(-(1.0 - uniform).ln() / rate);
        }
        self.runtime.block_on(asked.join_all());
        let mut taken = std::mem::take(&mut *taken.lock().expect("no holder panics"));
        match taken.failed.take() {
            Some(e) => Err(e.into()),
            None => Ok(Taken {
                n_answered: taken.answered.len(),
                n_refused: taken.refused.len(),
                answered: Times::of(taken.answered),
                refused: Times::of(taken.refused),
            }),
        }
    }
}
