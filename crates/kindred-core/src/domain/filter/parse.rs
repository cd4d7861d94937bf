//! JSON → filter.

use serde_json::{Map, Value as Json};

use super::conditions::{CLAUSES, CONDITIONS, ConditionKind, Target};
use super::limits::{FilterBudget, MAX_DEPTH};
use super::{Condition, Filter, FilterError};
use crate::domain::Schema;

impl Filter {
    /// Parses a filter and checks it against a schema.
    ///
    /// # Errors
    /// [`FilterError`] names the place and the problem: an unknown key, a field that is not indexed, a value of the wrong type,
    /// more than [`FilterBudget`] allows.
    pub fn parse(json: &Json, schema: &Schema) -> Result<Self, FilterError> {
        Self::parse_within(json, schema, &mut FilterBudget::of_filter())
    }

    /// The same for one of several filters that share a budget.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_within(json: &Json, schema: &Schema, budget: &mut FilterBudget) -> Result<Self, FilterError> {
        Reader { schema, budget }.filter(json, "filter", MAX_DEPTH)
    }
}

/// Parses one filter.
pub(super) struct Reader<'a> {
    schema: &'a Schema,
    pub budget: &'a mut FilterBudget,
}

type Object = Map<String, Json>;

impl Reader<'_> {
    fn filter(&mut self, json: &Json, path: &str, depth: usize) -> Result<Filter, FilterError> {
        let map = object(json, path)?;
        only(map, path, &CLAUSES)?;
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
        self.budget.count_condition(path)?;
        let map = object(json, path)?;
        let keys = CONDITIONS.map(|kind| kind.key);
        let Some(key) = map.get("key") else {
            if keys.iter().any(|key| map.contains_key(*key)) {
                return fail(path, "needs a \"key\": the name of an indexed field");
            }
            return Ok(Condition::Nested(self.filter(json, path, depth)?));
        };
        if let Some(unknown) = map.keys().find(|key| *key != "key" && !keys.contains(&key.as_str())) {
            return fail(path, format!("unknown key {unknown:?}: expected key, {}", keys.join(", ")));
        }
        let target = self.target(key, &format!("{path}.key"))?;
        let mut given = CONDITIONS.iter().filter_map(|kind| Some((kind, map.get(kind.key)?)));
        let (Some((kind, spec)), None) = (given.next(), given.next()) else {
            return fail(path, format!("needs exactly one of {}", keys.join(", ")));
        };
        let path = &format!("{path}.{}", kind.key);
        if !kind.types.contains(&target.field_type) {
            let Target { field_type, .. } = target;
            return fail(path, format!("a {field_type} field is filtered by {}", ConditionKind::of_type(field_type)));
        }
        (kind.parse)(self, &target, spec, path)
    }

    fn target(&self, key: &Json, path: &str) -> Result<Target, FilterError> {
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
            Some(field) => Ok(Target { field, field_type: self.schema.spec(field).field_type }),
        }
    }
}

pub(super) fn fail<T>(path: &str, problem: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError { path: path.to_owned(), problem: problem.into() })
}

pub(super) fn object<'a>(json: &'a Json, path: &str) -> Result<&'a Object, FilterError> {
    json.as_object().map_or_else(|| fail(path, "must be an object"), Ok)
}

pub(super) fn only(map: &Object, path: &str, allowed: &[&str]) -> Result<(), FilterError> {
    match map.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => fail(path, format!("unknown key {key:?}: expected {}", allowed.join(", "))),
        None => Ok(()),
    }
}
