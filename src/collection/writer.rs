//! The one writer of a collection: a thread that makes waiting changes durable together, and then visible.
//!
//! Order: log, sync, delta, swap, acknowledge. User errors have been refused before. This thread decides what depends on other
//! changes (conditions, whether a document is new, whether the epoch is still the one that a write was checked in), because here
//! changes have an order.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use roaring::RoaringBitmap;

use super::{CollectionError, Searcher};
use crate::telemetry::metrics;
use crate::wal::{Batch, Operation, StoredDocument, WalError, WalWriter};
use kindred_core::domain::{CollectionName, DocumentId, Epoch, FeedPosition, Precondition, Refresh, SeqNo};

/// Requests that may wait; a further one is refused as busy.
const MAX_QUEUE: usize = 256;
/// Most requests that are committed together.
const MAX_GROUP: usize = 256;
/// Most bytes that are committed together, unless a single request has more. Far below the log's limit for a frame, because a group
/// that exceeded it would fail requests that are each small enough.
const MAX_GROUP_BYTES: usize = 16 << 20;

/// A change whose embedding has been computed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Upsert {
        id: DocumentId,
        document: StoredDocument,
        condition: Precondition,
    },
    Delete {
        id: DocumentId,
        condition: Precondition,
    },
    /// Delete a document that has expired, if this is still its last change.
    Expire {
        id: DocumentId,
        seqno: SeqNo,
    },
}

impl Change {
    pub(super) fn id(&self) -> &DocumentId {
        match self {
            Self::Upsert { id, .. } | Self::Delete { id, .. } | Self::Expire { id, .. } => id,
        }
    }

    fn estimated_bytes(&self) -> usize {
        match self {
            // Attributes repeat a part of the fields.
            Self::Upsert { document, .. } => 2 * document.fields.len() + size_of_val(document.embedding.as_slice()),
            Self::Delete { .. } | Self::Expire { .. } => size_of::<DocumentId>(),
        }
    }
}

/// Changes that are made together or not at all, except for those whose condition does not hold.
#[derive(Debug)]
pub struct Changes {
    pub changes: Vec<Change>,
    /// The epoch that they were checked in: see [`Searcher::epoch`].
    pub epoch: Epoch,
    /// Where the feeds stand that they came from.
    pub positions: Vec<FeedPosition>,
    pub refresh: Refresh,
}

impl Changes {
    /// Changes that were checked against a searcher, and embedded by its model.
    pub fn checked_in(searcher: &Searcher, changes: Vec<Change>) -> Self {
        Self { changes, epoch: searcher.epoch(), positions: Vec::new(), refresh: Refresh::default() }
    }

    /// Estimates the bytes that these changes take in the log.
    fn estimated_bytes(&self) -> usize {
        self.changes.iter().map(Change::estimated_bytes).sum()
    }

    fn has_upserts(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Upsert { .. }))
    }
}

/// What became of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    Created(SeqNo),
    Updated(SeqNo),
    Deleted(SeqNo),
    /// There was nothing to delete.
    NotFound,
    /// Its condition did not hold: the document's last change is another, or there is no such document.
    Conflict(Option<SeqNo>),
}

/// When what was logged becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Before it is acknowledged.
    Sync,
    /// Within moments: a killed process loses nothing, a power failure loses those moments.
    Async,
}

/// With `async` durability, an entry is synced this long after it was appended, even while others keep coming. Users are promised 100 ms,
/// a part of which is left for the sync itself and for the commit under way.
const SYNC_AFTER: Duration = Duration::from_millis(50);

type Reply = Result<(Vec<Applied>, SeqNo), CollectionError>;

#[derive(Debug)]
struct Request {
    changes: Changes,
    reply: SyncSender<Reply>,
}

/// What the writer's thread shares with activations.
#[derive(Debug)]
pub(super) struct Shared {
    pub name: CollectionName,
    pub searcher: ArcSwap<Searcher>,
    pub state: Mutex<State>,
    pub gate: UpsertGate,
}

/// What is needed to write; the thread that holds its lock may.
#[derive(Debug)]
pub(super) struct State {
    pub wal: WalWriter,
    pub next_seqno: SeqNo,
    pub durability: Durability,
    /// Set when the collection is deleted. Stale handles must not write into a new collection of the same name.
    pub closed: bool,
}

