//! A graph while it is built: lists that many threads read and change at once, and the walk that finds a row's neighbours.
//!
//! Rows are compared by their int8 codes, in whole numbers: measured, that costs no recall against full vectors.
//!
//! *Concurrency*: lists are read without locks. A reader may meet a list that is being replaced and see some of its old and some
//! of its new rows: all of them are rows, so it is merely led a little differently. Whoever changes a list holds its lock.

use std::sync::atomic::{AtomicI32, AtomicU16, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::beam::VisitedSet;
use super::super::codes::{CodeTable, Probe};
use super::BuildParams;

/// Locks, each shared by many lists.
const N_LOCKS: usize = 4_096;

/// A row and its dot product with another in codes. Ordered by score, then by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub score: i32,
    pub row: u32,
}

/// A graph that is being built.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub table: &'a CodeTable,
    /// Links per row on upper levels.
    pub m: usize,
    /// Links per row on level 0, once it is finished.
    pub degree: usize,
    /// `[rows]`: the highest level of each.
    levels: Vec<u8>,
    level0: Lists,
    upper: Lists,
    /// `[rows + 1]`: where the lists of a row's levels 1, 2, … begin among the upper lists.
    upper_starts: Vec<u32>,
    locks: Vec<Mutex<()>>,
}

/// Memory that one walk leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    visited: VisitedSet,
    /// Best first; the flag says that the row's links were read.
    pool: Vec<(Link, bool)>,
    fresh: Vec<u32>,
}

impl<'a> Draft<'a> {
    /// One without links. `levels` has each row's highest level.
    pub fn new(table: &'a CodeTable, levels: Vec<u8>, params: &BuildParams) -> Self {
        let degree = params.degree();
        let mut upper_starts = vec![0];
        upper_starts.extend(levels.iter().scan(0u32, |end, &level| {
            *end += u32::from(level);
            Some(*end)
        }));
        let n_upper = upper_starts[levels.len()] as usize;
        Self {
            table,
            m: params.max_connections,
            degree,
            // Room to spare, so that a full list is thinned out once for every several links and not for each.
            level0: Lists::new(levels.len(), degree + degree / 2),
            upper: Lists::new(n_upper, params.max_connections),
            upper_starts,
            locks: (0..N_LOCKS).map(|_| Mutex::new(())).collect(),
            levels,
        }
    }

    pub fn n_rows(&self) -> u32 {
        self.levels.len() as u32
    }

    /// The highest level of a row.
    pub fn level(&self, row: u32) -> usize {
        usize::from(self.levels[row as usize])
    }

    /// Links of a row on a level up to its own, in no order.
    pub fn links(&self, row: u32, level: usize) -> Vec<Link> {
        let (lists, at) = self.list(row, level);
        lists.links(at)
    }

    /// Gives a row its links on a level: the first as many as there is room for.
    pub fn set_links(&self, row: u32, level: usize, links: &[Link]) {
        let (lists, at) = self.list(row, level);
        lists.set(at, links);
    }

    /// Adds a link; a list that is full is thinned out first.
    pub fn add_link(&self, row: u32, level: usize, link: Link) {
        let (lists, at) = self.list(row, level);
        let _lock = self.lock(row);
        if !lists.push(at, link) {
            let mut links = lists.links(at);
            links.push(link);
            links.sort_unstable_by(|a, b| b.cmp(a));
            let keep = if level == 0 { self.degree } else { self.m };
            lists.set(at, &self.select(&links, keep));
        }
    }

    /// Joins links with those that other rows have given the row meanwhile.
    pub fn merge_links(&self, row: u32, level: usize, links: &[Link]) {
        let (lists, at) = self.list(row, level);
        let _lock = self.lock(row);
        let mut all = lists.links(at);
        all.retain(|link| !links.contains(link));
        all.extend(links);
        all.sort_unstable_by(|a, b| b.cmp(a));
        lists.set(at, &all);
    }

    /// From links, best first, takes those that are nearer to the row than to any taken before, at most `n`: such links lead in
    /// different directions.
    pub fn select(&self, links: &[Link], n: usize) -> Vec<Link> {
        let mut taken: Vec<Link> = Vec::with_capacity(n);
        let mut probe = Probe::default();
        for &link in links {
            if taken.len() >= n {
                break;
            }
            probe.set(self.table.row(link.row));
            if taken.iter().all(|other| probe.compare(self.table.row(other.row)) < link.score) {
                taken.push(link);
            }
        }
        taken
    }

