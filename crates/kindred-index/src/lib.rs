//! Finds the nearest rows of a segment: a mapped graph, exact search beside it, filters, and the table of ids.
//!
//! | file | duty |
//! |---|---|
//! | `lib.rs` | [`Index`]: open, search, count |
//! | `build/` | builds the graph and writes an index's files |
//! | `graph_file.rs` | the graph's layout on disk, read in place |
//! | `node.rs` | one row of it: codes, links, and codes of what it is linked to |
//! | `codes.rs` | vectors to codes: rotation, int8, tables for 1-bit codes |
//! | `kernels/` | scores by the machine's widest instructions |
//! | `vectors.rs` | the vectors at their stored precision, read in place |
//! | `chunks.rs` | which vectors are a row's, where rows have several |
//! | `beam.rs` | walks the graph |
//! | `filtered.rs` | walks it over allowed rows only |
//! | `pool.rs` | the most promising rows of a walk |
//! | `row_set.rs` | rows as plain bits, for that walk |
//! | `flat.rs` | exact search: compares every allowed row |
//! | `appended.rs` | vectors and attributes of rows that no graph has yet |
//! | `planner.rs` | chooses graph or scan, falls back from one to the other |
//! | `filter/` | filters to exact bitmaps of rows |
//! | `attributes.rs` | the columns that filters read, in place |
//! | `columns.rs` | makes those columns from documents' values |
//! | `ids.rs` | ids of documents to rows and back, in place |
//! | `error.rs` | [`IndexError`] |
//!
//! *On disk*, bytes a row at 384 dimensions, `max_connections` 16 and f16 vectors; the files named tell every byte:
//!
//! | file | bytes a row | what | read by |
//! |---|---|---|---|
//! | `graph.bin` | 384 | int8 codes (`node.rs`) | walks, scans |
//! | | 128 | 32 links (`node.rs`) | walks |
//! | | 1,664 | 1-bit codes of the linked rows, and what turns them into scores (`node.rs`) | walks over all rows |
//! | | about 30 | upper levels (`graph_file.rs`) | descents |
//! | `vectors.bin` | 768 | the vector; 1,536 as f32, 388 as int8 (`vectors.rs`) | candidates only |
//! | `attributes.bin` | by field | sorted columns and bitmaps (`attributes.rs`) | filters |
//! | `chunks.bin` | 8, and 4 a chunk; only where rows have several vectors (`chunks.rs`) | hits |
//! | `ids.bin` | 12 + the id | both ways (`ids.rs`) | hits, writes |
//!
//! All are containers (`kindred_core::storage`): opening reads their headers alone, and what is used is checked on first use.
//!
//! *Shape*: vectors are `[rows × dims]` f32, row-major, of unit length, so the dot product is the cosine: the score.
//!
//! *Concurrency*: an index never changes; any number of threads search it without locks. Each keeps its own working memory.
//!
//! *Source*: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
//! World graphs", 2018.

mod appended;
mod attributes;
mod beam;
mod build;
mod chunks;
mod codes;
mod columns;
mod error;
mod facets;
mod filter;
mod filtered;
mod flat;
mod graph_file;
mod ids;
mod kernels;
mod node;
mod planner;
mod pool;
mod row_set;
#[cfg(test)]
mod tests;
mod vectors;

use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

pub use roaring::RoaringBitmap;

pub use appended::{AppendedAttributes, AppendedVectors, BLOCK_ROWS};
pub use build::{BuildInput, BuildParams, Builder};
pub use error::IndexError;
pub use ids::IdTable;
pub use kernels::{dot, instructions};
pub use kindred_core::Progress;
pub use kindred_core::domain::{
    Attributes, Candidate, CollectionDefinition, Document, Embedding, FieldId, FieldSpec, FieldType, Filter, Plan, Schema, Strategy,
    StrategyChoice,
};
pub use vectors::Quantization;

