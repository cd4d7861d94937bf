//! How a collection's texts are searched by their words.

use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};

/// The language that words are reduced to their stems in, or what else becomes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Lexical {
    /// Texts are not searched by their words.
    Off,
    /// Words are taken as they stand, in lower case and without accents.
    Plain,
    Arabic,
    Danish,
    Dutch,
    #[default]
    English,
    Finnish,
    French,
    German,
    Greek,
    Hungarian,
    Italian,
    Norwegian,
    Portuguese,
    Romanian,
    Russian,
    Spanish,
    Swedish,
    Tamil,
    Turkish,
}

impl Lexical {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Lexical {
    type Err = serde::de::value::Error;

    /// The same names as in JSON.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::deserialize(name.into_deserializer())
    }
}
