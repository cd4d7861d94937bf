//! The immutable snapshot that a query pins: base + delta − tombstones.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use roaring::RoaringBitmap;

use super::changes::LoggedChanges;
use super::delta::{Delta, Slot};
use super::generation::Generation;
use super::{CollectionError, Contents, Description, Meaning};
use crate::wal::{Batch, Operation};
use kindred_core::domain::{Attributes, Clock, CollectionName, DocumentId, Epoch, Filter, GenerationId, Selection, SeqNo, TextHash};
use kindred_index::{FilterDeadline, Quantization};

/// A collection as it was after one change; it never changes, but for documents that expire.
#[derive(Debug, Clone)]
pub struct Searcher {
    description: Arc<Description>,
    epoch: Epoch,
    meaning: Arc<Meaning>,
    pub(super) clock: Clock,
    pub(super) base: Option<Arc<Generation>>,
    pub(super) delta: Arc<Delta>,
    /// Rows of the base that the delta replaces or deletes.
    pub(super) tombstones: RoaringBitmap,
    /// The first of the base's rows that expire, earliest first, are tombstones: this many.
    n_swept: usize,
    /// Gathered by the first search after a document has expired. Shared by clones until they are changed.
    hidden: Arc<ArcSwapOption<Hidden>>,
    n_documents: u64,
    seqno: SeqNo,
}

/// The rows of the base that no search may find.
#[derive(Debug)]
struct Hidden {
    /// The first of the rows that expire: this many are among them.
    n_expired: usize,
    rows: RoaringBitmap,
}

/// A document of a searcher, by its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FoundDocument {
    Base(u32),
    Delta(u32),
}

impl Searcher {
    /// A searcher of a generation, or of no documents, without the changes since.
    pub(super) fn new(
        name: &CollectionName,
        description: Description,
        base: Option<Arc<Generation>>,
        clock: Clock,
    ) -> Result<Self, CollectionError> {
        let meaning = Arc::new(Meaning::of(name, &description.definition)?);
        let positions = base.as_ref().map(|base| base.positions().iter().cloned().collect()).unwrap_or_default();
        let mut searcher = Self {
            epoch: description.epoch(),
            delta: Arc::new(Delta::new(description.model.dims, &meaning, positions)),
            seqno: base.as_ref().map_or(SeqNo(0), |base| base.covered_seqno()),
            description: Arc::new(description),
            meaning,
            clock,
            base,
            tombstones: RoaringBitmap::new(),
            n_swept: 0,
            hidden: Arc::default(),
            n_documents: 0,
        };
        searcher.count();
        Ok(searcher)
    }

    /// Adds all changes that were read from the log.
    ///
    /// # Errors
    /// [`CollectionError::Foreign`] when one of them was made in another epoch. The searcher is of no use then.
    pub(super) fn catch_up(&mut self, changes: &mut LoggedChanges) -> Result<(), CollectionError> {
        let replaced = self.replaced(changes.ids())?;
        changes.drain_into(Arc::make_mut(&mut self.delta)).map_err(|id| CollectionError::Foreign { id: id.to_string() })?;
        self.tombstones |= replaced;
        self.seqno = changes.read_to();
        self.count();
        Ok(())
    }

    /// This snapshot after a batch, which replaces or deletes these rows of the base ([`Self::replaced_by`]).
    pub(super) fn with_batch(&self, batch: Batch, last: SeqNo, replaced: &RoaringBitmap) -> Self {
        let mut searcher = self.clone();
        Arc::make_mut(&mut searcher.delta).apply(batch);
        searcher.tombstones |= replaced;
        searcher.seqno = last;
        searcher.count();
        searcher
    }

    /// The rows of the base that operations replace or delete. It is asked before the log is written: a base whose ids cannot be
    /// read must not come to hold a document beside its successor.
    pub(super) fn replaced_by(&self, operations: &[Operation]) -> Result<RoaringBitmap, CollectionError> {
        self.replaced(operations.iter().map(|operation| match operation {
            Operation::Upsert { id, .. } | Operation::Delete { id } => id,
        }))
    }

