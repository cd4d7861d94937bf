//! Tests of the whole index against a brute-force oracle, with what they share.

mod build;
mod damage;
mod filters;
mod search;

use std::path::Path;

use roaring::RoaringBitmap;
use serde_json::{Value as Json, json};

pub(super) use super::kernels::tests::Random;
use super::*;
use kindred_core::domain::Template;

impl Random {
    /// Roughly normal around a centre, scaled to unit length.
    fn unit_vector(&mut self, center: &[f32], spread: f32) -> Vec<f32> {
        let around = center.iter().map(|c| c + spread * (self.number() + self.number() + self.number())).collect();
        Embedding::new(around, center.len()).unwrap().as_slice().to_vec()
    }

    /// `[n × dims]` unit vectors in clusters, as embeddings of real text are.
    pub fn clustered(&mut self, n: usize, dims: usize, n_clusters: usize) -> Vec<f32> {
        let centers: Vec<Vec<f32>> = (0..n_clusters).map(|_| self.unit_vector(&vec![0.0; dims], 1.0)).collect();
        (0..n)
            .flat_map(|_| {
                let center = self.below(n_clusters);
                self.unit_vector(&centers[center], 0.15)
            })
            .collect()
    }
}

pub(super) fn definition() -> (Template, Schema) {
    let definition = json!({"template": "{title}", "fields": {
        "title": {"type": "text"}, "skills": {"type": "keyword", "index": true}, "salary": {"type": "number", "index": true},
        "posted_at": {"type": "time", "index": true}, "location": {"type": "geo", "index": true},
        "remote": {"type": "bool", "index": true},
    }});
    serde_json::from_value::<CollectionDefinition>(definition).unwrap().check().unwrap()
}

pub(super) fn attributes(fields: Json) -> Attributes {
    let (template, schema) = definition();
    let mut fields = fields;
    fields["id"] = json!("x");
    fields["title"] = json!("x");
    Document::parse(fields, &schema, &template, 100).unwrap().attributes
}

/// Fields as documents have them: often missing, sometimes several values.
pub(super) fn random_fields(random: &mut Random) -> Json {
    let mut fields = json!({});
    let several = |random: &mut Random, one: &mut dyn FnMut(&mut Random) -> Json| match random.below(4) {
        0 => Json::Null,
        1 | 2 => one(random),
        _ => (0..random.below(4)).map(|_| one(random)).collect(),
    };
    fields["skills"] = several(random, &mut |r| json!(WORDS[r.below(WORDS.len())]));
    fields["salary"] = several(random, &mut |r| random_number(r));
    fields["posted_at"] = several(random, &mut |r| json!(format!("2026-01-{:02}", 1 + r.below(28))));
    fields["location"] = several(random, &mut |r| json!({"lat": LATS[r.below(LATS.len())], "lon": LONS[r.below(LONS.len())]}));
    fields["remote"] = several(random, &mut |r| json!(r.chance(2)));
    fields
}

pub(super) const WORDS: [&str; 7] = ["rust", "sql", "go", "", "żółw", "true", "rust "];
const NUMBERS: [f64; 9] = [0.0, -0.0, 1.0, -1.5, 50_000.0, 1e300, -1e300, 0.1, 9_007_199_254_740_992.0];
/// Integers of which several are nearest to the same `f64`.
const INTEGERS: [i64; 6] =
    [9_007_199_254_740_993, 9_007_199_254_740_991, 1_768_907_725_507_217_522, 1_768_907_725_507_217_523, i64::MIN + 1, i64::MIN];
const UNSIGNED: [u64; 3] = [u64::MAX, u64::MAX - 1, 1 << 63];

pub(super) fn random_number(random: &mut Random) -> Json {
    match random.below(3) {
        0 => json!(INTEGERS[random.below(INTEGERS.len())]),
        1 if random.chance(2) => json!(UNSIGNED[random.below(UNSIGNED.len())]),
        _ => json!(NUMBERS[random.below(NUMBERS.len())]),
    }
}
const LATS: [f64; 6] = [-90.0, -0.1, 0.0, 52.52, 52.6, 90.0];
const LONS: [f64; 5] = [-180.0, -0.1, 13.4, 179.9, 180.0];

