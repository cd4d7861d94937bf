//! Whole queries, text in and hits out over HTTP, beside the bare encoding of the same texts on the same machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Bench, Times, encode, median};
use crate::client::Client;
use crate::prepare::{self, path};
use crate::server::Folder;

/// Queries of one kind before the other's turn.
const TURN: usize = 20;

/// Whole queries and bare encodings, by turns.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    pub n_documents: u64,
    pub whole: Times,
    pub bare: Times,
    /// Of the p50s.
    pub ratio: f64,
    /// What the server says of its own stages: medians.
    pub encode_ms: f64,
    pub retrieve_ms: f64,
    pub rescore_ms: f64,
    pub total_ms: f64,
}

impl Bench<'_> {
    /// Measures both by turns.
    pub fn whole(&self) -> Result<Whole> {
        let prepared = &self.args.prepared;
        let folder = Folder::new(prepared.folder.as_deref(), "kindred-encoder-")?;
        let mut settings = self.settings.clone();
        settings.storage.data_dir = folder.path.join("data");
        settings.storage.rebuild_after_changes = prepare::NEVER;
        let launch = prepared.launch(&settings, &folder.path)?;
        let (server, _) = prepare::start(&launch)?;
        let client = Client::new(server.root());
        prepared.corpus(&client)?;
        let bare = self.encoder(self.settings.encoder.precision, |_| {})?;
        let (mut of_whole, mut of_bare, mut stages) = (Vec::new(), Vec::new(), Vec::new());
        let end = Instant::now() + Duration::from_secs_f64(self.args.seconds * self.args.rounds as f64);
        let mut turn = 0;
        while Instant::now() < end {
            for _ in 0..TURN {
                turn += 1;
                let body = json!({"query": {"text": self.texts.query(turn)}, "cache": false, "limit": 10}).to_string();
                let started = Instant::now();
                let answer = client.post(&path("/search"), &body)?;
                of_whole.push(started.elapsed().as_secs_f64());
                stages.push(answer.ok()?["timings"].take());
            }
            let (encoder, queries) = (std::sync::Arc::clone(&bare), self.texts.queries.clone());
            let encoded = self.runtime.spawn(async move {
                let mut times = Vec::new();
                for query in queries.iter().cycle().skip(turn).take(TURN) {
                    let started = Instant::now();
                    encode(&encoder, query).await?;
                    times.push(started.elapsed().as_secs_f64());
                }
                anyhow::Ok(times)
            });
            of_bare.extend(self.runtime.block_on(encoded).context("the bare encoding panicked")??);
        }
        let stage = |name: &str| median(stages.iter().filter_map(|t: &Value| t[name].as_f64()).collect()) / 1e3;
        let (whole, bare) = (Times::of(of_whole), Times::of(of_bare));
        Ok(Whole {
            n_documents: prepared.documents,
            whole,
            bare,
            ratio: whole.p50_ms / bare.p50_ms,
            encode_ms: stage("encode_us"),
            retrieve_ms: stage("retrieve_us"),
            rescore_ms: stage("rescore_us"),
            total_ms: stage("total_us"),
        })
    }
}
