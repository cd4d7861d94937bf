//! FIT: a member and a posting in, the posting's requirements out: met, partly met or missing, each with what both sides say about it.
//!
//! It says nothing about the person: requirements are listed one by one, in the posting's order, and never added up. All words of the answer
//! are the two documents' own, but for a few fixed sentences: the same documents give the same answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::blocking::{Work, blocking};
use super::phrases::{MAX_OF_TEXT, encode};
use super::{Encoders, PipelineError};
use crate::collection::{Collections, Searcher};
use crate::rescore::level;
use kindred_core::domain::{Attributes, CollectionName, DocumentId, Embedding, FieldType, Role, phrases, values_of, words};

/// Skills of a posting that are looked at.
const MAX_SKILLS: usize = 64;
/// Sentences of a posting that are taken for requirements, at most.
const MAX_STATEMENTS: usize = 24;
/// From this cosine on two phrases say the same, and from that on something alike: chosen so that of what a member does not say one in a
/// hundred at most is told as met, and one in twenty as partly met (benches/README.md, Fit).
const SAME: f32 = 0.60;
const ALIKE: f32 = 0.45;
/// Kilometres that people travel to work, and that they may.
const NEAR_KM: f64 = 50.0;
const REACHABLE_KM: f64 = 150.0;
/// Steps of a career below the wanted one that are still near it.
const NEAR_STEPS: f64 = 1.0;

/// Words by which a sentence of a posting is known to ask for something.
const CUES: [&str; 27] = [
    "ability",
    "able",
    "bachelor",
    "certificate",
    "certification",
    "certified",
    "clearance",
    "degree",
    "diploma",
    "experience",
    "experienced",
    "familiar",
    "familiarity",
    "fluent",
    "knowledge",
    "license",
    "licensed",
    "licensure",
    "master",
    "minimum",
    "must",
    "proficiency",
    "proficient",
    "require",
    "required",
    "requirement",
    "skilled",
];

/// What a requirement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequirementKind {
    Skill,
    Seniority,
    Place,
    /// A sentence of the posting's text.
    Statement,
}

/// Whether the member's document shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequirementStatus {
    Met,
    /// It shows something alike.
    Partial,
    /// It shows nothing like it.
    Missing,
    /// It says nothing of this kind.
    Unknown,
}

/// What a document says, word for word, and in which of its fields.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Evidence {
    pub field: String,
    pub text: String,
}

/// Something that a posting asks for.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Requirement {
    pub kind: RequirementKind,
    pub status: RequirementStatus,
    pub posting: Evidence,
    /// What the member's document says that is nearest to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<Evidence>,
    /// Of the two texts, -1 to 1, where they were compared by meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f32>,
    /// Between the nearest two places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance_km: Option<f64>,
    /// What the member could do about it; not there where it is met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}

/// The requirements of a posting, and what a member's document shows of them.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct FitReport {
    /// Skills, then seniority and place, then sentences, as they stand in the posting.
    pub requirements: Vec<Requirement>,
    /// What this is, for those who read it.
    pub note: &'static str,
    /// Which compared the texts.
    pub model: String,
}

const NOTE: &str = "Requirements are read from the posting and compared with what the member's document says, one by one. What a document \
                    does not say may still be so: this is no judgment of the person.";

/// Whose documents are held against each other.
#[derive(Debug, Clone, PartialEq)]
pub struct FitRequest {
    pub member: (CollectionName, DocumentId),
    pub job: (CollectionName, DocumentId),
}

/// Holds members against postings.
#[derive(Debug)]
pub struct FitPipeline {
    encoders: Arc<Encoders>,
    collections: Arc<Collections>,
}

/// A document, read.
struct Read {
    searcher: Arc<Searcher>,
    attributes: Attributes,
    fields: Map<String, Json>,
}

impl FitPipeline {
    pub fn new(encoders: Arc<Encoders>, collections: Arc<Collections>) -> Self {
        Self { encoders, collections }
    }

    /// Compares a posting's requirements with a member's document. Documents are read, cut and compared away from the threads
    /// that serve HTTP.
    ///
    /// # Errors
    /// Unknown documents or collections; an encoder without room.
    pub async fn fit(&self, request: &FitRequest) -> Result<FitReport, PipelineError> {
        let (collections, of) = (Arc::clone(&self.collections), request.clone());
        let pair = blocking(Work::Read, move || Pair::read(&collections, &of)).await??;
        let searcher = Arc::clone(&pair.job.searcher);
        let encoder = self.encoders.get(searcher.description()).await?;
        let asked = encode(&encoder, &searcher, pair.requirements.iter().map(|evidence| &*evidence.text), false).await?;
        let has = encode(&encoder, &searcher, pair.said.iter().map(|evidence| &*evidence.text), false).await?;
        let requirements = blocking(Work::Read, move || pair.compare(&asked, &has)).await?;
        Ok(FitReport { requirements, note: NOTE, model: searcher.description().model.name.clone() })
    }
}

