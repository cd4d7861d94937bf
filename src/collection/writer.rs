//! The one writer of a collection: a thread that makes waiting changes durable together, and then visible.
//!
//! Order: log, sync, delta, swap, acknowledge. Everything a user can get wrong has been refused before; what depends on other
//! changes (conditions, whether a document is new) is settled here, where changes have an order.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{CollectionError, Searcher};
use crate::telemetry::metrics;
use crate::wal::{Batch, Entry, Operation, StoredDocument, WalWriter};
use kindred_core::domain::{CollectionName, DocumentId, FeedPosition, ModelTag, Precondition, Refresh, SeqNo};

/// Requests that may wait.
const MAX_QUEUE: usize = 256;
/// Requests that are committed together at most.
const MAX_GROUP: usize = 256;

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
    fn id(&self) -> &DocumentId {
        match self {
            Self::Upsert { id, .. } | Self::Delete { id, .. } | Self::Expire { id, .. } => id,
        }
    }
}

/// Changes that are made together or not at all, but for those whose condition does not hold.
#[derive(Debug, Default)]
pub struct Changes {
    pub changes: Vec<Change>,
    /// The model of their embeddings; `None` if there are none.
    pub model: Option<ModelTag>,
    /// Where the feeds stand that they came from.
    pub positions: Vec<FeedPosition>,
    pub refresh: Refresh,
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

/// How long what is not durable yet may stay so.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);

type Reply = Result<(Vec<Applied>, SeqNo), CollectionError>;

struct Request {
    changes: Changes,
    reply: SyncSender<Reply>,
}

/// What the thread and those who publish generations share.
#[derive(Debug)]
pub(super) struct Shared {
    pub name: CollectionName,
    pub searcher: ArcSwap<Searcher>,
    pub state: Mutex<State>,
}

/// Whoever holds it writes.
#[derive(Debug)]
pub(super) struct State {
    pub wal: WalWriter,
    pub next_seqno: SeqNo,
    pub durability: Durability,
    /// The collection has been deleted: whoever still holds it must not write to what may come in its place.
    pub closed: bool,
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

    /// Hands changes to the thread and waits for what becomes of them.
    pub fn apply(&self, changes: Changes) -> Reply {
        let (reply, answer) = sync_channel(1);
        let queue = self.queue.as_ref().expect("the queue is there until the writer is dropped");
        match queue.try_send(Request { changes, reply }) {
            Ok(()) => answer.recv().unwrap_or(Err(CollectionError::WriterLost)),
            Err(TrySendError::Full(_)) => Err(CollectionError::Busy { waiting: MAX_QUEUE }),
            Err(TrySendError::Disconnected(_)) => Err(CollectionError::WriterLost),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It ends when it has answered what is in the queue; its panic has been told by the panic itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, requests: &Receiver<Request>) {
        loop {
            // Blocks while everything is durable, and else until it is time to make it so.
            let is_unsynced = self.lock().wal.is_unsynced();
            let first = if is_unsynced {
                requests.recv_timeout(SYNC_INTERVAL)
            } else {
                requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match first {
                Ok(first) => {
                    let mut group = vec![first];
                    group.extend(requests.try_iter().take(MAX_GROUP - 1));
                    self.commit(group);
                }
                Err(end) => {
                    let synced = self.lock().wal.sync();
                    if let Err(e) = synced {
                        tracing::error!(collection = %self.name, error = %e, "the log could not be made durable");
                    }
                    if end == RecvTimeoutError::Disconnected {
                        return;
                    }
                }
            }
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves the log poisoned or the searcher unswapped, never half-applied: going on is safe.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Log, sync, delta, swap, acknowledge.
    fn commit(&self, group: Vec<Request>) {
        let mut state = self.lock();
        let before = self.searcher.load_full();
        let mut batch = Batch { first_seqno: state.next_seqno, operations: Vec::new(), positions: Vec::new() };
        let mut versions = HashMap::new();
        let mut waiting = Vec::with_capacity(group.len());
        for Request { changes, reply } in group {
            let settled = if state.closed {
                Err(self.gone())
            } else if changes.model.is_some_and(|model| model != before.tag()) {
                Err(CollectionError::ModelChanged { name: self.name.to_string() })
            } else {
                settle(&before, &mut batch, &mut versions, changes.changes)
            };
            match settled {
                Ok(applied) => {
                    batch.positions.extend(changes.positions);
                    waiting.push((applied, changes.refresh, reply));
                }
                Err(e) => answer(&reply, Err(e)),
            }
        }
        let mut last = SeqNo(state.next_seqno.0 - 1);
        if !batch.operations.is_empty() || !batch.positions.is_empty() {
            let next_seqno = batch.next_seqno();
            let replaced = before.replaced_by(&batch.operations);
            let entry = Entry::Changes(batch);
            let is_durable = state.durability == Durability::Sync;
            let logged = replaced.and_then(|replaced| Ok(state.wal.append(&entry, is_durable).map(|()| replaced)?));
            let replaced = match logged {
                Ok(replaced) => replaced,
                Err(e) => {
                    let e = Arc::new(e);
                    return waiting.iter().for_each(|(.., reply)| answer(reply, Err(CollectionError::Group(Arc::clone(&e)))));
                }
            };
            let Entry::Changes(batch) = entry else { unreachable!("it was made of a batch") };
            metrics::log_commit(waiting.len());
            state.next_seqno = next_seqno;
            last = SeqNo(next_seqno.0 - 1);
            waiting.retain_mut(|(applied, refresh, reply)| {
                let waits = *refresh == Refresh::Wait;
                if !waits {
                    answer(reply, Ok((std::mem::take(applied), last)));
                }
                waits
            });
            self.searcher.store(Arc::new(before.with_batch(batch, last, &replaced)));
        }
        for (applied, _, reply) in waiting {
            answer(&reply, Ok((applied, last)));
        }
    }

    pub fn gone(&self) -> CollectionError {
        CollectionError::Unknown { name: self.name.to_string(), known: "it has been deleted".to_owned() }
    }
}

/// Whoever asked may have gone.
fn answer(to: &SyncSender<Reply>, reply: Reply) {
    let _ = to.try_send(reply);
}

/// Decides on each change, with those before it in the batch, and adds those that are made to the batch.
fn settle(
    searcher: &Searcher,
    batch: &mut Batch,
    versions: &mut HashMap<DocumentId, Option<SeqNo>>,
    changes: Vec<Change>,
) -> Result<Vec<Applied>, CollectionError> {
    // What can fail comes first: a request is in the batch with all of its changes or not at all.
    let mut expired = HashSet::new();
    for change in &changes {
        let id = change.id();
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
