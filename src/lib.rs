//! Kindred: an embedding-based retrieval server for job search and people search.
//!
//! Three ways run through it, each to be read in one file:
//! QUERY in [`pipeline`]`/query.rs`, WRITE in `pipeline/write.rs`, REBUILD in `pipeline/rebuild.rs`.
//!
//! Imports go down only (`tests/it/layers.rs` enforces it):
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | entry | `main` | the command line |
//! | | [`tools`] | what people run besides a server: demo, evaluation, tables |
//! | assembly | [`app`] | settings → components → pipelines |
//! | | [`config`] | the settings |
//! | edges | [`http`] | the HTTP API |
//! | | [`client`] | a typed client of it, for other programs |
//! | | [`ingest`] | feeds of documents |
//! | ways | [`pipeline`] | query, write, rebuild |
//! | composite | [`collection`] | documents that are found by their embeddings, durably |
//! | parts | [`encoder`] | text → embedding |
//! | | [`adapter`] | a query's embedding → a better one |
//! | | [`index`] | embedding → rows |
//! | | [`lexical`] | words → rows |
//! | | [`rescore`] | candidates → hits |
//! | | [`wal`] | acknowledged changes, on disk |
//! | | [`snapshot`] | collections' files, kept elsewhere |
//! | base | [`domain`], [`error`], [`storage`], [`telemetry`], `tls` | words, kinds of failure, files, logs, cryptography |
#![deny(unsafe_code)]
pub mod adapter;
pub mod app;
pub mod client;
pub mod collection;
pub mod config;
pub mod http;
pub mod ingest;
pub mod lexical;
pub mod pipeline;
pub mod rescore;
pub mod snapshot;
pub mod telemetry;
mod tls;
pub mod tools;
pub mod wal;
