//! Embeddings, texts in order, and documents with vectors, for clients that were written for another server: they need another base URL, and nothing else.
//!
//! | file | speaks as |
//! |---|---|
//! | `openai.rs` | the OpenAI API: `/v1/embeddings`, `/v1/models` |
//! | `tei.rs`, `tei_error.rs` | Hugging Face's text-embeddings-inference: `/embed`, `/similarity`, `/tokenize`, `/info`, `/health` |
//! | `tei_rerank.rs` | the same: `/rerank` |
//! | `cohere.rs` | Cohere's API, and Jina's: `/v1/rerank`, `/v2/rerank` |
//! | `qdrant/` | Qdrant: `/collections` and below |
//! | `inputs.rs` | what is embedded: texts and token ids, alone or in lists |
//! | `documents.rs` | what is put in order: lists that are counted |
//!
//! Each tells its errors in its own shape. The embeddings are the configured model's, of unit length; the order is the cross-encoder's.

pub mod cohere;
mod documents;
mod inputs;
pub mod openai;
pub mod qdrant;
pub mod tei;
mod tei_error;
pub mod tei_rerank;

use axum::response::Response;
use serde::Serialize;

use super::answer;

/// The answer with a body of `n_items` numbers or tokens, of which each takes some ten bytes of JSON and a good part of the time that
/// writing it takes: 32 embeddings of 384 dimensions take half a millisecond.
async fn json<T: Serialize>(n_items: usize, body: impl FnOnce() -> T + Send + 'static) -> Response {
    answer::long_json(n_items * BYTES_PER_ITEM, body).await
}

const BYTES_PER_ITEM: usize = 10;
