//! The terms of a generation's documents, by tantivy: which documents have a term, and how often.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt;
use std::path::Path;

use tantivy::directory::{OwnedBytes, RamDirectory};
use tantivy::postings::Postings;
use tantivy::query::{Bm25StatisticsProvider, BooleanQuery, BoostQuery, EnableScoring, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::store::Compressor;
use tantivy::tokenizer::TokenizerManager;
use tantivy::{
    Directory, DocSet, Index, IndexReader, IndexSettings, ReloadPolicy, SegmentReader, SingleSegmentIndexWriter, TantivyDocument, Term,
};

use super::packed::{PackedDirectory, pack};
use super::{Analyzer, Bm25, LexicalError, LexicalQuery, Statistics};
use kindred_core::domain::{Candidate, best_first};
use kindred_core::error::unless_it_panics;

/// The file of a generation.
pub const LEXICAL_FILE: &str = "lexical.bin";

const TEXT: &str = "text";
const TOKENIZER: &str = "kindred";
const META: &str = "meta.json";
/// What tantivy draws at random for the name of a segment: always this, so that equal documents make equal files.
const SEGMENT: &str = "00000000000000000000000000000001";
/// Memory that the terms' table begins with.
const TABLE_BYTES: usize = 32 << 20;
/// Tantivy's addresses in that memory end at 4 GiB.
const MAX_BYTES: usize = 7 << 29;

fn schema() -> (Schema, Field) {
    let indexing =
        TextFieldIndexing::default().set_tokenizer(TOKENIZER).set_index_option(IndexRecordOption::WithFreqs).set_fieldnorms(true);
    let mut builder = Schema::builder();
    let field = builder.add_text_field(TEXT, TextOptions::default().set_indexing_options(indexing));
    (builder.build(), field)
}

/// Collects the terms of documents, row by row.
pub struct LexicalWriter {
    inner: SingleSegmentIndexWriter<TantivyDocument>,
    directory: RamDirectory,
    field: Field,
    n_rows: u32,
}

impl LexicalWriter {
    pub fn new(analyzer: &Analyzer) -> Result<Self, LexicalError> {
        let (schema, field) = schema();
        let tokenizers = TokenizerManager::new();
        tokenizers.register(TOKENIZER, analyzer.clone().into_inner());
        let settings = IndexSettings { docstore_compression: Compressor::None, ..IndexSettings::default() };
        let builder = Index::builder().schema(schema).settings(settings).tokenizers(tokenizers);
        let directory = RamDirectory::create();
        Ok(Self { inner: builder.single_segment_index_writer(directory.clone(), TABLE_BYTES)?, directory, field, n_rows: 0 })
    }

    /// Adds the text of the next row.
    ///
    /// # Errors
    /// [`LexicalError::TooLarge`].
    pub fn add(&mut self, text: &str) -> Result<(), LexicalError> {
        let mut document = TantivyDocument::default();
        document.add_text(self.field, text);
        self.inner.add_document(document)?;
        self.n_rows += 1;
        if self.n_rows.is_multiple_of(1_024) && self.inner.mem_usage() > MAX_BYTES {
            return Err(LexicalError::TooLarge { limit_bytes: MAX_BYTES });
        }
        Ok(())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`LexicalError::Storage`].
    pub fn finish(self, dir: &Path) -> Result<(), LexicalError> {
        let index = self.inner.finalize()?;
        let metas = index.searchable_segment_metas()?;
        let segment = metas.first().expect("a finished writer has one segment");
        // Written as it is for names of files, and with hyphens.
        let (name, id) = (segment.id().uuid_string(), serde_json::to_string(&segment.id()).expect("an id is a string"));
        let meta = self.directory.atomic_read(Path::new(META)).map_err(tantivy::TantivyError::from)?;
        let meta = String::from_utf8_lossy(&meta).replace(&id, &format!("\"{SEGMENT}\""));
        let mut files = vec![(META.to_owned(), OwnedBytes::new(meta.into_bytes()))];
        let mut paths: Vec<_> = index.directory().list_managed_files().into_iter().filter(|path| path != Path::new(META)).collect();
        paths.sort();
        for path in paths {
            let file = self.directory.open_read(&path).map_err(tantivy::TantivyError::from)?;
            files.push((path.to_string_lossy().replace(&name, SEGMENT), file.read_bytes().map_err(tantivy::TantivyError::from)?));
        }
        Ok(pack(&dir.join(LEXICAL_FILE), &files)?)
    }
}

/// What tantivy panics over is damaged, checksums or not.
fn guarded<T>(directory: &PackedDirectory, read: impl FnOnce() -> Result<T, LexicalError>) -> Result<T, LexicalError> {
    unless_it_panics(read).unwrap_or_else(|| Err(directory.corrupt("its terms make no sense").into()))
}

/// The terms of a generation's documents, read in place.
pub struct LexicalSegment {
    directory: PackedDirectory,
    reader: IndexReader,
    field: Field,
}

impl fmt::Debug for LexicalSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LexicalSegment").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl LexicalSegment {
    /// Opens the file of a generation with so many rows; `None` if it has none.
    ///
    /// # Errors
    /// [`LexicalError`] names the file and what is wrong with it.
    pub fn open(dir: &Path, n_rows: usize) -> Result<Option<Self>, LexicalError> {
        let path = dir.join(LEXICAL_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let directory = PackedDirectory::open(&path)?;
        let reader = guarded(&directory, || {
            let index = Index::open(directory.clone())?;
            Ok(index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?)
        })?;
        let opened = Self { directory, reader, field: schema().1 };
        let found: u32 = opened.reader.searcher().segment_readers().iter().map(SegmentReader::max_doc).sum();
        if found as usize != n_rows {
            return Err(opened.directory.corrupt(format!("it has {found} rows instead of {n_rows}")).into());
        }
        Ok(Some(opened))
    }

    /// Checks every byte.
    ///
    /// # Errors
    /// [`LexicalError::Storage`].
    pub fn verify(&self) -> Result<(), LexicalError> {
        Ok(self.directory.verify()?)
    }

    /// What these documents are like.
    ///
    /// # Errors
    /// [`LexicalError`] when a part of the file that is needed is damaged; so for those below.
    pub fn statistics(&self, query: &LexicalQuery) -> Result<Statistics, LexicalError> {
        guarded(&self.directory, || {
            let searcher = self.reader.searcher();
            let mut statistics = Statistics { n_documents: 0, n_terms: 0, n_with: vec![0; query.terms.len()] };
            for segment in searcher.segment_readers() {
                let terms = segment.inverted_index(self.field)?;
                statistics.n_documents += u64::from(segment.max_doc());
                statistics.n_terms += terms.total_num_tokens();
                for (n, term) in statistics.n_with.iter_mut().zip(query.terms()) {
                    *n += u64::from(terms.doc_freq(&self.term(term)).map_err(tantivy::TantivyError::from)?);
                }
            }
            Ok(statistics)
        })
    }

    /// Up to `k` of the allowed rows that have terms of the query, best first, ties by row. `statistics` are those of all documents.
    pub fn search(
        &self,
        query: &LexicalQuery,
        statistics: &Statistics,
        k: usize,
        is_allowed: impl Fn(u32) -> bool,
    ) -> Result<Vec<Candidate>, LexicalError> {
        if k == 0 || query.is_empty() {
            return Ok(Vec::new());
        }
        guarded(&self.directory, || {
            let searcher = self.reader.searcher();
            let one = |term: &super::QueryTerm| -> (Occur, Box<dyn Query>) {
                let query = TermQuery::new(self.term(&term.text), IndexRecordOption::WithFreqs);
                (Occur::Should, Box::new(BoostQuery::new(Box::new(query), term.weight)))
            };
            let any = BooleanQuery::new(query.terms.iter().map(one).collect());
            let weight = any.weight(EnableScoring::enabled_from_statistics_provider(&Given { query, statistics }, &searcher))?;
            let mut best = Best::new(k);
            for segment in searcher.segment_readers() {
                weight.for_each_pruning(best.threshold(), segment, &mut |row, score| {
                    if is_allowed(row) {
                        best.offer(Candidate { row, score });
                    }
                    best.threshold()
                })?;
            }
            Ok(best.into_sorted())
        })
    }

    /// The scores of some rows, ascending; 0 for those without any of the query's terms.
    pub fn scores(&self, query: &LexicalQuery, bm25: &Bm25, rows: &[u32]) -> Result<Vec<f32>, LexicalError> {
        guarded(&self.directory, || {
            let searcher = self.reader.searcher();
            let mut scores = vec![0.0; rows.len()];
            for segment in searcher.segment_readers() {
                let terms = segment.inverted_index(self.field)?;
                let lens = segment.get_fieldnorms_reader(self.field)?;
                for (position, term) in query.terms().enumerate() {
                    let postings =
                        terms.read_postings(&self.term(term), IndexRecordOption::WithFreqs).map_err(tantivy::TantivyError::from)?;
                    let Some(mut postings) = postings else { continue };
                    for (&row, score) in rows.iter().zip(&mut scores) {
                        if postings.doc() < row {
                            postings.seek(row);
                        }
                        if postings.doc() == row {
                            *score += bm25.term(position, postings.term_freq(), lens.fieldnorm(row));
                        }
                    }
                }
            }
            Ok(scores)
        })
    }

    fn term(&self, text: &str) -> Term {
        Term::from_field_text(self.field, text)
    }
}

/// Statistics as tantivy asks for them.
struct Given<'a> {
    query: &'a LexicalQuery,
    statistics: &'a Statistics,
}

