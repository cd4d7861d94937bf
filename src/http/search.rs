//! Searches: by text, by vector, by document, and across collections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::Services;
use super::answer;
use super::body::JsonBody;
use super::collections::{Named, existing};
use super::error::{ApiError, ErrorBody};
use super::path::PathParts;
use crate::pipeline::{CrossEncode, GroupBy, PipelineError, Placement, ProfileChoice, Query, QueryOptions, QueryRequest, QueryResponse};
use kindred_core::domain::{CollectionName, DocumentId, Retrieval, StrategyChoice};
use kindred_core::error::ErrorKind;

fn default_limit() -> usize {
    10
}

fn yes() -> bool {
    true
}

/// What to look for: exactly one of these.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object such as {\"text\": \"night nurse\"}")]
#[schema(example = json!({"text": "keep patients safe as a nurse on night shift"}))]
pub struct QueryBody {
    text: Option<String>,
    /// As many numbers as the model has dimensions; any length but zero.
    vector: Option<Vec<f32>>,
    /// A document: of the same collection, or of `collection`.
    id: Option<Id>,
    /// The collection of the document to ask with, where that is another.
    #[schema(value_type = Option<String>)]
    collection: Option<Named>,
}

/// Whether the cross-encoder orders the best hits, and how.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected true, false, or an object such as {\"candidates\": 50, \"timeout_ms\": 200}")]
pub enum CrossEncodeBody {
    /// By the configured defaults, or not at all.
    Switch(bool),
    Stage(CrossEncodeOptions),
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossEncodeOptions {
    /// So many of the best hits are ordered.
    candidates: Option<usize>,
    /// If it takes longer than this the hits stay as they are, and `degraded` says so.
    timeout_ms: Option<u64>,
    /// How much it counts beside the score of the re-scoring, 0 to 1 (1).
    weight: Option<f64>,
}

impl CrossEncodeBody {
    fn read(self) -> Option<CrossEncode> {
        match self {
            Self::Switch(wanted) => wanted.then(CrossEncode::default),
            Self::Stage(CrossEncodeOptions { candidates, timeout_ms, weight }) => {
                Some(CrossEncode { candidates, timeout: timeout_ms.map(Duration::from_millis), weight })
            }
        }
    }
}

/// Bodies that ask for a search: some keys of their own, and all that searches have in common.
macro_rules! search_bodies {
    ($($(#[$meta:meta])* $name:ident { $($(#[$own_meta:meta])* $own:ident: $type:ty,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Debug, Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$own_meta])* $own: $type,)+
            /// `{"must": […], "should": […], "must_not": […]}` of conditions on indexed fields.
            #[schema(value_type = Option<Object>)]
            filter: Option<Value>,
            /// Hits to return.
            #[serde(default = "default_limit")]
            limit: usize,
            /// What candidates are found by: `dense` (meaning), `lexical` (words: BM25) or `hybrid` (both). A document asks by meaning where it is left out.
            retrieval: Option<Retrieval>,
            /// Candidates to re-score.
            candidates: Option<usize>,
            /// Width of the graph's beam.
            ef_search: Option<usize>,
            /// Walk the graph, compare with every matching document, or whichever costs less.
            #[serde(default)]
            strategy: StrategyChoice,
            /// What gives candidates their scores: the name of a profile, or weights of features.
            profile: Option<ProfileBody>,
            /// Names of the fields to return; all without it.
            fields: Option<Vec<String>>,
            /// Keywords and bools whose most frequent values are counted, among all that match.
            #[serde(default)]
            facets: Vec<String>,
            /// Tell each score's terms.
            #[serde(default)]
            explain: bool,
            /// One hit of each value of a keyword, or so many: `"company"`, or `{"field": "company", "size": 2}`.
            group_by: Option<GroupByBody>,
            /// How much hits should differ from each other, 0 to 1 (maximal marginal relevance).
            #[serde(default)]
            diversity: f64,
            /// Of each of the first 20 hits, so many phrases of its text that are nearest to the query, at most 10.
            #[serde(default)]
            phrases: usize,
            /// Order the best hits by the cross-encoder: `true`, or `{"candidates": 50, "timeout_ms": 200}`.
            cross_encode: Option<CrossEncodeBody>,
            /// Whether the text's embedding may be one that was made for an earlier query.
            #[serde(default = "yes")]
            cache: bool,
            /// After so many milliseconds the answer is of no use: a query that would wait longer for the encoder is refused with 429, and where
            /// documents are compared one by one (`exact`, narrow filters), those whose turn has not come by then are left out, which `plan.coverage` and
            /// `degraded` tell.
            timeout_ms: Option<u64>,
        }
    )+ };
}

/// The search that such a body asks for.
macro_rules! request {
    ($body:ident, $collection:expr, $query:expr) => {{
        // A time beyond all clocks is none.
        let deadline = $body.timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        QueryRequest {
            collection: $collection,
            query: $query,
            filter: $body.filter,
            limit: $body.limit,
            retrieval: $body.retrieval,
            candidates: $body.candidates,
            ef_search: $body.ef_search,
            strategy: $body.strategy,
            profile: $body.profile.map(ProfileBody::choice),
            fields: $body.fields,
            facets: $body.facets,
            explain: $body.explain,
            vectors: false,
            group_by: $body.group_by.map(GroupByBody::read),
            diversity: $body.diversity,
            cross_encode: $body.cross_encode.and_then(CrossEncodeBody::read),
            phrases: $body.phrases,
            encoding: QueryOptions { deadline, skip_cache: !$body.cache },
        }
    }};
}

search_bodies! {
    /// A search in one collection.
    SearchBody {
        query: QueryBody,
    }

    /// A search, and a document that may or may not be in its answer.
    ExplainBody {
        query: QueryBody,
        /// The document's.
        id: Id,
    }

    /// A search with a document: jobs for a member, members for a job, similar jobs.
    MatchBody {
        from: From,
        /// The collection to search.
        #[schema(value_type = String)]
        to: Named,
    }
}

/// What gives candidates their scores.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(
    untagged,
    expecting = "expected the name of a profile, {\"weights\": {\"dot\": 1, \"recency\": 0.1}}, or {\"formula\": {\"sum\": [\"$score\", …]}}"
)]
pub enum ProfileBody {
    Name(String),
    /// `weights` of features by their names, or a `formula` with `defaults`; also an `adapter`.
    Inline(serde_json::Map<String, Value>),
}

