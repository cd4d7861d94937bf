//! The result as Markdown tables and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::alone::Alone;
use super::bulk::Bulk;
use super::closed::Closed;
use super::open::Open;
use super::whole::Whole;
use super::{Line, Lines};
use kindred::config::Settings;

/// Everything that was measured; times in milliseconds, medians of the rounds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub model: String,
    pub device: String,
    pub rounds: usize,
    pub seconds: f64,
    pub alone: Vec<Alone>,
    pub closed: Vec<Closed>,
    pub open: Vec<Open>,
    pub bulk: Vec<Bulk>,
    pub whole: Option<Whole>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(settings: &Settings, rounds: usize, seconds: f64) -> Self {
        let model = settings.encoder.model_dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let device = settings.encoder.device.to_string();
        Self { model, device, rounds, seconds, alone: vec![], closed: vec![], open: vec![], bulk: vec![], whole: None }
    }

    /// Tables in Markdown. Writing into a text cannot fail.
    pub fn text(&self) -> String {
        let mut text = format!("{} on {}, median of {} round(s) of {} s\n", self.model, self.device, self.rounds, self.seconds);
        if !self.alone.is_empty() {
            text += "\n| alone, one thread | tokens | p10 / p50 / p99 ms | weights read in | tokens computed in | share of the bound |\n|---|---|---|---|---|---|\n";
        }
        for Alone { precision, mean_tokens, times, read_ms, compute_ms, share_of_bound, .. } in &self.alone {
            let (p10, p50, p99) = (times.p10_ms, times.p50_ms, times.p99_ms);
            let _ = writeln!(
                text,
                "| {precision} | {mean_tokens:.1} | {p10:.2} / {p50:.2} / {p99:.2} | {read_ms:.2} ms | {compute_ms:.2} ms | {share_of_bound:.2} |"
            );
        }
        if !self.closed.is_empty() {
            text += "\n| closed loop | clients | queries/s | p50 / p99 ms | queries/s to no batches |\n|---|---|---|---|---|\n";
        }
        for Closed { precision, max_batch_tokens, clients, queries_per_s, ratio, times } in &self.closed {
            let way = if *max_batch_tokens == 1 { "no batches".to_owned() } else { format!("batches of {max_batch_tokens} tokens") };
            let (p50, p99) = (times.p50_ms, times.p99_ms);
            let _ = writeln!(text, "| {precision}, {way} | {clients} | {queries_per_s:.0} | {p50:.2} / {p99:.2} | {ratio:.2} × |");
        }
        if !self.open.is_empty() {
            text += "\n| open load | queries/s | answered/s | refused/s | of capacity | p50 / p99 ms | refused after p50 / p99 ms |\n|---|---|---|---|---|---|---|\n";
        }
        for Open { load, queries_per_s, answered_per_s, goodput, refused_per_s, times, refusal } in &self.open {
            let (p50, p99, r50, r99) = (times.p50_ms, times.p99_ms, refusal.p50_ms, refusal.p99_ms);
            let _ = writeln!(
                text,
                "| {load:.2} × | {queries_per_s:.0} | {answered_per_s:.0} | {refused_per_s:.0} | {goodput:.2} | {p50:.2} / {p99:.2} | {r50:.2} / {r99:.2} |"
            );
        }
        if !self.bulk.is_empty() {
            text += "\n| documents | tokens | threads | documents/s |\n|---|---|---|---|\n";
        }
        for Bulk { precision, mean_tokens, documents_per_s, threads } in &self.bulk {
            let _ = writeln!(text, "| {precision} | {mean_tokens:.0} | {threads} | {documents_per_s:.1} |");
        }
        if let Some(Whole { n_documents, whole, bare, ratio, encode_ms, retrieve_ms, rescore_ms, total_ms }) = &self.whole {
            let _ = write!(
                text,
                "\n| text in, hits out | p50 / p99 ms |\n|---|---|\n| over HTTP, {n_documents} documents | {:.2} / {:.2} |\n| bare encoding | {:.2} / {:.2} |\n\nratio of the p50s: {ratio:.2} ×. The server's own stages: encode {encode_ms:.2}, retrieve {retrieve_ms:.2}, re-score {rescore_ms:.2}, total {total_ms:.2} ms\n",
                whole.p50_ms, whole.p99_ms, bare.p50_ms, bare.p99_ms
            );
        }
        text
    }

    /// Latency against load: the open one, if it was measured, else the closed loop with batches.
    pub fn plot(&self) -> Lines {
        let line = |name: &str, points: Vec<(f64, f64)>| Line { name: name.to_owned(), points };
        let lines = match self.open.is_empty() {
            false => vec![
                line("p50", self.open.iter().map(|row| (row.queries_per_s, row.times.p50_ms)).collect()),
                line("p99", self.open.iter().map(|row| (row.queries_per_s, row.times.p99_ms)).collect()),
            ],
            true => self.of_closed(),
        };
        Lines { caption: format!("{} on {}", self.model, self.device), x: "queries per second", y: "milliseconds", lines }
    }

    fn of_closed(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for row in self.closed.iter().filter(|row| row.max_batch_tokens != 1) {
            for (quantile, time) in [("p50", row.times.p50_ms), ("p99", row.times.p99_ms)] {
                let name = format!("{} {quantile}", row.precision);
                let point = (row.queries_per_s, time);
                match lines.iter_mut().find(|line| line.name == name) {
                    Some(line) => line.points.push(point),
                    None => lines.push(Line { name, points: vec![point] }),
                }
            }
        }
        lines
    }
}
