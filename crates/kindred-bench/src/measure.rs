//! Opens, searches, counts and times.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use roaring::RoaringBitmap;
use serde::Serialize;

use crate::built::Built;
use crate::system;
use crate::truth::Truth;
use crate::vectors::Vectors;
use kindred_core::Progress;
use kindred_core::domain::Embedding;
use kindred_core::domain::StrategyChoice;
use kindred_index::{Index, SearchRequest};

/// How deep recall is told, as far as k goes.
const RECALL_AT: [usize; 3] = [1, 10, 100];

/// What to do with the queries.
#[derive(Debug)]
pub(super) struct MeasurePlan {
    pub k: usize,
    /// Beam widths, ascending.
    pub efs: Vec<usize>,
    pub threads: usize,
    /// Every round goes through all widths, so that a noisy minute does not fall on one of them.
    pub rounds: usize,
}

/// A duration with files that had to be read from the disk, and with files that were in memory.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct ColdWarm {
    /// `None` where the page cache cannot be emptied.
    pub cold: Option<f64>,
    pub warm: f64,
}

/// What opening takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    pub open_ms: ColdWarm,
    pub first_query_ms: ColdWarm,
}

/// What one width of the beam gives.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub ef_search: usize,
    /// At k.
    pub recall: f64,
    pub recall_at: BTreeMap<usize, f64>,
    /// The median of the rounds.
    pub qps: f64,
    pub qps_by_round: Vec<f64>,
    /// Over the searches of all rounds.
    pub p50_us: f64,
    pub p99_us: f64,
    /// Per query.
    pub n_distances: f64,
}

/// Times opening the index and its first search.
pub(super) fn opening(built: &Built, query: &Embedding, plan: &MeasurePlan) -> Result<Opening> {
    let files = built.files()?;
    let once = || -> Result<(f64, f64)> {
        let started = Instant::now();
        let index = built.open()?;
        let open_ms = milliseconds(started.elapsed());
        let started = Instant::now();
        search(&index, query, plan.k, plan.efs[0])?;
        Ok((open_ms, milliseconds(started.elapsed())))
    };
    // The first brings the files into memory, wherever they were.
    once()?;
    let (warm_open, warm_query) = once()?;
    let mut is_cold = true;
    for (path, _) in &files {
        is_cold &= system::drop_from_cache(path).with_context(|| format!("cannot drop {} from the page cache", path.display()))?;
    }
    let cold = if is_cold { Some(once()?) } else { None };
    Ok(Opening {
        open_ms: ColdWarm { cold: cold.map(|(open, _)| open), warm: warm_open },
        first_query_ms: ColdWarm { cold: cold.map(|(_, query)| query), warm: warm_query },
    })
}

/// Searches for all queries at every width in every round. Also tells how much more memory is resident than before the index was
/// opened.
pub(super) fn sweep(
    built: &Built,
    base: &Vectors,
    queries: &Vectors,
    truth: &Truth,
    plan: &MeasurePlan,
) -> Result<(Vec<Row>, Option<u64>)> {
    let asked: Vec<Embedding> = (0..queries.n_rows()).map(|row| queries.embedding(row)).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(plan.threads).thread_name(|i| format!("bench-{i}")).build()?;
    let resident_before = system::resident_bytes();
    let index = built.open()?;
    // Working memory is made and pages are mapped before anything is timed.
    pass(&index, &pool, &asked, plan.k, plan.efs[plan.efs.len() - 1])?;
    let resident_bytes = system::resident_bytes().zip(resident_before).map(|(after, before)| after.saturating_sub(before));

    let mut passes: Vec<Vec<Pass>> = plan.efs.iter().map(|_| Vec::with_capacity(plan.rounds)).collect();
    let progress = Progress::new("searching", (plan.rounds * plan.efs.len() * asked.len()) as u64);
    for _ in 0..plan.rounds {
        for (ef, passes) in plan.efs.iter().zip(&mut passes) {
            passes.push(pass(&index, &pool, &asked, plan.k, *ef)?);
            progress.advance(asked.len() as u64);
        }
    }
    progress.finish();
    let row = |(ef, passes): (&usize, &Vec<Pass>)| Row::of(*ef, passes, &Recalls { base, queries, truth }, plan.k);
    Ok((plan.efs.iter().zip(&passes).map(row).collect(), resident_bytes))
}

