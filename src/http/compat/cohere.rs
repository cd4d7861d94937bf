//! Documents ordered as Cohere's API does it, and Jina's, whose shape is the same: for their clients with another base URL.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::documents::Documents;
use crate::http::Services;
use crate::http::body::JsonBody;
use crate::http::error::{self, ApiError};
use crate::http::request;
use crate::pipeline::{Overlong, Ranked, RerankError, RerankRequest, Reranked, Side};
use kindred_core::error::ErrorKind;

/// What to order.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CohereRerankBody)]
pub struct RerankBody {
    /// The name of the loaded model; any that is loaded without it.
    model: Option<String>,
    query: String,
    /// Texts, or objects with a `text`; at most 2,048. What is too long is cut at its end.
    #[schema(value_type = Vec<Object>, example = json!(["ward nurse", {"text": "welder"}]))]
    documents: Documents<Document>,
    /// So many of the best; all without it.
    top_n: Option<usize>,
    #[serde(default)]
    return_documents: bool,
    /// Documents are cut to so many tokens of their own.
    max_tokens_per_doc: Option<usize>,
    /// Only `["text"]`.
    rank_fields: Option<Vec<String>>,
    /// Accepted and ignored, as are the next ones.
    #[serde(rename = "max_chunks_per_doc")]
    _max_chunks_per_doc: Option<usize>,
    #[serde(rename = "priority")]
    _priority: Option<i64>,
    #[serde(rename = "user")]
    _user: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a text, or an object with a \"text\"")]
enum Document {
    Text(String),
    Object { text: String },
}

impl Document {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { text } => text,
        }
    }
}

/// The documents, best first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CohereReranked)]
pub struct Answer {
    id: String,
    model: String,
    results: Vec<OneResult>,
    meta: Meta,
    usage: Usage,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CohereResult)]
struct OneResult {
    /// In the request.
    index: usize,
    /// From 0 to 1.
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Text>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CohereText)]
struct Text {
    text: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CohereMeta)]
struct Meta {
    api_version: ApiVersion,
    tokens: InputTokens,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CohereApiVersion)]
struct ApiVersion {
    version: &'static str,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CohereTokens)]
struct InputTokens {
    input_tokens: usize,
}

/// Tokens that went through the model, special ones included, where Jina's clients look for them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JinaUsage)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Documents in the order in which they answer a query, as Cohere's first API and Jina's give them.
#[utoipa::path(post, path = "/v1/rerank", request_body = RerankBody, responses((status = 200, body = Answer),
    (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn rerank_v1(services: State<Arc<Services>>, body: Result<JsonBody<RerankBody>, ApiError>) -> Result<Json<Answer>, Error> {
    rerank(services, body?.0, "1").await
}

/// Documents in the order in which they answer a query, as Cohere's second API gives them.
#[utoipa::path(post, path = "/v2/rerank", request_body = RerankBody, responses((status = 200, body = Answer),
    (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn rerank_v2(services: State<Arc<Services>>, body: Result<JsonBody<RerankBody>, ApiError>) -> Result<Json<Answer>, Error> {
    rerank(services, body?.0, "2").await
}

async fn rerank(State(services): State<Arc<Services>>, body: RerankBody, version: &'static str) -> Result<Json<Answer>, Error> {
    let model = services.rerank.model().ok_or(RerankError::NoModel)?.name.clone();
    if let Some(asked) = &body.model {
        services.rerank.require_model(asked)?;
    }
    let RerankBody { query, documents, top_n, return_documents, max_tokens_per_doc, rank_fields, .. } = body;
    for (name, value) in [("top_n", top_n), ("max_tokens_per_doc", max_tokens_per_doc)] {
        if value == Some(0) {
            return Err(Error::invalid(format!("{name} is 0: ask for at least 1, or leave it out")));
        }
    }
    if rank_fields.is_some_and(|fields| fields != ["text"]) {
        return Err(Error::invalid("rank_fields can only be [\"text\"]: put what is to be read into each document's text"));
    }
    let documents: Vec<String> = documents.into_list()?.into_iter().map(Document::into_text).collect();
    let mut texts = if return_documents { documents.clone() } else { Vec::new() };
    let request = RerankRequest { query, documents, overlong: Overlong::Cut(Side::Right), max_document_tokens: max_tokens_per_doc };
    let Reranked { ranked, n_tokens } = services.rerank.rerank(request).await?;
    let result = |ranked: Ranked| OneResult {
        index: ranked.index,
        relevance_score: ranked.probability(),
        document: texts.get_mut(ranked.index).map(|text| Text { text: std::mem::take(text) }),
    };
    let results = ranked.into_iter().take(top_n.unwrap_or(usize::MAX)).map(result).collect();
    let meta = Meta { api_version: ApiVersion { version }, tokens: InputTokens { input_tokens: n_tokens } };
    let usage = Usage { prompt_tokens: n_tokens, total_tokens: n_tokens };
    Ok(Json(Answer { id: request::id(), model, results, meta, usage }))
}

/// An error as Cohere's clients know them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CohereErrorBody)]
pub struct ErrorBody {
    /// Also in the `x-request-id` header and in the server's log.
    id: String,
    message: String,
}

/// An answer that is an error.
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

impl Error {
    fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into(), retry_after: None }
    }
}

impl From<RerankError> for Error {
    fn from(e: RerankError) -> Self {
        let kind = e.kind();
        error::log(kind, &e);
        let status = match kind {
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            kind => error::status_of(kind).0,
        };
        Self { status, message: e.to_string(), retry_after: e.retry_after() }
    }
}

impl From<ApiError> for Error {
    fn from(e: ApiError) -> Self {
        let (status, message, field) = e.parts();
        let message = match field {
            Some(field) => format!("{field}: {message}"),
            None => message,
        };
        Self { status, message, retry_after: None }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        error::answer(self.status, self.retry_after, ErrorBody { id: request::id(), message: self.message })
    }
}
