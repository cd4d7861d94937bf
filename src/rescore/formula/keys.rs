//! The names in a formula: features, fields, conditions, and the defaults for what has no value.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::error::{fail, shortened};
use super::parse::{Reader, finite, object, place, time_s};
use super::{FormulaError, NodeId, Op};
use crate::rescore::Feature;
use kindred_core::domain::{FieldId, FieldType, Filter, GeoPoint, Schema};

/// Where a condition stands in the filter that it is read as.
const IN_FILTER: &str = "filter.must[0]";

impl Reader<'_> {
    /// A string: a feature or a field with numbers.
    pub(super) fn variable(&mut self, name: &str, path: &str) -> Result<NodeId, FormulaError> {
        let Some(feature) = feature(name, path)? else {
            let field = self.field(name, FieldType::Number, path)?;
            let default = self.defaults.number(field);
            return Ok(self.add(name, Op::Number { field, default }));
        };
        let what = if name.starts_with("$score") { "$score" } else { name };
        // A feature may compare many words: it is computed once for a candidate, however often it is named.
        if let Some(named) = self.nodes.iter().position(|node| matches!(node.op, Op::Feature { .. }) && node.what == what) {
            return Ok(named);
        }
        let default = self.defaults.features.get(&feature).copied();
        Ok(self.add(what, Op::Feature { feature, default }))
    }

    pub(super) fn time(&mut self, json: &Json, path: &str) -> Result<NodeId, FormulaError> {
        let Some(name) = json.as_str() else { return fail(path, "must be the name of a time field") };
        let field = self.field(name, FieldType::Time, path)?;
        let default = self.defaults.number(field);
        Ok(self.add(format!("datetime_key {name}"), Op::Time { field, default }))
    }

    pub(super) fn distance(&mut self, json: &Json, path: &str) -> Result<NodeId, FormulaError> {
        let map = object(json, path, &["origin", "to"])?;
        let Some(origin) = map.get("origin").and_then(place) else {
            return fail(&format!("{path}.origin"), "must be {\"lat\": -90..90, \"lon\": -180..180}");
        };
        let to = format!("{path}.to");
        let Some(name) = map.get("to").and_then(Json::as_str) else { return fail(&to, "must be the name of a geo field") };
        let field = self.field(name, FieldType::Geo, &to)?;
        let default = self.defaults.place(field).map(|place| place.distance_km(origin) * 1_000.0);
        Ok(self.add(format!("geo_distance {name}"), Op::Distance { origin, field, default }))
    }

    /// A condition, read as a filter reads it.
    pub(super) fn condition(&mut self, json: &Json, path: &str) -> Result<NodeId, FormulaError> {
        let filter = Filter::parse_within(&serde_json::json!({"must": [json]}), self.schema, &mut self.conditions).map_err(|e| {
            let path = e.path.strip_prefix(IN_FILTER).map_or_else(|| path.to_owned(), |within| format!("{path}{within}"));
            FormulaError { path, problem: e.problem }
        })?;
        let Some(condition) = filter.must.into_iter().next() else { unreachable!("one condition was read") };
        Ok(self.add(shortened(&json.to_string()), Op::Condition(condition)))
    }

    /// A field of the needed type that the schema keeps.
    fn field(&self, name: &str, needed: FieldType, path: &str) -> Result<FieldId, FormulaError> {
        let Some(id) = self.schema.id(name) else { return fail(path, self.no_field(name, needed)) };
        let actual = self.schema.spec(id).field_type;
        if actual != needed {
            return fail(path, format!("field {name:?} is {}", as_number(name, actual)));
        }
        if !self.schema.keeps(id) {
            return fail(path, format!("field {name:?} is stored only, not kept for scores: give it \"index\": true in the definition"));
        }
        Ok(id)
    }

    fn no_field(&self, name: &str, needed: FieldType) -> String {
        let shown = shortened(name);
        if needed == FieldType::Number && feature(&format!("${name}"), "").is_ok() {
            return format!("there is no field {shown:?}: the feature is written \"${name}\"");
        }
        let fits = |&(id, _, _): &(FieldId, _, _)| self.schema.spec(id).field_type == needed && self.schema.keeps(id);
        let known: Vec<_> = self.schema.fields().filter(fits).map(|(_, name, _)| name).collect();
        let type_name = match needed {
            FieldType::Time => "time",
            FieldType::Geo => "geo",
            _ => "number",
        };
        if known.is_empty() {
            return format!(
                "there is no field {shown:?}, and no {type_name} field that is kept: give one \"index\": true in the definition"
            );
        }
        format!("there is no field {shown:?}: the {type_name} fields that are kept are {}", known.join(", "))
    }
}

