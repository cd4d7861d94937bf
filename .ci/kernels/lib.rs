//! See Cargo.toml.
#![allow(dead_code, reason = "the index uses them")]

#[path = "../../crates/kindred-index/src/kernels/mod.rs"]
mod kernels;

pub use kernels::dot;
