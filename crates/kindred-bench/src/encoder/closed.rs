//! Clients that each wait for an answer before they ask again: how many queries a second they get through, with batches and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::{Bench, Times, encode, median, name};
use kindred_encoder::Encoder;

/// So much of each stretch is not counted.
const WARM_UP: Duration = Duration::from_millis(300);

/// One number of clients on one encoder.
#[derive(Debug, Serialize)]
pub(super) struct Closed {
    pub precision: String,
    /// 1: every text runs alone.
    pub max_batch_tokens: usize,
    pub clients: usize,
    pub queries_per_s: f64,
    /// To the same without batches.
    pub ratio: f64,
    #[serde(flatten)]
    pub times: Times,
}

type Key = (usize, bool, usize);

impl Bench<'_> {
    /// Measures each precision with each number of clients, with batches and without.
    pub fn closed(&self) -> Result<Vec<Closed>> {
        let precisions = &self.args.precision;
        let mut encoders = Vec::new();
        for &precision in precisions {
            encoders.push([self.encoder(precision, |s| s.max_batch_tokens = 1)?, self.encoder(precision, |_| {})?]);
        }
        let keys: Vec<Key> = (0..precisions.len())
            .flat_map(|i| self.args.clients.iter().flat_map(move |&clients| [(i, false, clients), (i, true, clients)]))
            .collect();
        let taken =
            self.rounds("closed loop", &keys, |(i, batches, clients), _| self.stretch(&encoders[i][usize::from(batches)], clients))?;
        let rate = |key: &Key, round: usize| taken[key][round].0;
        let row = |key: &Key| {
            let &(i, batches, clients) = key;
            let rounds = &taken[key];
            Closed {
                precision: name(precisions[i]),
                max_batch_tokens: encoders[i][usize::from(batches)].info().max_batch_tokens,
                clients,
                queries_per_s: median(rounds.iter().map(|round| round.0).collect()),
                ratio: median((0..rounds.len()).map(|round| rate(key, round) / rate(&(i, false, clients), round)).collect()),
                times: Times::median(&rounds.iter().map(|round| round.1).collect::<Vec<_>>()),
            }
        };
        Ok(keys.iter().map(row).collect())
    }

    /// Queries a second, and how long each took.
    fn stretch(&self, encoder: &Arc<Encoder>, clients: usize) -> Result<(f64, Times)> {
        let begin = Instant::now() + WARM_UP;
        let end = begin + Duration::from_secs_f64(self.args.seconds);
        let (turn, queries) = (Arc::new(AtomicUsize::new(0)), Arc::new(self.texts.queries.clone()));
        let client = || {
            let (encoder, turn, queries) = (Arc::clone(encoder), Arc::clone(&turn), Arc::clone(&queries));
            async move {
                let mut times = Vec::new();
                loop {
                    let started = Instant::now();
                    if started > end {
                        return anyhow::Ok(times);
                    }
                    let query = &queries[turn.fetch_add(1, Ordering::Relaxed) % queries.len()];
                    encode(&encoder, query).await?;
                    if started > begin {
                        times.push(started.elapsed().as_secs_f64());
                    }
                    // Between an answer and the next question, a client of a server goes through the network.
                    tokio::task::yield_now().await;
                }
            }
        };
        self.runtime.block_on(async {
            let clients: Vec<_> = (0..clients).map(|_| tokio::spawn(client())).collect();
            let mut times = Vec::new();
            for client in clients {
                times.extend(client.await??);
            }
            Ok((times.len() as f64 / self.args.seconds, Times::of(times)))
        })
    }
}
