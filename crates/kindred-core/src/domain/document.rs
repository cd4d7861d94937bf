//! Documents: what users store, the text that is embedded, the values that are filtered.

use serde_json::{Map, Value as Json};

use super::schema::TemplatePart;
use super::{
    Attributes, DocumentId, FieldType, GeoPoint, NameError, Number, Schema, Template, TextHash, Value, parse_time_us, word_hashes,
};
use crate::error::ErrorKind;

/// A document may bring its embedding under this key, which is not a field, as `id` is not.
pub(super) const EMBEDDING: &str = "embedding";

/// Why a document cannot be accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DocumentError {
    #[error("a document must be a JSON object with an \"id\"")]
    NotAnObject,
    #[error("the document has no \"id\"")]
    NoId,
    #[error("\"id\" must be a string or a whole number below 2^64 (write larger ones as strings)")]
    IdType,
    #[error(transparent)]
    Id(#[from] NameError),
    #[error("\"embedding\" must be an array of numbers, as many as the model has dimensions")]
    EmbeddingType,
    #[error("field {field:?} must be {expected}, but holds {actual}")]
    Type { field: String, expected: &'static str, actual: String },
    #[error("nothing to embed: the collection's template gives an empty text for this document")]
    EmptyText,
    #[error("the text to embed has {actual} bytes, over the limit of {limit} (limits.max_text_bytes)")]
    TextTooLong { actual: usize, limit: usize },
}

impl DocumentError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAnObject => ErrorKind::Malformed,
            Self::TextTooLong { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::Invalid,
        }
    }

    /// The field at fault, where there is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::NoId | Self::IdType | Self::Id(_) => Some("id"),
            Self::Type { field, .. } => Some(field),
            Self::EmbeddingType => Some(EMBEDDING),
            _ => None,
        }
    }
}

/// A document that has been checked against its collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub id: DocumentId,
    /// Everything the user sent but the id and the embedding.
    pub fields: Map<String, Json>,
    /// The template's text, not empty unless an embedding was given.
    pub text: String,
    pub attributes: Attributes,
    /// The embedding that came with it, as it was sent.
    pub embedding: Option<Vec<f32>>,
}

impl Document {
    /// Checks a JSON value against a collection.
    ///
    /// # Errors
    /// [`DocumentError`] names the field at fault.
    pub fn parse(json: Json, schema: &Schema, template: &Template, max_text_bytes: usize) -> Result<Self, DocumentError> {
        let id = Self::id_of(&json)?;
        let Json::Object(mut fields) = json else { return Err(DocumentError::NotAnObject) };
        fields.shift_remove("id");
        let document = Self::from_fields(id, fields, schema, template, max_text_bytes)?;
        if document.text.is_empty() && document.embedding.is_none() {
            return Err(DocumentError::EmptyText);
        }
        Ok(document)
    }

    /// The id of a JSON value that is to be a document.
    ///
    /// # Errors
    /// [`DocumentError`] when it has none.
    pub fn id_of(json: &Json) -> Result<DocumentId, DocumentError> {
        match json.as_object().ok_or(DocumentError::NotAnObject)?.get("id") {
            None | Some(Json::Null) => Err(DocumentError::NoId),
            Some(Json::String(id)) => Ok(DocumentId::new(id.as_str())?),
            Some(Json::Number(id)) if !id.is_f64() => Ok(DocumentId::new(id.to_string())?),
            Some(_) => Err(DocumentError::IdType),
        }
    }

    /// Recognises what the document's embedding is made of.
    pub fn text_hash(&self) -> TextHash {
        self.embedding.as_ref().map_or_else(|| TextHash::of(&self.text), |given| TextHash::of_given(given))
    }

    /// Returns the document as JSON that [`Self::parse`] accepts.
    pub fn into_json(self) -> Json {
        let mut json = Map::with_capacity(self.fields.len() + 2);
        json.insert("id".to_owned(), Json::String(self.id.to_string()));
        json.extend(self.fields);
        if let Some(embedding) = self.embedding {
            json.insert(EMBEDDING.to_owned(), embedding.into());
        }
        Json::Object(json)
    }