impl State {
    /// Continues the log in a new file for documents of an epoch, unless the current one is that already and is empty.
    pub fn rotate_log(&mut self, epoch: Epoch) -> Result<(), WalError> {
        self.wal.rotate(self.next_seqno, epoch)
    }
}

/// Holds back new upserts during the last moments of an activation, which embeds what was written meanwhile. Deletions pass.
#[derive(Debug, Default)]
pub(super) struct UpsertGate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

/// Opens the gate when it is dropped.
#[derive(Debug)]
pub(super) struct ClosedGate<'a>(&'a UpsertGate);

impl UpsertGate {
    pub fn close(&self) -> ClosedGate<'_> {
        *self.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        ClosedGate(self)
    }

    /// Waits until the gate is open. Blocks.
    fn wait(&self) {
        let is_closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(is_closed, |is_closed| *is_closed).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for ClosedGate<'_> {
    fn drop(&mut self) {
        *self.0.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.opened.notify_all();
    }
}

/// The handle of the thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(shared: Arc<Shared>) -> Result<Self, CollectionError> {
        let (queue, requests) = sync_channel(MAX_QUEUE);
        let name = format!("write-{}", shared.name);
        let thread = thread::Builder::new().name(name).spawn(move || shared.run(&requests));
        Ok(Self { queue: Some(queue), thread: Some(thread.map_err(|source| CollectionError::Threads { source })?) })
    }

    /// Hands changes to the thread and waits for the outcome. Blocks.
    pub fn apply(&self, shared: &Shared, changes: Changes) -> Reply {
        if changes.has_upserts() {
            shared.gate.wait();
        }
        let (reply, answer) = sync_channel(1);
        let queue = self.queue.as_ref().expect("the queue exists until the writer is dropped");
        match queue.try_send(Request { changes, reply }) {
            Ok(()) => answer.recv().unwrap_or(Err(CollectionError::WriterLost)),
            Err(TrySendError::Full(_)) => Err(CollectionError::Busy { waiting: MAX_QUEUE }),
            Err(TrySendError::Disconnected(_)) => Err(CollectionError::WriterLost),
        }
    }
}

