//! Answers for a reader who pays by the word: a text of short lines, and the same as data.

use std::fmt::Write;

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Map, Value, json};

use crate::http::error::{ApiError, status_of};
use crate::pipeline::{CollectionInfo, FitReport, Hit, Placement, QueryResponse, RequirementStatus, StoredDocument};
use kindred_core::domain::{CollectionDefinition, FieldType, Role, values_of};
use kindred_core::error::ErrorKind;

/// Longest title or value, in characters, of a hit.
const SHORT: usize = 160;
/// Of a field with many values, so many are told.
const VALUES: usize = 6;
/// Longest text of a document that is read whole.
const LONG: usize = 20_000;
/// What a score is mostly made of.
const TERMS: usize = 5;

/// The fields that a hit is told by: its title, and what it can be filtered by.
#[derive(Debug)]
pub struct Shown {
    title: Option<String>,
    details: Vec<String>,
}

impl Shown {
    pub fn of(definition: &CollectionDefinition) -> Self {
        let title = definition.check().ok().and_then(|(_, schema)| {
            let field = schema.role(Role::Title);
            let mut fields = schema.fields();
            let titled = fields.find(|(id, ..)| Some(*id) == field).map(|(_, name, _)| name.to_owned());
            titled.or_else(|| schema.fields().find(|(.., spec)| spec.field_type == FieldType::Text).map(|(_, name, _)| name.to_owned()))
        });
        let is_detail = |field_type| matches!(field_type, FieldType::Keyword | FieldType::Number | FieldType::Bool | FieldType::Time);
        let details =
            definition.fields.iter().filter(|(_, spec)| spec.index && is_detail(spec.field_type) && spec.role != Some(Role::ExpiresAt));
        let details = details.map(|(name, _)| name.clone()).filter(|name| Some(name) != title.as_ref() && name != "expires_at").collect();
        Self { title, details }
    }

    /// What a search should return.
    pub fn fields(&self) -> Vec<String> {
        self.title.iter().chain(&self.details).cloned().collect()
    }
}

/// The hits of a search, best first.
pub fn hits(response: &QueryResponse, shown: &Shown) -> CallToolResult {
    let told: Vec<Value> = response.hits.iter().map(|hit| one_hit(hit, shown)).collect();
    let plan = &response.plan;
    let mut text = match told.len() {
        0 if plan.n_documents == 0 => "No hits: the collection is empty.".to_owned(),
        0 => format!("No hits: {} of {} documents match the filter. Ease or leave out a condition.", plan.n_matching, plan.n_documents),
        n => format!("{n} of {} matching documents, best first:", plan.n_matching),
    };
    for (position, hit) in told.iter().enumerate() {
        let _ = write!(
            text,
            "\n{}. {} ({:.3}) {}",
            position + 1,
            plain(&hit["id"]),
            hit["score"].as_f64().unwrap_or_default(),
            plain(&hit["title"])
        );
        for (name, value) in hit["fields"].as_object().into_iter().flatten() {
            let _ = write!(text, "; {name}: {}", plain(value));
        }
        for phrase in hit["phrases"].as_array().into_iter().flatten() {
            let _ = write!(text, " — “{}”", plain(phrase));
        }
    }
    let mut data = json!({"hits": told, "n_matching": plan.n_matching, "n_documents": plan.n_documents});
    if !response.degraded.is_empty() {
        let _ = write!(text, "\nNot done: {}", response.degraded.join("; "));
        data["degraded"] = json!(response.degraded);
    }
    done(text, data)
}

fn one_hit(hit: &Hit, shown: &Shown) -> Value {
    let all: Map<String, Value> = serde_json::from_str(hit.fields.get()).unwrap_or_default();
    let title = shown.title.as_ref().and_then(|name| values_of(&all, name).first().map(|value| cut(&plain(value), SHORT)));
    let details: Map<String, Value> = shown.details.iter().filter_map(|name| Some((name.clone(), few(values_of(&all, name))?))).collect();
    let mut told = json!({"id": hit.id, "score": (hit.score * 1e4).round() / 1e4, "title": title.unwrap_or_default(), "fields": details});
    if !hit.phrases.is_empty() {
        told["phrases"] = hit.phrases.iter().map(|phrase| cut(&phrase.text, SHORT)).collect();
    }
    told
}

/// A value as it is, several as a list, many as their beginning.
fn few(mut values: Vec<Value>) -> Option<Value> {
    values.retain(|value| !value.is_null());
    let shortened = |value: Value| match value {
        Value::String(text) => Value::from(cut(&text, SHORT)),
        other => other,
    };
    match values.len() {
        0 => None,
        1 => values.pop().map(shortened),
        n => {
            let mut told: Vec<Value> = values.into_iter().take(VALUES).map(shortened).collect();
            if n > VALUES {
                told.push(Value::from(format!("… and {} more", n - VALUES)));
            }
            Some(Value::Array(told))
        }
    }
}

/// All of a document.
pub fn document(document: &StoredDocument) -> CallToolResult {
    let mut fields: Value = serde_json::from_str(document.fields.get()).unwrap_or_default();
    shorten(&mut fields);
    let data = json!({"id": document.id, "fields": fields});
    done(data.to_string(), data)
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > LONG => *text = cut(text, LONG),
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(map) => map.values_mut().for_each(shorten),
        _ => {}
    }
}

