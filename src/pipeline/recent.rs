//! The last searches of each collection, for measuring with: what they asked with, as numbers; no texts.
//!
//! *Concurrency*: one lock, held for a push or a copy of pointers. A search that finds it taken is not noted: it does not wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::collection::Collection;
use kindred_core::domain::{CollectionName, DocumentId, Embedding, Filter};

/// Searches that are kept of a collection.
const MAX_QUERIES: usize = 1_024;
/// Largest filter that is kept: a thousand as large as filters may be would take gigabytes.
const MAX_FILTER_BYTES: usize = 4_096;

/// What a search asked with.
#[derive(Debug, Clone)]
pub(super) struct RecentQuery {
    pub embedding: Arc<Embedding>,
    pub filter: Option<Arc<Filter>>,
    /// The document that was asked with, which is no answer.
    pub exclude: Option<DocumentId>,
}

/// The last searches by collection.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<BTreeMap<CollectionName, Ring>>);

#[derive(Debug)]
struct Ring {
    /// A collection that was deleted and made again is another one: the filters of the first mean nothing to it.
    of: Weak<Collection>,
    queries: VecDeque<Arc<RecentQuery>>,
}

impl Recent {
    /// Keeps a search, in place of the oldest.
    pub fn note(&self, collection: &Arc<Collection>, query: RecentQuery) {
        if query.filter.as_ref().is_some_and(|filter| filter.size_bytes() > MAX_FILTER_BYTES) {
            return;
        }
        let Ok(mut rings) = self.0.try_lock() else { return };
        if !rings.get(collection.name()).is_some_and(|ring| ring.is_of(collection)) {
            rings.retain(|_, ring| ring.of.strong_count() > 0);
            rings.insert(collection.name().clone(), Ring { of: Arc::downgrade(collection), queries: VecDeque::new() });
        }
        if let Some(ring) = rings.get_mut(collection.name()) {
            ring.queries.truncate(MAX_QUERIES - 1);
            ring.queries.push_front(Arc::new(query));
        }
    }

    /// The searches kept of a collection, newest first.
    pub fn of(&self, collection: &Arc<Collection>) -> Vec<Arc<RecentQuery>> {
        let rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = rings.get(collection.name()).filter(|ring| ring.is_of(collection));
        ring.map(|ring| ring.queries.iter().cloned().collect()).unwrap_or_default()
    }
}

impl Ring {
    fn is_of(&self, collection: &Arc<Collection>) -> bool {
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(collection))
    }
}
