//! Filters: Qdrant's grammar, closed, and typed against a schema when it is read.
//!
//! `{"must": […], "should": […], "must_not": […]}` of `{"key", "match": {"value" | "any" | "except"}}`,
//! `{"key", "range": {"gt", "gte", "lt", "lte"}}`, `{"key", "geo_radius": {"center": {"lat", "lon"}, "radius"}}` (metres) or
//! another filter. A condition holds when any value of the field satisfies it; a document without the field satisfies none.

use serde_json::{Map, Value as Json};

use super::{Attributes, FieldId, FieldType, GeoPoint, Schema, Selection, Value, parse_time_us};
use crate::error::ErrorKind;

/// Most conditions and values in a filter, together.
pub const MAX_TERMS: usize = 10_000;
/// Deepest nesting of filters.
pub const MAX_DEPTH: usize = 8;

/// Why a filter cannot be accepted, and where in it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct FilterError {
    pub path: String,
    pub problem: String,
}

impl FilterError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Malformed
    }
}

/// Matches documents that satisfy all of `must`, none of `must_not`, and at least one of `should` where there are any.
///
/// # Example
/// ```
/// use kindred_core::domain::{Filter, Schema};
/// use serde_json::json;
///
/// let schema = Schema::new(&serde_json::from_value(json!({"salary": {"type": "number", "index": true}}))?)?;
/// let filter = Filter::parse(&json!({"must": [{"key": "salary", "range": {"gte": 50000}}]}), &schema)?;
/// assert_eq!(filter.must.len(), 1);
/// assert!(Filter::parse(&json!({"must": [{"key": "wage", "range": {"gte": 1}}]}), &schema).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    pub must: Vec<Condition>,
    pub should: Vec<Condition>,
    pub must_not: Vec<Condition>,
}

/// One condition on one field.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A word of the field is one of these.
    Words {
        field: FieldId,
        any: Vec<String>,
    },
    /// A word of the field is none of these.
    WordsExcept {
        field: FieldId,
        except: Vec<String>,
    },
    /// A truth value of the field is this.
    Bool {
        field: FieldId,
        value: bool,
    },
    /// A number or time of the field is one of these.
    Numbers {
        field: FieldId,
        any: Vec<f64>,
    },
    /// A number or time of the field lies in the range.
    Range {
        field: FieldId,
        range: Range,
    },
    /// A place of the field is this near.
    GeoRadius {
        field: FieldId,
        center: GeoPoint,
        radius_km: f64,
    },
    Nested(Filter),
}

/// Bounds; open where `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Range {
    pub gt: Option<f64>,
    pub gte: Option<f64>,
    pub lt: Option<f64>,
    pub lte: Option<f64>,
}

impl Range {
    /// Whether a number lies within.
    pub fn contains(&self, x: f64) -> bool {
        self.gt.is_none_or(|b| x > b) && self.gte.is_none_or(|b| x >= b) && self.lt.is_none_or(|b| x < b) && self.lte.is_none_or(|b| x <= b)
    }
}

impl Filter {
    /// Reads a filter for a schema.
    ///
    /// # Errors
    /// [`FilterError`] says where and what: an unknown key, a field that is not indexed, a value of the wrong type.
    pub fn parse(json: &Json, schema: &Schema) -> Result<Self, FilterError> {
        let mut reader = Reader { schema, terms_left: MAX_TERMS };
        reader.filter(json, "filter", MAX_DEPTH)
    }

    /// About how much memory the filter takes.
    pub fn size_bytes(&self) -> usize {
        let conditions = [&self.must, &self.should, &self.must_not].into_iter().flatten();
        size_of::<Self>() + conditions.map(Condition::size_bytes).sum::<usize>()
    }

    /// Whether a document with these values passes.
    pub fn matches(&self, attributes: &Attributes) -> bool {
        self.must.iter().all(|c| c.matches(attributes))
            && !self.must_not.iter().any(|c| c.matches(attributes))
            && (self.should.is_empty() || self.should.iter().any(|c| c.matches(attributes)))
    }
}

