//! Embeddings as OpenAI's API gives them, for its clients with another base URL.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::inputs::Inputs;
use super::json;
use crate::http::Services;
use crate::http::body::JsonBody;
use crate::http::error::{self, ApiError};
use crate::http::path::PathParts;
use crate::pipeline::{EmbedError, EmbedPipeline, EmbedRequest, Embedded, Overlong};
use kindred_core::domain::Embedding;
use kindred_core::error::ErrorKind;

/// What to embed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OpenAiEmbeddingsBody)]
pub struct EmbeddingsBody {
    /// A text, a list of texts, a list of token ids, or a list of lists of token ids; at most 2,048 inputs, each within the model's
    /// limit: nothing is cut.
    ///
    /// Token ids are those of the loaded model's own tokenizer (`POST /tokenize` tells them). The model's special tokens are put around
    /// them unless they begin with the first of those already.
    #[schema(value_type = Object, example = json!(["night nurse", "welder"]))]
    input: Inputs,
    /// The name of the loaded model.
    model: String,
    #[serde(default)]
    encoding_format: EncodingFormat,
    /// Numbers of each embedding: the model's own number, or one that it was trained to be shortened to.
    dimensions: Option<usize>,
    /// Accepted and ignored.
    #[serde(rename = "user")]
    _user: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    #[default]
    Float,
    /// Little-endian 32-bit floats.
    Base64,
}

/// The embeddings, in the order of the inputs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiEmbeddings)]
pub struct Embeddings {
    object: &'static str,
    data: Vec<OneEmbedding>,
    model: String,
    usage: Usage,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiEmbedding)]
struct OneEmbedding {
    object: &'static str,
    index: usize,
    embedding: Numbers,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(as = OpenAiNumbers)]
enum Numbers {
    Float(Vec<f32>),
    Base64(String),
}

/// Tokens that went through the model, special ones included.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiUsage)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// The models there are: the loaded one.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiModels)]
pub struct Models {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiModel)]
pub struct Model {
    id: String,
    object: &'static str,
    /// Seconds from 1970 to when it was loaded.
    created: u64,
    owned_by: &'static str,
}

/// Texts or token ids to embeddings, as OpenAI's API does it.
#[utoipa::path(post, path = "/v1/embeddings", request_body = EmbeddingsBody,
    responses((status = 200, body = Embeddings), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn embeddings(
    State(services): State<Arc<Services>>,
    body: Result<JsonBody<EmbeddingsBody>, ApiError>,
) -> Result<Response, Error> {
    let JsonBody(EmbeddingsBody { input, model, encoding_format, dimensions, .. }) = body?;
    services.embed.require_model(&model)?;
    if input.are_mixed() {
        return Err(Error::invalid("texts and token ids stand side by side: send all of the one kind", Some("input")));
    }
    let request = EmbedRequest { inputs: input.into_list()?, overlong: Overlong::Refuse, dims: dimensions };
    let Embedded { embeddings, n_tokens } = services.embed.embed(request).await?;
    let n_numbers = embeddings.iter().map(|e| e.as_slice().len()).sum();
    let usage = Usage { prompt_tokens: n_tokens, total_tokens: n_tokens };
    let one = move |(index, e)| OneEmbedding { object: "embedding", index, embedding: Numbers::of(e, encoding_format) };
    let answer = move || Embeddings { object: "list", data: embeddings.into_iter().enumerate().map(one).collect(), model, usage };
    Ok(json(n_numbers, answer).await)
}

/// The models that `/v1/embeddings` answers with: the loaded one.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = Models), (status = "5XX", body = ErrorBody)))]
pub async fn models(State(services): State<Arc<Services>>) -> Json<Models> {
    Json(Models { object: "list", data: vec![Model::loaded(&services.embed)] })
}

/// The loaded model, by its name.
#[utoipa::path(get, path = "/v1/models/{id}", responses((status = 200, body = Model), (status = "4XX", body = ErrorBody)))]
pub async fn model(State(services): State<Arc<Services>>, id: Result<PathParts<String>, ApiError>) -> Result<Json<Model>, Error> {
    let PathParts(id) = id?;
    services.embed.require_model(&id)?;
    Ok(Json(Model::loaded(&services.embed)))
}

impl Numbers {
    fn of(embedding: Embedding, format: EncodingFormat) -> Self {
        match format {
            EncodingFormat::Float => Self::Float(embedding.into_vec()),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = embedding.as_slice().iter().flat_map(|x| x.to_le_bytes()).collect();
                Self::Base64(BASE64.encode(bytes))
            }
        }
    }
}