/// The feature that a variable names; `None` for the name of a field.
fn feature(name: &str, path: &str) -> Result<Option<Feature>, FormulaError> {
    let Some(rest) = name.strip_prefix('$') else { return Ok(None) };
    if rest == "score" || rest == "score[0]" {
        // What candidates are retrieved by.
        return Ok(Some(Feature::Dot));
    }
    if rest.starts_with("score[") {
        return fail(path, "there is one retrieval score here: write \"$score\"");
    }
    let unknown = |e| format!("{:?} is no variable; write \"$score\", or \"$\" and a feature: {e}", shortened(name));
    // The error lists all features, but would repeat a name of any length.
    shortened(rest).parse().map(Some).or_else(|e: serde::de::value::Error| fail(path, unknown(e)))
}

/// How a field of this type comes to be a number, said of the field.
fn as_number(name: &str, field_type: FieldType) -> String {
    match field_type {
        FieldType::Number => format!("a number: write {name:?} where a number is wanted"),
        FieldType::Time => format!("a time: write {{\"datetime_key\": {name:?}}} for its seconds since 1970"),
        FieldType::Geo => {
            format!(
                "a place: write {{\"geo_distance\": {{\"origin\": {{\"lat\": …, \"lon\": …}}, \"to\": {name:?}}}}} for the metres to it"
            )
        }
        FieldType::Keyword => {
            format!("a keyword, not a number: write the condition {{\"key\": {name:?}, \"match\": {{\"value\": …}}}}, which is 1 or 0")
        }
        FieldType::Bool => {
            format!("a bool, not a number: write the condition {{\"key\": {name:?}, \"match\": {{\"value\": true}}}}, which is 1 or 0")
        }
        FieldType::Text => "text, which has no number: what it shares with the query is in \"$score\" and \"$text_overlap\"".to_owned(),
    }
}

/// What stands for values that are not there.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    features: BTreeMap<Feature, f64>,
    fields: BTreeMap<FieldId, Fallback>,
}

#[derive(Debug, Clone, Copy)]
enum Fallback {
    /// Of a time: seconds since 1970.
    Number(f64),
    Place(GeoPoint),
}

impl Defaults {
    pub(super) fn parse(json: Option<&Json>, schema: &Schema) -> Result<Self, FormulaError> {
        let mut defaults = Self::default();
        let map = match json {
            None | Some(Json::Null) => return Ok(defaults),
            Some(Json::Object(map)) => map,
            Some(_) => return fail("defaults", "must be an object of names and what stands for their values"),
        };
        for (name, json) in map {
            let path = format!("defaults.{}", shortened(name));
            if let Some(feature) = feature(name, &path)? {
                if defaults.features.insert(feature, finite(json, &path)?).is_some() {
                    return fail(&path, "is given twice: \"$score\" is \"$dot\"");
                }
                continue;
            }
            let Some(id) = schema.id(name) else {
                return fail(&path, "is no field of this collection, and no feature, whose name would begin with \"$\"");
            };
            defaults.fields.insert(id, Fallback::parse(json, name, schema.spec(id).field_type, &path)?);
        }
        Ok(defaults)
    }

    fn number(&self, field: FieldId) -> Option<f64> {
        match self.fields.get(&field) {
            Some(Fallback::Number(number)) => Some(*number),
            _ => None,
        }
    }

    fn place(&self, field: FieldId) -> Option<GeoPoint> {
        match self.fields.get(&field) {
            Some(Fallback::Place(place)) => Some(*place),
            _ => None,
        }
    }
}

impl Fallback {
    fn parse(json: &Json, name: &str, field_type: FieldType, path: &str) -> Result<Self, FormulaError> {
        let read = match field_type {
            FieldType::Number => return finite(json, path).map(Self::Number),
            FieldType::Time => (json.as_str().and_then(time_s).map(Self::Number), "an RFC 3339 time or a date"),
            FieldType::Geo => (place(json).map(Self::Place), "{\"lat\": -90..90, \"lon\": -180..180}"),
            FieldType::Keyword | FieldType::Bool | FieldType::Text => {
                return fail(path, format!("has no default, for field {name:?} is {}", as_number(name, field_type)));
            }
        };
        read.0.map_or_else(|| fail(path, format!("must be {}", read.1)), Ok)
    }
}
