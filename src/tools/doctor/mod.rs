//! `kindred doctor`: whether a server would work here, with these settings.
//!
//! | file | looks at |
//! |---|---|
//! | `model.rs` | ONNX Runtime, the model, what it runs on, one embedding |
//! | `machine.rs` | processor, memory, limits of the process, the clock |
//! | `data.rs` | the data folder, room on its disk, the collections |
//! | `network.rs` | the port, API keys, files of TLS, the Kafka feed |
//!
//! It fetches nothing, changes nothing, and may run beside a server.

mod data;
mod machine;
mod model;
mod network;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::terminal::{Colour, painted};
use crate::config::Settings;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Address and port that a server would listen on [setting http.listen]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    /// It works, but less well than it could.
    Warn,
    /// A server would not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    /// What there is.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// All that was found; each is told at once, for some take seconds.
#[derive(Debug)]
struct Findings {
    json: bool,
    checks: Vec<Check>,
}

impl Findings {
    fn ok(&mut self, name: &'static str, found: impl Into<String>) {
        self.add(Check { name, status: Status::Ok, found: found.into(), advice: None });
    }

    fn warn(&mut self, name: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(Check { name, status: Status::Warn, found: found.into(), advice: Some(advice.into()) });
    }

    fn fail(&mut self, name: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(Check { name, status: Status::Fail, found: found.into(), advice: Some(advice.into()) });
    }

    /// A failure whose message says what to do.
    fn failed(&mut self, name: &'static str, e: impl Into<anyhow::Error>) {
        self.add(Check { name, status: Status::Fail, found: format!("{:#}", e.into()), advice: None });
    }

    fn add(&mut self, check: Check) {
        if !self.json {
            let (word, colour) = match check.status {
                Status::Ok => ("ok  ", Colour::Green),
                Status::Warn => ("warn", Colour::Yellow),
                Status::Fail => ("fail", Colour::Red),
            };
            let advice = check.advice.as_ref().map(|advice| format!(". {advice}")).unwrap_or_default();
            println!("{}  {:<12} {}{advice}", painted(word, colour), check.name, check.found);
        }
        self.checks.push(check);
    }

    fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

/// Looks at everything and prints what it finds. Returns whether a server would work.
///
/// # Errors
/// None of what it looks for: that is told.
pub fn run(settings: &Settings, args: &DoctorArgs) -> Result<bool> {
    let mut findings = Findings { json: args.json, checks: Vec::new() };
    machine::look(&mut findings);
    let holder = data::look_at_folder(&mut findings, settings);
    network::look(&mut findings, settings, holder.as_deref());
    let encoder = model::look(&mut findings, settings);
    data::look_at_collections(&mut findings, settings, encoder);
    let (n_failed, n_warned) = (findings.count(Status::Fail), findings.count(Status::Warn));
    if args.json {
        let report = json!({"ok": n_failed == 0, "version": env!("CARGO_PKG_VERSION"), "checks": findings.checks});
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        match (n_failed, n_warned) {
            (0, 0) => println!("all is well"),
            (0, n) => println!("a server works here; {n} of {} could be better", findings.checks.len()),
            (n, _) => println!("a server does not work here yet: mend what failed ({n})"),
        }
    }
    Ok(n_failed == 0)
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}
