//! Topics of Kafka into collections: keyed by document id, the document as JSON, an empty value deletes it.
//!
//! | file | duty |
//! |---|---|
//! | `settings.rs` | what is fed from where |
//! | `feed.rs` | starting and ending; says so where this build has no Kafka |
//! | `worker.rs` | one topic: find it, read it |
//! | `write.rs` | a batch into its collection; only then the feed moves on |
//! | `batch.rs` | records → changes, or reasons why not |
//! | `dead_letters.rs` | where records go that cannot be taken |
//! | `consumer.rs`, `producer.rs`, `client.rs` | librdkafka |
//! | `stop.rs` | waiting, until the end |
//! | `state.rs` | how the feed is doing |

#[cfg(feature = "kafka")]
mod batch;
#[cfg(feature = "kafka")]
mod client;
#[cfg(feature = "kafka")]
mod consumer;
#[cfg(feature = "kafka")]
mod dead_letters;
mod feed;
#[cfg(feature = "kafka")]
mod producer;
mod settings;
mod state;
#[cfg(feature = "kafka")]
mod stop;
#[cfg(feature = "kafka")]
mod worker;
#[cfg(feature = "kafka")]
mod write;

pub use feed::{Feed, FeedError, RunningFeed};
#[cfg(feature = "kafka")]
pub use producer::Producer;
pub use settings::{KafkaSettings, Property};
pub use state::{FeedState, FeedStates};
