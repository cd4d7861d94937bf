//! RECALL: how many of the truly nearest documents searches find, measured on a collection as it is and as it is asked.
//!
//! Each query is answered twice, as a search would and by comparing every matching document. A hit is right when its score is
//! at least that of the last that belongs to the answer, so ties count for either. One query at a time goes to the threads that
//! search: a measurement takes one of them at most, and searches pass between its queries.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value as Json;

use super::PipelineError;
use super::monitor::RecallHistory;
use super::probes::{self, Origin, Probe};
use super::query::{QueryPipeline, label, micros, within};
use crate::collection::{Found, Question, RetrieveRequest, Searcher};
use kindred_core::domain::{CollectionName, Filter, StrategyChoice};

/// Most queries to measure with.
const MAX_NUM: usize = 1_000;
/// Scores closer than this are ties: rounding may put either first.
const TIE: f32 = 1e-6;
/// Bounds of the groups by selectivity.
const BOUNDS: [f64; 7] = [1.0, 0.3, 0.1, 0.03, 0.01, 0.001, 0.0];

/// What to measure, as parsed at the edge. `None` stands for the configured default.
#[derive(Debug, Clone, PartialEq)]
pub struct RecallRequest {
    pub collection: CollectionName,
    /// Queries to measure with.
    pub num: usize,
    pub k: usize,
    pub ef_search: Option<usize>,
    /// Narrows every query. Read against the collection's schema here.
    pub filter: Option<Json>,
    /// The same seed chooses the same queries, as long as documents and recent searches are the same.
    pub seed: Option<u64>,
}

/// How much of the exact answer searches find.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RecallReport {
    /// Mean share of the `k` nearest matching documents that a search finds; null when nothing could be measured.
    pub recall: Option<f64>,
    /// What all but the worst 5 % of the queries reach.
    pub p5: Option<f64>,
    /// 95 % interval of the mean: Wilson's, with every query as one trial. As most queries miss a part at most, it is rather
    /// too wide than too narrow.
    pub ci95: Option<[f64; 2]>,
    /// Queries that were measured. Those that no document matches are left out.
    pub n_queries: usize,
    /// How many of them are recent searches; the others are documents, asked with as they are, themselves left out.
    pub n_from_queries: usize,
    pub k: usize,
    pub ef_search: usize,
    /// Give it again to choose the same queries.
    pub seed: u64,
    /// All of them, and each document once more among those that share one of its keywords, by the share of documents that
    /// the filter lets through.
    pub by_selectivity: Vec<RecallOfGroup>,
    /// Mean time of the exact retrieval, in microseconds.
    pub exact_us: Option<u64>,
    /// Mean time of the retrieval as searches do it.
    pub auto_us: Option<u64>,
    pub generation: String,
}

/// Recall where filters are about equally selective: more than `from` and at most `to` of the documents match.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct RecallOfGroup {
    pub from: f64,
    pub to: f64,
    pub n_queries: usize,
    pub recall: Option<f64>,
    pub p5: Option<f64>,
}

/// What one query gave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    origin: Origin,
    pub recall: f64,
    pub selectivity: f64,
    exact_us: u64,
    auto_us: u64,
}

/// The collections whose recall is being measured: one measurement of each at a time.
#[derive(Debug, Default)]
pub(super) struct Measuring(Mutex<BTreeSet<CollectionName>>);

/// The turn of one collection, until it is dropped.
pub(super) struct Turn<'a> {
    all: &'a Measuring,
    collection: CollectionName,
}

impl Measuring {
    fn turn_of(&self, collection: &CollectionName) -> Option<Turn<'_>> {
        self.lock().insert(collection.clone()).then(|| Turn { all: self, collection: collection.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<CollectionName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.collection);
    }
}

impl QueryPipeline {
    /// Measures the recall of a collection's searches.
    ///
    /// # Errors
    /// [`PipelineError`] says which part of the request cannot be accepted; [`PipelineError::Measuring`] when another
    /// measurement is under way, [`PipelineError::Overloaded`] when there are too many searches for one.
    pub async fn recall(&self, request: RecallRequest) -> Result<RecallReport, PipelineError> {
        let collection = self.collections.get(&request.collection)?;
        within("num", request.num, MAX_NUM)?;
        within("k", request.k, self.limits.max_limit)?;
        let ef_search = request.ef_search.unwrap_or(self.settings.ef_search);
        within("ef_search", ef_search, self.limits.max_ef_search)?;
        let searcher = collection.searcher();
        let filter = request.filter.as_ref().map(|json| Filter::parse(json, &searcher.meaning().schema)).transpose()?;
        let _turn = self.measuring.turn_of(&request.collection).ok_or(PipelineError::Measuring)?;

        let seed = request.seed.unwrap_or_else(|| jiff::Timestamp::now().as_microsecond().unsigned_abs());
        let (pinned, recent, num, k) = (Arc::clone(&searcher), self.recent.of(&collection), request.num, request.k);
        let probes = self.pool.run(move || probes::choose(&pinned, recent, num, filter.as_ref(), seed)).await??;
        let mut all = Vec::with_capacity(probes.len());
        for probe in probes {
            let pinned = Arc::clone(&searcher);
            all.extend(self.pool.run(move || measure(&pinned, &probe, k, ef_search)).await??);
        }
        Ok(report(&all, k, ef_search, seed, label(searcher.generation())))
    }
}

