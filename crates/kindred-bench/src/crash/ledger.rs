//! The oracle: what was acknowledged, and what may have become of the request that was under way when the server was killed.
//!
//! A writer has ids of its own and one request at a time, so for each of its ids there is one right answer, or two while a
//! request is under way: all of a chunk is there, or nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Document;
use super::fault::Fault;

/// Changes of a request that become durable together.
pub(super) const CHUNK: usize = 256;

/// A document and the change that it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub document: Document,
    pub seqno: u64,
}

/// What a request does to one document.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub id: String,
    /// `None`: it is deleted.
    pub after: Option<Document>,
}

/// What is under way.
#[derive(Debug)]
struct InFlight {
    changes: Vec<Change>,
    /// Whether it is durable in parts, chunk by chunk.
    in_chunks: bool,
}

/// A writer's view of its documents.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    known: BTreeMap<String, Known>,
    in_flight: Option<InFlight>,
}

impl Ledger {
    /// What is known of a document. Of one that a request under way changes: as it was before.
    pub fn get(&self, id: &str) -> Option<&Known> {
        self.known.get(id)
    }

    /// The documents that are there.
    pub fn documents(&self) -> impl Iterator<Item = (&String, &Known)> {
        self.known.iter()
    }

    /// A request is about to be sent.
    pub fn begin(&mut self, changes: Vec<Change>, in_chunks: bool) {
        assert!(self.in_flight.is_none(), "a writer has one request at a time");
        self.in_flight = Some(InFlight { changes, in_chunks });
    }

    /// The request was answered: all of it is durable. `seqnos` has one for each change.
    pub fn acknowledge(&mut self, seqnos: &[u64]) {
        let in_flight = self.in_flight.take().expect("an answer follows a request");
        for (change, seqno) in in_flight.changes.into_iter().zip(seqnos) {
            apply(&mut self.known, change, *seqno);
        }
    }

    /// The request was answered: it changed nothing.
    pub fn refuse(&mut self) {
        self.in_flight = None;
    }

    /// Compares with what a restarted server has of this writer's ids, and takes that for known from then on. Returns what is
    /// wrong, and what became of the request that was under way (`None` if none was).
    pub fn settle(&mut self, found: &BTreeMap<String, Known>) -> (Vec<Fault>, Option<bool>) {
        let Some(in_flight) = self.in_flight.take() else {
            let faults = compare(&self.known, found, &BTreeSet::new());
            self.known.clone_from(found);
            return (faults, None);
        };
        let chunk = if in_flight.in_chunks { CHUNK } else { in_flight.changes.len().max(1) };
        // Chunks become durable in their order, so any number of them may be there, beginning with the first.
        let (mut expected, mut unsure) = (self.known.clone(), BTreeSet::new());
        let mut best: Option<(Vec<Fault>, bool)> = None;
        let mut chunks = in_flight.changes.chunks(chunk);
        let mut is_kept = false;
        loop {
            let faults = compare(&expected, found, &unsure);
            if best.as_ref().is_none_or(|(fewest, _)| faults.len() < fewest.len()) {
                best = Some((faults, is_kept));
            }
            let Some(chunk) = chunks.next() else { break };
            for change in chunk {
                unsure.insert(change.id.as_str());
                apply(&mut expected, change.clone(), 0);
            }
            is_kept = true;
        }
        let (mut faults, is_kept) = best.expect("the loop compares at least once");
        if !faults.is_empty() && self.is_mixed(&in_flight.changes, found) {
            let ids: Vec<String> = faults.iter().map(ToString::to_string).collect();
            faults = vec![Fault::Torn {
                what: format!("a request of {} changes is there in part: {}", in_flight.changes.len(), ids.join("; ")),
            }];
        }
        self.known.clone_from(found);
        (faults, Some(is_kept))
    }

    /// Whether every document is right before or after the request: only that they do not belong together is wrong.
    fn is_mixed(&self, changes: &[Change], found: &BTreeMap<String, Known>) -> bool {
        let after: BTreeMap<&str, Option<&Document>> = changes.iter().map(|c| (c.id.as_str(), c.after.as_ref())).collect();
        let ids: BTreeSet<&String> = self.known.keys().chain(found.keys()).collect();
        ids.into_iter().all(|id| {
            let now = found.get(id);
            now == self.known.get(id) || after.get(id.as_str()).is_some_and(|after| *after == now.map(|known| &known.document))
        })
    }
}

fn apply(known: &mut BTreeMap<String, Known>, change: Change, seqno: u64) {
    match change.after {
        Some(document) => known.insert(change.id, Known { document, seqno }),
        None => known.remove(&change.id),
    };
}

/// What is wrong with `found`. Of documents in `unsure` nobody was told the seqno.
fn compare(expected: &BTreeMap<String, Known>, found: &BTreeMap<String, Known>, unsure: &BTreeSet<&str>) -> Vec<Fault> {
    let ids: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let fault = |id: &&String| difference(id, expected.get(*id), found.get(*id), !unsure.contains(id.as_str()));
    ids.iter().filter_map(fault).collect()
}

