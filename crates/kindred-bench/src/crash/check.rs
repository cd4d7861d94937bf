//! Compares everything that a restarted server has with everything that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use super::counters::{self, COUNTERS, Counters};
use super::fault::Fault;
use super::ledger::Known;
use super::reading;
use super::shared::Trouble;
use super::writer::Writer;
use crate::client::Client;
use crate::corpus::drawn;
use kindred_core::domain::Choice;

/// More than there are documents, and as many as a search may return.
const ALL: usize = 1_000;
/// Documents that are searched for by their vectors.
const SAMPLE: usize = 12;

/// What a check finds.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub faults: Vec<Fault>,
    /// Requests under way at the kill that are there, and that are not.
    pub n_kept: u64,
    pub n_dropped: u64,
}

/// Checks everything.
///
/// # Errors
/// The server does not answer, or not as it must: nothing more can be said then.
pub(super) fn everything(
    client: &Client,
    writers: &mut [Writer],
    counters: &Counters,
    dims: usize,
    choice: &mut Choice,
) -> Result<Checked, Trouble> {
    let mut checked = Checked::default();
    for told in each_writer(client, writers)? {
        checked.faults.extend(told.faults);
        checked.n_kept += told.n_kept;
        checked.n_dropped += told.n_dropped;
    }
    checked.faults.extend(counters.settle(client)?);
    let there: BTreeMap<String, u64> =
        writers.iter().flat_map(|writer| writer.ledger.documents()).map(|(id, known)| (id.clone(), known.document.vector)).collect();
    let ids: BTreeSet<String> = there.keys().cloned().chain((0..COUNTERS).map(counters::id)).collect();
    let told = reading::n_documents(client)?;
    if told != ids.len() as u64 {
        checked.faults.push(miscounted(ids.len() as u64, told));
    }
    let any = drawn(choice.next_u64(), dims);
    checked.faults.extend(compare_all(&ids, &reading::search(client, &any, ALL, "exact")?, true));
    // A walk need not find all.
    checked.faults.extend(compare_all(&ids, &reading::search(client, &any, ALL, "graph")?, false));
    let mut sample: Vec<(&String, &u64)> = there.iter().collect();
    choice.shuffle(&mut sample);
    for (id, number) in sample.into_iter().take(SAMPLE) {
        let first = reading::search(client, &drawn(*number, dims), 1, "exact")?;
        if first.first() != Some(id) {
            checked.faults.push(Fault::Lost { id: id.clone(), what: format!("a search for its own vector finds {first:?}") });
        }
    }
    Ok(checked)
}

/// Reads every id there may be, by a thread for each writer.
fn each_writer(client: &Client, writers: &mut [Writer]) -> Result<Vec<Checked>, Trouble> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = writers.iter_mut().map(|writer| scope.spawn(|| one_writer(client, writer))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a check does not panic")).collect()
    })
}

fn one_writer(client: &Client, writer: &mut Writer) -> Result<Checked, Trouble> {
    let (mut found, mut faults): (BTreeMap<String, Known>, _) = (BTreeMap::new(), Vec::new());
    for id in writer.ids() {
        match reading::document(client, &id) {
            Ok(known) => found.extend(known.map(|known| (id, known))),
            Err(Trouble::Fault(fault)) => faults.push(fault),
            Err(e) => return Err(e),
        }
    }
    let (more, kept) = writer.ledger.settle(&found);
    faults.extend(more);
    Ok(Checked { faults, n_kept: u64::from(kept == Some(true)), n_dropped: u64::from(kept == Some(false)) })
}

fn miscounted(expected: u64, told: u64) -> Fault {
    let (id, what) = ("n_documents".to_owned(), format!("there are {expected} documents, the collection says {told}"));
    if told < expected { Fault::Lost { id, what } } else { Fault::Phantom { id, what } }
}

/// Holds the hits of a search for everything against what is there.
fn compare_all(there: &BTreeSet<String>, hits: &[String], finds_all: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for id in hits {
        if !seen.insert(id) {
            faults.push(Fault::Duplicate { id: id.clone(), what: "a search returns it twice".to_owned() });
        } else if !there.contains(id) {
            faults.push(Fault::Phantom { id: id.clone(), what: "a search returns it, and it is not there".to_owned() });
        }
    }
    let missing = there.iter().filter(|id| finds_all && !seen.contains(id));
    faults.extend(missing.map(|id| Fault::Lost { id: id.clone(), what: "a search for everything does not return it".to_owned() }));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_for_everything_returns_everything_once() {
        let there = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let kinds = |hits: &[&str], finds_all| {
            let hits: Vec<String> = hits.iter().map(ToString::to_string).collect();
            let kind = |fault: &Fault| fault.to_string().split(": ").take(2).collect::<Vec<_>>().join(" ");
            compare_all(&there, &hits, finds_all).iter().map(kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&["b", "a"], true), [""; 0]);
        assert_eq!(kinds(&["a"], false), [""; 0]);
        assert_eq!(kinds(&["a"], true), ["lost b"]);
        assert_eq!(kinds(&["a", "b", "a"], true), ["duplicate a"]);
        assert_eq!(kinds(&["a", "b", "c"], false), ["phantom c"]);
    }

    #[test]
    fn a_wrong_count_is_noticed_either_way() {
        assert!(matches!(miscounted(3, 2), Fault::Lost { .. }));
        assert!(matches!(miscounted(3, 4), Fault::Phantom { .. }));
    }
}
