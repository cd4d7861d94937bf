//! What a query asks for, prepared once for all of its candidates.

use std::collections::BTreeSet;

use kindred_core::domain::{Attributes, GeoPoint, Role, Schema, has_words, trigrams, word_hashes, words};

/// What a query asks for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Hashes of the words of the query's text, ascending; empty if it brought none.
    text: Vec<u32>,
    /// The same words, weighed.
    text_words: Vec<TextWord>,
    /// Hashes of the words of the asking document's title, ascending.
    title: Option<Vec<u32>>,
    title_text: Option<String>,
    /// Runs of three letters of that title, or of the query's text.
    pub(super) letters: Vec<u64>,
    /// Share of the query that the model cannot read.
    pub(super) unread: f64,
    /// Skills of the asking document, in lower case.
    skills: BTreeSet<String>,
    pub(super) seniority: Option<String>,
    /// The step of a career that this is, or that the query's text names.
    pub(super) level: Option<f64>,
    pub(super) places: Vec<GeoPoint>,
    pub(super) salary: Option<f64>,
    /// Whether the query's text asks for remote.
    pub(super) is_remote: bool,
    /// The time that postings are recent by, in microseconds since 1970.
    pub(super) now_us: f64,
}

/// A word of the query's text.
#[derive(Debug, Clone, Copy)]
struct TextWord {
    hash: u32,
    weight: f64,
}

impl Wanted {
    /// What a text asks for; an empty one stands for a query that is a vector alone.
    pub fn from_text(text: &str, now_us: f64) -> Self {
        let letters = trigrams(text);
        let (words, text) = (words(text), word_hashes(text));
        let text_words = text.iter().map(|&hash| TextWord { hash, weight: 1.0 }).collect();
        let level = words.iter().find_map(|word| level(word));
        let is_remote = words.contains("remote");
        Self { text, text_words, letters, level, is_remote, now_us, ..Self::default() }
    }

    /// The same of a query of which the model cannot read a share.
    #[must_use]
    pub fn unread(self, share: f64) -> Self {
        Self { unread: share, ..self }
    }

    /// The same, with the query's words weighed by how few of the candidates have them (inverse document frequency).
    #[must_use]
    pub fn weighed<'a>(&self, candidates: impl ExactSizeIterator<Item = &'a Attributes> + Clone) -> Self {
        let n = candidates.len() as f64;
        let weigh = |word: &TextWord| {
            let n_with = candidates.clone().filter(|candidate| candidate.text_has(word.hash)).count() as f64;
            TextWord { hash: word.hash, weight: (1.0 + n / (1.0 + n_with)).ln() }
        };
        Self { text_words: self.text_words.iter().map(weigh).collect(), ..self.clone() }
    }

    /// What a document asks for: someone or something like itself.
    pub fn from_document(attributes: &Attributes, schema: &Schema, now_us: f64) -> Self {
        let of = |role| attributes.words(schema.role(role));
        let title_text = of(Role::Title).first().cloned();
        let seniority = of(Role::Seniority).first().cloned();
        Self {
            title: title_text.as_deref().map(word_hashes),
            letters: title_text.as_deref().map(trigrams).unwrap_or_default(),
            title_text,
            skills: of(Role::Skills).iter().map(|skill| skill.to_lowercase()).collect(),
            level: seniority.as_deref().and_then(level),
            seniority,
            places: attributes.places(schema.role(Role::Location)).to_vec(),
            salary: attributes.number(schema.role(Role::Salary)),
            now_us,
            ..Self::default()
        }
    }

    /// Title and skills of an asking document, to look for by words.
    pub fn words(&self) -> String {
        self.title_text.iter().chain(&self.skills).map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn title_or_text(&self) -> &[u32] {
        self.title.as_ref().unwrap_or(&self.text)
    }

    /// The share of the text's words, as they are weighed, that a candidate has; `None` if there are none.
    pub(super) fn share_found(&self, candidate: &Attributes) -> Option<f64> {
        let all: f64 = self.text_words.iter().map(|word| word.weight).sum();
        let found: f64 = self.text_words.iter().filter(|word| candidate.text_has(word.hash)).map(|word| word.weight).sum();
        (all > 0.0).then(|| found / all)
    }

    pub(super) fn skill_overlap(&self, skills: &[String]) -> Option<f64> {
        if skills.is_empty() {
            return None;
        }
        if !self.skills.is_empty() {
            let has: BTreeSet<&String> = skills.iter().filter_map(|skill| self.skills.get(&skill.to_lowercase())).collect();
            return Some(has.len() as f64 / self.skills.len() as f64);
        }
        if self.text.is_empty() {
            return None;
        }
        // Few are named, so few are taken apart.
        let named: BTreeSet<u32> =
            skills.iter().filter(|skill| has_words(&self.text, skill)).flat_map(|skill| word_hashes(skill)).collect();
        Some(named.len() as f64 / self.text.len() as f64)
    }

    /// Whether the query's text names any of these; `None` if there is no text, or nothing to name.
    pub(super) fn names_any(&self, names: &[String]) -> Option<bool> {
        let is_asked = !self.text.is_empty() && !names.is_empty();
        is_asked.then(|| names.iter().any(|name| has_words(&self.text, name)))
    }
}

/// The step of a career that a word stands for.
pub fn level(word: &str) -> Option<f64> {
    const STEPS: [&[&str]; 9] = [
        &["intern", "internship", "trainee", "apprentice"],
        &["entry", "junior", "graduate"],
        &["associate"],
        &["mid", "intermediate"],
        &["senior", "experienced"],
        &["lead", "staff"],
        &["manager", "principal"],
        &["director", "head"],
        &["executive", "vp", "chief", "cxo"],
    ];
    let word = word.to_lowercase();
    STEPS.iter().position(|words| words.contains(&word.as_str())).map(|step| step as f64)
}