    /// Checks fields whose id is known already, those of a stored document. The text may be empty: the embedding may be one that was given.
    ///
    /// # Errors
    /// [`DocumentError`] names the field at fault.
    pub fn from_fields(
        id: DocumentId,
        mut fields: Map<String, Json>,
        schema: &Schema,
        template: &Template,
        max_text_bytes: usize,
    ) -> Result<Self, DocumentError> {
        let embedding = match fields.shift_remove(EMBEDDING) {
            None | Some(Json::Null) => None,
            Some(Json::Array(numbers)) => {
                let numbers = numbers.iter().map(|number| number.as_f64().map(|x| x as f32));
                Some(numbers.collect::<Option<Vec<f32>>>().ok_or(DocumentError::EmbeddingType)?)
            }
            Some(_) => return Err(DocumentError::EmbeddingType),
        };
        let mut attributes = extract(&fields, schema)?;
        let text = template.render(&fields);
        if text.len() > max_text_bytes {
            return Err(DocumentError::TextTooLong { actual: text.len(), limit: max_text_bytes });
        }
        attributes.set_text_words(word_hashes(&text));
        Ok(Self { id, fields, text, attributes, embedding })
    }
}

impl Template {
    /// The text of a document: each line with its fields filled in; lines whose fields are all empty are left out.
    pub fn render(&self, fields: &Map<String, Json>) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let (mut filled, mut has_field, mut has_value) = (String::new(), false, false);
            for part in line {
                match part {
                    TemplatePart::Literal(literal) => filled.push_str(literal),
                    TemplatePart::Field(path) => {
                        let values = leaves(fields, path)
                            .into_iter()
                            .filter_map(as_words)
                            .filter(|w| !w.trim().is_empty())
                            .collect::<Vec<_>>()
                            .join(", ");
                        has_field = true;
                        has_value |= !values.is_empty();
                        filled.push_str(&values);
                    }
                }
            }
            if has_value || (!has_field && !filled.trim().is_empty()) {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(filled.trim());
            }
        }
        text
    }
}

fn as_words(leaf: &Json) -> Option<String> {
    match leaf {
        Json::String(words) => Some(words.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The values of a field of this name, as they were sent: at a dotted path, arrays opened at every step.
pub fn values_of(fields: &Map<String, Json>, name: &str) -> Vec<Json> {
    leaves(fields, &name.split('.').collect::<Vec<_>>()).into_iter().cloned().collect()
}

/// The values at a dotted path, arrays opened at every step. A key that holds the dots itself is found too.
fn leaves<'a>(fields: &'a Map<String, Json>, path: &[impl AsRef<str>]) -> Vec<&'a Json> {
    fn walk<'a>(json: &'a Json, path: &[&str], found: &mut Vec<&'a Json>) {
        match (json, path) {
            (Json::Array(items), _) => items.iter().for_each(|item| walk(item, path, found)),
            (_, []) => found.push(json),
            (Json::Object(map), [first, rest @ ..]) => {
                if let Some(inner) = map.get(*first) {
                    walk(inner, rest, found);
                }
            }
            _ => {}
        }
    }
    let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
    let mut found = Vec::new();
    if path.len() > 1
        && let Some(whole) = fields.get(&path.join("."))
    {
        walk(whole, &[], &mut found);
    } else if let Some(first) = fields.get(path[0]) {
        walk(first, &path[1..], &mut found);
    }
    found
}

/// The typed values of all fields that the schema keeps; other fields of the schema are checked as well.
fn extract(fields: &Map<String, Json>, schema: &Schema) -> Result<Attributes, DocumentError> {
    let mut attributes = Attributes::default();
    for (id, name, spec) in schema.fields() {
        let path: Vec<&str> = name.split('.').collect();
        let values = leaves(fields, &path).into_iter().filter(|leaf| !leaf.is_null());
        if let Some(value) = typed(values, name, spec.field_type)?.filter(|_| schema.keeps(id)) {
            attributes.push(id, value);
        }
    }
    Ok(attributes)
}

