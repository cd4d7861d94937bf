//! `kindred bench ann`: the index on its own, without an encoder: recall, speed, size, building, opening.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::built::Built;
use crate::measure::{self, MeasurePlan};
use crate::plot;
use crate::report::Report;
use crate::truth::Truth;
use crate::vectors::Vectors;
use kindred::app::App;
use kindred::collection::Access;
use kindred::config::Settings;
use kindred::tools::fetch;
use kindred_core::domain::CollectionName;
use kindred_index::BuildParams;

/// Beam widths where none are named; those below k are left out.
const EFS: [usize; 12] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];
/// Rows that become queries where none are given, but no more than one in a hundred.
const MAX_HELD_OUT: usize = 1_000;
/// Neighbours per query that are written at least, so that a file serves several k.
const WRITTEN_DEPTH: usize = 100;

#[derive(Debug, Args)]
pub struct AnnArgs {
    /// Vectors to index: .fvecs, or .npy (float32); they are scaled to unit length
    #[arg(long, value_name = "FILE", required_unless_present = "collection")]
    base: Option<PathBuf>,
    /// Index the vectors of this collection instead; some of its documents become the queries
    #[arg(long, value_name = "NAME", conflicts_with_all = ["base", "queries"])]
    collection: Option<CollectionName>,
    /// Vectors to search for; without it the last rows of the base, 1,000 or one in a hundred
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// The exact neighbours of each query as .ivecs; without it they are computed
    #[arg(long, value_name = "FILE")]
    ground_truth: Option<PathBuf>,
    /// Write the exact neighbours to this file (.ivecs), at least 100 a query
    #[arg(long, value_name = "FILE", conflicts_with = "ground_truth")]
    write_ground_truth: Option<PathBuf>,
    /// Hits per search
    #[arg(long, default_value_t = 10, value_parser = at_least_one)]
    k: usize,
    /// Threads that search
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    threads: usize,
    /// Beam widths, for example 16,32,64; never below k [default: 10 to 512]
    #[arg(long, value_name = "EF", value_delimiter = ',')]
    ef: Vec<usize>,
    /// Times that all widths are gone through
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    rounds: usize,
    /// Keep the index in this folder; one that is there and fits is not built again
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,
    /// Links per row on the upper levels (M) [setting index.max_connections]
    #[arg(long)]
    max_connections: Option<usize>,
    /// Width of the beam while building [setting index.ef_construction]
    #[arg(long)]
    ef_construction: Option<usize>,
    /// Write the result to this file as JSON; - is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a plot of recall against queries a second to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
/// Files that cannot be read or do not fit together; anything an index refuses.
pub fn run(settings: &Settings, args: &AnnArgs) -> Result<()> {
    let (name, base, queries) = args.vectors(settings)?;
    ensure!(args.k <= base.n_rows(), "--k {} is more than the {} rows there are", args.k, base.n_rows());
    let plan = MeasurePlan { k: args.k, efs: args.efs()?, threads: args.threads, rounds: args.rounds };
    let truth = args.truth(&base, &queries)?;
    let built = Built::get(args.index.as_deref(), &base, &args.params(settings))?;
    let opening = measure::opening(&built, &queries.embedding(0), &plan)?;
    let (rows, resident_bytes) = measure::sweep(&built, &base, &queries, &truth, &plan)?;
    let files = built.files()?;
    let report = Report {
        base: name,
        n_rows: base.n_rows(),
        dims: base.dims,
        n_queries: queries.n_rows(),
        k: plan.k,
        threads: plan.threads,
        rounds: plan.rounds,
        params: built.params().clone(),
        is_reused: built.is_reused,
        build_s: built.build_s(),
        build_cpu_s: built.build_cpu_s(),
        points_per_cpu_s: built.build_cpu_s().map(|seconds| base.n_rows() as f64 / seconds),
        file_bytes: files.iter().map(|(_, size)| size).sum(),
        files: files.iter().map(|(path, size)| (file_name(path), *size)).collect(),
        resident_bytes,
        open_ms: opening.open_ms,
        first_query_ms: opening.first_query_ms,
        rows,
    };
    args.write(&report)
}

impl AnnArgs {
    /// A name for the vectors, those to index, and those to search for.
    fn vectors(&self, settings: &Settings) -> Result<(String, Vectors, Vectors)> {
        if let Some(collection) = &self.collection {
            fetch::ensure(settings)?;
            let embeddings = App::open(settings, Access::Read)?.catalog.embeddings(collection)?;
            let all = Vectors { dims: embeddings.dims, numbers: embeddings.vectors };
            let n_queries = held_out(all.n_rows()).with_context(|| format!("collection {collection}"))?;
            let (base, queries) = all.split_evenly(n_queries);
            return Ok((collection.to_string(), base, queries));
        }
        let path = self.base.as_deref().expect("clap asks for a base where there is no collection");
        let mut base = Vectors::read(path)?;
        let queries = match &self.queries {
            Some(path) => Vectors::read(path)?,
            None => base.split_last(held_out(base.n_rows()).with_context(|| path.display().to_string())?),
        };
        if base.dims != queries.dims {
            bail!("the base has {} dimensions, the queries have {}", base.dims, queries.dims);
        }
        Ok((file_name(path), base, queries))
    }

    fn efs(&self) -> Result<Vec<usize>> {
        let mut efs = self.ef.clone();
        if efs.is_empty() {
            efs = EFS.into_iter().filter(|ef| *ef > self.k).collect();
            efs.push(self.k);
        }
        efs.sort_unstable();
        efs.dedup();
        ensure!(efs[0] >= self.k, "--ef {} is below --k {}: a beam is never narrower than the hits that are wanted", efs[0], self.k);
        Ok(efs)
    }

    fn truth(&self, base: &Vectors, queries: &Vectors) -> Result<Truth> {
        if let Some(path) = &self.ground_truth {
            return Truth::read(path, base, queries, self.k);
        }
        let depth = if self.write_ground_truth.is_some() { self.k.max(WRITTEN_DEPTH).min(base.n_rows()) } else { self.k };
        let truth = Truth::compute(base, queries, depth);
        if let Some(path) = &self.write_ground_truth {
            truth.write(path)?;
        }
        Ok(truth)
    }

    /// How to build: as the settings say, but for what the flags say.
    fn params(&self, settings: &Settings) -> BuildParams {
        let mut params = settings.index.clone();
        params.max_connections = self.max_connections.unwrap_or(params.max_connections);
        params.ef_construction = self.ef_construction.unwrap_or(params.ef_construction);
        params
    }

    fn write(&self, report: &Report) -> Result<()> {
        let write = |path: &Path, text: &str| std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()));
        if let Some(path) = &self.svg {
            write(path, &plot::svg(report)?)?;
        }
        super::report::print(report, &report.text(), self.json.as_deref())
    }
}

fn held_out(n_rows: usize) -> Result<usize> {
    let n = (n_rows / 100).clamp(1, MAX_HELD_OUT);
    ensure!(n < n_rows, "{n_rows} vectors are too few to index some and search for others");
    Ok(n)
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        parsed => parsed.map_err(|e| format!("{e}")),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
