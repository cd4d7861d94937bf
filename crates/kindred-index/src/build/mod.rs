//! Builds an index: graph, vectors, attributes.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | checks, and the steps of a build in their order |
//! | `native.rs` | our builder, over codes |
//! | `reference.rs` | `hnsw_rs` as a builder |
//! | `draft.rs` | the graph while it grows |
//! | `connect.rs` | keeps every row reachable and fills lists |

mod connect;
mod draft;
mod native;
mod reference;

use std::borrow::Cow;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::connect::Level0;
use self::draft::Draft;
use super::codes::{CodeTable, Quantizer};
use super::graph_file::{self, Header, MAX_LEVELS, Upper};
use super::kernels::{GROUP, dot};
use super::node::NO_LINK;
use super::{IndexError, Quantization, attributes, check_row_count, chunks, vectors};
use kindred_core::Progress;
use kindred_core::domain::{Attributes, Schema};

/// How far from 1 a squared length may be.
const UNIT_TOLERANCE: f32 = 4e-3;
/// Rows inserted one after the other, so that those inserted at once have something to link to.
const SERIAL_ROWS: usize = 256;
/// Bytes that `hnsw_rs` holds per row beside the vector, at most at [`MEASURED_CONNECTIONS`]: measured as the growth of the
/// process's resident memory over builds of 100,000 rows and more.
const REFERENCE_BYTES_PER_ROW: u64 = 2_700;
/// The `max_connections` of that measurement. Most of those bytes are links, so more connections take more in proportion.
const MEASURED_CONNECTIONS: u64 = 16;

/// What builds the graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builder {
    /// Ours: over int8 codes.
    #[default]
    Native,
    /// The `hnsw_rs` crate: the reference that ours is compared with.
    HnswRs,
}

/// How to build an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildParams {
    pub builder: Builder,
    /// How exactly vectors are stored.
    pub quantization: Quantization,
    /// So many first numbers of a vector are what the graph is built and walked by; 0: all. Candidates are scored by all in any case. For
    /// models whose embeddings may be cut (Matryoshka).
    #[serde(default)]
    pub search_dims: usize,
    /// Links per row on the upper levels (M); level 0 has twice as many, rounded up to a multiple of 32.
    pub max_connections: usize,
    /// Width of the beam that looks for a new row's neighbours.
    pub ef_construction: usize,
    /// Threads that build; 0 means one per core. With one, equal input gives equal files.
    pub threads: usize,
    /// Where levels and the rotation of codes are drawn from.
    pub seed: u64,
    /// Most memory that a build may take, by [`Self::memory_bytes`]; 0 sets no limit here. As a setting, 0 asks whoever reads it
    /// to choose.
    #[serde(rename = "max_build_bytes")]
    pub max_bytes: u64,
}

impl Default for BuildParams {
    fn default() -> Self {
        Self {
            builder: Builder::default(),
            quantization: Quantization::default(),
            search_dims: 0,
            max_connections: 16,
            ef_construction: 128,
            threads: 0,
            seed: 1,
            max_bytes: 0,
        }
    }
}

impl BuildParams {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`IndexError::Parameter`] names the one at fault.
    pub fn check(&self) -> Result<(), IndexError> {
        let checks = [
            ("max_connections", self.max_connections, 2, 128),
            ("ef_construction", self.ef_construction, 1, 10_000),
            ("threads", self.threads, 0, 1_024),
        ];
        match checks.into_iter().find(|(_, value, min, max)| value < min || value > max) {
            Some((name, value, min, max)) => Err(IndexError::Parameter { name, value, min, max }),
            None => Ok(()),
        }
    }

    /// Links per row on level 0.
    fn degree(&self) -> usize {
        (2 * self.max_connections).next_multiple_of(GROUP)
    }

    /// Numbers of a vector that the graph knows.
    fn search_dims_of(&self, dims: usize) -> usize {
        if self.search_dims == 0 { dims } else { self.search_dims }
    }

    /// About how much memory a build takes beside what it is built from: codes, lists with room to spare, and what the builder
    /// itself needs.
    pub fn memory_bytes(&self, n_vectors: u64, dims: usize) -> u64 {
        let (m, degree) = (self.max_connections as u64, self.degree() as u64);
        let search_dims = self.search_dims_of(dims);
        let codes = search_dims.next_multiple_of(64) as u64 + if search_dims < dims { 4 * search_dims as u64 } else { 0 };
        // Row and score of each link; then the finished list, level, lengths; the few links above; the map of equal vectors.
        let lists = 8 * (degree + degree / 2) + 4 * degree + 8 + 8 * m / (m - 1).max(1) + 32;
        let reference = match self.builder {
            Builder::Native => 0,
            Builder::HnswRs => 4 * dims as u64 + REFERENCE_BYTES_PER_ROW * m.max(MEASURED_CONNECTIONS) / MEASURED_CONNECTIONS,
        };
        n_vectors.saturating_mul(codes + lists + reference)
    }

    /// Refuses a build that would take more memory than it may.
    ///
    /// # Errors
    /// [`IndexError::Memory`].
    pub fn check_memory(&self, n_vectors: u64, dims: usize) -> Result<(), IndexError> {
        let (needed, limit) = (self.memory_bytes(n_vectors, dims), self.max_bytes);
        if limit > 0 && needed > limit { Err(IndexError::Memory { needed, limit }) } else { Ok(()) }
    }
}

