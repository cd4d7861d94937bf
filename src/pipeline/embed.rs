//! EMBED: texts or token ids in, embeddings of the configured model out; nothing is cut that was not asked to be cut.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Encoders, Limits};
use kindred_core::domain::{Embedding, EmbeddingError};
use kindred_core::error::ErrorKind;
use kindred_encoder::{Encoder, EncoderError, ModelInfo, Side, Token, Tokens};

/// Most inputs of one request.
pub const MAX_INPUTS: usize = 2_048;
/// Characters of an unknown model's name that an error repeats.
const MAX_NAME_CHARS: usize = 128;
/// Texts and ids of up to so many bytes are tokenised (in well under a millisecond) on the caller's own thread.
const INLINE_BYTES: usize = 8 * 1024;

/// One thing to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Text(String),
    /// Ids of the model's own tokenizer.
    Tokens(Tokens),
}

/// What becomes of an input that has more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlong {
    Refuse,
    Cut(Side),
}

/// What to embed, and how.
#[derive(Debug, Clone)]
pub struct EmbedRequest {
    pub inputs: Vec<Input>,
    pub overlong: Overlong,
    /// Numbers of each embedding; the model's own number without it.
    pub dims: Option<usize>,
}

/// The answer.
#[derive(Debug)]
pub struct Embedded {
    /// In the order of the inputs, unit length.
    pub embeddings: Vec<Embedding>,
    /// That went through the model, special tokens included.
    pub n_tokens: usize,
}

/// Why there are no embeddings.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    #[error("there is no input: give at least one text")]
    NoInputs,
    #[error("input {position} is empty: leave it out, or say something")]
    Empty { position: usize },
    #[error("{actual} inputs are over the limit of {limit} in one request: send them in parts")]
    TooManyInputs { actual: usize, limit: usize },
    #[error("input {position} has {actual} bytes, over the limit of {limit} (limits.max_text_bytes)")]
    TooManyBytes { position: usize, actual: usize, limit: usize },
    #[error("the inputs have {actual} bytes together, over the limit of {limit} (limits.max_text_bytes): send them in parts")]
    TooManyBytesTogether { actual: usize, limit: usize },
    #[error("this model's maximum context length is {limit} tokens, but input {position} has {actual}: shorten it")]
    TooManyTokens { position: usize, actual: usize, limit: usize },
    #[error("{asked} dimensions cannot be had of this model; it has: {}", allowed.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))]
    Dims { asked: usize, allowed: Vec<usize> },
    #[error("there is no model {asked:?} here: this server has {loaded:?} loaded, and hands out embeddings of no other")]
    Model { asked: String, loaded: String },
    #[error("the first {dims} numbers of an embedding are no direction")]
    NoDirection { dims: usize, source: EmbeddingError },
    #[error(transparent)]
    Encoder(#[from] EncoderError),
}

impl EmbedError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoInputs | Self::Empty { .. } | Self::Dims { .. } => ErrorKind::Invalid,
            Self::TooManyInputs { .. } | Self::TooManyBytes { .. } | Self::TooManyBytesTogether { .. } | Self::TooManyTokens { .. } => {
                ErrorKind::TooLarge
            }
            Self::Model { .. } => ErrorKind::NotFound,
            Self::NoDirection { .. } => ErrorKind::Internal,
            Self::Encoder(e) => e.kind(),
        }
    }

    /// When it is worth trying again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Encoder(e) => e.retry_after(),
            _ => None,
        }
    }
}

/// Embeds for those who only want embeddings.
#[derive(Debug)]
pub struct EmbedPipeline {
    encoders: Arc<Encoders>,
    limits: Limits,
    max_queue: usize,
    loaded_at_s: u64,
}

impl EmbedPipeline {
    /// `max_queue`: most texts that may wait for the encoder.
    pub fn new(encoders: Arc<Encoders>, limits: Limits, max_queue: usize) -> Self {
        let loaded_at_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self { encoders, limits, max_queue, loaded_at_s }
    }

    /// Embeds all inputs, or none.
    ///
    /// # Errors
    /// [`EmbedError`] names the input that cannot be embedded, or what is not available.
    pub async fn embed(&self, request: EmbedRequest) -> Result<Embedded, EmbedError> {
        let EmbedRequest { inputs, overlong, dims } = request;
        let dims = self.check_dims(dims)?;
        self.check_inputs(&inputs)?;
        let (encoder, n_bytes) = (Arc::clone(self.encoders.configured()), inputs.iter().map(n_bytes).sum());
        let tokens = off_thread(n_bytes, {
            let encoder = Arc::clone(&encoder);
            move || inputs.into_iter().enumerate().map(|(position, input)| tokens_of(&encoder, position, input, overlong)).collect()
        });
        let tokens: Vec<Tokens> = tokens.await?;
        let n_tokens = tokens.iter().map(Vec::len).sum();
        let embeddings = encoder.encode_tokens(tokens).await?;
        let embeddings = embeddings.into_iter().map(|embedding| shortened(embedding, dims)).collect::<Result<_, _>>()?;
        Ok(Embedded { embeddings, n_tokens })
    }

    /// The tokens of each text, all of them, with what they stand for.
    ///
    /// # Errors
    /// [`EmbedError`], also when the texts together are over what one text may have: the answer is many times as long.
    pub async fn tokenize(&self, texts: Vec<String>, add_special_tokens: bool) -> Result<Vec<Vec<Token>>, EmbedError> {
        check_number(texts.len())?;
        let (actual, limit) = (texts.iter().map(String::len).sum(), self.limits.max_text_bytes);
        if actual > limit {
            return Err(EmbedError::TooManyBytesTogether { actual, limit });
        }
        let encoder = Arc::clone(self.encoders.configured());
        off_thread(actual, move || {
            let spell = |(position, text): (usize, &String)| Ok(encoder.spell(text, position, add_special_tokens)?);
            texts.iter().enumerate().map(spell).collect()
        })
        .await
    }

