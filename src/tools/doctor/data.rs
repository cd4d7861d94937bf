//! The data folder: whether it can be written to, room for what comes, and whether its collections open.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Findings, size};
use crate::app::App;
use crate::collection::Access;
use crate::config::Settings;
use crate::telemetry::{machine, memory};
use kindred_core::storage::Lock;
use kindred_encoder::Encoder;

/// Less room than this is none: a log file alone takes that much before it is ended.
const LEAST_FREE: u64 = 256 << 20;
/// Clocks of machines differ by so much.
const TOLERANCE: Duration = Duration::from_secs(60);

/// Looks at the folder, its disk, and memory for it. Returns the process that has the folder, if one has.
pub fn look_at_folder(findings: &mut Findings, settings: &Settings) -> Option<String> {
    let dir = &settings.storage.data_dir;
    // One that is to be made needs its parent.
    let Some(there) = dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir }).find(|dir| dir.exists())
    else {
        findings.fail("data folder", format!("{} is nowhere", dir.display()), "Choose another with --data-dir");
        return None;
    };
    let holder = Lock::holder(&dir.join("LOCK")).ok().flatten();
    let written = tempfile::tempfile_in(there).and_then(|mut file| file.write_all(b"kindred").and_then(|()| file.sync_all()));
    match (written, &holder) {
        (Err(e), _) => findings.fail(
            "data folder",
            format!("{} cannot be written to: {e}", there.display()),
            "Own or mount it for writing, or choose another with --data-dir",
        ),
        (Ok(()), _) if !dir.exists() => {
            findings.ok("data folder", format!("{} is not there yet, and will be made", dir.display()));
        }
        (Ok(()), Some(holder)) => findings.ok("data folder", format!("{}, in use by {holder}", dir.display())),
        (Ok(()), None) => findings.ok("data folder", dir.display().to_string()),
    }
    let used = folder_bytes(dir);
    room(findings, there, used);
    remember(findings, used);
    holder
}

/// A rebuild needs room for a second copy beside the one that serves and the one before.
fn room(findings: &mut Findings, there: &Path, used: u64) {
    let Some(free) = machine::free_bytes(there) else { return };
    let found = format!("{} free, {} used", size(free), size(used));
    if free < LEAST_FREE {
        findings.fail("disk", found, "Make room: writes would be refused soon");
    } else if free < used {
        findings.warn("disk", found, "A rebuild needs room for a second copy of its collection: make room before the next one");
    } else {
        findings.ok("disk", found);
    }
}

/// Searches read what does not fit into memory from the disk.
fn remember(findings: &mut Findings, used: u64) {
    let Some(available) = memory::available_bytes() else { return };
    let found = format!("{} available, for {} on disk", size(available), size(used));
    if available < used {
        findings.warn(
            "memory",
            found,
            "What does not fit is read from the disk again, slowly: more memory, or vectors as int8 (index.quantization)",
        );
    } else {
        findings.ok("memory", found);
    }
}

/// Opens all collections for reading, as `kindred search` does.
pub fn look_at_collections(findings: &mut Findings, settings: &Settings, encoder: Option<Arc<Encoder>>) {
    if !settings.storage.data_dir.exists() {
        return findings.ok("collections", "none yet");
    }
    let Some(encoder) = encoder else {
        return findings.warn("collections", "not opened: there is no model", "Mend that first");
    };
    // The cross-encoder has been looked at, and is loaded by its own settings.
    let mut without = settings.clone();
    without.cross_encoder.model_dir = Default::default();
    let app = match App::with_encoder(&without, Access::Read, encoder) {
        Ok(app) => app,
        Err(e) => return findings.failed("collections", e),
    };
    let infos = app.catalog.list();
    let damaged = app.catalog.damaged();
    for collection in &damaged {
        let found = format!("{} is damaged and is not served", collection.name);
        findings.fail("collections", found, &collection.reason);
    }
    if infos.is_empty() && damaged.is_empty() {
        return findings.ok("collections", "none yet");
    }
    let soon = SystemTime::now() + TOLERANCE;
    for info in infos {
        let found = format!("{}: {} documents, {} changes, generation {}", info.name, info.n_documents, info.n_changes, info.generation);
        let built: Option<jiff::Timestamp> = info.generation_created_at.and_then(|at| at.parse().ok());
        if built.is_some_and(|built| SystemTime::from(built) > soon) {
            findings.warn("collections", found, "It was built in the future: set the clock, which postings expire by");
        } else {
            findings.ok("collections", found);
        }
    }
}

/// Bytes of all files below a folder; those that cannot be read count as none.
fn folder_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
