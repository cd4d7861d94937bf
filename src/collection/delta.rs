//! The changes since the generation, in memory and searched exactly.
//!
//! A delta never changes: the next one shares all with it but the block and the parts of the table of ids that it adds to, so a
//! write costs about as much with a hundred thousand changes as with none.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::domain::{Attributes, DocumentId, FeedPosition, FieldId, Filter, SeqNo, TextHash};
use crate::index::dot;
use crate::wal::{Batch, Operation, StoredDocument};

/// Rows of a block: few enough to copy one with every write, many enough that a list of them is short.
const BLOCK_ROWS: usize = 128;
/// Parts of the table of ids: a write copies those that it adds to.
const PARTS: usize = 256;

/// A document of the delta, but for its embedding.
#[derive(Debug)]
pub struct DeltaDocument {
    pub id: DocumentId,
    pub seqno: SeqNo,
    /// The user's fields without the id, as JSON text.
    pub fields: String,
    pub attributes: Attributes,
    pub text_hash: Option<TextHash>,
}

/// The last change of every document that changed since the generation.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    dims: usize,
    expires_at: Option<FieldId>,
    /// All but the last have [`BLOCK_ROWS`] rows.
    blocks: Vec<Arc<Block>>,
    /// Rows that were replaced or deleted.
    dead: RoaringBitmap,
    n_rows: u32,
    ids: Vec<Arc<HashMap<DocumentId, Slot>>>,
    n_changes: usize,
    /// Where feeds stand, by source.
    positions: Arc<BTreeMap<String, u64>>,
}

#[derive(Debug, Clone, Default)]
struct Block {
    documents: Vec<Arc<DeltaDocument>>,
    /// `[rows × dims]`, unit length.
    vectors: Vec<f32>,
    /// When each row expires, in microseconds since 1970; [`NEVER`].
    expires_at_us: Vec<i64>,
}

const NEVER: i64 = i64::MAX;

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Of its last change.
    pub seqno: SeqNo,
    /// `None` if it was deleted.
    pub row: Option<u32>,
}

/// What a search of a delta found.
#[derive(Debug, Default)]
pub(super) struct FromDelta {
    /// Score and row, the `k` best in no order.
    pub best: Vec<(f32, u32)>,
    pub n_matching: u64,
    /// Documents that are there, whether they match or not.
    pub n_documents: u64,
}

impl Delta {
    /// One without changes, of documents with embeddings of `dims` numbers; `expires_at` is the field that says until when they are there.
    pub fn new(dims: usize, expires_at: Option<FieldId>, positions: BTreeMap<String, u64>) -> Self {
        Self {
            dims,
            expires_at,
            blocks: Vec::new(),
            dead: RoaringBitmap::new(),
            n_rows: 0,
            ids: vec![Arc::default(); PARTS],
            n_changes: 0,
            positions: Arc::new(positions),
        }
    }

    /// Applies a batch of the log.
    pub fn apply(&mut self, batch: Batch) {
        let mut seqno = batch.first_seqno;
        for operation in batch.operations {
            match operation {
                Operation::Upsert { id, document } => self.upsert(id, seqno, document),
                Operation::Delete { id } => self.delete(id, seqno),
            }
            seqno = seqno.next();
        }
        self.note(batch.positions);
    }

    /// Adds a document, or replaces the one with its id.
    pub fn upsert(&mut self, id: DocumentId, seqno: SeqNo, document: StoredDocument) {
        let StoredDocument { fields, attributes, embedding, text_hash } = document;
        let expires_at_us = attributes.expires_at_us(self.expires_at).unwrap_or(NEVER);
        self.add(Arc::new(DeltaDocument { id: id.clone(), seqno, fields, attributes, text_hash }), &embedding, expires_at_us);
        self.put(id, Slot { seqno, row: Some(self.n_rows - 1) });
    }

    /// Notes that a document is not there any more.
    pub fn delete(&mut self, id: DocumentId, seqno: SeqNo) {
        self.put(id, Slot { seqno, row: None });
    }

    /// Notes where feeds stand.
    pub fn note(&mut self, positions: Vec<FeedPosition>) {
        if positions.is_empty() {
            return;
        }
        let all = Arc::make_mut(&mut self.positions);
        for FeedPosition { source, next } in positions {
            match next {
                Some(next) => drop(all.insert(source, next)),
                None => drop(all.remove(&source)),
            }
        }
    }

    fn add(&mut self, document: Arc<DeltaDocument>, embedding: &[f32], expires_at_us: i64) {
        assert_eq!(embedding.len(), self.dims, "an embedding of another model has no place here");
        if (self.n_rows as usize).is_multiple_of(BLOCK_ROWS) {
            self.blocks.push(Arc::default());
        }
        let block = Arc::make_mut(self.blocks.last_mut().expect("there is one for the next row"));
        block.documents.push(document);
        block.vectors.extend_from_slice(embedding);
        block.expires_at_us.push(expires_at_us);
        self.n_rows += 1;
    }

