//! Kindred: find jobs and members by meaning.
#![deny(unsafe_code)]
pub mod domain;
pub mod error;
pub mod index;
pub mod storage;
pub mod telemetry;