/// The two documents, read and cut.
struct Pair {
    member: Read,
    job: Read,
    /// All that the member's document says.
    said: Vec<Evidence>,
    /// The posting's skills, then its sentences that ask for something.
    requirements: Vec<Evidence>,
    n_skills: usize,
}

impl Pair {
    fn read(collections: &Collections, request: &FitRequest) -> Result<Self, PipelineError> {
        let (member, job) = (Read::new(collections, &request.member)?, Read::new(collections, &request.job)?);
        let said = said_by(&member);
        let mut requirements = skills(&job);
        let n_skills = requirements.len();
        requirements.extend(statements(&job));
        Ok(Self { member, job, said, requirements, n_skills })
    }

    /// Skills first, then seniority and place, then sentences.
    fn compare(self, asked: &[Embedding], has: &[Embedding]) -> Vec<Requirement> {
        let Self { member, job, said, requirements, n_skills } = self;
        let words_said: Vec<BTreeSet<String>> = said.iter().map(|evidence| words(&evidence.text)).collect();
        let mut compared: Vec<Requirement> = (requirements.into_iter().enumerate())
            .map(|(position, posting)| {
                let kind = if position < n_skills { RequirementKind::Skill } else { RequirementKind::Statement };
                compare(kind, posting, &asked[position], &said, &words_said, has)
            })
            .collect();
        let sentences = compared.split_off(n_skills);
        compared.extend(seniority(&member, &job));
        compared.extend(place(&member, &job));
        compared.extend(sentences);
        compared
    }
}

impl Read {
    fn new(collections: &Collections, (collection, id): &(CollectionName, DocumentId)) -> Result<Self, PipelineError> {
        let searcher = collections.get(collection)?.searcher();
        let unknown = || PipelineError::UnknownDocument { collection: collection.to_string(), id: id.to_string() };
        let document = searcher.get(id)?.ok_or_else(unknown)?;
        let attributes = searcher.attributes(&document)?.into_owned();
        let fields = serde_json::from_str(searcher.fields(&document)?)
            .map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
        Ok(Self { searcher, attributes, fields })
    }

    /// The field that plays a role.
    fn name_of(&self, role: Role) -> Option<&str> {
        let schema = &self.searcher.meaning().schema;
        let field = schema.role(role)?;
        schema.fields().find(|(id, ..)| *id == field).map(|(_, name, _)| name)
    }

    fn words(&self, role: Role) -> &[String] {
        self.attributes.words(self.searcher.meaning().schema.role(role))
    }

    fn first(&self, role: Role) -> Option<Evidence> {
        Some(Evidence { field: self.name_of(role)?.to_owned(), text: self.words(role).first()?.clone() })
    }

    /// Visits the phrases of its texts, except the title, in the order of the fields, until `see` returns false.
    fn each_phrase(&self, mut see: impl FnMut(Evidence) -> bool) {
        let schema = &self.searcher.meaning().schema;
        let title = self.name_of(Role::Title);
        let texts = schema.fields().filter(|(_, name, spec)| spec.field_type == FieldType::Text && Some(*name) != title);
        for (_, name, _) in texts {
            for value in values_of(&self.fields, name) {
                let Json::String(text) = value else { continue };
                for phrase in phrases(&text) {
                    if !see(Evidence { field: name.to_owned(), text: phrase.to_owned() }) {
                        return;
                    }
                }
            }
        }
    }

    /// The first `max` phrases of its texts that are wanted.
    fn phrases(&self, max: usize, is_wanted: impl Fn(&Evidence) -> bool) -> Vec<Evidence> {
        let mut found = Vec::new();
        self.each_phrase(|phrase| {
            if is_wanted(&phrase) {
                found.push(phrase);
            }
            found.len() < max
        });
        found
    }
}

/// The skills that a posting names.
fn skills(job: &Read) -> Vec<Evidence> {
    let Some(field) = job.name_of(Role::Skills) else { return Vec::new() };
    let named = job.words(Role::Skills).iter().take(MAX_SKILLS);
    named.map(|skill| Evidence { field: field.to_owned(), text: skill.clone() }).collect()
}

/// The sentences of a posting that ask for something.
fn statements(job: &Read) -> Vec<Evidence> {
    let asks = |evidence: &Evidence| {
        let words = words(&evidence.text);
        // "Required:" alone asks for nothing, and a question is for the one who applies.
        words.len() > 2 && !evidence.text.ends_with('?') && CUES.iter().any(|cue| words.contains(*cue))
    };
    job.phrases(MAX_STATEMENTS, asks)
}

/// All that a member's document says: title, skills, phrases.
fn said_by(member: &Read) -> Vec<Evidence> {
    let skills = member.name_of(Role::Skills).map(str::to_owned);
    let skills = skills.into_iter().flat_map(|field| {
        member.words(Role::Skills).iter().take(MAX_SKILLS).map(move |skill| Evidence { field: field.clone(), text: skill.clone() })
    });
    let mut said: Vec<Evidence> = member.first(Role::Title).into_iter().chain(skills).collect();
    said.extend(member.phrases(MAX_OF_TEXT, |_| true));
    said
}

