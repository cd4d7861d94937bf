//! What builds promise: equal files, graphs as good as the reference's, any shape, and no harm where they do not come to their end.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use kindred_core::Cancel;

fn build_into(dir: &Path, sample: &Sample, params: &BuildParams, progress: &Progress) -> Result<(), IndexError> {
    let input = sample.input();
    Index::build(dir, input, params, progress).map(drop)
}

#[test]
fn a_cancelled_build_ends_at_the_next_row() {
    let (sample, dir) = (Sample::random(1, 2_000, 8), tempfile::tempdir().unwrap());
    let params = BuildParams { threads: 2, ..BuildParams::default() };
    let before = Cancel::default();
    before.cancel();
    let error = build_into(dir.path(), &sample, &params, &Progress::hidden().cancelled_by(&before)).unwrap_err();
    assert!(matches!(error, IndexError::Cancelled), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");

    // Once among the rows that are inserted one by one, once among those inserted at once.
    for at in [100, 1_000] {
        let dir = tempfile::tempdir().unwrap();
        let (midway, n_done) = (Cancel::default(), Arc::new(AtomicU64::new(0)));
        let (handle, seen) = (midway.clone(), Arc::clone(&n_done));
        let progress = Progress::watched(move |done| {
            seen.fetch_max(done, Ordering::Relaxed);
            if done >= at {
                handle.cancel();
            }
        });
        let error = build_into(dir.path(), &sample, &params, &progress.cancelled_by(&midway)).unwrap_err();
        assert!(matches!(error, IndexError::Cancelled) && error.to_string().contains("nothing was changed"), "{error}");
        assert!((at..2_000).contains(&n_done.load(Ordering::Relaxed)), "{n_done:?}");
    }
}

#[test]
fn a_build_that_needs_too_much_memory_writes_nothing() {
    let (sample, dir) = (Sample::random(1, 300, 4), tempfile::tempdir().unwrap());
    let needed = BuildParams::default().memory_bytes(300, 4);
    let params = |max_bytes| BuildParams { threads: 1, max_bytes, ..BuildParams::default() };
    let error = build_into(dir.path(), &sample, &params(needed - 1), &Progress::hidden()).unwrap_err();
    assert!(matches!(error, IndexError::Memory { .. }) && error.to_string().contains("index.max_build_bytes"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
    build_into(dir.path(), &sample, &params(needed), &Progress::hidden()).unwrap();
}

#[test]
fn memory_grows_with_rows_dimensions_and_connections() {
    let of = |max_connections, n_rows, dims| BuildParams { max_connections, ..BuildParams::default() }.memory_bytes(n_rows, dims);
    assert_eq!(of(16, 0, 384), 0);
    let reference = BuildParams { builder: Builder::HnswRs, ..BuildParams::default() };
    assert!(reference.memory_bytes(1, 384) >= of(16, 1, 384) + 2_700 + 4 * 384);
    assert!(of(16, 10, 384) < of(16, 10, 768) && of(16, 10, 384) < of(32, 10, 384));
    assert_eq!(of(128, u64::MAX, 384), u64::MAX, "no overflow");
}

fn files(dir: &Path) -> Vec<Vec<u8>> {
    ["graph.bin", "vectors.bin", "attributes.bin"].map(|name| fs::read(dir.join(name)).unwrap()).into()
}

#[test]
fn one_thread_builds_equal_files_from_equal_seeds() {
    let sample = Sample::random(1, 1_500, 12);
    let build = |seed, threads| {
        let dir = tempfile::tempdir().unwrap();
        sample.build(dir.path(), &BuildParams { threads, seed, ..BuildParams::default() }).unwrap();
        files(dir.path())
    };
    let first = build(7, 1);
    assert!(first == build(7, 1), "equal seeds");
    assert!(first[0] != build(8, 1)[0], "other seeds");
}

#[test]
fn our_graphs_find_what_the_references_do() {
    let sample = Sample::plain(32, Random(7).clustered(3_000, 32, 40));
    let recall_of = |builder, quantization| {
        let params = BuildParams { builder, quantization, threads: 2, ef_construction: 100, ..BuildParams::default() };
        let (_dir, index) = sample.index_with(&params);
        assert_eq!(index.quantization(), quantization);
        search::recall(&sample, &index, 48, 1e-3)
    };
    let reference = recall_of(Builder::HnswRs, Quantization::F32);
    for quantization in [Quantization::F32, Quantization::F16] {
        let ours = recall_of(Builder::Native, quantization);
        assert!(ours + 10 >= reference && ours >= 970, "{quantization:?}: {ours} per mille, the reference {reference}");
    }
    assert!(recall_of(Builder::Native, Quantization::Int8) >= 900);
}

#[test]
fn any_number_of_dimensions_is_searched() {
    let none = RoaringBitmap::new();
    for dims in [1, 2, 3, 63, 64, 65, 127, 128, 129, 1_000, 1_024, 1_025, 4_096] {
        let n_rows = 40;
        let sample = Sample::plain(dims, Random(dims as u64).clustered(n_rows, dims, 3));
        let (_dir, index) = sample.index_with(&search_params());
        let query = Embedding::new(sample.row(17).to_vec(), dims).unwrap();
        for strategy in [StrategyChoice::Graph, StrategyChoice::Exact] {
            let found = index.search(&query, &SearchRequest { k: n_rows, ef_search: 200, strategy, ..request(&none) }).unwrap();
            assert_eq!(found.candidates, sample.oracle(&query, None, &none), "{dims} dimensions, {strategy:?}");
        }
    }
}

fn search_params() -> BuildParams {
    BuildParams { threads: 2, ef_construction: 40, ..params() }
}