impl Model {
    fn loaded(embed: &EmbedPipeline) -> Self {
        Self { id: embed.model().name.clone(), object: "model", created: embed.loaded_at_s(), owned_by: "kindred" }
    }
}

/// An error as OpenAI's clients know them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiErrorBody)]
pub struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiErrorDetail)]
struct ErrorDetail {
    message: String,
    /// `invalid_request_error`, `requests` (too many of them) or `server_error`.
    r#type: &'static str,
    /// The part of the request at fault.
    param: Option<String>,
    /// `model_not_found`, `context_length_exceeded`, `rate_limit_exceeded`.
    code: Option<&'static str>,
}

/// An answer that is an error.
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    detail: ErrorDetail,
    retry_after: Option<Duration>,
}

impl Error {
    fn new(status: StatusCode, message: impl Into<String>, param: Option<&str>) -> Self {
        let (r#type, code) = match status {
            StatusCode::TOO_MANY_REQUESTS => ("requests", Some("rate_limit_exceeded")),
            status if status.is_server_error() => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        Self { status, detail: ErrorDetail { message: message.into(), r#type, param: param.map(str::to_owned), code }, retry_after: None }
    }

    fn invalid(message: impl Into<String>, param: Option<&str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, param)
    }

    fn with_code(mut self, code: &'static str) -> Self {
        self.detail.code = Some(code);
        self
    }
}

impl From<EmbedError> for Error {
    fn from(e: EmbedError) -> Self {
        let (kind, message, retry_after) = (e.kind(), e.to_string(), e.retry_after());
        error::log(kind, &e);
        let error = match e {
            EmbedError::Model { .. } => Self::new(StatusCode::NOT_FOUND, message, Some("model")).with_code("model_not_found"),
            EmbedError::TooManyTokens { .. } => Self::invalid(message, Some("input")).with_code("context_length_exceeded"),
            EmbedError::TooManyInputs { .. } => Self::invalid(message, Some("input")),
            EmbedError::Dims { .. } => Self::invalid(message, Some("dimensions")),
            _ if kind == ErrorKind::Invalid => Self::invalid(message, Some("input")),
            _ if kind == ErrorKind::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, message, Some("input")),
            _ => Self::new(error::status_of(kind).0, message, None),
        };
        Self { retry_after, ..error }
    }
}

impl From<ApiError> for Error {
    fn from(e: ApiError) -> Self {
        let (status, message, field) = e.parts();
        Self::new(status, message, field.as_deref())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        error::answer(self.status, self.retry_after, ErrorBody { error: self.detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kindred_core::domain::EmbeddingError;

    #[test]
    fn what_is_no_fault_of_the_client_is_a_server_error() {
        let error = Error::from(EmbedError::NoDirection { dims: 1, source: EmbeddingError::Zero });
        assert_eq!((error.status.as_u16(), error.detail.r#type, error.detail.code), (500, "server_error", None));
        assert_eq!(error.detail.param, None);
    }

    #[test]
    fn base64_is_of_little_endian_floats() {
        let embedding = Embedding::new(vec![1.0, 0.0], 2).unwrap();
        let Numbers::Base64(coded) = Numbers::of(embedding, EncodingFormat::Base64) else { panic!("asked for base64") };
        assert_eq!(BASE64.decode(coded).unwrap(), [0, 0, 0x80, 0x3f, 0, 0, 0, 0]);
    }
}
