//! LIST: stored documents without a query: by their ids, in pages, or counted.

use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::query::within;
use super::{Catalog, PipelineError, StoredDocument};
use crate::collection::{FoundDocument, FoundPage, Searcher};
use kindred_core::domain::{CollectionName, DocumentId, Embedding, Filter};

/// Most documents of a page.
pub const MAX_PAGE: usize = 10_000;

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
    /// The documents of these ids, in their order; those that are not there are left out. Waits for the disk.
    ///
    /// # Errors
    /// [`PipelineError::Collection`].
    pub fn documents(&self, name: &CollectionName, ids: &[DocumentId], vectors: bool) -> Result<Vec<StoredDocument>, PipelineError> {
        within("ids", ids.len().max(1), MAX_PAGE)?;
        let searcher = self.searcher(name)?;
        let mut documents = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(found) = searcher.get(id)? {
                documents.push(stored(&searcher, id.clone(), &found, vectors)?);
            }
        }
        Ok(documents)
    }

    /// The documents that match a filter, page by page. Waits for the disk.
    ///
    /// # Errors
    /// [`PipelineError::OutOfRange`], [`PipelineError::Filter`], [`PipelineError::Collection`].
    pub fn page(&self, request: &PageRequest) -> Result<Page, PipelineError> {
        within("limit", request.limit, MAX_PAGE)?;
        let searcher = self.searcher(&request.collection)?;
        let filter = filter(&searcher, request.filter.as_ref())?;
        let FoundPage { documents: found, next } = searcher.page(&filter, request.from.as_ref(), request.limit)?;
        let documents = found.into_iter().map(|(id, found)| stored(&searcher, id, &found, request.vectors)).collect::<Result<_, _>>()?;
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
