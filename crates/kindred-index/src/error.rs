//! What can go wrong in an index.

use kindred_core::domain::FieldId;
use kindred_core::error::ErrorKind;
use kindred_core::storage::StorageError;

/// An index that cannot be built, opened or searched.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("the vector has {actual} dimensions, but the index has {expected}")]
    Dims { expected: usize, actual: usize },
    #[error("{what}: {actual} were given, {expected} are needed")]
    Count { what: &'static str, expected: usize, actual: usize },
    #[error("{n_rows} rows are too many for one index: it holds fewer than 2^32")]
    TooManyRows { n_rows: usize },
    #[error("vector {vector} is not finite or not of unit length")]
    NotUnit { vector: usize },
    #[error("the id {id:?} occurs twice")]
    DuplicateId { id: String },
    #[error("{name} is {value}: choose {min} to {max}")]
    Parameter { name: &'static str, value: usize, min: usize, max: usize },
    #[error("the index was built when field {field:?} was not indexed or had another type: rebuild the collection")]
    Column { field: String },
    #[error("the filter names field number {}, which the index does not hold", .field.0)]
    NotIndexed { field: FieldId },
    #[error(
        "the filter was not evaluated within {limit_ms} ms: send fewer conditions, smaller geo_radius circles or fewer values, or allow more time (timeout_ms)"
    )]
    FilterTimeout { limit_ms: u64 },
    #[error("cancelled before it was done: nothing was changed")]
    Cancelled,
    #[error(
        "building takes about {} MiB of memory, and {} MiB are allowed (index.max_build_bytes; 0 allows 80 % of what the system has available): nothing was changed. Give the process more memory, or raise the limit",
        .needed.div_ceil(1 << 20),
        .limit >> 20
    )]
    Memory { needed: u64, limit: u64 },
    #[error("cannot start threads to build the index")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl IndexError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Dims { .. } | Self::Parameter { .. } => ErrorKind::Invalid,
            Self::TooManyRows { .. } => ErrorKind::TooLarge,
            Self::FilterTimeout { .. } => ErrorKind::Overloaded,
            Self::Column { .. } => ErrorKind::Conflict,
            Self::Threads(_) | Self::Cancelled | Self::Memory { .. } => ErrorKind::Unavailable,
            Self::Storage(error) => error.kind(),
            // Documents and filters were checked before they came here.
            Self::Count { .. } | Self::NotUnit { .. } | Self::DuplicateId { .. } | Self::NotIndexed { .. } => ErrorKind::Internal,
        }
    }
}
