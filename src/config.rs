//! Settings: defaults compiled in, then a file, then the environment, then flags.
//!
//! `layers.rs` puts the sources together. Settings are data; `app.rs` makes components of them. Each module that needs some has its own struct.

mod layers;

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::collection::{Durability, Meaning};
use crate::ingest::kafka::KafkaSettings;
use crate::pipeline::{Limits, SearchSettings};
use crate::rescore::Profiles;
use crate::telemetry::TraceSettings;
use kindred_core::domain::{Chunking, CollectionDefinition, CollectionName, FieldSpec, Lexical, Network};
use kindred_core::error::ErrorKind;
use kindred_encoder::{CrossEncoderSettings, EncoderSettings};
use kindred_index::BuildParams;
pub use layers::{Layers, Origin};

/// The defaults, with a comment for each.
pub const DEFAULT_TOML: &str = include_str!("../config/default.toml");

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the settings in {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{origin} is not valid TOML: {reason}")]
    Syntax { origin: String, reason: String },
    #[error("the settings are not valid: {0}. config/default.toml lists all of them")]
    Settings(String),
    #[error(
        "{listen} can be reached by others, who could read and delete everything. Make API keys (kindred keys create NAME --role admin) and name their file (--set auth.keys_file=keys.toml), or listen on 127.0.0.1; where something in front asks for keys, say --set auth.public_without_keys=true"
    )]
    Public { listen: SocketAddr },
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
    pub auth: AuthSettings,
    pub limits: Limits,
    pub storage: StorageSettings,
    pub encoder: EncoderSettings,
    pub cross_encoder: CrossEncoderSettings,
    pub index: BuildParams,
    pub search: SearchSettings,
    pub mcp: McpSettings,
    pub kafka: KafkaSettings,
    pub log: LogSettings,
    pub traces: TraceSettings,
    pub collections: BTreeMap<CollectionName, CollectionSettings>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    pub listen: SocketAddr,
    pub max_body_bytes: usize,
    pub max_connections: usize,
    pub trusted_proxies: Vec<Network>,
    pub tls_certificate: PathBuf,
    pub tls_key: PathBuf,
    pub cors_origins: Vec<String>,
    pub allowed_hosts: Vec<String>,
    pub read_only: bool,
}

impl HttpSettings {
    /// Files of the certificate chain and of its key, where connections are to be encrypted.
    pub fn tls(&self) -> Option<(PathBuf, PathBuf)> {
        (!self.tls_certificate.as_os_str().is_empty()).then(|| (self.tls_certificate.clone(), self.tls_key.clone()))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    pub keys_file: PathBuf,
    pub public_without_keys: bool,
}

impl AuthSettings {
    /// The file of API keys, where there is one.
    pub fn keys_file(&self) -> Option<&Path> {
        (!self.keys_file.as_os_str().is_empty()).then_some(&self.keys_file)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpSettings {
    pub enabled: bool,
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
    pub stop_words: Vec<String>,
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
            stop_words: self.stop_words.clone(),
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
        Self::of(&Layers::read(sources)?)
    }

    /// Checks the whole of what the sources say.
    ///
    /// # Errors
    /// [`ConfigError::Settings`] names the setting.
    pub fn of(layers: &Layers) -> Result<Self, ConfigError> {
        let settings: Self = serde_path_to_error::deserialize(layers.merged())
            .map_err(|e| ConfigError::Settings(format!("{}: {}", e.path(), e.inner().to_string().trim().replace('\n', " "))))?;
        settings.check()?;
        Ok(settings)
    }

    /// Refuses to serve everyone who can reach an address, unless that is wanted.
    ///
    /// # Errors
    /// [`ConfigError::Public`] says what to do.
    pub fn check_public(&self) -> Result<(), ConfigError> {
        let is_open = self.auth.keys_file().is_none() && !self.auth.public_without_keys;
        if is_open && !self.http.listen.ip().is_loopback() { Err(ConfigError::Public { listen: self.http.listen }) } else { Ok(()) }
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
            ("search.min_ef_search", self.search.min_ef_search),
            ("search.min_candidates", self.search.min_candidates),
            ("search.max_queue", self.search.max_queue),
            ("encoder.max_queue", self.encoder.max_queue),
            ("cross_encoder.max_queue", self.cross_encoder.max_queue),
            ("cross_encoder.candidates", self.cross_encoder.candidates),
            ("cross_encoder.max_candidates", self.cross_encoder.max_candidates),
            ("http.max_body_bytes", self.http.max_body_bytes),
            ("http.max_connections", self.http.max_connections),
            ("storage.rebuild_after_changes", self.storage.rebuild_after_changes),
        ];
        self.kafka.check().map_err(ConfigError::Settings)?;
        if !self.kafka.brokers.is_empty() && self.kafka.max_batch_records > self.limits.max_batch_documents {
            return Err(ConfigError::Settings("kafka.max_batch_records must not be above limits.max_batch_documents".to_owned()));
        }
        let shares = [
            ("search.recall_share", self.search.recall_share),
            ("search.recall_alarm_below", self.search.recall_alarm_below),
            ("traces.share", self.traces.share),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(ConfigError::Settings(format!("{name} must be from 0 to 1")));
            }
        }
        if self.http.tls_certificate.as_os_str().is_empty() != self.http.tls_key.as_os_str().is_empty() {
            return Err(ConfigError::Settings("http.tls_certificate and http.tls_key belong together: name both, or none".to_owned()));
        }
        if let Some(origin) = self.http.cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(ConfigError::Settings(format!("http.cors_origins: {origin:?} is no origin, such as https://jobs.example.com")));
        }
        if let Some(host) = self.http.allowed_hosts.iter().find(|host| !is_host(host)) {
            return Err(ConfigError::Settings(format!(
                "http.allowed_hosts: {host:?} is no name without scheme and port, such as jobs.example.com"
            )));
        }
        if self.cross_encoder.candidates > self.cross_encoder.max_candidates {
            return Err(ConfigError::Settings("cross_encoder.candidates must not be above cross_encoder.max_candidates".to_owned()));
        }
        match at_least_one.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(ConfigError::Settings(format!("{name} must be at least 1"))),
            None => Ok(()),
        }
    }
}

