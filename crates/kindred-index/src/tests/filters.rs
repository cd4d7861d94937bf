//! Filters against [`Filter::matches`], document by document.

use proptest::prelude::*;

use super::*;
use crate::attributes::{self as columns, AttributeFile};
use crate::filter::Allowed;
use kindred_core::domain::{Condition, GeoPoint};

fn index_of(documents: Vec<Json>) -> (Sample, tempfile::TempDir, Index) {
    let vectors = documents.iter().flat_map(|_| [1.0, 0.0]).collect();
    let sample = Sample { attributes: documents.into_iter().map(attributes).collect(), ..Sample::plain(2, vectors) };
    let (dir, index) = sample.index();
    (sample, dir, index)
}

pub(super) fn random_condition(random: &mut Random, depth: usize) -> Json {
    let words = |random: &mut Random| -> Json {
        (0..random.below(4)).map(|_| if random.chance(5) { json!("none") } else { json!(WORDS[random.below(WORDS.len())]) }).collect()
    };
    match random.below(if depth == 0 { 8 } else { 10 }) {
        0 => json!({"key": "skills", "match": {"value": WORDS[random.below(WORDS.len())]}}),
        1 => json!({"key": "skills", "match": {"any": words(random)}}),
        2 => json!({"key": "skills", "match": {"except": words(random)}}),
        3 => json!({"key": "remote", "match": {"value": random.chance(2)}}),
        4 => json!({"key": "salary", "match": {"any": [random_number(random), random_number(random)]}}),
        5 => json!({"key": "salary", "range": random_range(random, random_number)}),
        6 => json!({"key": "posted_at", "range": random_range(random, |r| json!(format!("2026-01-{:02}", 1 + r.below(28))))}),
        7 => {
            let radius_m = [0.0, 1_000.0, 12_000.0, 2e6, 2e7, 1e9][random.below(6)];
            let center = json!({"lat": LATS[random.below(LATS.len())], "lon": LONS[random.below(LONS.len())]});
            json!({"key": "location", "geo_radius": {"center": center, "radius": radius_m}})
        }
        _ => random_filter(random, depth - 1),
    }
}

pub(super) fn random_filter(random: &mut Random, depth: usize) -> Json {
    let mut filter = json!({});
    for clause in ["must", "should", "must_not"] {
        if random.chance(2) {
            filter[clause] = (0..random.below(3)).map(|_| random_condition(random, depth)).collect();
        }
    }
    filter
}

fn random_range(random: &mut Random, bound: impl Fn(&mut Random) -> Json) -> Json {
    let mut range = json!({"gte": null});
    for name in ["gt", "gte", "lt", "lte"] {
        if random.chance(3) {
            range[name] = bound(random);
        }
    }
    range
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn bitmaps_hold_the_rows_that_match(seed in any::<u64>(), n_rows in 0usize..150) {
        let mut random = Random(seed);
        let (sample, _dir, index) = index_of((0..n_rows).map(|_| random_fields(&mut random)).collect());
        let (none, deadline) = (RoaringBitmap::new(), FilterDeadline::start(None));
        let in_memory = AppendedAttributes::new(&sample.attributes.iter().collect::<Vec<_>>(), &sample.schema);
        for _ in 0..40 {
            let json = random_filter(&mut random, 3);
            let filter = Filter::parse(&json, &sample.schema).unwrap();
            let expected: RoaringBitmap = (0..n_rows as u32).filter(|&row| filter.matches(&sample.attributes[row as usize])).collect();
            let words = in_memory.matching(&filter, deadline).unwrap();
            let set = (0..n_rows as u32).filter(|&row| words[row as usize / BLOCK_ROWS] >> (row as usize % BLOCK_ROWS) & 1 == 1);
            prop_assert_eq!(&set.collect::<RoaringBitmap>(), &expected, "in memory: {}", json);
            prop_assert_eq!(index.matching(Some(&filter), &none, deadline).unwrap(), expected, "{}", json);
        }
    }
}

