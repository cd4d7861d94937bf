//! A file of documents; the first byte says as what it is read: `c` CSV, `p` Parquet, all else lines of JSON. Read from any record on, it gives
//! what reading all of it does.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use kindred::ingest::{Format, Source};
use kindred_fuzz::{COLLECTION, abort_on_own_panics, scratch};
use libfuzzer_sys::fuzz_target;

static PATH: LazyLock<PathBuf> = LazyLock::new(|| scratch().join("documents"));

fuzz_target!(init: abort_on_own_panics(), |bytes: &[u8]| {
    let Some((format, contents)) = bytes.split_first() else { return };
    let format = match format {
        b'c' => Format::Csv,
        b'p' => Format::Parquet,
        _ => Format::Jsonl,
    };
    std::fs::write(&*PATH, contents).expect("a file in memory");
    let read = |from| Source::file(&PATH, Some(format)).and_then(|source| source.read_all(&COLLECTION.0, from));
    if let Ok(all) = read(0) {
        let middle = all.get(all.len() / 2).map_or(1, |(line, _)| *line);
        let rest: Vec<_> = all.into_iter().filter(|(line, _)| *line >= middle).collect();
        assert_eq!(read(middle).expect("it was read before"), rest);
    }
});
