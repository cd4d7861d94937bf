//! Searches against the oracle.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::filters::random_filter;
use super::*;
use kindred_core::domain::{Strategy, best_first};

const STRATEGIES: [StrategyChoice; 3] = [StrategyChoice::Auto, StrategyChoice::Graph, StrategyChoice::Exact];

/// The promises that hold for every search.
fn check(sample: &Sample, index: &Index, query: &Embedding, request: &SearchRequest<'_>, what: &str) {
    let found = index.search(query, request).unwrap();
    let oracle = sample.oracle(query, request.filter, request.deleted);
    let rows = |candidates: &[Candidate]| candidates.iter().map(|c| c.row).collect::<Vec<_>>();
    assert_eq!(found.candidates.len(), request.k.min(oracle.len()), "{what}: {:?}", found.plan);
    assert_eq!(found.plan.n_matching, oracle.len() as u64, "{what}");
    assert!(found.candidates.is_sorted_by(|a, b| best_first(a, b).is_lt()), "{what}: best first, none twice");
    assert!(found.candidates.iter().all(|c| oracle.contains(c)), "{what}: allowed rows, their true scores");
    if !matches!(found.plan.strategy, Strategy::Graph | Strategy::FilteredGraph) {
        assert_eq!(rows(&found.candidates), rows(&oracle[..found.candidates.len()]), "{what}: exact");
    }
    if request.strategy == StrategyChoice::Exact {
        assert_eq!(found.plan.strategy, Strategy::Exact, "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn finds_as_many_as_there_are(seed in any::<u64>(), n_rows in 0usize..250, dims in 1usize..20) {
        let sample = if seed % 2 == 0 { Sample::random(seed, n_rows, dims) } else { Sample::chunked(seed, n_rows, dims) };
        // Of all numbers, or of some first ones: that changes what a walk finds, and no promise.
        let search_dims = if seed % 3 == 0 { dims.div_ceil(2) } else { 0 };
        let (_dir, index) = sample.index_with(&BuildParams { search_dims, max_connections: 8, ef_construction: 40, threads: 2, ..params() });
        assert_eq!(index.search_dims(), if search_dims == 0 { dims } else { search_dims });
        let mut random = Random(!seed);
        for _ in 0..15 {
            let query = Embedding::new(random.unit_vector(&vec![0.0; dims], 1.0), dims).unwrap();
            let json = random_filter(&mut random, 2);
            let filter = Filter::parse(&json, &sample.schema).unwrap();
            let keep_one_in = 1 + random.below(4);
            let deleted: RoaringBitmap = (0..n_rows as u32).filter(|_| !random.chance(keep_one_in)).collect();
            for strategy in STRATEGIES {
                let k = [0, 1, 10, n_rows, n_rows + 5][random.below(5)];
                let filter = Some(&filter).filter(|_| random.chance(2));
                let request = SearchRequest { k, ef_search: 1 + random.below(50), strategy, filter, deleted: &deleted };
                check(&sample, &index, &query, &request, &json.to_string());
            }
        }
    }
}

#[test]
fn few_rows_and_equal_vectors() {
    let none = RoaringBitmap::new();
    for (n_rows, dims) in [(0, 3), (1, 1), (1, 8), (2, 3), (300, 4)] {
        let equal = Sample::plain(dims, [&[1.0][..], &vec![0.0; dims - 1]].concat().repeat(n_rows));
        let (_dir, index) = equal.index();
        let query = Embedding::new(vec![0.5; dims], dims).unwrap();
        for strategy in STRATEGIES {
            for k in [1, 10, usize::MAX] {
                check(&equal, &index, &query, &SearchRequest { k, strategy, ..request(&none) }, "equal vectors");
            }
        }
    }
}

/// Rows among the oracle's first ten that the graph finds, of 100 queries near random rows: per mille. Rows whose scores differ by
/// less than `tie` are as good as each other.
pub(super) fn recall(sample: &Sample, index: &Index, ef_search: usize, tie: f32) -> usize {
    let (mut random, none) = (Random(8), RoaringBitmap::new());
    let found_of_one = |_| {
        let near = sample.row(random.below(sample.n_rows()) as u32);
        let query = Embedding::new(random.unit_vector(near, 0.1), sample.dims).unwrap();
        let request = SearchRequest { ef_search, strategy: StrategyChoice::Graph, ..request(&none) };
        let found = index.search(&query, &request).unwrap();
        assert_eq!(found.plan.strategy, Strategy::Graph);
        assert!(found.plan.n_distances < sample.n_rows() as u64, "{:?}", found.plan);
        let tenth = sample.oracle(&query, None, &none)[9].score;
        found.candidates.iter().filter(|c| dot(query.as_slice(), sample.row(c.row)) >= tenth - tie).count()
    };
    (0..100).map(found_of_one).sum()
}

#[test]
fn the_graph_finds_nearly_all_of_the_nearest() {
    let sample = Sample::plain(32, Random(7).clustered(1_800, 32, 40));
    let (_dir, index) = sample.index_with(&BuildParams { threads: 2, ef_construction: 60, ..params() });
    let recall = recall(&sample, &index, 200, 0.0);
    assert!(recall >= 990, "recall@10 is {recall} per mille");
}

/// Of rows with several vectors the best counts, and they are found about as well as if each vector were a row, however near each other
/// those of a row are.
#[test]
fn the_graph_finds_rows_by_the_best_of_their_chunks() {
    let mut random = Random(21);
    let n_chunks: Vec<u32> = (0..1_500).map(|_| 1 + random.below(8) as u32).collect();
    let subjects = random.clustered(1_500, 32, 40);
    let chunks = |(row, &n): (usize, &u32)| (0..n).flat_map(|_| random.unit_vector(&subjects[row * 32..][..32], 0.1)).collect::<Vec<_>>();
    let vectors: Vec<f32> = n_chunks.iter().enumerate().flat_map(chunks).collect();
    let queries: Vec<Embedding> = random.clustered(60, 32, 40).chunks_exact(32).map(|q| Embedding::new(q.to_vec(), 32).unwrap()).collect();
    let found_of = |sample: Sample| {
        let (_dir, index) = sample.index_with(&BuildParams { threads: 1, ef_construction: 60, ..params() });
        let none = RoaringBitmap::new();
        let of_one = |query: &Embedding| {
            let request = SearchRequest { k: 50, ef_search: 100, strategy: StrategyChoice::Graph, ..request(&none) };
            check(&sample, &index, query, &request, "chunks");
            let found = index.search(query, &request).unwrap();
            assert_eq!(found.plan.strategy, Strategy::Graph);
            sample.oracle(query, None, &none)[..50].iter().filter(|c| found.candidates.contains(c)).count()
        };
        queries.iter().map(of_one).sum::<usize>()
    };
    let of_chunks = found_of(Sample { vectors: vectors.clone(), n_chunks, ..Sample::plain(32, subjects.clone()) });
    let of_rows = found_of(Sample::plain(32, vectors.clone()));
    assert!(of_chunks * 100 >= of_rows * 98, "{of_chunks} of {}, and of as many rows {of_rows}", 50 * queries.len());
}

#[test]
fn a_graph_of_the_first_numbers_finds_nearly_all_where_they_say_most() {
    // Numbers get smaller from the first to the last, as in models that are trained so.
    let (dims, mut random) = (150, Random(31));
    let shrink = |vectors: Vec<f32>| -> Vec<f32> {
        let shrunk = vectors.chunks_exact(dims).map(|v| v.iter().enumerate().map(|(i, x)| x * 0.96f32.powi(i as i32)).collect());
        shrunk.flat_map(|v| Embedding::new(v, dims).unwrap().into_vec()).collect()
    };
    let sample = Sample::plain(dims, shrink(random.clustered(2_000, dims, 40)));
    let (dir, index) = sample.index_with(&BuildParams { search_dims: 64, threads: 1, ef_construction: 60, ..params() });
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len();
    assert!(size("graph.bin") < 2_000 * 600, "{} bytes: the graph knows less than half of the numbers", size("graph.bin"));
    let none = RoaringBitmap::new();
    let mut n_found = 0;
    for query in shrink(random.clustered(50, dims, 40)).chunks_exact(dims) {
        let query = Embedding::new(query.to_vec(), dims).unwrap();
        let request = SearchRequest { ef_search: 100, strategy: StrategyChoice::Graph, ..request(&none) };
        check(&sample, &index, &query, &request, "cut");
        let found = index.search(&query, &request).unwrap();
        n_found += sample.oracle(&query, None, &none)[..10].iter().filter(|c| found.candidates.contains(c)).count();
    }
    assert!(n_found >= 475, "{n_found} of 500");
    let dir = tempfile::tempdir().unwrap();
    let refused = sample.build(dir.path(), &BuildParams { search_dims: 151, ..params() }).unwrap_err();
    assert!(matches!(refused, IndexError::Parameter { name: "search_dims", max: 150, .. }), "{refused}");
}

#[test]
fn groups_of_near_equal_rows_do_not_hide_each_other() {
    // Twenty groups of a hundred: more than a row has links.
    let mut random = Random(9);
    let centers = random.clustered(20, 24, 4);
    let rows = (0..2_000).flat_map(|i| random.unit_vector(&centers[i % 20 * 24..][..24], 0.01));
    let sample = Sample::plain(24, rows.collect());
    let (_dir, index) = sample.index_with(&BuildParams { threads: 2, ef_construction: 100, ..params() });
    let recall = recall(&sample, &index, 200, 0.0);
    assert!(recall >= 950, "recall@10 is {recall} per mille");
}

#[test]
fn duplicates_do_not_hide_other_rows() {
    // Fifty rows of each of sixty vectors: more than a row has links.
    let mut random = Random(5);
    let distinct: Vec<Vec<f32>> = (0..60).map(|_| random.unit_vector(&[0.0; 16], 1.0)).collect();
    let sample = Sample::plain(16, (0..3_000).flat_map(|i| distinct[i % 60].clone()).collect());
    let (_dir, index) = sample.index();
    let none = RoaringBitmap::new();
    for vector in &distinct {
        let query = Embedding::new(vector.clone(), 16).unwrap();
        let found = index.search(&query, &SearchRequest { strategy: StrategyChoice::Graph, ..request(&none) }).unwrap();
        assert!(found.candidates.iter().all(|c| c.score > 0.999), "{found:?}");
    }
}

/// The answer is then that of the rows that were compared, and the plan says how many they are.
#[test]
fn a_scan_ends_in_time() {
    for (sample, search_dims) in [(Sample::random(6, 3_000, 16), 0), (Sample::chunked(7, 3_000, 16), 0), (Sample::random(8, 3_000, 16), 8)]
    {
        let (_dir, index) =
            sample.index_with(&BuildParams { max_connections: 8, ef_construction: 40, threads: 2, search_dims, ..params() });
        let query = Embedding::new(sample.row(2_500).to_vec(), 16).unwrap();
        let none = RoaringBitmap::new();
        let allowed = index.allowed(None, Cow::Borrowed(&none), FilterDeadline::start(None)).unwrap();
        let search = |until| index.search_among(&allowed, &query, 10, 64, StrategyChoice::Exact, until).unwrap();
        let whole = search(Some(Instant::now() + Duration::from_secs(600)));
        assert_eq!((whole.plan.coverage, &whole), (1.0, &search(None)));
        let part = search(Some(Instant::now()));
        assert_eq!((part.plan.coverage, part.plan.n_matching), (1_024.0 / 3_000.0, 3_000));
        let first: Vec<Candidate> = sample.oracle(&query, None, &none).into_iter().filter(|c| c.row < 1_024).take(10).collect();
        assert_eq!(part.candidates, first);
        assert_ne!(part.candidates, whole.candidates);
    }
}

/// What a walk has met is worth more than the first rows there are, when there is no time for all.
#[test]
fn a_walk_that_found_too_few_still_counts_when_time_is_over() {
    let mut sample = Sample::random(9, 6_000, 16);
    let query = Embedding::new(sample.row(4_000).to_vec(), 16).unwrap();
    let none = RoaringBitmap::new();
    // Five near rows match, and the half that is farthest.
    let order: Vec<u32> = sample.oracle(&query, None, &none).iter().map(|c| c.row).collect();
    for (place, &row) in order.iter().enumerate() {
        sample.attributes[row as usize] = attributes(json!({"remote": !(5..3_005).contains(&place)}));
    }
    let (_dir, index) = sample.index();
    let filter = Filter::parse(&json!({"must": [{"key": "remote", "match": {"value": true}}]}), &sample.schema).unwrap();
    let allowed = index.allowed(Some(&filter), Cow::Borrowed(&none), FilterDeadline::start(None)).unwrap();
    assert!(order[..5].iter().any(|row| allowed.iter().take(1_024).all(|first| first != *row)), "comparing the first finds not all");
    let found = index.search_among(&allowed, &query, 10, 64, StrategyChoice::Auto, Some(Instant::now())).unwrap();
    assert_eq!((found.plan.strategy, found.plan.coverage), (Strategy::GraphThenExact, 1_024.0 / 3_000.0));
    assert_eq!(found.candidates[..5], sample.oracle(&query, Some(&filter), &none)[..5]);
    assert!(found.candidates.len() == 10 && found.candidates.is_sorted_by(|a, b| best_first(a, b).is_lt()));
}

/// A row that is gone makes no search another one.
#[test]
fn a_deleted_row_changes_no_strategy() {
    let sample = Sample::random(21, 6_000, 16);
    let (_dir, index) = sample.index();
    let strategies = |deleted: &RoaringBitmap| -> Vec<(Strategy, bool)> {
        let plan = |row: u32| {
            let query = Embedding::new(sample.row(row).to_vec(), 16).unwrap();
            index.search(&query, &SearchRequest { k: 200, ef_search: 200, ..request(deleted) }).unwrap().plan
        };
        (0..60).map(|i| plan(i * 100)).map(|plan| (plan.strategy, plan.ef_search > 300)).collect()
    };
    let before = strategies(&RoaringBitmap::new());
    assert!(before.iter().any(|(_, is_widened)| *is_widened), "some walks find too few at first: {before:?}");
    assert_eq!(strategies(&RoaringBitmap::from([5_999])), before);
}

#[test]
fn filters_that_contradict_the_query_are_scanned() {
    let mut sample = Sample::plain(8, Random(3).clustered(2_500, 8, 3));
    let query = Embedding::new(sample.row(0).to_vec(), 8).unwrap();
    // Remote are all rows but the nearest half.
    let order = sample.oracle(&query, None, &RoaringBitmap::new());
    for candidate in &order[600..] {
        sample.attributes[candidate.row as usize] = attributes(json!({"remote": true}));
    }
    let (_dir, index) = sample.index();
    let filter = Filter::parse(&json!({"must": [{"key": "remote", "match": {"value": true}}]}), &sample.schema).unwrap();
    let none = RoaringBitmap::new();
    for strategy in STRATEGIES {
        let request = SearchRequest { ef_search: 10, strategy, filter: Some(&filter), ..request(&none) };
        check(&sample, &index, &query, &request, "contradiction");
    }
}

#[test]
fn a_query_of_another_model_is_refused() {
    let (_dir, index) = Sample::random(1, 5, 3).index();
    let query = Embedding::new(vec![1.0; 4], 4).unwrap();
    let error = index.search(&query, &request(&RoaringBitmap::new())).unwrap_err();
    assert!(matches!(error, IndexError::Dims { expected: 3, actual: 4 }));
    assert_eq!(index.vectors(4).unwrap().len(), 3);
    assert!(index.vectors(5).is_err() && index.vectors(u32::MAX).is_err());
    assert_eq!((index.n_rows(), index.dims()), (5, 3));
    assert!(index.size_bytes() > 5 * 3 * 4);
}

/// A small grid of `kindred bench filters`: shares of rows that pass, which have nothing to do with the query, are near it, or are
/// far from it.
#[test]
fn filters_lose_no_recall() {
    let mut sample = Sample::plain(24, Random(11).clustered(6_000, 24, 30));
    let mut random = Random(12);
    let query_of = |random: &mut Random| {
        let near = random.below(6_000) as u32;
        Embedding::new(random.unit_vector(sample.row(near), 0.1), 24).unwrap()
    };
    let queries: Vec<Embedding> = (0..12).map(|_| query_of(&mut random)).collect();
    // A number by which rows are as near to the first query as it is large, and one by chance.
    let order = sample.oracle(&queries[0], None, &RoaringBitmap::new());
    let mut rank = vec![0.0; 6_000];
    order.iter().enumerate().for_each(|(at, c)| rank[c.row as usize] = 1.0 - at as f64 / 6_000.0);
    for (row, rank) in rank.iter().enumerate() {
        sample.attributes[row] = attributes(json!({"salary": rank, "location": {"lat": f64::from(random.number()) * 90.0, "lon": 0.0}}));
    }
    // One thread, so that it is the same graph every time: a share of 95 % of 120 leaves no room for luck.
    let (_dir, index) = sample.index_with(&BuildParams { threads: 1, ef_construction: 80, ..params() });
    let none = RoaringBitmap::new();
    for share in [0.5, 0.2, 0.1, 0.04, 0.01, 0.001] {
        let filters = [
            json!({"must": [{"key": "location", "geo_radius": {"center": {"lat": -90, "lon": 0}, "radius": 20_015_000.0 * share}}]}),
            json!({"must": [{"key": "salary", "range": {"gte": 1.0 - share}}]}),
            json!({"must": [{"key": "salary", "range": {"lt": share}}]}),
        ];
        for filter in filters.map(|json| Filter::parse(&json, &sample.schema).unwrap()) {
            for strategy in [StrategyChoice::Auto, StrategyChoice::Graph] {
                let (mut n_found, mut n_wanted) = (0, 0);
                for query in &queries {
                    let request = SearchRequest { ef_search: 64, strategy, filter: Some(&filter), ..request(&none) };
                    check(&sample, &index, query, &request, "grid");
                    let oracle = sample.oracle(query, Some(&filter), &none);
                    let found = index.search(query, &request).unwrap();
                    n_wanted += oracle.len().min(10);
                    n_found += oracle.iter().take(10).filter(|c| found.candidates.contains(c)).count();
                }
                assert!(n_found * 100 >= n_wanted * 95, "{share} {strategy:?} {filter:?}: {n_found} of {n_wanted}");
            }
        }
    }
}
