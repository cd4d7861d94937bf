//! Embeddings as Hugging Face's text-embeddings-inference (TEI) gives them, for its clients with another URL.
//!
//! As there, keys that nobody knows are ignored, and `truncate: false` refuses what is too long.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::inputs::Inputs;
use super::json;
pub use super::tei_error::{Error, ErrorBody};
use crate::http::Services;
use crate::http::body::JsonBody;
use crate::http::error::ApiError;
use crate::pipeline::{EmbedRequest, Embedded, Input, MAX_INPUTS, ModelInfo, Overlong, Side, Token};

/// What to embed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = TeiEmbedBody)]
pub struct EmbedBody {
    /// A text, a list of texts, a list of token ids, or a list of texts and lists of token ids. Ids are taken as in `/v1/embeddings`.
    #[schema(value_type = Object, example = json!(["night nurse", "welder"]))]
    inputs: Inputs,
    /// Cut what has more tokens than the model takes, instead of refusing it.
    truncate: Option<bool>,
    /// The end that is cut off.
    #[serde(default)]
    truncation_direction: Direction,
    /// `query` or `document`: the model's own prompt of that name is put before each text.
    prompt_name: Option<String>,
    /// Only true: there are no embeddings of another length here.
    #[serde(default = "yes")]
    normalize: bool,
    /// Numbers of each embedding, as in `/v1/embeddings`.
    dimensions: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[schema(as = TeiTruncationDirection)]
pub enum Direction {
    #[serde(alias = "left")]
    Left,
    #[default]
    #[serde(alias = "right")]
    Right,
}

/// Sentences, and the one to compare them with.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = TeiSimilarityBody)]
pub struct SimilarityBody {
    inputs: Sentences,
    parameters: Option<Parameters>,
}

/// As in `/embed`.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[schema(as = TeiParameters)]
struct Parameters {
    truncate: Option<bool>,
    #[serde(default)]
    truncation_direction: Direction,
    prompt_name: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(expecting = "an object such as {\"source_sentence\": \"night nurse\", \"sentences\": [\"ward nurse\", \"welder\"]}")]
#[schema(as = TeiSentences)]
struct Sentences {
    source_sentence: String,
    #[schema(value_type = Vec<String>)]
    sentences: Inputs,
}

/// What to tokenise.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = TeiTokenizeBody)]
pub struct TokenizeBody {
    /// A text or a list of texts.
    #[schema(value_type = Object, example = json!(["night nurse"]))]
    inputs: Inputs,
    #[serde(default = "yes")]
    add_special_tokens: bool,
    prompt_name: Option<String>,
}

fn yes() -> bool {
    true
}

/// What this server is, in TEI's words.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TeiInfo)]
pub struct Info {
    model_id: String,
    /// The model's fingerprint: sha256 over model, tokenizer, pooling, max_tokens and dims.
    model_sha: String,
    model_dtype: &'static str,
    model_type: ModelType,
    /// Texts that may wait for the encoder.
    max_concurrent_requests: usize,
    /// Tokens of a text.
    max_input_length: usize,
    max_batch_tokens: usize,
    max_batch_requests: Option<usize>,
    /// Inputs of a request.
    max_client_batch_size: usize,
    auto_truncate: bool,
    tokenization_workers: usize,
    version: &'static str,
    sha: Option<&'static str>,
    docker_label: Option<&'static str>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TeiModelType)]
enum ModelType {
    Embedding { pooling: &'static str },
}

/// What becomes of texts that are too long.
pub(super) fn overlong(truncate: Option<bool>, direction: Direction) -> Overlong {
    match (truncate, direction) {
        (None | Some(false), _) => Overlong::Refuse,
        (Some(true), Direction::Left) => Overlong::Cut(Side::Left),
        (Some(true), Direction::Right) => Overlong::Cut(Side::Right),
    }
}

/// The model's own prompt of a name: what is put before each text.
fn prompt<'a>(name: Option<&str>, model: &'a ModelInfo) -> Result<&'a str, Error> {
    let Some(name) = name else { return Ok("") };
    let mut prompts = vec![("query", model.query_prompt.as_str()), ("document", model.document_prompt.as_str())];
    prompts.retain(|(_, prompt)| !prompt.is_empty());
    if let Some((_, prompt)) = prompts.iter().find(|(known, _)| *known == name) {
        return Ok(prompt);
    }
    let known: Vec<&str> = prompts.iter().map(|(known, _)| *known).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(" and ") };
    Err(Error::validation(format!("`prompt_name`: the model has no prompt {name:?}; it has {known}")))
}

/// An input with a prompt before it.
fn prompted(prompt: &str, input: Input) -> Result<Input, Error> {
    match input {
        input if prompt.is_empty() => Ok(input),
        Input::Text(text) => Ok(Input::Text(format!("{prompt}{text}"))),
        Input::Tokens(_) => Err(Error::validation("`prompt_name`: no prompt can be put before token ids: send texts")),
    }
}

