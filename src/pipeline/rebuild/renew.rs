//! Brings stored documents into another epoch: attributes are read again from the stored fields, and a document is embedded again
//! where its embedding would be another.

use serde_json::{Map, Value as Json};

use super::{RebuildPipeline, ShowProgress};
use crate::collection::{Contents, Description, ForeignDocument, Meaning, StoredDocument};
use crate::pipeline::PipelineError;
use kindred_core::domain::{Attributes, CollectionName, Document, DocumentError, DocumentId, Epoch, TextHash};

/// Texts that are embedded in one call.
const ENCODED_AT_ONCE: usize = 256;

/// A stored document in another epoch.
struct Renewed {
    attributes: Attributes,
    text_hash: TextHash,
    /// The text to embed; `None` if the stored embedding stays.
    text: Option<String>,
}

/// Computes what becomes of a stored document in the epoch of a definition. A given embedding stays as long as the model does.
fn renew(
    id: &DocumentId,
    fields: &str,
    text_hash: TextHash,
    (from, to): (Epoch, Epoch),
    meaning: &Meaning,
    max_text_bytes: usize,
) -> Result<Renewed, PipelineError> {
    let fields: Map<String, Json> =
        serde_json::from_str(fields).map_err(|e| PipelineError::StoredDocument { id: id.to_string(), reason: e.to_string() })?;
    let does_not_fit = |source| PipelineError::DoesNotFit { id: id.to_string(), source };
    let document = Document::from_fields(id.clone(), fields, &meaning.schema, &meaning.template, max_text_bytes).map_err(does_not_fit)?;
    let is_same_text = from.chunking == to.chunking && text_hash == TextHash::of(&document.text);
    if from.model == to.model && (text_hash.is_given() || is_same_text) {
        return Ok(Renewed { attributes: document.attributes, text_hash, text: None });
    }
    if document.text.is_empty() {
        return Err(does_not_fit(DocumentError::EmptyText));
    }
    Ok(Renewed { attributes: document.attributes, text_hash: TextHash::of(&document.text), text: Some(document.text) })
}

impl RebuildPipeline {
    /// Brings documents of the log into the epoch of a description, for an activation.
    pub(super) fn renew_logged(
        &self,
        name: &CollectionName,
        description: &Description,
        foreign: &[ForeignDocument],
    ) -> Result<Vec<StoredDocument>, PipelineError> {
        let meaning = Meaning::of(name, &description.definition)?;
        let mut documents = Vec::with_capacity(foreign.len());
        let (mut stale, mut texts) = (Vec::new(), Vec::new());
        for ForeignDocument { id, epoch, document, .. } in foreign {
            let epochs = (*epoch, description.epoch());
            let renewed = renew(id, &document.fields, document.text_hash, epochs, &meaning, self.limits.max_text_bytes)?;
            if let Some(text) = renewed.text {
                stale.push(documents.len());
                texts.push(text);
            }
            documents.push(StoredDocument { attributes: renewed.attributes, text_hash: renewed.text_hash, ..document.clone() });
        }
        let embeddings = self.embed(description, &texts, |_| Ok(()))?;
        for (at, embedding) in stale.into_iter().zip(embeddings) {
            documents[at].embedding = embedding;
        }
        Ok(documents)
    }

    /// Brings all documents of a collection into the epoch of a description. Returns how many were embedded again.
    pub(super) fn renew_contents(
        &self,
        name: &CollectionName,
        contents: &mut Contents,
        wanted: Description,
        show: ShowProgress<'_>,
    ) -> Result<usize, PipelineError> {
        let meaning = Meaning::of(name, &wanted.definition)?;
        let epochs = (contents.description.epoch(), wanted.epoch());
        let (mut stale, mut texts) = (Vec::new(), Vec::new());
        for (row, id) in contents.ids.iter().enumerate() {
            let renewed = renew(id, &contents.fields[row], contents.text_hashes[row], epochs, &meaning, self.limits.max_text_bytes)?;
            if let Some(text) = renewed.text {
                stale.push(row);
                texts.push(text);
            }
            contents.attributes[row] = renewed.attributes;
            contents.text_hashes[row] = renewed.text_hash;
        }
        if !stale.is_empty() {
            let progress = show(&format!("embedding {name}"), stale.len() as u64);
            let embedded = self.embed(&wanted, &texts, |n| {
                progress.advance(n as u64);
                if progress.is_cancelled() { Err(PipelineError::Cancelled { kept: "nothing was changed" }) } else { Ok(()) }
            })?;
            progress.finish();
            contents.replace(&stale, &embedded, wanted.model.dims);
        }
        contents.description = wanted;
        Ok(stale.len())
    }

    /// Embeds texts of documents; `after_part` learns how many each call has embedded, and may end it.
    fn embed(
        &self,
        description: &Description,
        texts: &[String],
        after_part: impl Fn(usize) -> Result<(), PipelineError>,
    ) -> Result<Vec<Vec<f32>>, PipelineError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let encoder = self.encoders.of(description)?;
        let prompt = encoder.document_prompt(&description.definition.document_prompt);
        let mut embeddings = Vec::with_capacity(texts.len());
        for part in texts.chunks(ENCODED_AT_ONCE) {
            embeddings.extend(encoder.encode_documents(prompt, part, &description.definition.chunks)?);
            after_part(part.len())?;
        }
        Ok(embeddings)
    }
}
