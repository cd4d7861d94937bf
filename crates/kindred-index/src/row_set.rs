//! Rows as plain bits, for walks that ask about single rows all the time.
//!
//! A roaring bitmap takes several look-ups to tell whether it holds a row, and its iterator goes row by row. Its serialized form
//! holds large parts as plain bits, so that is what they are copied from.
//!
//! *Source*: the portable format at `RoaringBitmap/RoaringFormatSpec`.

use roaring::RoaringBitmap;

/// Rows of a key: those that share the upper 16 bits.
const KEY_ROWS: usize = 1 << 16;
const KEY_WORDS: usize = KEY_ROWS / 64;
/// A key with more rows than this is stored as bits.
const MAX_LISTED: usize = 4_096;
const COOKIE_WITHOUT_RUNS: u32 = 12_346;
const COOKIE_WITH_RUNS: u32 = 12_347;
/// With runs, so many keys and more are followed by a table of offsets.
const MIN_OFFSET_KEYS: usize = 4;

/// A set of rows.
#[derive(Debug, Default)]
pub(super) struct RowSet {
    words: Vec<u64>,
    serialized: Vec<u8>,
}

impl RowSet {
    /// Makes this the set of a bitmap's rows.
    pub fn copy_from(&mut self, rows: &RoaringBitmap) {
        self.words.clear();
        self.words.resize(rows.max().map_or(0, |max| (max as usize / KEY_ROWS + 1) * KEY_WORDS), 0);
        let mut serialized = std::mem::take(&mut self.serialized);
        serialized.clear();
        rows.serialize_into(&mut serialized).expect("writing to memory cannot fail");
        self.read(&serialized).expect("a bitmap's serialized form has the format above");
        self.serialized = serialized;
    }

    /// Makes this the set of all rows below `n_rows` but a bitmap's.
    pub fn copy_all_but(&mut self, rows: &RoaringBitmap, n_rows: u32) {
        self.copy_from(rows);
        self.words.resize((n_rows as usize).div_ceil(64), 0);
        self.words.iter_mut().for_each(|word| *word = !*word);
    }

    #[inline]
    pub fn contains(&self, row: u32) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes;
        let cookie = u32::from_le_bytes(*take(&mut rest)?);
        let (n_keys, runs) = match cookie & 0xFFFF {
            COOKIE_WITH_RUNS => {
                let n_keys = (cookie >> 16) as usize + 1;
                (n_keys, split(&mut rest, n_keys.div_ceil(8))?)
            }
            COOKIE_WITHOUT_RUNS => (u32::from_le_bytes(*take(&mut rest)?) as usize, &[][..]),
            _ => return None,
        };
        let keys = split(&mut rest, 4 * n_keys)?;
        if runs.is_empty() || n_keys >= MIN_OFFSET_KEYS {
            split(&mut rest, 4 * n_keys)?;
        }
        for (at, &[key_low, key_high, len_low, len_high]) in keys.as_chunks::<4>().0.iter().enumerate() {
            let first = usize::from(u16::from_le_bytes([key_low, key_high])) * KEY_WORDS;
            let words = self.words.get_mut(first..first + KEY_WORDS)?;
            let is_runs = runs.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
            let n_rows = usize::from(u16::from_le_bytes([len_low, len_high])) + 1;
            if is_runs {
                let n_runs = usize::from(u16::from_le_bytes(*take(&mut rest)?));
                for &[start_low, start_high, more_low, more_high] in split(&mut rest, 4 * n_runs)?.as_chunks::<4>().0 {
                    let start = usize::from(u16::from_le_bytes([start_low, start_high]));
                    (start..=start + usize::from(u16::from_le_bytes([more_low, more_high]))).for_each(|row| set(words, row));
                }
            } else if n_rows > MAX_LISTED {
                let bits = split(&mut rest, 8 * KEY_WORDS)?.as_chunks::<8>().0;
                words.iter_mut().zip(bits).for_each(|(word, bits)| *word = u64::from_le_bytes(*bits));
            } else {
                split(&mut rest, 2 * n_rows)?.as_chunks::<2>().0.iter().for_each(|row| set(words, u16::from_le_bytes(*row).into()));
            }
        }
        Some(())
    }
}

fn set(words: &mut [u64], row: usize) {
    words[row / 64] |= 1 << (row % 64);
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(first)
}

fn split<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (first, others) = rest.split_at_checked(len)?;
    *rest = others;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Random;

    #[test]
    fn bits_are_a_bitmaps_rows() {
        let mut random = Random(4);
        let mut bits = RowSet::default();
        for case in 0..60 {
            let n_rows = [0, 1, 63, 64, 65, 5_000, 65_536, 65_537, 400_000][case % 9];
            let mut rows = RoaringBitmap::new();
            let one_in = 1 + random.below(30);
            rows.extend((0..n_rows).filter(|_| random.chance(one_in)));
            if random.chance(2) {
                let start = random.below(n_rows as usize + 1) as u32;
                rows.insert_range(start..n_rows.min(start + 70_000));
                rows.optimize();
            }
            bits.copy_from(&rows);
            assert!((0..n_rows + 70).all(|row| bits.contains(row) == rows.contains(row)), "{n_rows} {one_in}");
            bits.copy_all_but(&rows, n_rows);
            assert!((0..n_rows).all(|row| bits.contains(row) != rows.contains(row)), "{n_rows} {one_in}");
        }
    }
}
