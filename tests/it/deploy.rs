//! What deploys the server names only what there is: metrics, settings, routes, files. Whether the files are valid is checked by
//! `.ci/deploy`, with the tools of those who read them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kindred::config::DEFAULT_TOML;
use serde_json::Value;

use crate::app::TestApp;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Path and text of everything that deploys.
fn files() -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![root().join("deploy")], vec![root().join("docker-compose.yml"), root().join("Dockerfile")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.into_iter().map(|path| (path.clone(), read(path))).collect()
}

/// The words of a text that begin so.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).filter(|word| word.len() > prefix.len() && word.starts_with(prefix)).collect()
}

/// A histogram is read by its parts.
fn without_part(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
}

#[test]
fn dashboard_and_alerts_name_metrics_of_the_table() {
    let table: Vec<String> = read("docs/metrics.md").lines().filter(|l| l.starts_with("| `")).map(str::to_owned).collect();
    let known: BTreeSet<&str> = table.iter().flat_map(|line| words(line, "kindred_")).collect();
    assert!(known.len() > 20, "{known:?}");
    let alerts = read("deploy/alerts.yml");
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/kindred.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let shown: Vec<&str> = panels.iter().filter_map(|p| p["targets"].as_array()).flatten().map(|t| t["expr"].as_str().unwrap()).collect();
    for text in shown.iter().copied().chain([&*alerts, &read("deploy/alerts_test.yml")]) {
        for name in words(text, "kindred_") {
            assert!(known.contains(name) || known.contains(without_part(name)), "{name} is not in the table of metrics: {text}");
        }
    }
    // And the other way round: what is measured is shown.
    let shown = shown.join("\n");
    let shown: BTreeSet<&str> = words(&shown, "kindred_").into_iter().map(without_part).collect();
    let hidden: Vec<_> = known.difference(&shown).collect();
    assert!(hidden.is_empty(), "the dashboard does not show {hidden:?}");
}

#[test]
fn variables_are_settings() {
    let defaults: toml::Table = DEFAULT_TOML.parse().unwrap();
    let mut n = 0;
    for (path, text) in files() {
        for variable in words(&text, "KINDRED__").into_iter().filter(|name| !name.starts_with("KINDRED__SECTION__")) {
            let keys: Vec<String> = variable.split("__").skip(1).map(str::to_lowercase).collect();
            let mut tables = Some(&defaults);
            for key in &keys[..keys.len() - 1] {
                tables = tables.and_then(|table| table.get(key)).and_then(toml::Value::as_table);
            }
            let is_there = tables.is_some_and(|table| table.contains_key(keys.last().unwrap()));
            assert!(is_there, "{}: {variable} is no setting of config/default.toml", path.display());
            n += 1;
        }
    }
    assert!(n >= 4, "{n} variables");
}

#[test]
fn the_settings_of_the_pods_are_settings() {
    use kindred::config::{Settings, Sources};
    let file = root().join("deploy/kubernetes/kindred.toml");
    let settings = Settings::load(&Sources { file: Some(&file), ..Sources::default() }).unwrap();
    assert!(settings.http.listen.ip().is_unspecified(), "a Service reaches it");
    // What is commented out has to work, too.
    let dir = tempfile::tempdir().unwrap();
    let (_, fed) = fs::read_to_string(&file).unwrap().split_once("from Kafka.\n#\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let fed: String = fed.lines().map(|line| format!("{}\n", line.trim_start_matches(['#', ' ']))).collect();
    fs::write(dir.path().join("fed.toml"), fed).unwrap();
    let settings = Settings::load(&Sources { file: Some(&dir.path().join("fed.toml")), ..Sources::default() }).unwrap();
    assert!(settings.http.read_only && settings.kafka.ready_when_caught_up && !settings.kafka.brokers.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_and_paths_are_those_of_the_server() {
    let defaults: toml::Table = DEFAULT_TOML.parse().unwrap();
    let listen = defaults["http"]["listen"].as_str().unwrap();
    let port = listen.rsplit_once(':').unwrap().1;
    let service = read("deploy/kubernetes/service.yaml");
    assert_eq!(service.matches(&format!("port: {port}")).count(), 2, "{service}");
    for (path, line) in [
        ("docker-compose.yml", format!("\"127.0.0.1:{port}:{port}\"")),
        ("Dockerfile", format!("EXPOSE {port}")),
        ("deploy/prometheus.yml", format!("kindred-server:{port}")),
        ("deploy/kubernetes/statefulset.yaml", format!("containerPort: {port}")),
        ("deploy/kubernetes/statefulset.yaml", format!("prometheus.io/port: \"{port}\"")),
        ("deploy/kubernetes/kindred.toml", format!("0.0.0.0:{port}")),
    ] {
        assert!(read(path).contains(&line), "{path} lacks {line}");
    }
    let app = TestApp::start().await;
    let pods = read("deploy/kubernetes/statefulset.yaml");
    let paths: Vec<&str> = pods.split("path: /").skip(1).map(|rest| rest.split([',', '\n', '}']).next().unwrap()).collect();
    assert_eq!(paths, ["metrics", "livez", "livez", "readyz"]);
    for path in paths {
        app.get(&format!("/{path}")).await.ok();
    }
}

/// An image is built from what .dockerignore lets in: whatever the code takes in when it is compiled has to be there.
#[test]
fn the_image_has_what_the_code_includes() {
    let ignored = read(".dockerignore");
    let (folders, exceptions): (Vec<&str>, Vec<&str>) = ignored.lines().partition(|line| !line.starts_with('!'));
    let mut n = 0;
    for text in ["src/config.rs", "src/tools/demo.rs", "crates/kindred-encoder/src/assets/mod.rs"].map(read) {
        for include in text.split("include_str!(\"").chain(text.split("include_bytes!(\"")).skip(1) {
            let Some(path) = include.split('"').next().filter(|path| path.starts_with("../")) else { continue };
            let path = path.trim_start_matches("../");
            let in_folder = folders.iter().any(|line| line.strip_suffix("/*").is_some_and(|folder| path.starts_with(folder)));
            let excepted = exceptions.iter().any(|line| {
                let (before, after) = line[1..].split_once('*').unwrap_or((&line[1..], ""));
                path.starts_with(before) && path.ends_with(after)
            });
            assert!(!in_folder || excepted, ".dockerignore keeps {path} out");
            n += 1;
        }
    }
    assert_eq!(n, 4);
}