impl QueryPipeline {
    /// What was seen of a collection's live searches.
    ///
    /// # Errors
    /// There is no such collection.
    pub fn recall_history(&self, collection: &CollectionName) -> Result<RecallHistory, PipelineError> {
        Ok(self.monitor.history(&self.collections.get(collection)?))
    }

    /// Whether its live searches find too little.
    pub fn recall_alarm(&self, collection: &str) -> bool {
        let collection = CollectionName::new(collection).ok().and_then(|name| self.collections.get(&name).ok());
        collection.is_some_and(|collection| self.monitor.alarm(&collection))
    }
}

/// The recall of searches for documents of a snapshot, about `num` of them; `None` when there are none.
///
/// # Errors
/// [`PipelineError::Collection`] when a file is damaged.
pub(super) fn of_documents(searcher: &Searcher, k: usize, ef_search: usize, num: usize) -> Result<Option<f64>, PipelineError> {
    let probes = probes::choose(searcher, Vec::new(), num, None, 1)?;
    let all = probes.iter().map(|probe| measure(searcher, probe, k, ef_search)).collect::<Result<Vec<_>, _>>()?;
    let as_asked: Vec<Measured> = all.into_iter().flatten().filter(|one| one.origin != Origin::DocumentAmongAlike).collect();
    Ok(mean_of(&as_asked))
}

/// Answers a query both ways; `None` when nothing matches.
pub(super) fn measure(searcher: &Searcher, probe: &Probe, k: usize, ef_search: usize) -> Result<Option<Measured>, PipelineError> {
    let retrieve = |strategy| {
        let started = Instant::now();
        let request =
            RetrieveRequest { k, ef_search, strategy, filter: probe.filter.as_deref(), exclude: probe.exclude.as_ref(), until: None };
        searcher.retrieve(Question::Meaning(&probe.embedding), &request).map(|retrieved| (retrieved, micros(started)))
    };
    // As a search would come, before the exact one has fetched every vector.
    let (found, auto_us) = retrieve(StrategyChoice::Auto)?;
    let (exact, exact_us) = retrieve(StrategyChoice::Exact)?;
    let recall = recall_of(&scores(&found.found), &scores(&exact.found));
    Ok(recall.map(|recall| Measured { origin: probe.origin, recall, selectivity: exact.plan.selectivity, exact_us, auto_us }))
}

fn scores(found: &[Found]) -> Vec<f32> {
    found.iter().filter_map(|found| found.dense).map(|dense| dense.score).collect()
}

/// The share of the exact answer that was found; `None` when the answer is empty. Scores are of full precision on both sides.
fn recall_of(found: &[f32], exact: &[f32]) -> Option<f64> {
    let last = exact.last()? - TIE;
    let n_right = found.iter().filter(|&&score| score >= last).count();
    Some(n_right.min(exact.len()) as f64 / exact.len() as f64)
}

fn report(all: &[Measured], k: usize, ef_search: usize, seed: u64, generation: String) -> RecallReport {
    let as_asked: Vec<Measured> = all.iter().filter(|one| one.origin != Origin::DocumentAmongAlike).copied().collect();
    let recall = mean_of(&as_asked);
    RecallReport {
        recall,
        p5: p5(&as_asked),
        ci95: recall.map(|recall| wilson(recall, as_asked.len())),
        n_queries: as_asked.len(),
        n_from_queries: as_asked.iter().filter(|one| one.origin == Origin::Query).count(),
        k,
        ef_search,
        seed,
        by_selectivity: groups(all),
        exact_us: mean(&as_asked, |one| one.exact_us as f64).map(|us| us.round() as u64),
        auto_us: mean(&as_asked, |one| one.auto_us as f64).map(|us| us.round() as u64),
        generation,
    }
}

