//! The features: what they are called, what they measure, where they come from.

use std::cell::OnceCell;
use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};

use super::wanted::{Wanted, level};
use kindred_core::domain::{Attributes, FieldId, Role, Schema, Selection, dice, n_common, trigrams, word_hashes};

/// Distances beyond this count as this: two oceans are not worse than one.
const MAX_DISTANCE_KM: f64 = 1_000.0;
/// A place loses half of its nearness in this distance.
const NEARNESS_HALF_KM: f64 = 30.0;
/// A posting loses half of its recency in this time.
const RECENCY_HALF_LIFE_US: f64 = 30.0 * 86_400e6;

/// The one table: what a feature is called, what a value of 1 is, what it measures. Its order is the order of terms.
macro_rules! features {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $unit:literal;)+) => {
        /// One feature; the order here is the order of the terms.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Feature {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Feature {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in profiles and explanations.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What a value of 1 is.
            pub fn unit(self) -> &'static str {
                match self {
                    $(Self::$variant => $unit,)+
                }
            }
        }
    };
}

features! {
    /// Full-precision dot product of query and document, -1 to 1.
    Dot "dot" "cosine";
    /// The same less that of the candidate that has most.
    DotGap "dot_gap" "cosine";
    /// BM25 of the query's words, as a share of the best document's.
    Bm25 "bm25" "share";
    /// The same times the share of the query that the model cannot read: of that, the embedding says nothing.
    Bm25Unread "bm25_unread" "share";
    /// 1 / its rank by meaning, 0 if it was not found so.
    DenseRank "dense_rank" "1/rank";
    /// 1 / its rank by words, 0 if it was not found so.
    LexicalRank "lexical_rank" "1/rank";
    /// The sum, over the ways by which the candidate was found, of 1 / (60 + its rank there).
    ReciprocalRank "reciprocal_rank" "1/rank";
    /// Words that the candidate's title shares with the wanted title, or with the query's text (Dice).
    TitleOverlap "title_overlap" "share";
    /// Share of the wanted words that stand in the candidate's title.
    TitleFound "title_found" "share";
    /// Share of the words of the candidate's title that are wanted.
    TitleWanted "title_wanted" "share";
    /// Runs of three letters that the candidate's title shares with the wanted title, or with the query's text (Dice): words that are
    /// written almost the same, or parts of long ones.
    TitleLetters "title_letters" "share";
    /// Share of the wanted runs of three letters that stand in the candidate's title.
    TitleLettersFound "title_letters_found" "share";
    /// Share of the query's words that stand in the candidate's text, all of it, also what the model cut off. A word that
    /// few of the candidates have counts more than one that most have.
    TextOverlap "text_overlap" "share";
    /// Natural logarithm of 1 + the different words of the candidate's text.
    TextLength "text_length" "ln words";
    /// Share of the wanted skills that the candidate has; of a query's text: share of its words that name a skill of the candidate.
    SkillOverlap "skill_overlap" "share";
    /// 1 if the query's text has all words of the candidate's company, else 0.
    CompanyNamed "company_named" "yes";
    /// 1 for a posting of this moment, 1/2 after 30 days, 1/4 after 60.
    Recency "recency" "share";
    /// 1 if the candidate's seniority is the wanted one, else 0.
    SameSeniority "same_seniority" "yes";
    /// Steps of a career between the candidate's seniority and the wanted one, or the one that the query's text names.
    SeniorityGap "seniority_gap" "steps";
    /// Kilometres between the nearest two places, at most 1,000.
    DistanceKm "distance_km" "km";
    /// 1 at the wanted place, 1/2 after 30 km, 1/4 after 60.
    Nearness "nearness" "share";
    /// 1 if the candidate is remote, else 0.
    Remote "remote" "yes";
    /// Of a query that asks for remote: 1 if the candidate is, else 0.
    RemoteFit "remote_fit" "yes";
    /// What the candidate pays as a share of what is wanted, at most 1.
    SalaryFit "salary_fit" "share";
    /// Natural logarithm of 1 + the candidate's popularity: views, applications, whatever its field counts.
    Popularity "popularity" "ln count";
}

/// The same names as in JSON.
impl FromStr for Feature {
    type Err = serde::de::value::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::deserialize(name.into_deserializer())
    }
}

