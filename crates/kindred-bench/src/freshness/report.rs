//! What the stretches come to: medians of the rounds, beside those without any change.

use std::fmt::Write;

use serde::Serialize;

use super::load::{Beside, Stretch, Taken};
use crate::measure::{quantile, sorted};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub n_documents: u64,
    pub dims: usize,
    /// `vector` or `text`: what is written and searched for.
    pub by: &'static str,
    pub is_filtered: bool,
    /// How changes are written.
    pub way: &'static str,
    pub searchers: usize,
    pub batch: u64,
    pub seconds: f64,
    pub rounds: usize,
    pub rows: Vec<Row>,
}

/// Searches beside something. Times in milliseconds; all are medians of the rounds.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub beside: Beside,
    /// Changes a second, or [`Beside::Pending`] ones.
    pub number: u64,
    /// Changes a second that were acknowledged.
    pub written_per_s: f64,
    pub acknowledge_p50_ms: Option<f64>,
    pub acknowledge_p99_ms: Option<f64>,
    /// From the moment at which a change is due until a search has found it.
    pub searchable_p50_ms: Option<f64>,
    pub searchable_p99_ms: Option<f64>,
    pub n_probes: usize,
    pub n_never: u64,
    pub rebuilds: u64,
    pub qps: f64,
    pub search_p50_ms: f64,
    pub search_p99_ms: f64,
    /// To the stretch of the same round without changes and rebuild.
    pub qps_ratio: f64,
    pub search_p50_ratio: f64,
    pub search_p99_ratio: f64,
}

impl Row {
    /// `idle` has the rounds without load, in the same order.
    pub fn of((beside, number): Stretch, rounds: &[Taken], idle: &[Taken]) -> Self {
        let each = |measure: &dyn Fn(&Taken) -> Option<f64>| median(rounds.iter().filter_map(measure).collect());
        let ratio = |measure: &dyn Fn(&Taken) -> f64| {
            median(rounds.iter().zip(idle).map(|(taken, idle)| measure(taken) / measure(idle)).collect()).unwrap_or(f64::NAN)
        };
        let qps = |taken: &Taken| taken.searches.len() as f64 / taken.seconds;
        let search = |share| move |taken: &Taken| at(&taken.searches, share).unwrap_or(f64::NAN);
        Self {
            beside,
            number,
            written_per_s: each(&|taken| Some(taken.n_written as f64 / taken.seconds)).unwrap_or_default(),
            acknowledge_p50_ms: each(&|taken| at(&taken.acknowledged, 0.5)),
            acknowledge_p99_ms: each(&|taken| at(&taken.acknowledged, 0.99)),
            searchable_p50_ms: each(&|taken| at(&taken.searchable, 0.5)),
            searchable_p99_ms: each(&|taken| at(&taken.searchable, 0.99)),
            n_probes: rounds.iter().map(|taken| taken.searchable.len()).sum(),
            n_never: rounds.iter().map(|taken| taken.n_never).sum(),
            rebuilds: rounds.iter().map(|taken| taken.rebuilds).sum(),
            qps: each(&|taken| Some(qps(taken))).unwrap_or_default(),
            search_p50_ms: each(&|taken| at(&taken.searches, 0.5)).unwrap_or(f64::NAN),
            search_p99_ms: each(&|taken| at(&taken.searches, 0.99)).unwrap_or(f64::NAN),
            qps_ratio: ratio(&qps),
            search_p50_ratio: ratio(&search(0.5)),
            search_p99_ratio: ratio(&search(0.99)),
        }
    }
}

/// What a stretch is about, for people.
pub(super) fn name((beside, number): Stretch) -> String {
    match beside {
        Beside::Changes => format!("{number}/s"),
        Beside::Elsewhere => format!("{number}/s elsewhere"),
        Beside::Rebuild => format!("{number}/s, rebuilding"),
        Beside::Pending => format!("{number} pending"),
    }
}

fn at(times: &[f64], share: f64) -> Option<f64> {
    (!times.is_empty()).then(|| quantile(&sorted(times.to_vec()), share))
}

fn median(numbers: Vec<f64>) -> Option<f64> {
    at(&numbers, 0.5)
}

impl Report {
    /// A line and a table in Markdown.
    pub fn text(&self) -> String {
        let Self { n_documents, dims, by, way, searchers, batch, seconds, rounds, .. } = self;
        let filtered = if self.is_filtered { ", filtered" } else { "" };
        let mut text = format!(
            "{n_documents} documents × {dims}, by {by}{filtered}, {searchers} searcher(s), {batch} change(s) a request over {way}, median of {rounds} round(s) of {seconds} s\n\n"
        );
        text += "| changes | written/s | acknowledged p50 / p99 ms | searchable p50 / p99 ms | searches/s | search p50 / p99 ms | searches/s, p50, p99 to idle |\n";
        text += "|---|---|---|---|---|---|---|\n";
        for row in &self.rows {
            // Writing into a text cannot fail.
            let _ = writeln!(
                text,
                "| {} | {:.0} | {} | {} | {:.0} | {:.2} / {:.2} | {:.2} × {:.2} × {:.2} × |",
                name((row.beside, row.number)),
                row.written_per_s,
                pair(row.acknowledge_p50_ms, row.acknowledge_p99_ms),
                pair(row.searchable_p50_ms, row.searchable_p99_ms),
                row.qps,
                row.search_p50_ms,
                row.search_p99_ms,
                row.qps_ratio,
                row.search_p50_ratio,
                row.search_p99_ratio,
            );
        }
        for row in self.rows.iter().filter(|row| row.n_never > 0) {
            let _ =
                writeln!(text, "\n{} of {} changes at {}/s were never found", row.n_never, row.n_never as usize + row.n_probes, row.number);
        }
        text
    }
}

fn pair(p50: Option<f64>, p99: Option<f64>) -> String {
    p50.zip(p99).map_or_else(|| "–".to_owned(), |(p50, p99)| format!("{p50:.1} / {p99:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(search_ms: f64, n_searches: usize) -> Taken {
        Taken { seconds: 2.0, searches: vec![search_ms; n_searches], ..Taken::default() }
    }

    #[test]
    fn each_round_is_held_against_its_own_idle_stretch() {
        let idle = [taken(1.0, 100), taken(2.0, 50), taken(4.0, 20)];
        let busy = [taken(1.5, 80), taken(3.0, 40), taken(8.0, 10)];
        let row = Row::of((Beside::Changes, 300), &busy, &idle);
        assert_eq!((row.search_p99_ratio, row.qps_ratio, row.qps, row.search_p50_ms), (1.5, 0.8, 20.0, 3.0));
        assert_eq!((row.acknowledge_p50_ms, row.written_per_s), (None, 0.0));
    }
}
