//! Text to words.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

/// Cuts at everything but letters and digits. `C++` and `C#` keep their signs; of scripts that write no blanks between words, each pair of
/// neighbouring signs is a word.
#[derive(Debug, Clone, Default)]
pub struct WordTokenizer {
    token: Token,
}

pub struct WordStream<'a> {
    text: &'a str,
    /// Where the rest begins.
    at: usize,
    token: &'a mut Token,
}

impl Tokenizer for WordTokenizer {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream { text, at: 0, token: &mut self.token }
    }
}

impl WordStream<'_> {
    /// Length in bytes of the word that the rest begins with, and of what of it is not the next word's too; `None` at the end.
    fn next_word(&mut self) -> Option<(usize, usize)> {
        let rest = &self.text[self.at..];
        let start = rest.find(char::is_alphanumeric)?;
        self.at += start;
        let rest = &rest[start..];
        let first = rest.chars().next()?;
        if is_dense(first) {
            let len = first.len_utf8();
            let second = rest[len..].chars().next().filter(|&c| is_dense(c));
            let Some(second) = second else { return Some((len, len)) };
            let both = len + second.len_utf8();
            // The last pair of a run takes the rest of it.
            let is_last = !rest[both..].starts_with(is_dense);
            return Some((both, if is_last { both } else { len }));
        }
        let word = rest.find(|c: char| !c.is_alphanumeric() || is_dense(c)).unwrap_or(rest.len());
        let signs = rest[word..].find(|c| c != '+' && c != '#').unwrap_or(rest.len() - word);
        // A sign in the middle joins what may be two words: a+b.
        let is_end = !rest[word + signs..].starts_with(char::is_alphanumeric);
        let len = if is_end { word + signs } else { word };
        Some((len, len))
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let Some((len, step)) = self.next_word() else { return false };
        self.token.text.clear();
        self.token.text.push_str(&self.text[self.at..self.at + len]);
        self.token.offset_from = self.at;
        self.token.offset_to = self.at + len;
        self.token.position = self.token.position.wrapping_add(1);
        self.at += step;
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

/// Whether a sign is of a script that writes no blanks between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese; and Korean, whose blanks
/// are between more than words.
fn is_dense(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x31f0..=0x31ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff
        | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff)
}