/// The columns of documents, without the rest of an index.
pub(super) fn columns_of(dir: &Path, attributes: &[Attributes]) -> AttributeFile {
    let schema = definition().1;
    columns::write(dir, attributes, &schema).unwrap();
    AttributeFile::open(dir, attributes.len() as u32, &schema).unwrap()
}

/// The rows that satisfy a condition.
pub(super) fn satisfying(columns: &AttributeFile, condition: &Json) -> Result<RoaringBitmap, IndexError> {
    let filter = Filter::parse(&json!({"must": [condition]}), &definition().1).unwrap();
    Ok(Allowed::new(columns, Some(&filter), Cow::Owned(RoaringBitmap::new()), FilterDeadline::start(None))?.into_bitmap())
}

/// Documents with one number at most, or several, of which some are equal; enough for blocks of numbers in each column.
pub(super) fn many_numbers(random: &mut Random, n: usize, below: usize, max: usize) -> Vec<Attributes> {
    let document = |random: &mut Random| {
        let count = random.below(max + 1);
        let numbers: Vec<f64> = (0..count).map(|_| random.below(below) as f64 - 100.0).collect();
        attributes(json!({"salary": numbers, "posted_at": format!("2026-01-{:02}", 1 + random.below(28))}))
    };
    (0..n).map(|_| document(random)).collect()
}

pub(super) fn range_of_many(random: &mut Random, below: usize) -> Json {
    match random.below(6) {
        0 => json!({"key": "posted_at", "range": random_range(random, |r| json!(format!("2026-01-{:02}", 1 + r.below(28))))}),
        1 => json!({"key": "salary", "match": {"any": [random.below(below), random.below(below), -100]}}),
        _ => json!({"key": "salary", "range": random_range(random, |r| json!(r.below(below + 20) as f64 - 110.0))}),
    }
}

#[test]
fn ranges_over_blocks_hold_the_rows_that_match() {
    let mut random = Random(8);
    // Of so many rows, up to so many numbers in each, so many different ones: one block and a bit of another up to the most blocks.
    for (n, max, below) in [(1_100, 1, 5000), (3_000, 1, 300), (9_001, 1, 20_000), (40_000, 1, 9_000), (2_000, 3, 700), (20_000, 5, 30_000)]
    {
        let documents = many_numbers(&mut random, n, below, max);
        let dir = tempfile::tempdir().unwrap();
        let columns = columns_of(dir.path(), &documents);
        for _ in 0..60 {
            let condition = range_of_many(&mut random, below);
            let filter = Filter::parse(&json!({"must": [condition]}), &definition().1).unwrap();
            let expected: RoaringBitmap = (0..n as u32).filter(|&row| filter.matches(&documents[row as usize])).collect();
            let found = satisfying(&columns, &condition).unwrap();
            assert!(found == expected, "{condition} of {n} rows: {} instead of {}", found.len(), expected.len());
        }
    }
}

#[test]
fn ranges_end_at_blocks_and_beside_them() {
    let mut random = Random(9);
    // From 0 on, and where dozens of integers are nearest to the same `f64`.
    for (max, base) in [(1, 0), (3, 0), (1, 1_768_907_725_507_217_522_usize), (3, 1_768_907_725_507_217_522)] {
        // All numbers differ, so that every position is a bound.
        let documents: Vec<Attributes> =
            (0..1_500).map(|i| attributes(json!({"salary": (0..max).map(|j| base + i * max + j).collect::<Vec<_>>()}))).collect();
        let dir = tempfile::tempdir().unwrap();
        let (columns, n) = (columns_of(dir.path(), &documents), 1_500 * max);
        let bounds: Vec<usize> = (0..=n).filter(|i| (i + 1) % 256 < 3 || *i + 2 > n || random.chance(300)).collect();
        for (from, to) in bounds.iter().flat_map(|from| bounds.iter().map(move |to| (*from, *to))) {
            let condition = json!({"key": "salary", "range": {"gte": base + from, "lt": base + to}});
            let mut expected = RoaringBitmap::new();
            if from < to {
                expected.insert_range((from / max) as u32..to.div_ceil(max) as u32);
            }
            assert!(satisfying(&columns, &condition).unwrap() == expected, "{condition}, {max} in a row");
        }
    }
}

