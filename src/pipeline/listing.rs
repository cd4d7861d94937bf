//! LIST: stored documents without a query: by their ids, in pages, or counted.

use std::collections::HashSet;

use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::query::within;
use super::{Catalog, PipelineError, StoredDocument};
use crate::collection::{FoundDocument, FoundPage, Searcher};
use kindred_core::domain::{CollectionName, DocumentId, Embedding, Filter};

/// Most documents of a page.
pub const MAX_PAGE: usize = 10_000;
/// Most bytes of the fields and vectors of an answer with more than one document.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Which documents to list.
#[derive(Debug, Clone)]
pub struct PageRequest {
    pub collection: CollectionName,
    /// Read against the collection's schema here.
    pub filter: Option<Json>,
    /// Where the page begins, in the order of the ids' bytes.
    pub from: Option<DocumentId>,
    pub limit: usize,
    pub vectors: bool,
}

/// Documents in the order of their ids' bytes.
#[derive(Debug)]
pub struct Page {
    pub documents: Vec<StoredDocument>,
    /// Where the next page begins, if there is one.
    pub next: Option<DocumentId>,
}

impl Catalog {
    /// Returns the documents of these ids, each once, in the order of the ids; ids without a document are left out. Waits for the disk.
    ///
    /// # Errors
    /// [`PipelineError::AnswerTooLong`], [`PipelineError::Collection`].
    pub fn documents(&self, name: &CollectionName, ids: &[DocumentId], vectors: bool) -> Result<Vec<StoredDocument>, PipelineError> {
        within("ids", ids.len().max(1), MAX_PAGE)?;
        let searcher = self.searcher(name)?;
        let (mut documents, mut seen, mut room) = (Vec::new(), HashSet::new(), Room::default());
        for id in ids.iter().filter(|id| seen.insert(*id)) {
            if let Some(found) = searcher.get(id)? {
                let document = stored(&searcher, id.clone(), &found, vectors)?;
                if !room.takes(document.n_bytes()) {
                    return Err(PipelineError::AnswerTooLong { limit: MAX_ANSWER_BYTES });
                }
                documents.push(document);
            }
        }
        Ok(documents)
    }

    /// Returns the documents that match a filter, page by page. A page ends early where it would be too long. Waits for the disk.
    ///
    /// # Errors
    /// [`PipelineError::OutOfRange`], [`PipelineError::Filter`], [`PipelineError::Collection`].
    pub fn page(&self, request: &PageRequest) -> Result<Page, PipelineError> {
        within("limit", request.limit, MAX_PAGE)?;
        let searcher = self.searcher(&request.collection)?;
        let filter = filter(&searcher, request.filter.as_ref())?;
        let FoundPage { documents: found, next } = searcher.page(&filter, request.from.as_ref(), request.limit)?;
        let (mut documents, mut room) = (Vec::new(), Room::default());
        for (id, found) in found {
            let document = stored(&searcher, id, &found, request.vectors)?;
            if !room.takes(document.n_bytes()) {
                return Ok(Page { documents, next: Some(document.id) });
            }
            documents.push(document);
        }
        Ok(Page { documents, next })
    }

    /// How many documents match a filter. Waits for the disk.
    ///
    /// # Errors
    /// [`PipelineError::Filter`], [`PipelineError::Collection`].
    pub fn n_matching(&self, name: &CollectionName, filter: Option<&Json>) -> Result<u64, PipelineError> {
        let searcher = self.searcher(name)?;
        Ok(searcher.n_matching(&self::filter(&searcher, filter)?)?)
    }
}

impl StoredDocument {
    fn n_bytes(&self) -> usize {
        self.fields.get().len() + self.vector.as_ref().map_or(0, |vector| size_of_val(vector.as_slice()))
    }
}

/// The bytes that an answer has so far.
#[derive(Debug, Default)]
pub(super) struct Room(usize);

impl Room {
    /// Adds a document, unless the answer would be too long with it. The first one always fits.
    pub fn takes(&mut self, n_bytes: usize) -> bool {
        let fits = self.0 == 0 || self.0 + n_bytes <= MAX_ANSWER_BYTES;
        self.0 += n_bytes;
        fits
    }
}

fn filter(searcher: &Searcher, json: Option<&Json>) -> Result<Filter, PipelineError> {
    Ok(json.map(|json| Filter::parse(json, &searcher.meaning().schema)).transpose()?.unwrap_or_default())
}

/// A document as it is stored.
pub(super) fn stored(searcher: &Searcher, id: DocumentId, found: &FoundDocument, vectors: bool) -> Result<StoredDocument, PipelineError> {
    let fields = RawValue::from_string(searcher.fields(found)?.to_owned());
    let fields = fields.map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
    let vector = vectors.then(|| vector_of(searcher, found)).transpose()?;
    Ok(StoredDocument { id, seqno: searcher.seqno_of(found)?.0, fields, vector })
}

/// The embedding of a document, unit length; of several, their mean.
pub(super) fn vector_of(searcher: &Searcher, found: &FoundDocument) -> Result<Vec<f32>, PipelineError> {
    Ok(Embedding::mean(&searcher.embeddings(found)?, searcher.description().model.dims)?.into_vec())
}
