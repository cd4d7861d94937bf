//! What a collection holds: its template, its fields and the parts they play.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Chunking, Lexical};
use crate::error::ErrorKind;

/// Most fields a schema may have.
pub const MAX_FIELDS: usize = 256;
/// Longest template or prompt, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 4_096;
/// Stop words of a collection: more are no list that a person has read.
const MAX_STOP_WORDS: usize = 1_000;

/// Why a definition of a collection cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("the template is empty: name the fields to embed, for example \"{{title}}\\n{{description}}\"")]
    EmptyTemplate,
    #[error("the template has a '{{' or '}}' without its partner near {near:?}")]
    Braces { near: String },
    #[error("the template names no field: put at least one in braces, for example {{title}}")]
    NoField,
    #[error("the stop word {0:?} cannot be one: use a single word of letters and digits, in lower case")]
    StopWord(String),
    #[error("{what} is over {limit}")]
    TooMuch { what: &'static str, limit: usize },
    #[error(
        "the field name {0:?} is not allowed: dotted names of 1 to 256 bytes without empty parts; \"id\" and \"embedding\" are no fields"
    )]
    FieldName(String),
    #[error("field {field:?} is text, which is embedded, not filtered: use \"keyword\" to filter by exact values")]
    TextIndex { field: String },
    #[error("field {field:?} has role {role:?}, which needs type {needs}")]
    RoleType { field: String, role: Role, needs: &'static str },
    #[error("chunks.{name} is {value}: choose {allowed}")]
    Chunks { name: &'static str, value: usize, allowed: &'static str },
    #[error("fields {first:?} and {second:?} both have role {role:?}: leave it to one of them")]
    RoleTwice { first: String, second: String, role: Role },
}

impl SchemaError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// The type of a field's values. Any field may also hold an array of them, or null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// Words to embed; not filterable.
    Text,
    /// An exact value.
    Keyword,
    /// A finite number.
    Number,
    /// An RFC 3339 time or a date.
    Time,
    /// `{"lat": …, "lon": …}` in degrees.
    Geo,
    Bool,
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Keyword => "keyword",
            Self::Number => "number",
            Self::Time => "time",
            Self::Geo => "geo",
            Self::Bool => "bool",
        })
    }
}

/// The part a field plays in re-scoring. A field named like a role plays it without being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Title,
    Skills,
    Seniority,
    Location,
    PostedAt,
    Remote,
    Company,
    /// What a posting pays, or what a member wants.
    Salary,
    /// A count: views, applications, …
    Popularity,
    /// From then on the document is not there any more.
    ExpiresAt,
}

impl Role {
    const ALL: [Self; 10] = [
        Self::Title,
        Self::Skills,
        Self::Seniority,
        Self::Location,
        Self::PostedAt,
        Self::Remote,
        Self::Company,
        Self::Salary,
        Self::Popularity,
        Self::ExpiresAt,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Skills => "skills",
            Self::Seniority => "seniority",
            Self::Location => "location",
            Self::PostedAt => "posted_at",
            Self::Remote => "remote",
            Self::Company => "company",
            Self::Salary => "salary",
            Self::Popularity => "popularity",
            Self::ExpiresAt => "expires_at",
        }
    }

    /// The types that can play this part, and how to say so.
    fn fits(self, field_type: FieldType) -> Result<(), &'static str> {
        use FieldType::{Bool, Geo, Keyword, Number, Text, Time};
        match (self, field_type) {
            (Self::Title | Self::Skills | Self::Company, Text | Keyword)
            | (Self::Seniority, Keyword)
            | (Self::Location, Geo)
            | (Self::Salary | Self::Popularity, Number)
            | (Self::PostedAt | Self::ExpiresAt, Time)
            | (Self::Remote, Bool) => Ok(()),
            (Self::Title | Self::Skills | Self::Company, _) => Err("\"text\" or \"keyword\""),
            (Self::Seniority, _) => Err("\"keyword\""),
            (Self::Location, _) => Err("\"geo\""),
            (Self::PostedAt | Self::ExpiresAt, _) => Err("\"time\""),
            (Self::Remote, _) => Err("\"bool\""),
            (Self::Salary | Self::Popularity, _) => Err("\"number\""),
        }
    }
}

/// One field as users write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    #[serde(rename = "type")]
    pub field_type: FieldType,
    /// Whether filters may name it.
    #[serde(default)]
    pub index: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// Position of a field in its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u16);

/// The checked fields of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// By name; a field's position here is its [`FieldId`].
    fields: Vec<(String, FieldSpec)>,
    roles: BTreeMap<Role, FieldId>,
}

