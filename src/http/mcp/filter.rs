//! Filters as one line of text: `location.city = Berlin; remote = true; salary.min >= 50000; skills = Rust | SQL`.
//!
//! Made into the grammar of all filters (`domain/filter.rs`), which checks the values. Fields are looked up here, so that a mistake is
//! answered with the fields that there are.

use serde_json::{Number, Value, json};

use kindred_core::domain::{CollectionDefinition, FieldType};

/// Longest first: `>=` begins with `>`.
const OPERATORS: [(&str, Operator); 8] = [
    ("!=", Operator::Not),
    (">=", Operator::Range("gte")),
    ("<=", Operator::Range("lte")),
    ("==", Operator::Equal),
    ("=", Operator::Equal),
    (">", Operator::Range("gt")),
    ("<", Operator::Range("lt")),
    (" near ", Operator::Near),
];

#[derive(Debug, Clone, Copy)]
enum Operator {
    Equal,
    Not,
    Range(&'static str),
    Near,
}

/// The filter that a line stands for; `None` for an empty one.
///
/// # Errors
/// A sentence that says what is wrong, and what to write instead.
pub fn read(line: &str, definition: &CollectionDefinition) -> Result<Option<Value>, String> {
    let (mut must, mut must_not) = (Vec::new(), Vec::new());
    for part in split(line, ';') {
        let (field, operator, value) = cut(&part)?;
        let field_type = type_of(field, definition)?;
        let condition = match operator {
            Operator::Equal | Operator::Not => {
                let values: Vec<Value> = split(value, '|').iter().map(|value| typed(field, value, field_type)).collect::<Result<_, _>>()?;
                if values.is_empty() {
                    return Err(format!("filter: what should {field} be? Write, for example, {field} = value"));
                }
                json!({"key": field, "match": {"any": values}})
            }
            Operator::Range(bound) => json!({"key": field, "range": {bound: typed(field, unquoted(value), field_type)?}}),
            Operator::Near => near(field, value)?,
        };
        // A switch is one value.
        let condition = match (field_type, &condition["match"]["any"]) {
            (FieldType::Bool, Value::Array(values)) => match values.as_slice() {
                [value] => json!({"key": field, "match": {"value": value}}),
                _ => return Err(format!("filter: {field} is either true or false")),
            },
            _ => condition,
        };
        if matches!(operator, Operator::Not) { must_not.push(condition) } else { must.push(condition) }
    }
    Ok((!must.is_empty() || !must_not.is_empty()).then(|| json!({"must": must, "must_not": must_not})))
}

/// The parts between separators that do not stand in quotes, without blanks around them; empty ones are left out.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut part, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            _ if c == separator && !is_quoted => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Field, operator, value.
fn cut(condition: &str) -> Result<(&str, Operator, &str), String> {
    let found = OPERATORS.iter().filter_map(|(sign, operator)| Some((condition.find(sign)?, *sign, *operator)));
    // The first one that stands there; of those at one place, the longest.
    let first = found.min_by_key(|(at, sign, _)| (*at, usize::MAX - sign.len()));
    let (at, sign, operator) = first.ok_or_else(|| {
        format!("filter: {condition:?} is no condition. Write field = value, field != value, field >= number, or location near latitude, longitude, kilometres")
    })?;
    Ok((condition[..at].trim(), operator, condition[at + sign.len()..].trim()))
}

fn type_of(field: &str, definition: &CollectionDefinition) -> Result<FieldType, String> {
    if let Some(spec) = definition.fields.get(field).filter(|spec| spec.index) {
        return Ok(spec.field_type);
    }
    let known: Vec<&str> = definition.fields.iter().filter(|(_, spec)| spec.index).map(|(name, _)| name.as_str()).collect();
    match known.as_slice() {
        [] => Err("filter: this collection has no fields to filter by. Leave the filter out, and say it in the text".to_owned()),
        known => Err(format!("filter: there is no field {field:?} to filter by. There are {}", known.join(", "))),
    }
}

fn typed(field: &str, value: &str, field_type: FieldType) -> Result<Value, String> {
    let value = unquoted(value);
    match field_type {
        FieldType::Bool => match value.to_lowercase().as_str() {
            "true" | "yes" | "1" => Ok(json!(true)),
            "false" | "no" | "0" => Ok(json!(false)),
            _ => Err(format!("filter: {field} is either true or false, not {value:?}")),
        },
        FieldType::Number => number(value).map(Value::Number).ok_or_else(|| format!("filter: {field} is a number, not {value:?}")),
        FieldType::Geo => Err(format!("filter: {field} is a place. Write {field} near latitude, longitude, kilometres")),
        FieldType::Keyword | FieldType::Time | FieldType::Text => Ok(json!(value)),
    }
}

fn near(field: &str, value: &str) -> Result<Value, String> {
    let part = |part: &str| number(part.trim().trim_end_matches("km").trim())?.as_f64();
    let numbers: Option<Vec<f64>> = value.split(',').map(part).collect();
    match numbers.as_deref() {
        Some([lat, lon, km]) => Ok(json!({"key": field, "geo_radius": {"center": {"lat": lat, "lon": lon}, "radius": km * 1000.0}})),
        _ => Err(format!(
            "filter: {field} near needs three numbers, for example {field} near 52.52, 13.40, 30 (latitude, longitude, kilometres)"
        )),
    }
}

/// `50000`, `50_000` and `50,000`: a comma before three digits parts thousands.
fn number(text: &str) -> Option<Number> {
    let is_grouped = text.split(',').skip(1).all(|group| group.len() == 3 && group.bytes().all(|b| b.is_ascii_digit()));
    let plain = if is_grouped { text.replace([',', '_'], "") } else { text.replace('_', "") };
    let signed = plain.parse::<i64>().ok().map(Number::from);
    let unsigned = || plain.parse::<u64>().ok().map(Number::from);
    signed.or_else(unsigned).or_else(|| Number::from_f64(plain.parse().ok()?))
}

fn unquoted(value: &str) -> &str {
    let value = value.trim();
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> CollectionDefinition {
        let fields = json!({
            "title": {"type": "text"}, "company": {"type": "keyword", "index": true}, "salary.min": {"type": "number", "index": true},
            "remote": {"type": "bool", "index": true}, "posted_at": {"type": "time", "index": true}, "location": {"type": "geo", "index": true},
        });
        serde_json::from_value(json!({"template": "{title}", "fields": fields})).unwrap()
    }

    fn filter(line: &str) -> Value {
        read(line, &definition()).unwrap().unwrap()
    }

    #[test]
    fn a_line_becomes_conditions() {
        assert_eq!(
            filter("company = Bridge & Beam | \"a;b|c\" ; remote=yes;salary.min >= 50,000; posted_at<2026-11-01;"),
            json!({"must": [
                {"key": "company", "match": {"any": ["Bridge & Beam", "a;b|c"]}},
                {"key": "remote", "match": {"value": true}},
                {"key": "salary.min", "range": {"gte": 50000}},
                {"key": "posted_at", "range": {"lt": "2026-11-01"}},
            ], "must_not": []})
        );
        assert_eq!(
            filter("location near 52.52, 13.4, 30 km; company != x=y"),
            json!({"must": [{"key": "location", "geo_radius": {"center": {"lat": 52.52, "lon": 13.4}, "radius": 30000.0}}],
                "must_not": [{"key": "company", "match": {"any": ["x=y"]}}]})
        );
        let exact = json!({"must": [{"key": "salary.min", "match": {"any": [1_768_907_725_507_217_522_u64, -0.5]}}], "must_not": []});
        assert_eq!(filter("salary.min = 1768907725507217522 | -0.5"), exact);
        assert_eq!(read(" ; ", &definition()).unwrap(), None);
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (line, words) in [
            ("city = Berlin", "There are company, location, posted_at, remote, salary.min"),
            ("title = Nurse", "no field \"title\""),
            ("remote", "is no condition"),
            ("remote = maybe", "either true or false"),
            ("remote = true | false", "either true or false"),
            ("salary.min >= much", "salary.min is a number"),
            ("location = Berlin", "location near latitude"),
            ("location near Berlin", "three numbers"),
            ("company =", "what should company be"),
        ] {
            let said = read(line, &definition()).unwrap_err();
            assert!(said.contains(words), "{line}: {said}");
        }
        let none: CollectionDefinition = serde_json::from_value(json!({"template": "{title}"})).unwrap();
        assert!(read("a = b", &none).unwrap_err().contains("Leave the filter out"));
    }
}
