//! Within `src/`, imports go down only; the crates below it are held apart by the compiler. One foreign crate has one home: the tables
//! of ARCHITECTURE.md.

use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of ours a module may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("tls", &[]),
    ("optional", &[]),
    ("telemetry", &["optional", "tls"]),
    ("rescore", &["optional", "telemetry"]),
    ("adapter", &["telemetry"]),
    ("lexical", &["telemetry"]),
    ("wal", &["telemetry"]),
    ("snapshot", &["optional", "telemetry", "tls"]),
    ("collection", &["lexical", "wal", "telemetry"]),
    ("pipeline", &["adapter", "collection", "rescore", "snapshot", "telemetry"]),
    ("ingest", &["optional", "pipeline", "telemetry"]),
    ("client", &["telemetry", "tls"]),
    ("http", &["optional", "ingest", "pipeline", "telemetry", "tls"]),
    ("config", &["collection", "ingest", "pipeline", "rescore", "telemetry"]),
    ("app", &["config", "http", "ingest", "pipeline", "collection", "telemetry"]),
    ("tools", &["adapter", "optional", "app", "config", "http", "ingest", "pipeline", "collection", "rescore", "snapshot", "telemetry"]),
];

/// Where a crate may be named.
const HOMES: &[(&str, &[&str])] = &[
    // Our own crates: HTTP and feeds know a collection and the pipelines, not what they are made of.
    ("kindred_index", &["src/collection/", "src/config.rs", "src/tools/", "crates/kindred-bench/"]),
    ("kindred_encoder", &["src/pipeline/", "src/config.rs", "src/app.rs", "src/tools/", "crates/kindred-bench/"]),
    ("kindred_demo", &["src/tools/demo.rs"]),
    ("indicatif", &["crates/kindred-core/src/progress.rs"]),
    ("memmap2", &["crates/kindred-core/src/storage/mmap.rs"]),
    ("thread_priority", &["crates/kindred-core/src/priority.rs"]),
    ("rdkafka", &["src/ingest/kafka/"]),
    ("base64", &["src/adapter/mod.rs", "src/ingest/kafka/dead_letters.rs", "src/http/compat/openai.rs"]),
    ("ort", &["crates/kindred-encoder/src/session.rs"]),
    ("moka", &["crates/kindred-encoder/src/cache.rs"]),
    ("tokenizers", &["crates/kindred-encoder/src/tokenizer.rs"]),
    ("safetensors", &["crates/kindred-encoder/src/import/"]),
    ("prost", &["crates/kindred-encoder/src/import/"]),
    ("hnsw_rs", &["crates/kindred-index/src/build/reference.rs"]),
    ("anndists", &["crates/kindred-index/src/build/reference.rs"]),
    ("mimalloc", &["src/main.rs", "crates/kindred-bench/src/main.rs"]),
    ("tantivy", &["src/lexical/"]),
    ("hessboost", &["src/rescore/train.rs"]),
    ("axum", &["src/http/"]),
    ("utoipa_axum", &["src/http/"]),
    ("axum_server", &["src/http/connections.rs"]),
    ("tower_http", &["src/http/"]),
    ("governor", &["src/http/auth/keys.rs"]),
    ("subtle", &["src/http/auth/keys.rs"]),
    ("getrandom", &["src/http/auth/keys.rs"]),
    ("metrics_exporter_prometheus", &["src/telemetry/metrics.rs"]),
    ("plotters", &["crates/kindred-bench/src/plot.rs"]),
    ("csv_core", &["src/ingest/csv.rs"]),
    ("parquet", &["src/ingest/"]),
    ("arrow_array", &["src/ingest/"]),
    ("arrow_schema", &["src/ingest/"]),
    ("object_store", &["src/snapshot/place.rs"]),
    ("rustls", &["src/tls.rs"]),
    ("opentelemetry", &["src/telemetry/otlp.rs"]),
    ("opentelemetry_http", &["src/telemetry/otlp.rs"]),
    ("opentelemetry_otlp", &["src/telemetry/otlp.rs"]),
    ("opentelemetry_sdk", &["src/telemetry/otlp.rs"]),
    ("tracing_opentelemetry", &["src/telemetry/otlp.rs"]),
    ("rustix", &["crates/kindred-bench/src/system.rs", "src/telemetry/machine.rs", "crates/kindred-core/src/priority.rs"]),
    ("ureq", &["crates/kindred-bench/src/"]),
    ("clap", &["src/main.rs", "src/tools/", "crates/kindred-bench/src/"]),
    ("clap_complete", &["src/tools/manual.rs"]),
    ("clap_mangen", &["src/tools/manual.rs"]),
    ("rmcp", &["src/http/mcp/"]),
];

/// Where `unsafe` may stand: maps and kernels.
const UNSAFE_HOMES: [&str; 2] = ["crates/kindred-core/src/storage/mmap.rs", "crates/kindred-index/src/kernels/"];

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let Some(module) = module_of(&path) else { continue };
        let allowed =
            MAY_USE.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no place in the table of layers")).1;
        for named in names_after(&code, "crate::") {
            let is_module = MAY_USE.iter().any(|(name, _)| *name == named);
            if is_module && named != module && !allowed.contains(&named) {
                wrong.push(format!("{path}: {module} may not use {named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_stay_at_home() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for (name, homes) in HOMES {
            let at_home = homes.iter().any(|home| path.starts_with(home));
            if !at_home && code.lines().any(|line| mentions(line, name)) {
                wrong.push(format!("{path} names {name}, whose home is {}", homes.join(", ")));
            }
        }
        if code.contains("unsafe {") && !UNSAFE_HOMES.iter().any(|home| path.starts_with(home)) {
            wrong.push(format!("{path} holds unsafe code"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The tables above say something only if they would notice.
#[test]
fn the_tables_notice() {
    assert_eq!(names_after("use crate::wal::Batch; crate::{index, http}", "crate::"), ["wal", "index", "http"]);
    assert_eq!(names_after("use crate::{\n    domain::X,\n    storage::{A, B},\n};", "crate::"), ["domain", "storage"]);
    assert!(mentions("use ort::session::Session;", "ort") && mentions("    ort::init()", "ort"));
    assert!(!mentions("sort::by(x)", "ort") && !mentions("// use ort::x", "ort"));
}

/// Path from the root and code of every file, comments left out.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        folders.push(entry.unwrap().path().join("src"));
    }
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let read = |path: PathBuf| {
        let code: String = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect();
        (path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/"), code)
    };
    files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).map(read).collect()
}

/// `None` for `main.rs` and `lib.rs`, which see everything.
fn module_of(path: &str) -> Option<String> {
    let first = path.strip_prefix("src/")?.split('/').next()?;
    let module = first.trim_end_matches(".rs");
    (module != "main" && module != "lib").then(|| module.to_owned())
}

/// The first names after a prefix, also those of a group in braces.
fn names_after<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut expects = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expects = true,
                c if expects && depth == 0 && !c.is_whitespace() => {
                    names.push(identifier(&group[i..]));
                    expects = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// Whether a line of code names a path of the crate.
fn mentions(line: &str, name: &str) -> bool {
    if line.trim_start().starts_with("//") {
        return false;
    }
    let path = format!("{name}::");
    line.match_indices(&path).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}