/// Texts or token ids to embeddings, as text-embeddings-inference does it.
#[utoipa::path(post, path = "/embed", request_body = EmbedBody, responses((status = 200, body = Vec<Vec<f32>>),
    (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn embed(State(services): State<Arc<Services>>, body: Result<JsonBody<EmbedBody>, ApiError>) -> Result<Response, Error> {
    let JsonBody(EmbedBody { inputs, truncate, truncation_direction, prompt_name, normalize, dimensions }) = body?;
    if !normalize {
        return Err(Error::validation("`normalize`: embeddings are of unit length here, always: leave it out or set it to true"));
    }
    let overlong = overlong(truncate, truncation_direction);
    let prompt = prompt(prompt_name.as_deref(), services.embed.model())?;
    let inputs = inputs.into_list()?.into_iter().map(|input| prompted(prompt, input)).collect::<Result<_, _>>()?;
    let request = EmbedRequest { inputs, overlong, dims: dimensions };
    let Embedded { embeddings, .. } = services.embed.embed(request).await?;
    let n_numbers = embeddings.iter().map(|e| e.as_slice().len()).sum();
    Ok(json(n_numbers, move || embeddings.into_iter().map(|e| e.into_vec()).collect::<Vec<_>>()).await)
}

/// As `/embed`.
#[utoipa::path(post, path = "/", request_body = EmbedBody, responses((status = 200, body = Vec<Vec<f32>>),
    (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn embed_at_root(services: State<Arc<Services>>, body: Result<JsonBody<EmbedBody>, ApiError>) -> Result<Response, Error> {
    embed(services, body).await
}

/// The cosines of one sentence with others, as text-embeddings-inference gives them.
#[utoipa::path(post, path = "/similarity", request_body = SimilarityBody, responses((status = 200, body = Vec<f32>),
    (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn similarity(
    State(services): State<Arc<Services>>,
    body: Result<JsonBody<SimilarityBody>, ApiError>,
) -> Result<Json<Vec<f32>>, Error> {
    let JsonBody(SimilarityBody { inputs: Sentences { source_sentence, sentences }, parameters }) = body?;
    let Parameters { truncate, truncation_direction, prompt_name } = parameters.unwrap_or_default();
    let sentences = sentences.into_texts()?.ok_or_else(|| Error::validation("`sentences` must be a list of texts"))?;
    let prompt = prompt(prompt_name.as_deref(), services.embed.model())?;
    let inputs = std::iter::once(source_sentence).chain(sentences).map(|text| Input::Text(format!("{prompt}{text}"))).collect();
    let request = EmbedRequest { inputs, overlong: overlong(truncate, truncation_direction), dims: None };
    let Embedded { embeddings, .. } = services.embed.embed(request).await?;
    let (source, others) = embeddings.split_first().expect("an embedding for each of at least two inputs");
    Ok(Json(others.iter().map(|other| source.dot(other)).collect()))
}

/// The tokens of texts, as text-embeddings-inference tells them; `start` and `stop` are bytes of the text.
#[utoipa::path(post, path = "/tokenize", request_body = TokenizeBody, responses((status = 200, body = Vec<Vec<Token>>),
    (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn tokenize(State(services): State<Arc<Services>>, body: Result<JsonBody<TokenizeBody>, ApiError>) -> Result<Response, Error> {
    let JsonBody(TokenizeBody { inputs, add_special_tokens, prompt_name }) = body?;
    let texts = inputs.into_texts()?.ok_or_else(|| Error::validation("`inputs` must be a text or a list of texts"))?;
    let prompt = prompt(prompt_name.as_deref(), services.embed.model())?;
    let texts = texts.into_iter().map(|text| format!("{prompt}{text}")).collect();
    let tokens = services.embed.tokenize(texts, add_special_tokens).await?;
    Ok(json(tokens.iter().map(Vec::len).sum(), move || tokens).await)
}

/// The loaded model and the limits, as text-embeddings-inference tells them.
#[utoipa::path(get, path = "/info", responses((status = 200, body = Info)))]
pub async fn info(State(services): State<Arc<Services>>) -> Json<Info> {
    let (embed, model) = (&services.embed, services.embed.model());
    Json(Info {
        model_id: model.name.clone(),
        model_sha: model.model_fingerprint.clone(),
        model_dtype: model.document_precision.dtype(),
        model_type: ModelType::Embedding { pooling: model.pooling },
        max_concurrent_requests: embed.max_queue(),
        max_input_length: model.max_tokens,
        max_batch_tokens: model.max_batch_tokens,
        max_batch_requests: None,
        max_client_batch_size: MAX_INPUTS,
        auto_truncate: false,
        tokenization_workers: model.threads,
        version: env!("CARGO_PKG_VERSION"),
        sha: None,
        docker_label: None,
    })
}

/// The encoder has answered the last probe, a second ago.
#[utoipa::path(get, path = "/health", responses((status = 200), (status = 503, body = ErrorBody)))]
pub async fn health(State(services): State<Arc<Services>>) -> Result<(), Error> {
    services.probe.ready().map(drop).map_err(Error::unhealthy)
}