/// Whether it is a name or an address as it stands in URLs, without a port; which parts of it a `*` stands for would be a guess.
fn is_host(text: &str) -> bool {
    let is_address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).is_some_and(|text| text.parse::<Ipv6Addr>().is_ok());
    is_address || !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

/// Whether a browser would name a page's origin so: scheme, host, port, and nothing behind.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c)))
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
    fn a_public_address_needs_keys() {
        let check = |flags: &[&str]| load(&[], flags).unwrap().check_public();
        assert!(check(&[]).is_ok());
        assert!(check(&["http.listen=[::1]:1"]).is_ok());
        let refused = check(&["http.listen=0.0.0.0:7700"]).unwrap_err().to_string();
        assert!(refused.contains("kindred keys create"), "{refused}");
        assert!(check(&["http.listen=0.0.0.0:7700", "auth.keys_file=keys.toml"]).is_ok());
        assert!(check(&["http.listen=0.0.0.0:7700", "auth.public_without_keys=true"]).is_ok());
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (flag, word) in [
            ("http.listen=nowhere", "http.listen"),
            ("http.lissten=1", "lissten"),
            ("search.candidates=0", "search.candidates"),
            ("cross_encoder.candidates=100000", "cross_encoder.max_candidates"),
            ("cross_encoder.max_queue=0", "cross_encoder.max_queue"),
            ("search.candidates=many", "search.candidates"),
            ("collections.jobs.template=none", "jobs"),
            ("collections.jobs.profiles.default.text.luck=1", "luck"),
            ("encoder.device=gpu", "device"),
            ("http.tls_key=key.pem", "tls_certificate"),
            ("http.cors_origins=[\"*\"]", "no origin"),
            ("http.cors_origins=[\"https://a.example/x\"]", "no origin"),
            ("http.allowed_hosts=[\"*\"]", "http.allowed_hosts"),
            ("http.trusted_proxies=[\"proxy\"]", "http.trusted_proxies[0]: \"proxy\" is neither an address"),
            ("http.trusted_proxies=[\"10.0.0.0/33\"]", "http.trusted_proxies[0]"),
            ("http.allowed_hosts=[\"jobs.example.com:443\"]", "http.allowed_hosts"),
            ("http.allowed_hosts=[\"https://jobs.example.com\"]", "http.allowed_hosts"),
            ("search.recall_share=2", "search.recall_share"),
            ("traces.share=-1", "traces.share"),
            ("nonsense", "section.key"),
        ] {
            let error = load(&[], &[flag]).unwrap_err().to_string();
            assert!(error.contains(word), "{flag}: {error}");
        }
    }
}
