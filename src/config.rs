//! Settings: defaults compiled in, then a file, then the environment, then flags.
//!
//! Settings are data; `app.rs` makes components of them. Each module that needs some has its own struct.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::collection::{Durability, Meaning};
use crate::domain::{Chunking, CollectionDefinition, CollectionName, FieldSpec, Lexical};
use crate::encoder::EncoderSettings;
use crate::error::ErrorKind;
use crate::index::BuildParams;
use crate::ingest::kafka::KafkaSettings;
use crate::pipeline::{Limits, SearchSettings};
use crate::rescore::Profiles;

/// The defaults, with a comment for each.
pub const DEFAULT_TOML: &str = include_str!("../config/default.toml");
/// Read from the working folder when it is there and no other file is named.
const USUAL_FILE: &str = "kindred.toml";
/// `KINDRED__SECTION__KEY`.
const ENVIRONMENT_PREFIX: &str = "KINDRED__";

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the settings in {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{origin} is not valid TOML: {reason}")]
    Syntax { origin: String, reason: String },
    #[error("the settings are not valid: {0}. config/default.toml lists all of them")]
    Settings(String),
    #[error("--set needs section.key=value, not {0:?}")]
    Flag(String),
}

impl ConfigError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// All settings; `config/default.toml` explains each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub http: HttpSettings,
    pub limits: Limits,
    pub storage: StorageSettings,
    pub encoder: EncoderSettings,
    pub index: BuildParams,
    pub search: SearchSettings,
    pub kafka: KafkaSettings,
    pub log: LogSettings,
    pub collections: BTreeMap<CollectionName, CollectionSettings>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    pub listen: SocketAddr,
    pub max_body_bytes: usize,
    pub read_only: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSettings {
    pub data_dir: PathBuf,
    pub durability: Durability,
    pub rotate_log_bytes: u64,
    pub rebuild_after_changes: usize,
    pub background_threads: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Pretty,
    Json,
}

/// A collection of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionSettings {
    pub template: String,
    #[serde(default)]
    pub query_prompt: String,
    #[serde(default)]
    pub document_prompt: String,
    #[serde(default)]
    pub chunks: Chunking,
    #[serde(default)]
    pub lexical: Lexical,
    #[serde(default)]
    pub fields: BTreeMap<String, FieldSpec>,
    #[serde(default)]
    pub profiles: Profiles,
}

impl CollectionSettings {
    /// The definition, without the profiles: those may change without a rebuild.
    pub fn definition(&self) -> CollectionDefinition {
        CollectionDefinition {
            template: self.template.clone(),
            fields: self.fields.clone(),
            query_prompt: self.query_prompt.clone(),
            document_prompt: self.document_prompt.clone(),
            chunks: self.chunks,
            lexical: self.lexical,
        }
    }
}

/// Where settings come from besides the defaults.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// A file that must be there; otherwise the usual one is read if it is.
    pub file: Option<&'a Path>,
    /// `KINDRED__SECTION__KEY` and its value; other variables are ignored.
    pub environment: Vec<(String, String)>,
    /// `section.key=value`.
    pub flags: Vec<String>,
}

