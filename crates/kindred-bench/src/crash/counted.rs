//! What a run comes to, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::fault::Fault;
use super::shared::Phase;

/// Everything that was counted.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub seed: u64,
    pub cycles: u64,
    pub kills: BTreeMap<Phase, u64>,
    /// Changes of documents.
    pub acknowledged_writes: u64,
    /// Requests that nobody was told of when the server was killed: they are there, or they are not.
    pub unanswered_kept: u64,
    pub unanswered_dropped: u64,
    pub rebuilds: u64,
    pub activations: u64,
    pub snapshots: u64,
    pub lost: u64,
    pub phantom: u64,
    pub duplicate: u64,
    pub torn: u64,
    pub wrong_answers: u64,
    pub refused_opens: u64,
    /// From the start of a killed server's process until it is ready again.
    pub restart_ms_p50: f64,
    pub restart_ms_max: f64,
    pub elapsed_s: f64,
    pub faults: Vec<Fault>,
}

impl Report {
    pub fn add(&mut self, faults: Vec<Fault>) {
        for fault in &faults {
            *match fault {
                Fault::Lost { .. } => &mut self.lost,
                Fault::Phantom { .. } => &mut self.phantom,
                Fault::Duplicate { .. } => &mut self.duplicate,
                Fault::Torn { .. } => &mut self.torn,
                Fault::WrongAnswer { .. } => &mut self.wrong_answers,
                Fault::RefusedOpen { .. } => &mut self.refused_opens,
            } += 1;
        }
        self.faults.extend(faults);
    }

    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Lines and a table.
    pub fn text(&self) -> String {
        /// Of each of thousands there is no need to read.
        const MAX_PRINTED: usize = 20;
        let mut text = String::new();
        for fault in self.faults.iter().take(MAX_PRINTED) {
            let _ = writeln!(text, "{fault}");
        }
        if self.faults.len() > MAX_PRINTED {
            let _ = writeln!(text, "… and {} more", self.faults.len() - MAX_PRINTED);
        }
        let kills: Vec<String> = self.kills.iter().map(|(phase, n)| format!("{} {n}", phase.name())).collect();
        for (name, value) in [
            ("seed", self.seed.to_string()),
            ("cycles", self.cycles.to_string()),
            ("kills", format!("{}: {}", self.kills.values().sum::<u64>(), kills.join(", "))),
            ("acknowledged writes", self.acknowledged_writes.to_string()),
            ("unanswered at a kill", format!("{} there, {} not", self.unanswered_kept, self.unanswered_dropped)),
            ("beside the writes", format!("{} rebuilds, {} activations, {} snapshots", self.rebuilds, self.activations, self.snapshots)),
            ("restart", format!("p50 {:.0} ms, max {:.0} ms", self.restart_ms_p50, self.restart_ms_max)),
            ("elapsed", format!("{:.0} s", self.elapsed_s)),
            ("lost", self.lost.to_string()),
            ("phantom", self.phantom.to_string()),
            ("duplicate", self.duplicate.to_string()),
            ("torn", self.torn.to_string()),
            ("wrong answers", self.wrong_answers.to_string()),
            ("refused opens", self.refused_opens.to_string()),
        ] {
            // Writing into a text cannot fail.
            let _ = writeln!(text, "{name:<22} {value}");
        }
        text
    }
}
