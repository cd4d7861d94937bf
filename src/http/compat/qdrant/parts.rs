//! What bodies are made of: ids, selections of payload and vector, filters.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Error;
use crate::pipeline::{PipelineError, StoredDocument, project};
use kindred_core::domain::{CLAUSES, ConditionKind, DocumentId};

/// Conditions of Qdrant's filters that Kindred's do not have.
const NO_CONDITIONS: [&str; 12] = [
    "has_id",
    "has_vector",
    "is_empty",
    "is_null",
    "values_count",
    "geo_bounding_box",
    "geo_polygon",
    "nested",
    "min_should",
    "text",
    "text_any",
    "phrase",
];

/// A point's id as it may be written: a whole number, a UUID, or any other id of a document.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected a whole number or a string")]
#[schema(as = QdrantPointId)]
pub enum PointId {
    Number(u64),
    Text(String),
}

impl PointId {
    pub fn check(self) -> Result<DocumentId, Error> {
        Ok(match self {
            Self::Number(number) => DocumentId::new(number.to_string())?,
            Self::Text(text) => DocumentId::new(text)?,
        })
    }
}

/// A document's id as a point's: what reads as a whole number is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenId(pub DocumentId);

impl Serialize for GivenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.as_str();
        match text.parse::<u64>() {
            // Neither "007" nor "+7" would come back as it was.
            Ok(number) if number.to_string() == text => serializer.serialize_u64(number),
            _ => serializer.serialize_str(text),
        }
    }
}

/// Which part of the payload to return: whether at all, names, or all but some.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected true, false, a list of names, {\"include\": […]} or {\"exclude\": […]}")]
#[schema(as = QdrantWithPayload)]
pub enum WithPayload {
    Switch(bool),
    Names(Vec<String>),
    Include(Include),
    Exclude(Exclude),
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantInclude)]
pub struct Include {
    include: Vec<String>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantExclude)]
pub struct Exclude {
    exclude: Vec<String>,
}

impl WithPayload {
    /// Whether there is anything to return.
    pub fn is_wanted(&self) -> bool {
        !matches!(self, Self::Switch(false))
    }

    /// The payload of a document with these fields.
    pub fn of(&self, id: &DocumentId, fields: Box<RawValue>) -> Result<Option<Box<RawValue>>, Error> {
        let payload = match self {
            Self::Switch(false) => return Ok(None),
            Self::Switch(true) => Ok(fields),
            Self::Names(names) | Self::Include(Include { include: names }) => project(fields.get(), Some(names)),
            Self::Exclude(Exclude { exclude }) => serde_json::from_str(fields.get()).and_then(|mut fields: Value| {
                exclude.iter().for_each(|name| remove(&mut fields, &name.split('.').collect::<Vec<_>>()));
                serde_json::value::to_raw_value(&fields)
            }),
        };
        let payload = payload.map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
        Ok(Some(payload))
    }
}

/// Removes what lies at a path, in every item of arrays on the way.
fn remove(json: &mut Value, path: &[&str]) {
    match (json, path) {
        (Value::Object(map), [name]) => drop(map.shift_remove(*name)),
        (Value::Object(map), [name, rest @ ..]) => {
            if let Some(inner) = map.get_mut(*name) {
                remove(inner, rest);
            }
        }
        (Value::Array(items), _) => items.iter_mut().for_each(|item| remove(item, path)),
        _ => {}
    }
}

/// Whether to return vectors. The only one is that without a name.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected true or false")]
#[schema(as = QdrantWithVector)]
pub enum WithVector {
    Switch(bool),
    Names(Vec<String>),
}

impl WithVector {
    pub fn is_wanted(this: Option<&Self>) -> Result<bool, Error> {
        match this {
            None => Ok(false),
            Some(Self::Switch(wanted)) => Ok(*wanted),
            Some(Self::Names(names)) if names.iter().all(String::is_empty) => Ok(!names.is_empty()),
            Some(Self::Names(_)) => Err(Error::no_names()),
        }
    }
}

/// A point as it is returned.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantRecord)]
pub struct Record {
    #[schema(value_type = PointId)]
    id: GivenId,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
}

