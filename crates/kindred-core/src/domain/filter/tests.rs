use serde_json::{Value as Json, json};

use super::*;
use crate::domain::{Attributes, CollectionDefinition, Document};

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
    assert!(holds(json!({"key": "salary", "match": {"any": [70, 50, 3]}})));
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
    assert!(size(json!({"must": [{"key": "salary", "match": {"any": (0..1_000).collect::<Vec<_>>()}}]})) > 8_000);
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
        (json!({"must": [{"key": "skills", "range": {"gt": 1}}]}), "filter.must[0].range", "is filtered by \"match\""),
        (json!({"must": [{"key": "posted_at", "range": {"gt": "soon"}}]}), "filter.must[0].range.gt", "time"),
        (json!({"must": [{"key": "salary", "range": {"above": 1}}]}), "filter.must[0].range", "above"),
        (json!({"must": [{"key": "skills", "range": {"gt": null}}]}), "filter.must[0].range", "is filtered by \"match\""),
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
}

#[test]
fn filters_have_limits() {
    let (_, schema) = definition().check().unwrap();
    let rust = json!({"key": "skills", "match": {"value": "rust"}});
    let near = json!({"key": "location", "geo_radius": {"center": {"lat": 9, "lon": 0}, "radius": 1}});
    let words = |n: usize, len: usize| json!({"key": "skills", "match": {"any": vec!["x".repeat(len); n]}});
    let half =
        |condition: &Json, n: usize| json!({"must": vec![condition.clone(); n / 2], "must_not": [{"should": vec![condition; n / 2]}]});
    for (filter, limit) in [
        (json!({"must": vec![rust.clone(); 256]}), None),
        (json!({"must": vec![rust.clone(); 257]}), Some("at most 256 conditions")),
        (json!({"should": vec![json!({}); 257]}), Some("at most 256 conditions")),
        (half(&rust, 254), None),
        (half(&rust, 256), Some("at most 256 conditions")),
        (json!({"must": [words(10_000, 1)]}), None),
        (json!({"must_not": [words(10_001, 1)]}), Some("at most 10000 values")),
        (json!({"must": [words(9_999, 1), rust, rust]}), Some("at most 10000 values")),
        (json!({"must": [{"key": "salary", "match": {"any": vec![1; 10_001]}}]}), Some("at most 10000 values")),
        (json!({"must": [words(1, 1 << 20)]}), None),
        (json!({"must": [words(1, 1 << 20), rust]}), Some("at most 1048576 bytes")),
        (half(&near, 16), None),
        (half(&near, 18), Some("at most 16 geo_radius")),
    ] {
        let parsed = Filter::parse(&filter, &schema).map_err(|e| e.to_string());
        match limit {
            None => assert!(parsed.is_ok(), "{parsed:?}"),
            Some(limit) => assert!(parsed.as_ref().is_err_and(|e| e.contains(limit) && e.contains(": ")), "{limit}: {parsed:?}"),
        }
    }
}

#[test]
fn filters_that_name_no_condition_do_not_select() {
    let (_, schema) = definition().check().unwrap();
    let selects = |filter: &Json| Filter::parse(filter, &schema).unwrap().selects();
    let rust = json!({"key": "skills", "match": {"value": "rust"}});
    let no_word = json!({"key": "skills", "match": {"any": []}});
    let any_word = json!({"key": "skills", "match": {"except": []}});
    let any_salary = json!({"key": "salary", "range": {"gte": null, "lt": null}});
    for filter in [
        json!({}),
        json!({"must": []}),
        json!({"should": []}),
        json!({"must_not": []}),
        json!({"must": [], "should": [], "must_not": []}),
        json!({"must": [{}]}),
        json!({"should": [{}, {}]}),
        json!({"must_not": [{}]}),
        json!({"must": [{"must": []}]}),
        json!({"must": [{"should": [{"must_not": []}]}]}),
        json!({"must_not": [{"must_not": [{}]}]}),
        json!({"must": [any_salary]}),
        json!({"must_not": [any_salary]}),
        json!({"should": [any_salary, {"must": [any_word]}]}),
        // A part that matches everything outweighs the condition next to it.
        json!({"should": [rust, {}]}),
        json!({"should": [rust, any_salary]}),
        json!({"must": [{"should": [{"must": [rust]}, {"must": []}]}]}),
        json!({"must_not": [{"must": [rust, {"must_not": [{}]}]}]}),
        // No document has one of no words, so all are left.
        json!({"must_not": [no_word]}),
        json!({"must": [{"must_not": [no_word, {"must": [rust, no_word]}]}]}),
    ] {
        assert!(!selects(&filter), "{filter}");
    }
    for filter in [
        json!({"must": [rust]}),
        json!({"must": [rust, {}]}),
        json!({"must": [rust, any_salary]}),
        json!({"should": [rust, no_word]}),
        json!({"must_not": [rust]}),
        json!({"must_not": [rust, no_word]}),
        json!({"must_not": [{"must": [rust, any_word]}]}),
        json!({"must": [{"must": [{"must_not": [{"should": [rust]}]}]}]}),
        json!({"must": [{"key": "salary", "range": {"gte": null, "lt": 9}}]}),
        // It matches nothing, which a deletion may do.
        json!({"must": [no_word]}),
    ] {
        assert!(selects(&filter), "{filter}");
    }
}

#[test]
fn integers_are_compared_exactly() {
    let (template, schema) = definition().check().unwrap();
    let with_salary = |salary: &str| {
        let document = serde_json::from_str(&format!(r#"{{"id": "a", "title": "x", "salary": {salary}}}"#)).unwrap();
        Document::parse(document, &schema, &template, 100).unwrap().attributes
    };
    let holds = |condition: &str, attributes: &Attributes| {
        let condition: Json = serde_json::from_str(&format!(r#"{{"must": [{{"key": "salary", {condition}}}]}}"#)).unwrap();
        Filter::parse(&condition, &schema).unwrap().matches(attributes)
    };
    for (salary, next) in [
        ("9007199254740993", "9007199254740992"),
        ("1768907725507217522", "1768907725507217523"),
        ("-9223372036854775807", "-9223372036854775808"),
        ("18446744073709551615", "18446744073709551614"),
        ("9007199254740993", "9007199254740992.0"),
    ] {
        for (salary, next) in [(salary, next), (next, salary)] {
            let attributes = with_salary(salary);
            assert!(holds(&format!(r#""match": {{"value": {salary}}}"#), &attributes), "{salary}");
            assert!(!holds(&format!(r#""match": {{"value": {next}}}"#), &attributes), "{salary} is not {next}");
            assert!(!holds(&format!(r#""match": {{"any": [1, {next}, 0.5]}}"#), &attributes), "{salary} is not {next}");
            assert!(holds(&format!(r#""range": {{"gte": {salary}, "lte": {salary}}}"#), &attributes), "{salary}");
            assert!(!holds(&format!(r#""range": {{"gte": {next}, "lte": {next}}}"#), &attributes), "{salary} is not {next}");
            let between = ["gt", "lt"].map(|bound| holds(&format!(r#""range": {{"{bound}": {next}}}"#), &attributes));
            assert!(between[0] != between[1], "{salary} lies on one side of {next}");
        }
    }
    // Several values, floats among them.
    let mixed = with_salary("[0.5, 9007199254740993, -1]");
    assert!(holds(r#""match": {"value": 0.5}"#, &mixed) && holds(r#""match": {"value": 9007199254740993}"#, &mixed));
    assert!(!holds(r#""match": {"value": 9007199254740992}"#, &mixed));
    assert_eq!(mixed.number(schema.id("salary")), Some(0.5));
}
