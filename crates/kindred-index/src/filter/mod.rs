//! The rows that a search may return: those that match a filter and are not deleted.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | allowed rows |
//! | `evaluate.rs` | a filter's rows, from those of its conditions |
//! | `leaf.rs` | the rows of one condition |
//! | `bits.rs` | rows as plain bits, to collect them |
//! | `deadline.rs` | how long that may take |

mod bits;
mod deadline;
mod evaluate;
mod leaf;

use std::borrow::Cow;

use roaring::RoaringBitmap;

use super::IndexError;
use super::attributes::AttributeFile;
use super::chunks::ChunkFile;
use kindred_core::domain::Filter;
use kindred_core::storage::StorageError;

pub use deadline::FilterDeadline;
pub(super) use evaluate::{Evaluator, Passing};

/// The rows that a search may return.
#[derive(Debug)]
pub(super) enum Allowed<'a> {
    /// All below the number of rows but these.
    Except(Cow<'a, RoaringBitmap>, u32),
    Only(Passing),
}

impl<'a> Allowed<'a> {
    /// What a filter and deletions leave.
    ///
    /// # Errors
    /// [`IndexError::NotIndexed`], [`IndexError::FilterTimeout`], [`IndexError::Storage`].
    pub fn new(
        attributes: &AttributeFile,
        filter: Option<&Filter>,
        deleted: Cow<'a, RoaringBitmap>,
        deadline: FilterDeadline,
    ) -> Result<Self, IndexError> {
        match filter {
            None => Ok(Self::Except(deleted, attributes.n_rows())),
            Some(filter) => {
                let mut passing = Evaluator { attributes, deadline }.passing(filter)?;
                if !deleted.is_empty() {
                    passing.rows -= &*deleted;
                }
                Ok(Self::Only(passing))
            }
        }
    }

    #[inline]
    pub fn contains(&self, row: u32) -> bool {
        match self {
            Self::Except(deleted, n_rows) => row < *n_rows && (deleted.is_empty() || !deleted.contains(row)),
            Self::Only(passing) => passing.rows.contains(row),
        }
    }

    /// The allowed row with so many before it.
    pub fn select(&self, rank: u64) -> Option<u32> {
        let rank = u32::try_from(rank).ok()?;
        match self {
            Self::Only(passing) => passing.rows.select(rank),
            // Each deleted row at or before it moves it on by one.
            Self::Except(deleted, n_rows) => {
                let mut row = rank;
                loop {
                    let moved = u64::from(rank) + deleted.rank(row);
                    let moved = u32::try_from(moved).ok().filter(|moved| moved < n_rows)?;
                    if moved == row {
                        return Some(row);
                    }
                    row = moved;
                }
            }
        }
    }

    pub fn len(&self) -> u64 {
        match self {
            Self::Except(deleted, n_rows) => u64::from(*n_rows) - deleted.range_cardinality(..*n_rows),
            Self::Only(passing) => passing.rows.len(),
        }
    }

    /// The share of rows that one would guess from the share of each condition; deletions do not enter it.
    pub fn estimated_selectivity(&self) -> f64 {
        match self {
            Self::Except(..) => 1.0,
            Self::Only(passing) => passing.estimate,
        }
    }

    /// In ascending order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::Except(deleted, n_rows) if deleted.is_empty() => Box::new(0..*n_rows),
            Self::Except(deleted, n_rows) => Box::new((0..*n_rows).filter(|&row| !deleted.contains(row))),
            Self::Only(passing) => Box::new(passing.rows.iter()),
        }
    }

    /// The vectors of these rows.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when it is not known which those are.
    pub fn vectors(&self, chunks: &ChunkFile) -> Result<Allowed<'static>, StorageError> {
        Ok(match self {
            Self::Except(deleted, _) => Allowed::Except(Cow::Owned(chunks.vectors_of(deleted)?), chunks.n_vectors()),
            Self::Only(Passing { rows, estimate }) => Allowed::Only(Passing { rows: chunks.vectors_of(rows)?, estimate: *estimate }),
        })
    }

    pub fn into_bitmap(self) -> RoaringBitmap {
        match self {
            Self::Except(deleted, n_rows) => all_rows(n_rows) - &*deleted,
            Self::Only(passing) => passing.rows,
        }
    }
}

fn all_rows(n_rows: u32) -> RoaringBitmap {
    let mut rows = RoaringBitmap::new();
    rows.insert_range(..n_rows);
    rows
}