fn typed<'a>(values: impl Iterator<Item = &'a Json>, name: &str, field_type: FieldType) -> Result<Option<Value>, DocumentError> {
    fn all<'a, T>(
        values: impl Iterator<Item = &'a Json>,
        name: &str,
        expected: &'static str,
        read: impl Fn(&Json) -> Option<T>,
    ) -> Result<Vec<T>, DocumentError> {
        values
            .map(|json| read(json).ok_or_else(|| DocumentError::Type { field: name.to_owned(), expected, actual: shorten(json) }))
            .collect()
    }
    let value = match field_type {
        FieldType::Text | FieldType::Keyword => Value::Words(all(values, name, "a string", |j| j.as_str().map(str::to_owned))?),
        FieldType::Number => Value::of_numbers(all(values, name, "a finite number", Number::from_json)?),
        FieldType::Time => {
            let time = |json: &Json| json.as_str().and_then(parse_time_us).map(Number::from);
            Value::of_numbers(all(values, name, "an RFC 3339 time or a date", time)?)
        }
        FieldType::Bool => Value::Bools(all(values, name, "true or false", Json::as_bool)?),
        // An address without coordinates is a place we do not know, not a mistake.
        FieldType::Geo => {
            Value::Places(all(values.filter(|j| !lacks_coordinates(j)), name, "{\"lat\": -90..90, \"lon\": -180..180}", place)?)
        }
    };
    Ok(Some(value).filter(|value| !value.is_empty()))
}

fn lacks_coordinates(json: &Json) -> bool {
    json.as_object().is_some_and(|map| ["lat", "lon"].iter().all(|key| map.get(*key).is_none_or(Json::is_null)))
}

fn place(json: &Json) -> Option<GeoPoint> {
    GeoPoint::new(json.get("lat")?.as_f64()?, json.get("lon")?.as_f64()?)
}

/// A value short enough for an error message.
fn shorten(json: &Json) -> String {
    let text = json.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::CollectionDefinition;

    fn definition() -> (Template, Schema) {
        let definition: CollectionDefinition = serde_json::from_value(json!({
            "template": "{title}\n{experience.title}\nin {location.city}",
            "fields": {
                "title": {"type": "text"}, "location": {"type": "geo", "index": true}, "location.city": {"type": "keyword", "index": true},
                "salary.min": {"type": "number", "index": true}, "posted_at": {"type": "time", "index": true}, "skills": {"type": "keyword", "index": true},
            },
        }))
        .unwrap();
        definition.check().unwrap()
    }

    fn parse(json: Json) -> Result<Document, DocumentError> {
        let (template, schema) = definition();
        Document::parse(json, &schema, &template, 1_000)
    }

    #[test]
    fn reads_text_and_values() {
        let d = parse(json!({
            "id": 7, "title": "Nurse", "experience": [{"title": "Carer"}, {"title": "Porter"}], "skills": ["triage"],
            "location": {"city": "Bonn", "lat": 50.7, "lon": 7.1}, "salary": {"min": 40000}, "posted_at": "1970-01-02", "free": {"x": [1]},
        }))
        .unwrap();
        let (_, schema) = definition();
        assert_eq!(d.id.as_str(), "7");
        assert_eq!(d.text, "Nurse\nCarer, Porter\nin Bonn");
        assert_eq!(d.attributes.number(schema.id("salary.min")), Some(40_000.0));
        assert_eq!(d.attributes.number(schema.id("posted_at")), Some(86_400e6));
        assert_eq!(d.attributes.places(schema.id("location")), [GeoPoint { lat: 50.7, lon: 7.1 }]);
        assert_eq!(d.attributes.words(schema.id("location.city")), ["Bonn"]);
        assert_eq!(d.fields["free"], json!({"x": [1]}), "fields outside the schema are kept");
    }

    #[test]
    fn empty_lines_are_left_out_and_unknown_places_are_no_mistake() {
        let d = parse(json!({"id": "a", "title": "Nurse", "location": {"country": "DE", "lat": null}, "salary": null})).unwrap();
        assert_eq!(d.text, "Nurse");
        assert_eq!(d.attributes.iter().count(), 1, "only the title");
    }

    #[test]
    fn mistakes_name_the_field() {
        for (json, field) in [
            (json!({"title": "x"}), Some("id")),
            (json!({"id": 1.5, "title": "x"}), Some("id")),
            (json!({"id": "", "title": "x"}), Some("id")),
            (json!({"id": "a", "title": 3}), Some("title")),
            (json!({"id": "a", "title": "x", "salary": {"min": "much"}}), Some("salary.min")),
            (json!({"id": "a", "title": "x", "posted_at": "soon"}), Some("posted_at")),
            (json!({"id": "a", "title": "x", "location": {"lat": 91, "lon": 0}}), Some("location")),
            (json!({"id": "a", "title": "x", "location": {"lat": 1}}), Some("location")),
            (json!({"id": "a"}), None),
            (json!({"id": "a", "title": "x".repeat(1_001)}), None),
            (json!([1]), None),
        ] {
            assert_eq!(parse(json.clone()).unwrap_err().field(), field, "{json}");
        }
    }
}
