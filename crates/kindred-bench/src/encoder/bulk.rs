//! Documents, as they are written: many at a time, on all threads.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::{Bench, median, name};

/// Documents of one call, as a write sends them.
const CALL: usize = 256;

/// One precision.
#[derive(Debug, Serialize)]
pub(super) struct Bulk {
    pub precision: String,
    pub mean_tokens: f64,
    pub documents_per_s: f64,
    pub threads: usize,
}

impl Bench<'_> {
    /// Measures each precision.
    pub fn bulk(&self) -> Result<Vec<Bulk>> {
        let precisions = &self.args.precision;
        let encoders: Vec<_> = precisions.iter().map(|&precision| self.encoder(precision, |_| {})).collect::<Result<_>>()?;
        let mut mean_tokens = 0.0;
        let keys: Vec<usize> = (0..encoders.len()).collect();
        let taken = self.rounds("bulk", &keys, |i, round| {
            let (started, mut n_documents, mut n_tokens) = (Instant::now(), 0, 0);
            let mut documents = self.texts.documents.iter().cycle().skip(round * CALL);
            while started.elapsed().as_secs_f64() < self.args.seconds {
                let texts: Vec<String> = documents.by_ref().take(CALL).cloned().collect();
                n_documents += texts.len();
                n_tokens += encoders[i].encode_blocking(texts)?.timings.n_tokens;
            }
            mean_tokens = n_tokens as f64 / n_documents as f64;
            Ok(n_documents as f64 / started.elapsed().as_secs_f64())
        })?;
        let row = |(i, rounds): (usize, Vec<f64>)| Bulk {
            precision: name(precisions[i]),
            mean_tokens,
            documents_per_s: median(rounds),
            threads: encoders[i].info().threads,
        };
        Ok(taken.into_iter().map(row).collect())
    }
}
