//! The changes since the generation, in memory and searched exactly.
//!
//! A delta never changes: the next one shares all with it but the blocks and the parts of the table of ids that it adds to, and a
//! bit a row, so a write costs about as much with a hundred thousand changes as with none.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Meaning;
use super::definition::text_of;
use crate::lexical::{Analyzer, AppendedTerms, LexicalQuery, Matches, Terms};
use crate::wal::{Batch, Operation, StoredDocument};
use kindred_core::domain::{Attributes, Candidate, DocumentId, FeedPosition, FieldId, Filter, Schema, SeqNo, Template, TextHash};
use kindred_index::{AppendedAttributes, AppendedVectors, BLOCK_ROWS, FilterDeadline, IndexError, dot};

/// Blocks whose attributes become columns together: few enough that those behind are soon judged document by document, many enough
/// that there are few columns to look into.
const COLUMN_BLOCKS: usize = 16;
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
    pub text_hash: TextHash,
    /// Of its text, where texts are searched by their words.
    terms: Option<Terms>,
}

/// The last change of every document that changed since the generation.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    schema: Arc<Schema>,
    expires_at: Option<FieldId>,
    vectors: AppendedVectors,
    /// The documents of those rows; all but the last have [`BLOCK_ROWS`].
    blocks: Vec<Arc<Block>>,
    /// For filters: of the first [`COLUMN_BLOCKS`] blocks, of the next, …
    columns: Vec<Arc<AppendedAttributes>>,
    /// For searches by words: of the same blocks.
    terms: Vec<Arc<AppendedTerms>>,
    /// What makes terms of a document, where texts are searched by their words.
    template: Arc<Template>,
    analyzer: Option<Arc<Analyzer>>,
    /// Rows that were neither replaced nor deleted: a word a block, the first row in the lowest bit.
    live: Vec<u128>,
    ids: Vec<Arc<HashMap<DocumentId, Slot>>>,
    n_changes: usize,
    /// Where feeds stand, by source.
    positions: Arc<BTreeMap<String, u64>>,
}

#[derive(Debug, Clone)]
struct Block {
    documents: Vec<Arc<DeltaDocument>>,
    /// When each row expires, in microseconds since 1970; [`NEVER`].
    expires_at_us: Vec<i64>,
    /// The least of these.
    first_expires_at_us: i64,
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

/// The documents of a delta that a search may find.
#[derive(Debug)]
pub(super) struct AllowedInDelta {
    /// A word a block.
    rows: Vec<u128>,
    /// Documents that are there, whether they match or not.
    pub n_documents: u64,
}

impl AllowedInDelta {
    pub fn contains(&self, row: u32) -> bool {
        self.rows[block(row)] >> place(row) & 1 == 1
    }

