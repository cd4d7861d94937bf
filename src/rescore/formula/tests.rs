//! Each word against values computed by hand.

use serde_json::{Value as Json, json};

use super::*;
use crate::rescore::{Signals, Wanted};
use kindred_core::domain::{CollectionDefinition, Document, Schema, parse_time_us};

pub(super) fn schema() -> Schema {
    let definition: CollectionDefinition = serde_json::from_value(json!({"template": "{title}", "fields": {
        "title": {"type": "text"}, "skills": {"type": "keyword", "index": true}, "salary.min": {"type": "number", "index": true},
        "years": {"type": "number", "index": true}, "stored": {"type": "number"}, "posted_at": {"type": "time"},
        "changed_at": {"type": "time", "index": true}, "location": {"type": "geo", "index": true},
        "remote": {"type": "bool", "index": true}, "company": {"type": "keyword"},
    }}))
    .unwrap();
    definition.check().unwrap().1
}

pub(super) fn attributes(mut json: Json) -> Attributes {
    let template = kindred_core::domain::Template::parse("{title}").unwrap();
    json["id"] = json!("x");
    json["title"] = json!("Night nurse");
    Document::parse(json, &schema(), &template, 1_000).unwrap().attributes
}

/// The time of all searches here: the first of March 2026.
pub(super) const NOW_US: f64 = 1_772_323_200e6;

fn job() -> Attributes {
    attributes(json!({
        "skills": ["rust", "sql"], "salary": {"min": 50_000}, "years": [4, 9], "posted_at": "2026-01-31", "remote": true,
        "location": [{"lat": 48.8566, "lon": 2.3522}, {"lat": 52.52, "lon": 13.405}],
    }))
}

/// What each feature is worth here: others have no value.
pub(super) fn features(feature: Feature) -> Option<f64> {
    match feature {
        Feature::Dot => Some(0.5),
        Feature::TitleOverlap => Some(0.25),
        _ => None,
    }
}

fn explained(formula: &Json, attributes: &Attributes) -> Explanation {
    let formula = Formula::parse(formula, &schema()).unwrap();
    let evaluated = formula.evaluate_with(attributes, NOW_US, features);
    assert_eq!(evaluated.score(), evaluated.explanation().value);
    evaluated.explanation()
}

/// The value of an expression for the job.
fn value(expression: Json) -> f64 {
    explained(&json!({"formula": expression}), &job()).value
}

/// The value with its note, for a document that says nothing.
fn of_nothing(formula: Json) -> (f64, Option<&'static str>) {
    let Explanation { value, note, .. } = explained(&formula, &attributes(json!({})));
    (value, note)
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * b.abs().max(1.0)
}

#[test]
fn names_are_looked_up() {
    assert_eq!(value(json!(2.5)), 2.5);
    assert_eq!(value(json!("$score")), 0.5);
    assert_eq!(value(json!("$score[0]")), 0.5);
    assert_eq!(value(json!("$dot")), 0.5);
    assert_eq!(value(json!("$title_overlap")), 0.25);
    assert_eq!(value(json!("salary.min")), 50_000.0);
    assert_eq!(value(json!("years")), 4.0, "the first of several");
    assert_eq!(value(json!({"datetime": "1970-01-02T00:00:01.5Z"})), 86_401.5);
    assert_eq!(value(json!({"datetime": "now"})), NOW_US / 1e6);
    assert_eq!(value(json!({"datetime_key": "posted_at"})), parse_time_us("2026-01-31").unwrap() as f64 / 1e6, "a role keeps it");
    let berlin_to_paris = 877_463.0;
    let distance = value(json!({"geo_distance": {"origin": {"lat": 52.52, "lon": 13.405}, "to": "location"}}));
    assert_eq!(distance, 0.0, "the nearest of several");
    let paris = attributes(json!({"location": {"lat": 48.8566, "lon": 2.3522}}));
    let formula = json!({"formula": {"geo_distance": {"origin": {"lat": 52.52, "lon": 13.405}, "to": "location"}}});
    assert!((explained(&formula, &paris).value - berlin_to_paris).abs() < 100.0, "in metres");
}

#[test]
fn words_compute_what_they_say() {
    assert_eq!(value(json!({"sum": [1, "$score", "years"]})), 5.5);
    assert_eq!(value(json!({"sum": []})), 0.0);
    assert_eq!(value(json!({"mult": [3, "$score", {"sum": [1, 1]}]})), 3.0);
    assert_eq!(value(json!({"mult": []})), 1.0);
    assert_eq!(value(json!({"neg": "years"})), -4.0);
    assert!(value(json!({"neg": 0})).is_sign_positive(), "there is one zero");
    assert_eq!(value(json!({"abs": {"neg": 2}})), 2.0);
    assert_eq!(value(json!({"div": {"left": 1, "right": "years"}})), 0.25);
    assert_eq!(value(json!({"div": {"left": 1, "right": 0, "by_zero_default": 7}})), 7.0);
    assert_eq!(value(json!({"div": {"left": 0, "right": 0, "by_zero_default": 7}})), 0.0, "as Qdrant has it");
    assert_eq!(value(json!({"pow": {"base": "years", "exponent": 3}})), 64.0);
    assert_eq!(value(json!({"pow": {"base": 0, "exponent": 0}})), 1.0);
    assert_eq!(value(json!({"sqrt": "years"})), 2.0);
    assert!(is_near(value(json!({"exp": 1})), std::f64::consts::E));
    assert!(is_near(value(json!({"ln": 8})), 3.0 * std::f64::consts::LN_2));
    assert!(is_near(value(json!({"log10": 1_000})), 3.0));
}