impl Condition {
    /// Whether a document with these values satisfies the condition.
    pub fn matches(&self, attributes: &Attributes) -> bool {
        match self {
            Self::Words { field, any } => attributes.words(Some(*field)).iter().any(|w| any.contains(w)),
            Self::WordsExcept { field, except } => attributes.words(Some(*field)).iter().any(|w| !except.contains(w)),
            Self::Bool { field, value } => matches!(attributes.get(*field), Some(Value::Bools(b)) if b.contains(value)),
            Self::Numbers { field, any } => matches!(attributes.get(*field), Some(Value::Numbers(n)) if n.iter().any(|x| any.contains(x))),
            Self::Range { field, range } => {
                matches!(attributes.get(*field), Some(Value::Numbers(n)) if n.iter().any(|&x| range.contains(x)))
            }
            Self::GeoRadius { field, center, radius_km } => {
                attributes.places(Some(*field)).iter().any(|p| p.distance_km(*center) <= *radius_km)
            }
            Self::Nested(filter) => filter.matches(attributes),
        }
    }

    /// Adds the fields that it looks at.
    pub fn select(&self, selection: &mut Selection) {
        match self {
            Self::Words { field, .. }
            | Self::WordsExcept { field, .. }
            | Self::Bool { field, .. }
            | Self::Numbers { field, .. }
            | Self::Range { field, .. }
            | Self::GeoRadius { field, .. } => selection.add(Some(*field)),
            Self::Nested(Filter { must, should, must_not }) => {
                [must, should, must_not].into_iter().flatten().for_each(|condition| condition.select(selection));
            }
        }
    }

