//! Text to token ids (the only file that names `tokenizers`).

use std::error::Error;
use std::path::Path;

use rayon::prelude::*;
use tokenizers::TruncationParams;

use super::EncoderError;

/// The ids of one text's tokens, special tokens included, at most `max_tokens` of them.
pub type Tokens = Vec<u32>;

/// Bytes of a text that are tokenised at first, per token that the model takes: an English token has four to five.
const BYTES_PER_TOKEN: usize = 16;
/// Bytes that are never exceeded, per token that the model takes: a text that does not fill the model with so many is no language.
const MAX_BYTES_PER_TOKEN: usize = 256;

/// Texts of more bytes than this are tokenised on all cores: some milliseconds of work.
const PARALLEL_BYTES: usize = 64 * 1024;

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
        let tokenize = |(position, text): (usize, &String)| match self.tokenize_one(text) {
            Ok(tokens) if tokens.is_empty() => Err(EncoderError::Tokenize { position, source: "no token remains of it".into() }),
            Ok(tokens) => Ok(tokens),
            Err(source) => Err(EncoderError::Tokenize { position, source }),
        };
        if texts.len() > 1 && texts.iter().map(String::len).sum::<usize>() > PARALLEL_BYTES {
            return texts.par_iter().enumerate().map(tokenize).collect();
        }
        texts.iter().enumerate().map(tokenize).collect()
    }

    /// Tokenises the beginning of a text, and more of it only if that does not fill the model.
    ///
    /// Tokens never reach over white space, so those of a beginning that ends before white space begin the whole text's.
    fn tokenize_one(&self, text: &str) -> Result<Tokens, Box<dyn Error + Send + Sync>> {
        let text = &text[..text.floor_char_boundary(self.max_tokens * MAX_BYTES_PER_TOKEN)];
        let mut n_bytes = self.max_tokens * BYTES_PER_TOKEN;
        loop {
            let beginning = beginning(text, n_bytes);
            let tokens = self.inner.encode_fast(beginning, true)?.get_ids().to_vec();
            if beginning.len() == text.len() || tokens.len() >= self.max_tokens {
                return Ok(tokens);
            }
            n_bytes *= 4;
        }
    }
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