/// Recall where filters are about equally selective, the least selective first.
pub(super) fn groups(all: &[Measured]) -> Vec<RecallOfGroup> {
    let group = |bounds: &[f64]| {
        let (to, from) = (bounds[0], bounds[1]);
        let of_group: Vec<Measured> = all.iter().filter(|one| one.selectivity > from && one.selectivity <= to).copied().collect();
        RecallOfGroup { from, to, n_queries: of_group.len(), recall: mean_of(&of_group), p5: p5(&of_group) }
    };
    BOUNDS.windows(2).map(group).collect()
}

/// The upper bound of the group that a selectivity belongs to.
pub(super) fn group_of(selectivity: f64) -> f64 {
    BOUNDS.windows(2).find(|bounds| selectivity > bounds[1]).map_or(0.0, |bounds| bounds[0])
}

pub(super) fn mean_of(measured: &[Measured]) -> Option<f64> {
    mean(measured, |one| one.recall)
}

fn mean(of: &[Measured], value: impl Fn(&Measured) -> f64) -> Option<f64> {
    (!of.is_empty()).then(|| of.iter().map(value).sum::<f64>() / of.len() as f64)
}

/// The recall that all but the worst 5 % reach.
fn p5(of: &[Measured]) -> Option<f64> {
    let mut recalls: Vec<f64> = of.iter().map(|one| one.recall).collect();
    recalls.sort_unstable_by(f64::total_cmp);
    recalls.get(recalls.len() / 20).copied()
}

/// Wilson's interval of a share of `n` trials, at 95 %. A mean of values from 0 to 1 varies at most as such a share does, so it
/// holds for that too; and all found in few queries does not pass for certainty.
pub(super) fn wilson(share: f64, n: usize) -> [f64; 2] {
    const Z: f64 = 1.959_964;
    let n = n as f64;
    let middle = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).max(0.0).sqrt();
    [middle - half, middle + half].map(|bound| (bound / (1.0 + Z * Z / n)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_right_and_worse_hits_are_not() {
        assert_eq!(recall_of(&[0.9, 0.8], &[0.9, 0.8]), Some(1.0));
        assert_eq!(recall_of(&[0.9, 0.799_999_5], &[0.9, 0.8]), Some(1.0), "a tie");
        assert_eq!(recall_of(&[0.9, 0.79], &[0.9, 0.8]), Some(0.5));
        assert_eq!(recall_of(&[0.8, 0.8, 0.8], &[0.8, 0.8]), Some(1.0), "never more than all");
        assert_eq!(recall_of(&[], &[0.8]), Some(0.0));
        assert_eq!(recall_of(&[], &[]), None);
    }

    #[test]
    fn intervals_agree_with_the_textbook() {
        // Of 10 trials, 8: 0.490 to 0.943. Of 100, all: 0.963 to 1.
        for (share, n, low, high) in [(0.8, 10, 0.490, 0.943), (1.0, 100, 0.963, 1.0), (0.0, 10, 0.0, 0.278)] {
            let [from, to] = wilson(share, n);
            assert!((from - low).abs() < 1e-3 && (to - high).abs() < 1e-3, "{share} of {n}: {from} to {to}");
        }
    }

    #[test]
    fn reports_group_by_selectivity() {
        let one = |origin, recall, selectivity| Measured { origin, recall, selectivity, exact_us: 30, auto_us: 10 };
        let all = [
            one(Origin::Query, 0.5, 1.0),
            one(Origin::Document, 1.0, 1.0),
            one(Origin::DocumentAmongAlike, 0.0, 0.3),
            one(Origin::DocumentAmongAlike, 0.25, 0.000_1),
        ];
        let told = report(&all, 10, 64, 7, "none".to_owned());
        assert_eq!((told.recall, told.p5, told.n_queries, told.n_from_queries), (Some(0.75), Some(0.5), 2, 1));
        assert_eq!((told.exact_us, told.auto_us), (Some(30), Some(10)));
        let groups: Vec<_> = told.by_selectivity.iter().map(|g| (g.from, g.to, g.n_queries, g.recall)).collect();
        assert_eq!(groups[..2], [(0.3, 1.0, 2, Some(0.75)), (0.1, 0.3, 1, Some(0.0))]);
        assert_eq!(groups[2..5].iter().map(|g| (g.2, g.3)).collect::<Vec<_>>(), [(0, None); 3]);
        assert_eq!(groups[5], (0.0, 0.001, 1, Some(0.25)));
        let nothing = report(&[], 10, 64, 7, "none".to_owned());
        assert_eq!((nothing.recall, nothing.p5, nothing.ci95, nothing.exact_us), (None, None, None, None));
    }
}
