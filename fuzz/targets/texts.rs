//! Small files that people write or hand over; the first byte says which: `k` keys, `q` judgments, `s` a snapshot's manifest, `a` an adapter,
//! `t` a time, `n` what names a snapshot's place.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use kindred::adapter::Adapter;
use kindred::domain::parse_time_us;
use kindred::http::Keys;
use kindred::pipeline::evaluate::Judgments;
use kindred::snapshot::Manifest;
use kindred_fuzz::scratch;
use libfuzzer_sys::fuzz_target;

static PATH: LazyLock<PathBuf> = LazyLock::new(|| scratch().join("keys.toml"));

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, contents)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(contents);
    match kind {
        b'k' => {
            std::fs::write(&*PATH, contents).expect("a file in memory");
            if let Ok(keys) = Keys::open(&PATH) {
                assert!(!keys.reload().expect("it was read before"));
            }
        }
        b'q' => drop(Judgments::parse(&text)),
        b's' => {
            for collection in Manifest::from_bytes(contents).iter().flat_map(|manifest| &manifest.collections) {
                let _ = collection.size_bytes();
                for file in &collection.files {
                    let path = PathBuf::from(&file.name);
                    assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))), "{path:?} leads elsewhere");
                }
            }
        }
        b'a' => {
            if let Ok(json) = serde_json::from_slice(contents)
                && let Ok(adapter) = Adapter::read(&json)
            {
                assert_eq!(Adapter::read(&adapter.write()).expect("it was written here"), adapter);
            }
        }
        b't' => assert!(parse_time_us(&text).is_none_or(f64::is_finite)),
        _ => {}
    }
});
