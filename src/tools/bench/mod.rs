//! `kindred bench`: measures a part of Kindred on its own.
//!
//! | file | duty |
//! |---|---|
//! | `ann.rs` | the command `kindred bench ann`, from vectors to a report |
//! | `filters.rs` | the command `kindred bench filters`: a grid of filters |
//! | `crash/` | the command `kindred bench crash`: a server that is killed again and again |
//! | `encoder/` | the command `kindred bench encoder`: texts to embeddings |
//! | `freshness/` | the command `kindred bench freshness`: changes beside searches |
//! | `restart.rs` | the command `kindred bench restart`: from starting to being ready |
//! | `corpus.rs`, `prepare.rs` | documents to measure a server with, and a collection of them |
//! | `server.rs` | a server to measure, in a process of its own |
//! | `client.rs` | what it is asked with |
//! | `vectors.rs` | vectors from `.fvecs` and `.npy` files, checked and scaled to unit length |
//! | `truth.rs` | the exact neighbours: computed, read, written |
//! | `top_k.rs` | the best of many candidates |
//! | `built.rs` | builds the index to measure, or finds one that was built before |
//! | `measure.rs` | opens, searches, counts and times |
//! | `system.rs` | what the operating system knows: CPU time, resident memory, the page cache |
//! | `report.rs` | the result as a table and as JSON |
//! | `plot.rs` | results as SVG plots |

pub mod ann;
mod built;
mod client;
mod corpus;
pub mod crash;
pub mod encoder;
pub mod filters;
pub mod freshness;
mod measure;
mod plot;
mod prepare;
mod report;
pub mod restart;
mod server;
mod system;
mod top_k;
mod truth;
mod vectors;
