//! What is returned of a stored document.

use serde_json::Value as Json;
use serde_json::value::RawValue;

/// The stored JSON as it is, or the named fields of it. A dotted name gives the objects around it, with that part alone.
pub fn project(stored: &str, names: Option<&[String]>) -> Result<Box<RawValue>, serde_json::Error> {
    let Some(names) = names else { return RawValue::from_string(stored.to_owned()) };
    let all: Json = serde_json::from_str(stored)?;
    let mut kept = Json::Object(serde_json::Map::new());
    for name in names {
        if let Some(value) = all.get(name) {
            kept[name.as_str()] = value.clone();
        } else if let Some(part) = part_at(&all, &name.split('.').collect::<Vec<_>>()) {
            merge(&mut kept, part);
        }
    }
    serde_json::value::to_raw_value(&kept)
}

/// What lies at a path, inside the objects and arrays on the way to it; `None` if nothing does.
fn part_at(json: &Json, path: &[&str]) -> Option<Json> {
    match (json, path) {
        (value, []) => Some(value.clone()),
        (Json::Object(map), [key, rest @ ..]) => Some(serde_json::json!({*key: part_at(map.get(*key)?, rest)?})),
        (Json::Array(items), _) => {
            let parts: Vec<Option<Json>> = items.iter().map(|item| part_at(item, path)).collect();
            // Items without it stay as empty objects: the others keep their positions.
            parts.iter().any(Option::is_some).then(|| parts.into_iter().map(|part| part.unwrap_or_else(|| serde_json::json!({}))).collect())
        }
        _ => None,
    }
}

/// Puts two parts of one document together.
fn merge(into: &mut Json, part: Json) {
    match (into, part) {
        (Json::Object(into), Json::Object(part)) => {
            for (key, value) in part {
                merge(into.entry(key).or_insert_with(|| value.clone()), value);
            }
        }
        (Json::Array(into), Json::Array(part)) => into.iter_mut().zip(part).for_each(|(into, part)| merge(into, part)),
        (into, part) => *into = part,
    }
}

#[cfg(test)]
mod tests {
    use super::project;

    fn projected(names: &[&str]) -> String {
        let stored =
            r#"{"title":"Nurse","location":{"city":"Bonn","lat":50.7},"experience":[{"title":"a","years":1},{"title":"b"}],"x.y":1}"#;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        project(stored, Some(&names)).unwrap().get().to_owned()
    }

    #[test]
    fn fields_are_picked_by_name_and_path() {
        assert_eq!(projected(&["title"]), r#"{"title":"Nurse"}"#);
        assert_eq!(projected(&["location.city", "none", "x.y"]), r#"{"location":{"city":"Bonn"},"x.y":1}"#);
        assert_eq!(projected(&["experience.title"]), r#"{"experience":[{"title":"a"},{"title":"b"}]}"#);
        assert_eq!(projected(&["experience.title", "experience.years"]), r#"{"experience":[{"title":"a","years":1},{"title":"b"}]}"#);
        assert_eq!(projected(&["location.none", "title.x", "experience.years", "x.y.z"]), r#"{"experience":[{"years":1},{}]}"#);
        assert_eq!(projected(&[]), "{}");
        assert_eq!(project(r#"{"a": 1}"#, None).unwrap().get(), r#"{"a": 1}"#);
    }
}
