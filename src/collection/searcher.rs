//! The immutable snapshot that a query pins: base + delta − tombstones.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::delta::{Delta, State};
use super::generation::Generation;
use super::{CollectionError, Contents, Description, Meaning};
use crate::domain::{Attributes, CollectionName, DocumentId, Embedding, Filter, GenerationId, Plan, SeqNo, StrategyChoice};
use crate::index::{Quantization, SearchRequest, dot};
use crate::wal::{Batch, Operation, StoredDocument};

/// A collection as it was after one change; it never changes.
#[derive(Debug)]
pub struct Searcher {
    description: Arc<Description>,
    meaning: Arc<Meaning>,
    base: Option<Arc<Generation>>,
    delta: Arc<Delta>,
    /// Rows of the base that the delta replaces or deletes.
    tombstones: RoaringBitmap,
    n_documents: u64,
    seqno: SeqNo,
}

/// What to retrieve.
#[derive(Debug, Clone, Copy)]
pub struct RetrieveRequest<'a> {
    /// How many candidates.
    pub k: usize,
    pub ef_search: usize,
    pub strategy: StrategyChoice,
    pub filter: Option<&'a Filter>,
    /// A document that is not an answer: the one that was asked with.
    pub exclude: Option<&'a DocumentId>,
}

/// A document of a searcher.
#[derive(Debug, Clone)]
pub enum FoundDocument {
    Base(u32),
    Delta(DocumentId, Arc<StoredDocument>),
}

/// A candidate of a searcher, with its full-precision dot product with the query.
#[derive(Debug, Clone)]
pub struct Found {
    pub document: FoundDocument,
    pub score: f32,
}

impl Searcher {
    pub(super) fn new(
        name: &CollectionName,
        description: Description,
        base: Option<Arc<Generation>>,
        delta: Arc<Delta>,
        seqno: SeqNo,
    ) -> Result<Self, CollectionError> {
        let meaning = Arc::new(Meaning::of(name, &description.definition)?);
        let mut searcher =
            Self { description: Arc::new(description), meaning, base, delta, tombstones: RoaringBitmap::new(), n_documents: 0, seqno };
        searcher.tombstones = searcher.replaced(searcher.delta.ids())?;
        searcher.count();
        Ok(searcher)
    }

    /// This snapshot after a batch, which replaces or deletes these rows of the base ([`Self::replaced_by`]).
    pub(super) fn with_batch(&self, batch: Batch, last: SeqNo, replaced: &RoaringBitmap) -> Self {
        let mut delta = Delta::clone(&self.delta);
        delta.apply(batch);
        let mut searcher = Self {
            description: Arc::clone(&self.description),
            meaning: Arc::clone(&self.meaning),
            base: self.base.clone(),
            delta: Arc::new(delta),
            tombstones: &self.tombstones | replaced,
            n_documents: 0,
            seqno: last,
        };
        searcher.count();
        searcher
    }

    /// The rows of the base that a batch replaces or deletes. It is asked before the log is written: a base whose ids cannot be
    /// read must not come to hold a document beside its successor.
    pub(super) fn replaced_by(&self, batch: &Batch) -> Result<RoaringBitmap, CollectionError> {
        self.replaced(batch.operations.iter().map(|operation| match operation {
            Operation::Upsert { id, .. } | Operation::Delete { id } => id,
        }))
    }

    /// This snapshot on a new base, without the changes that the base has.
    pub(super) fn with_base(&self, name: &CollectionName, base: Arc<Generation>) -> Result<Self, CollectionError> {
        let delta = Arc::new(self.delta.after(base.covered_seqno()));
        Self::new(name, base.description().clone(), Some(base), delta, self.seqno)
    }