use self::attributes::AttributeFile;
use self::chunks::Chunks;
use self::filter::Allowed;
pub use self::filter::FilterDeadline;
use self::flat::Compared;
use self::graph_file::GraphFile;
use self::planner::Search;
use self::vectors::VectorFile;
use kindred_core::storage::StorageError;

/// The nearest rows to look for.
#[derive(Debug, Clone, Copy)]
pub struct SearchRequest<'a> {
    /// Candidates wanted.
    pub k: usize,
    /// Width of the graph's beam; never less than `k` is used.
    pub ef_search: usize,
    pub strategy: StrategyChoice,
    pub filter: Option<&'a Filter>,
    /// Rows that are not to be found.
    pub deleted: &'a RoaringBitmap,
}

/// What a search found, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// As many as were wanted or, if fewer match, all that match; best first, ties by row.
    pub candidates: Vec<Candidate>,
    pub plan: Plan,
}

/// The rows that a search may return.
#[derive(Debug)]
pub struct AllowedRows<'a> {
    rows: Allowed<'a>,
    /// Rows that are not deleted.
    n_documents: u64,
}

impl AllowedRows<'_> {
    #[inline]
    pub fn contains(&self, row: u32) -> bool {
        self.rows.contains(row)
    }

    /// How many they are.
    pub fn len(&self) -> u64 {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.rows.iter()
    }

    /// Rows that are not deleted, whether they pass the filter or not.
    pub fn n_documents(&self) -> u64 {
        self.n_documents
    }

    /// The share of rows that one would guess to pass, as in a plan.
    pub fn estimated_selectivity(&self) -> f64 {
        self.rows.estimated_selectivity()
    }
}

/// An opened index: mapped files, nothing in memory per row.
#[derive(Debug)]
pub struct Index {
    dims: usize,
    n_rows: u32,
    graph: GraphFile,
    vectors: VectorFile,
    chunks: Chunks,
    attributes: AttributeFile,
}

/// Compiles and runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

