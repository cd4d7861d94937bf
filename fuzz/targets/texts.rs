//! Small files that people write or hand over; the first byte says which: `k` keys, `q` judgments, `s` a snapshot's manifest, `a` an adapter,
//! `t` a time, `c` settings, `m` a model's description, `h` that of a model as Hugging Face has them.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use kindred::adapter::Adapter;
use kindred::config::{Settings, Sources};
use kindred::http::Keys;
use kindred::pipeline::evaluate::Judgments;
use kindred::snapshot::Manifest;
use kindred_core::domain::parse_time_us;
use kindred_encoder::ModelFolder;
use kindred_fuzz::scratch;
use libfuzzer_sys::fuzz_target;

static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = scratch();
    for name in ["model.onnx", "tokenizer.json"] {
        std::fs::write(dir.join(name), "").expect("a file in memory");
    }
    dir
});

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, contents)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(contents);
    let written = |name: &str| {
        let path = DIR.join(name);
        std::fs::write(&path, contents).expect("a file in memory");
        path
    };
    match kind {
        b'k' => {
            if let Ok(keys) = Keys::open(&written("keys.toml")) {
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
        b't' => {
            let _ = parse_time_us(&text);
        }
        b'c' => drop(Settings::load(&Sources { file: Some(&written("kindred.toml")), environment: Vec::new(), flags: Vec::new() })),
        b'm' | b'h' => {
            let path = written(if *kind == b'm' { "kindred-model.toml" } else { "config.json" });
            if let Ok(folder) = ModelFolder::open(&DIR) {
                assert!(folder.config.dims > 0 && folder.config.max_tokens > 0);
            }
            std::fs::remove_file(path).expect("it was written");
        }
        _ => {}
    }
});