#[test]
fn estimates_put_shares_together_as_if_conditions_were_independent() {
    // Half speak rust, and those are the remote ones; a quarter earn 1.
    let document = |i: usize| json!({"skills": if i.is_multiple_of(2) { "rust" } else { "go" }, "remote": i.is_multiple_of(2), "salary": usize::from(i.is_multiple_of(4))});
    let (sample, _dir, index) = index_of((0..40).map(document).collect());
    let rust = json!({"key": "skills", "match": {"value": "rust"}});
    let remote = json!({"key": "remote", "match": {"value": true}});
    let paid = json!({"key": "salary", "range": {"gte": 1}});
    for (filter, counted, guessed) in [
        (json!({}), 1.0, 1.0),
        (json!({"must": [paid]}), 0.25, 0.25),
        (json!({"must": [rust, remote]}), 0.5, 0.25),
        (json!({"should": [rust, remote]}), 0.5, 0.75),
        (json!({"must_not": [rust]}), 0.5, 0.5),
        (json!({"must": [rust], "must_not": [remote]}), 0.0, 0.25),
        (json!({"must": [paid, {"should": [rust, remote]}], "must_not": [{"must": [paid, rust]}]}), 0.0, 0.25 * 0.75 * (1.0 - 0.125)),
    ] {
        let parsed = Filter::parse(&filter, &sample.schema).unwrap();
        let deleted = RoaringBitmap::new();
        let request = SearchRequest { filter: Some(&parsed), ..request(&deleted) };
        let plan = index.search(&Embedding::new(vec![1.0, 0.0], 2).unwrap(), &request).unwrap().plan;
        assert_eq!((plan.selectivity, plan.estimated_selectivity), (counted, guessed), "{filter}");
    }
}

#[test]
fn deleted_rows_do_not_match() {
    let (sample, _dir, index) = index_of(vec![json!({"remote": true}), json!({"remote": true}), json!({"remote": false}), json!({})]);
    let deleted = RoaringBitmap::from_iter([1, 3, 99]);
    let filter = Filter::parse(&json!({"must": [{"key": "remote", "match": {"value": true}}]}), &sample.schema).unwrap();
    assert_eq!(index.matching(Some(&filter), &deleted, FilterDeadline::start(None)).unwrap(), RoaringBitmap::from_iter([0]));
    assert_eq!(index.matching(None, &deleted, FilterDeadline::start(None)).unwrap(), RoaringBitmap::from_iter([0, 2]));
    let found = index.search(&Embedding::new(vec![1.0, 0.0], 2).unwrap(), &request(&deleted)).unwrap();
    assert_eq!((found.plan.n_matching, found.plan.n_documents), (2, 2));
}

#[test]
fn a_schema_that_indexes_more_needs_a_rebuild() {
    let sample = Sample::random(1, 3, 2);
    let (dir, _index) = sample.index();
    let reopen = |fields: Json| {
        let schema = Schema::new(&serde_json::from_value(fields).unwrap()).unwrap();
        Index::open(dir.path(), 2, 3, &schema).map(|_| ()).map_err(|e| e.to_string())
    };
    // Other positions of the same fields, and fewer of them.
    assert_eq!(reopen(json!({"a": {"type": "bool"}, "skills": {"type": "keyword", "index": true}})), Ok(()));
    for (name, field_type) in [("company", "keyword"), ("skills", "number")] {
        let error = reopen(json!({name: {"type": field_type, "index": true}})).unwrap_err();
        assert!(error.contains(name) && error.contains("rebuild"), "{error}");
    }
}

