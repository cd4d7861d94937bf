//! A search that is ready to be carried out: checked, pinned, encoded.

use std::borrow::Cow;
use std::sync::Arc;

use super::PipelineError;
use super::request::QueryRequest;
use crate::adapter::{Adapter, AdapterError};
use crate::collection::{Collection, Found, LexicalQuery, Question, RetrieveRequest, Searcher};
use crate::rescore::{Feature, Scorer, Wanted};
use kindred_core::domain::{Attributes, DocumentId, Embedding, FieldId, Filter, Selection};

/// A search that is ready to be carried out.
#[derive(Debug)]
pub(super) struct Prepared {
    pub request: QueryRequest,
    pub checked: Checked,
    pub asked: Asked,
    /// Whether the query's embedding was mapped, or why not where there is a map that does not fit.
    pub adapted: Result<bool, AdapterError>,
}

/// A request whose every part has been checked against the searcher it pinned.
#[derive(Debug)]
pub(super) struct Checked {
    pub collection: Arc<Collection>,
    pub searcher: Arc<Searcher>,
    pub filter: Option<Arc<Filter>>,
    pub scorer: Scorer,
    pub adapter: Option<Arc<Adapter>>,
    /// What is read of the candidates.
    pub selection: Selection,
    pub candidates: usize,
    pub ef_search: usize,
    /// Why it looks less deep than the settings say.
    pub shallow: Option<String>,
    pub group_by: Option<(FieldId, usize)>,
    /// Whose values are counted.
    pub facets: Vec<FieldId>,
    /// Hits that the cross-encoder orders.
    pub n_cross_encoded: usize,
}

impl Checked {
    /// Asks with what the profile's adapter makes of the embedding. Returns whether there is one. A map for one model says nothing about the
    /// embeddings of another, which a generation may have come to be of.
    pub fn adapt(&self, by: &mut AskedBy) -> Result<bool, AdapterError> {
        let (Some(adapter), Some(embedding)) = (&self.adapter, by.embedding_mut()) else { return Ok(false) };
        let model = &self.searcher.description().model;
        adapter.check(&model.fingerprint, model.dims)?;
        *embedding = Arc::new(adapter.apply(embedding));
        Ok(true)
    }
}

/// What a query asks with.
#[derive(Debug)]
pub(super) struct Asked {
    pub by: AskedBy,
    pub wanted: Wanted,
    pub exclude: Option<DocumentId>,
    /// For the cross-encoder, where that is asked for.
    pub text: Option<String>,
}

/// What candidates are found by.
#[derive(Debug)]
pub(super) enum AskedBy {
    Meaning(Arc<Embedding>),
    Words(LexicalQuery),
    Both(Arc<Embedding>, LexicalQuery),
}

impl AskedBy {
    pub fn new(embedding: Arc<Embedding>, words: Option<LexicalQuery>) -> Self {
        match words {
            Some(words) => Self::Both(embedding, words),
            None => Self::Meaning(embedding),
        }
    }

    pub fn embedding(&self) -> Option<&Arc<Embedding>> {
        match self {
            Self::Meaning(embedding) | Self::Both(embedding, _) => Some(embedding),
            Self::Words(_) => None,
        }
    }

    fn embedding_mut(&mut self) -> Option<&mut Arc<Embedding>> {
        match self {
            Self::Meaning(embedding) | Self::Both(embedding, _) => Some(embedding),
            Self::Words(_) => None,
        }
    }

    pub fn words(&self) -> Option<&LexicalQuery> {
        match self {
            Self::Words(words) | Self::Both(_, words) => Some(words),
            Self::Meaning(_) => None,
        }
    }

    pub fn question(&self) -> Question<'_> {
        match self {
            Self::Meaning(embedding) => Question::Meaning(embedding),
            Self::Words(words) => Question::Words(words),
            Self::Both(embedding, words) => Question::Both(embedding, words),
        }
    }
}

impl Prepared {
    /// What is asked of retrieval.
    pub fn retrieve(&self) -> RetrieveRequest<'_> {
        RetrieveRequest {
            k: self.checked.candidates,
            ef_search: self.checked.ef_search,
            strategy: self.request.strategy,
            filter: self.checked.filter.as_deref(),
            exclude: self.asked.exclude.as_ref(),
            until: self.request.encoding.deadline,
        }
    }

    /// What is read of candidates to re-score them.
    pub fn attributes<'a>(&'a self, found: &[Found]) -> Result<Vec<Cow<'a, Attributes>>, PipelineError> {
        let selected = |found: &Found| self.checked.searcher.selected(&found.document, &self.checked.selection);
        Ok(found.iter().map(selected).collect::<Result<_, _>>()?)
    }

    /// What the query asks for, once it is known what the candidates are.
    pub fn wanted(&self, attributes: &[Cow<'_, Attributes>]) -> Cow<'_, Wanted> {
        // Words are weighed among all candidates: not for those who do not ask.
        match self.checked.scorer.uses(Feature::TextOverlap) {
            true => Cow::Owned(self.asked.wanted.weighed(attributes.iter().map(AsRef::as_ref))),
            false => Cow::Borrowed(&self.asked.wanted),
        }
    }
}
