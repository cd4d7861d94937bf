//! Texts ordered as Hugging Face's text-embeddings-inference (TEI) does it, for its clients with another URL.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::documents::Documents;
use super::tei::{Direction, Error, ErrorBody, overlong};
use crate::http::Services;
use crate::http::body::JsonBody;
use crate::http::error::ApiError;
use crate::pipeline::{Ranked, RerankRequest};

/// What to order. As in TEI, keys that nobody knows are ignored.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = TeiRerankBody)]
pub struct RerankBody {
    query: String,
    /// At most 2,048.
    #[schema(value_type = Vec<String>, example = json!(["ward nurse", "welder"]))]
    texts: Documents<String>,
    /// Cut texts that have more tokens than the model takes, the query's added, instead of refusing them.
    truncate: Option<bool>,
    /// The end that is cut off.
    #[serde(default)]
    truncation_direction: Direction,
    /// Logits instead of numbers from 0 to 1.
    #[serde(default)]
    raw_scores: bool,
    /// Give each text back with its score.
    #[serde(default)]
    return_text: bool,
}

/// A text with its score.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TeiRank)]
pub struct Rank {
    /// In the request.
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    score: f32,
}

/// Texts in the order in which they answer a query, best first, as text-embeddings-inference gives them.
#[utoipa::path(post, path = "/rerank", request_body = RerankBody, responses((status = 200, body = Vec<Rank>),
    (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn rerank(State(services): State<Arc<Services>>, body: Result<JsonBody<RerankBody>, ApiError>) -> Result<Json<Vec<Rank>>, Error> {
    let JsonBody(RerankBody { query, texts, truncate, truncation_direction, raw_scores, return_text }) = body?;
    let documents = texts.into_list()?;
    let mut texts = if return_text { documents.clone() } else { Vec::new() };
    let overlong = overlong(truncate, truncation_direction);
    let reranked = services.rerank.rerank(RerankRequest { query, documents, overlong, max_document_tokens: None }).await?;
    let rank = |ranked: Ranked| Rank {
        index: ranked.index,
        text: texts.get_mut(ranked.index).map(std::mem::take),
        score: if raw_scores { ranked.logit } else { ranked.probability() },
    };
    Ok(Json(reranked.ranked.into_iter().map(rank).collect()))
}
