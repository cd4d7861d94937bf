//! tools
pub mod demo;
pub mod demo_corpus;
pub mod inspect;
pub mod search;
pub mod serve;