/// A requirement held against all that a member's document says: by words first, which are certain, then by meaning.
/// `words_said` are those of each text of `said`.
fn compare(
    kind: RequirementKind,
    posting: Evidence,
    asked: &Embedding,
    said: &[Evidence],
    words_said: &[BTreeSet<String>],
    has: &[Embedding],
) -> Requirement {
    let wanted = words(&posting.text);
    let says_it = |words: &BTreeSet<String>| !wanted.is_empty() && wanted.is_subset(words);
    if let Some(position) = words_said.iter().position(says_it) {
        let member = Some(said[position].clone());
        return Requirement { kind, status: RequirementStatus::Met, posting, member, cosine: None, distance_km: None, next_step: None };
    }
    let cosines = has.iter().map(|embedding| asked.dot(embedding));
    // Of equal ones the first.
    let best = cosines.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    let status = match best {
        None => RequirementStatus::Unknown,
        Some((_, cosine)) if cosine >= SAME => RequirementStatus::Met,
        Some((_, cosine)) if cosine >= ALIKE => RequirementStatus::Partial,
        Some(_) => RequirementStatus::Missing,
    };
    let member = best.map(|(position, _)| said[position].clone());
    let next_step = match (status, &member) {
        (RequirementStatus::Met, _) => None,
        (RequirementStatus::Partial, Some(member)) => Some(format!("Say how “{}” answers “{}”.", member.text, posting.text)),
        _ if kind == RequirementKind::Skill => Some(format!("Say where you have used “{}”, or learn it.", posting.text)),
        _ => Some(format!("Say what you have that answers “{}”.", posting.text)),
    };
    Requirement { kind, status, posting, member, cosine: best.map(|(_, cosine)| cosine), distance_km: None, next_step }
}

fn seniority(member: &Read, job: &Read) -> Option<Requirement> {
    let posting = job.first(Role::Seniority)?;
    let wanted = level(&posting.text)?;
    let member = member.first(Role::Seniority);
    let has = member.as_ref().and_then(|evidence| level(&evidence.text));
    let status = match has {
        None => RequirementStatus::Unknown,
        Some(has) if has >= wanted => RequirementStatus::Met,
        Some(has) if wanted - has <= NEAR_STEPS => RequirementStatus::Partial,
        Some(_) => RequirementStatus::Missing,
    };
    let next_step = match status {
        RequirementStatus::Met => None,
        RequirementStatus::Unknown => Some("Say at which level you have worked.".to_owned()),
        RequirementStatus::Partial | RequirementStatus::Missing => Some(format!("Show work of the level “{}”.", posting.text)),
    };
    Some(Requirement { kind: RequirementKind::Seniority, status, posting, member, cosine: None, distance_km: None, next_step })
}

/// Where the work is, unless it is anywhere.
fn place(member: &Read, job: &Read) -> Option<Requirement> {
    let of = |read: &Read| read.searcher.meaning().schema.role(Role::Location);
    let wanted = job.attributes.places(of(job));
    if wanted.is_empty() || job.attributes.bool(job.searcher.meaning().schema.role(Role::Remote)) == Some(true) {
        return None;
    }
    let posting = named_place(job)?;
    let pairs = member.attributes.places(of(member)).iter().flat_map(|a| wanted.iter().map(move |b| a.distance_km(*b)));
    let distance_km = pairs.reduce(f64::min).map(|km| (km * 10.0).round() / 10.0);
    let status = match distance_km {
        None => RequirementStatus::Unknown,
        Some(km) if km <= NEAR_KM => RequirementStatus::Met,
        Some(km) if km <= REACHABLE_KM => RequirementStatus::Partial,
        Some(_) => RequirementStatus::Missing,
    };
    let next_step = match status {
        RequirementStatus::Met => None,
        RequirementStatus::Unknown => Some("Say where you are.".to_owned()),
        RequirementStatus::Partial | RequirementStatus::Missing => {
            Some(format!("Ask whether the work can be done from afar, or say that you would come to {}.", posting.text))
        }
    };
    let member = named_place(member);
    Some(Requirement { kind: RequirementKind::Place, status, posting, member, cosine: None, distance_km, next_step })
}

/// A document's place by its name, if it has one, else by its coordinates.
fn named_place(read: &Read) -> Option<Evidence> {
    let field = read.name_of(Role::Location)?;
    let city = format!("{field}.city");
    if let Some(Json::String(name)) = values_of(&read.fields, &city).into_iter().next() {
        return Some(Evidence { field: city, text: name });
    }
    let place = read.attributes.places(read.searcher.meaning().schema.role(Role::Location)).first()?;
    Some(Evidence { field: field.to_owned(), text: format!("{}, {}", place.lat, place.lon) })
}