    /// Refuses the name of any model but the one whose embeddings are handed out.
    ///
    /// # Errors
    /// [`EmbedError::Model`].
    pub fn require_model(&self, name: &str) -> Result<(), EmbedError> {
        let loaded = &self.model().name;
        if name == loaded {
            return Ok(());
        }
        // As much of it as a person reads.
        Err(EmbedError::Model { asked: name.chars().take(MAX_NAME_CHARS).collect(), loaded: loaded.clone() })
    }

    /// The model whose embeddings are handed out.
    pub fn model(&self) -> &ModelInfo {
        self.encoders.configured().info()
    }

    /// Seconds from 1970 to when it was there.
    pub fn loaded_at_s(&self) -> u64 {
        self.loaded_at_s
    }

    /// Most texts that may wait for the encoder.
    pub fn max_queue(&self) -> usize {
        self.max_queue
    }

    fn check_dims(&self, asked: Option<usize>) -> Result<usize, EmbedError> {
        let (allowed, full) = (allowed_dims(self.model()), self.model().dims);
        let asked = asked.unwrap_or(full);
        if allowed.contains(&asked) { Ok(asked) } else { Err(EmbedError::Dims { asked, allowed }) }
    }

    fn check_inputs(&self, inputs: &[Input]) -> Result<(), EmbedError> {
        check_number(inputs.len())?;
        let limit = self.limits.max_text_bytes;
        for (position, input) in inputs.iter().enumerate() {
            match input {
                Input::Text(text) if text.len() > limit => return Err(EmbedError::TooManyBytes { position, actual: text.len(), limit }),
                Input::Text(text) if !text.is_empty() => {}
                Input::Tokens(ids) if !ids.is_empty() => {}
                _ => return Err(EmbedError::Empty { position }),
            }
        }
        Ok(())
    }
}

/// Refuses no inputs, and too many.
///
/// # Errors
/// [`EmbedError::NoInputs`] or [`EmbedError::TooManyInputs`].
pub fn check_number(actual: usize) -> Result<(), EmbedError> {
    match actual {
        0 => Err(EmbedError::NoInputs),
        1..=MAX_INPUTS => Ok(()),
        _ => Err(EmbedError::TooManyInputs { actual, limit: MAX_INPUTS }),
    }
}

/// How many numbers an embedding of the model may be asked to have.
fn allowed_dims(model: &ModelInfo) -> Vec<usize> {
    let mut allowed = model.matryoshka_dims.clone();
    allowed.push(model.dims);
    allowed
}

/// The beginning of an embedding, of unit length again.
fn shortened(embedding: Embedding, dims: usize) -> Result<Embedding, EmbedError> {
    if embedding.as_slice().len() == dims {
        return Ok(embedding);
    }
    let mut numbers = embedding.into_vec();
    numbers.truncate(dims);
    Embedding::new(numbers, dims).map_err(|source| EmbedError::NoDirection { dims, source })
}

/// The tokens of an input that go through the model.
fn tokens_of(encoder: &Encoder, position: usize, input: Input, overlong: Overlong) -> Result<Tokens, EmbedError> {
    let whole = match input {
        Input::Text(text) => encoder.whole_text(&text, position)?,
        Input::Tokens(ids) => encoder.whole_tokens(ids, position)?,
    };
    let (actual, limit) = (whole.n_tokens(), encoder.info().max_tokens);
    match overlong {
        // A tokenizer without special tokens may leave nothing of a text.
        _ if actual == 0 => Err(EmbedError::Empty { position }),
        Overlong::Refuse if actual > limit => Err(EmbedError::TooManyTokens { position, actual, limit }),
        Overlong::Refuse => Ok(whole.cut(limit, Side::Right)),
        Overlong::Cut(side) => Ok(whole.cut(limit, side)),
    }
}

fn n_bytes(input: &Input) -> usize {
    match input {
        Input::Text(text) => text.len(),
        Input::Tokens(ids) => size_of_val(ids.as_slice()),
    }
}

/// Runs what takes long for many bytes where it holds nobody up.
async fn off_thread<T: Send + 'static>(
    n_bytes: usize,
    work: impl FnOnce() -> Result<T, EmbedError> + Send + 'static,
) -> Result<T, EmbedError> {
    if n_bytes <= INLINE_BYTES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| EncoderError::Stopped)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_embedding_points_where_its_beginning_points() {
        let embedding = Embedding::new(vec![3.0, 4.0, 12.0], 3).unwrap();
        assert_eq!(shortened(embedding.clone(), 3).unwrap(), embedding);
        let two = shortened(embedding, 2).unwrap();
        assert!((two.as_slice()[0] - 0.6).abs() < 1e-6 && (two.as_slice()[1] - 0.8).abs() < 1e-6, "{two:?}");
        let nothing = Embedding::new(vec![0.0, 1.0], 2).unwrap();
        assert!(matches!(shortened(nothing, 1), Err(EmbedError::NoDirection { dims: 1, .. })));
    }

    #[test]
    fn the_number_of_inputs_is_bounded() {
        assert!(matches!(check_number(0), Err(EmbedError::NoInputs)));
        assert!(check_number(1).is_ok() && check_number(MAX_INPUTS).is_ok());
        assert!(matches!(check_number(MAX_INPUTS + 1), Err(EmbedError::TooManyInputs { .. })));
    }
}