/// What to build from: rows 0, 1, … of one segment. The graph's own rows are their vectors.
#[derive(Debug, Clone, Copy)]
pub struct BuildInput<'a> {
    pub dims: usize,
    /// `[vectors × dims]`, row-major, unit length; those of a row together, in the order of the rows.
    pub vectors: &'a [f32],
    /// `[rows]`: how many vectors each row has.
    pub n_chunks: &'a [u32],
    /// `[rows]`.
    pub attributes: &'a [Attributes],
    pub schema: &'a Schema,
}

/// Writes the files of [`super::Index::build`].
pub(super) fn build(dir: &Path, input: BuildInput<'_>, params: &BuildParams, progress: &Progress) -> Result<(), IndexError> {
    params.check()?;
    let n_vectors = check_input(&input)?;
    if params.search_dims > input.dims {
        return Err(IndexError::Parameter { name: "search_dims", value: params.search_dims, min: 0, max: input.dims });
    }
    params.check_memory(u64::from(n_vectors), input.dims)?;
    not_cancelled(progress)?;
    attributes::write(dir, input.attributes, input.schema)?;
    chunks::write(dir, input.n_chunks)?;
    let storage_error = vectors::write(dir, input.dims, input.vectors, params.quantization)?;
    not_cancelled(progress)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(params.threads).thread_name(|i| format!("build-{i}")).build()?;
    pool.install(|| build_graph(dir, &input, n_vectors, storage_error, params, progress))
}

/// Inserts rows on the threads of the pool that this runs in; what is left is skipped once it is cancelled.
fn insert_all(rows: &[u32], progress: &Progress, insert: impl Fn(u32) + Sync) {
    let insert = |&row: &u32| {
        if !progress.is_cancelled() {
            insert(row);
            progress.advance(1);
        }
    };
    let (first, rest) = rows.split_at(rows.len().min(SERIAL_ROWS));
    first.iter().for_each(insert);
    rest.par_iter().for_each(insert);
}

/// Ends work that is not wanted any more.
fn not_cancelled(progress: &Progress) -> Result<(), IndexError> {
    if progress.is_cancelled() { Err(IndexError::Cancelled) } else { Ok(()) }
}

/// Returns the number of vectors.
fn check_input(input: &BuildInput<'_>) -> Result<u32, IndexError> {
    let n_rows = input.attributes.len();
    let n_with_vectors = input.n_chunks.iter().filter(|&&n| n > 0).count();
    if input.n_chunks.len() != n_rows || n_with_vectors != n_rows {
        return Err(IndexError::Count { what: "rows with vectors", expected: n_rows, actual: n_with_vectors });
    }
    let n_vectors: usize = input.n_chunks.iter().map(|&n| n as usize).sum();
    if input.dims == 0 {
        return Err(IndexError::Dims { expected: 1, actual: 0 });
    }
    let expected = n_vectors.saturating_mul(input.dims);
    if input.vectors.len() != expected {
        return Err(IndexError::Count { what: "numbers in all vectors", expected, actual: input.vectors.len() });
    }
    // A length that is not finite is in no range.
    let is_unit = |vector: &[f32]| (dot(vector, vector) - 1.0).abs() <= UNIT_TOLERANCE;
    match input.vectors.chunks_exact(input.dims).position(|vector| !is_unit(vector)) {
        Some(vector) => Err(IndexError::NotUnit { vector }),
        None => check_row_count(n_vectors),
    }
}