/// What retrieval says about a candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Signals {
    /// `None` where it was not asked by meaning.
    pub dot: Option<f64>,
    /// Of the candidate that has most.
    pub best_dot: f64,
    /// As a share of the best document's; `None` where it was not asked by words.
    pub bm25: Option<f64>,
    /// From 1; `None` if it was not found so.
    pub dense_rank: Option<u32>,
    pub lexical_rank: Option<u32>,
    pub reciprocal_rank: f64,
}

/// A candidate, and the query that it is to be scored for.
#[derive(Debug)]
pub struct Candidate<'a> {
    pub wanted: &'a Wanted,
    pub signals: Signals,
    pub attributes: &'a Attributes,
    pub schema: &'a Schema,
    /// Words and runs of letters of its titles, made when they are first asked for.
    titles: OnceCell<Vec<Vec<u32>>>,
    letters: OnceCell<Vec<Vec<u64>>>,
}

impl<'a> Candidate<'a> {
    pub fn new(wanted: &'a Wanted, signals: Signals, attributes: &'a Attributes, schema: &'a Schema) -> Self {
        Self { wanted, signals, attributes, schema, titles: OnceCell::new(), letters: OnceCell::new() }
    }

    fn field(&self, role: Role) -> Option<FieldId> {
        self.schema.role(role)
    }

    fn words(&self, role: Role) -> &'a [String] {
        self.attributes.words(self.field(role))
    }

    /// The best of what its titles give, each with the wanted words.
    fn by_title(&self, value: impl Fn(&[u32], &[u32]) -> f64) -> Option<f64> {
        let titles = self.titles.get_or_init(|| self.words(Role::Title).iter().map(|title| word_hashes(title)).collect());
        titles.iter().map(|title| value(self.wanted.title_or_text(), title)).reduce(f64::max)
    }

    fn by_letters(&self, value: impl Fn(&[u64], &[u64]) -> f64) -> Option<f64> {
        let titles = self.letters.get_or_init(|| self.words(Role::Title).iter().map(|title| trigrams(title)).collect());
        titles.iter().map(|title| value(&self.wanted.letters, title)).reduce(f64::max)
    }
}

impl Feature {
    /// Adds what it looks at in a candidate's attributes.
    pub fn select(self, schema: &Schema, selection: &mut Selection) {
        let role = match self {
            Self::Dot | Self::DotGap | Self::Bm25 | Self::Bm25Unread | Self::DenseRank | Self::LexicalRank | Self::ReciprocalRank => return,
            Self::TextOverlap | Self::TextLength => return selection.add_text_words(),
            Self::TitleOverlap | Self::TitleFound | Self::TitleWanted | Self::TitleLetters | Self::TitleLettersFound => Role::Title,
            Self::SkillOverlap => Role::Skills,
            Self::CompanyNamed => Role::Company,
            Self::Recency => Role::PostedAt,
            Self::SameSeniority | Self::SeniorityGap => Role::Seniority,
            Self::DistanceKm | Self::Nearness => Role::Location,
            Self::Remote | Self::RemoteFit => Role::Remote,
            Self::SalaryFit => Role::Salary,
            Self::Popularity => Role::Popularity,
        };
        selection.add(schema.role(role));
    }

