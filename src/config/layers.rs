//! The sources of the settings, one over the other: for each value the last one that says it counts.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{ConfigError, DEFAULT_TOML, Sources};

/// Read from the working folder when it is there and no other file is named.
const USUAL_FILE: &str = "kindred.toml";
/// `KINDRED__SECTION__KEY`.
const ENVIRONMENT_PREFIX: &str = "KINDRED__";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    /// A variable.
    Environment(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// All sources, from the defaults on; a later one beats those before it.
#[derive(Debug, Clone)]
pub struct Layers(Vec<(Origin, Table)>);

impl Layers {
    /// Reads the sources.
    ///
    /// # Errors
    /// [`ConfigError`] says which of them cannot be read.
    pub fn read(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let mut layers = vec![(Origin::Default, parse("config/default.toml", DEFAULT_TOML)?)];
        let usual = Path::new(USUAL_FILE);
        if let Some(path) = sources.file.or_else(|| usual.exists().then_some(usual)) {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            layers.push((Origin::File(path.to_owned()), parse(&path.display().to_string(), &text)?));
        }
        for (name, value) in &sources.environment {
            if let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) {
                let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
                layers.push((Origin::Environment(name.clone()), nest(&path, read_value(value))));
            }
        }
        for flag in &sources.flags {
            let (key, value) = flag.split_once('=').ok_or_else(|| ConfigError::Flag(flag.clone()))?;
            let path: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
            layers.push((Origin::Flag, nest(&path, read_value(value))));
        }
        Ok(Self(layers))
    }

    /// The settings as they are after all sources, not yet checked.
    pub fn merged(&self) -> Table {
        let mut merged = Table::new();
        self.0.iter().for_each(|(_, table)| merge(&mut merged, table.clone()));
        merged
    }

    /// Where the value at a path comes from, `None` if no source says it.
    pub fn origin(&self, path: &[&str]) -> Option<&Origin> {
        let (first, rest) = path.split_first()?;
        let says = |table: &Table| rest.iter().try_fold(table.get(*first)?, |value, key| value.get(*key)).map(|_| ());
        self.0.iter().rev().find(|(_, table)| says(table).is_some()).map(|(origin, _)| origin)
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
