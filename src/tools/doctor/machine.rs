//! Processor, limits of the process, the clock. Memory is looked at with the data that has to fit.

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Findings;
use crate::optional::PARTS;
use crate::telemetry::machine;

/// Every connection and every mapped file is one; Linux gives a process 1,024 unless told otherwise.
const OPEN_FILES: u64 = 4_096;
/// Linux's own default; an index maps few parts, but the allocator's threads map, too.
const MAPS: u64 = 65_530;
/// The beginning of 2026, in seconds since 1970: no build is older.
const EARLIEST: u64 = 1_767_225_600;

pub fn look(findings: &mut Findings) {
    processor(findings);
    match machine::max_open_files() {
        Some(n) if n < OPEN_FILES => findings.warn(
            "open files",
            format!("at most {n}, each connection is one"),
            format!("Raise it to {OPEN_FILES} or more: ulimit -n, LimitNOFILE of a systemd unit"),
        ),
        Some(u64::MAX) => findings.ok("open files", "as many as wanted"),
        Some(n) => findings.ok("open files", format!("at most {n}")),
        None => {}
    }
    match machine::max_maps() {
        Some(n) if n < MAPS => findings.warn("memory maps", format!("at most {n}"), format!("sysctl -w vm.max_map_count={MAPS}")),
        Some(n) => findings.ok("memory maps", format!("at most {n}")),
        None => {}
    }
    parts(findings);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let shown = i64::try_from(now).ok().and_then(|s| jiff::Timestamp::from_second(s).ok()).map(|t| t.to_string()).unwrap_or_default();
    if now < EARLIEST {
        findings.fail("clock", format!("it is {shown}"), "Set it: postings expire and recency counts by it");
    } else {
        findings.ok("clock", shown);
    }
}

/// What this build has and leaves out: nothing is wrong with either.
fn parts(findings: &mut Findings) {
    let names = |is_built: bool| -> String {
        let names: Vec<&str> = PARTS.iter().filter(|part| part.is_built == is_built).map(|part| part.feature).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    findings.ok("optional parts", format!("built: {}; left out: {}", names(true), names(false)));
}

fn processor(findings: &mut Findings) {
    let n_cores = thread::available_parallelism().map_or(1, usize::from);
    let (instructions, is_slow) = kindred_index::instructions();
    let found = format!("{n_cores} {}, {instructions}", if n_cores == 1 { "core" } else { "cores" });
    if is_slow {
        findings.warn("processor", found, "Everything works, several times slower than on a machine with AVX2");
    } else if n_cores == 1 {
        findings.warn("processor", found, "Searches, encoding and rebuilds share it: two or more keep them apart");
    } else {
        findings.ok("processor", found);
    }
}