    /// The value for a candidate; `None` where the candidate or the query says nothing about it.
    pub fn value(self, candidate: &Candidate<'_>) -> Option<f64> {
        let Candidate { wanted, signals, attributes, .. } = candidate;
        let field = |role| candidate.field(role);
        let reciprocal = |rank: Option<u32>| rank.map_or(0.0, |rank| 1.0 / f64::from(rank));
        match self {
            Self::Dot => signals.dot,
            Self::DotGap => signals.dot.map(|dot| dot - signals.best_dot),
            Self::Bm25 => signals.bm25,
            Self::Bm25Unread => signals.bm25.map(|bm25| bm25 * wanted.unread),
            Self::DenseRank => signals.dot.map(|_| reciprocal(signals.dense_rank)),
            Self::LexicalRank => signals.bm25.map(|_| reciprocal(signals.lexical_rank)),
            Self::ReciprocalRank => Some(signals.reciprocal_rank),
            Self::TitleOverlap => candidate.by_title(dice),
            Self::TitleFound => candidate.by_title(share_in),
            Self::TitleWanted => candidate.by_title(|wanted, title| share_in(title, wanted)),
            Self::TitleLetters => candidate.by_letters(dice),
            Self::TitleLettersFound => candidate.by_letters(share_in),
            Self::TextOverlap => wanted.share_found(attributes),
            Self::TextLength => Some((attributes.n_text_words() as f64).ln_1p()),
            Self::SkillOverlap => wanted.skill_overlap(candidate.words(Role::Skills)),
            Self::CompanyNamed => {
                let companies = candidate.words(Role::Company);
                wanted.names_any(companies).map(|named| f64::from(u8::from(named)))
            }
            Self::Recency => {
                let age_us = (wanted.now_us - attributes.number(field(Role::PostedAt))?).max(0.0);
                Some((-age_us / RECENCY_HALF_LIFE_US).exp2())
            }
            Self::SameSeniority => {
                let seniority = candidate.words(Role::Seniority).first()?;
                let same = wanted.seniority.as_ref()?.eq_ignore_ascii_case(seniority);
                Some(f64::from(u8::from(same)))
            }
            Self::SeniorityGap => {
                let has = level(candidate.words(Role::Seniority).first()?)?;
                Some((wanted.level? - has).abs())
            }
            Self::DistanceKm => distance_km(candidate).map(|km| km.min(MAX_DISTANCE_KM)),
            Self::Nearness => distance_km(candidate).map(|km| (-km / NEARNESS_HALF_KM).exp2()),
            Self::Remote => Some(f64::from(u8::from(attributes.bool(field(Role::Remote))?))),
            Self::RemoteFit => wanted.is_remote.then_some(f64::from(u8::from(attributes.bool(field(Role::Remote))?))),
            Self::SalaryFit => {
                let (pays, wants) = (attributes.number(field(Role::Salary))?, wanted.salary.filter(|salary| *salary > 0.0)?);
                Some((pays / wants).clamp(0.0, 1.0))
            }
            Self::Popularity => Some(attributes.number(field(Role::Popularity))?.max(0.0).ln_1p()),
        }
    }
}

fn distance_km(candidate: &Candidate<'_>) -> Option<f64> {
    let places = candidate.attributes.places(candidate.field(Role::Location));
    let pairs = candidate.wanted.places.iter().flat_map(|a| places.iter().map(move |b| a.distance_km(*b)));
    pairs.reduce(f64::min)
}

/// The share of some ascending items that others have too.
fn share_in<T: Ord>(some: &[T], others: &[T]) -> f64 {
    if some.is_empty() { 0.0 } else { n_common(some, others) as f64 / some.len() as f64 }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rescore::{Scorer, Weights};
    use kindred_core::domain::{CollectionDefinition, Document};

    fn schema() -> Schema {
        let definition: CollectionDefinition = serde_json::from_value(json!({"template": "{title}", "fields": {
            "title": {"type": "text"}, "skills": {"type": "keyword"}, "seniority": {"type": "keyword"}, "location": {"type": "geo"},
            "posted_at": {"type": "time"}, "remote": {"type": "bool"},
        }}))
        .unwrap();
        definition.check().unwrap().1
    }

    fn attributes(mut json: Value) -> Attributes {
        let template = kindred_core::domain::Template::parse("{title}").unwrap();
        json["id"] = json!("x");
        Document::parse(json, &schema(), &template, 1_000).unwrap().attributes
    }

    fn value(feature: Feature, wanted: &Wanted, candidate: &Attributes) -> Option<f64> {
        let signals = Signals { dot: Some(0.5), ..Signals::default() };
        feature.value(&Candidate::new(wanted, signals, candidate, &schema()))
    }

    #[test]
    fn names_are_those_of_json() {
        for &feature in Feature::ALL {
            assert_eq!(serde_json::to_value(feature).unwrap(), feature.name());
        }
    }

    #[test]
    fn features_of_a_text_query() {
        let now = kindred_core::domain::parse_time_us("2026-03-31").unwrap() as f64;
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
        let wanted = Wanted::from_text("nurse with SQL and R", kindred_core::domain::parse_time_us("2026-04-07").unwrap() as f64);
        let (signals, schema) = (Signals { dot: Some(0.123_456_7), ..Signals::default() }, schema());
        let candidate = Candidate::new(&wanted, signals, &job, &schema);
        let scorer = Scorer::Weights(weights);
        let explained = scorer.explain(&candidate);
        let terms = explained.terms();
        let as_json = serde_json::to_value(terms).unwrap();
        let sum = as_json.as_array().unwrap().iter().fold(0.0, |sum, term| sum + term["contribution"].as_f64().unwrap());
        assert_eq!(terms.len(), 4);
        assert_eq!(sum, scorer.score(&candidate));
    }
}