impl Schema {
    /// Checks the fields and settles who plays which role.
    ///
    /// # Errors
    /// [`SchemaError`] names the field.
    pub fn new(specs: &BTreeMap<String, FieldSpec>) -> Result<Self, SchemaError> {
        if specs.len() > MAX_FIELDS {
            return Err(SchemaError::TooMuch { what: "the number of fields", limit: MAX_FIELDS });
        }
        let mut schema = Self { fields: Vec::with_capacity(specs.len()), roles: BTreeMap::new() };
        for (name, spec) in specs {
            if name == "id" || name == super::document::EMBEDDING || name.len() > 256 || name.split('.').any(str::is_empty) {
                return Err(SchemaError::FieldName(name.clone()));
            }
            if spec.field_type == FieldType::Text && spec.index {
                return Err(SchemaError::TextIndex { field: name.clone() });
            }
            schema.fields.push((name.clone(), spec.clone()));
        }
        schema.settle_roles()?;
        Ok(schema)
    }

    /// Roles that were given come first; a role left over goes to the field of its name, if the type fits.
    fn settle_roles(&mut self) -> Result<(), SchemaError> {
        for (position, (name, spec)) in self.fields.iter().enumerate() {
            let Some(role) = spec.role else { continue };
            role.fits(spec.field_type).map_err(|needs| SchemaError::RoleType { field: name.clone(), role, needs })?;
            if let Some(first) = self.roles.insert(role, FieldId(position as u16)) {
                return Err(SchemaError::RoleTwice { first: self.fields[first.0 as usize].0.clone(), second: name.clone(), role });
            }
        }
        for role in Role::ALL {
            if let Some(id) = self.id(role.name()) {
                let spec = self.spec(id);
                if spec.role.is_none() && role.fits(spec.field_type).is_ok() {
                    self.roles.entry(role).or_insert(id);
                }
            }
        }
        Ok(())
    }

    /// The field of this name.
    pub fn id(&self, name: &str) -> Option<FieldId> {
        self.fields.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok().map(|i| FieldId(i as u16))
    }

    /// The name of a field of this schema.
    pub fn name(&self, id: FieldId) -> &str {
        &self.fields[id.0 as usize].0
    }

    /// The specification of a field of this schema.
    pub fn spec(&self, id: FieldId) -> &FieldSpec {
        &self.fields[id.0 as usize].1
    }

    /// All fields in the order of their names.
    pub fn fields(&self) -> impl Iterator<Item = (FieldId, &str, &FieldSpec)> {
        self.fields.iter().enumerate().map(|(i, (name, spec))| (FieldId(i as u16), name.as_str(), spec))
    }

    /// The field that plays a role.
    pub fn role(&self, role: Role) -> Option<FieldId> {
        self.roles.get(&role).copied()
    }

    /// Whether a document's values of this field are needed beside the stored document: to filter or to re-score.
    pub fn keeps(&self, id: FieldId) -> bool {
        self.spec(id).index || self.roles.values().any(|&r| r == id)
    }
}

/// Which fields make the text that is embedded, and how: `{name}` stands for a field's values, joined by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Literal text and field names in turn, line by line, so that a line whose fields are all empty can be left out.
    pub(super) lines: Vec<Vec<TemplatePart>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TemplatePart {
    Literal(String),
    /// A dotted name, split.
    Field(Vec<String>),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// [`SchemaError`] when it is empty, too long, names no field or has lone braces.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        if text.trim().is_empty() {
            return Err(SchemaError::EmptyTemplate);
        }
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(SchemaError::TooMuch { what: "the length of the template in bytes", limit: MAX_TEMPLATE_BYTES });
        }
        let lines = text.lines().map(Self::parse_line).collect::<Result<Vec<_>, _>>()?;
        if !lines.iter().flatten().any(|part| matches!(part, TemplatePart::Field(_))) {
            return Err(SchemaError::NoField);
        }
        Ok(Self { lines })
    }

    fn parse_line(line: &str) -> Result<Vec<TemplatePart>, SchemaError> {
        let lone = |near: &str| SchemaError::Braces { near: near.chars().take(20).collect() };
        let mut parts = Vec::new();
        let mut rest = line;
        while let Some(open) = rest.find(['{', '}']) {
            if rest[open..].starts_with('}') {
                return Err(lone(&rest[open..]));
            }
            if open > 0 {
                parts.push(TemplatePart::Literal(rest[..open].to_owned()));
            }
            let inside = &rest[open + 1..];
            let close = inside.find(['{', '}']).filter(|&at| inside[at..].starts_with('}')).ok_or_else(|| lone(&rest[open..]))?;
            let name = inside[..close].trim();
            if name.split('.').any(str::is_empty) {
                return Err(SchemaError::FieldName(name.to_owned()));
            }
            parts.push(TemplatePart::Field(name.split('.').map(str::to_owned).collect()));
            rest = &inside[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(TemplatePart::Literal(rest.to_owned()));
        }
        Ok(parts)
    }
}

