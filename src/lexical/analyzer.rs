//! Text to terms: words in lower case, reduced to their stems, without accents.

use std::fmt;

use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, Stemmer, StopWordFilter, TextAnalyzer, TextAnalyzerBuilder,
};

use super::tokenizer::WordTokenizer;
use kindred_core::domain::Lexical;

/// Longer words, in bytes, are no words.
const MAX_WORD_BYTES: usize = 128;

/// English stop words of queries ("find me someone who …"), in addition to tantivy's list. A domain's own stand in the collection's definition
/// (`stop_words`).
const ENGLISH: [&str; 51] = [
    "about", "all", "also", "any", "can", "could", "did", "do", "does", "from", "had", "has", "have", "he", "her", "his", "how", "i",
    "its", "may", "me", "more", "most", "must", "my", "near", "other", "our", "out", "she", "should", "so", "some", "someone", "than",
    "up", "very", "we", "what", "when", "where", "which", "who", "why", "would", "you", "your", "am", "im", "looking", "please",
];

/// Makes terms of texts.
#[derive(Clone)]
pub struct Analyzer {
    inner: TextAnalyzer,
    /// The same without words that say nothing.
    of_queries: TextAnalyzer,
}

impl fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analyzer").finish_non_exhaustive()
    }
}

impl Analyzer {
    /// Returns an analyzer that leaves `stop_words` (lower case) out of queries; `None` where texts are not searched by their words.
    pub fn new(lexical: Lexical, stop_words: &[String]) -> Option<Self> {
        let language = match lexical {
            Lexical::Off => return None,
            Lexical::Plain => None,
            Lexical::Arabic => Some(Language::Arabic),
            Lexical::Danish => Some(Language::Danish),
            Lexical::Dutch => Some(Language::Dutch),
            Lexical::English => Some(Language::English),
            Lexical::Finnish => Some(Language::Finnish),
            Lexical::French => Some(Language::French),
            Lexical::German => Some(Language::German),
            Lexical::Greek => Some(Language::Greek),
            Lexical::Hungarian => Some(Language::Hungarian),
            Lexical::Italian => Some(Language::Italian),
            Lexical::Norwegian => Some(Language::Norwegian),
            Lexical::Portuguese => Some(Language::Portuguese),
            Lexical::Romanian => Some(Language::Romanian),
            Lexical::Russian => Some(Language::Russian),
            Lexical::Spanish => Some(Language::Spanish),
            Lexical::Swedish => Some(Language::Swedish),
            Lexical::Tamil => Some(Language::Tamil),
            Lexical::Turkish => Some(Language::Turkish),
        };
        let words = || TextAnalyzer::builder(WordTokenizer::default()).filter(RemoveLongFilter::limit(MAX_WORD_BYTES)).filter(LowerCaser);
        let english: &[&str] = if language == Some(Language::English) { &ENGLISH } else { &[] };
        let removed = english.iter().map(|&word| word.to_owned()).chain(stop_words.iter().cloned());
        let telling = words().dynamic().filter_dynamic(StopWordFilter::remove(removed));
        let telling = match language.and_then(StopWordFilter::new) {
            Some(stop_words) => telling.filter_dynamic(stop_words),
            None => telling,
        };
        Some(Self { inner: to_terms(words().dynamic(), language), of_queries: to_terms(telling, language) })
    }

    /// Shows every term of a text, in order.
    pub fn each_term(&self, text: &str, mut see: impl FnMut(&str)) {
        let mut inner = self.inner.clone();
        inner.token_stream(text).process(&mut |token| see(&token.text));
    }

    /// Shows every term of a query that says what is looked for; all of them if none does.
    pub fn each_telling_term(&self, query: &str, mut see: impl FnMut(&str)) {
        let mut n_seen = 0;
        self.of_queries.clone().token_stream(query).process(&mut |token| {
            n_seen += 1;
            see(&token.text);
        });
        if n_seen == 0 {
            self.each_term(query, see);
        }
    }

    pub(super) fn into_inner(self) -> TextAnalyzer {
        self.inner
    }
}

/// Stems know accents: these go last.
fn to_terms(words: TextAnalyzerBuilder, language: Option<Language>) -> TextAnalyzer {
    match language {
        Some(language) => words.filter_dynamic(Stemmer::new(language)).filter_dynamic(AsciiFoldingFilter).build(),
        None => words.filter_dynamic(AsciiFoldingFilter).build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(lexical: Lexical, text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        Analyzer::new(lexical, &[]).unwrap().each_term(text, |term| terms.push(term.to_owned()));
        terms
    }

    #[test]
    fn words_become_terms() {
        assert_eq!(
            terms(Lexical::English, "Nurses, nursing — the Müllers' C++/C# a+b (29-1141.00)"),
            ["nurs", "nurs", "the", "muller", "c++", "c#", "a", "b", "29", "1141", "00"]
        );
        assert_eq!(terms(Lexical::Plain, "Nurses in Köln"), ["nurses", "in", "koln"]);
        assert_eq!(terms(Lexical::German, "Krankenschwestern"), terms(Lexical::German, "Krankenschwester"));
        assert_eq!(terms(Lexical::Plain, &"x".repeat(MAX_WORD_BYTES + 1)), [""; 0]);
        assert!(Analyzer::new(Lexical::Off, &[]).is_none());
    }

    #[test]
    fn queries_are_asked_by_what_they_tell() {
        let telling = |lexical, text: &str| {
            let mut terms = Vec::new();
            Analyzer::new(lexical, &["job".to_owned()]).unwrap().each_telling_term(text, |term| terms.push(term.to_owned()));
            terms
        };
        assert_eq!(telling(Lexical::English, "someone who can keep the patients safe"), ["keep", "patient", "safe"]);
        assert_eq!(telling(Lexical::English, "the who"), ["the", "who"], "nothing else is asked");
        assert_eq!(telling(Lexical::English, "the job of a nurse"), ["nurs"], "the collection's own stop words");
        assert_eq!(telling(Lexical::Plain, "Job nurse"), ["nurse"], "in any language");
        assert_eq!(telling(Lexical::English, "job"), ["job"], "nothing else is asked");
        assert_eq!(telling(Lexical::German, "eine Schwester für die Nacht"), ["schwest", "nacht"]);
        assert_eq!(telling(Lexical::Plain, "the who"), ["the", "who"]);
    }

    #[test]
    fn scripts_without_blanks_become_pairs() {
        assert_eq!(terms(Lexical::English, "软件工程师 Java 师"), ["软件", "件工", "工程", "程师", "java", "师"]);
        assert_eq!(terms(Lexical::Plain, "看護a師"), ["看護", "a", "師"]);
    }
}
