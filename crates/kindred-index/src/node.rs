//! A row of the graph as searches read it: its codes, its links, and short codes of the rows that it is linked to.
//!
//! Having those beside the links, one search step reads one piece of memory and knows about all linked rows, instead of one
//! piece for each. `C` is `code_dims`, `D` the degree, a multiple of 32:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | `C` | the row's int8 codes |
//! | `C` | `4 D` | the linked rows, u32, nearest first; `u32::MAX` where there is none |
//! | `C + 4 D` | `D/32 ×` (128 + `4 C`) | for each 32 of them: 32 bases f16, 32 factors f16, 1-bit codes |
//!
//! *The estimate*: let `c` be the row, `o` a linked one, `r = o - c` their difference and `s` its signs, all rotated. For a
//! query `q`, `q·o = q·c + q·r`, and `q·r = (q - c)·r + c·r` is estimated from the signs, as `|r|² / (s·r) · s·(q - c) + c·r`. All
//! that does not depend on `q` is the base, `|r|² / (s·r)` the factor. Measured on 384 dimensions, the estimate's error is
//! about 0.03.
//!
//! *Source*: Gou et al., "SymphonyQG: Towards Symphonious Integration of Quantization and Graph for Approximate Nearest Neighbor
//! Search", 2025.

use half::f16;

use super::codes::{CodeTable, QueryCodes};
use super::kernels::{self, GROUP, LinkGroup, TABLE};

/// Stands for no row.
pub(super) const NO_LINK: u32 = u32::MAX;
/// Bytes of a group's bases and factors.
const GROUP_FLOATS: usize = 2 * 2 * GROUP;

/// Where a node's parts lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeLayout {
    /// A multiple of 64.
    pub code_dims: usize,
    /// Links per node, a multiple of 32.
    pub degree: usize,
}

/// A node's bytes, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    /// `[code_dims]`.
    pub codes: &'a [u8],
    /// `[degree]`.
    pub links: &'a [u32],
    groups: &'a [u8],
}

impl NodeLayout {
    /// Bytes of a node, a multiple of 64.
    pub fn size(&self) -> usize {
        self.code_dims + 4 * self.degree + self.degree / GROUP * self.group_size()
    }

    fn group_size(&self) -> usize {
        GROUP_FLOATS + 4 * self.code_dims
    }

    /// Takes a node's bytes apart, `[size]`, aligned for numbers as mapped sections are.
    #[inline]
    pub fn node<'a>(&self, bytes: &'a [u8]) -> Node<'a> {
        let (codes, rest) = bytes.split_at(self.code_dims);
        let (links, groups) = rest.split_at(4 * self.degree);
        Node { codes, links: bytemuck::cast_slice(links), groups }
    }

    /// Writes the node of a row, `[size]` bytes of zeros, from its links, at most as many as the degree.
    pub fn encode(&self, table: &CodeTable, step: f32, row: u32, links: &[u32], node: &mut [u8]) {
        let center = table.row(row);
        let (codes, rest) = node.split_at_mut(self.code_dims);
        codes.copy_from_slice(center);
        let (link_bytes, groups) = rest.split_at_mut(4 * self.degree);
        for (at, bytes) in link_bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let link = links.get(at).copied().unwrap_or(NO_LINK);
            *bytes = link.to_le_bytes();
            let group = &mut groups[at / GROUP * self.group_size()..][..self.group_size()];
            // A row that is not there is worse than any.
            let (mut base, mut factor) = (f16::NEG_INFINITY, f16::ZERO);
            if link != NO_LINK {
                let linked = table.row(link);
                (base, factor) = estimator(center, linked, step);
                write_signs(center, linked, at % GROUP, &mut group[GROUP_FLOATS..]);
            }
            group[at % GROUP * 2..][..2].copy_from_slice(&base.to_le_bytes());
            group[(GROUP + at % GROUP) * 2..][..2].copy_from_slice(&factor.to_le_bytes());
        }
    }
}

impl Node<'_> {
    /// Estimates the scores of linked rows number `32 · group` to `32 · group + 31` for a query that this row has `score` for.
    /// Returns which of them are above `worst`, bit by row.
    #[inline]
    pub fn estimate(&self, group: usize, query: &QueryCodes, score: f32, worst: f32, scores: &mut [f32; GROUP]) -> u32 {
        let size = GROUP_FLOATS + 4 * self.codes.len();
        let (floats, codes) = self.groups[group * size..][..size].split_at(GROUP_FLOATS);
        let [bases, factors] = bytemuck::cast_slice::<u8, [u16; GROUP]>(floats) else { return 0 };
        kernels::estimate(LinkGroup { bases, factors, codes }, query.around(score), worst, scores)
    }

    /// Number of groups of linked rows.
    #[inline]
    pub fn n_groups(&self) -> usize {
        self.links.len() / GROUP
    }
}

/// Base and factor of a linked row.
fn estimator(center: &[u8], linked: &[u8], step: f32) -> (f16, f16) {
    // In whole steps: below 2^31 up to 2^15 dimensions.
    let (mut squared, mut absolute, mut center_difference, mut center_signs) = (0i32, 0i32, 0i32, 0i32);
    for (&c, &o) in center.iter().zip(linked) {
        let (center, difference) = (i32::from(c) - 128, i32::from(o) - i32::from(c));
        squared += difference * difference;
        absolute += difference.abs();
        center_difference += difference * center;
        center_signs += if difference > 0 { center } else { -center };
    }
    let factor = if absolute == 0 { 0.0 } else { squared as f32 / absolute as f32 * step };
    let base = center_difference as f32 * step * step - factor * center_signs as f32 * step;
    (f16::from_f32(base), f16::from_f32(factor))
}

/// Notes the signs of a difference as one of a group's 32 interleaved rows (see [`LinkGroup::codes`]).
fn write_signs(center: &[u8], linked: &[u8], place: usize, codes: &mut [u8]) {
    let (byte, shift) = (place % TABLE, place / TABLE * 4);
    for ((c, o), quarter) in center.as_chunks::<4>().0.iter().zip(linked.as_chunks::<4>().0).zip(codes.as_chunks_mut::<TABLE>().0) {
        let mut pattern = 0;
        for bit in 0..4 {
            pattern |= u8::from(o[bit] > c[bit]) << bit;
        }
        quarter[byte] |= pattern << shift;
    }
}