/// What became of a document in a search.
pub fn placement(placement: &Placement) -> CallToolResult {
    let mut text = format!("{}: {}", placement.id, placement.reason);
    if let Some(rank) = placement.rank {
        let _ = write!(text, "\nrank: {rank}");
    }
    let out: Vec<Value> = (placement.filter.iter().filter(|clause| clause.keeps_out))
        .map(|clause| json!({"condition": clause.condition, "document_has": few(clause.values.clone())}))
        .collect();
    for clause in &out {
        let _ = write!(text, "\nkept out by {}; the document has {}", clause["condition"], clause["document_has"]);
    }
    let mut terms: Vec<_> = placement.explanation.terms().iter().filter(|term| term.contribution != 0.0).collect();
    terms.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
    terms.truncate(TERMS);
    let _ = write!(text, "\nscore: {:.3}", placement.rescore.score);
    for term in &terms {
        let _ = write!(text, "; {} {:+.3}", term.feature, term.contribution);
    }
    let phrases: Vec<String> = placement.phrases.iter().take(3).map(|phrase| cut(&phrase.text, SHORT)).collect();
    for phrase in &phrases {
        let _ = write!(text, "\nnearest in its text: “{phrase}”");
    }
    let terms: Map<String, Value> = terms.iter().map(|term| (term.feature.to_owned(), json!(term.contribution))).collect();
    let data = json!({
        "id": placement.id, "fate": placement.fate, "reason": placement.reason, "rank": placement.rank, "kept_out_by": out,
        "score": placement.rescore.score, "last_hit_score": placement.rescore.last_hit, "terms": terms, "phrases": phrases,
    });
    done(text, data)
}

/// What a job asks for, and what a member says about it.
pub fn fit(report: &FitReport) -> CallToolResult {
    let mut text = report.note.to_owned();
    let mut told = Vec::new();
    for requirement in &report.requirements {
        let mut one = json!({"kind": requirement.kind, "status": requirement.status, "job_says": cut(&requirement.posting.text, SHORT)});
        // Of what is missing by meaning, the nearest text tells nothing.
        let is_told = requirement.cosine.is_none() || requirement.status != RequirementStatus::Missing;
        let member = requirement.member.as_ref().filter(|_| is_told).map(|evidence| cut(&evidence.text, SHORT));
        let _ = write!(text, "\n[{}] {}: {}", plain(&one["status"]), plain(&one["kind"]), plain(&one["job_says"]));
        if let Some(member) = member {
            let _ = write!(text, " — member: {member}");
            one["member_says"] = json!(member);
        }
        if let Some(step) = &requirement.next_step {
            one["next_step"] = json!(step);
        }
        told.push(one);
    }
    done(text, json!({"requirements": told, "note": report.note}))
}

/// What there is, and what it can be filtered by.
pub fn collections(infos: &[CollectionInfo]) -> CallToolResult {
    let mut text = String::new();
    let mut told = Vec::new();
    for info in infos {
        let indexed = info.definition.fields.iter().filter(|(_, spec)| spec.index);
        let fields: Map<String, Value> = indexed.map(|(name, spec)| (name.clone(), json!(spec.field_type))).collect();
        let listed: Vec<String> = fields.iter().map(|(name, field_type)| format!("{name} ({})", plain(field_type))).collect();
        let _ = writeln!(text, "{}: {} documents; filter by {}", info.name, info.n_documents, listed.join(", "));
        told.push(json!({"name": info.name, "n_documents": info.n_documents, "filter_fields": fields}));
    }
    done(text.trim_end().to_owned(), json!({"collections": told}))
}

/// A failure that the model reads, with what it can do.
pub fn failure(e: ApiError) -> CallToolResult {
    let (status, message, field) = e.parts();
    let mut text = message;
    if let Some(field) = field.filter(|field| !text.contains(field.as_str())) {
        text = format!("{field}: {text}");
    }
    let is = |kind| status == status_of(kind).0;
    if is(ErrorKind::NotFound) {
        text.push_str(". Use list_collections for names of collections, and ids that search or match_documents have returned.");
    } else if is(ErrorKind::Overloaded) || is(ErrorKind::Unavailable) {
        text.push_str(". Wait a few seconds before you call again.");
    }
    CallToolResult::error(vec![ContentBlock::text(text)])
}

fn done(text: String, data: Value) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(data);
    result
}

/// A text without its quotes, several values with commas.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_values_and_long_texts_are_cut() {
        assert_eq!(few(vec![Value::Null]), None);
        assert_eq!(few(vec![json!("a")]), Some(json!("a")));
        assert_eq!(few((0..9).map(Value::from).collect()), Some(json!([0, 1, 2, 3, 4, 5, "… and 3 more"])));
        assert_eq!(cut("äöü x", 4), "äöü…");
    }

    #[test]
    fn hits_are_told_by_title_and_what_can_be_filtered_by() {
        let fields = json!({
            "headline": {"type": "text", "role": "title"}, "summary": {"type": "text"}, "skills": {"type": "keyword", "index": true},
            "location": {"type": "geo", "index": true}, "note": {"type": "keyword"}, "until": {"type": "time", "index": true, "role": "expires_at"},
        });
        let definition: CollectionDefinition = serde_json::from_value(json!({"template": "{summary}", "fields": fields})).unwrap();
        assert_eq!(Shown::of(&definition).fields(), ["headline", "skills"]);
        let untitled: CollectionDefinition =
            serde_json::from_value(json!({"template": "{text}", "fields": {"text": {"type": "text"}}})).unwrap();
        assert_eq!(Shown::of(&untitled).fields(), ["text"]);
    }
}