#[test]
fn conditions_are_those_of_filters() {
    for (condition, expected) in [
        (json!({"key": "remote", "match": {"value": true}}), 1.0),
        (json!({"key": "skills", "match": {"any": ["go", "sql"]}}), 1.0),
        (json!({"key": "skills", "match": {"value": "go"}}), 0.0),
        (json!({"key": "years", "range": {"gt": 8}}), 1.0),
        (json!({"key": "changed_at", "range": {"gt": "2026-01-01"}}), 0.0),
        (json!({"key": "location", "geo_radius": {"center": {"lat": 52.5, "lon": 13.4}, "radius": 3_000}}), 1.0),
        (json!({"must_not": [{"key": "remote", "match": {"value": true}}]}), 0.0),
        (json!({"should": [{"key": "years", "match": {"value": 1}}, {"must": [{"key": "years", "match": {"value": 9}}]}]}), 1.0),
    ] {
        assert_eq!(value(condition.clone()), expected, "{condition}");
    }
}

/// The curves as Qdrant documents them: `λ` from scale and midpoint.
#[test]
fn decays_are_those_of_qdrant() {
    let decay = |curve: &str, x: f64, target: f64, scale: f64, midpoint: f64| {
        value(json!({curve: {"x": x, "target": target, "scale": scale, "midpoint": midpoint}}))
    };
    for (x, target, scale, midpoint) in [
        (0.0f64, 0.0f64, 1.0f64, 0.5f64),
        (3.0, 1.0, 4.0, 0.5),
        (-7.0, 2.0, 5.0, 0.1),
        (1e9, 1e9 + 3.0, 86_400.0, 0.9),
        (50.0, 0.0, 10.0, 0.25),
    ] {
        let away = (x - target).abs();
        let linear = (1.0 - (1.0 - midpoint) / scale * away).max(0.0);
        let exponential = (midpoint.ln() / scale * away).exp();
        let gauss = (midpoint.ln() / (scale * scale) * away * away).exp();
        assert!(is_near(decay("lin_decay", x, target, scale, midpoint), linear));
        assert!(is_near(decay("exp_decay", x, target, scale, midpoint), exponential));
        assert!(is_near(decay("gauss_decay", x, target, scale, midpoint), gauss));
    }
    for curve in ["lin_decay", "exp_decay", "gauss_decay"] {
        assert_eq!(value(json!({curve: {"x": 0}})), 1.0, "the target is 0 by default");
        assert!(is_near(value(json!({curve: {"x": -1}})), 0.5), "scale 1 and midpoint 0.5 by default");
        assert!(is_near(value(json!({curve: {"x": 12, "target": {"sum": [1, 1]}, "scale": 10, "midpoint": 0.2}})), 0.2));
        assert_eq!(value(json!({curve: {"x": 5, "target": 5, "scale": f64::MIN_POSITIVE}})), 1.0, "however small the scale");
        assert_eq!(value(json!({curve: {"x": -1e308, "target": 1e308, "scale": f64::MIN_POSITIVE}})), 0.0, "however far");
    }
    assert_eq!(value(json!({"lin_decay": {"x": 9, "midpoint": 1}})), 1.0, "never falls");
    assert_eq!(value(json!({"lin_decay": {"x": 1, "midpoint": 0}})), 0.0);
}

#[test]
fn defaults_stand_for_what_is_missing() {
    let distance = json!({"geo_distance": {"origin": {"lat": 0, "lon": 0}, "to": "location"}});
    let defaults = json!({"years": 3, "changed_at": "1970-01-01T00:01:00Z", "location": {"lat": 0, "lon": 0}, "$bm25": 0.125, "$score": 9});
    for (expression, default, otherwise) in [
        (json!("years"), 3.0, 0.0),
        (json!({"datetime_key": "changed_at"}), 60.0, 0.0),
        (distance, 0.0, 20_015_115.0),
        (json!("$bm25"), 0.125, 0.0),
    ] {
        let (value, note) = of_nothing(json!({"formula": expression, "defaults": defaults}));
        assert_eq!((value, note), (default, Some("no value: the default")), "{expression}");
        let (value, note) = of_nothing(json!({"formula": expression}));
        assert_eq!(value, otherwise, "{expression}");
        assert!(note.unwrap().starts_with("no value: "));
    }
    assert_eq!(of_nothing(json!({"formula": "$dot", "defaults": defaults})), (0.5, None), "it has a value");
    let formula = Formula::parse(&json!({"formula": "$dot", "defaults": defaults}), &schema()).unwrap();
    assert_eq!(formula.evaluate_with(&job(), NOW_US, |_| None).score(), 9.0, "$score and $dot are one");
}

