//! Rows as plain bits.

use roaring::RoaringBitmap;

use super::super::IndexError;
use super::super::attributes::{AttributeFile, Blocks};
use super::super::columns::set_len;

/// Collects rows that come in any order: many times as fast as adding them to a roaring bitmap.
pub(super) struct Bits<'a> {
    attributes: &'a AttributeFile,
    bytes: Vec<u8>,
    /// A row beyond the bits, which a damaged file may name.
    beyond: Option<u32>,
}

impl<'a> Bits<'a> {
    pub fn new(attributes: &'a AttributeFile) -> Self {
        Self { attributes, bytes: vec![0; set_len(attributes.n_rows() as usize)], beyond: None }
    }

    pub fn add(&mut self, rows: &[u32]) {
        for &row in rows {
            match self.bytes.get_mut(row as usize / 8) {
                Some(byte) => *byte |= 1 << (row % 8),
                None => self.beyond = Some(row),
            }
        }
    }

    pub fn add_blocks(&mut self, blocks: &Blocks<'_>) {
        match *blocks {
            Blocks::Difference(all, &[]) => self.bytes.iter_mut().zip(all).for_each(|(byte, all)| *byte |= all),
            Blocks::Difference(all, but) => self.bytes.iter_mut().zip(all).zip(but).for_each(|((byte, all), but)| *byte |= all & !but),
            Blocks::Union(a, b) => self.bytes.iter_mut().zip(a).zip(b).for_each(|((byte, a), b)| *byte |= a | b),
        }
    }

    pub fn into_bitmap(self) -> Result<RoaringBitmap, IndexError> {
        let rows = RoaringBitmap::from_lsb0_bytes(0, &self.bytes);
        self.attributes.check_rows(match self.beyond {
            Some(row) => RoaringBitmap::from_iter([row]),
            None => rows,
        })
    }
}
