//! Builds that do not come to their end: cancelled, or too large.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::telemetry::Cancel;

fn build_into(dir: &Path, sample: &Sample, params: &BuildParams, progress: &Progress) -> Result<(), IndexError> {
    let input = BuildInput { dims: sample.dims, vectors: &sample.vectors, attributes: &sample.attributes, schema: &sample.schema };
    build(dir, input, params, progress)
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
    assert_eq!(of(16, 1, 384), 2_700 + 4 * 384 + 4 * 36);
    assert!(of(16, 10, 384) < of(16, 10, 768) && of(16, 10, 384) < of(32, 10, 384));
    assert_eq!(of(128, u64::MAX, 384), u64::MAX, "no overflow");
}