impl Index {
    /// Builds an index into an existing folder, durably, and opens it. `progress` counts rows and can cancel the build, which then leaves files
    /// that no index opens.
    ///
    /// Takes about [`BuildParams::memory_bytes`] of memory and all threads that `params` allow; blocks until the build is done.
    ///
    /// # Errors
    /// [`IndexError::Parameter`], [`IndexError::Dims`], [`IndexError::Count`], [`IndexError::TooManyRows`], [`IndexError::Memory`]
    /// and [`IndexError::NotUnit`] before anything is written; [`IndexError::Cancelled`]; [`IndexError::Threads`];
    /// [`IndexError::Storage`].
    ///
    /// # Example
    /// ```
    /// use kindred_index::{Attributes, BuildInput, BuildParams, Index, Progress, Schema};
    ///
    /// let dir = tempfile::tempdir()?;
    /// // Two rows of two dimensions, one vector each, without attributes.
    /// let input = BuildInput {
    ///     dims: 2,
    ///     vectors: &[1.0, 0.0, 0.6, 0.8],
    ///     n_chunks: &[1, 1],
    ///     attributes: &[Attributes::default(), Attributes::default()],
    ///     schema: &Schema::default(),
    /// };
    /// let index = Index::build(dir.path(), input, &BuildParams::default(), &Progress::hidden())?;
    /// assert_eq!((index.n_rows(), index.dims()), (2, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build(dir: &Path, input: BuildInput<'_>, params: &BuildParams, progress: &Progress) -> Result<Self, IndexError> {
        build::build(dir, input, params, progress)?;
        Self::open(dir, input.dims, input.attributes.len(), input.schema)
    }

    /// Maps the files that [`Index::build`] wrote into a folder. Reads their headers only: under a millisecond at a million rows.
    ///
    /// # Errors
    /// [`IndexError::Storage`] names the file and what is wrong with it; [`IndexError::Column`] when the schema indexes other
    /// fields than the index was built with.
    ///
    /// # Example
    /// ```
    /// # use kindred_index::{Attributes, BuildInput, BuildParams, Progress};
    /// use kindred_index::{Index, Schema};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let attributes = [Attributes::default()];
    /// # let input = BuildInput { dims: 2, vectors: &[1.0, 0.0], n_chunks: &[1], attributes: &attributes, schema: &Schema::default() };
    /// # Index::build(dir.path(), input, &BuildParams::default(), &Progress::hidden())?;
    /// let (dims, n_rows) = (2, 1);
    /// let index = Index::open(dir.path(), dims, n_rows, &Schema::default())?;
    /// index.verify()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(dir: &Path, dims: usize, n_rows: usize, schema: &Schema) -> Result<Self, IndexError> {
        let n = check_row_count(n_rows)?;
        let chunks = Chunks::open(dir, n)?;
        let n_vectors = chunks.n_vectors() as usize;
        Ok(Self {
            dims,
            n_rows: n,
            graph: GraphFile::open(dir, dims, n_vectors)?,
            vectors: VectorFile::open(dir, dims, n_vectors)?,
            chunks,
            attributes: AttributeFile::open(dir, n, schema)?,
        })
    }

    /// Finds the rows nearest to a query: always `min(k, matching rows)` of them.
    ///
    /// # Errors
    /// [`IndexError::Dims`] when the query is of another model, [`IndexError::NotIndexed`], [`IndexError::Storage`].
    ///
    /// # Example
    /// ```
    /// # use kindred_index::{Attributes, BuildInput, BuildParams, Index, Progress, Schema};
    /// use kindred_index::{Embedding, RoaringBitmap, SearchRequest, StrategyChoice};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let attributes = [Attributes::default(), Attributes::default()];
    /// # let input = BuildInput { dims: 2, vectors: &[1.0, 0.0, 0.6, 0.8], n_chunks: &[1, 1], attributes: &attributes, schema: &Schema::default() };
    /// # let index = Index::build(dir.path(), input, &BuildParams::default(), &Progress::hidden())?;
    /// let query = Embedding::new(vec![0.0, 2.0], 2)?; // scaled to unit length
    /// let deleted = RoaringBitmap::new();
    /// let request = SearchRequest { k: 1, ef_search: 64, strategy: StrategyChoice::Auto, filter: None, deleted: &deleted };
    /// let found = index.search(&query, &request)?;
    /// assert_eq!(found.candidates[0].row, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn search(&self, query: &Embedding, request: &SearchRequest<'_>) -> Result<Found, IndexError> {
        let allowed = self.allowed(request.filter, Cow::Borrowed(request.deleted), FilterDeadline::start(None))?;
        self.search_among(&allowed, query, request.k, request.ef_search, request.strategy, None)
    }

    /// The same among rows that are known to be allowed. Where they are compared one by one, no longer than `until`: the plan's coverage tells
    /// how many were.
    ///
    /// # Errors
    /// As [`Self::search`].
    pub fn search_among(
        &self,
        allowed: &AllowedRows<'_>,
        query: &Embedding,
        k: usize,
        ef_search: usize,
        strategy: StrategyChoice,
        until: Option<Instant>,
    ) -> Result<Found, IndexError> {
        let query = self.check_dims(query)?;
        let is_cut = self.search_dims() < self.dims;
        let quantizer = self.graph.quantizer();
        let codes = if is_cut { quantizer.query(&build::cut_one(query, self.search_dims())) } else { quantizer.query(query) };
        let rows = Compared { graph: &self.graph, vectors: &self.vectors, chunks: &self.chunks, query, codes, is_cut };
        let search = Search { rows, allowed: &allowed.rows, k, ef: ef_search.max(k), until };
        let (candidates, plan) = search.run(strategy, allowed.n_documents)?;
        Ok(Found { candidates, plan })
    }

    /// The rows that pass a filter and are not deleted.
    ///
    /// # Errors
    /// [`IndexError::NotIndexed`], [`IndexError::FilterTimeout`], [`IndexError::Storage`].
    pub fn allowed<'a>(
        &self,
        filter: Option<&Filter>,
        deleted: Cow<'a, RoaringBitmap>,
        deadline: FilterDeadline,
    ) -> Result<AllowedRows<'a>, IndexError> {
        let n_documents = self.n_documents(&deleted);
        Ok(AllowedRows { rows: Allowed::new(&self.attributes, filter, deleted, deadline)?, n_documents })
    }

    /// The score of one row: the dot product with the best of its vectors.
    ///
    /// # Errors
    /// [`IndexError::Dims`], [`IndexError::Storage`].
    pub fn score(&self, query: &Embedding, row: u32) -> Result<f32, IndexError> {
        let query = self.check_dims(query)?;
        let score = |best: f32, vector| Ok::<_, StorageError>(best.max(self.vectors.score(vector, query)?));
        Ok(self.chunks.of(row)?.try_fold(f32::NEG_INFINITY, score)?)
    }

    fn check_dims<'a>(&self, query: &'a Embedding) -> Result<&'a [f32], IndexError> {
        let query = query.as_slice();
        if query.len() == self.dims { Ok(query) } else { Err(IndexError::Dims { expected: self.dims, actual: query.len() }) }
    }

    /// The rows that pass a filter and are not deleted.
    ///
    /// # Errors
    /// [`IndexError::NotIndexed`], [`IndexError::FilterTimeout`], [`IndexError::Storage`].
    pub fn matching(
        &self,
        filter: Option<&Filter>,
        deleted: &RoaringBitmap,
        deadline: FilterDeadline,
    ) -> Result<RoaringBitmap, IndexError> {
        Ok(self.allowed(filter, Cow::Borrowed(deleted), deadline)?.rows.into_bitmap())
    }

    /// The vectors of a row, `[chunks × dims]`, unit length up to the precision that they are stored with.
    ///
    /// # Errors
    /// [`IndexError::Storage`] when there is no such row, or what is stored for it is damaged.
    pub fn vectors(&self, row: u32) -> Result<Cow<'_, [f32]>, IndexError> {
        let range = self.chunks.of(row)?;
        if range.len() <= 1 {
            return Ok(self.vectors.vector(range.start)?);
        }
        let mut all = Vec::with_capacity(range.len() * self.dims);
        for vector in range {
            all.extend_from_slice(&self.vectors.vector(vector)?);
        }
        Ok(Cow::Owned(all))
    }

    /// How exactly vectors are stored.
    pub fn quantization(&self) -> Quantization {
        self.vectors.quantization()
    }

    /// Checks all bytes of all files.
    ///
    /// # Errors
    /// [`IndexError::Storage`].
    pub fn verify(&self) -> Result<(), IndexError> {
        self.graph.verify()?;
        self.vectors.verify()?;
        self.chunks.verify()?;
        Ok(self.attributes.verify()?)
    }

    /// Number of rows, deleted or not.
    pub fn n_rows(&self) -> u32 {
        self.n_rows
    }

    /// Number of vectors of all rows.
    pub fn n_vectors(&self) -> u32 {
        self.chunks.n_vectors()
    }

    /// Numbers per vector.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Numbers per vector that the graph is walked by.
    pub fn search_dims(&self) -> usize {
        self.graph.header().dims as usize
    }

    /// Length of all files in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.graph.size_bytes() + self.vectors.size_bytes() + self.chunks.size_bytes() + self.attributes.size_bytes()
    }

    fn n_documents(&self, deleted: &RoaringBitmap) -> u64 {
        u64::from(self.n_rows) - deleted.range_cardinality(..self.n_rows)
    }
}

/// Rows are u32; the last number stands for no row.
fn check_row_count(n_rows: usize) -> Result<u32, IndexError> {
    u32::try_from(n_rows).ok().filter(|&n| n < u32::MAX).ok_or(IndexError::TooManyRows { n_rows })
}

/// Numbers as the bytes of a file.
fn bytes_of<T: bytemuck::NoUninit>(numbers: &[T]) -> &[u8] {
    bytemuck::cast_slice(numbers)
}
