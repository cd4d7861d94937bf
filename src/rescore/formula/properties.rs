//! Formulas at random, hostile ones, and mistakes.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::tests::{NOW_US, attributes, features, schema};
use super::*;

/// Numbers of all sizes, and those that make trouble.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -10.0..10.0f64,
        2 => prop::sample::select(vec![0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, -1e300, 1e308, f64::MAX, f64::MIN, f64::MIN_POSITIVE]),
        1 => prop::num::f64::NORMAL,
    ]
}

fn leaf() -> impl Strategy<Value = Json> {
    prop_oneof![
        3 => number().prop_map(|number| json!(number)),
        3 => prop::sample::select(vec!["$score", "$dot", "$title_overlap", "$bm25", "$distance_km", "salary.min", "years"]).prop_map(|name| json!(name)),
        1 => Just(json!({"datetime_key": "changed_at"})),
        1 => prop::sample::select(vec!["2026-01-01", "now"]).prop_map(|time| json!({"datetime": time})),
        1 => (-90.0..90.0f64, -180.0..180.0f64).prop_map(|(lat, lon)| json!({"geo_distance": {"origin": {"lat": lat, "lon": lon}, "to": "location"}})),
        1 => number().prop_map(|bound| json!({"key": "years", "range": {"gte": bound}})),
        1 => any::<bool>().prop_map(|truth| json!({"key": "remote", "match": {"value": truth}})),
    ]
}

fn expression() -> impl Strategy<Value = Json> {
    leaf().prop_recursive(6, 100, 4, |inner| {
        let word = prop::sample::select(vec!["neg", "abs", "sqrt", "exp", "ln", "log10"]);
        let curve = prop::sample::select(vec!["lin_decay", "exp_decay", "gauss_decay"]);
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| json!({"sum": parts})),
            3 => prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| json!({"mult": parts})),
            2 => (word, inner.clone()).prop_map(|(word, part)| json!({word: part})),
            1 => (inner.clone(), inner.clone(), prop::option::of(number()))
                .prop_map(|(left, right, default)| json!({"div": {"left": left, "right": right, "by_zero_default": default}})),
            1 => (inner.clone(), inner.clone()).prop_map(|(base, exponent)| json!({"pow": {"base": base, "exponent": exponent}})),
            1 => (curve, inner.clone(), prop::option::of(inner), 1e-300..1e300f64, 0.01..0.99f64).prop_map(
                |(curve, x, target, scale, midpoint)| json!({curve: {"x": x, "target": target, "scale": scale, "midpoint": midpoint}})
            ),
        ]
    })
}

fn document() -> impl Strategy<Value = Json> {
    let place = (-90.0..90.0f64, -180.0..180.0f64).prop_map(|(lat, lon)| json!({"lat": lat, "lon": lon}));
    (
        prop::option::of(number()),
        prop::collection::vec(number(), 0..3),
        prop::option::of(prop::sample::select(vec!["1969-12-31", "2026-02-03T04:05:06Z", "9998-12-31"])),
        prop::collection::vec(place, 0..3),
        prop::option::of(any::<bool>()),
    )
        .prop_map(|(salary, years, changed_at, location, remote)| {
            json!({"salary": {"min": salary}, "years": years, "changed_at": changed_at, "location": location, "remote": remote})
        })
}

/// Every value follows from those of its parts.
fn check(explanation: &Explanation) {
    let Explanation { what, value, note, parts } = explanation;
    assert!(value.is_finite(), "{explanation:?}");
    let values: Vec<f64> = parts.iter().map(|part| part.value).collect();
    let expected = match (what.as_str(), values.as_slice()) {
        ("sum", values) => Some(values.iter().fold(0.0, |sum, x| sum + x)),
        ("mult", values) => Some(values.iter().fold(1.0, |product, x| product * x)),
        ("neg", [x]) => Some(-x),
        ("abs", [x]) => Some(x.abs()),
        ("sqrt", [x]) => Some(x.sqrt()),
        ("exp", [x]) => Some(x.exp()),
        ("ln", [x]) => Some(x.ln()),
        ("log10", [x]) => Some(x.log10()),
        ("div", [left, right]) => Some(if *left == 0.0 { 0.0 } else { left / right }),
        ("pow", [base, exponent]) => Some(base.powf(*exponent)),
        ("lin_decay" | "exp_decay" | "gauss_decay", _) => {
            assert!((0.0..=1.0).contains(value), "{explanation:?}");
            None
        }
        _ => None,
    };
    if let Some(expected) = expected {
        // A note stands exactly where the plain computation leaves the numbers.
        assert_eq!(expected.is_finite(), note.is_none(), "{explanation:?}");
        assert!(!expected.is_finite() || expected == *value, "{explanation:?}: {expected}");
    }
    parts.iter().for_each(check);
}