    /// From a row, on each level from the row's own down to above `level`, moves to a better neighbour until there is none.
    pub fn descend(&self, probe: &Probe, entry: u32, level: usize) -> Link {
        let mut best = self.compare(probe, entry);
        for level in (level + 1..=self.level(entry)).rev() {
            loop {
                let from = best;
                let (lists, at) = self.list(from.row, level);
                for row in lists.rows(at) {
                    let link = self.compare(probe, row.load(Relaxed));
                    if link.score > best.score {
                        best = link;
                    }
                }
                if best.row == from.row {
                    break;
                }
            }
        }
        best
    }

    /// Walks a level from a row on; up to `ef` of the best rows met, best first.
    pub fn walk(&self, probe: &Probe, from: Link, level: usize, ef: usize, scratch: &mut Scratch) -> Vec<Link> {
        let Scratch { visited, pool, fresh } = scratch;
        visited.clear(self.n_rows());
        visited.insert(from.row);
        pool.clear();
        pool.push((from, false));
        let mut cursor = 0;
        while let Some((link, is_read)) = pool.get_mut(cursor) {
            if std::mem::replace(is_read, true) {
                cursor += 1;
                continue;
            }
            let (lists, at) = self.list(link.row, level);
            fresh.clear();
            for row in lists.rows(at) {
                let row = row.load(Relaxed);
                if visited.insert(row) {
                    self.table.prefetch(row);
                    fresh.push(row);
                }
            }
            for &row in fresh.iter() {
                let link = self.compare(probe, row);
                if pool.len() < ef || pool.last().is_some_and(|(worst, _)| link.score > worst.score) {
                    let place = pool.partition_point(|(other, _)| other.score >= link.score);
                    if pool.len() >= ef {
                        pool.pop();
                    }
                    pool.insert(place, (link, false));
                    cursor = cursor.min(place);
                }
            }
        }
        pool.iter().map(|&(link, _)| link).collect()
    }

    #[inline]
    pub fn compare(&self, probe: &Probe, row: u32) -> Link {
        Link { score: probe.compare(self.table.row(row)), row }
    }

    #[inline]
    fn list(&self, row: u32, level: usize) -> (&Lists, usize) {
        match level {
            0 => (&self.level0, row as usize),
            _ => (&self.upper, self.upper_starts[row as usize] as usize + level - 1),
        }
    }

    fn lock(&self, row: u32) -> MutexGuard<'_, ()> {
        self.locks[row as usize % N_LOCKS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists of links of one capacity.
#[derive(Debug)]
struct Lists {
    capacity: usize,
    /// `[lists × capacity]`.
    rows: Vec<AtomicU32>,
    /// `[lists × capacity]`: computed once, read whenever a list is thinned out.
    scores: Vec<AtomicI32>,
    /// `[lists]`.
    lens: Vec<AtomicU16>,
}

impl Lists {
    fn new(n: usize, capacity: usize) -> Self {
        Self {
            capacity,
            rows: (0..n * capacity).map(|_| AtomicU32::new(0)).collect(),
            scores: (0..n * capacity).map(|_| AtomicI32::new(0)).collect(),
            lens: (0..n).map(|_| AtomicU16::new(0)).collect(),
        }
    }

    #[inline]
    fn rows(&self, list: usize) -> &[AtomicU32] {
        &self.rows[list * self.capacity..][..usize::from(self.lens[list].load(Relaxed))]
    }

    fn links(&self, list: usize) -> Vec<Link> {
        let rows = self.rows(list);
        let scores = &self.scores[list * self.capacity..][..rows.len()];
        rows.iter().zip(scores).map(|(row, score)| Link { score: score.load(Relaxed), row: row.load(Relaxed) }).collect()
    }

    fn set(&self, list: usize, links: &[Link]) {
        let links = &links[..links.len().min(self.capacity)];
        for (i, link) in links.iter().enumerate() {
            self.put(list * self.capacity + i, *link);
        }
        self.lens[list].store(links.len() as u16, Relaxed);
    }

    /// False if the list is full.
    fn push(&self, list: usize, link: Link) -> bool {
        let len = usize::from(self.lens[list].load(Relaxed));
        if len >= self.capacity {
            return false;
        }
        self.put(list * self.capacity + len, link);
        self.lens[list].store(len as u16 + 1, Relaxed);
        true
    }

    fn put(&self, at: usize, link: Link) {
        self.rows[at].store(link.row, Relaxed);
        self.scores[at].store(link.score, Relaxed);
    }
}
