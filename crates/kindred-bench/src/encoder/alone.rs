//! One query at a time on one thread, and what bounds it.
//!
//! A query cannot be faster than its weights are read, nor than its tokens are computed: the first is measured by reading as many bytes from memory over and
//! over, the second by the time that the same model takes for a token of a long text.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::{Bench, Times, median};
use kindred_encoder::{Encoder, Precision, QueryOptions, linear_weight_bytes};

/// Tokens of the long text.
const LONG: usize = 128;

/// One precision.
#[derive(Debug, Serialize)]
pub(super) struct Alone {
    pub precision: Precision,
    pub mean_tokens: f64,
    #[serde(flatten)]
    pub times: Times,
    /// Bytes of the matrices that each run reads; 0 if they cannot be told.
    pub weight_bytes: u64,
    /// To read so many bytes.
    pub read_ms: f64,
    /// To compute so many tokens at the pace of a long text.
    pub compute_ms: f64,
    /// The larger of both, as a share of the time that a query took.
    pub share_of_bound: f64,
}

struct Taken {
    times: Times,
    read_ms: f64,
    token_ms: f64,
}

impl Bench<'_> {
    /// Measures each precision on one thread.
    pub fn alone(&self) -> Result<Vec<Alone>> {
        let encoders: Vec<_> =
            self.args.precision.iter().map(|&precision| self.encoder(precision, |s| s.threads = 1)).collect::<Result<_>>()?;
        let buffers: Vec<Vec<u64>> = encoders.iter().map(|encoder| vec![1; self.weight_bytes(encoder) as usize / 8]).collect();
        let mut mean_tokens = 0.0;
        let keys: Vec<usize> = (0..encoders.len()).collect();
        let taken = self.rounds("alone", &keys, |i, _| {
            let (times, tokens) = self.runtime.block_on(async { self.queries(&encoders[i]).await })?;
            mean_tokens = tokens;
            let token_ms = self.long(&encoders[i])?;
            Ok(Taken { times, read_ms: read_ms(&buffers[i]), token_ms })
        })?;
        let row = |(i, rounds): (usize, Vec<Taken>)| {
            let of = |number: fn(&Taken) -> f64| median(rounds.iter().map(number).collect());
            let times = Times::median(&rounds.iter().map(|taken| taken.times).collect::<Vec<_>>());
            let (read_ms, compute_ms) = (of(|t| t.read_ms), of(|t| t.token_ms) * mean_tokens);
            Alone {
                precision: encoders[i].info().query_precision,
                mean_tokens,
                times,
                weight_bytes: buffers[i].len() as u64 * 8,
                read_ms,
                compute_ms,
                share_of_bound: read_ms.max(compute_ms) / times.p50_ms,
            }
        };
        Ok(taken.into_iter().map(row).collect())
    }

    fn weight_bytes(&self, encoder: &Encoder) -> u64 {
        linear_weight_bytes(&self.settings.encoder.model_dir, encoder.info().query_precision).unwrap_or_default()
    }

    /// Times of queries one after the other, and their mean length in tokens.
    async fn queries(&self, encoder: &Arc<Encoder>) -> Result<(Times, f64)> {
        let (encoder, queries) = (Arc::clone(encoder), self.texts.queries.clone());
        let end = Instant::now() + Duration::from_secs_f64(self.args.seconds);
        // On a thread of the runtime, as the queries of a server are.
        let asked = tokio::spawn(async move {
            let (mut times, mut n_tokens) = (Vec::new(), 0);
            for query in queries.iter().cycle() {
                let started = Instant::now();
                if started > end {
                    break;
                }
                let options = QueryOptions { skip_cache: true, ..QueryOptions::default() };
                n_tokens += encoder.encode_query("", query, options).await?.timings.n_tokens;
                times.push(started.elapsed().as_secs_f64());
            }
            let mean = n_tokens as f64 / times.len().max(1) as f64;
            anyhow::Ok((Times::of(times), mean))
        });
        asked.await?
    }

    /// Milliseconds for a token of a long text.
    fn long(&self, encoder: &Encoder) -> Result<f64> {
        // Each word is a token, beside one at the beginning and one at the end.
        let text = vec!["nurse"; LONG - 2].join(" ");
        let mut times = Vec::new();
        for _ in 0..8 {
            let started = Instant::now();
            let encoded = encoder.encode_blocking(vec![text.clone()])?;
            times.push(started.elapsed().as_secs_f64() * 1e3 / encoded.timings.n_tokens as f64);
        }
        Ok(median(times))
    }
}

/// Milliseconds to read a buffer once, when it has been read before.
fn read_ms(buffer: &[u64]) -> f64 {
    let read = || {
        let started = Instant::now();
        // Several sums at once: one alone would wait for itself.
        let mut sums = [0u64; 16];
        for chunk in buffer.as_chunks::<16>().0 {
            sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
        }
        black_box(sums);
        started.elapsed().as_secs_f64() * 1e3
    };
    median((0..50).map(|_| read()).collect())
}