    fn put(&mut self, id: DocumentId, slot: Slot) {
        match Arc::make_mut(&mut self.ids[part(&id)]).insert(id, slot) {
            None => self.n_changes += 1,
            Some(Slot { row: Some(row), .. }) => drop(self.dead.insert(row)),
            Some(Slot { row: None, .. }) => {}
        }
    }

    /// What became of a document, `None` if it did not change.
    pub fn get(&self, id: &DocumentId) -> Option<Slot> {
        self.ids[part(id)].get(id).copied()
    }

    /// The ids of all changed documents and what became of them, in no order.
    pub fn slots(&self) -> impl Iterator<Item = (&DocumentId, Slot)> {
        self.ids.iter().flat_map(|part| part.iter()).map(|(id, slot)| (id, *slot))
    }

    /// The rows of the documents that are there, oldest first.
    pub fn rows(&self) -> impl Iterator<Item = u32> {
        (0..self.n_rows).filter(|row| !self.dead.contains(*row))
    }

    pub fn document(&self, row: u32) -> &Arc<DeltaDocument> {
        &self.blocks[block(row)].documents[place(row)]
    }

    /// `[dims]`, unit length.
    pub fn embedding(&self, row: u32) -> &[f32] {
        &self.blocks[block(row)].vectors[place(row) * self.dims..][..self.dims]
    }

    /// Whether a document has expired.
    pub fn is_expired(&self, row: u32, now_us: i64) -> bool {
        self.blocks[block(row)].expires_at_us[place(row)] <= now_us
    }

    /// Documents that have expired and are still there.
    pub fn expired(&self, now_us: i64) -> impl Iterator<Item = u32> {
        self.rows().filter(move |row| self.is_expired(*row, now_us))
    }

    /// Changed documents, the deleted ones too.
    pub fn len(&self) -> usize {
        self.n_changes
    }

    /// Documents that are there.
    pub fn n_documents(&self) -> u64 {
        u64::from(self.n_rows) - self.dead.len()
    }

    /// Where feeds stand, by source.
    pub fn positions(&self) -> &BTreeMap<String, u64> {
        &self.positions
    }

    /// The best documents that match, compared one by one. `query` is `[dims]`, unit length.
    pub fn search(&self, query: &[f32], k: usize, filter: Option<&Filter>, exclude: Option<u32>, now_us: i64) -> FromDelta {
        let mut found = FromDelta::default();
        for (first, block) in (0u32..).step_by(BLOCK_ROWS).zip(&self.blocks) {
            let rows = block.documents.iter().zip(&block.expires_at_us).zip(block.vectors.chunks_exact(self.dims));
            for (row, ((document, &expires_at_us), vector)) in (first..).zip(rows) {
                if expires_at_us <= now_us || Some(row) == exclude || self.dead.contains(row) {
                    continue;
                }
                found.n_documents += 1;
                if filter.is_none_or(|filter| filter.matches(&document.attributes)) {
                    found.best.push((dot(query, vector), row));
                }
            }
        }
        found.n_matching = found.best.len() as u64;
        // Only the best are put in order later: the delta may be large, and every query comes through here.
        if found.best.len() > k {
            found.best.select_nth_unstable_by(k, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            found.best.truncate(k);
        }
        found
    }
}

fn part(id: &DocumentId) -> usize {
    crc32fast::hash(id.as_str().as_bytes()) as usize % PARTS
}

fn block(row: u32) -> usize {
    row as usize / BLOCK_ROWS
}

fn place(row: u32) -> usize {
    row as usize % BLOCK_ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> DocumentId {
        DocumentId::new(n.to_string()).unwrap()
    }

    fn document(x: f32) -> StoredDocument {
        let embedding = vec![x, (1.0 - x * x).sqrt()];
        StoredDocument { fields: x.to_string(), attributes: Attributes::default(), embedding, text_hash: None }
    }

    #[test]
    fn an_older_delta_stays_what_it_was() {
        let mut delta = Delta::new(2, None, BTreeMap::new());
        (0..300).for_each(|n| delta.upsert(id(n), SeqNo(u64::from(n) + 1), document(n as f32 / 300.0)));
        let before = delta.clone();
        delta.upsert(id(299), SeqNo(301), document(0.0));
        delta.delete(id(298), SeqNo(302));
        delta.upsert(id(300), SeqNo(303), document(0.999));
        let best = |delta: &Delta| {
            let found = delta.search(&[1.0, 0.0], 2, None, None, 0);
            let mut ids: Vec<String> = found.best.iter().map(|&(_, row)| delta.document(row).id.to_string()).collect();
            ids.sort();
            (ids, found.n_matching, delta.len())
        };
        assert_eq!(best(&before), (vec!["298".to_owned(), "299".to_owned()], 300, 300));
        assert_eq!(best(&delta), (vec!["297".to_owned(), "300".to_owned()], 300, 301));
    }
}
