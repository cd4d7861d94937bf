//! Text to token ids (the only file that names `tokenizers`).

use std::error::Error;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use tokenizers::{Encoding, Model, OffsetType, PostProcessor, PreTokenizer, TruncationDirection, TruncationParams};

use super::pairs::Pair;
use super::{EncoderError, Side};

/// The ids of one text's tokens, special tokens included, at most `max_tokens` of them.
pub type Tokens = Vec<u32>;

/// What is one row of a batch.
pub trait Sequence: Send + Sync + 'static {
    fn ids(&self) -> &[u32];

    /// Of each token of a pair, the text that it is of; empty where there is one text.
    fn types(&self) -> &[u32] {
        &[]
    }
}

impl Sequence for [u32] {
    fn ids(&self) -> &[u32] {
        self
    }
}

impl Sequence for Tokens {
    fn ids(&self) -> &[u32] {
        self
    }
}

/// What vocabularies call the token for what they do not hold.
const UNKNOWN: [&str; 2] = ["[UNK]", "<unk>"];
/// Bytes of a text that are tokenised at first, per token that the model takes: an English token has four to five.
const BYTES_PER_TOKEN: usize = 16;
/// Bytes that are never exceeded, per token that the model takes: a text that does not fill the model with so many is no language.
const MAX_BYTES_PER_TOKEN: usize = 256;

/// Texts of more bytes than this are tokenised on all cores: some milliseconds of work.
const PARALLEL_BYTES: usize = 64 * 1024;

/// A token as it stands in its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Token {
    pub id: u32,
    /// What it stands for in the text; of a special token, its name.
    pub text: String,
    /// Put around the text by the tokenizer.
    pub special: bool,
    /// Bytes of the text before it; `null` for a special token.
    pub start: Option<usize>,
    /// Bytes of the text up to its end.
    pub stop: Option<usize>,
}

/// All tokens of a text, however many the model takes: special ones before it, its own, special ones after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whole {
    pub before: Tokens,
    pub own: Tokens,
    pub after: Tokens,
}

/// The tokens of one text of a pair, without special ones.
#[derive(Clone)]
pub struct Part(Encoding);

impl Part {
    pub fn n_tokens(&self) -> usize {
        self.0.len()
    }

    /// At most so many tokens of it, by cutting this end off.
    pub fn cut(&mut self, n_tokens: usize, side: Side) {
        let direction = match side {
            Side::Left => TruncationDirection::Left,
            Side::Right => TruncationDirection::Right,
        };
        self.0.truncate(n_tokens, 0, direction);
        // What was cut off would be put into pairs of its own.
        drop(self.0.take_overflowing());
    }
}

/// The model's own tokenizer with our truncation; padding is the batch's business.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
}

impl Tokenizer {
    /// Opens a `tokenizer.json`.
    ///
    /// # Errors
    /// [`EncoderError::Tokenizer`] when the file is not a tokenizer.
    pub fn load(path: &Path, max_tokens: usize) -> Result<Self, EncoderError> {
        let refused = |source: Box<dyn Error + Send + Sync>| EncoderError::Tokenizer { path: path.to_owned(), source };
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(refused)?;
        // The file's own truncation and padding are those of the model's training: another length, and always full.
        inner.with_truncation(Some(TruncationParams { max_length: max_tokens, ..TruncationParams::default() })).map_err(refused)?;
        inner.with_padding(None);
        Ok(Self { inner, max_tokens })
    }

    /// Tokenises each text; the position of one that fails is named.
    ///
    /// # Errors
    /// [`EncoderError::Tokenize`], also when nothing of a text remains.
    pub fn tokenize(&self, texts: &[String]) -> Result<Vec<Tokens>, EncoderError> {
        each(texts, |text| self.tokenize_one(text), Vec::len)
    }

    /// Tokenises each text, all of it; the position of one that fails is named.
    ///
    /// # Errors
    /// As of [`Tokenizer::tokenize`].
    pub fn wholes(&self, texts: &[String]) -> Result<Vec<Whole>, EncoderError> {
        each(texts, |text| self.whole(text), Whole::n_tokens)
    }

    /// Tokenises the beginning of a text, and more of it only if that does not fill the model.
    ///
    /// Tokens never reach over white space, so those of a beginning that ends before white space begin the whole text's.
    fn tokenize_one(&self, text: &str) -> Result<Tokens, Box<dyn Error + Send + Sync>> {
        Ok(self.encode_beginning(text, true)?.get_ids().to_vec())
    }

    fn encode_beginning(&self, text: &str, add_special_tokens: bool) -> Result<Encoding, Box<dyn Error + Send + Sync>> {
        let text = &text[..text.floor_char_boundary(self.max_tokens * MAX_BYTES_PER_TOKEN)];
        let mut n_bytes = self.max_tokens * BYTES_PER_TOKEN;
        loop {
            let beginning = beginning(text, n_bytes);
            let encoding = self.inner.encode_fast(beginning, add_special_tokens)?;
            if beginning.len() == text.len() || encoding.len() >= self.max_tokens {
                return Ok(encoding);
            }
            n_bytes *= 4;
        }
    }

