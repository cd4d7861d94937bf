//! The features: what they are called, what they measure, where they come from.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};

use crate::domain::{Attributes, GeoPoint, Role, Schema, dice, dice_of_sorted, trigrams, word_hash, words};

/// Distances beyond this count as this: two oceans are not worse than one.
const MAX_DISTANCE_KM: f64 = 1_000.0;
/// A posting loses half of its recency in this time.
const RECENCY_HALF_LIFE_US: f64 = 30.0 * 86_400e6;

/// One feature; the order here is the order of the terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Full-precision dot product of query and document, -1 to 1.
    Dot,
    /// BM25 of the query's words, as a share of the best document's.
    Bm25,
    /// The same times the share of the query that the model cannot read: of that, the embedding says nothing.
    Bm25Unread,
    /// The sum, over the ways by which the candidate was found, of 1 / (60 + its rank there).
    ReciprocalRank,
    /// Words that the candidate's title shares with the wanted title, or with the query's text (Dice).
    TitleOverlap,
    /// Runs of three letters that the candidate's title shares with the wanted title, or with the query's text (Dice): words that are
    /// written almost the same, or parts of long ones.
    TitleLetters,
    /// Share of the query's words that stand in the candidate's text, all of it, also what the model cut off. A word that
    /// few of the candidates have counts more than one that most have.
    TextOverlap,
    /// Share of the wanted skills that the candidate has; of a query's text: share of its words that name a skill of the candidate.
    SkillOverlap,
    /// 1 for a posting of this moment, 1/2 after 30 days, 1/4 after 60.
    Recency,
    /// 1 if the candidate's seniority is the wanted one, else 0.
    SameSeniority,
    /// Kilometres between the nearest two places, at most 1,000.
    DistanceKm,
    /// 1 if the candidate is remote, else 0.
    Remote,
}

impl Feature {
    /// The name in profiles and explanations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Bm25 => "bm25",
            Self::Bm25Unread => "bm25_unread",
            Self::ReciprocalRank => "reciprocal_rank",
            Self::TitleOverlap => "title_overlap",
            Self::TitleLetters => "title_letters",
            Self::TextOverlap => "text_overlap",
            Self::SkillOverlap => "skill_overlap",
            Self::Recency => "recency",
            Self::SameSeniority => "same_seniority",
            Self::DistanceKm => "distance_km",
            Self::Remote => "remote",
        }
    }

    /// What a value of 1 is.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Dot => "cosine",
            Self::ReciprocalRank => "1/rank",
            Self::Bm25 | Self::Bm25Unread | Self::TitleOverlap | Self::TitleLetters | Self::TextOverlap | Self::SkillOverlap | Self::Recency => "share",
            Self::SameSeniority | Self::Remote => "yes",
            Self::DistanceKm => "km",
        }
    }

    /// The value for a candidate; `None` where the candidate or the query says nothing about it.
    pub(super) fn value(self, wanted: &Wanted, signals: &Signals, candidate: &Attributes, schema: &Schema) -> Option<f64> {
        let field = |role| schema.role(role);
        match self {
            Self::Dot => signals.dot,
            Self::Bm25 => signals.bm25,
            Self::Bm25Unread => signals.bm25.map(|bm25| bm25 * wanted.unread),
            Self::ReciprocalRank => Some(signals.reciprocal_rank),
            Self::TitleOverlap => {
                let titles = candidate.words(field(Role::Title));
                let one = |title: &String| dice(wanted.title.as_ref().unwrap_or(&wanted.text), &words(title));
                titles.iter().map(one).reduce(f64::max)
            }
            Self::TitleLetters => {
                let titles = candidate.words(field(Role::Title));
                titles.iter().map(|title| dice_of_sorted(&wanted.letters, &trigrams(title))).reduce(f64::max)
            }
            Self::TextOverlap => {
                let all: f64 = wanted.text_words.iter().map(|word| word.weight).sum();
                let found: f64 = wanted.text_words.iter().filter(|word| candidate.text_has(word.hash)).map(|word| word.weight).sum();
                (all > 0.0).then(|| found / all)
            }
            Self::SkillOverlap => wanted.skill_overlap(candidate.words(field(Role::Skills))),
            Self::Recency => {
                let age_us = (wanted.now_us - candidate.number(field(Role::PostedAt))?).max(0.0);
                Some((-age_us / RECENCY_HALF_LIFE_US).exp2())
            }
            Self::SameSeniority => {
                let seniority = candidate.words(field(Role::Seniority)).first()?;
                let same = wanted.seniority.as_ref()?.eq_ignore_ascii_case(seniority);
                Some(f64::from(u8::from(same)))
            }
            Self::DistanceKm => {
                let places = candidate.places(field(Role::Location));
                let pairs = wanted.places.iter().flat_map(|a| places.iter().map(move |b| a.distance_km(*b)));
                pairs.reduce(f64::min).map(|km| km.min(MAX_DISTANCE_KM))
            }
            Self::Remote => Some(f64::from(u8::from(candidate.bool(field(Role::Remote))?))),
        }
    }
}

