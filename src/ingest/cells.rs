//! What a cell of a CSV file means: its column's type in the collection's schema says.
//!
//! | column | a cell is |
//! |---|---|
//! | text, or not of the schema | words, as they stand |
//! | keyword, time | words; several with `\|` between them, or a JSON array |
//! | number | a number; several as above |
//! | bool | true, yes, t, y, 1 or false, no, f, n, 0; several as above |
//! | geo | `lat,lon`, or a JSON object. `location.lat` and `location.lon` may be columns of their own |
//! | embedding | a JSON array of numbers |
//!
//! An empty cell is an absent field. What does not fit its type is left as it stands, for the check of the document to refuse.

use serde_json::{Map, Number, Value as Json};

use super::nest;
use crate::pipeline::ItemError;
use kindred_core::domain::{FieldType, Schema};
use kindred_core::error::ErrorKind;

/// Between several values of one cell.
const SEPARATOR: char = '|';

/// The columns of a file.
pub(super) struct Columns(Vec<Column>);

struct Column {
    /// Dotted names reach into objects; empty: left out.
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Words,
    Typed(FieldType),
    Embedding,
}

impl Columns {
    /// Checks a header. A column without a name is left out: some programs write row numbers into one.
    pub fn new(header: &[&str], schema: &Schema) -> Result<Self, String> {
        let names: Vec<&str> = header.iter().map(|name| name.trim()).collect();
        if !names.contains(&"id") {
            return Err(format!("the first row names no column \"id\"; it names {}", names.join(", ")));
        }
        for (i, name) in names.iter().enumerate() {
            if !name.is_empty() && names[..i].contains(name) {
                return Err(format!("the first row names the column {name:?} twice"));
            }
            if !name.is_empty() && name.split('.').any(str::is_empty) {
                return Err(format!("the column name {name:?} is not allowed: a part between its dots is empty"));
            }
        }
        let column = |name: &str| Column { name: name.to_owned(), kind: kind_of(name, schema) };
        Ok(Self(names.into_iter().map(column).collect()))
    }

    /// A row as a document.
    pub fn document(&self, cells: &[&str]) -> Result<Map<String, Json>, ItemError> {
        if cells.len() != self.0.len() {
            let message = format!("the row has {} values, but the first row names {} columns", cells.len(), self.0.len());
            return Err(ItemError { kind: ErrorKind::Malformed, message, field: None });
        }
        let mut fields = Map::new();
        for (column, cell) in self.0.iter().zip(cells) {
            if !column.name.is_empty() && !cell.trim().is_empty() {
                nest::insert(&mut fields, &column.name, value_of(cell, column.kind))?;
            }
        }
        Ok(fields)
    }
}

fn kind_of(name: &str, schema: &Schema) -> Kind {
    let type_of = |name: &str| schema.id(name).map(|id| schema.spec(id).field_type);
    let is_coordinate = name.strip_suffix(".lat").or_else(|| name.strip_suffix(".lon")).and_then(type_of) == Some(FieldType::Geo);
    match (name, type_of(name)) {
        ("embedding", _) => Kind::Embedding,
        (_, None) if is_coordinate => Kind::Typed(FieldType::Number),
        (_, None | Some(FieldType::Text)) => Kind::Words,
        (_, Some(field_type)) => Kind::Typed(field_type),
    }
}

fn value_of(cell: &str, kind: Kind) -> Json {
    let trimmed = cell.trim();
    let json = |opening: char| trimmed.starts_with(opening).then(|| serde_json::from_str::<Json>(trimmed).ok()).flatten();
    let field_type = match kind {
        Kind::Words => return Json::String(cell.to_owned()),
        Kind::Embedding => return json('[').unwrap_or_else(|| Json::String(cell.to_owned())),
        Kind::Typed(field_type) => field_type,
    };
    if let Some(list) = json('[') {
        return list;
    }
    if field_type == FieldType::Geo {
        return json('{').or_else(|| place(trimmed)).unwrap_or_else(|| Json::String(cell.to_owned()));
    }
    if !trimmed.contains(SEPARATOR) {
        return single(trimmed, field_type);
    }
    let parts = trimmed.split(SEPARATOR).map(str::trim).filter(|part| !part.is_empty());
    Json::Array(parts.map(|part| single(part, field_type)).collect())
}

fn single(text: &str, field_type: FieldType) -> Json {
    let typed = match field_type {
        FieldType::Number => number(text),
        FieldType::Bool => truth(text),
        FieldType::Text | FieldType::Keyword | FieldType::Time | FieldType::Geo => None,
    };
    typed.unwrap_or_else(|| Json::String(text.to_owned()))
}

fn number(text: &str) -> Option<Json> {
    let signed = text.parse::<i64>().ok().map(Number::from);
    let unsigned = || text.parse::<u64>().ok().map(Number::from);
    let float = || text.parse::<f64>().ok().and_then(Number::from_f64);
    signed.or_else(unsigned).or_else(float).map(Json::Number)
}

fn truth(text: &str) -> Option<Json> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "t" | "y" | "1" => Some(Json::Bool(true)),
        "false" | "no" | "f" | "n" | "0" => Some(Json::Bool(false)),
        _ => None,
    }
}

fn place(text: &str) -> Option<Json> {
    let (lat, lon) = text.split_once(',')?;
    Some(serde_json::json!({"lat": number(lat.trim())?, "lon": number(lon.trim())?}))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_what_the_schema_says() {
        let typed = |cell, field_type| value_of(cell, Kind::Typed(field_type));
        assert_eq!(typed(" 42 ", FieldType::Number), json!(42));
        assert_eq!(typed("-1.5e3", FieldType::Number), json!(-1500.0));
        assert_eq!(typed("1768907725507217522", FieldType::Number), json!(1_768_907_725_507_217_522_u64));
        assert_eq!(typed("18446744073709551615|-9223372036854775808", FieldType::Number), json!([u64::MAX, i64::MIN]));
        assert_eq!(typed("1|2", FieldType::Number), json!([1, 2]));
        assert_eq!(typed("NaN", FieldType::Number), json!("NaN"), "refused later, with the field's name");
        assert_eq!(typed("Yes", FieldType::Bool), json!(true));
        assert_eq!(typed("0", FieldType::Bool), json!(false));
        assert_eq!(typed("maybe", FieldType::Bool), json!("maybe"));
        assert_eq!(typed("007", FieldType::Keyword), json!("007"));
        assert_eq!(typed("a | b|", FieldType::Keyword), json!(["a", "b"]));
        assert_eq!(typed("C; C++", FieldType::Keyword), json!("C; C++"), "a semicolon may be part of a name");
        assert_eq!(typed(r#"["a|b"]"#, FieldType::Keyword), json!(["a|b"]));
        assert_eq!(typed("[sic] nurse", FieldType::Keyword), json!("[sic] nurse"));
        assert_eq!(typed("2026-11-01", FieldType::Time), json!("2026-11-01"));
        assert_eq!(typed("50.7, 7.1", FieldType::Geo), json!({"lat": 50.7, "lon": 7.1}));
        assert_eq!(typed("Bonn", FieldType::Geo), json!("Bonn"));
        assert_eq!(value_of("[1,2]", Kind::Words), json!("[1,2]"));
        assert_eq!(value_of("[0.5, 1]", Kind::Embedding), json!([0.5, 1]));
    }
}