    /// Tokenises all of a text, not only what the model takes of it.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn whole(&self, text: &str) -> Result<Whole, Box<dyn Error + Send + Sync>> {
        let encoding = self.encode_whole(text, OffsetType::None, true)?;
        let (ids, mask) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        let n_before = mask.iter().take_while(|&&special| special == 1).count();
        let n_after = mask[n_before..].iter().rev().take_while(|&&special| special == 1).count();
        let (before, rest) = ids.split_at(n_before);
        let (own, after) = rest.split_at(rest.len() - n_after);
        Ok(Whole { before: before.to_vec(), own: own.to_vec(), after: after.to_vec() })
    }

    /// The tokens of a text that is one of a pair: as many as the model takes at most, or all of them.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn part(&self, text: &str, is_whole: bool) -> Result<Part, Box<dyn Error + Send + Sync>> {
        let mut encoding = if is_whole { self.encode_whole(text, OffsetType::None, false)? } else { self.encode_beginning(text, false)? };
        drop(encoding.take_overflowing());
        Ok(Part(encoding))
    }

    /// A pair of texts, which must leave room for the special tokens.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn join(&self, query: Part, document: Part) -> Result<Pair, Box<dyn Error + Send + Sync>> {
        let encoding = self.inner.post_process(query.0, Some(document.0), true)?;
        Ok(Pair { ids: encoding.get_ids().to_vec(), types: encoding.get_type_ids().to_vec() })
    }

    /// Special tokens of a pair.
    pub fn n_around_pair(&self) -> usize {
        self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(true))
    }

    /// Most tokens of what goes through the model.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The tokens of all of a text, with what they stand for.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn spell(&self, text: &str, add_special_tokens: bool) -> Result<Vec<Token>, Box<dyn Error + Send + Sync>> {
        let encoding = self.encode_whole(text, OffsetType::Byte, add_special_tokens)?;
        Ok((0..encoding.len()).map(|i| spelling(&encoding, i, text)).collect())
    }

    /// What `tokenizers` does without truncation: with ours set, it stops early and tells nothing of the rest.
    fn encode_whole(&self, text: &str, offsets: OffsetType, add_special_tokens: bool) -> Result<Encoding, Box<dyn Error + Send + Sync>> {
        let mut words = self.inner.get_added_vocabulary().extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut words)?;
        }
        self.inner.get_model().tokenize_in_pretokenized(&mut words, None)?;
        let encoding = words.into_encoding(None, 0, offsets)?;
        match self.inner.get_post_processor() {
            Some(post_processor) => post_processor.process(encoding, None, add_special_tokens),
            None => Ok(encoding),
        }
    }

    /// The share of a text's own tokens that are the one for what the vocabulary does not hold.
    ///
    /// # Errors
    /// [`EncoderError::Tokenize`].
    pub fn unknown_share(&self, text: &str) -> Result<f64, EncoderError> {
        let unknown: Vec<u32> = UNKNOWN.iter().filter_map(|token| self.inner.token_to_id(token)).collect();
        if unknown.is_empty() {
            return Ok(0.0);
        }
        let encoding = self.inner.encode_fast(text, false).map_err(|source| EncoderError::Tokenize { position: 0, source })?;
        let n_unknown = encoding.get_ids().iter().filter(|id| unknown.contains(id)).count();
        Ok(n_unknown as f64 / encoding.len().max(1) as f64)
    }

    /// Whether the vocabulary holds a token of this id.
    pub fn knows(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some()
    }
}

/// What each text is made of: something, at any rate. Long ones are looked at on all cores.
pub fn each<T: Send>(
    texts: &[String],
    of: impl Fn(&str) -> Result<T, Box<dyn Error + Send + Sync>> + Sync,
    n_tokens: impl Fn(&T) -> usize + Sync,
) -> Result<Vec<T>, EncoderError> {
    let one = |(position, text): (usize, &String)| match of(text) {
        Ok(tokens) if n_tokens(&tokens) == 0 => Err(EncoderError::Tokenize { position, source: "no token remains of it".into() }),
        Ok(tokens) => Ok(tokens),
        Err(source) => Err(EncoderError::Tokenize { position, source }),
    };
    if texts.len() > 1 && texts.iter().map(String::len).sum::<usize>() > PARALLEL_BYTES {
        return texts.par_iter().enumerate().map(one).collect();
    }
    texts.iter().enumerate().map(one).collect()
}

fn spelling(encoding: &Encoding, i: usize, text: &str) -> Token {
    let (id, special, (start, stop)) = (encoding.get_ids()[i], encoding.get_special_tokens_mask()[i] == 1, encoding.get_offsets()[i]);
    if special {
        return Token { id, text: encoding.get_tokens()[i].clone(), special, start: None, stop: None };
    }
    // A token of single bytes may end inside a character.
    let text = String::from_utf8_lossy(&text.as_bytes()[start..stop]).into_owned();
    Token { id, text, special, start: Some(start), stop: Some(stop) }
}

/// A beginning of the text of at least `n_bytes` that ends before ASCII white space, or all of it.
fn beginning(text: &str, n_bytes: usize) -> &str {
    let bytes = text.as_bytes();
    match bytes.iter().skip(n_bytes).position(u8::is_ascii_whitespace) {
        // A byte below 128 is a character of its own, so the cut is at a boundary.
        Some(position) => &text[..n_bytes + position],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_ends_before_white_space() {
        assert_eq!(beginning("one two three", 4), "one two");
        assert_eq!(beginning("one two three", 3), "one");
        assert_eq!(beginning("one two three", 9), "one two three");
        assert_eq!(beginning("äöü ß", 1), "äöü");
        assert_eq!(beginning("", 5), "");
    }
}
