//! All documents of a collection in memory, as they go into a generation.

use super::Description;
use kindred_core::domain::{Attributes, DocumentId, SeqNo, TextHash};

/// All that goes into a generation, row by row.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    pub description: Description,
    pub ids: Vec<DocumentId>,
    /// Of each document's last change.
    pub seqnos: Vec<SeqNo>,
    /// The users' fields without the id, as JSON text.
    pub fields: Vec<String>,
    pub attributes: Vec<Attributes>,
    /// Of the sources of the embeddings.
    pub text_hashes: Vec<TextHash>,
    /// `[vectors × dims]`, unit length; those of a row together, in the order of the rows.
    pub vectors: Vec<f32>,
    /// How many vectors each row has.
    pub n_chunks: Vec<u32>,
    /// Where feeds stand, by source.
    pub positions: Vec<(String, u64)>,
}

impl Contents {
    /// Gives some rows, ascending, other embeddings: `[chunks × dims]` each. Those of other rows stay; they must be of as many dims.
    pub fn replace(&mut self, rows: &[usize], embeddings: &[Vec<f32>], dims: usize) {
        let mut replaced = rows.iter().zip(embeddings).peekable();
        let old_dims = self.description.model.dims;
        let (mut vectors, mut end) = (Vec::with_capacity(self.ids.len() * dims), 0);
        for row in 0..self.ids.len() {
            let start = end;
            end += self.n_chunks[row] as usize * old_dims;
            match replaced.next_if(|(stale, _)| **stale == row) {
                Some((_, embedding)) => {
                    vectors.extend_from_slice(embedding);
                    self.n_chunks[row] = (embedding.len() / dims) as u32;
                }
                None => {
                    assert_eq!(dims, old_dims, "an embedding of another model has no place here");
                    vectors.extend_from_slice(&self.vectors[start..end]);
                }
            }
        }
        self.vectors = vectors;
    }
}
