//! Makes every row of a new graph reachable, and fills its lists.
//!
//! A graph builder keeps a row's nearest links. Among more equal vectors than a row has links, all links are to equals, and no
//! way leads in or out: postings that are repeated word for word would hide themselves and others. So equals stay out of the
//! building and are chained to the first of them; what still cannot be reached is linked from the nearest row that can.
//!
//! Searches estimate all rows of a list at once, so an empty place costs as much as a link: in the end, places that are left
//! over are filled with the nearest rows that had been thinned out, and with those that these are linked to. Measured: a third
//! fewer steps for the same recall.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::super::codes::Probe;
use super::super::node::NO_LINK;
use super::draft::{Draft, Link, Scratch};
use super::{IndexError, not_cancelled};
use kindred_core::Progress;

/// Width of the beam that looks for a row to link an orphan from.
const HOST_EF: usize = 64;
/// Rows that are compared to fill a list.
const MAX_FILLERS: usize = 64;

/// The finished lists of level 0.
#[derive(Debug)]
pub(super) struct Level0 {
    pub degree: usize,
    /// `[rows × degree]`, nearest first except for what was attached; padded with [`NO_LINK`].
    pub links: Vec<u32>,
}

impl Level0 {
    /// Thins all lists of a draft out to their final length.
    pub fn thin_out(draft: &Draft<'_>) -> Self {
        let degree = draft.degree;
        let mut links = vec![NO_LINK; draft.n_rows() as usize * degree];
        links.par_chunks_exact_mut(degree).enumerate().for_each(|(row, list)| {
            let mut all = draft.links(row as u32, 0);
            all.sort_unstable_by(|a, b| b.cmp(a));
            list.iter_mut().zip(draft.select(&all, degree)).for_each(|(place, link)| *place = link.row);
        });
        Self { degree, links }
    }

    pub fn list(&self, row: u32) -> &[u32] {
        &self.links[row as usize * self.degree..][..self.degree]
    }

    fn list_mut(&mut self, row: u32) -> &mut [u32] {
        &mut self.links[row as usize * self.degree..][..self.degree]
    }

    /// Fills the places that are left over. `draft` has the links that were thinned out.
    pub fn fill(&mut self, draft: &Draft<'_>) {
        self.links.par_chunks_exact_mut(self.degree).enumerate().for_each(|(row, list)| {
            let n_links = list.iter().position(|&to| to == NO_LINK).unwrap_or(list.len());
            let (links, places) = list.split_at_mut(n_links);
            if !places.is_empty() && n_links > 0 {
                let fillers = fillers(draft, row as u32, links);
                places.iter_mut().zip(fillers).for_each(|(place, link)| *place = link.row);
            }
        });
    }
}