#[test]
fn what_has_no_value_is_noted() {
    let huge = json!({"pow": {"base": 10, "exponent": 300}});
    for (expression, expected, note) in [
        (json!({"div": {"left": 1, "right": 0}}), 0.0, "division by zero: 0"),
        (json!({"div": {"left": 1, "right": 0, "by_zero_default": 2}}), 2.0, "division by zero: by_zero_default"),
        (json!({"sqrt": -1}), 0.0, "not a number: 0"),
        (json!({"ln": 0}), 0.0, "not a number: 0"),
        (json!({"log10": -1}), 0.0, "not a number: 0"),
        (json!({"pow": {"base": -8, "exponent": 0.5}}), 0.0, "not a number: 0"),
        (json!({"pow": {"base": 0, "exponent": -1}}), 0.0, "not a number: 0"),
        (json!({"exp": 1_000}), f64::MAX, "too large: limited"),
        (json!({"neg": {"mult": [huge, huge]}}), -f64::MAX, ""),
        (json!({"mult": [huge, huge, {"neg": 1}]}), -f64::MAX, "too large: limited"),
        (json!({"mult": [huge, huge, 0]}), 0.0, "too large: limited"),
        (json!({"div": {"left": huge, "right": 1e-300}}), f64::MAX, "too large: limited"),
    ] {
        let explanation = explained(&json!({"formula": expression}), &job());
        assert_eq!((explanation.value, explanation.note.unwrap_or_default()), (expected, note), "{expression}");
    }
}

#[test]
fn an_explanation_is_a_tree_of_what_was_computed() {
    let formula = json!({
        "formula": {"sum": ["$score", {"mult": [2, "salary.min", {"key": "remote", "match": {"value": true}}]}, {"exp_decay": {"x": "years", "target": 4}}]},
        "defaults": {"salary.min": 10},
    });
    let explanation = explained(&formula, &attributes(json!({"years": 4, "remote": true})));
    assert_eq!(
        serde_json::to_value(&explanation).unwrap(),
        json!({"what": "sum", "value": 21.5, "parts": [
            {"what": "$score", "value": 0.5},
            {"what": "mult", "value": 20.0, "parts": [
                {"what": "constant", "value": 2.0},
                {"what": "salary.min", "value": 10.0, "note": "no value: the default"},
                {"what": "{\"key\":\"remote\",\"match\":{\"value\":true}}", "value": 1.0},
            ]},
            {"what": "exp_decay", "value": 1.0, "parts": [{"what": "years", "value": 4.0}, {"what": "constant", "value": 4.0}]},
        ]})
    );
}

#[test]
fn a_feature_is_computed_once() {
    let formula = json!({"formula": {"sum": ["$title_letters", "$title_letters", {"neg": "$title_letters"}, "$score", "$score[0]"]}});
    let formula = Formula::parse(&formula, &schema()).unwrap();
    assert_eq!(formula.features().collect::<Vec<_>>(), [Feature::TitleLetters, Feature::Dot]);
    let evaluated = formula.evaluate_with(&job(), NOW_US, |feature| (feature == Feature::TitleLetters).then_some(0.75));
    assert_eq!((evaluated.score(), evaluated.explanation().parts.len()), (0.75, 5));
}

#[test]
fn features_are_those_of_the_query() {
    let formula = Formula::parse(&json!({"formula": {"sum": ["$dot", {"mult": [10, "$title_overlap"]}]}}), &schema()).unwrap();
    let signals = Signals { dot: Some(0.25), ..Signals::default() };
    let (wanted, job, schema) = (Wanted::from_text("nurse", 0.0), job(), schema());
    let evaluated = formula.evaluate(&Candidate::new(&wanted, signals, &job, &schema));
    assert!(is_near(evaluated.score(), 0.25 + 10.0 * 2.0 / 3.0));
}

#[test]
fn the_examples_of_the_manual_are_read() {
    let near_berlin = json!({
        "formula": {"sum": [
            "$score",
            {"mult": [0.1, {"key": "remote", "match": {"value": true}}]},
            {"mult": [0.2, {"gauss_decay": {"x": {"geo_distance": {"origin": {"lat": 52.52, "lon": 13.405}, "to": "location"}}, "scale": 30_000}}]},
        ]},
    });
    assert!(is_near(explained(&near_berlin, &job()).value, 0.5 + 0.1 + 0.2));
    assert!(is_near(explained(&near_berlin, &attributes(json!({"remote": true}))).value, 0.5 + 0.1), "without a place: far");
    let fresh = json!({
        "formula": {"mult": ["$score", {"exp_decay": {
            "x": {"datetime_key": "posted_at"}, "target": {"datetime": "now"}, "scale": 1_209_600, "midpoint": 0.5,
        }}]},
        "defaults": {"posted_at": "2025-01-01"},
    });
    assert!(is_near(explained(&fresh, &attributes(json!({"posted_at": "2026-02-15"}))).value, 0.25), "two weeks: half");
}