fn difference(id: &str, expected: Option<&Known>, found: Option<&Known>, seqno_counts: bool) -> Option<Fault> {
    let (id, lost) = (id.to_owned(), |id, what| Some(Fault::Lost { id, what }));
    match (expected, found) {
        (None, None) => None,
        (None, Some(found)) => Some(Fault::Phantom { id, what: format!("version {} is there, and should not be", found.document.version) }),
        (Some(expected), None) => lost(id, format!("version {} was acknowledged and is not there", expected.document.version)),
        (Some(expected), Some(found)) if expected.document != found.document => {
            let (old, new) = (expected.document.version, found.document.version);
            if new < old {
                return lost(id, format!("version {old} was acknowledged, version {new} is there"));
            }
            Some(Fault::Phantom { id, what: format!("expected {:?}, found {:?}", expected.document, found.document) })
        }
        (Some(expected), Some(found)) if seqno_counts && expected.seqno != found.seqno => {
            lost(id, format!("change {} was acknowledged, the same document is there as change {}", expected.seqno, found.seqno))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(version: u64) -> Document {
        Document { title: "t".into(), writer: "w".into(), tag: "a".into(), version, vector: version, note: None }
    }

    fn known(version: u64) -> Known {
        Known { document: document(version), seqno: version }
    }

    fn put(id: &str, version: u64) -> Change {
        Change { id: id.to_owned(), after: Some(document(version)) }
    }

    fn delete(id: &str) -> Change {
        Change { id: id.to_owned(), after: None }
    }

    fn found(documents: &[(&str, u64)]) -> BTreeMap<String, Known> {
        documents.iter().map(|(id, version)| ((*id).to_owned(), known(*version))).collect()
    }

    /// `a` was deleted, `b` stands at 2, `c` at 3.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.begin(vec![put("a", 1), put("b", 2), put("c", 3)], true);
        ledger.acknowledge(&[1, 2, 3]);
        ledger.begin(vec![delete("a")], true);
        ledger.acknowledge(&[4]);
        ledger
    }

    fn kinds(faults: &[Fault]) -> Vec<&'static str> {
        let kind = |fault: &Fault| match fault {
            Fault::Lost { .. } => "lost",
            Fault::Phantom { .. } => "phantom",
            Fault::Torn { .. } => "torn",
            _ => "other",
        };
        faults.iter().map(kind).collect()
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_nothing_else() {
        for (answer, expected) in [
            (&[("b", 2), ("c", 3)][..], &[][..]),
            (&[("b", 2)], &["lost"]),
            (&[("b", 1), ("c", 3)], &["lost"]),
            (&[("b", 9), ("c", 3)], &["phantom"]),
            (&[("a", 1), ("b", 2), ("c", 3)], &["phantom"]),
            (&[("b", 2), ("c", 3), ("new", 4)], &["phantom"]),
            (&[("a", 1)], &["phantom", "lost", "lost"]),
        ] {
            let (faults, kept) = ledger().settle(&found(answer));
            assert_eq!((kinds(&faults), kept), (expected.to_vec(), None), "{answer:?}");
        }
    }

    #[test]
    fn other_fields_and_another_seqno_are_noticed() {
        let mut answer = found(&[("b", 2), ("c", 3)]);
        answer.get_mut("b").unwrap().document.note = Some(7);
        assert_eq!(kinds(&ledger().settle(&answer).0), ["phantom"]);
        let mut answer = found(&[("b", 2), ("c", 3)]);
        answer.get_mut("c").unwrap().seqno = 8;
        assert_eq!(kinds(&ledger().settle(&answer).0), ["lost"]);
    }

    #[test]
    fn a_request_under_way_is_there_whole_or_not_at_all() {
        for (answer, expected, kept) in [
            (&[("b", 2), ("c", 3)][..], &[][..], Some(false)),
            (&[("a", 5), ("b", 6)], &[], Some(true)),
            (&[("a", 5), ("b", 6), ("c", 3)], &["torn"], Some(true)),
            (&[("b", 2)], &["torn"], Some(false)),
            (&[("a", 5), ("b", 7)], &["phantom"], Some(true)),
            (&[("c", 3)], &["lost"], Some(false)),
        ] {
            let mut ledger = ledger();
            ledger.begin(vec![put("a", 5), put("b", 6), delete("c")], true);
            let (faults, what) = ledger.settle(&found(answer));
            assert_eq!((kinds(&faults), what), (expected.to_vec(), kept), "{answer:?}");
        }
    }

    #[test]
    fn a_refused_request_leaves_nothing_behind() {
        let mut ledger = ledger();
        ledger.begin(vec![put("a", 5)], true);
        ledger.refuse();
        assert_eq!(kinds(&ledger.settle(&found(&[("a", 5), ("b", 2), ("c", 3)])).0), ["phantom"]);
    }

    #[test]
    fn a_large_request_is_there_by_chunks_in_their_order() {
        let ids: Vec<String> = (0..CHUNK + 10).map(|i| format!("{i:04}")).collect();
        let (first, second) = ids.split_at(CHUNK);
        let answer = |ids: &[String]| ids.iter().map(|id| (id.clone(), known(1))).collect::<BTreeMap<_, _>>();
        let settle = |answer, in_chunks| {
            let mut ledger = Ledger::default();
            ledger.begin(ids.iter().map(|id| put(id, 1)).collect(), in_chunks);
            ledger.settle(&answer)
        };
        for part in [&[][..], first, &ids] {
            assert_eq!(settle(answer(part), true).0, []);
        }
        for part in [second, &first[..9], &ids[..CHUNK + 1]] {
            assert_eq!(kinds(&settle(answer(part), true).0), ["torn"]);
        }
        assert_eq!(kinds(&settle(answer(first), false).0), ["torn"], "one frame is one frame");
    }

    #[test]
    fn what_was_found_is_known_from_then_on() {
        let mut ledger = ledger();
        ledger.begin(vec![put("a", 5)], true);
        assert_eq!(ledger.settle(&found(&[("a", 5), ("b", 2), ("c", 3)])), (vec![], Some(true)));
        assert_eq!(kinds(&ledger.settle(&found(&[("b", 2), ("c", 3)])).0), ["lost"]);
    }
}
