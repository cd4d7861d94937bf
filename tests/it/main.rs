//! All integration tests, in one binary: the real model, the real index, the real router.

mod adapter;
mod app;
mod auth;
mod bad_input;
mod bulk;
mod chunks;
mod cli;
#[cfg(feature = "client")]
mod client;
mod compat;
mod console;
mod deploy;
mod doctor;
mod evaluate;
mod explain;
mod facets;
mod files;
mod hostile;
mod hybrid;
mod integers;
#[cfg(feature = "kafka")]
mod kafka;
mod layers;
#[cfg(feature = "mcp")]
mod mcp;
mod operations;
mod optional;
#[cfg(feature = "parquet")]
mod parquet;
mod profiles;
mod query;
mod rebuild;
mod recall;
mod rerank;
mod snapshot;
#[cfg(feature = "otlp")]
mod traces;
mod write;
