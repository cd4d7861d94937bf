//! A checked definition, compiled to what searches and writes need.

use std::sync::Arc;

use super::CollectionError;
use crate::lexical::Analyzer;
use kindred_core::domain::{CollectionDefinition, CollectionName, FieldId, Role, Schema, Template};

/// What a definition means, checked once.
#[derive(Debug)]
pub struct Meaning {
    pub template: Arc<Template>,
    pub schema: Arc<Schema>,
    /// Makes terms of texts, where they are searched by their words.
    pub(super) analyzer: Option<Arc<Analyzer>>,
}

impl Meaning {
    /// Checks a definition.
    ///
    /// # Errors
    /// [`CollectionError::Definition`].
    pub fn of(name: &CollectionName, definition: &CollectionDefinition) -> Result<Self, CollectionError> {
        let (template, schema) = check_definition(name, definition)?;
        let analyzer = Analyzer::new(definition.lexical, &definition.stop_words).map(Arc::new);
        Ok(Self { template: Arc::new(template), schema: Arc::new(schema), analyzer })
    }

    /// The field that says until when a document is there.
    pub fn expires_at(&self) -> Option<FieldId> {
        self.schema.role(Role::ExpiresAt)
    }
}

/// Checks a definition without making an analyzer.
pub(super) fn check_definition(name: &CollectionName, definition: &CollectionDefinition) -> Result<(Template, Schema), CollectionError> {
    definition.check().map_err(|source| CollectionError::Definition { name: name.to_string(), source })
}

/// The text of a stored document, if that can be read.
pub(super) fn text_of(template: &Template, fields: &str) -> Option<String> {
    serde_json::from_str(fields).ok().map(|fields| template.render(&fields))
}
