//! JSON → formula: its words and their operands, checked where they stand.

use serde_json::{Map, Value as Json};

use super::error::{fail, instead_of, shortened};
use super::keys::Defaults;
use super::{Curve, Formula, FormulaError, Function, MAX_CONDITION_VALUES, MAX_DEPTH, MAX_NODES, Node, NodeId, Op};
use kindred_core::domain::{FilterBudget, GeoPoint, Schema, begins_condition, parse_time_us};

/// What begins an expression, for messages.
const WORDS: &str = "sum, mult, neg, abs, div, pow, sqrt, exp, ln, log10, geo_distance, datetime, datetime_key, lin_decay, exp_decay, \
                     gauss_decay; or a condition with \"key\", \"must\", \"should\" or \"must_not\"";

type Object = Map<String, Json>;

impl Formula {
    /// Reads `{"formula": …, "defaults": {…}}` for a schema.
    ///
    /// # Errors
    /// [`FormulaError`] says where and what to write instead: an unknown word or key, a field that is not kept or has no number, a value
    /// out of range, too much.
    pub fn parse(json: &Json, schema: &Schema) -> Result<Self, FormulaError> {
        let Json::Object(map) = json else { return fail("formula", "must stand in an object: {\"formula\": …, \"defaults\": {…}}") };
        only(map, "formula", &["formula", "defaults"])?;
        let Some(formula) = map.get("formula") else {
            return fail("formula", "is missing: write {\"formula\": …}, with {\"defaults\": {…}} beside it if values may be missing");
        };
        let defaults = Defaults::parse(map.get("defaults"), schema)?;
        let conditions = FilterBudget::new("the conditions of a formula", MAX_CONDITION_VALUES);
        let mut reader = Reader { schema, defaults, nodes: Vec::new(), nodes_left: MAX_NODES, conditions };
        reader.expression(formula, "formula", 1)?;
        Ok(Self { nodes: reader.nodes })
    }
}

/// Reads one formula and remembers how much of it may still come.
pub(super) struct Reader<'a> {
    pub schema: &'a Schema,
    pub defaults: Defaults,
    pub nodes: Vec<Node>,
    nodes_left: usize,
    /// Of all its conditions together.
    pub conditions: FilterBudget,
}

