//! Topics of Kafka into collections: keyed by document id, the document as JSON, an empty value deletes it.
//!
//! | file | duty |
//! |---|---|
//! | `settings.rs` | what is fed from where |
//! | `feed.rs` | starting and ending; says so where this build has no Kafka |
//! | `worker.rs` | one topic: find it, read it |
//! | `assigned.rs` | how far the feed is in each partition |
//! | `ledger.rs` | what the collection keeps about the feed, and where that starts because of it |
//! | `write.rs` | a batch into its collection; only then the feed moves on |
//! | `settle.rs`, `topic_settings.rs` | the ends of partitions; deletions that may have been missed |
//! | `batch.rs` | records → changes, or reasons why not |
//! | `dead_letters.rs` | where records go that cannot be taken |
//! | `consumer.rs`, `context.rs`, `producer.rs`, `client.rs` | librdkafka |
//! | `stop.rs` | waiting, until the end |
//! | `state.rs`, `one_state.rs`, `warnings.rs` | how the feed is doing, for operators |

#[cfg(feature = "kafka")]
mod assigned;
#[cfg(feature = "kafka")]
mod batch;
#[cfg(feature = "kafka")]
mod client;
#[cfg(feature = "kafka")]
mod consumer;
#[cfg(feature = "kafka")]
mod context;
#[cfg(feature = "kafka")]
mod dead_letters;
mod feed;
#[cfg(feature = "kafka")]
mod ledger;
#[cfg(feature = "kafka")]
mod one_state;
#[cfg(feature = "kafka")]
mod producer;
mod settings;
#[cfg(feature = "kafka")]
mod settle;
mod state;
#[cfg(feature = "kafka")]
mod stop;
#[cfg(feature = "kafka")]
mod topic_settings;
#[cfg(feature = "kafka")]
mod warnings;
#[cfg(feature = "kafka")]
mod worker;
#[cfg(feature = "kafka")]
mod write;

pub use feed::{Feed, FeedError, RunningFeed};
#[cfg(feature = "kafka")]
pub use producer::Producer;
pub use settings::{KafkaSettings, Property};
pub use state::{FeedState, FeedStates, FeedWarning, FeedWarningKind};
