//! Kindred: an embedding-based retrieval server for job search and people search.
//!
//! Three ways run through it, each to be read in one file:
//! QUERY in [`pipeline`]`/query.rs`, WRITE in `pipeline/write.rs`, REBUILD in `pipeline/rebuild.rs`.
//!
//! Imports go down only. The compiler holds the crates apart, `tests/it/layers.rs` the modules:
//!
//! | layer | module or crate | what it is |
//! |---|---|---|
//! | entry | `main` | the command line |
//! | | [`tools`] | what people run besides a server: demo, evaluation, tables |
//! | assembly | [`app`] | settings → components → pipelines |
//! | | [`config`] | the settings |
//! | edges | [`http`] | the HTTP API |
//! | | `client` | a typed client of it, for other programs (feature `client`) |
//! | | [`ingest`] | feeds of documents |
//! | ways | [`pipeline`] | query, write, rebuild |
//! | composite | [`collection`] | documents that are found by their embeddings, durably |
//! | parts | [`kindred_encoder`] | text → embedding |
//! | | [`adapter`] | a query's embedding → a better one |
//! | | [`kindred_index`] | embedding → rows |
//! | | [`lexical`] | words → rows |
//! | | [`rescore`] | candidates → hits |
//! | | [`wal`] | acknowledged changes, on disk |
//! | | [`snapshot`] | collections' files, kept elsewhere |
//! | base | [`kindred_core`], [`telemetry`], [`optional`], `tls` | domain, kinds of failure, files; logs; parts that a build leaves out; cryptography |
pub mod adapter;
pub mod app;
#[cfg(feature = "client")]
pub mod client;
pub mod collection;
pub mod config;
pub mod http;
pub mod ingest;
pub mod lexical;
pub mod optional;
pub mod pipeline;
pub mod rescore;
pub mod snapshot;
pub mod telemetry;
mod tls;
pub mod tools;
pub mod wal;
