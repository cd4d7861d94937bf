//! `kindred bench filters`: recall and time of filtered searches, from filters that let half of all rows through to those that let
//! one in ten thousand through, whether they have to do with the query or not.
//!
//! Every row gets three random numbers and, for each of eight rows spread over the base, its rank by likeness to it. A filter is
//! one to three clauses that together let the wanted share through: *independent* ones ask for random numbers; *correlated* ones
//! have a first clause that lets the rows through that are most like the one of the eight that is most like the query,
//! *anti-correlated* ones those that are least like it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::truth::TIE;
use crate::vectors::Vectors;
use kindred::config::Settings;
use kindred_core::Progress;
use kindred_core::domain::{
    Attributes, CollectionDefinition, Document, Embedding, Filter, GOLDEN, Schema, Strategy, StrategyChoice, Template, mix_bits,
};
use kindred_index::{BuildInput, Found, Index, SearchRequest, dot};

const SHARES: [f64; 7] = [0.5, 0.2, 0.1, 0.04, 0.01, 0.001, 0.0001];
const N_CLAUSES: usize = 3;
const N_CENTERS: usize = 8;

#[derive(Debug, Args)]
pub struct FiltersArgs {
    /// Vectors to index: .fvecs, or .npy (float32); they are scaled to unit length
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Vectors to search for
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Searches per kind of filter
    #[arg(long, default_value_t = 200)]
    num: usize,
    /// Hits that recall counts, of the candidates that a search finds [setting search.candidates]
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// Write the result to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Independent,
    Correlated,
    AntiCorrelated,
}

/// The searches of one kind of filter.
#[derive(Debug, Serialize)]
struct Cell {
    share: f64,
    kind: Kind,
    n_clauses: usize,
    /// Mean share of rows that passed.
    selectivity: f64,
    recall: f64,
    p50_us: f64,
    p99_us: f64,
    /// How often each was used.
    strategies: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
struct Grid {
    n_rows: usize,
    dims: usize,
    n_queries: usize,
    k: usize,
    candidates: usize,
    ef_search: usize,
    unfiltered: Cell,
    cells: Vec<Cell>,
}

/// Measures and prints.
///
/// # Errors
/// Files that cannot be read or do not fit together; anything an index refuses.
pub fn run(settings: &Settings, args: &FiltersArgs) -> Result<()> {
    let (base, queries) = (Vectors::read(&args.base)?, Vectors::read(&args.queries)?);
    ensure!(base.dims == queries.dims, "the base has {} dimensions, the queries have {}", base.dims, queries.dims);
    ensure!(base.n_rows() >= N_CENTERS, "the base has {} rows: too few", base.n_rows());
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (template, schema) = definition();
    build(dir.path(), settings, &base, (&template, &schema))?;
    let bench = Bench {
        index: Index::open(dir.path(), base.dims, base.n_rows(), &schema)?,
        schema,
        centers: centers(&base).map(<[f32]>::to_vec).collect(),
        queries: (0..queries.n_rows().min(args.num)).map(|row| queries.embedding(row)).collect(),
        k: args.k,
        candidates: settings.search.candidates.max(args.k),
        ef_search: settings.search.ef_search,
    };
    let grid = bench.grid()?;
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&grid)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print!("{}", grid.text());
    Ok(())
}

fn definition() -> (Template, Schema) {
    let names = (0..N_CLAUSES).map(|i| format!("random{i}")).chain((0..N_CENTERS).map(|i| format!("rank{i}")));
    let numbers = names.map(|name| (name, json!({"type": "number", "index": true})));
    let fields: serde_json::Map<_, _> = numbers.chain([("text".to_owned(), json!({"type": "text"}))]).collect();
    let definition = json!({"template": "{text}", "fields": fields});
    let parsed: CollectionDefinition = serde_json::from_value(definition).expect("the definition above is one");
    parsed.check().expect("the definition above is sound")
}

