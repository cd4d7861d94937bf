//! Builds a graph over int8 codes, all threads inserting rows at once. With one thread, the same rows and seed give the same graph.
//!
//! *Source*: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
//! World graphs", 2018, algorithms 1 and 4. What differs: level-0 lists may grow to one and a half times their degree before they
//! are thinned out, and a new row links to as many rows as its list holds when finished, not to half of them.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use super::super::codes::{CodeTable, Probe};
use super::super::graph_file::MAX_LEVELS;
use super::draft::{Draft, Link, Scratch};
use super::{BuildParams, insert_all};
use kindred_core::Progress;
use kindred_core::domain::mix_bits;

/// Inserts `rows` into a graph, on the threads of the pool that this runs in.
pub(super) fn build<'a>(table: &'a CodeTable, n_rows: u32, rows: &[u32], params: &BuildParams, progress: &Progress) -> Draft<'a> {
    // Rows that are not inserted have no levels.
    let mut levels = vec![0; n_rows as usize];
    rows.iter().for_each(|&row| levels[row as usize] = level(row, params));
    let builder = Builder { draft: Draft::new(table, levels, params), ef: params.ef_construction, entry: Mutex::new(None) };
    insert_all(rows, progress, |row| builder.insert(row));
    builder.draft
}

/// Each level has `1/M` of the rows of the one below, drawn by the row's number and the seed.
fn level(row: u32, params: &BuildParams) -> u8 {
    let uniform = (mix_bits(params.seed ^ mix_bits(u64::from(row))) >> 11) as f64 / (1u64 << 53) as f64;
    let level = -(1.0 - uniform).ln() / (params.max_connections as f64).ln();
    level.min((MAX_LEVELS - 1) as f64) as u8
}

struct Builder<'a> {
    draft: Draft<'a>,
    ef: usize,
    /// A row of the highest level, where all walks begin.
    entry: Mutex<Option<u32>>,
}

impl Builder<'_> {
    fn insert(&self, row: u32) {
        thread_local! {
            static SCRATCH: RefCell<(Scratch, Probe)> = RefCell::default();
        }
        let draft = &self.draft;
        let level = draft.level(row);
        let mut top = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = *top else {
            *top = Some(row);
            return;
        };
        // Whoever becomes the entry keeps others out until it is linked.
        let becomes_entry = level > draft.level(entry);
        let top = becomes_entry.then_some(top);
        SCRATCH.with_borrow_mut(|(scratch, probe)| {
            probe.set(draft.table.row(row));
            let mut nearest = draft.descend(probe, entry, level);
            let mut links_by_level = Vec::with_capacity(level + 1);
            for level in (0..=level.min(draft.level(entry))).rev() {
                let mut near = draft.walk(probe, nearest, level, self.ef, scratch);
                near.retain(|link| link.row != row);
                nearest = near.first().copied().unwrap_or(nearest);
                let links = draft.select(&near, if level == 0 { draft.degree } else { draft.m });
                draft.merge_links(row, level, &links);
                links_by_level.push((level, links));
            }
            // Others come upon the row only now that it has links of its own on every level, and first where all walks end.
            for (level, links) in links_by_level.iter().rev() {
                links.iter().for_each(|link| draft.add_link(link.row, *level, Link { score: link.score, row }));
            }
        });
        if let Some(mut top) = top {
            *top = Some(row);
        }
    }
}