/// The first numbers of each vector, of unit length again.
fn cut(vectors: &[f32], dims: usize, search_dims: usize) -> Cow<'_, [f32]> {
    if search_dims == dims {
        return Cow::Borrowed(vectors);
    }
    Cow::Owned(vectors.par_chunks_exact(dims).flat_map_iter(|vector| cut_one(vector, search_dims)).collect())
}

/// The first numbers of a vector, of unit length again; zeros stay.
pub(super) fn cut_one(vector: &[f32], search_dims: usize) -> Vec<f32> {
    let kept = &vector[..search_dims];
    let length = dot(kept, kept).sqrt().max(f32::MIN_POSITIVE);
    kept.iter().map(|x| x / length).collect()
}

/// Builds and writes the graph on the threads of the pool that this runs in.
fn build_graph(
    dir: &Path,
    input: &BuildInput<'_>,
    n_vectors: u32,
    storage_error: f32,
    params: &BuildParams,
    progress: &Progress,
) -> Result<(), IndexError> {
    let search_dims = params.search_dims_of(input.dims);
    let cut = cut(input.vectors, input.dims, search_dims);
    let input = &BuildInput { dims: search_dims, vectors: &cut, ..*input };
    let (mut quantizer, table) = Quantizer::fit(input.vectors, input.dims, params.seed)?;
    // What is stored is what scores are compared with in the end.
    quantizer.max_error += storage_error;
    let twins = connect::twins(input.vectors, input.dims);
    let distinct: Vec<u32> = (0..n_vectors).filter(|vector| !twins.contains_key(vector)).collect();
    progress.advance(twins.len() as u64);
    let draft = match params.builder {
        Builder::Native => native::build(&table, n_vectors, &distinct, params, progress),
        Builder::HnswRs => reference::build(&table, input, &distinct, params, progress),
    };
    not_cancelled(progress)?;
    let (upper, level_rows) = UpperLevels::of(&draft);
    let entry = upper.rows.first().copied().unwrap_or(0);
    let mut level0 = Level0::thin_out(&draft);
    connect::attach_twins(&mut level0, &twins);
    connect::attach_orphans(&mut level0, &draft, entry, progress)?;
    level0.fill(&draft);
    drop(draft);
    let header = Header {
        n_rows: n_vectors,
        dims: input.dims as u32,
        max_connections: params.max_connections as u32,
        degree: level0.degree as u32,
        entry,
        seed: params.seed,
        step: quantizer.step,
        max_error: quantizer.max_error,
        level_rows,
    };
    write(dir, &header, &upper.view(), &table, &level0, progress)
}

fn write(
    dir: &Path,
    header: &Header,
    upper: &Upper<'_>,
    table: &CodeTable,
    level0: &Level0,
    progress: &Progress,
) -> Result<(), IndexError> {
    let layout = header.layout();
    graph_file::write(dir, header, upper, |first, nodes| {
        nodes.par_chunks_exact_mut(layout.size()).zip(first..header.n_rows).for_each(|(node, row)| {
            layout.encode(table, header.step, row, level0.list(row), node);
        });
    })?;
    not_cancelled(progress)
}

/// The upper levels, each row known by its position among the rows that are on any, those on most levels first.
#[derive(Debug, Default)]
struct UpperLevels {
    rows: Vec<u32>,
    codes: Vec<u8>,
    links: Vec<u32>,
}

impl UpperLevels {
    /// Those of a draft, and the number of rows on each level.
    fn of(draft: &Draft<'_>) -> (Self, [u32; MAX_LEVELS]) {
        let mut rows: Vec<u32> = (0..draft.n_rows()).filter(|&row| draft.level(row) > 0).collect();
        rows.sort_by_key(|&row| std::cmp::Reverse(draft.level(row)));
        let mut position = vec![NO_LINK; draft.n_rows() as usize];
        rows.iter().zip(0..).for_each(|(&row, at)| position[row as usize] = at);
        let level_rows: [u32; MAX_LEVELS] = std::array::from_fn(|i| rows.partition_point(|&row| draft.level(row) > i) as u32);
        let codes = rows.iter().flat_map(|&row| draft.table.row(row)).copied().collect();
        let mut links = Vec::new();
        for (level, &n) in (1..).zip(&level_rows) {
            for &row in &rows[..n as usize] {
                let list = draft.links(row, level).into_iter().map(|link| position[link.row as usize]);
                links.extend(list.chain(std::iter::repeat(NO_LINK)).take(draft.m));
            }
        }
        (Self { rows, codes, links }, level_rows)
    }

    fn view(&self) -> Upper<'_> {
        Upper { rows: &self.rows, codes: &self.codes, links: &self.links }
    }
}
