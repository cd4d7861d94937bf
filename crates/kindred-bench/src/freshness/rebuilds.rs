//! A full rebuild, and the next when it is done, for as long as the load goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use ureq::http::Method;

use crate::client::Client;
use crate::prepare::path;

/// Time between two looks at the task; few enough not to be a load of their own.
const LOOK: Duration = Duration::from_millis(50);

/// Starts a rebuild. Returns its task.
pub(super) fn start(client: &Client) -> Result<String> {
    loop {
        let answer = client.post(&path("/rebuild"), &json!({"activate": "auto"}).to_string())?;
        if answer.status != 409 {
            let answer = answer.ok()?;
            return Ok(answer["task"].as_str().context("the answer to a rebuild names no task")?.to_owned());
        }
        std::thread::sleep(LOOK);
    }
}

/// Keeps rebuilding until `end`, and cancels what is under way then. Returns how many were done.
pub(super) fn go_on(client: &Client, mut task: String, end: Instant) -> Result<u64> {
    let mut n_done = 0;
    loop {
        match status(client, &task)?.as_str() {
            "done" if Instant::now() < end => {
                n_done += 1;
                task = start(client)?;
            }
            "done" => return Ok(n_done + 1),
            "cancelled" if Instant::now() >= end => return Ok(n_done),
            "queued" | "running" if Instant::now() < end => std::thread::sleep(LOOK),
            "queued" | "running" => {
                // It may have ended in between, which is as well.
                client.call(&Method::DELETE, &format!("/v1/tasks/{task}"), "")?;
                std::thread::sleep(LOOK);
            }
            status => bail!("a rebuild became {status}"),
        }
    }
}

fn status(client: &Client, task: &str) -> Result<String> {
    let told = client.get(&format!("/v1/tasks/{task}"))?.ok()?;
    Ok(told["status"].as_str().unwrap_or_default().to_owned())
}