#[test]
fn a_filter_ends_at_its_deadline() {
    let mut random = Random(3);
    let (sample, _dir, index) = index_of((0..300).map(|_| random_fields(&mut random)).collect());
    let in_memory = AppendedAttributes::new(&sample.attributes.iter().collect::<Vec<_>>(), &sample.schema);
    let rust = json!({"key": "skills", "match": {"value": "rust"}});
    let near = json!({"key": "location", "geo_radius": {"center": {"lat": 0, "lon": 0}, "radius": 1e7}});
    for filter in [
        json!({"must": [rust]}),
        json!({"should": [near]}),
        json!({"must_not": [rust]}),
        json!({"must": [{"must_not": [{"should": [near, rust]}]}]}),
    ] {
        let filter = Filter::parse(&filter, &sample.schema).unwrap();
        let error = index.matching(Some(&filter), &RoaringBitmap::new(), FilterDeadline::over()).unwrap_err();
        assert!(matches!(error, IndexError::FilterTimeout { .. }), "{filter:?}: {error}");
        assert!(in_memory.matching(&filter, FilterDeadline::over()).is_err());
        // A request that is late all the same gets the time that a common filter takes.
        let late = FilterDeadline::start(Some(std::time::Instant::now()));
        assert!(index.matching(Some(&filter), &RoaringBitmap::new(), late).is_ok());
    }
}

#[test]
fn conditions_that_cannot_matter_are_not_evaluated() {
    let (_, _dir, index) = index_of(vec![json!({"remote": true, "salary": 1, "location": {"lat": 0, "lon": 0}})]);
    let schema = definition().1;
    let parse = |json: Json| Filter::parse(&json, &schema).unwrap();
    // A condition on a field that the index does not have fails when it is evaluated.
    let fails = Condition::GeoRadius { field: FieldId(99), center: GeoPoint { lat: 0.0, lon: 0.0 }, radius_km: 1.0 };
    let nobody = || parse(json!({"must": [{"key": "salary", "range": {"gt": 5}}]})).must;
    let all = parse(json!({"must": [{"key": "remote", "match": {"value": true}}]})).must;
    let evaluate =
        |filter: &Filter| index.matching(Some(filter), &RoaringBitmap::new(), FilterDeadline::start(None)).map(|rows| rows.len());
    let with = |must: Vec<Condition>, should: Vec<Condition>, must_not: Vec<Condition>| Filter { must, should, must_not };
    // Whatever their order in the request, the cheap one is evaluated first.
    let dear_first = [vec![fails.clone()], nobody()].concat();
    assert_eq!(evaluate(&with(dear_first.clone(), vec![], vec![])).unwrap(), 0);
    assert_eq!(evaluate(&with(nobody(), vec![fails.clone()], vec![fails.clone()])).unwrap(), 0);
    assert_eq!(evaluate(&with(vec![], nobody(), vec![fails.clone()])).unwrap(), 0);
    assert_eq!(evaluate(&with(vec![Condition::Nested(with(dear_first, vec![], vec![]))], vec![], vec![fails.clone()])).unwrap(), 0);
    assert_eq!(evaluate(&with(vec![], vec![], [vec![fails.clone()], all.clone()].concat())).unwrap(), 0);
    assert!(evaluate(&with(all, vec![fails], vec![])).is_err());
}

#[test]
fn counting_words_ends_at_its_deadline() {
    let (_, _dir, index) = index_of(vec![json!({"skills": ["rust", "sql"]}), json!({"skills": "rust"})]);
    let field = definition().1.id("skills").unwrap();
    let allowed = index.allowed(None, Cow::Owned(RoaringBitmap::new()), FilterDeadline::start(None)).unwrap();
    let counts = index.count_words(field, &allowed, FilterDeadline::start(None)).unwrap();
    assert_eq!(counts, [("rust".to_owned(), 2), ("sql".to_owned(), 1)]);
    let late = index.count_words(field, &allowed, FilterDeadline::over());
    assert!(matches!(late, Err(IndexError::FilterTimeout { .. })));
}