    fn replaced<'a>(&self, ids: impl Iterator<Item = &'a DocumentId>) -> Result<RoaringBitmap, CollectionError> {
        let Some(base) = &self.base else { return Ok(RoaringBitmap::new()) };
        Ok(ids.filter_map(|id| base.ids.row(id.as_str()).transpose()).collect::<Result<_, _>>()?)
    }

    fn count(&mut self) {
        let base = self.base.as_ref().map_or(0, |b| u64::from(b.index.n_rows()));
        self.n_documents = base - self.tombstones.len() + self.delta.documents().count() as u64;
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

    /// Changed documents that are not in the generation yet.
    pub fn n_changes(&self) -> usize {
        self.delta.len()
    }

    /// Logged changes that are not in the generation yet; of one document there may be many.
    pub fn n_logged(&self) -> u64 {
        self.seqno.0 - self.base.as_ref().map_or(0, |b| b.covered_seqno().0)
    }

    /// The document with this id.
    ///
    /// # Errors
    /// [`CollectionError::Index`] when the ids are damaged: then nobody knows whether there is one.
    pub fn get(&self, id: &DocumentId) -> Result<Option<FoundDocument>, CollectionError> {
        match self.delta.get(id) {
            Some(State::Present(document)) => Ok(Some(FoundDocument::Delta(id.clone(), Arc::clone(document)))),
            Some(State::Deleted) => Ok(None),
            None => Ok(self.row_in_base(id)?.map(FoundDocument::Base)),
        }
    }

    fn row_in_base(&self, id: &DocumentId) -> Result<Option<u32>, CollectionError> {
        let Some(base) = &self.base else { return Ok(None) };
        Ok(base.ids.row(id.as_str())?)
    }

    /// The best candidates, best first: always as many as were asked for, or as there are matching documents.
    ///
    /// # Errors
    /// [`CollectionError::Index`] when the query does not fit, or the index is damaged.
    pub fn retrieve(&self, query: &Embedding, request: &RetrieveRequest<'_>) -> Result<(Vec<Found>, Plan), CollectionError> {
        let mut plan = Plan::new(0, 0, 1.0);
        let mut found = Vec::new();
        if let Some(base) = &self.base {
            let excluded = request.exclude.map(|id| self.row_in_base(id)).transpose()?.flatten();
            let mut deleted = Cow::Borrowed(&self.tombstones);
            if let Some(row) = excluded.filter(|row| !self.tombstones.contains(*row)) {
                deleted.to_mut().insert(row);
            }
            let search = SearchRequest {
                k: request.k,
                ef_search: request.ef_search,
                strategy: request.strategy,
                filter: request.filter,
                deleted: &deleted,
            };
            let from_base = base.index.search(query, &search)?;
            plan = from_base.plan;
            found.extend(from_base.candidates.into_iter().map(|c| Found { document: FoundDocument::Base(c.row), score: c.score }));
        }
        let from_delta = self
            .delta
            .documents()
            .filter(|(id, document)| Some(*id) != request.exclude && request.filter.is_none_or(|f| f.matches(&document.attributes)));
        let mut newer: Vec<_> = from_delta.map(|(id, document)| (dot(query.as_slice(), &document.embedding), id, document)).collect();
        plan.add_compared(newer.len() as u64, self.n_documents - plan.n_documents);
        // Only the best are copied and put in order: the delta may be large, and every query comes through here.
        if newer.len() > request.k {
            newer.select_nth_unstable_by(request.k, |a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
            newer.truncate(request.k);
        }
        let copied = newer
            .into_iter()
            .map(|(score, id, document)| Found { document: FoundDocument::Delta(id.clone(), Arc::clone(document)), score });
        found.extend(copied);
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.document.order(&b.document)));
        found.truncate(request.k);
        Ok((found, plan))
    }

    /// The id of a document of this snapshot.
    pub fn id(&self, document: &FoundDocument) -> Result<DocumentId, CollectionError> {
        match document {
            FoundDocument::Base(row) => self.base().document_id(*row),
            FoundDocument::Delta(id, _) => Ok(id.clone()),
        }
    }

    /// The typed values of a document of this snapshot.
    pub fn attributes<'a>(&self, document: &'a FoundDocument) -> Result<Cow<'a, Attributes>, CollectionError> {
        match document {
            FoundDocument::Base(row) => Ok(Cow::Owned(self.base().attributes(*row)?)),
            FoundDocument::Delta(_, document) => Ok(Cow::Borrowed(&document.attributes)),
        }
    }

    /// The fields of a document of this snapshot, as JSON text.
    pub fn fields<'a>(&'a self, document: &'a FoundDocument) -> Result<&'a str, CollectionError> {
        match document {
            FoundDocument::Base(row) => Ok(self.base().fields(*row)?),
            FoundDocument::Delta(_, document) => Ok(&document.fields),
        }
    }

    /// The embedding of a document of this snapshot: `[dims]`, unit length.
    pub fn embedding<'a>(&'a self, document: &'a FoundDocument) -> Result<Cow<'a, [f32]>, CollectionError> {
        match document {
            FoundDocument::Base(row) => Ok(self.base().index.vector(*row)?),
            FoundDocument::Delta(_, document) => Ok(Cow::Borrowed(&document.embedding)),
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
    /// order of their ids. Positions at which there is none give none.
    pub fn documents_at(&self, positions: &[u64]) -> Vec<FoundDocument> {
        let mut kept = RoaringBitmap::new();
        kept.insert_range(..self.base.as_ref().map_or(0, |b| b.index.n_rows()));
        kept -= &self.tombstones;
        let newer = self.newer();
        let at = |position: &u64| match position.checked_sub(kept.len()) {
            None => kept.select(*position as u32).map(FoundDocument::Base),
            Some(position) => newer.get(position as usize).cloned(),
        };
        positions.iter().filter_map(at).collect()
    }

    /// The documents of the delta, in the order of their ids.
    fn newer(&self) -> Vec<FoundDocument> {
        let mut newer: Vec<_> =
            self.delta.documents().map(|(id, document)| FoundDocument::Delta(id.clone(), Arc::clone(document))).collect();
        newer.sort_by(FoundDocument::order);
        newer
    }

    /// All documents, for a rebuild: those of the base in their order, then the newer ones in the order of their ids.
    ///
    /// # Errors
    /// [`CollectionError::Storage`] when a stored document is damaged.
    pub fn contents(&self) -> Result<Contents, CollectionError> {
        let n = self.n_documents as usize;
        let dims = self.description.model.dims;
        let mut contents = Contents {
            description: Description::clone(&self.description),
            ids: Vec::with_capacity(n),
            fields: Vec::with_capacity(n),
            attributes: Vec::with_capacity(n),
            vectors: Vec::with_capacity(n * dims),
        };
        let rows = self.base.as_ref().map_or(0, |b| b.index.n_rows());
        let kept = (0..rows).filter(|row| !self.tombstones.contains(*row)).map(FoundDocument::Base);
        for document in kept.chain(self.newer()) {
            contents.ids.push(self.id(&document)?);
            contents.fields.push(self.fields(&document)?.to_owned());
            contents.attributes.push(self.attributes(&document)?.into_owned());
            contents.vectors.extend_from_slice(&self.embedding(&document)?);
        }
        Ok(contents)
    }

    fn base(&self) -> &Generation {
        self.base.as_ref().expect("a row of the base is only handed out by a searcher that has one")
    }
}

impl FoundDocument {
    /// Base before delta, then by row or id: ties are always broken the same way.
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Base(a), Self::Base(b)) => a.cmp(b),
            (Self::Base(_), Self::Delta(..)) => Ordering::Less,
            (Self::Delta(..), Self::Base(_)) => Ordering::Greater,
            (Self::Delta(a, _), Self::Delta(b, _)) => a.cmp(b),
        }
    }
}