impl Writer {
    /// True if the thread has ended, which only a panic does.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It ends after it has answered the queued requests. A panic has been logged where it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, requests: &Receiver<Request>) {
        let mut carried_over = None;
        loop {
            let first = match carried_over.take() {
                Some(request) => Ok(request),
                None => self.next_request(requests),
            };
            match first {
                Ok(first) => {
                    let group;
                    (group, carried_over) = gather(first, requests);
                    self.commit_or_poison(group);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
            if self.lock().wal.unsynced_since().is_some_and(|since| since.elapsed() >= SYNC_AFTER) {
                self.sync();
            }
        }
    }

    /// Waits for a request, at most until something has to be synced.
    fn next_request(&self, requests: &Receiver<Request>) -> Result<Request, RecvTimeoutError> {
        let unsynced_since = self.lock().wal.unsynced_since();
        match unsynced_since {
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(since) => requests.recv_timeout((since + SYNC_AFTER).saturating_duration_since(Instant::now())),
        }
    }

    fn sync(&self) {
        let mut state = self.lock();
        if state.wal.unsynced_since().is_some()
            && let Err(e) = state.wal.sync()
        {
            tracing::error!(collection = %self.name, error = %e, "the log could not be synced: recent writes may be lost in a power failure, and no more are accepted. Repair the disk and restart the server");
        }
    }

    /// Whether the log is poisoned, unless it is being written.
    pub fn try_is_poisoned(&self) -> Option<bool> {
        match self.state.try_lock() {
            Ok(state) => Some(state.wal.check().is_err()),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner().wal.check().is_err()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is followed by poisoning of the log: see `commit_or_poison`.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits a group. After a panic, it is unknown whether the log has a batch that the searcher lacks, so nothing more is written.
    fn commit_or_poison(&self, group: Vec<Request>) {
        // The searcher is replaced as a whole, and the log is not used any more.
        let committed = catch_unwind(AssertUnwindSafe(|| self.commit(group)));
        if committed.is_err() {
            self.lock().wal.poison();
            tracing::error!(collection = %self.name, "a write failed because of a bug in Kindred; no more are accepted until the server is restarted (searches go on). Please report it");
        }
    }

    /// Log, sync, delta, swap, acknowledge.
    fn commit(&self, group: Vec<Request>) {
        let mut state = self.lock();
        let before = self.searcher.load_full();
        let mut batch = Batch { first_seqno: state.next_seqno, operations: Vec::new(), positions: Vec::new() };
        let mut versions = HashMap::new();
        let mut accepted = Vec::with_capacity(group.len());
        for Request { changes, reply } in group {
            let settled = if state.closed {
                Err(self.deleted())
            } else if changes.epoch != before.epoch() {
                Err(CollectionError::EpochChanged { name: self.name.to_string() })
            } else {
                settle(&before, &mut batch, &mut versions, changes.changes)
            };
            match settled {
                Ok(applied) => {
                    batch.positions.extend(changes.positions);
                    accepted.push((applied, changes.refresh, reply));
                }
                Err(e) => answer(&reply, Err(e)),
            }
        }
        if batch.operations.is_empty() && batch.positions.is_empty() {
            let last = SeqNo(state.next_seqno.0 - 1);
            for (applied, _, reply) in accepted {
                answer(&reply, Ok((applied, last)));
            }
            return;
        }
        let replaced = match log(&mut state, &before, &batch) {
            Ok(replaced) => replaced,
            Err(e) => {
                let e = Arc::new(e);
                for (.., reply) in accepted {
                    answer(&reply, Err(CollectionError::Group(Arc::clone(&e))));
                }
                return;
            }
        };
        metrics::log_commit(accepted.len());
        let last = SeqNo(state.next_seqno.0 - 1);
        let (at_once, after_swap): (Vec<_>, Vec<_>) = accepted.into_iter().partition(|(_, refresh, _)| *refresh == Refresh::None);
        for (applied, _, reply) in at_once {
            answer(&reply, Ok((applied, last)));
        }
        self.searcher.store(Arc::new(before.with_batch(batch, last, &replaced)));
        for (applied, _, reply) in after_swap {
            answer(&reply, Ok((applied, last)));
        }
    }

    /// Commits changes on the caller's thread, without the queue and the gate.
    #[cfg(test)]
    pub fn apply_now(&self, changes: Changes) -> Reply {
        let (reply, answer) = sync_channel(1);
        self.commit_or_poison(vec![Request { changes, reply }]);
        answer.recv().unwrap_or(Err(CollectionError::WriterLost))
    }

    pub fn deleted(&self) -> CollectionError {
        CollectionError::Unknown { name: self.name.to_string(), known: Vec::new() }
    }
}

/// Collects requests that wait, up to the limits of a group. Returns the group, and the request that exceeded the limit of bytes.
fn gather(first: Request, requests: &Receiver<Request>) -> (Vec<Request>, Option<Request>) {
    let mut bytes = first.changes.estimated_bytes();
    let mut group = vec![first];
    while group.len() < MAX_GROUP
        && let Ok(request) = requests.try_recv()
    {
        bytes += request.changes.estimated_bytes();
        if bytes > MAX_GROUP_BYTES {
            return (group, Some(request));
        }
        group.push(request);
    }
    (group, None)
}

/// Appends a batch to the log. Returns the rows of the base that it replaces.
///
/// **Invariant:** the epoch of the log's file is that of the searcher. After an activation, the first write starts a new file.
fn log(state: &mut State, searcher: &Searcher, batch: &Batch) -> Result<RoaringBitmap, CollectionError> {
    let replaced = searcher.replaced_by(&batch.operations)?;
    if state.wal.epoch() != searcher.epoch() {
        state.rotate_log(searcher.epoch())?;
    }
    state.wal.append(batch, state.durability == Durability::Sync)?;
    state.next_seqno = batch.next_seqno();
    Ok(replaced)
}

/// Ignores the error if the caller has dropped its receiver.
fn answer(to: &SyncSender<Reply>, reply: Reply) {
    let _ = to.try_send(reply);
}

/// Decides on each change, given the previous ones of the batch, and adds those that are made to the batch.
fn settle(
    searcher: &Searcher,
    batch: &mut Batch,
    versions: &mut HashMap<DocumentId, Option<SeqNo>>,
    changes: Vec<Change>,
) -> Result<Vec<Applied>, CollectionError> {
    // What can fail comes first, so that a request is in the batch with all of its changes or not at all.
    let dims = searcher.description().model.dims;
    let mut expired = HashSet::new();
    for change in &changes {
        let id = change.id();
        if let Change::Upsert { document, .. } = change
            && (document.embedding.is_empty() || document.embedding.len() % dims != 0)
        {
            return Err(CollectionError::Dimensions { id: id.to_string(), actual: document.embedding.len(), dims });
        }
        if !versions.contains_key(id) {
            let found = searcher.get(id)?;
            versions.insert(id.clone(), found.map(|found| searcher.seqno_of(&found)).transpose()?);
        }
        if let Change::Expire { id, seqno } = change
            && searcher.is_expired_since(id, *seqno)?
        {
            expired.insert(id.clone());
        }
    }
    let holds = |condition: Precondition, version: Option<SeqNo>| match condition {
        Precondition::None => true,
        Precondition::CreateOnly => version.is_none(),
        Precondition::IfSeqno(seqno) => version == Some(seqno),
    };
    let one = |change: Change| {
        let version = versions.get_mut(change.id()).expect("it was looked up above");
        let seqno = SeqNo(batch.first_seqno.0 + batch.operations.len() as u64);
        match change {
            Change::Upsert { condition, .. } | Change::Delete { condition, .. } if !holds(condition, *version) => {
                Applied::Conflict(*version)
            }
            Change::Upsert { id, document, .. } => {
                batch.operations.push(Operation::Upsert { id, document });
                if version.replace(seqno).is_some() { Applied::Updated(seqno) } else { Applied::Created(seqno) }
            }
            Change::Delete { id, .. } if version.take().is_some() => {
                batch.operations.push(Operation::Delete { id });
                Applied::Deleted(seqno)
            }
            // One that was written again, here or before, is another one.
            Change::Expire { id, .. } if version.is_none() && expired.remove(&id) => {
                batch.operations.push(Operation::Delete { id });
                Applied::Deleted(seqno)
            }
            Change::Delete { .. } | Change::Expire { .. } => Applied::NotFound,
        }
    };
    Ok(changes.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use kindred_core::domain::{Attributes, TextHash};

    use super::*;

    fn request(n_bytes: usize) -> Request {
        let document = StoredDocument {
            fields: "x".repeat(n_bytes / 2),
            attributes: Attributes::default(),
            embedding: vec![1.0],
            text_hash: TextHash::of("x"),
        };
        let id = DocumentId::new("x").unwrap();
        let epoch = Epoch { model: [0; 16], chunking: [0; 16], definition: [0; 16] };
        let changes = vec![Change::Upsert { id, document, condition: Precondition::None }];
        Request { changes: Changes { changes, epoch, positions: Vec::new(), refresh: Refresh::Wait }, reply: sync_channel(1).0 }
    }

    #[test]
    fn a_group_is_bounded_by_bytes_and_loses_no_request() {
        let (queue, requests) = sync_channel(MAX_QUEUE);
        for n_bytes in [100, MAX_GROUP_BYTES / 2, MAX_GROUP_BYTES / 2, 3 * MAX_GROUP_BYTES, 100] {
            queue.try_send(request(n_bytes)).unwrap();
        }
        let mut sizes = Vec::new();
        let mut next = requests.try_recv().ok();
        while let Some(first) = next.take().or_else(|| requests.try_recv().ok()) {
            let group;
            (group, next) = gather(first, &requests);
            sizes.push(group.len());
        }
        assert_eq!(sizes, [2, 1, 1, 1], "a request that is too large for a group is one of its own");
    }

    #[test]
    fn a_group_is_bounded_by_number() {
        let (queue, requests) = sync_channel(2 * MAX_GROUP);
        (0..MAX_GROUP + 3).for_each(|_| queue.try_send(request(10)).unwrap());
        let (group, carried_over) = gather(requests.try_recv().unwrap(), &requests);
        assert!(group.len() == MAX_GROUP && carried_over.is_none());
    }

    #[test]
    fn a_closed_gate_holds_back_upserts_until_it_is_dropped() {
        let gate = UpsertGate::default();
        gate.wait();
        let closed = gate.close();
        thread::scope(|threads| {
            let waiting = threads.spawn(|| gate.wait());
            thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(closed);
        });
    }
}