impl ProfileBody {
    fn choice(self) -> ProfileChoice {
        match self {
            Self::Name(name) => ProfileChoice::Named(name),
            Self::Inline(written) => ProfileChoice::Inline(Value::Object(written)),
        }
    }
}

/// What hits are grouped by.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected the name of a keyword field, or {\"field\": \"company\", \"size\": 2}")]
pub enum GroupByBody {
    Field(String),
    Sized(SizedGroups),
}

/// So many hits of each value.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SizedGroups {
    field: String,
    size: usize,
}

impl GroupByBody {
    fn read(self) -> GroupBy {
        match self {
            Self::Field(field) => GroupBy { field, size: 1 },
            Self::Sized(SizedGroups { field, size }) => GroupBy { field, size },
        }
    }
}

/// An id as it may be written: a string, or a whole number that stands for its digits.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected a string or a whole number")]
pub enum Id {
    Text(String),
    Number(i64),
}

impl Id {
    pub(super) fn check(self, field: &str) -> Result<DocumentId, ApiError> {
        let text = match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        };
        DocumentId::new(text).map_err(|e| ApiError::from(e).about(field))
    }
}

/// A document to start from.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object such as {\"collection\": \"members\", \"id\": \"m7\"}")]
pub struct From {
    #[schema(value_type = String)]
    collection: Named,
    id: Id,
}