/// JSON of the words of formulas, put together at random.
fn nonsense() -> impl Strategy<Value = Json> {
    const NAMES: [&str; 26] = [
        "formula",
        "defaults",
        "sum",
        "mult",
        "neg",
        "div",
        "left",
        "right",
        "pow",
        "base",
        "exponent",
        "geo_distance",
        "origin",
        "to",
        "datetime",
        "datetime_key",
        "gauss_decay",
        "x",
        "target",
        "scale",
        "midpoint",
        "key",
        "match",
        "must",
        "$score",
        "years",
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        number().prop_map(|number| json!(number)),
        prop::sample::select(NAMES.to_vec()).prop_map(Json::from),
        ".{0,8}".prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((prop::sample::select(NAMES.to_vec()), inner), 0..3).prop_map(|pairs| pairs
                .into_iter()
                .map(|(name, json)| (name.to_owned(), json))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn scores_are_numbers_and_explanations_exact(expression in expression(), document in document(), default in number()) {
        let formula = json!({"formula": expression, "defaults": {"years": default, "$bm25": default}});
        let formula = match Formula::parse(&formula, &schema()) {
            Ok(formula) => formula,
            // Chance may make a long one.
            Err(e) if e.problem.contains("256 expressions") => return Ok(()),
            Err(e) => return Err(TestCaseError::fail(format!("{formula}: {e}"))),
        };
        let attributes = attributes(document);
        let evaluated = formula.evaluate_with(&attributes, NOW_US, features);
        let explanation = evaluated.explanation();
        prop_assert_eq!(evaluated.score(), explanation.value);
        check(&explanation);
        let sent: Json = serde_json::from_str(&serde_json::to_string(&explanation).unwrap()).unwrap();
        prop_assert_eq!(sent["value"].as_f64(), Some(explanation.value), "also as JSON");
    }

    #[test]
    fn nonsense_is_refused_or_evaluated(json in nonsense(), defaults in nonsense()) {
        for json in [json.clone(), json!({"formula": json}), json!({"formula": json, "defaults": defaults})] {
            match Formula::parse(&json, &schema()) {
                Ok(formula) => check(&formula.evaluate_with(&Attributes::default(), NOW_US, |_| None).explanation()),
                Err(e) => prop_assert!(!e.path.is_empty() && !e.problem.is_empty()),
            }
        }
    }
}

#[test]
fn mistakes_say_where_and_what_to_write() {
    let refused = |formula: &Json| Formula::parse(formula, &schema()).unwrap_err();
    for (expression, path, word) in [
        (json!(null), "formula", "null"),
        (json!(true), "formula", "write 1 or 0"),
        (json!([1, 2]), "formula", "\"sum\""),
        (json!({}), "formula", "one word"),
        (json!({"sum": [1], "mult": [2]}), "formula", "one word"),
        (json!({"sum": 1}), "formula.sum", "array"),
        (json!({"sum": [1, {"mult": [{"max": [1]}]}]}), "formula.sum[1].mult[0]", "there is no word \"max\": there are sum, mult"),
        (json!({"neg": {"sub": [1, 2]}}), "formula.neg", "{\"neg\": b}"),
        (json!({"constant": 1}), "formula", "the number itself"),
        (json!("wage"), "formula", "\"wage\": the number fields that are kept are salary.min, years"),
        (json!("dot"), "formula", "\"$dot\""),
        (json!("$luck"), "formula", "`title_overlap`"),
        (json!("$score[1]"), "formula", "write \"$score\""),
        (json!({"abs": "skills"}), "formula.abs", "{\"key\": \"skills\", \"match\""),
        (json!("remote"), "formula", "\"value\": true"),
        (json!("title"), "formula", "text"),
        (json!("posted_at"), "formula", "{\"datetime_key\": \"posted_at\"}"),
        (json!("location"), "formula", "geo_distance"),
        (json!("stored"), "formula", "\"index\": true"),
        (json!({"datetime_key": "years"}), "formula.datetime_key", "is a number: write \"years\""),
        (json!({"datetime_key": 1}), "formula.datetime_key", "name of a time field"),
        (json!({"datetime_key": "when"}), "formula.datetime_key", "time fields that are kept are changed_at, posted_at"),
        (json!({"datetime": "soon"}), "formula.datetime", "RFC 3339"),
        (json!({"geo_distance": {"origin": {"lat": 91, "lon": 0}, "to": "location"}}), "formula.geo_distance.origin", "lat"),
        (json!({"geo_distance": {"origin": {"lat": 1, "lon": 0, "x": 0}, "to": "location"}}), "formula.geo_distance.origin", "lat"),
        (json!({"geo_distance": {"origin": {"lat": 1, "lon": 0}, "to": "years"}}), "formula.geo_distance.to", "is a number"),
        (json!({"geo_distance": {"origin": {"lat": 1, "lon": 0}}}), "formula.geo_distance.to", "geo field"),
        (json!({"div": {"left": 1}}), "formula.div", "\"right\""),
        (json!({"div": {"left": 1, "right": 2, "default": 3}}), "formula.div", "by_zero_default"),
        (json!({"div": {"left": 1, "right": 2, "by_zero_default": "$score"}}), "formula.div.by_zero_default", "finite number"),
        (json!({"div": [1, 2]}), "formula.div", "left, right"),
        (json!({"pow": {"base": 1, "exponent": []}}), "formula.pow.exponent", "array"),
        (json!({"exp_decay": {"target": 1}}), "formula.exp_decay", "\"x\""),
        (json!({"exp_decay": {"x": 1, "scale": 0}}), "formula.exp_decay.scale", "above 0"),
        (json!({"exp_decay": {"x": 1, "scale": "years"}}), "formula.exp_decay.scale", "finite number"),
        (json!({"exp_decay": {"x": 1, "midpoint": 1}}), "formula.exp_decay.midpoint", "below 1"),
        (json!({"gauss_decay": {"x": 1, "midpoint": 0}}), "formula.gauss_decay.midpoint", "above 0"),
        (json!({"lin_decay": {"x": 1, "midpoint": 1.5}}), "formula.lin_decay.midpoint", "0 to 1"),
        (json!({"sum": [{"key": "company", "match": {"value": "x"}}]}), "formula.sum[0].key", "not indexed"),
        (json!({"must": [{"key": "years", "match": {"value": "x"}}]}), "formula.must[0].match.value", "a number"),
        (json!({"match": {"value": "x"}}), "formula", "\"key\""),
    ] {
        let error = refused(&json!({"formula": expression}));
        assert_eq!(error.path, path, "{expression}: {error}");
        assert!(error.problem.contains(word), "{expression}: {error}");
    }
    for (formula, path, word) in [
        (json!(1), "formula", "{\"formula\": …"),
        (json!({"sum": [1]}), "formula", "unknown key \"sum\": expected formula, defaults"),
        (json!({"defaults": {}}), "formula", "is missing"),
        (json!({"formula": 1, "defaults": [1]}), "defaults", "object"),
        (json!({"formula": 1, "defaults": {"wage": 1}}), "defaults.wage", "no field"),
        (json!({"formula": 1, "defaults": {"years": "many"}}), "defaults.years", "finite number"),
        (json!({"formula": 1, "defaults": {"posted_at": 1}}), "defaults.posted_at", "RFC 3339"),
        (json!({"formula": 1, "defaults": {"location": 1}}), "defaults.location", "lat"),
        (json!({"formula": 1, "defaults": {"skills": 1}}), "defaults.skills", "keyword"),
        (json!({"formula": 1, "defaults": {"$luck": 1}}), "defaults.$luck", "`dot`"),
        (json!({"formula": 1, "defaults": {"$dot": 1, "$score": 2}}), "defaults.$score", "twice"),
    ] {
        let error = refused(&formula);
        assert_eq!(error.path, path, "{formula}: {error}");
        assert!(error.problem.contains(word), "{formula}: {error}");
    }
}

#[test]
fn too_much_is_refused() {
    let parse = |expression: Json| Formula::parse(&json!({"formula": expression}), &schema());
    let nested = |depth: usize| (1..depth).fold(json!(1), |inner, _| json!({"neg": inner}));
    assert!(parse(nested(MAX_DEPTH)).is_ok());
    let error = parse(nested(MAX_DEPTH + 1)).unwrap_err();
    assert!(error.problem.contains("32 deep") && error.path.starts_with("formula.neg.neg"), "{error}");
    assert!(parse(nested(500)).is_err(), "without reading all of it");
    assert!(parse(json!({"sum": vec![1; MAX_NODES - 1]})).is_ok());
    let error = parse(json!({"sum": vec!["$score"; 1_000_000]})).unwrap_err();
    assert_eq!((error.path.as_str(), error.problem.contains("256 expressions")), ("formula.sum[255]", true), "shared ones count");
    let skills = |n: usize| json!({"key": "skills", "match": {"any": vec!["x"; n]}});
    assert!(parse(skills(MAX_CONDITION_VALUES)).is_ok());
    let error = parse(json!({"sum": [skills(600), {"must": [skills(600)]}]})).unwrap_err();
    assert_eq!((error.path.as_str(), error.problem.contains("at most 1000 values")), ("formula.sum[1].must[0].match.any", true), "{error}");
    let near = json!({"key": "location", "geo_radius": {"center": {"lat": 9, "lon": 0}, "radius": 1}});
    assert!(parse(json!({"sum": vec![near.clone(); 16]})).is_ok());
    let error = parse(json!({"sum": vec![near; 17]})).unwrap_err();
    assert!(error.path == "formula.sum[16].geo_radius" && error.problem.contains("at most 16 geo_radius"), "{error}");
    let long = "x".repeat(1_000_000);
    for expression in [json!(long), json!(format!("${long}")), json!({long.as_str(): 1}), json!({"div": {long.as_str(): 1}})] {
        assert!(parse(expression).unwrap_err().to_string().len() < 1_000);
    }
}
