//! The settings of the feed, and what of librdkafka's own is not left to them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use kindred_core::domain::CollectionName;

/// `[kafka]` of the settings; `config/default.toml` explains each.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    pub brokers: String,
    pub group_id: String,
    pub topics: BTreeMap<CollectionName, String>,
    pub max_batch_records: usize,
    pub max_value_bytes: usize,
    pub linger_ms: u64,
    pub prefetch_bytes: usize,
    pub dead_letter_file: PathBuf,
    pub dead_letter_topic: String,
    pub ready_when_caught_up: bool,
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
}

/// A property of librdkafka. Their names have dots, which TOML and `--set` read as tables: those are joined again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Property {
    Bool(bool),
    Number(i64),
    Text(String),
    Table(BTreeMap<String, Property>),
}

/// Properties that the feed is built on: where it stands is known to the collections alone.
const OURS: [&str; 8] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "statistics.interval.ms",
    "auto.offset.reset",
];

impl KafkaSettings {
    /// Whether there is a feed at all.
    pub fn is_on(&self) -> bool {
        !self.brokers.trim().is_empty()
    }

    /// The collections that are fed, each with its topic.
    pub fn feeds(&self) -> impl Iterator<Item = (&CollectionName, &str)> {
        self.topics.iter().map(|(collection, topic)| (collection, topic.trim())).filter(|(_, topic)| !topic.is_empty())
    }

    /// librdkafka's properties by their whole names.
    pub fn flat_properties(&self) -> BTreeMap<String, String> {
        let mut flat = BTreeMap::new();
        flatten("", &self.properties, &mut flat);
        flat
    }

    /// The files that librdkafka reads (`ssl.ca.location` and the like), by the name of their property.
    pub fn files(&self) -> BTreeMap<String, String> {
        let mut files = self.flat_properties();
        files.retain(|name, value| name.ends_with(".location") && value != "probe");
        files
    }

    /// Checks that these files can be read. The errors of librdkafka do not name them.
    ///
    /// # Errors
    /// The setting, its file, and why that cannot be read.
    pub fn check_files(&self) -> Result<(), String> {
        for (name, file) in self.files() {
            let read = if Path::new(&file).is_dir() { Ok(()) } else { File::open(&file).map(drop) };
            read.map_err(|e| format!("cannot read kafka.properties.{name} = {file:?}: {e}"))?;
        }
        Ok(())
    }

    /// Checks what can be checked without a broker.
    ///
    /// # Errors
    /// The text of what is wrong, with the setting's name.
    pub fn check(&self) -> Result<(), String> {
        if !self.is_on() {
            return Ok(());
        }
        if self.feeds().next().is_none() {
            return Err("kafka.topics names no topic: kafka.topics.jobs=\"jobs\" feeds the collection jobs from the topic jobs".to_owned());
        }
        if self.group_id.trim().is_empty() {
            return Err("kafka.group_id must not be empty: lag is shown under this name".to_owned());
        }
        let at_least_one = [
            ("kafka.max_batch_records", self.max_batch_records),
            ("kafka.max_value_bytes", self.max_value_bytes),
            ("kafka.prefetch_bytes", self.prefetch_bytes / 1024),
        ];
        if let Some((name, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            let least = if *name == "kafka.prefetch_bytes" { 1024 } else { 1 };
            return Err(format!("{name} must be at least {least}"));
        }
        if let Some((collection, topic)) = self.feeds().find(|(_, topic)| *topic == self.dead_letter_topic) {
            return Err(format!(
                "kafka.dead_letter_topic {topic:?} is the topic that feeds {collection}: it would feed on its own refusals"
            ));
        }
        match self.flat_properties().keys().find(|name| OURS.contains(&name.as_str())) {
            Some(name) => {
                Err(format!("kafka.properties.{name} is set by Kindred: use kafka.brokers and kafka.group_id, leave out the rest"))
            }
            None => Ok(()),
        }
    }
}

/// Properties may hold passwords, so only their names are shown.
impl std::fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("group_id", &self.group_id)
            .field("topics", &self.topics)
            .field("properties", &self.flat_properties().keys())
            .finish_non_exhaustive()
    }
}

fn flatten(prefix: &str, properties: &BTreeMap<String, Property>, into: &mut BTreeMap<String, String>) {
    for (key, value) in properties {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Property::Bool(value) => drop(into.insert(name, value.to_string())),
            Property::Number(value) => drop(into.insert(name, value.to_string())),
            Property::Text(value) => drop(into.insert(name, value.clone())),
            Property::Table(inner) => flatten(&name, inner, into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> KafkaSettings {
        let defaults = "brokers = \"b:9092\"\ngroup_id = \"g\"\nmax_batch_records = 1\nmax_value_bytes = 1\nlinger_ms = 0\nprefetch_bytes = 1024\n\
                        dead_letter_file = \"d\"\ndead_letter_topic = \"dead\"\nready_when_caught_up = false\n";
        toml::from_str(&format!("{defaults}{toml}")).unwrap()
    }

    #[test]
    fn property_names_keep_their_dots() {
        let toml = "[topics]\njobs = \"j\"\nmembers = \"\"\n[properties]\n\"client.id\" = \"k\"\nfetch.wait.max.ms = 5\nsocket.keepalive.enable = true";
        let settings = settings(toml);
        settings.check().unwrap();
        let flat = settings.flat_properties();
        assert_eq!(flat["client.id"], "k");
        assert_eq!((&*flat["fetch.wait.max.ms"], &*flat["socket.keepalive.enable"]), ("5", "true"));
        assert_eq!(settings.feeds().map(|(c, t)| (c.as_str(), t)).collect::<Vec<_>>(), [("jobs", "j")]);
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (toml, word) in [
            ("[topics]", "kafka.topics"),
            ("[topics]\njobs = \"dead\"", "dead_letter_topic"),
            ("[topics]\njobs = \"j\"\n[properties]\nenable.auto.commit = true", "enable.auto.commit"),
        ] {
            let error = settings(toml).check().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let with = |value: &str| settings(&format!("[topics]\njobs = \"j\"\n[properties]\nssl.ca.location = {value:?}"));
        with("probe").check_files().unwrap();
        with("/").check_files().unwrap();
        let error = with("/no/such/ca.pem").check_files().unwrap_err();
        assert!(error.contains("kafka.properties.ssl.ca.location = \"/no/such/ca.pem\""), "{error}");
    }

    #[test]
    fn passwords_are_not_shown() {
        let shown = format!("{:?}", settings("[topics]\njobs = \"j\"\n[properties]\nsasl.password = \"secret\""));
        assert!(shown.contains("sasl.password") && !shown.contains("secret"), "{shown}");
    }
}
