//! What a call of a tool brings, read leniently: models write numbers as strings, and leave out by saying null.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::tools::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::http::collections::Named;
use crate::http::error::ApiError;
use crate::http::search::Id;
use kindred_core::error::ErrorKind;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchArguments {
    pub collection: Named,
    pub text: String,
    pub filter: Option<String>,
    #[serde(default = "default_limit", deserialize_with = "limit")]
    pub limit: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchArguments {
    pub from_collection: Named,
    pub id: Id,
    pub to_collection: Named,
    pub filter: Option<String>,
    #[serde(default = "default_limit", deserialize_with = "limit")]
    pub limit: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentArguments {
    pub collection: Named,
    pub id: Id,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainArguments {
    pub collection: Named,
    pub text: String,
    pub id: Id,
    pub filter: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitArguments {
    pub member_id: Id,
    pub job_id: Id,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

/// The arguments of a call.
///
/// # Errors
/// One that is missing, unknown, or not what it should be, by its name.
pub fn read<T: DeserializeOwned>(arguments: Option<Map<String, Value>>) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(Value::Object(arguments.unwrap_or_default())).map_err(|e| {
        let path = e.path().to_string();
        ApiError::new(ErrorKind::Malformed, format!("the arguments cannot be read: {}", e.inner()), (path != ".").then_some(path))
    })
}

fn default_limit() -> usize {
    DEFAULT_LIMIT
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(DEFAULT_LIMIT),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let within = number.and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=MAX_LIMIT).contains(n));
    within.ok_or_else(|| D::Error::custom(format!("limit must be a whole number from 1 to {MAX_LIMIT}, not {value}")))
}