    fn size_bytes(&self) -> usize {
        let beside = match self {
            Self::Words { any: words, .. } | Self::WordsExcept { except: words, .. } => {
                words.iter().map(|word| size_of::<String>() + word.len()).sum()
            }
            Self::Numbers { any, .. } => size_of_val(any.as_slice()),
            Self::Nested(filter) => filter.size_bytes(),
            Self::Bool { .. } | Self::Range { .. } | Self::GeoRadius { .. } => 0,
        };
        size_of::<Self>() + beside
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
            (FieldType::Number, "value" | "any") => Ok(Condition::Numbers { field, any: each(values, &path, "a number", Json::as_f64)? }),
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
        let bound = |name: &str| -> Result<Option<f64>, FilterError> {
            // Some clients write out the bounds that they do not set.
            let Some(json) = map.get(name).filter(|j| !j.is_null()) else { return Ok(None) };
            let (read, expected) = match field_type {
                FieldType::Number => (json.as_f64(), "a number"),
                FieldType::Time => (json.as_str().and_then(parse_time_us), "an RFC 3339 time or a date"),
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

fn each<T>(values: &[Json], path: &str, expected: &str, read: impl Fn(&Json) -> Option<T>) -> Result<Vec<T>, FilterError> {
    values.iter().map(|json| read(json).map_or_else(|| fail(path, format!("must be {expected}")), Ok)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{CollectionDefinition, Document};

    fn definition() -> CollectionDefinition {
        serde_json::from_value(json!({"template": "{title}", "fields": {
            "title": {"type": "text"}, "skills": {"type": "keyword", "index": true}, "salary": {"type": "number", "index": true},
            "posted_at": {"type": "time", "index": true}, "location": {"type": "geo", "index": true}, "remote": {"type": "bool", "index": true}, "company": {"type": "keyword"},
        }}))
        .unwrap()
    }

    #[test]
    fn conditions_mean_what_they_say() {
        let (template, schema) = definition().check().unwrap();
        let document = json!({"id": "a", "title": "x", "skills": ["rust", "sql"], "salary": 50, "posted_at": "2026-05-08", "location": {"lat": 52.52, "lon": 13.4}, "remote": true});
        let attributes = Document::parse(document, &schema, &template, 100).unwrap().attributes;
        let holds = |condition: Json| Filter::parse(&json!({"must": [condition]}), &schema).unwrap().matches(&attributes);
        assert!(holds(json!({"key": "skills", "match": {"value": "rust"}})));
        assert!(holds(json!({"key": "skills", "match": {"any": ["go", "sql"]}})));
        assert!(!holds(json!({"key": "skills", "match": {"any": []}})));
        assert!(holds(json!({"key": "skills", "match": {"except": ["rust"]}})), "sql is another");
        assert!(!holds(json!({"key": "skills", "match": {"except": ["rust", "sql"]}})));
        assert!(holds(json!({"key": "remote", "match": {"value": true}})));
        assert!(holds(json!({"key": "salary", "match": {"value": 50.0}})));
        assert!(holds(json!({"key": "salary", "range": {"gte": 50, "lt": 51}})));
        assert!(!holds(json!({"key": "salary", "range": {"gt": 50}})));
        assert!(holds(json!({"key": "posted_at", "range": {"gte": "2026-05-07T23:00:00-01:00", "lte": "2026-05-08"}})));
        assert!(holds(json!({"key": "location", "geo_radius": {"center": {"lat": 52.5, "lon": 13.4}, "radius": 3000}})));
        assert!(!holds(json!({"key": "location", "geo_radius": {"center": {"lat": 52.5, "lon": 13.4}, "radius": 2000}})));
        assert!(holds(json!({"should": [{"key": "remote", "match": {"value": false}}, {"key": "salary", "range": {"gt": 1}}]})));
        assert!(!holds(json!({"must_not": [{"key": "remote", "match": {"value": true}}]})));
        assert!(Filter::parse(&json!({}), &schema).unwrap().matches(&attributes), "an empty filter lets all through");
    }

    #[test]
    fn long_filters_are_large() {
        let (_, schema) = definition().check().unwrap();
        let size = |filter: Json| Filter::parse(&filter, &schema).unwrap().size_bytes();
        let skills = |words: &[&str]| json!({"must": [{"key": "skills", "match": {"any": words}}]});
        assert!(size(json!({})) < size(skills(&["a"])) && size(skills(&["a"])) < size(skills(&["a", "b"])));
        assert!(size(skills(&[&"x".repeat(5_000)])) > 5_000);
        assert!(size(json!({"must": [skills(&["a"])]})) > size(skills(&["a"])));
        assert!(size(json!({"must": [{"key": "salary", "match": {"any": vec![1; 1_000]}}]})) > 8_000);
    }

    #[test]
    fn mistakes_say_where_and_what() {
        let (_, schema) = definition().check().unwrap();
        for (filter, path, word) in [
            (json!([]), "filter", "object"),
            (json!({"musst": []}), "filter", "musst"),
            (json!({"must": {}}), "filter.must", "array"),
            (json!({"must": [{"key": "wage", "match": {"value": 1}}]}), "filter.must[0].key", "wage"),
            (json!({"must": [{"key": "company", "match": {"value": "x"}}]}), "filter.must[0].key", "not indexed"),
            (json!({"must": [{"key": "skills"}]}), "filter.must[0]", "exactly one"),
            (json!({"must": [{"match": {"value": "rust"}}]}), "filter.must[0]", "needs a \"key\""),
            (
                json!({"must": [{"key": "location", "geo_radius": {"center": {"lat": 9, "lon": 0, "x": 1}, "radius": 1}}]}),
                "filter.must[0].geo_radius.center",
                "x",
            ),
            (json!({"must": [{"key": "skills", "match": {"value": 1}}]}), "filter.must[0].match.value", "string"),
            (json!({"must": [{"key": "skills", "match": {"any": "rust"}}]}), "filter.must[0].match.any", "array"),
            (json!({"must": [{"key": "skills", "range": {"gt": 1}}]}), "filter.must[0].range", "ranges"),
            (json!({"must": [{"key": "posted_at", "range": {"gt": "soon"}}]}), "filter.must[0].range.gt", "time"),
            (json!({"must": [{"key": "salary", "range": {"above": 1}}]}), "filter.must[0].range", "above"),
            (json!({"must": [{"key": "salary", "range": {}}]}), "filter.must[0].range", "at least one"),
            (
                json!({"must": [{"key": "location", "geo_radius": {"center": {"lat": 99, "lon": 0}, "radius": 1}}]}),
                "filter.must[0].geo_radius.center",
                "lat",
            ),
            (
                json!({"must": [{"key": "location", "geo_radius": {"center": {"lat": 9, "lon": 0}, "radius": -1}}]}),
                "filter.must[0].geo_radius.radius",
                "metres",
            ),
        ] {
            let error = Filter::parse(&filter, &schema).unwrap_err();
            assert_eq!(error.path, path, "{filter}");
            assert!(error.problem.contains(word), "{filter}: {error}");
        }
        let deep = (0..20).fold(json!({}), |inner, _| json!({"must": [inner]}));
        assert!(Filter::parse(&deep, &schema).unwrap_err().problem.contains("deep"));
        let wide = json!({"must": [{"key": "skills", "match": {"any": vec!["x"; MAX_TERMS]}}]});
        assert!(Filter::parse(&wide, &schema).is_err());
    }
}