    fn replaced<'a>(&self, ids: impl Iterator<Item = &'a DocumentId>) -> Result<RoaringBitmap, CollectionError> {
        let Some(base) = &self.base else { return Ok(RoaringBitmap::new()) };
        Ok(ids.filter_map(|id| base.ids.row(id.as_str()).transpose()).collect::<Result<_, _>>()?)
    }

    fn count(&mut self) {
        let base = self.base.as_ref().map_or(0, |b| u64::from(b.index.n_rows()));
        self.n_documents = base - self.tombstones.len() + self.delta.n_documents();
        self.hidden = Arc::default();
        // Stop at the first unreadable entry; searches report the error.
        while let Some(Ok((_, row))) = self.base.as_ref().filter(|base| self.n_swept < base.n_expiring()).map(|b| b.expiring(self.n_swept))
            && self.tombstones.contains(row)
        {
            self.n_swept += 1;
        }
    }

    /// Returns how many of the base's rows that expire are tombstones or have expired by a time. They are sorted by it, so that a few of them
    /// are read: one, as long as none has expired.
    fn n_expired(&self, now_us: i64) -> Result<usize, CollectionError> {
        let Some(base) = &self.base else { return Ok(0) };
        let (mut low, mut high) = (self.n_swept, base.n_expiring());
        if low == high || base.expiring(low)?.0 > now_us {
            return Ok(low);
        }
        while low < high {
            let middle = low.midpoint(high);
            if base.expiring(middle)?.0 <= now_us { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// Returns the rows of the base that no search may find: the tombstones, and the rows that have expired. They are gathered once for
    /// each document that expires, not for each search.
    pub(super) fn hidden_in_base(&self, now_us: i64) -> Result<Cow<'_, RoaringBitmap>, CollectionError> {
        let n_expired = self.n_expired(now_us)?;
        if n_expired == self.n_swept {
            return Ok(Cow::Borrowed(&self.tombstones));
        }
        if let Some(hidden) = self.hidden.load().as_ref().filter(|hidden| hidden.n_expired == n_expired) {
            return Ok(Cow::Owned(hidden.rows.clone()));
        }
        let mut rows = self.tombstones.clone();
        for position in self.n_swept..n_expired {
            rows.insert(self.base().expiring(position)?.1);
        }
        self.hidden.store(Some(Arc::new(Hidden { n_expired, rows: rows.clone() })));
        Ok(Cow::Owned(rows))
    }

    /// Returns up to `limit` documents that expired until a time and have not been deleted, with the seqnos of their last changes.
    pub(super) fn expired(&self, until_us: i64, limit: usize) -> Result<Vec<(DocumentId, SeqNo)>, CollectionError> {
        let mut documents = Vec::new();
        for position in self.n_swept..self.n_expired(until_us)? {
            let (_, row) = self.base().expiring(position)?;
            if documents.len() == limit {
                break;
            }
            if !self.tombstones.contains(row) {
                documents.push(FoundDocument::Base(row));
            }
        }
        let left = limit - documents.len();
        documents.extend(self.delta.expired(until_us).take(left).map(FoundDocument::Delta));
        documents.iter().map(|document| Ok((self.id(document)?, self.seqno_of(document)?))).collect()
    }

    /// Whether a document has expired and this is its last change.
    pub(super) fn is_expired_since(&self, id: &DocumentId, seqno: SeqNo) -> Result<bool, CollectionError> {
        let now_us = self.clock.now_us();
        let document = match self.delta.get(id) {
            Some(slot) => slot.row.filter(|row| self.delta.is_expired(*row, now_us)).map(FoundDocument::Delta),
            None => match self.row_in_base(id)? {
                Some(row) if self.is_expired_in_base(row, now_us)? => Some(FoundDocument::Base(row)),
                _ => None,
            },
        };
        Ok(document.map(|document| self.seqno_of(&document)).transpose()? == Some(seqno))
    }

    /// What the documents are: definition and model.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The checked definition.
    pub fn meaning(&self) -> &Meaning {
        &self.meaning
    }

    /// Number of the generation that this snapshot stands on; 0 before the first.
    pub fn generation(&self) -> GenerationId {
        self.base.as_ref().map_or(GenerationId(0), |b| b.id())
    }

    /// Number of the generation, if there is one.
    pub(super) fn base_id(&self) -> Option<GenerationId> {
        self.base.as_ref().map(|base| base.id())
    }

    /// The last change that the generation contains.
    pub(super) fn covered_seqno(&self) -> SeqNo {
        self.base.as_ref().map_or(SeqNo(0), |base| base.covered_seqno())
    }

    /// Returns the model and definition that all documents of this searcher were made with.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where feeds stand, by source.
    pub fn positions(&self) -> &BTreeMap<String, u64> {
        self.delta.positions()
    }

    /// When the generation was built, in microseconds since 1970.
    pub fn generation_created_at_us(&self) -> Option<i64> {
        self.base.as_ref().map(|b| b.created_at_us())
    }

    /// How exactly the generation stores vectors.
    pub fn quantization(&self) -> Option<Quantization> {
        self.base.as_ref().map(|b| b.index.quantization())
    }

    /// Name and size in bytes of the generation's files.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.base.iter().flat_map(|b| b.files().map(|(name, size)| (name.to_owned(), size))).collect()
    }

    /// The last change that this snapshot contains.
    pub fn seqno(&self) -> SeqNo {
        self.seqno
    }

    /// Documents that a search can find.
    pub fn n_documents(&self) -> u64 {
        self.n_documents
    }

    /// Embeddings of all documents, of replaced and deleted ones too.
    pub fn n_vectors(&self) -> u64 {
        self.base.as_ref().map_or(0, |base| u64::from(base.index.n_vectors())) + self.delta.n_vectors()
    }

    /// Changed documents that are not in the generation yet.
    pub fn n_changes(&self) -> usize {
        self.delta.len()
    }

    /// Logged changes that are not in the generation yet; of one document there may be many.
    pub fn n_logged(&self) -> u64 {
        self.seqno.0 - self.covered_seqno().0
    }

    /// The document with this id.
    ///
    /// # Errors
    /// [`CollectionError::Index`] when the ids are damaged: then nobody knows whether there is one.
    pub fn get(&self, id: &DocumentId) -> Result<Option<FoundDocument>, CollectionError> {
        let now_us = self.clock.now_us();
        match self.delta.get(id) {
            Some(Slot { row: Some(row), .. }) => Ok((!self.delta.is_expired(row, now_us)).then_some(FoundDocument::Delta(row))),
            Some(Slot { row: None, .. }) => Ok(None),
            None => {
                let Some(row) = self.row_in_base(id)? else { return Ok(None) };
                Ok((!self.is_expired_in_base(row, now_us)?).then_some(FoundDocument::Base(row)))
            }
        }
    }

    fn is_expired_in_base(&self, row: u32, now_us: i64) -> Result<bool, CollectionError> {
        let base = self.base();
        let Some(field) = self.meaning.expires_at().filter(|_| base.n_expiring() > 0) else { return Ok(false) };
        Ok(base.attributes(row)?.expires_at_us(Some(field)).is_some_and(|at_us| at_us <= now_us))
    }

    pub(super) fn row_in_base(&self, id: &DocumentId) -> Result<Option<u32>, CollectionError> {
        let Some(base) = &self.base else { return Ok(None) };
        Ok(base.ids.row(id.as_str())?)
    }

    /// Returns up to `limit` ids of documents that match a filter, with the seqnos of their last changes.
    ///
    /// # Errors
    /// [`CollectionError::Index`].
    pub fn ids_matching(&self, filter: &Filter, limit: usize) -> Result<Vec<(DocumentId, SeqNo)>, CollectionError> {
        let found = self.matching(filter, limit)?;
        found.iter().map(|document| Ok((self.id(document)?, self.seqno_of(document)?))).collect()
    }

    /// Some documents that match a filter.
    fn matching(&self, filter: &Filter, limit: usize) -> Result<Vec<FoundDocument>, CollectionError> {
        let (now_us, deadline) = (self.clock.now_us(), FilterDeadline::start(None));
        let mut found: Vec<_> = self.matching_in_base(filter, now_us, deadline)?.into_iter().take(limit).map(FoundDocument::Base).collect();
        let newer = self.delta.matching(filter, now_us, deadline)?;
        found.extend(newer.take(limit - found.len()).map(FoundDocument::Delta));
        Ok(found)
    }

    /// Rows of the base that match a filter and are still there.
    pub(super) fn matching_in_base(
        &self,
        filter: &Filter,
        now_us: i64,
        deadline: FilterDeadline,
    ) -> Result<RoaringBitmap, CollectionError> {
        let Some(base) = &self.base else { return Ok(RoaringBitmap::new()) };
        Ok(base.index.matching(Some(filter), &*self.hidden_in_base(now_us)?, deadline)?)
    }

    /// The id of a document of this snapshot.
    pub fn id(&self, document: &FoundDocument) -> Result<DocumentId, CollectionError> {
        match document {
            FoundDocument::Base(row) => self.base().document_id(*row),
            FoundDocument::Delta(row) => Ok(self.delta.document(*row).id.clone()),
        }
    }

    /// The seqno of the last change of a document of this snapshot.
    pub fn seqno_of(&self, document: &FoundDocument) -> Result<SeqNo, CollectionError> {
        match document {
            FoundDocument::Base(row) => Ok(self.base().seqno(*row)?),
            FoundDocument::Delta(row) => Ok(self.delta.document(*row).seqno),
        }
    }

    /// The typed values of a document of this snapshot.
    pub fn attributes(&self, document: &FoundDocument) -> Result<Cow<'_, Attributes>, CollectionError> {
        match document {
            FoundDocument::Base(row) => Ok(Cow::Owned(self.base().attributes(*row)?)),
            FoundDocument::Delta(row) => Ok(Cow::Borrowed(&self.delta.document(*row).attributes)),
        }
    }

    /// The typed values of a document of this snapshot: at least those that are selected.
    pub fn selected(&self, document: &FoundDocument, selection: &Selection) -> Result<Cow<'_, Attributes>, CollectionError> {
        match document {
            FoundDocument::Base(row) => Ok(Cow::Owned(self.base().selected(*row, selection)?)),
            FoundDocument::Delta(row) => Ok(Cow::Borrowed(&self.delta.document(*row).attributes)),
        }
    }

    /// The fields of a document of this snapshot, as JSON text.
    pub fn fields(&self, document: &FoundDocument) -> Result<&str, CollectionError> {
        match document {
            FoundDocument::Base(row) => Ok(self.base().fields(*row)?),
            FoundDocument::Delta(row) => Ok(&self.delta.document(*row).fields),
        }
    }

    /// Returns the hash of the source of a document's embedding.
    pub fn text_hash(&self, document: &FoundDocument) -> Result<TextHash, CollectionError> {
        match document {
            FoundDocument::Base(row) => Ok(self.base().text_hash(*row)?),
            FoundDocument::Delta(row) => Ok(self.delta.document(*row).text_hash),
        }
    }

    /// The embeddings of a document of this snapshot, one for each chunk of its text: `[chunks × dims]`, unit length.
    pub fn embeddings(&self, document: &FoundDocument) -> Result<Cow<'_, [f32]>, CollectionError> {
        match document {
            FoundDocument::Base(row) => Ok(self.base().index.vectors(*row)?),
            FoundDocument::Delta(row) => Ok(Cow::Borrowed(self.delta.embeddings(*row))),
        }
    }

    /// Checks every byte of the generation. What has come since then was checked when it was read from the log.
    ///
    /// # Errors
    /// [`CollectionError::Index`] and [`CollectionError::Storage`] name the file that is damaged, and where.
    pub fn verify(&self) -> Result<(), CollectionError> {
        self.base.as_ref().map_or(Ok(()), |base| base.verify())
    }

    /// The documents at positions below [`Self::n_documents`]: those of the base in their order, then the newer ones in the
    /// order of their changes. Positions at which there is none give none.
    pub fn documents_at(&self, positions: &[u64]) -> Vec<FoundDocument> {
        let kept = self.kept();
        let newer: Vec<u32> = self.delta.rows().collect();
        let at = |position: &u64| match position.checked_sub(kept.len()) {
            None => kept.select(*position as u32).map(FoundDocument::Base),
            Some(position) => newer.get(position as usize).copied().map(FoundDocument::Delta),
        };
        positions.iter().filter_map(at).collect()
    }

    /// Rows of the base that are no tombstones.
    fn kept(&self) -> RoaringBitmap {
        let mut kept = RoaringBitmap::new();
        kept.insert_range(..self.base.as_ref().map_or(0, |b| b.index.n_rows()));
        kept -= &self.tombstones;
        kept
    }

    /// All documents, for a rebuild: those of the base in their order, then the newer ones in the order of their changes.
    ///
    /// # Errors
    /// [`CollectionError::Storage`] when a stored document is damaged.
    pub fn contents(&self) -> Result<Contents, CollectionError> {
        let n = self.n_documents as usize;
        let dims = self.description.model.dims;
        let mut contents = Contents {
            description: Description::clone(&self.description),
            ids: Vec::with_capacity(n),
            seqnos: Vec::with_capacity(n),
            fields: Vec::with_capacity(n),
            attributes: Vec::with_capacity(n),
            text_hashes: Vec::with_capacity(n),
            vectors: Vec::with_capacity(n * dims),
            n_chunks: Vec::with_capacity(n),
            positions: self.positions().iter().map(|(source, next)| (source.clone(), *next)).collect(),
        };
        for document in self.kept().iter().map(FoundDocument::Base).chain(self.delta.rows().map(FoundDocument::Delta)) {
            contents.ids.push(self.id(&document)?);
            contents.seqnos.push(self.seqno_of(&document)?);
            contents.fields.push(self.fields(&document)?.to_owned());
            contents.attributes.push(self.attributes(&document)?.into_owned());
            contents.text_hashes.push(self.text_hash(&document)?);
            let embeddings = self.embeddings(&document)?;
            contents.vectors.extend_from_slice(&embeddings);
            contents.n_chunks.push((embeddings.len() / dims) as u32);
        }
        Ok(contents)
    }

    pub(super) fn base(&self) -> &Generation {
        self.base.as_ref().expect("a row of the base is only handed out by a searcher that has one")
    }
}

impl FoundDocument {
    /// Base before delta, then by row or id: ties are always broken the same way.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Base(a), Self::Base(b)) => a.cmp(b),
            (Self::Base(_), Self::Delta(_)) => Ordering::Less,
            (Self::Delta(_), Self::Base(_)) => Ordering::Greater,
            (Self::Delta(a), Self::Delta(b)) => a.cmp(b),
        }
    }
}
