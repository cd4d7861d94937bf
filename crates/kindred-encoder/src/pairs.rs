//! A query and a document as one sequence of tokens.

use super::EncoderError;
use super::tokenizer::{Part, Sequence, Tokenizer, Tokens, each};
use super::tokens::Side;

/// The tokens of a query and a document, special ones included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub ids: Tokens,
    /// Of each token, the text that it is of.
    pub types: Tokens,
}

impl Sequence for Pair {
    fn ids(&self) -> &[u32] {
        &self.ids
    }

    fn types(&self) -> &[u32] {
        &self.types
    }
}

/// What becomes of a pair that has more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairFit {
    /// The end at which the document is cut; without one, the pair is refused.
    pub cut: Option<Side>,
    /// Documents are cut to so many tokens of their own in any case.
    pub max_document_tokens: Option<usize>,
}

impl Tokenizer {
    /// Pairs of a query with each document. Where a pair is too long the document is cut, and the query too where it fills the model alone.
    ///
    /// # Errors
    /// [`EncoderError::PairTooLong`] where nothing may be cut; [`EncoderError::Tokenize`].
    pub fn pairs(&self, query: &str, documents: &[String], fit: PairFit) -> Result<Vec<Pair>, EncoderError> {
        // What is refused, or cut at its beginning, has to be known to its end.
        let is_whole = fit.cut != Some(Side::Right);
        let query = self.part(query, is_whole).map_err(|source| EncoderError::TokenizeQuery { source })?;
        let pairs = each(documents, |document| self.pair(&query, self.part(document, is_whole)?, fit), |pair| pair.n_tokens())?;
        let of = |(position, pair): (usize, Fitted)| match pair {
            Fitted::Pair(pair) => Ok(pair),
            Fitted::TooLong { actual } => Err(EncoderError::PairTooLong { position, actual, limit: self.max_tokens() }),
        };
        pairs.into_iter().enumerate().map(of).collect()
    }

    fn pair(&self, query: &Part, mut document: Part, fit: PairFit) -> Result<Fitted, Box<dyn std::error::Error + Send + Sync>> {
        let (mut query, room) = (query.clone(), self.max_tokens().saturating_sub(self.n_around_pair()));
        if let Some(most) = fit.max_document_tokens {
            document.cut(most, fit.cut.unwrap_or(Side::Right));
        }
        let (of_query, of_document) = shares(query.n_tokens(), document.n_tokens(), room);
        if (of_query, of_document) != (query.n_tokens(), document.n_tokens()) {
            let Some(side) = fit.cut else {
                return Ok(Fitted::TooLong { actual: query.n_tokens() + document.n_tokens() + self.n_around_pair() });
            };
            query.cut(of_query, Side::Right);
            document.cut(of_document, side);
        }
        Ok(Fitted::Pair(self.join(query, document)?))
    }
}

/// A pair, or how long it would be.
enum Fitted {
    Pair(Pair),
    TooLong { actual: usize },
}

impl Fitted {
    fn n_tokens(&self) -> usize {
        match self {
            Self::Pair(pair) => pair.ids.len(),
            Self::TooLong { actual } => *actual,
        }
    }
}

/// How many tokens of a query and of a document there is room for: all of the query, unless it fills the room alone; then the longer of the
/// two is cut.
fn shares(query: usize, document: usize, room: usize) -> (usize, usize) {
    if query < room {
        return (query, document.min(room - query));
    }
    let document = document.min(room / 2);
    (query.min(room - document), document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_cut_and_the_query_only_where_it_fills_the_model() {
        for ((query, document, room), expected) in [
            ((3, 4, 10), (3, 4)),
            ((3, 40, 10), (3, 7)),
            ((9, 40, 10), (9, 1)),
            ((10, 0, 10), (10, 0)),
            ((10, 40, 10), (5, 5)),
            ((40, 40, 11), (6, 5)),
            ((40, 2, 10), (8, 2)),
        ] {
            assert_eq!(shares(query, document, room), expected, "{query} and {document} in {room}");
        }
    }
}
