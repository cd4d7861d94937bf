//! Documents one after another, without a query: a part of them in the order of their ids, or their number.

use super::{CollectionError, FoundDocument, Searcher};
use kindred_core::domain::{DocumentId, Filter};
use kindred_index::FilterDeadline;

/// Documents in the order of their ids' bytes.
#[derive(Debug)]
pub struct FoundPage {
    pub documents: Vec<(DocumentId, FoundDocument)>,
    /// The id of the next one, where there is one.
    pub next: Option<DocumentId>,
}

impl Searcher {
    /// The first documents that match a filter, from an id on.
    ///
    /// # Errors
    /// [`CollectionError::Index`].
    pub fn page(&self, filter: &Filter, from: Option<&DocumentId>, limit: usize) -> Result<FoundPage, CollectionError> {
        let (now_us, deadline) = (self.clock.now_us(), FilterDeadline::start(None));
        // One more than asked for tells where the next page begins.
        let enough = limit.saturating_add(1);
        let mut documents = Vec::new();
        if let Some(base) = &self.base {
            let matching = self.matching_in_base(filter, now_us, deadline)?;
            let mut position = from.map_or(Ok(0), |id| base.ids.position(id.as_str()))?;
            while documents.len() < enough && position < base.ids.n_rows() {
                let row = base.ids.row_at(position)?;
                if matching.contains(row) {
                    documents.push((base.document_id(row)?, FoundDocument::Base(row)));
                }
                position += 1;
            }
        }
        let newer =
            self.delta.matching(filter, now_us, deadline)?.map(|row| (self.delta.document(row).id.clone(), FoundDocument::Delta(row)));
        documents.extend(newer.filter(|(id, _)| from.is_none_or(|from| id >= from)));
        documents.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        documents.truncate(enough);
        let next = (documents.len() > limit).then(|| documents.pop()).flatten().map(|(id, _)| id);
        Ok(FoundPage { documents, next })
    }

    /// How many documents match a filter.
    ///
    /// # Errors
    /// [`CollectionError::Index`].
    pub fn n_matching(&self, filter: &Filter) -> Result<u64, CollectionError> {
        let (now_us, deadline) = (self.clock.now_us(), FilterDeadline::start(None));
        let in_base = self.matching_in_base(filter, now_us, deadline)?.len();
        Ok(in_base + self.delta.matching(filter, now_us, deadline)?.count() as u64)
    }
}