/// All queries once.
struct Pass {
    wall: Duration,
    /// By query.
    answers: Vec<Answer>,
}

#[derive(Default)]
struct Answer {
    rows: Vec<u32>,
    n_distances: u64,
    took: Duration,
}

fn pass(index: &Index, pool: &rayon::ThreadPool, queries: &[Embedding], k: usize, ef: usize) -> Result<Pass> {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    // Each thread takes the next query that none has taken, as the threads of a server do.
    let by_thread: Vec<Result<Vec<(usize, Answer)>>> = pool.broadcast(|_| {
        let mut answers = Vec::with_capacity(queries.len());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(query) = queries.get(at) else { return Ok(answers) };
            answers.push((at, search(index, query, k, ef)?));
        }
    });
    let wall = started.elapsed();
    let mut answers: Vec<Answer> = queries.iter().map(|_| Answer::default()).collect();
    for of_thread in by_thread {
        for (at, answer) in of_thread? {
            answers[at] = answer;
        }
    }
    Ok(Pass { wall, answers })
}

fn search(index: &Index, query: &Embedding, k: usize, ef: usize) -> Result<Answer> {
    // Empty, so making it allocates nothing.
    let deleted = RoaringBitmap::new();
    let request = SearchRequest { k, ef_search: ef, strategy: StrategyChoice::Graph, filter: None, deleted: &deleted };
    let started = Instant::now();
    let found = index.search(query, &request)?;
    let took = started.elapsed();
    Ok(Answer { rows: found.candidates.iter().map(|c| c.row).collect(), n_distances: found.plan.n_distances, took })
}

/// What recall is counted by.
struct Recalls<'a> {
    base: &'a Vectors,
    queries: &'a Vectors,
    truth: &'a Truth,
}

impl Recalls<'_> {
    fn mean(&self, answers: &[Answer], k: usize) -> f64 {
        let of = |(query, answer): (usize, &Answer)| self.truth.recall(self.base, self.queries, query, &answer.rows, k);
        answers.iter().enumerate().map(of).sum::<f64>() / answers.len() as f64
    }
}

impl Row {
    fn of(ef: usize, passes: &[Pass], recalls: &Recalls<'_>, k: usize) -> Self {
        // An index does not change, so every round finds the same.
        let answers = &passes[0].answers;
        let recall_at: BTreeMap<usize, f64> =
            RECALL_AT.into_iter().filter(|at| *at < k).chain([k]).map(|at| (at, recalls.mean(answers, at))).collect();
        let qps_by_round: Vec<f64> = passes.iter().map(|pass| pass.answers.len() as f64 / pass.wall.as_secs_f64()).collect();
        let took = passes.iter().flat_map(|pass| &pass.answers).map(|answer| answer.took.as_secs_f64() * 1e6);
        let took = sorted(took.collect());
        Self {
            ef_search: ef,
            recall: recall_at[&k],
            recall_at,
            qps: quantile(&sorted(qps_by_round.clone()), 0.5),
            qps_by_round,
            p50_us: quantile(&took, 0.5),
            p99_us: quantile(&took, 0.99),
            n_distances: answers.iter().map(|answer| answer.n_distances as f64).sum::<f64>() / answers.len() as f64,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(super) fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// Between two values, in proportion.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        let numbers = sorted(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((quantile(&numbers, 0.0), quantile(&numbers, 0.5), quantile(&numbers, 1.0)), (1.0, 2.5, 4.0));
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
    }
}