impl Bm25StatisticsProvider for Given<'_> {
    fn total_num_tokens(&self, _: Field) -> tantivy::Result<u64> {
        Ok(self.statistics.n_terms)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.statistics.n_documents)
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        let text = term.serialized_value_bytes();
        let position = self.query.terms().position(|known| known.as_bytes() == text);
        Ok(position.map_or(0, |position| self.statistics.n_with[position]))
    }
}

/// The best rows so far.
struct Best {
    k: usize,
    /// The worst on top.
    heap: BinaryHeap<Reverse<ByScore>>,
}

/// Ordered by score, then by row: of equal ones the first is the better.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ByScore(Candidate);

impl Eq for ByScore {}

impl PartialOrd for ByScore {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByScore {
    fn cmp(&self, other: &Self) -> Ordering {
        best_first(&other.0, &self.0)
    }
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// What a row must exceed to be among them.
    fn threshold(&self) -> f32 {
        let is_full = self.heap.len() == self.k;
        self.heap.peek().filter(|_| is_full).map_or(f32::MIN, |Reverse(worst)| worst.0.score)
    }

    fn offer(&mut self, candidate: Candidate) {
        self.heap.push(Reverse(ByScore(candidate)));
        if self.heap.len() > self.k {
            self.heap.pop();
        }
    }

    fn into_sorted(self) -> Vec<Candidate> {
        let mut best: Vec<Candidate> = self.heap.into_iter().map(|Reverse(ByScore(candidate))| candidate).collect();
        best.sort_unstable_by(best_first);
        best
    }
}
