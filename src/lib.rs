//! Kindred: find jobs and members by meaning.
#![deny(unsafe_code)]
pub mod domain;
pub mod encoder;
pub mod error;
pub mod storage;
pub mod telemetry;
