//! `kindred config check`: the settings as they are after all sources, and where each comes from.

use std::fmt::Write;

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use toml::{Table, Value};

use crate::config::{Layers, Origin, Settings};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check all settings, and print them as TOML: defaults, file, environment and flags put together, each with where it comes from
    #[command(
        after_help = "Example:\n  kindred config check --config my.toml --set search.ef_search=300\n  kindred config check --json | jq '.settings[] | select(.origin != \"default\")'\n\nWhat is secret (passwords, keys, tokens) is not shown. Exit code 1 if a setting cannot be used."
    )]
    Check {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Words in the names of settings whose values nobody should read over a shoulder.
const SECRET: [&str; 6] = ["password", "secret", "api_key", "token", "credential", "jaas"];
const HIDDEN: &str = "(not shown)";
/// Longer tables get a section of their own.
const INLINE_CHARS: usize = 110;

/// Checks and prints.
///
/// # Errors
/// A setting that cannot be used.
pub fn run(layers: &Layers, command: &ConfigCommand) -> Result<()> {
    let ConfigCommand::Check { json } = command;
    Settings::of(layers)?;
    let mut merged = layers.merged();
    redact(&mut merged);
    if *json {
        let mut all = Vec::new();
        leaves(&merged, &mut Vec::new(), &mut |path, value| {
            all.push(json!({"key": written(path), "value": value, "origin": origin(layers, path).to_string()}));
        });
        println!("{}", serde_json::to_string_pretty(&json!({"settings": all}))?);
    } else {
        let mut text = String::new();
        section(layers, &merged, &mut Vec::new(), &mut text);
        print!("{}", text.trim_start());
    }
    Ok(())
}

fn origin<'a>(layers: &'a Layers, path: &[&str]) -> &'a Origin {
    layers.origin(path).expect("what is merged comes from somewhere")
}

/// A table: its values, then those of its tables that are too large to stand in a line.
fn section<'a>(layers: &Layers, table: &'a Table, path: &mut Vec<&'a str>, text: &mut String) {
    let mut sections = Vec::new();
    let mut has_header = false;
    for (key, value) in table {
        path.push(key);
        match (inline(layers, value, path), value) {
            (None, Value::Table(inner)) => sections.push((key, inner)),
            (None, _) => unreachable!("what is no table stands in a line"),
            (Some((value, origin)), _) => {
                if !has_header && path.len() > 1 {
                    let _ = writeln!(text, "\n[{}]", written(&path[..path.len() - 1]));
                }
                has_header = true;
                let line = format!("{} = {value}", written(&[key]));
                let _ = writeln!(text, "{line:<60} # {origin}");
            }
        }
        path.pop();
    }
    for (key, inner) in sections {
        path.push(key);
        section(layers, inner, path, text);
        path.pop();
    }
}

/// A small table of a collection, of which all comes from one place, as one line; any other value as it is.
fn inline<'a>(layers: &Layers, value: &'a Value, path: &mut Vec<&'a str>) -> Option<(String, Origin)> {
    let Value::Table(table) = value else { return Some((value.to_string(), origin(layers, path).clone())) };
    if path.len() < 3 || table.values().any(Value::is_table) {
        return None;
    }
    let mut origins: Vec<Origin> = Vec::new();
    leaves(table, path, &mut |path, _| origins.push(origin(layers, path).clone()));
    let text =
        format!("{{ {} }}", table.iter().map(|(key, value)| format!("{} = {value}", written(&[key]))).collect::<Vec<_>>().join(", "));
    let first = origins.first()?;
    (origins.iter().all(|origin| origin == first) && text.chars().count() <= INLINE_CHARS).then(|| (text, first.clone()))
}

/// Every value that is no table, with its path.
fn leaves<'a>(table: &'a Table, path: &mut Vec<&'a str>, look: &mut impl FnMut(&[&'a str], &Value)) {
    for (key, value) in table {
        path.push(key);
        match value {
            Value::Table(inner) => leaves(inner, path, look),
            value => look(path, value),
        }
        path.pop();
    }
}

/// A path with dots, quoted where TOML wants that.
fn written(path: &[&str]) -> String {
    let is_bare = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    path.iter().map(|key| if is_bare(key) { (*key).to_owned() } else { Value::from(*key).to_string() }).collect::<Vec<_>>().join(".")
}

fn redact(table: &mut Table) {
    for (key, value) in table {
        let is_secret = SECRET.iter().any(|word| key.to_lowercase().contains(word));
        hide(value, is_secret);
    }
}

/// Numbers and switches are no secrets, whatever they are called (`max_tokens`), nor is what is empty.
fn hide(value: &mut Value, is_secret: bool) {
    match value {
        Value::Table(table) if is_secret => table.iter_mut().for_each(|(_, value)| hide(value, true)),
        Value::Table(table) => redact(table),
        Value::Array(values) => values.iter_mut().for_each(|value| match value {
            Value::Table(table) if !is_secret => redact(table),
            value => hide(value, is_secret),
        }),
        Value::String(text) if is_secret && !text.is_empty() => HIDDEN.clone_into(text),
        // https://user:password@host
        Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://")
                && let Some((_, host)) = rest.split_once('@')
            {
                *text = format!("{scheme}://{HIDDEN}@{host}");
            }
        }
        _ => {}
    }
}