/// Find documents by meaning.
#[utoipa::path(post, path = "/v1/collections/{collection}/search", request_body = SearchBody,
    responses((status = 200, body = QueryResponse), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn search(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
    JsonBody(body): JsonBody<SearchBody>,
) -> Result<Response, ApiError> {
    let collection = existing(&collection)?;
    let request = request!(body, collection.clone(), body.query.read(&services, collection)?);
    let response = services.query.search(request).await.map_err(|e| located(e, "query.id", "collection"))?;
    Ok(answered(response).await)
}

/// Say what becomes of a document in a search: its place at each stage, or what keeps it out.
#[utoipa::path(post, path = "/v1/collections/{collection}/explain", request_body = ExplainBody,
    responses((status = 200, body = Placement), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn explain(
    State(services): State<Arc<Services>>,
    PathParts(collection): PathParts<String>,
    JsonBody(body): JsonBody<ExplainBody>,
) -> Result<Json<Placement>, ApiError> {
    let collection = existing(&collection)?;
    let (id, query) = (body.id.check("id")?, body.query.read(&services, collection.clone())?);
    let request = request!(body, collection, query);
    let asked_with = match &request.query {
        Query::Document { collection, id } => Some((collection.to_string(), id.to_string())),
        Query::Text(_) | Query::Vector(_) => None,
    };
    let is_asked_with = |e: &PipelineError| matches!((e, &asked_with), (PipelineError::UnknownDocument { collection, id }, Some(asked)) if (collection, id) == (&asked.0, &asked.1));
    let explained = services.query.explain(request, id).await;
    Ok(Json(explained.map_err(|e| if is_asked_with(&e) { located(e, "query.id", "collection") } else { located(e, "id", "collection") })?))
}

async fn answered(response: QueryResponse) -> Response {
    let n_bytes = response.hits.iter().map(|hit| hit.fields.get().len()).sum();
    answer::long_json(n_bytes, move || response).await
}

impl QueryBody {
    /// `searched`: the collection that is asked.
    fn read(self, services: &Services, searched: CollectionName) -> Result<Query, ApiError> {
        match self {
            Self { text: Some(text), vector: None, id: None, collection: None } => Ok(Query::Text(text)),
            Self { text: None, vector: Some(vector), id: None, collection: None } => Ok(Query::Vector(vector)),
            Self { text: None, vector: None, id: Some(id), collection: of } => {
                let collection = of.map_or(Ok(searched), |name| asking(services, &name, "query.collection"))?;
                Ok(Query::Document { collection, id: id.check("query.id")? })
            }
            _ => {
                let message =
                    "the query needs exactly one of \"text\", \"vector\" and \"id\"; with \"id\" may stand the document's \"collection\"";
                Err(ApiError::new(ErrorKind::Malformed, message, Some("query".to_owned())))
            }
        }
    }
}

/// The collection of a document to ask with, which the request names in `field`.
fn asking(services: &Services, name: &Named, field: &str) -> Result<CollectionName, ApiError> {
    let name = name.check(field)?;
    services.catalog.require(&name).map_err(|e| located(e, field, field))?;
    Ok(name)
}

/// An error about the asking document, or about the collection that is searched, named as the request names it.
pub(super) fn located(e: PipelineError, id: &str, collection: &str) -> ApiError {
    let field = match &e {
        PipelineError::UnknownDocument { .. } => Some(id),
        PipelineError::Collection(e) if e.kind() == ErrorKind::NotFound => Some(collection),
        _ => None,
    };
    match field {
        Some(field) => ApiError::from(e).about(field),
        None => ApiError::from(e),
    }
}

/// Find the documents of one collection that match a document of another, or of the same.
#[utoipa::path(post, path = "/v1/match", request_body = MatchBody,
    responses((status = 200, body = QueryResponse), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn match_documents(State(services): State<Arc<Services>>, JsonBody(body): JsonBody<MatchBody>) -> Result<Response, ApiError> {
    let asking = asking(&services, &body.from.collection, "from.collection")?;
    let query = Query::Document { collection: asking, id: body.from.id.check("from.id")? };
    let collection = body.to.check("to")?;
    let request = request!(body, collection, query);
    let response = services.query.search(request).await.map_err(|e| located(e, "from.id", "to"))?;
    Ok(answered(response).await)
}
