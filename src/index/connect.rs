//! Makes every row of a new graph reachable.
//!
//! A graph builder keeps a row's nearest links. Among more equal vectors than a row has links, all links are to equals, and no
//! way leads in or out: postings that are repeated word for word would hide themselves and others. So equals stay out of the
//! building and are chained to the first of them; what still cannot be reached is linked from the nearest row that can.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;

use super::IndexError;
use super::beam::{self, Limits};
use super::build::not_cancelled;
use super::filter::Allowed;
use super::graph_file::{Links, NO_LINK};
use crate::telemetry::Progress;

/// Width of the beam that looks for a row to link an orphan from.
const HOST_EF: usize = 64;

/// The rows whose vectors occur before, each with the row before it that has the same vector: chains of equals.
pub(super) fn twins(vectors: &[f32], dims: usize, progress: &Progress) -> Result<BTreeMap<u32, u32>, IndexError> {
    let mut last_of: HashMap<&[u8], u32> = HashMap::new();
    let mut twins = BTreeMap::new();
    for (row, vector) in vectors.chunks_exact(dims).enumerate() {
        not_cancelled(progress)?;
        if let Some(before) = last_of.insert(bytemuck::cast_slice(vector), row as u32) {
            twins.insert(row as u32, before);
        }
    }
    Ok(twins)
}

/// Links each row of a chain to the next. A walk that meets the first, and still needs more, follows it.
pub(super) fn attach_twins(links: &mut Links, twins: &BTreeMap<u32, u32>) {
    for (&row, &before) in twins {
        let list = links.level0_mut(before);
        // The last place is the farthest neighbour's.
        let place = list.iter().position(|&to| to == NO_LINK).unwrap_or(list.len() - 1);
        list[place] = row;
        links.level0_mut(row)[0] = before;
    }
}

/// Links every row that cannot be reached from the entry on level 0 from the nearest that can.
pub(super) fn attach_orphans(links: &mut Links, vectors: &[f32], progress: &Progress) -> Result<(), IndexError> {
    let n_rows = links.header.n_rows;
    if n_rows == 0 {
        return Ok(());
    }
    let mut tree = Tree { parents: vec![NO_LINK; n_rows as usize] };
    tree.reach(links, links.header.entry, links.header.entry);
    for row in 0..n_rows {
        not_cancelled(progress)?;
        if !tree.has(row) {
            let (host, place) = find_host(links, vectors, &tree, row);
            links.level0_mut(host)[place] = row;
            tree.reach(links, row, host);
        }
    }
    Ok(())
}

/// A reachable row near `row`, and a place in its list that can be given away.
fn find_host(links: &Links, vectors: &[f32], tree: &Tree, row: u32) -> (u32, usize) {
    let (graph, none, n_rows) = (links.graph(), RoaringBitmap::new(), links.header.n_rows);
    let dims = graph.header.dims as usize;
    let query = &vectors[row as usize * dims..][..dims];
    let limits = Limits { ef: HOST_EF, max_distances: u64::MAX };
    let near = beam::search(&graph, vectors, query, &Allowed::Except(&none, n_rows), limits);
    let hosts = near.candidates.iter().map(|candidate| candidate.row).chain(0..n_rows);
    let mut with_place = hosts.filter(|&host| tree.has(host)).filter_map(|host| Some((host, tree.place(links, host)?)));
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
    fn reach(&mut self, links: &Links, row: u32, parent: u32) {
        let graph = links.graph();
        self.parents[row as usize] = parent;
        let mut open = vec![row];
        while let Some(from) = open.pop() {
            for to in graph.links(0, from) {
                if !self.has(to) {
                    self.parents[to as usize] = from;
                    open.push(to);
                }
            }
        }
    }

    /// An empty place in a row's list, or else the farthest link that the tree does not need.
    fn place(&self, links: &Links, row: u32) -> Option<usize> {
        let degree = links.header.degree as usize;
        let list = &links.level0[row as usize * degree..][..degree];
        let is_spare = |&to: &u32| self.parents[to as usize] != row;
        list.iter().position(|&to| to == NO_LINK).or_else(|| list.iter().rposition(is_spare))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::graph_file::Header;

    fn links(degree: u32, level0: &[u32]) -> Links {
        let n_rows = level0.len() as u32 / degree;
        let header = Header { n_rows, dims: 1, max_connections: degree, degree, entry: 0, max_level: 0 };
        Links { header, level0: level0.to_vec(), upper_starts: vec![0; n_rows as usize + 1], upper: Vec::new() }
    }

    #[test]
    fn equals_are_chained() {
        let twins = twins(&[1.0, -1.0, 1.0, 1.0, -1.0], 1, &Progress::hidden()).unwrap();
        assert_eq!(twins, BTreeMap::from([(2, 0), (3, 2), (4, 1)]));
        let mut links = links(2, &[1, 1, 0, NO_LINK, NO_LINK, NO_LINK, NO_LINK, NO_LINK, NO_LINK, NO_LINK]);
        attach_twins(&mut links, &twins);
        assert_eq!(links.level0, [1, 2, 0, 4, 0, 3, 2, NO_LINK, 1, NO_LINK]);
    }

    #[test]
    fn all_rows_become_reachable() {
        // Islands: 0 and 1, full of links to each other; 2 and 3; 4 alone; 5 to 7 in a ring.
        let n = NO_LINK;
        let mut links = links(2, &[1, 1, 0, 0, 3, n, 2, n, n, n, 6, n, 7, n, 5, n]);
        attach_orphans(&mut links, &[1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], &Progress::hidden()).unwrap();
        let mut tree = Tree { parents: vec![NO_LINK; 8] };
        tree.reach(&links, 0, 0);
        assert!((0..8).all(|row| tree.has(row)), "{:?}", links.level0);
    }
}