impl Settings {
    /// Puts the sources together and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] says which source or setting is wrong.
    pub fn load(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let mut table = parse("config/default.toml", DEFAULT_TOML)?;
        let usual = Path::new(USUAL_FILE);
        if let Some(path) = sources.file.or_else(|| usual.exists().then_some(usual)) {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            merge(&mut table, parse(&path.display().to_string(), &text)?);
        }
        for (name, value) in &sources.environment {
            if let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) {
                let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
                merge(&mut table, nest(&path, read_value(value)));
            }
        }
        for flag in &sources.flags {
            let (key, value) = flag.split_once('=').ok_or_else(|| ConfigError::Flag(flag.clone()))?;
            let path: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
            merge(&mut table, nest(&path, read_value(value)));
        }
        let settings: Self = serde_path_to_error::deserialize(table)
            .map_err(|e| ConfigError::Settings(format!("{}: {}", e.path(), e.inner().to_string().trim().replace('\n', " "))))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |e: &dyn std::fmt::Display| ConfigError::Settings(e.to_string());
        for (name, collection) in &self.collections {
            Meaning::of(name, &collection.definition()).map_err(|e| invalid(&e))?;
            collection.profiles.check().map_err(|e| ConfigError::Settings(format!("collection {name}: {e}")))?;
        }
        let at_least_one = [
            ("limits.max_limit", self.limits.max_limit),
            ("limits.max_candidates", self.limits.max_candidates),
            ("limits.max_ef_search", self.limits.max_ef_search),
            ("limits.max_batch_documents", self.limits.max_batch_documents),
            ("search.ef_search", self.search.ef_search),
            ("search.candidates", self.search.candidates),
            ("search.max_queue", self.search.max_queue),
            ("encoder.max_queue", self.encoder.max_queue),
            ("http.max_body_bytes", self.http.max_body_bytes),
            ("storage.rebuild_after_changes", self.storage.rebuild_after_changes),
        ];
        self.kafka.check().map_err(ConfigError::Settings)?;
        if !self.kafka.brokers.is_empty() && self.kafka.max_batch_records > self.limits.max_batch_documents {
            return Err(ConfigError::Settings("kafka.max_batch_records must not be above limits.max_batch_documents".to_owned()));
        }
        match at_least_one.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(ConfigError::Settings(format!("{name} must be at least 1"))),
            None => Ok(()),
        }
    }
}

fn parse(origin: &str, text: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|e: toml::de::Error| ConfigError::Syntax { origin: origin.to_owned(), reason: e.to_string() })
}

/// Whatever reads as a TOML value is one; everything else is a string, so that `--set encoder.device=cuda:0` needs no quotes.
fn read_value(text: &str) -> Value {
    let table: Option<Table> = format!("value = {text}").parse().ok();
    table.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn nest(path: &[String], value: Value) -> Table {
    let (first, rest) = path.split_first().expect("splitting a text gives at least one part");
    let inner = if rest.is_empty() { value } else { Value::Table(nest(rest, value)) };
    Table::from_iter([(first.clone(), inner)])
}

/// Tables are merged key by key; anything else is replaced. A collection's weights and fields are replaced by name, too.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, new) => drop(into.insert(key, new)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)], flags: &[&str]) -> Result<Settings, ConfigError> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::load(&Sources { file: None, environment, flags: flags.iter().map(ToString::to_string).collect() })
    }

    #[test]
    fn defaults_are_valid_and_every_source_beats_the_one_before() {
        let settings = load(&[], &[]).unwrap();
        assert_eq!(settings.http.listen.port(), 7700);
        assert_eq!(settings.collections.len(), 2);
        let settings = load(
            &[("KINDRED__HTTP__LISTEN", "127.0.0.1:1"), ("KINDRED__SEARCH__CANDIDATES", "7"), ("PATH", "x")],
            &["search.candidates=9", "encoder.device=cpu"],
        )
        .unwrap();
        assert_eq!((settings.http.listen.port(), settings.search.candidates), (1, 9));
    }

    #[test]
    fn a_file_adds_to_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my.toml");
        std::fs::write(&path, "[collections.posts]\ntemplate = \"{text}\"\n[storage]\ndata_dir = \"elsewhere\"").unwrap();
        let settings = Settings::load(&Sources { file: Some(&path), ..Sources::default() }).unwrap();
        assert_eq!(settings.collections.len(), 3);
        assert_eq!(settings.storage.data_dir, Path::new("elsewhere"));
        assert_eq!(settings.storage.rebuild_after_changes, 5_000);
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (flag, word) in [
            ("http.listen=nowhere", "http.listen"),
            ("http.lissten=1", "lissten"),
            ("search.candidates=0", "search.candidates"),
            ("search.candidates=many", "search.candidates"),
            ("collections.jobs.template=none", "jobs"),
            ("collections.jobs.profiles.default.text.luck=1", "luck"),
            ("encoder.device=gpu", "device"),
            ("nonsense", "section.key"),
        ] {
            let error = load(&[], &[flag]).unwrap_err().to_string();
            assert!(error.contains(word), "{flag}: {error}");
        }
    }
}