/// Rows near `row` that are not among its links, best first.
fn fillers(draft: &Draft<'_>, row: u32, links: &[u32]) -> Vec<Link> {
    let mut probe = Probe::default();
    probe.set(draft.table.row(row));
    let is_new = |found: &[Link], to: u32| to != row && !links.contains(&to) && found.iter().all(|link| link.row != to);
    let mut found = Vec::new();
    for link in draft.links(row, 0) {
        if is_new(&found, link.row) {
            found.push(link);
        }
    }
    'linked: for &from in links {
        for Link { row: to, .. } in draft.links(from, 0) {
            if found.len() >= MAX_FILLERS {
                break 'linked;
            }
            if is_new(&found, to) {
                found.push(draft.compare(&probe, to));
            }
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// The rows whose vectors occur before, each with the row before it that has the same vector: chains of equals.
pub(super) fn twins(vectors: &[f32], dims: usize) -> BTreeMap<u32, u32> {
    let mut last_of: HashMap<&[u8], u32> = HashMap::new();
    let rows = vectors.chunks_exact(dims).enumerate();
    rows.filter_map(|(row, vector)| Some((row as u32, last_of.insert(bytemuck::cast_slice(vector), row as u32)?))).collect()
}

/// Links each row of a chain to the next. A walk that meets the first, and still needs more, follows it.
pub(super) fn attach_twins(level0: &mut Level0, twins: &BTreeMap<u32, u32>) {
    for (&row, &before) in twins {
        let list = level0.list_mut(before);
        // The last place is the farthest neighbour's.
        let place = list.iter().position(|&to| to == NO_LINK).unwrap_or(list.len() - 1);
        list[place] = row;
        level0.list_mut(row)[0] = before;
    }
}

/// Links every row that cannot be reached from the entry on level 0 from the nearest that can.
///
/// # Errors
/// [`IndexError::Cancelled`].
pub(super) fn attach_orphans(level0: &mut Level0, draft: &Draft<'_>, entry: u32, progress: &Progress) -> Result<(), IndexError> {
    let n_rows = draft.n_rows();
    if n_rows == 0 {
        return Ok(());
    }
    let mut tree = Tree { parents: vec![NO_LINK; n_rows as usize] };
    tree.reach(level0, entry, entry);
    for row in 0..n_rows {
        if !tree.has(row) {
            not_cancelled(progress)?;
            let (host, place) = find_host(level0, draft, &tree, entry, row);
            level0.list_mut(host)[place] = row;
            tree.reach(level0, row, host);
        }
    }
    Ok(())
}

/// A reachable row near `row`, and a place in its list that can be given away.
fn find_host(level0: &Level0, draft: &Draft<'_>, tree: &Tree, entry: u32, row: u32) -> (u32, usize) {
    let mut probe = Probe::default();
    probe.set(draft.table.row(row));
    let from = draft.descend(&probe, entry, 0);
    let near = draft.walk(&probe, from, 0, HOST_EF, &mut Scratch::default());
    let hosts = near.iter().map(|link| link.row).chain(0..draft.n_rows());
    let mut with_place = hosts.filter(|&host| tree.has(host)).filter_map(|host| Some((host, tree.place(level0, host)?)));
    with_place.next().expect("a tree has leaves, and a leaf may give all its places away")
}

/// Shortest ways from the entry; its links are never given away, so what is reachable stays so.
struct Tree {
    /// By row; the entry's is itself, `NO_LINK` where no way is known.
    parents: Vec<u32>,
}

impl Tree {
    fn has(&self, row: u32) -> bool {
        self.parents[row as usize] != NO_LINK
    }

    /// Adds a row and everything that can be reached from it.
    fn reach(&mut self, level0: &Level0, row: u32, parent: u32) {
        self.parents[row as usize] = parent;
        let mut open = vec![row];
        while let Some(from) = open.pop() {
            for &to in level0.list(from).iter().filter(|&&to| to != NO_LINK) {
                if !self.has(to) {
                    self.parents[to as usize] = from;
                    open.push(to);
                }
            }
        }
    }

    /// An empty place in a row's list, or else the farthest link that the tree does not need.
    fn place(&self, level0: &Level0, row: u32) -> Option<usize> {
        let list = level0.list(row);
        let is_spare = |&to: &u32| self.parents[to as usize] != row;
        list.iter().position(|&to| to == NO_LINK).or_else(|| list.iter().rposition(is_spare))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::codes::Quantizer;
    use super::super::BuildParams;
    use super::*;

    #[test]
    fn equals_are_chained() {
        let twins = twins(&[1.0, -1.0, 1.0, 1.0, -1.0], 1);
        assert_eq!(twins, BTreeMap::from([(2, 0), (3, 2), (4, 1)]));
        let n = NO_LINK;
        let mut level0 = Level0 { degree: 2, links: vec![1, 1, 0, n, n, n, n, n, n, n] };
        attach_twins(&mut level0, &twins);
        assert_eq!(level0.links, [1, 2, 0, 4, 0, 3, 2, n, 1, n]);
    }

    #[test]
    fn all_rows_become_reachable() {
        // Islands: 0 and 1, full of links to each other; 2 and 3; 4 alone; 5 to 7 in a ring.
        let n = NO_LINK;
        let mut level0 = Level0 { degree: 2, links: vec![1, 1, 0, 0, 3, n, 2, n, n, n, 6, n, 7, n, 5, n] };
        let (_, table) = Quantizer::fit(&[1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], 1, 0).unwrap();
        let draft = Draft::new(&table, vec![0; 8], &BuildParams::default());
        attach_orphans(&mut level0, &draft, 0, &Progress::hidden()).unwrap();
        let mut tree = Tree { parents: vec![NO_LINK; 8] };
        tree.reach(&level0, 0, 0);
        assert!((0..8).all(|row| tree.has(row)), "{:?}", level0.links);
    }
}
