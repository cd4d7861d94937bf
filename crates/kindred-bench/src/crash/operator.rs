//! The operator: rebuilds, activates, rolls back and takes snapshots, while the writers write.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::document::{COLLECTION, path};
use super::shared::{Phase, Shared, Trouble, count};
use crate::client::Client;

/// Time between two looks at a task.
const LOOK: Duration = Duration::from_millis(2);
/// A task of so few documents that takes longer hangs.
const MAX_TASK: Duration = Duration::from_secs(60);

/// What the operator does in a cycle, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Nothing,
    /// Rebuilds that are activated at once.
    Rebuild,
    /// Rebuilds, then goes back and forth between generations.
    Activate,
    Snapshot,
}

/// Works until the server is killed, or something is wrong.
pub(super) fn run(client: &Client, duty: Duty, snapshots: &Path, shared: &Shared) {
    let mut done = Ok(());
    while done.is_ok() && !shared.is_killing() {
        done = match duty {
            Duty::Nothing => return,
            Duty::Rebuild => rebuild(client, "auto", shared),
            Duty::Activate => activate(client, shared),
            Duty::Snapshot => snapshot(client, snapshots, shared),
        };
        // What is under way when the server is killed stays under way.
        if done.is_ok() {
            shared.set_operation(Phase::Idle);
        }
    }
    if let Err(trouble) = done {
        shared.report("operator", trouble);
    }
}

/// Rebuilds in the way of those who activate: whatever they ask for, both must come to a good end.
pub(super) fn rebuild_beside(client: &Client, shared: &Shared) {
    let mut built = Ok(false);
    while built.is_ok() && !shared.is_killing() {
        built = task(client, &path("/rebuild"), &json!({"activate": "manual"}).to_string(), &|| ());
        count(&shared.n_rebuilds, u64::from(matches!(built, Ok(true))));
    }
    if let Err(trouble) = built {
        shared.report("operator who rebuilds", trouble);
    }
}

fn rebuild(client: &Client, activate: &str, shared: &Shared) -> Result<(), Trouble> {
    shared.set_operation(Phase::Rebuilding);
    let is_built = || shared.set_operation(Phase::Activating);
    if task(client, &path("/rebuild"), &json!({"activate": activate}).to_string(), &is_built)? {
        count(&shared.n_rebuilds, 1);
    }
    Ok(())
}

fn activate(client: &Client, shared: &Shared) -> Result<(), Trouble> {
    let Some(ready) = ready_generation(client)? else { return rebuild(client, "manual", shared) };
    for way in [format!("/generations/{ready}/activate"), "/rollback".to_owned()] {
        shared.set_operation(Phase::Activating);
        let answer = client.post(&path(&way), "{}")?;
        match answer.status {
            200..300 => count(&shared.n_activations, 1),
            // It is the current one by now, or there is none to go back to, or a rebuild is just about to take its place.
            404 | 409 => {}
            status => return Err(Trouble::wrong_answer(format!("{way}: {status} {}", answer.body))),
        }
    }
    Ok(())
}

fn ready_generation(client: &Client) -> Result<Option<String>, Trouble> {
    let answer = client.get(&path("/generations"))?;
    let Some(generations) = answer.body["generations"].as_array() else {
        return Err(Trouble::wrong_answer(format!("generations: {} {}", answer.status, answer.body)));
    };
    let ready = generations.iter().rfind(|generation| generation["status"] == "ready");
    Ok(ready.and_then(|generation| generation["id"].as_str()).map(str::to_owned))
}

fn snapshot(client: &Client, folder: &Path, shared: &Shared) -> Result<(), Trouble> {
    let to = folder.join(format!("{:08x}", std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros())));
    shared.set_operation(Phase::Snapshotting);
    let body = json!({"to": to.to_string_lossy(), "collections": [COLLECTION]}).to_string();
    if task(client, "/v1/snapshots", &body, &|| ())? {
        count(&shared.n_snapshots, 1);
        // Only the last matters; they would fill the disk.
        std::fs::remove_dir_all(&to).map_err(|e| Trouble::wrong_answer(format!("a snapshot is done, but {}: {e}", to.display())))?;
    }
    Ok(())
}

/// Starts a task and waits for its end. Returns whether it was done: one like it may be under way already. `is_built` is called
/// when nothing is left of a rebuild but to publish it.
fn task(client: &Client, way: &str, body: &str, is_built: &dyn Fn()) -> Result<bool, Trouble> {
    let answer = client.post(way, body)?;
    let task = match (answer.status, answer.body["task"].as_str()) {
        (202, Some(task)) => task.to_owned(),
        (409 | 429, _) => {
            std::thread::sleep(LOOK);
            return Ok(false);
        }
        _ => return Err(Trouble::wrong_answer(format!("{way}: {} {}", answer.status, answer.body))),
    };
    let started = Instant::now();
    while started.elapsed() < MAX_TASK {
        let answer = client.get(&format!("/v1/tasks/{task}"))?;
        // All rows are in: what is left of a rebuild is to make it the current one.
        let (done, total) = (answer.body["done"].as_u64(), answer.body["total"].as_u64().filter(|total| *total > 0));
        if answer.body["kind"] == "rebuild" && total.is_some() && done >= total {
            is_built();
        }
        match answer.body["status"].as_str() {
            Some("done") => return Ok(true),
            Some("queued" | "running") => std::thread::sleep(LOOK),
            _ => return Err(Trouble::wrong_answer(format!("{way} became {} {}", answer.status, answer.body))),
        }
    }
    Err(Trouble::wrong_answer(format!("{way}: the task has not ended after {} s", MAX_TASK.as_secs())))
}