impl Record {
    pub fn new(document: StoredDocument, with_payload: &WithPayload) -> Result<Self, Error> {
        let StoredDocument { id, fields, vector, .. } = document;
        Ok(Self { payload: with_payload.of(&id, fields)?, id: GivenId(id), vector })
    }
}

/// A filter in Kindred's words, which are Qdrant's: one condition may stand for a list of one, `null` for what is not there, and `tags[]` for
/// `tags`, whose every value is looked at in any case.
///
/// # Errors
/// Conditions that Kindred does not have.
pub fn filter(json: Value) -> Result<Value, Error> {
    Ok(match json {
        Value::Object(map) => {
            Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).map(part).collect::<Result<Map<_, _>, _>>()?)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(filter).collect::<Result<_, _>>()?),
        other => other,
    })
}

fn part((key, value): (String, Value)) -> Result<(String, Value), Error> {
    if NO_CONDITIONS.contains(&key.as_str()) {
        return Err(Error::invalid(format!(
            "filter: {key:?} is not supported: there are {}, in {}",
            ConditionKind::describe_all(),
            CLAUSES.join(", ")
        )));
    }
    let value = match (key.as_str(), value) {
        (clause, Value::Object(one)) if CLAUSES.contains(&clause) => Value::Array(vec![filter(Value::Object(one))?]),
        ("key", Value::String(name)) => Value::String(name.replace("[]", "")),
        (_, value) => filter(value)?,
    };
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use kindred_core::domain::CONDITIONS;
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_come_back_as_they_were() {
        for id in [json!(7), json!(0), json!(u64::MAX), json!("550e8400-e29b-41d4-a716-446655440000"), json!("007"), json!("j813")] {
            let read: PointId = serde_json::from_value(id.clone()).unwrap();
            assert_eq!(serde_json::to_value(GivenId(read.check().unwrap())).unwrap(), id);
        }
        for id in [json!(-1), json!(1.5), json!(null), json!([1])] {
            assert!(serde_json::from_value::<PointId>(id.clone()).is_err(), "{id}");
        }
    }

    #[test]
    fn payloads_are_selected() {
        let fields = r#"{"a":1,"b":{"c":[{"d":2,"e":3},{"e":4}],"f":5}}"#;
        for (with, expected) in [
            (json!(true), json!({"a": 1, "b": {"c": [{"d": 2, "e": 3}, {"e": 4}], "f": 5}})),
            (json!(false), json!(null)),
            (json!(["a"]), json!({"a": 1})),
            (json!({"include": ["b.f"]}), json!({"b": {"f": 5}})),
            (json!({"exclude": ["a", "b.c.e", "x.y"]}), json!({"b": {"c": [{"d": 2}, {}], "f": 5}})),
        ] {
            let read: WithPayload = serde_json::from_value(with.clone()).unwrap();
            let payload = read.of(&DocumentId::new("x").unwrap(), RawValue::from_string(fields.to_owned()).unwrap()).unwrap();
            assert_eq!(serde_json::to_value(payload).unwrap(), expected, "{with}");
            assert_eq!(read.is_wanted(), !expected.is_null());
        }
    }

    #[test]
    fn only_conditions_that_kindred_lacks_are_refused() {
        let known = |name: &&&str| CONDITIONS.iter().any(|kind| kind.key == **name || kind.shape.contains(*name));
        assert_eq!(NO_CONDITIONS.iter().find(known), None);
    }

    #[test]
    fn filters_are_put_in_kindreds_words() {
        let given = json!({"must": {"key": "tags[]", "match": {"value": "a"}, "range": null}, "should": null, "must_not": [{"must": {"key": "b"}}]});
        let wanted = json!({"must": [{"key": "tags", "match": {"value": "a"}}], "must_not": [{"must": [{"key": "b"}]}]});
        assert_eq!(filter(given).unwrap(), wanted);
        for (json, word) in
            [(json!({"must": [{"has_id": [1]}]}), "has_id"), (json!({"must": [{"key": "a", "match": {"text": "x"}}]}), "\"text\"")]
        {
            assert!(filter(json.clone()).unwrap_err().message.contains(word), "{json}");
        }
    }
}