    /// How many they are.
    pub fn len(&self) -> u64 {
        count(&self.rows)
    }
}

impl Delta {
    /// One without changes, of documents with embeddings of `dims` numbers.
    pub fn new(dims: usize, meaning: &Meaning, positions: BTreeMap<String, u64>) -> Self {
        Self {
            schema: Arc::clone(&meaning.schema),
            expires_at: meaning.expires_at(),
            columns: Vec::new(),
            terms: Vec::new(),
            template: Arc::clone(&meaning.template),
            analyzer: meaning.analyzer.clone(),
            vectors: AppendedVectors::new(dims),
            blocks: Vec::new(),
            live: Vec::new(),
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
        let row = self.vectors.n_rows();
        self.vectors.push(&embedding);
        let terms = self.analyzer.as_ref().map(|analyzer| Terms::new(analyzer, &text_of(&self.template, &fields).unwrap_or_default()));
        self.add(Arc::new(DeltaDocument { id: id.clone(), seqno, fields, attributes, text_hash, terms }), expires_at_us);
        self.put(id, Slot { seqno, row: Some(row) });
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

    fn add(&mut self, document: Arc<DeltaDocument>, expires_at_us: i64) {
        if self.blocks.last().is_none_or(|block| block.documents.len() == BLOCK_ROWS) {
            self.blocks.push(Arc::new(Block { documents: Vec::new(), expires_at_us: Vec::new(), first_expires_at_us: NEVER }));
            self.live.push(0);
        }
        let (Some(block), Some(live)) = (self.blocks.last_mut(), self.live.last_mut()) else { unreachable!("there is one for the row") };
        let block = Arc::make_mut(block);
        *live |= 1 << block.documents.len();
        block.documents.push(document);
        block.expires_at_us.push(expires_at_us);
        block.first_expires_at_us = block.first_expires_at_us.min(expires_at_us);
        let first = self.columns.len() * COLUMN_BLOCKS;
        let behind = &self.blocks[first..];
        if behind.len() == COLUMN_BLOCKS && behind[COLUMN_BLOCKS - 1].documents.len() == BLOCK_ROWS {
            let attributes: Vec<&Attributes> = behind.iter().flat_map(|b| &b.documents).map(|document| &document.attributes).collect();
            self.columns.push(Arc::new(AppendedAttributes::new(&attributes, &self.schema)));
            if self.analyzer.is_some() {
                let terms = behind.iter().flat_map(|b| &b.documents).filter_map(|document| document.terms.as_ref());
                self.terms.push(Arc::new(AppendedTerms::new(terms)));
            }
        }
    }

    fn put(&mut self, id: DocumentId, slot: Slot) {
        match Arc::make_mut(&mut self.ids[part(&id)]).insert(id, slot) {
            None => self.n_changes += 1,
            Some(Slot { row: Some(row), .. }) => self.live[block(row)] &= !(1 << place(row)),
            Some(Slot { row: None, .. }) => {}
        }
    }

    /// What became of a document, `None` if it did not change.
    pub fn get(&self, id: &DocumentId) -> Option<Slot> {
        self.ids[part(id)].get(id).copied()
    }

    /// The rows of the documents that were neither replaced nor deleted, oldest first.
    pub fn rows(&self) -> impl Iterator<Item = u32> {
        rows_of(self.live.iter().copied())
    }

    pub fn document(&self, row: u32) -> &Arc<DeltaDocument> {
        &self.blocks[block(row)].documents[place(row)]
    }

    /// `[chunks × dims]`, unit length.
    pub fn embeddings(&self, row: u32) -> &[f32] {
        self.vectors.vectors(row)
    }

    /// Vectors of all rows, those of replaced and deleted documents too.
    pub fn n_vectors(&self) -> u64 {
        self.vectors.n_vectors()
    }

    /// Whether a document has expired.
    pub fn is_expired(&self, row: u32, now_us: i64) -> bool {
        self.blocks[block(row)].expires_at_us[place(row)] <= now_us
    }

    /// Documents that have expired and are still there.
    pub fn expired(&self, now_us: i64) -> impl Iterator<Item = u32> {
        rows_of((0..self.blocks.len()).map(move |n| self.live[n] & !self.there(n, now_us)))
    }

    /// The documents that match a filter, oldest first.
    ///
    /// # Errors
    /// [`IndexError::NotIndexed`], [`IndexError::FilterTimeout`].
    pub fn matching(
        &self,
        filter: &Filter,
        now_us: i64,
        deadline: FilterDeadline,
    ) -> Result<impl Iterator<Item = u32> + use<>, IndexError> {
        let mut rows: Vec<u128> = (0..self.blocks.len()).map(|n| self.there(n, now_us)).collect();
        self.keep_matching(&mut rows, filter, deadline)?;
        Ok(rows_of(rows.into_iter()))
    }

    /// Changed documents, the deleted ones too.
    pub fn len(&self) -> usize {
        self.n_changes
    }

    /// Documents that are there.
    pub fn n_documents(&self) -> u64 {
        count(&self.live)
    }

    /// Where feeds stand, by source.
    pub fn positions(&self) -> &BTreeMap<String, u64> {
        &self.positions
    }

    /// The documents that a search may find.
    ///
    /// # Errors
    /// [`IndexError::NotIndexed`], [`IndexError::FilterTimeout`].
    pub fn allowed(
        &self,
        filter: Option<&Filter>,
        exclude: Option<u32>,
        now_us: i64,
        deadline: FilterDeadline,
    ) -> Result<AllowedInDelta, IndexError> {
        let mut allowed: Vec<u128> = (0..self.blocks.len()).map(|block| self.there(block, now_us)).collect();
        if let Some(row) = exclude {
            allowed[block(row)] &= !(1 << place(row));
        }
        let n_documents = count(&allowed);
        if let Some(filter) = filter {
            self.keep_matching(&mut allowed, filter, deadline)?;
        }
        Ok(AllowedInDelta { rows: allowed, n_documents })
    }

    /// The `k` best of some documents, best first, compared one by one. `query` is `[dims]`, unit length.
    pub fn search(&self, query: &[f32], k: usize, allowed: &AllowedInDelta) -> Vec<Candidate> {
        self.vectors.search(query, k, &allowed.rows)
    }

    /// The score of one document: the dot product with the best of its embeddings. `query` is `[dims]`, unit length.
    pub fn score(&self, query: &[f32], row: u32) -> f32 {
        self.embeddings(row).chunks_exact(query.len()).map(|embedding| dot(query, embedding)).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Which documents have a query's terms, those that were replaced or deleted too.
    pub fn matches(&self, query: &LexicalQuery) -> Matches {
        let mut matches = Matches::new(query);
        self.terms.iter().for_each(|terms| matches.look_into(terms));
        let behind = self.blocks[self.terms.len() * COLUMN_BLOCKS..].iter().flat_map(|block| &block.documents);
        behind.filter_map(|document| document.terms.as_ref()).for_each(|terms| matches.look_at(terms));
        matches
    }

    /// Removes the rows that do not match. `rows` has a word for each block.
    fn keep_matching(&self, rows: &mut [u128], filter: &Filter, deadline: FilterDeadline) -> Result<(), IndexError> {
        let in_columns = self.columns.len() * COLUMN_BLOCKS;
        let (rows, behind) = rows.split_at_mut(in_columns);
        for (rows, columns) in rows.chunks_mut(COLUMN_BLOCKS).zip(&self.columns) {
            rows.iter_mut().zip(columns.matching(filter, deadline)?).for_each(|(rows, matching)| *rows &= matching);
        }
        let matches = |document: &DeltaDocument, _| filter.matches(&document.attributes);
        for (rows, block) in behind.iter_mut().zip(&self.blocks[in_columns..]) {
            deadline.check()?;
            *rows = block.keep(*rows, matches);
        }
        Ok(())
    }

    /// The rows of a block that are there.
    fn there(&self, n: usize, now_us: i64) -> u128 {
        let block = &self.blocks[n];
        // Most collections have no document that expires soon.
        if block.first_expires_at_us > now_us { self.live[n] } else { block.keep(self.live[n], |_, expires_at_us| expires_at_us > now_us) }
    }
}

impl Block {
    /// Those of some rows that are wanted.
    fn keep(&self, rows: u128, is_wanted: impl Fn(&DeltaDocument, i64) -> bool) -> u128 {
        let is_wanted = |place: &usize| rows >> place & 1 == 1 && is_wanted(&self.documents[*place], self.expires_at_us[*place]);
        (0..self.documents.len()).filter(is_wanted).fold(0, |kept, place| kept | 1 << place)
    }
}

fn part(id: &DocumentId) -> usize {
    crc32fast::hash(id.as_str().as_bytes()) as usize % PARTS
}

/// The rows whose bits are set: a word a block, the first row in the lowest bit.
fn rows_of(blocks: impl Iterator<Item = u128>) -> impl Iterator<Item = u32> {
    let rows = |(block, rows): (usize, u128)| {
        (0..BLOCK_ROWS).filter(move |place| rows >> place & 1 == 1).map(move |place| (block * BLOCK_ROWS + place) as u32)
    };
    blocks.enumerate().flat_map(rows)
}

fn count(rows: &[u128]) -> u64 {
    rows.iter().map(|rows| u64::from(rows.count_ones())).sum()
}

fn block(row: u32) -> usize {
    row as usize / BLOCK_ROWS
}

fn place(row: u32) -> usize {
    row as usize % BLOCK_ROWS
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use kindred_core::domain::{CollectionName, Document};

    fn id(n: u32) -> DocumentId {
        DocumentId::new(n.to_string()).unwrap()
    }

    fn meaning() -> Meaning {
        let fields = json!({"title": {"type": "text"}, "kind": {"type": "number", "index": true}});
        let definition = serde_json::from_value(json!({"template": "{title}", "fields": fields})).unwrap();
        Meaning::of(&CollectionName::new("jobs").unwrap(), &definition).unwrap()
    }

    fn document(x: f32, kind: u32) -> StoredDocument {
        let Meaning { template, schema, .. } = meaning();
        let fields = json!({"id": "x", "title": "x", "kind": kind});
        let attributes = Document::parse(fields, &schema, &template, 100).unwrap().attributes;
        StoredDocument { fields: x.to_string(), attributes, embedding: vec![x, (1.0 - x * x).sqrt()], text_hash: TextHash::of("x") }
    }

    #[test]
    fn an_older_delta_stays_what_it_was() {
        let mut delta = Delta::new(2, &meaning(), BTreeMap::new());
        (0..300).for_each(|n| delta.upsert(id(n), SeqNo(u64::from(n) + 1), document(n as f32 / 300.0, 0)));
        let before = delta.clone();
        delta.upsert(id(299), SeqNo(301), document(0.0, 0));
        delta.delete(id(298), SeqNo(302));
        delta.upsert(id(300), SeqNo(303), document(0.999, 0));
        let best = |delta: &Delta| {
            let allowed = delta.allowed(None, None, 0, FilterDeadline::start(None)).unwrap();
            let found = delta.search(&[1.0, 0.0], 2, &allowed);
            let mut ids: Vec<String> = found.iter().map(|found| delta.document(found.row).id.to_string()).collect();
            ids.sort();
            (ids, allowed.len(), delta.len())
        };
        assert_eq!(best(&before), (vec!["298".to_owned(), "299".to_owned()], 300, 300));
        assert_eq!(best(&delta), (vec!["297".to_owned(), "300".to_owned()], 300, 301));
    }

    #[test]
    fn filters_find_the_same_in_columns_and_behind_them() {
        let rows_in_columns = (COLUMN_BLOCKS * BLOCK_ROWS) as u32;
        let mut delta = Delta::new(2, &meaning(), BTreeMap::new());
        let filter = Filter::parse(&json!({"must": [{"key": "kind", "match": {"value": 3}}]}), &meaning().schema).unwrap();
        for n in 0..2 * rows_in_columns + 2 {
            // Every third is replaced by one of another kind, before its columns are made or after.
            let kind = n % 5;
            delta.upsert(id(n), SeqNo(1), document(0.5, kind));
            if n % 3 == 0 {
                delta.upsert(id(n / 2), SeqNo(2), document(0.6, kind + 1));
            }
            if [0, 1, rows_in_columns, rows_in_columns + 1, 2 * rows_in_columns].contains(&n) || n % 1_000 == 7 {
                let expected = delta.rows().filter(|row| filter.matches(&delta.document(*row).attributes)).count();
                let allowed = delta.allowed(Some(&filter), None, 0, FilterDeadline::start(None)).unwrap();
                let found = delta.search(&[1.0, 0.0], 10_000, &allowed);
                assert_eq!((allowed.len(), found.len()), (expected as u64, expected), "after {n}");
                assert!(found.iter().all(|c| filter.matches(&delta.document(c.row).attributes)));
                assert_eq!(delta.matching(&filter, 0, FilterDeadline::start(None)).unwrap().count(), expected);
            }
        }
        assert!(delta.columns.len() >= 2);
    }
}