pub(super) struct Sample {
    pub dims: usize,
    pub vectors: Vec<f32>,
    pub n_chunks: Vec<u32>,
    pub attributes: Vec<Attributes>,
    pub schema: Schema,
}

impl Sample {
    pub fn plain(dims: usize, vectors: Vec<f32>) -> Self {
        let n_rows = vectors.len() / dims;
        Self { dims, vectors, n_chunks: vec![1; n_rows], attributes: vec![Attributes::default(); n_rows], schema: definition().1 }
    }

    pub fn random(seed: u64, n_rows: usize, dims: usize) -> Self {
        let mut random = Random(seed);
        let vectors = random.clustered(n_rows, dims, 12);
        let attributes = (0..n_rows).map(|_| attributes(random_fields(&mut random))).collect();
        Self { attributes, ..Self::plain(dims, vectors) }
    }

    /// Rows with up to five vectors.
    pub fn chunked(seed: u64, n_rows: usize, dims: usize) -> Self {
        let mut random = Random(seed);
        let n_chunks: Vec<u32> = (0..n_rows).map(|_| 1 + random.below(5) as u32).collect();
        let vectors = random.clustered(n_chunks.iter().sum::<u32>() as usize, dims, 12);
        Self { vectors, n_chunks, ..Self::random(seed, n_rows, dims) }
    }

    pub fn n_rows(&self) -> usize {
        self.attributes.len()
    }

    pub fn build(&self, dir: &Path, params: &BuildParams) -> Result<(), IndexError> {
        Index::build(dir, self.input(), params, &Progress::hidden()).map(drop)
    }

    pub fn input(&self) -> BuildInput<'_> {
        let Self { dims, vectors, n_chunks, attributes, schema } = self;
        BuildInput { dims: *dims, vectors, n_chunks, attributes, schema }
    }

    /// Built with little effort, and opened.
    pub fn index(&self) -> (tempfile::TempDir, Index) {
        self.index_with(&BuildParams { max_connections: 8, ef_construction: 40, threads: 2, ..params() })
    }

    pub fn index_with(&self, params: &BuildParams) -> (tempfile::TempDir, Index) {
        let dir = tempfile::tempdir().unwrap();
        self.build(dir.path(), params).unwrap();
        let index = Index::open(dir.path(), self.dims, self.n_rows(), &self.schema).unwrap();
        (dir, index)
    }

    /// The first vector of a row.
    pub fn row(&self, row: u32) -> &[f32] {
        &self.chunks(row)[..self.dims]
    }

    /// All vectors of a row.
    pub fn chunks(&self, row: u32) -> &[f32] {
        let (before, own) = (self.n_chunks[..row as usize].iter().sum::<u32>() as usize, self.n_chunks[row as usize] as usize);
        &self.vectors[before * self.dims..][..own * self.dims]
    }

    /// Every row compared, without any code of the index but the dot product.
    pub fn oracle(&self, query: &Embedding, filter: Option<&Filter>, deleted: &RoaringBitmap) -> Vec<Candidate> {
        let matching = (0..self.n_rows() as u32)
            .filter(|&row| !deleted.contains(row) && filter.is_none_or(|f| f.matches(&self.attributes[row as usize])));
        let scores = |row| self.chunks(row).chunks_exact(self.dims).map(|vector| dot(query.as_slice(), vector));
        let mut all: Vec<_> = matching.map(|row| Candidate { row, score: scores(row).fold(f32::MIN, f32::max) }).collect();
        all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        all
    }
}

/// As by default, but vectors are stored as they are given, so that scores can be compared to the bit.
pub(super) fn params() -> BuildParams {
    BuildParams { quantization: Quantization::F32, ..BuildParams::default() }
}

pub(super) fn request(deleted: &RoaringBitmap) -> SearchRequest<'_> {
    SearchRequest { k: 10, ef_search: 64, strategy: StrategyChoice::Auto, filter: None, deleted }
}
