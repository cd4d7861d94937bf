//! See Cargo.toml.
#![allow(dead_code, reason = "the index uses them")]

#[path = "../../src/index/kernels/mod.rs"]
mod kernels;

pub use kernels::dot;
