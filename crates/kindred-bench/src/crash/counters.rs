//! Documents that all writers change: each adds one, on the condition that nobody else did meanwhile. None may be lost, none
//! may count twice.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use ureq::http::Method;

use super::document::path;
use super::fault::Fault;
use super::shared::Trouble;
use crate::client::Client;
use crate::corpus::drawn;

pub(super) const COUNTERS: usize = 4;

#[derive(Debug, Default)]
struct Counter {
    /// Increments that were acknowledged.
    acknowledged: AtomicU64,
    /// Increments that may have been made.
    unsure: AtomicU64,
}

/// What the counters must stand at.
#[derive(Debug, Default)]
pub(super) struct Counters([Counter; COUNTERS]);

pub(super) fn id(counter: usize) -> String {
    format!("counter-{counter}")
}

impl Counters {
    /// The counters as they are first written.
    pub fn items(dims: usize) -> Vec<Value> {
        let item = |i: usize| json!({"id": id(i), "title": "counter", "count": 0, "embedding": drawn(u64::MAX - i as u64, dims)});
        (0..COUNTERS).map(item).collect()
    }

    /// Adds one, if nobody else does at the same time. Returns whether it was added.
    pub fn increment(&self, client: &Client, counter: usize) -> Result<bool, Trouble> {
        let (seqno, count) = read(client, counter)?;
        let patch = json!({"count": count + 1}).to_string();
        let Counter { acknowledged, unsure } = &self.0[counter];
        unsure.fetch_add(1, Ordering::SeqCst);
        let answer = client.call(&Method::PATCH, &path(&format!("/documents/{}?if_seqno={seqno}", id(counter))), &patch)?;
        let is_added = match answer.status {
            200 => true,
            409 | 429 => false,
            status => return Err(Trouble::wrong_answer(format!("adding to {}: {status} {}", id(counter), answer.body))),
        };
        acknowledged.fetch_add(u64::from(is_added), Ordering::SeqCst);
        unsure.fetch_sub(1, Ordering::SeqCst);
        Ok(is_added)
    }

    /// Compares with what a restarted server says, and takes that for known from then on.
    pub fn settle(&self, client: &Client) -> Result<Vec<Fault>, Trouble> {
        let mut faults = Vec::new();
        for counter in 0..COUNTERS {
            let (_, count) = read(client, counter)?;
            faults.extend(self.compare(counter, count));
        }
        Ok(faults)
    }

    fn compare(&self, counter: usize, count: u64) -> Option<Fault> {
        let Counter { acknowledged, unsure } = &self.0[counter];
        let least = acknowledged.swap(count, Ordering::SeqCst);
        let most = least + unsure.swap(0, Ordering::SeqCst);
        let what = format!("it stands at {count}; {least} were acknowledged, {most} were sent");
        if count < least {
            return Some(Fault::Lost { id: id(counter), what });
        }
        (count > most).then(|| Fault::Duplicate { id: id(counter), what })
    }
}

/// Where a counter stands, and since which change.
fn read(client: &Client, counter: usize) -> Result<(u64, u64), Trouble> {
    let answer = client.get(&path(&format!("/documents/{}", id(counter))))?;
    match (answer.body["seqno"].as_u64(), answer.body["fields"]["count"].as_u64()) {
        (Some(seqno), Some(count)) => Ok((seqno, count)),
        _ if answer.status == 404 => Err(Trouble::Fault(Fault::Lost { id: id(counter), what: "it is not there".to_owned() })),
        _ => Err(Trouble::wrong_answer(format!("reading {}: {} {}", id(counter), answer.status, answer.body))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_increment_counts_once() {
        let told = |acknowledged: u64, unsure: u64, count| {
            let counters = Counters::default();
            counters.0[1].acknowledged.store(acknowledged, Ordering::SeqCst);
            counters.0[1].unsure.store(unsure, Ordering::SeqCst);
            let fault = counters.compare(1, count);
            assert_eq!(counters.compare(1, count), None, "what was found is known from then on");
            fault
        };
        for count in [5, 6, 7] {
            assert_eq!(told(5, 2, count), None);
        }
        assert!(matches!(told(5, 2, 4), Some(Fault::Lost { .. })));
        assert!(matches!(told(5, 2, 8), Some(Fault::Duplicate { .. })));
    }
}
