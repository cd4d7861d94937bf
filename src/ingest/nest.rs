//! Columns become fields: a dotted name reaches into an object.

use serde_json::{Map, Value as Json};

use crate::pipeline::ItemError;
use kindred_core::error::ErrorKind;

/// Puts a column's value where its name says: `location.city` into the object `location`. An object that is there already takes
/// in the fields of another.
pub(super) fn insert(fields: &mut Map<String, Json>, name: &str, value: Json) -> Result<(), ItemError> {
    let clash = || ItemError {
        kind: ErrorKind::Invalid,
        message: format!("column {name:?} and another one both give a value to the same field: leave one of them empty"),
        field: Some(name.to_owned()),
    };
    let mut into = fields;
    let mut path = name.split('.').peekable();
    while let Some(part) = path.next() {
        if path.peek().is_some() {
            let inner = into.entry(part).or_insert_with(|| Json::Object(Map::new()));
            into = inner.as_object_mut().ok_or_else(clash)?;
            continue;
        }
        return match (into.get_mut(part), value) {
            (None, value) => {
                into.insert(part.to_owned(), value);
                Ok(())
            }
            (Some(Json::Object(there)), Json::Object(more)) => {
                there.extend(more);
                Ok(())
            }
            _ => Err(clash()),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dotted_names_build_objects() {
        let mut fields = Map::new();
        insert(&mut fields, "location.city", json!("Bonn")).unwrap();
        insert(&mut fields, "location", json!({"lat": 50.7, "lon": 7.1})).unwrap();
        insert(&mut fields, "location.region.code", json!("NW")).unwrap();
        insert(&mut fields, "title", json!("Nurse")).unwrap();
        let expected = json!({"location": {"city": "Bonn", "lat": 50.7, "lon": 7.1, "region": {"code": "NW"}}, "title": "Nurse"});
        assert_eq!(Json::Object(fields.clone()), expected);
        assert!(insert(&mut fields, "title.short", json!("N")).unwrap_err().message.contains("title.short"));
        assert!(insert(&mut fields, "location", json!("Bonn")).is_err());
    }
}
