//! Builds the index to measure, or finds one that was built before.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::system;
use crate::vectors::Vectors;
use kindred_core::Progress;
use kindred_core::domain::{Attributes, Schema};
use kindred_core::storage;
use kindred_index::{BuildInput, BuildParams, Index};

/// Beside an index's files: what it was built from, how, and what that took.
const STAMP_FILE: &str = "bench.json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stamp {
    n_rows: usize,
    dims: usize,
    /// Of all numbers: tells the vectors from others of the same shape.
    vectors_crc32: u32,
    params: BuildParams,
    build_s: f64,
    build_cpu_s: Option<f64>,
}

/// A built index in its folder, not open.
#[derive(Debug)]
pub(super) struct Built {
    dir: PathBuf,
    stamp: Stamp,
    /// Whether it was there before.
    pub is_reused: bool,
    _temporary: Option<TempDir>,
}

impl Built {
    /// Builds an index of the vectors, or takes the one in `dir` if it is of these vectors and parameters. Without `dir` it goes
    /// into a temporary folder.
    ///
    /// # Errors
    /// A folder with another index or anything else in it; a build that fails.
    pub fn get(dir: Option<&Path>, base: &Vectors, params: &BuildParams) -> Result<Self> {
        let wanted = Stamp {
            n_rows: base.n_rows(),
            dims: base.dims,
            vectors_crc32: crc32fast::hash(bytemuck::cast_slice(&base.numbers)),
            params: params.clone(),
            build_s: 0.0,
            build_cpu_s: None,
        };
        let Some(dir) = dir else {
            let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
            let stamp = build(temporary.path(), base, wanted)?;
            return Ok(Self { dir: temporary.path().to_owned(), stamp, is_reused: false, _temporary: Some(temporary) });
        };
        let dir = &std::path::absolute(dir)?;
        if !storage::list_dir(dir)?.is_empty() {
            let stamp = read_stamp(dir)?;
            stamp
                .check_fits(&wanted)
                .with_context(|| format!("{} cannot be used again: name another folder, or delete it", dir.display()))?;
            return Ok(Self { dir: dir.to_owned(), stamp, is_reused: true, _temporary: None });
        }
        // An interrupted build leaves no folder that looks like an index.
        let unfinished = dir.with_added_extension("unfinished");
        storage::remove_dir(&unfinished)?;
        // Only an empty folder is replaced, whatever the list of its names left out.
        if dir.exists() {
            std::fs::remove_dir(dir).with_context(|| format!("cannot replace {}", dir.display()))?;
        }
        storage::create_dir(&unfinished)?;
        let stamp = build(&unfinished, base, wanted)?;
        storage::publish_dir(&unfinished, dir)?;
        Ok(Self { dir: dir.to_owned(), stamp, is_reused: false, _temporary: None })
    }

    /// Opens the index as a collection opens its own.
    ///
    /// # Errors
    /// Files that are not as they were written.
    pub fn open(&self) -> Result<Index> {
        Ok(Index::open(&self.dir, self.stamp.dims, self.stamp.n_rows, &Schema::default())?)
    }

    /// Path and length of each file of the index.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn files(&self) -> Result<Vec<(PathBuf, u64)>> {
        let names = storage::list_dir(&self.dir)?.into_iter().filter(|name| name != STAMP_FILE);
        let paths = names.map(|name| self.dir.join(name));
        paths.map(|path| std::fs::metadata(&path).map(|file| (path, file.len())).context("cannot look at the index's files")).collect()
    }

    pub fn params(&self) -> &BuildParams {
        &self.stamp.params
    }

    pub fn build_s(&self) -> f64 {
        self.stamp.build_s
    }

    pub fn build_cpu_s(&self) -> Option<f64> {
        self.stamp.build_cpu_s
    }
}

impl Stamp {
    fn check_fits(&self, wanted: &Self) -> Result<()> {
        if (self.n_rows, self.dims, self.vectors_crc32) != (wanted.n_rows, wanted.dims, wanted.vectors_crc32) {
            bail!("it is an index of other vectors, {} × {}", self.n_rows, self.dims);
        }
        // How many threads built it does not change what it is.
        let built = BuildParams { threads: wanted.params.threads, ..self.params.clone() };
        if built != wanted.params {
            bail!("it was built with {:?}, not {:?}", self.params, wanted.params);
        }
        Ok(())
    }
}

fn build(dir: &Path, base: &Vectors, mut stamp: Stamp) -> Result<Stamp> {
    let attributes = vec![Attributes::default(); base.n_rows()];
    let n_chunks = vec![1; base.n_rows()];
    let input =
        BuildInput { dims: base.dims, vectors: &base.numbers, n_chunks: &n_chunks, attributes: &attributes, schema: &Schema::default() };
    let progress = Progress::new("building", base.n_rows() as u64);
    let (started, cpu_before) = (Instant::now(), system::cpu_seconds());
    Index::build(dir, input, &stamp.params, &progress)?;
    stamp.build_s = started.elapsed().as_secs_f64();
    stamp.build_cpu_s = system::cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    progress.finish();
    storage::replace_file(&dir.join(STAMP_FILE), &serde_json::to_vec_pretty(&stamp)?)?;
    Ok(stamp)
}

fn read_stamp(dir: &Path) -> Result<Stamp> {
    let path = dir.join(STAMP_FILE);
    let Some(bytes) = storage::read_file(&path)? else {
        bail!("{} holds something else than an index that this command built: name another folder", dir.display());
    };
    serde_json::from_slice(&bytes).with_context(|| format!("{} cannot be read: delete the folder, and it is built anew", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(n_rows: usize) -> Vectors {
        let numbers = (0..n_rows).flat_map(|row| [(row as f32).cos(), (row as f32).sin()]).collect();
        Vectors { dims: 2, numbers }
    }

    #[test]
    fn an_index_is_used_again_if_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("index");
        let get = |n_rows, params: &BuildParams| Built::get(Some(&at), &vectors(n_rows), params);
        let params = BuildParams { threads: 1, ..BuildParams::default() };
        let built = get(50, &params).unwrap();
        assert_eq!((built.is_reused, built.open().unwrap().n_rows()), (false, 50));
        assert!(built.files().unwrap().iter().all(|(path, size)| *size > 0 && !path.ends_with(STAMP_FILE)));
        let again = get(50, &BuildParams { threads: 2, ..params.clone() }).unwrap();
        assert_eq!((again.is_reused, again.build_s()), (true, built.build_s()));
        let says = |result: Result<Built>| format!("{:#}", result.unwrap_err());
        assert!(says(get(49, &params)).contains("other vectors, 50 × 2"));
        assert!(says(get(50, &BuildParams { ef_construction: 9, ..params.clone() })).contains("ef_construction: 9"));
        std::fs::remove_file(at.join(STAMP_FILE)).unwrap();
        assert!(says(get(50, &params)).contains("something else"));
    }
}