impl Reader<'_> {
    fn expression(&mut self, json: &Json, path: &str, depth: usize) -> Result<NodeId, FormulaError> {
        if depth > MAX_DEPTH {
            return fail(path, format!("formulas may be nested {MAX_DEPTH} deep: a sum or mult may have many parts beside each other"));
        }
        match self.nodes_left.checked_sub(1) {
            Some(left) => self.nodes_left = left,
            None => {
                return fail(path, format!("a formula may have {MAX_NODES} expressions: many values of one field fit into one condition"));
            }
        }
        match json {
            Json::Number(_) => {
                let constant = finite(json, path)?;
                Ok(self.add("constant", Op::Constant(constant)))
            }
            Json::String(name) => self.variable(name, path),
            Json::Object(map) if map.keys().any(|key| begins_condition(key)) => self.condition(json, path),
            Json::Object(map) => match (map.len(), map.iter().next()) {
                (1, Some((word, operand))) => self.operation(word, operand, path, depth),
                _ => fail(path, format!("an object must have one word, with its operands within; there are {WORDS}")),
            },
            Json::Array(_) => fail(path, "must be one expression, not an array: write {\"sum\": […]} or {\"mult\": […]}"),
            Json::Bool(_) => fail(path, "must be a number: write 1 or 0"),
            Json::Null => fail(path, "must be a number, a name or an object; null stands for infinity and NaN, which no score can have"),
        }
    }

    pub(super) fn add(&mut self, what: impl Into<String>, op: Op) -> NodeId {
        self.nodes.push(Node { what: what.into(), op });
        self.nodes.len() - 1
    }

    fn operation(&mut self, word: &str, operand: &Json, path: &str, depth: usize) -> Result<NodeId, FormulaError> {
        let outer = path;
        let path = &format!("{path}.{}", shortened(word));
        let op = match word {
            "sum" => Op::Sum(self.list(operand, path, depth)?),
            "mult" => Op::Mult(self.list(operand, path, depth)?),
            "neg" => Op::Of(Function::Neg, self.expression(operand, path, depth + 1)?),
            "abs" => Op::Of(Function::Abs, self.expression(operand, path, depth + 1)?),
            "sqrt" => Op::Of(Function::Sqrt, self.expression(operand, path, depth + 1)?),
            "exp" => Op::Of(Function::Exp, self.expression(operand, path, depth + 1)?),
            "ln" => Op::Of(Function::Ln, self.expression(operand, path, depth + 1)?),
            "log10" => Op::Of(Function::Log10, self.expression(operand, path, depth + 1)?),
            "div" => {
                let map = object(operand, path, &["left", "right", "by_zero_default"])?;
                let left = self.part(map, "left", path, depth)?;
                let right = self.part(map, "right", path, depth)?;
                Op::Div { left, right, by_zero_default: setting(map, "by_zero_default", path)? }
            }
            "pow" => {
                let map = object(operand, path, &["base", "exponent"])?;
                Op::Pow { base: self.part(map, "base", path, depth)?, exponent: self.part(map, "exponent", path, depth)? }
            }
            "lin_decay" => self.decay(Curve::Linear, operand, path, depth)?,
            "exp_decay" => self.decay(Curve::Exponential, operand, path, depth)?,
            "gauss_decay" => self.decay(Curve::Gauss, operand, path, depth)?,
            "geo_distance" => return self.distance(operand, path),
            "datetime_key" => return self.time(operand, path),
            "datetime" if operand == "now" => return Ok(self.add("datetime now", Op::Now)),
            "datetime" => {
                let seconds = operand.as_str().and_then(time_s);
                let Some(seconds) = seconds else {
                    return fail(path, "must be an RFC 3339 time, a date or \"now\": \"2026-01-01T00:00:00Z\"");
                };
                let what = format!("datetime {}", shortened(operand.as_str().unwrap_or_default()));
                return Ok(self.add(what, Op::Constant(seconds)));
            }
            _ => {
                let unknown = format!("there is no word {:?}: ", shortened(word));
                return fail(outer, unknown + &instead_of(word).map_or_else(|| format!("there are {WORDS}"), str::to_owned));
            }
        };
        Ok(self.add(word, op))
    }

    fn list(&mut self, json: &Json, path: &str, depth: usize) -> Result<Vec<NodeId>, FormulaError> {
        let Json::Array(items) = json else { return fail(path, "must be an array of expressions") };
        items.iter().enumerate().map(|(i, item)| self.expression(item, &format!("{path}[{i}]"), depth + 1)).collect()
    }

    fn part(&mut self, map: &Object, name: &str, path: &str, depth: usize) -> Result<NodeId, FormulaError> {
        match map.get(name) {
            Some(json) => self.expression(json, &format!("{path}.{name}"), depth + 1),
            None => fail(path, format!("needs {name:?}: an expression")),
        }
    }

    fn decay(&mut self, curve: Curve, json: &Json, path: &str, depth: usize) -> Result<Op, FormulaError> {
        let map = object(json, path, &["x", "target", "scale", "midpoint"])?;
        let x = self.part(map, "x", path, depth)?;
        let is_given = map.get("target").is_some_and(|json| !json.is_null());
        let target = is_given.then(|| self.part(map, "target", path, depth)).transpose()?;
        let scale = setting(map, "scale", path)?.unwrap_or(1.0);
        if scale <= 0.0 {
            return fail(&format!("{path}.scale"), "must be above 0: how far from the target the decay is down to its midpoint");
        }
        let midpoint = setting(map, "midpoint", path)?.unwrap_or(0.5);
        let is_linear = curve == Curve::Linear;
        if !(0.0..=1.0).contains(&midpoint) || (!is_linear && (midpoint == 0.0 || midpoint == 1.0)) {
            let allowed = if is_linear { "0 to 1" } else { "above 0 and below 1" };
            return fail(&format!("{path}.midpoint"), format!("must be {allowed}: the decay at its scale"));
        }
        Ok(Op::Decay { curve, x, target, scale, midpoint })
    }
}

/// A place as in filters, if it is one.
pub(super) fn place(json: &Json) -> Option<GeoPoint> {
    let map = json.as_object().filter(|map| map.len() == 2)?;
    GeoPoint::new(map.get("lat")?.as_f64()?, map.get("lon")?.as_f64()?)
}

/// Seconds since 1970 of a time as in documents.
pub(super) fn time_s(text: &str) -> Option<f64> {
    parse_time_us(text).map(|us| us as f64 / 1e6)
}

pub(super) fn finite(json: &Json, path: &str) -> Result<f64, FormulaError> {
    match json.as_f64().filter(|number| number.is_finite()) {
        Some(number) => Ok(number),
        None => fail(path, "must be a finite number"),
    }
}

pub(super) fn object<'a>(json: &'a Json, path: &str, keys: &[&str]) -> Result<&'a Object, FormulaError> {
    let Json::Object(map) = json else { return fail(path, format!("must be an object of {}", keys.join(", "))) };
    only(map, path, keys)?;
    Ok(map)
}

fn only(map: &Object, path: &str, keys: &[&str]) -> Result<(), FormulaError> {
    match map.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => fail(path, format!("unknown key {:?}: expected {}", shortened(key), keys.join(", "))),
        None => Ok(()),
    }
}

/// A number that stands for itself; some clients write out those that they do not set, as null.
fn setting(map: &Object, name: &str, path: &str) -> Result<Option<f64>, FormulaError> {
    map.get(name).filter(|json| !json.is_null()).map(|json| finite(json, &format!("{path}.{name}"))).transpose()
}