fn centers(base: &Vectors) -> impl Iterator<Item = &[f32]> {
    (0..N_CENTERS).map(|i| base.row(i * base.n_rows() / N_CENTERS))
}

fn build(dir: &Path, settings: &Settings, base: &Vectors, (template, schema): (&Template, &Schema)) -> Result<()> {
    let n_rows = base.n_rows();
    let ranks: Vec<Vec<f64>> = centers(base).map(|center| ranks(base, center)).collect();
    let attributes = |row: usize| -> Result<Attributes> {
        let mut fields = json!({"id": row.to_string(), "text": "x"});
        for i in 0..N_CLAUSES {
            fields[format!("random{i}")] = json!(uniform((row * N_CLAUSES + i) as u64));
        }
        for (i, ranks) in ranks.iter().enumerate() {
            fields[format!("rank{i}")] = json!(ranks[row]);
        }
        Ok(Document::parse(fields, schema, template, 16)?.attributes)
    };
    let attributes = (0..n_rows).into_par_iter().map(attributes).collect::<Result<Vec<_>>>()?;
    let n_chunks = vec![1; base.n_rows()];
    let input = BuildInput { dims: base.dims, vectors: &base.numbers, n_chunks: &n_chunks, attributes: &attributes, schema };
    let progress = Progress::new("building", n_rows as u64);
    Index::build(dir, input, &settings.index, &progress)?;
    progress.finish();
    Ok(())
}

/// For each row the share of rows that are less like the center.
fn ranks(base: &Vectors, center: &[f32]) -> Vec<f64> {
    let scores: Vec<f32> = (0..base.n_rows()).into_par_iter().map(|row| dot(base.row(row), center)).collect();
    let mut order: Vec<u32> = (0..base.n_rows() as u32).collect();
    order.par_sort_unstable_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]));
    let mut ranks = vec![0.0; base.n_rows()];
    order.iter().enumerate().for_each(|(rank, &row)| ranks[row as usize] = rank as f64 / base.n_rows() as f64);
    ranks
}

/// From 0 to 1, the same for the same place.
fn uniform(place: u64) -> f64 {
    (mix_bits(place.wrapping_mul(GOLDEN)) >> 11) as f64 / (1u64 << 53) as f64
}

struct Bench {
    index: Index,
    schema: Schema,
    centers: Vec<Vec<f32>>,
    queries: Vec<Embedding>,
    k: usize,
    candidates: usize,
    ef_search: usize,
}

impl Bench {
    fn grid(&self) -> Result<Grid> {
        let kinds = [Kind::Independent, Kind::Correlated, Kind::AntiCorrelated];
        let progress = Progress::new("searching", (1 + SHARES.len() * kinds.len() * N_CLAUSES) as u64);
        let unfiltered = self.cell(1.0, Kind::Independent, 0)?;
        progress.advance(1);
        let mut cells = Vec::new();
        for share in SHARES {
            for kind in kinds {
                for n_clauses in 1..=N_CLAUSES {
                    cells.push(self.cell(share, kind, n_clauses)?);
                    progress.advance(1);
                }
            }
        }
        progress.finish();
        Ok(Grid {
            n_rows: self.index.n_rows() as usize,
            dims: self.index.dims(),
            n_queries: self.queries.len(),
            k: self.k,
            candidates: self.candidates,
            ef_search: self.ef_search,
            unfiltered,
            cells,
        })
    }

