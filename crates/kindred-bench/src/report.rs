//! The result as a table people can read, and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::measure::{ColdWarm, Row};
use kindred_index::BuildParams;

/// Prints a result: the text, or to standard output as JSON if the path is `-`. Any other path is a file that gets the JSON.
pub(super) fn print(report: &impl Serialize, text: &str, json: Option<&Path>) -> Result<()> {
    let as_json = serde_json::to_string_pretty(report)?;
    if json == Some(Path::new("-")) {
        println!("{as_json}");
        return Ok(());
    }
    if let Some(path) = json {
        std::fs::write(path, &as_json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print!("{text}");
    Ok(())
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Where the vectors come from.
    pub base: String,
    pub n_rows: usize,
    pub dims: usize,
    pub n_queries: usize,
    pub k: usize,
    pub threads: usize,
    pub rounds: usize,
    pub params: BuildParams,
    /// Whether the index was built by an earlier run; the times of building are those of that run.
    pub is_reused: bool,
    pub build_s: f64,
    /// Of all threads.
    pub build_cpu_s: Option<f64>,
    pub points_per_cpu_s: Option<f64>,
    pub file_bytes: u64,
    pub files: BTreeMap<String, u64>,
    /// By how much resident memory rose from before opening the index to after searching it, mapped files counted.
    pub resident_bytes: Option<u64>,
    pub open_ms: ColdWarm,
    pub first_query_ms: ColdWarm,
    pub rows: Vec<Row>,
}

impl Report {
    /// Lines and a table.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: {} × {}, {} queries, k {}, {} thread(s), median of {} round(s)\n",
            self.base, self.n_rows, self.dims, self.n_queries, self.k, self.threads, self.rounds
        );
        // Writing into a text cannot fail.
        let _ = self.write_costs(&mut text).and_then(|()| self.write_rows(&mut text));
        text
    }

    fn write_costs(&self, text: &mut String) -> std::fmt::Result {
        let cpu = self.build_cpu_s.zip(self.points_per_cpu_s);
        let cpu = cpu.map(|(cpu, points)| format!(", {cpu:.1} CPU seconds, {points:.0} points per CPU second")).unwrap_or_default();
        let when = if self.is_reused { " (when it was built)" } else { "" };
        writeln!(text, "build      {:.1} s{cpu}{when}", self.build_s)?;
        let files: Vec<String> = self.files.iter().map(|(name, size)| format!("{name} {}", megabytes(*size))).collect();
        writeln!(text, "files      {}: {}", megabytes(self.file_bytes), files.join(", "))?;
        if let Some(resident) = self.resident_bytes {
            writeln!(text, "resident   {} more after searching than before opening", megabytes(resident))?;
        }
        let Self { open_ms: open, first_query_ms: first, .. } = self;
        if let (Some(open), Some(query)) = (open.cold, first.cold) {
            writeln!(text, "open cold  {open:.1} ms, first search {query:.2} ms")?;
        }
        writeln!(text, "open warm  {:.1} ms, first search {:.2} ms\n", open.warm, first.warm)
    }

    fn write_rows(&self, text: &mut String) -> std::fmt::Result {
        write!(text, "    ef")?;
        for at in self.rows.iter().take(1).flat_map(|row| row.recall_at.keys()) {
            write!(text, "  {:>10}", format!("recall@{at}"))?;
        }
        writeln!(text, "       QPS    p50 µs    p99 µs  distances")?;
        for row in &self.rows {
            write!(text, "{:>6}", row.ef_search)?;
            for recall in row.recall_at.values() {
                write!(text, "  {recall:>10.4}")?;
            }
            writeln!(text, "  {:>8.0}  {:>8.0}  {:>8.0}  {:>9.0}", row.qps, row.p50_us, row.p99_us, row.n_distances)?;
        }
        Ok(())
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
