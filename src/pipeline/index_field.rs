//! A field of a collection becomes filterable: its definition with the field, and a generation of it, built in the background.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{PipelineError, RebuildPipeline, RebuildRequest, Task};
use crate::collection::CollectionError;
use kindred_core::domain::{CollectionDefinition, CollectionName, FieldSpec, FieldType};

impl RebuildPipeline {
    /// Makes a field filterable. Embeddings stay; values of the field are read from the stored documents. Returns the task that builds, or
    /// `None` where the field is filterable already.
    ///
    /// # Errors
    /// [`PipelineError::FieldTaken`] by another type, [`PipelineError::DefinedElsewhere`]; what is wrong with the name. The task fails where
    /// a document has a value of another type.
    pub fn index_field(self: &Arc<Self>, name: &CollectionName, field: &str, of: FieldType) -> Result<Option<Arc<Task>>, PipelineError> {
        let collection = self.collections.get(name)?;
        let mut definition = collection.searcher().description().definition.clone();
        match definition.fields.get(field) {
            Some(spec) if spec.field_type == of && spec.index => return Ok(None),
            Some(spec) if spec.field_type != of => {
                return Err(PipelineError::FieldTaken { field: field.to_owned(), has: spec.field_type, wanted: of });
            }
            _ if self.collections.is_configured(name) => {
                return Err(PipelineError::DefinedElsewhere { collection: name.to_string(), field: field.to_owned() });
            }
            _ => {}
        }
        let index = BTreeMap::from([(field.to_owned(), of)]);
        add(&mut definition, &index);
        definition.check().map_err(|source| CollectionError::Definition { name: name.to_string(), source })?;
        let request = RebuildRequest { index, ..RebuildRequest::default() };
        let (this, name) = (Arc::clone(self), name.clone());
        let work = move |task: &Arc<Task>| {
            let collection = this.collections.get(&name)?;
            let _turn = this.turn();
            this.build_for(task, &collection, &request, false)
        };
        self.tasks.start("index_field", Some(collection.name().to_string()), work).map(Some)
    }
}

/// Adds filterable fields to a definition.
pub(super) fn add(definition: &mut CollectionDefinition, index: &BTreeMap<String, FieldType>) {
    for (name, field_type) in index {
        let spec = FieldSpec { field_type: *field_type, index: true, role: None };
        definition.fields.entry(name.clone()).or_insert(spec).index = true;
    }
}