impl FromStr for Feature {
    type Err = serde::de::value::Error;

    /// The same names as in JSON.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::deserialize(name.into_deserializer())
    }
}

/// What retrieval says about a candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Signals {
    /// `None` where it was not asked by meaning.
    pub dot: Option<f64>,
    /// As a share of the best document's; `None` where it was not asked by words.
    pub bm25: Option<f64>,
    pub reciprocal_rank: f64,
}

/// What a query asks for, prepared once for all candidates.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Words of the query's text; empty if it brought none.
    text: BTreeSet<String>,
    /// The same words, weighed.
    text_words: Vec<TextWord>,
    /// Words of the asking document's title.
    title: Option<BTreeSet<String>>,
    title_text: Option<String>,
    /// Runs of three letters of that title, or of the query's text.
    letters: Vec<u64>,
    /// Share of the query that the model cannot read.
    unread: f64,
    /// Skills of the asking document, in lower case.
    skills: BTreeSet<String>,
    seniority: Option<String>,
    places: Vec<GeoPoint>,
    /// The time that postings are recent by, in microseconds since 1970.
    now_us: f64,
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
        let text = words(text);
        let text_words = text.iter().map(|word| TextWord { hash: word_hash(word), weight: 1.0 }).collect();
        Self { text, text_words, letters, now_us, ..Self::default() }
    }

    /// The same of a query of which the model cannot read a share.
    pub fn unread(self, share: f64) -> Self {
        Self { unread: share, ..self }
    }

    /// The same, with the query's words weighed by how few of the candidates have them (inverse document frequency).
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
        Self {
            text: BTreeSet::new(),
            text_words: Vec::new(),
            title: of(Role::Title).first().map(|title| words(title)),
            title_text: of(Role::Title).first().cloned(),
            letters: of(Role::Title).first().map(|title| trigrams(title)).unwrap_or_default(),
            unread: 0.0,
            skills: of(Role::Skills).iter().map(|skill| skill.to_lowercase()).collect(),
            seniority: of(Role::Seniority).first().cloned(),
            places: attributes.places(schema.role(Role::Location)).to_vec(),
            now_us,
        }
    }

    /// Title and skills of an asking document, to look for by words.
    pub fn words(&self) -> String {
        self.title_text.iter().chain(&self.skills).map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn skill_overlap(&self, skills: &[String]) -> Option<f64> {
        if skills.is_empty() {
            return None;
        }
        if !self.skills.is_empty() {
            let has: BTreeSet<String> = skills.iter().map(|skill| skill.to_lowercase()).collect();
            return Some(self.skills.intersection(&has).count() as f64 / self.skills.len() as f64);
        }
        if self.text.is_empty() {
            return None;
        }
        // A skill is named when the text has all of its words.
        let named: BTreeSet<String> =
            skills.iter().map(|skill| words(skill)).filter(|skill| skill.is_subset(&self.text)).flatten().collect();
        Some(named.len() as f64 / self.text.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{CollectionDefinition, Document};
    use crate::rescore::{Weights, score, terms};

    fn schema() -> Schema {
        let definition: CollectionDefinition = serde_json::from_value(json!({"template": "{title}", "fields": {
            "title": {"type": "text"}, "skills": {"type": "keyword"}, "seniority": {"type": "keyword"}, "location": {"type": "geo"},
            "posted_at": {"type": "time"}, "remote": {"type": "bool"},
        }}))
        .unwrap();
        definition.check().unwrap().1
    }

    fn attributes(mut json: Value) -> Attributes {
        let template = crate::domain::Template::parse("{title}").unwrap();
        json["id"] = json!("x");
        Document::parse(json, &schema(), &template, 1_000).unwrap().attributes
    }

    fn value(feature: Feature, wanted: &Wanted, candidate: &Attributes) -> Option<f64> {
        feature.value(wanted, &Signals { dot: Some(0.5), ..Signals::default() }, candidate, &schema())
    }

    #[test]
    fn features_of_a_text_query() {
        let now = crate::domain::parse_time_us("2026-03-31").unwrap();
        let job = attributes(
            json!({"title": "Night nurse", "skills": ["patient care", "SQL"], "posted_at": "2026-03-01", "remote": false, "seniority": "senior"}),
        );
        let wanted = Wanted::from_text("nurse with SQL", now);
        assert_eq!(value(Feature::Dot, &wanted, &job), Some(0.5));
        assert_eq!(value(Feature::TitleOverlap, &wanted, &job), Some(0.5));
        assert_eq!(value(Feature::SkillOverlap, &wanted, &job), Some(0.5), "SQL is one of two words");
        assert_eq!(value(Feature::TextOverlap, &wanted, &job), Some(0.5), "the text is the title");
        assert_eq!(value(Feature::Recency, &wanted, &job), Some(0.5), "30 days");
        assert_eq!(value(Feature::Remote, &wanted, &job), Some(0.0));
        assert_eq!(value(Feature::SameSeniority, &wanted, &job), None, "the text asks for none");
        assert_eq!(value(Feature::DistanceKm, &wanted, &job), None);
        assert_eq!(
            value(Feature::Recency, &Wanted::from_text("", 0.0), &job),
            Some(1.0),
            "a posting from the future is not better than one of now"
        );
    }

    #[test]
    fn a_rare_word_counts_more() {
        let titles = ["nurse at night", "nurse", "nurse", "nurse"];
        let candidates: Vec<Attributes> = titles.iter().map(|title| attributes(json!({"title": title}))).collect();
        let wanted = Wanted::from_text("night nurse abroad", 0.0).weighed(candidates.iter());
        let [with_both, with_one] = [0, 1].map(|i| value(Feature::TextOverlap, &wanted, &candidates[i]).unwrap());
        let (nurse, night, abroad) = (1.8f64.ln(), 3f64.ln(), 5f64.ln());
        assert!((with_both - (nurse + night) / (nurse + night + abroad)).abs() < 1e-12);
        assert!((with_one - nurse / (nurse + night + abroad)).abs() < 1e-12);
    }

    #[test]
    fn features_of_a_member() {
        let member = attributes(
            json!({"title": "Nurse", "skills": ["SQL", "triage"], "seniority": "senior", "location": {"lat": 52.52, "lon": 13.405}}),
        );
        let job = attributes(
            json!({"title": "Night nurse", "skills": ["sql"], "seniority": "Senior", "location": [{"lat": 48.8566, "lon": 2.3522}, {"lat": -33.9, "lon": 151.2}]}),
        );
        let wanted = Wanted::from_document(&member, &schema(), 0.0);
        assert_eq!(value(Feature::SkillOverlap, &wanted, &job), Some(0.5));
        assert_eq!(value(Feature::SameSeniority, &wanted, &job), Some(1.0));
        assert!((value(Feature::DistanceKm, &wanted, &job).unwrap() - 877.5).abs() < 1.0, "to Paris, not to Sydney");
        assert_eq!(value(Feature::Recency, &wanted, &job), None);
        assert_eq!(value(Feature::TextOverlap, &wanted, &job), None, "a member brings no text");
    }

    #[test]
    fn an_explanation_adds_up_exactly() {
        let weights: Weights =
            [(Feature::Dot, 0.9), (Feature::TitleOverlap, 0.1), (Feature::SkillOverlap, 1.0 / 3.0), (Feature::Recency, 0.07)].into();
        let job = attributes(json!({"title": "Night nurse on call", "skills": ["SQL"], "posted_at": "2026-03-01"}));
        let wanted = Wanted::from_text("nurse with SQL and R", crate::domain::parse_time_us("2026-04-07").unwrap());
        let terms = terms(&weights, &wanted, &Signals { dot: Some(0.123_456_7), ..Signals::default() }, &job, &schema());
        let as_json = serde_json::to_value(&terms).unwrap();
        let sum = as_json.as_array().unwrap().iter().fold(0.0, |sum, term| sum + term["contribution"].as_f64().unwrap());
        assert_eq!(terms.len(), 4);
        assert_eq!(sum, score(&terms));
    }
}