/// A collection as users define it, in the configuration or by `PUT /v1/collections/{c}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CollectionDefinition {
    /// The text that is embedded: `{field}` stands for a field's values; a line whose fields are all empty is left out.
    pub template: String,
    /// By name; dotted names reach into objects (`location.city`) and arrays of objects (`experience.title`).
    #[serde(default)]
    pub fields: BTreeMap<String, FieldSpec>,
    /// Put before a query's text when it is encoded; empty: what the model's own description says.
    #[serde(default)]
    pub query_prompt: String,
    /// Put before a document's text when it is encoded; empty: what the model's own description says.
    #[serde(default)]
    pub document_prompt: String,
    /// How texts are embedded that are longer than the model takes.
    #[serde(default, skip_serializing_if = "Chunking::is_default")]
    pub chunks: Chunking,
    /// The language that texts are searched in by their words; `plain` for any other, `off` where that is not wanted.
    #[serde(default, skip_serializing_if = "Lexical::is_default")]
    pub lexical: Lexical,
    /// Words, in lower case, that searches by words leave out of queries because every document could contain them ("job"). The language's own
    /// need not be listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_words: Vec<String>,
}

impl CollectionDefinition {
    /// Checks everything and returns what the definition means.
    ///
    /// # Errors
    /// [`SchemaError`] says which part cannot be accepted.
    pub fn check(&self) -> Result<(Template, Schema), SchemaError> {
        if self.query_prompt.len().max(self.document_prompt.len()) > MAX_TEMPLATE_BYTES {
            return Err(SchemaError::TooMuch { what: "the length of a prompt in bytes", limit: MAX_TEMPLATE_BYTES });
        }
        self.chunks.check()?;
        if self.stop_words.len() > MAX_STOP_WORDS {
            return Err(SchemaError::TooMuch { what: "the number of stop words", limit: MAX_STOP_WORDS });
        }
        let is_word = |word: &&String| !word.is_empty() && word.chars().all(char::is_alphanumeric) && word.to_lowercase() == **word;
        if let Some(word) = self.stop_words.iter().find(|word| !is_word(word)) {
            return Err(SchemaError::StopWord(word.clone()));
        }
        Ok((Template::parse(&self.template)?, Schema::new(&self.fields)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(text: &str) -> BTreeMap<String, FieldSpec> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn roles_go_to_those_told_then_to_those_named() {
        let schema = Schema::new(&specs(r#"{"headline": {"type": "text", "role": "title"}, "skills": {"type": "keyword"}, "title": {"type": "text"}, "remote": {"type": "keyword"}}"#)).unwrap();
        assert_eq!(schema.role(Role::Title), schema.id("headline"));
        assert_eq!(schema.role(Role::Skills), schema.id("skills"));
        assert_eq!(schema.role(Role::Remote), None, "a keyword cannot say remote or not");
        assert!(schema.keeps(schema.id("skills").unwrap()) && !schema.keeps(schema.id("title").unwrap()));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(matches!(Schema::new(&specs(r#"{"a": {"type": "text", "index": true}}"#)), Err(SchemaError::TextIndex { .. })));
        assert!(matches!(Schema::new(&specs(r#"{"a": {"type": "text", "role": "location"}}"#)), Err(SchemaError::RoleType { .. })));
        assert!(matches!(
            Schema::new(&specs(r#"{"a": {"type": "text", "role": "title"}, "b": {"type": "text", "role": "title"}}"#)),
            Err(SchemaError::RoleTwice { .. })
        ));
        for name in ["id", "", "a..b", ".a"] {
            let fields = BTreeMap::from([(name.to_owned(), FieldSpec { field_type: FieldType::Bool, index: false, role: None })]);
            assert!(matches!(Schema::new(&fields), Err(SchemaError::FieldName(_))), "{name:?}");
        }
    }

    #[test]
    fn stop_words_are_single_words_in_lower_case() {
        let checked = |words: &[&str]| {
            let stop_words = words.iter().map(|&word| word.to_owned()).collect();
            CollectionDefinition { template: "{title}".to_owned(), stop_words, ..CollectionDefinition::default() }.check()
        };
        assert!(checked(&["job", "straße", "仕事", "24h"]).is_ok());
        for bad in ["", "Job", "two words", "c++"] {
            assert!(matches!(checked(&["job", bad]), Err(SchemaError::StopWord(word)) if word == bad), "{bad:?}");
        }
        assert!(matches!(checked(&["x"; MAX_STOP_WORDS + 1]), Err(SchemaError::TooMuch { .. })));
    }

    #[test]
    fn templates_are_checked() {
        assert!(Template::parse("{title}\n{location.city}, {skills}").is_ok());
        for bad in ["", "  \n", "no field", "{title", "title}", "{a{b}}", "{}", "{a..b}"] {
            assert!(Template::parse(bad).is_err(), "{bad:?}");
        }
    }
}
