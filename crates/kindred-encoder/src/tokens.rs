//! Texts and token ids for callers who must not have anything cut that they did not ask for.
//!
//! [`Encoder::encode`] cuts a text at what the model takes. Here a text's length is known first; then the caller cuts, or refuses.

use super::tokenizer::{Token, Tokens, Whole};
use super::{Encoder, EncoderError};
use kindred_core::domain::Embedding;

/// The end of a text that is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

impl Whole {
    /// Tokens, special ones included.
    pub fn n_tokens(&self) -> usize {
        self.before.len() + self.own.len() + self.after.len()
    }

    /// At most `max_tokens` tokens: the special ones, and as many of its own as there is room for.
    pub fn cut(mut self, max_tokens: usize, side: Side) -> Tokens {
        let room = max_tokens.saturating_sub(self.before.len() + self.after.len());
        let excess = self.own.len().saturating_sub(room);
        match side {
            Side::Left => drop(self.own.drain(..excess)),
            Side::Right => self.own.truncate(room),
        }
        [self.before, self.own, self.after].concat()
    }
}

impl Encoder {
    /// All tokens of a text; `position` is the one that an error names.
    ///
    /// # Errors
    /// [`EncoderError::Tokenize`].
    pub fn whole_text(&self, text: &str, position: usize) -> Result<Whole, EncoderError> {
        self.tokenizer.whole(text).map_err(|source| EncoderError::Tokenize { position, source })
    }

    /// Given ids as the tokens of a text. Ids that begin with the model's first special token have theirs already (where the model has
    /// none in front: ids that end with its last one); around others they are put.
    ///
    /// # Errors
    /// [`EncoderError::UnknownToken`]; [`EncoderError::Tokenize`].
    pub fn whole_tokens(&self, mut ids: Tokens, position: usize) -> Result<Whole, EncoderError> {
        if let Some(&id) = ids.iter().find(|&&id| !self.tokenizer.knows(id)) {
            return Err(EncoderError::UnknownToken { position, id });
        }
        // Which special tokens there are, any text shows.
        let Whole { before, after, .. } = self.whole_text("a", position)?;
        let has_them = if before.is_empty() { ids.ends_with(&after) } else { ids.starts_with(&before) };
        if !has_them {
            return Ok(Whole { before, own: ids, after });
        }
        let after = if ids.ends_with(&after) && ids.len() >= before.len() + after.len() { after } else { Tokens::new() };
        ids.truncate(ids.len() - after.len());
        Ok(Whole { own: ids.split_off(before.len()), before, after })
    }

    /// The tokens of a text with what they stand for, however many there are; `position` is the one that an error names.
    ///
    /// # Errors
    /// [`EncoderError::Tokenize`].
    pub fn spell(&self, text: &str, position: usize, add_special_tokens: bool) -> Result<Vec<Token>, EncoderError> {
        self.tokenizer.spell(text, add_special_tokens).map_err(|source| EncoderError::Tokenize { position, source })
    }

    /// Encodes texts that are token ids already, none of them empty and each of at most `max_tokens`. Long calls go through the queue in
    /// parts, so that searches get in between.
    ///
    /// # Errors
    /// [`EncoderError::Overloaded`] when too many texts wait; [`EncoderError::Run`] or [`EncoderError::Stopped`].
    pub async fn encode_tokens(&self, texts: Vec<Tokens>) -> Result<Vec<Embedding>, EncoderError> {
        self.documents.run_in_parts(texts).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_the_special_tokens() {
        let whole = Whole { before: vec![101], own: vec![1, 2, 3, 4], after: vec![102] };
        assert_eq!(whole.n_tokens(), 6);
        assert_eq!(whole.clone().cut(6, Side::Left), [101, 1, 2, 3, 4, 102]);
        assert_eq!(whole.clone().cut(4, Side::Right), [101, 1, 2, 102]);
        assert_eq!(whole.cut(4, Side::Left), [101, 3, 4, 102]);
    }
}
