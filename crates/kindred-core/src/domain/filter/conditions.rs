//! The kinds of conditions on a field: one table for parsers, messages and other servers' dialects.

use serde_json::Value as Json;

use super::parse::{Reader, fail, object, only};
use super::{Condition, FilterError, OneOf, Range};
use crate::domain::{FieldId, FieldType, GeoPoint, Number, parse_time_us};

/// A kind of condition: `{"key": field, <key>: {…}}`.
#[derive(Debug)]
pub struct ConditionKind {
    /// The key that it stands under.
    pub key: &'static str,
    /// The keys of the object under it.
    pub shape: &'static [&'static str],
    /// The types of fields that have it.
    pub types: &'static [FieldType],
    pub(super) parse: fn(&mut Reader<'_>, &Target, &Json, &str) -> Result<Condition, FilterError>,
}

/// All kinds of conditions on a field.
pub const CONDITIONS: [ConditionKind; 3] = [
    ConditionKind {
        key: "match",
        shape: &["value", "any", "except"],
        types: &[FieldType::Keyword, FieldType::Number, FieldType::Bool],
        parse: matching,
    },
    ConditionKind { key: "range", shape: &["gt", "gte", "lt", "lte"], types: &[FieldType::Number, FieldType::Time], parse: range },
    ConditionKind { key: "geo_radius", shape: &["center", "radius"], types: &[FieldType::Geo], parse: geo_radius },
];

/// The lists of conditions that a filter has.
pub const CLAUSES: [&str; 3] = ["must", "should", "must_not"];

/// The field that a condition is on.
pub(super) struct Target {
    pub field: FieldId,
    pub field_type: FieldType,
}

impl ConditionKind {
    /// All kinds as one may write them, for messages: `match (value, any, except), range (…)`.
    pub fn describe_all() -> String {
        let describe = |kind: &Self| format!("{} ({})", kind.key, kind.shape.join(", "));
        CONDITIONS.iter().map(describe).collect::<Vec<_>>().join(", ")
    }

    /// The keys of the kinds that a type of field has, for messages: `"match" or "range"`.
    pub(super) fn of_type(field_type: FieldType) -> String {
        let kinds = CONDITIONS.iter().filter(|kind| kind.types.contains(&field_type));
        kinds.map(|kind| format!("{:?}", kind.key)).collect::<Vec<_>>().join(" or ")
    }
}

/// True if a JSON object with this key is a condition or a filter.
pub fn begins_condition(key: &str) -> bool {
    key == "key" || CLAUSES.contains(&key) || CONDITIONS.iter().any(|kind| kind.key == key)
}

fn matching(reader: &mut Reader<'_>, target: &Target, spec: &Json, path: &str) -> Result<Condition, FilterError> {
    let map = object(spec, path)?;
    only(map, path, &["value", "any", "except"])?;
    let (form, json) = match (map.len(), map.iter().next()) {
        (1, Some((form, json))) => (form.as_str(), json),
        _ => return fail(path, "needs exactly one of \"value\", \"any\" and \"except\""),
    };
    let path = &format!("{path}.{form}");
    let values = match (form, json) {
        ("value", one) => std::slice::from_ref(one),
        (_, Json::Array(many)) => many.as_slice(),
        _ => return fail(path, "must be an array"),
    };
    let n_bytes = values.iter().filter_map(Json::as_str).map(str::len).sum();
    reader.budget.count_values(values.len(), n_bytes, path)?;
    let word = |json: &Json| json.as_str().map(str::to_owned);
    let field = target.field;
    match (target.field_type, form) {
        (FieldType::Keyword, "except") => Ok(Condition::WordsExcept { field, except: each(values, path, "a string", word)? }),
        (FieldType::Keyword, _) => Ok(Condition::Words { field, any: each(values, path, "a string", word)? }),
        (FieldType::Bool, "value") => match json.as_bool() {
            Some(value) => Ok(Condition::Bool { field, value }),
            None => fail(path, "must be true or false"),
        },
        (FieldType::Number, "value" | "any") => Ok(Condition::Numbers { field, any: each(values, path, "a number", Number::from_json)? }),
        (FieldType::Number, _) => fail(path, "a number field is matched by \"value\" or \"any\""),
        (field_type, _) => fail(path, format!("a {field_type} field is matched by \"value\"")),
    }
}

fn range(_: &mut Reader<'_>, target: &Target, spec: &Json, path: &str) -> Result<Condition, FilterError> {
    let map = object(spec, path)?;
    only(map, path, &["gt", "gte", "lt", "lte"])?;
    if map.is_empty() {
        return fail(path, "needs at least one of \"gt\", \"gte\", \"lt\" and \"lte\"");
    }
    let bound = |name: &str| -> Result<Option<Number>, FilterError> {
        // Some clients write out the bounds that they do not set.
        let Some(json) = map.get(name).filter(|j| !j.is_null()) else { return Ok(None) };
        let (number, expected) = match target.field_type {
            FieldType::Time => (json.as_str().and_then(parse_time_us).map(Number::from), "an RFC 3339 time or a date"),
            _ => (Number::from_json(json), "a number"),
        };
        number.map_or_else(|| fail(&format!("{path}.{name}"), format!("must be {expected}")), |number| Ok(Some(number)))
    };
    let range = Range { gt: bound("gt")?, gte: bound("gte")?, lt: bound("lt")?, lte: bound("lte")? };
    Ok(Condition::Range { field: target.field, range })
}

fn geo_radius(reader: &mut Reader<'_>, target: &Target, spec: &Json, path: &str) -> Result<Condition, FilterError> {
    reader.budget.count_radius(path)?;
    let map = object(spec, path)?;
    only(map, path, &["center", "radius"])?;
    if let Some(Json::Object(center)) = map.get("center") {
        only(center, &format!("{path}.center"), &["lat", "lon"])?;
    }
    let center = map.get("center").and_then(|c| GeoPoint::new(c.get("lat")?.as_f64()?, c.get("lon")?.as_f64()?));
    let Some(center) = center else { return fail(&format!("{path}.center"), "must be {\"lat\": -90..90, \"lon\": -180..180}") };
    let radius_m = map.get("radius").and_then(Json::as_f64).filter(|r| *r >= 0.0);
    let Some(radius_m) = radius_m else { return fail(&format!("{path}.radius"), "must be a number of metres, 0 or more") };
    Ok(Condition::GeoRadius { field: target.field, center, radius_km: radius_m / 1_000.0 })
}

fn each<T: Ord>(values: &[Json], path: &str, expected: &str, read: impl Fn(&Json) -> Option<T>) -> Result<OneOf<T>, FilterError> {
    let values = values.iter().map(|json| read(json).map_or_else(|| fail(path, format!("must be {expected}")), Ok));
    values.collect::<Result<_, _>>().map(OneOf::new)
}
