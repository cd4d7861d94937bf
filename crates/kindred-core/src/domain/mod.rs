//! The words of the field as types: what a collection, a document, a filter and a hit are.
//!
//! Everything here is parsed at the edge and trusted inside: an [`Embedding`] is finite and of unit length, a
//! [`Filter`] names only fields that exist, a [`DocumentId`] is of a sane length.

mod attributes;
mod change;
mod choice;
mod chunking;
mod clock;
mod document;
mod embedding;
mod epoch;
mod filter;
mod geo;
mod hex;
mod hit;
mod ids;
mod lexical;
mod network;
mod number;
mod schema;
mod selection;
mod text;
mod time;
mod words;

pub use attributes::{Attributes, Value};
pub use change::{FeedPosition, Precondition, Refresh, TextHash};
pub use choice::{Choice, GOLDEN, mix_bits};
pub use chunking::{ChunkMode, Chunking};
pub use clock::Clock;
pub use document::{Document, DocumentError, values_of};
pub use embedding::{Embedding, EmbeddingError};
pub use epoch::Epoch;
pub use filter::{CLAUSES, CONDITIONS, Condition, ConditionKind, Filter, FilterBudget, FilterError, OneOf, Range, begins_condition};
pub use geo::GeoPoint;
pub use hex::hex;
pub use hit::{Candidate, Plan, Retrieval, Strategy, StrategyChoice, best_first};
pub use ids::{CollectionName, DocumentId, GenerationId, NameError, SeqNo};
pub use lexical::Lexical;
pub use network::Network;
pub use number::Number;
pub use schema::{CollectionDefinition, FieldId, FieldSpec, FieldType, Role, Schema, SchemaError, Template};
pub use selection::{Selected, Selection};
pub use text::phrases;
pub use time::parse_time_us;
pub use words::{dice, has_words, n_common, trigrams, word_hash, word_hashes, words};