    fn cell(&self, share: f64, kind: Kind, n_clauses: usize) -> Result<Cell> {
        let filters = self.queries.iter().map(|query| self.filter(query, share, kind, n_clauses)).collect::<Result<Vec<_>>>()?;
        let asked = || self.queries.iter().zip(&filters);
        let mut times = Vec::with_capacity(self.queries.len());
        let (mut recall, mut selectivity, mut strategies) = (0.0, 0.0, BTreeMap::new());
        for (query, filter) in asked() {
            self.search(query, filter.as_ref(), StrategyChoice::Auto)?;
        }
        let mut found = Vec::with_capacity(self.queries.len());
        for (query, filter) in asked() {
            let started = Instant::now();
            found.push(self.search(query, filter.as_ref(), StrategyChoice::Auto)?);
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        for ((query, filter), found) in asked().zip(&found) {
            let exact = self.search(query, filter.as_ref(), StrategyChoice::Exact)?;
            recall += self.recall(found, &exact);
            selectivity += found.plan.selectivity;
            *strategies.entry(name(found.plan.strategy)).or_default() += 1;
        }
        times.sort_unstable_by(f64::total_cmp);
        let n = self.queries.len() as f64;
        let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];
        Ok(Cell { share, kind, n_clauses, selectivity: selectivity / n, recall: recall / n, p50_us: at(0.5), p99_us: at(0.99), strategies })
    }

    fn filter(&self, query: &Embedding, share: f64, kind: Kind, n_clauses: usize) -> Result<Option<Filter>> {
        if n_clauses == 0 {
            return Ok(None);
        }
        let each = share.powf(1.0 / n_clauses as f64);
        let below = |key: String, share: f64| json!({"key": key, "range": {"lt": share}});
        let likeness = |i: &usize| dot(&self.centers[*i], query.as_slice());
        let nearest = (0..N_CENTERS).max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or(0);
        let first = match kind {
            Kind::Independent => below("random0".to_owned(), each),
            Kind::Correlated => json!({"key": format!("rank{nearest}"), "range": {"gte": 1.0 - each}}),
            Kind::AntiCorrelated => below(format!("rank{nearest}"), each),
        };
        let clauses: Vec<Json> = std::iter::once(first).chain((1..n_clauses).map(|i| below(format!("random{i}"), each))).collect();
        Ok(Some(Filter::parse(&json!({"must": clauses}), &self.schema)?))
    }

    fn search(&self, query: &Embedding, filter: Option<&Filter>, strategy: StrategyChoice) -> Result<Found> {
        let deleted = RoaringBitmap::new();
        let request = SearchRequest { k: self.candidates, ef_search: self.ef_search, strategy, filter, deleted: &deleted };
        Ok(self.index.search(query, &request)?)
    }

    /// The share of the `k` best hits that were found; all of nothing.
    fn recall(&self, found: &Found, exact: &Found) -> f64 {
        let exact = &exact.candidates[..self.k.min(exact.candidates.len())];
        let Some(worst) = exact.last() else { return 1.0 };
        let right = found.candidates.iter().take(self.k).filter(|c| c.score >= worst.score - TIE).count();
        right as f64 / exact.len() as f64
    }
}

fn name(strategy: Strategy) -> String {
    serde_json::to_value(strategy).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Grid {
    fn text(&self) -> String {
        let base = &self.unfiltered;
        let mut text = format!(
            "{} × {}, {} queries, recall@{} of {} candidates, ef_search {}\nunfiltered: recall {:.4}, p50 {:.0} µs, p99 {:.0} µs\n\n| pass | filter | clauses | recall | p50 µs | p99 µs | p99 / unfiltered | strategies |\n|---|---|---|---|---|---|---|---|\n",
            self.n_rows, self.dims, self.n_queries, self.k, self.candidates, self.ef_search, base.recall, base.p50_us, base.p99_us
        );
        for cell in &self.cells {
            let strategies: Vec<String> = cell.strategies.iter().map(|(name, n)| format!("{name} {n}")).collect();
            text += &format!(
                "| {:.4} % | {} | {} | {:.4} | {:.0} | {:.0} | {:.2} | {} |\n",
                100.0 * cell.selectivity,
                cell.kind.label(),
                cell.n_clauses,
                cell.recall,
                cell.p50_us,
                cell.p99_us,
                cell.p99_us / base.p99_us,
                strategies.join(", ")
            );
        }
        text
    }
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Independent => "independent",
            Self::Correlated => "correlated",
            Self::AntiCorrelated => "anti-correlated",
        }
    }
}
