//! JSON → filter.

use serde_json::{Map, Value as Json};

use super::{Condition, Filter, FilterError, OneOf, Range};
use crate::domain::{FieldId, FieldType, GeoPoint, Number, Schema, parse_time_us};

/// Most conditions and values in a filter, together.
pub(super) const MAX_TERMS: usize = 10_000;
/// Deepest nesting of filters.
pub(super) const MAX_DEPTH: usize = 8;

impl Filter {
    /// Parses a filter and checks it against a schema.
    ///
    /// # Errors
    /// [`FilterError`] names the place and the problem: an unknown key, a field that is not indexed, a value of the wrong type.
    pub fn parse(json: &Json, schema: &Schema) -> Result<Self, FilterError> {
        let mut reader = Reader { schema, terms_left: MAX_TERMS };
        reader.filter(json, "filter", MAX_DEPTH)
    }
}

/// Reads one filter and remembers how much of it may still come.
struct Reader<'a> {
    schema: &'a Schema,
    terms_left: usize,
}

type Object = Map<String, Json>;

impl Reader<'_> {
    fn filter(&mut self, json: &Json, path: &str, depth: usize) -> Result<Filter, FilterError> {
        let map = object(json, path)?;
        only(map, path, &["must", "should", "must_not"])?;
        if depth == 0 {
            return fail(path, format!("filters may be nested {MAX_DEPTH} deep"));
        }
        let mut clause = |name: &str| -> Result<Vec<Condition>, FilterError> {
            let path = format!("{path}.{name}");
            match map.get(name) {
                None => Ok(Vec::new()),
                Some(Json::Array(items)) => {
                    items.iter().enumerate().map(|(i, item)| self.condition(item, &format!("{path}[{i}]"), depth - 1)).collect()
                }
                Some(_) => fail(&path, "must be an array of conditions"),
            }
        };
        Ok(Filter { must: clause("must")?, should: clause("should")?, must_not: clause("must_not")? })
    }

    fn condition(&mut self, json: &Json, path: &str, depth: usize) -> Result<Condition, FilterError> {
        self.count(1, path)?;
        let map = object(json, path)?;
        let Some(key) = map.get("key") else {
            if ["match", "range", "geo_radius"].iter().any(|form| map.contains_key(*form)) {
                return fail(path, "needs a \"key\": the name of an indexed field");
            }
            return Ok(Condition::Nested(self.filter(json, path, depth)?));
        };
        only(map, path, &["key", "match", "range", "geo_radius"])?;
        let (field, field_type) = self.field(key, &format!("{path}.key"))?;
        match (map.get("match"), map.get("range"), map.get("geo_radius")) {
            (Some(spec), None, None) => self.matching(field, field_type, spec, &format!("{path}.match")),
            (None, Some(spec), None) => Self::range(field, field_type, spec, &format!("{path}.range")),
            (None, None, Some(spec)) => Self::geo_radius(field, field_type, spec, &format!("{path}.geo_radius")),
            _ => fail(path, "needs exactly one of \"match\", \"range\" and \"geo_radius\""),
        }
    }

    fn field(&self, key: &Json, path: &str) -> Result<(FieldId, FieldType), FilterError> {
        let Some(name) = key.as_str() else { return fail(path, "must be the name of a field") };
        let indexed = || {
            let names: Vec<_> = self.schema.fields().filter(|(_, _, spec)| spec.index).map(|(_, name, _)| name).collect();
            if names.is_empty() { "no field is indexed".to_owned() } else { format!("indexed are {}", names.join(", ")) }
        };
        match self.schema.id(name) {
            None => fail(path, format!("there is no field {name:?} in this collection: {}", indexed())),
            Some(id) if !self.schema.spec(id).index => {
                fail(path, format!("field {name:?} is not indexed, so it cannot be filtered: {}", indexed()))
            }
            Some(id) => Ok((id, self.schema.spec(id).field_type)),
        }
    }

    fn matching(&mut self, field: FieldId, field_type: FieldType, spec: &Json, path: &str) -> Result<Condition, FilterError> {
        let map = object(spec, path)?;
        only(map, path, &["value", "any", "except"])?;
        let (form, json) = match (map.len(), map.iter().next()) {
            (1, Some((form, json))) => (form.as_str(), json),
            _ => return fail(path, "needs exactly one of \"value\", \"any\" and \"except\""),
        };
        let path = format!("{path}.{form}");
        let values = match (form, json) {
            ("value", one) => std::slice::from_ref(one),
            (_, Json::Array(many)) => many.as_slice(),
            _ => return fail(&path, "must be an array"),
        };
        self.count(values.len(), &path)?;
        match (field_type, form) {
            (FieldType::Keyword, "except") => {
                Ok(Condition::WordsExcept { field, except: each(values, &path, "a string", |j| j.as_str().map(str::to_owned))? })
            }
            (FieldType::Keyword, _) => {
                Ok(Condition::Words { field, any: each(values, &path, "a string", |j| j.as_str().map(str::to_owned))? })
            }
            (FieldType::Bool, "value") => Ok(Condition::Bool { field, value: each(values, &path, "true or false", Json::as_bool)?[0] }),
            (FieldType::Number, "value" | "any") => {
                Ok(Condition::Numbers { field, any: each(values, &path, "a number", Number::from_json)? })
            }
            (FieldType::Bool, _) => fail(&path, "a bool field is matched by \"value\""),
            (FieldType::Number, _) => fail(&path, "a number field is matched by \"value\", \"any\" or \"range\""),
            (FieldType::Time, _) => fail(&path, "a time field is filtered by \"range\""),
            (FieldType::Geo, _) => fail(&path, "a geo field is filtered by \"geo_radius\""),
            (FieldType::Text, _) => fail(&path, "a text field cannot be filtered"),
        }
    }

    fn range(field: FieldId, field_type: FieldType, spec: &Json, path: &str) -> Result<Condition, FilterError> {
        let map = object(spec, path)?;
        only(map, path, &["gt", "gte", "lt", "lte"])?;
        if map.is_empty() {
            return fail(path, "needs at least one of \"gt\", \"gte\", \"lt\" and \"lte\"");
        }
        let bound = |name: &str| -> Result<Option<Number>, FilterError> {
            // Some clients write out the bounds that they do not set.
            let Some(json) = map.get(name).filter(|j| !j.is_null()) else { return Ok(None) };
            let (read, expected) = match field_type {
                FieldType::Number => (Number::from_json(json), "a number"),
                FieldType::Time => (json.as_str().and_then(parse_time_us).map(Number::from), "an RFC 3339 time or a date"),
                _ => return fail(path, "only number and time fields have ranges"),
            };
            read.map(Some).ok_or_else(|| FilterError { path: format!("{path}.{name}"), problem: format!("must be {expected}") })
        };
        Ok(Condition::Range { field, range: Range { gt: bound("gt")?, gte: bound("gte")?, lt: bound("lt")?, lte: bound("lte")? } })
    }

    fn geo_radius(field: FieldId, field_type: FieldType, spec: &Json, path: &str) -> Result<Condition, FilterError> {
        if field_type != FieldType::Geo {
            return fail(path, "only geo fields have a radius");
        }
        let map = object(spec, path)?;
        only(map, path, &["center", "radius"])?;
        if let Some(Json::Object(center)) = map.get("center") {
            only(center, &format!("{path}.center"), &["lat", "lon"])?;
        }
        let center = map.get("center").and_then(|c| GeoPoint::new(c.get("lat")?.as_f64()?, c.get("lon")?.as_f64()?));
        let Some(center) = center else { return fail(&format!("{path}.center"), "must be {\"lat\": -90..90, \"lon\": -180..180}") };
        let radius_m = map.get("radius").and_then(Json::as_f64).filter(|r| *r >= 0.0);
        let Some(radius_m) = radius_m else { return fail(&format!("{path}.radius"), "must be a number of metres, 0 or more") };
        Ok(Condition::GeoRadius { field, center, radius_km: radius_m / 1_000.0 })
    }

    fn count(&mut self, terms: usize, path: &str) -> Result<(), FilterError> {
        match self.terms_left.checked_sub(terms) {
            Some(left) => self.terms_left = left,
            None => return fail(path, format!("a filter may have {MAX_TERMS} conditions and values")),
        }
        Ok(())
    }
}

fn fail<T>(path: &str, problem: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError { path: path.to_owned(), problem: problem.into() })
}

fn object<'a>(json: &'a Json, path: &str) -> Result<&'a Object, FilterError> {
    json.as_object().map_or_else(|| fail(path, "must be an object"), Ok)
}

fn only(map: &Object, path: &str, allowed: &[&str]) -> Result<(), FilterError> {
    match map.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => fail(path, format!("unknown key {key:?}: expected {}", allowed.join(", "))),
        None => Ok(()),
    }
}

fn each<T: Ord>(values: &[Json], path: &str, expected: &str, read: impl Fn(&Json) -> Option<T>) -> Result<OneOf<T>, FilterError> {
    let values = values.iter().map(|json| read(json).map_or_else(|| fail(path, format!("must be {expected}")), Ok));
    values.collect::<Result<_, _>>().map(OneOf::new)
}
