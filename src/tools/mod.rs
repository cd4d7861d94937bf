//! What people run besides a server.
//!
//! | module | duty |
//! |---|---|
//! | `serve` | from settings to a listening server and its graceful end |
//! | `signals` | Ctrl-C and SIGTERM: a graceful end, or cancelled work |
//! | `fetch` | what the settings need and the user has not brought |
//! | `demo` | from nothing to an answer: fetch, compose, embed, serve |
//! | `fill` | fills a collection with documents that a tool has made |
//! | `doctor/` | whether a server would work here |
//! | `config_check` | the settings after all sources, and where each comes from |
//! | `manual` | completions for shells, manual pages |
//! | `terminal` | colour, where somebody sees it |
//! | `ingest` | a file into a collection, then its index |
//! | `rebuild` | a collection's index anew |
//! | `search` | a search as a table people can read |
//! | `snapshot` | make, restore, verify and list snapshots |
//! | `model` | a sentence-transformers folder becomes a model folder |
//! | `keys` | API keys for those who ask a server |
//! | `inspect` | what a collection holds |
//! | `evaluate/` | how well a search finds what people judged relevant: of files, or of a collection that is there |
//! | `adapted` | judged queries to learn an adapter from |
//! | `examples` | judged queries to learn from |
//! | `train` | learns from judgments what to score candidates by |
//! | `train_adapter` | learns from judgments what to search with instead of a query's embedding |
//! | `bench` | starts `kindred-bench`, which measures a part of Kindred on its own |
//! | `settings_args` | the settings of a command line |
//! | `judgments` | reads a retrieval task: corpus, queries and relevance judgments |

mod adapted;
pub mod bench;
pub mod config_check;
pub mod demo;
pub mod doctor;
pub mod evaluate;
mod examples;
pub mod fetch;
mod fill;
pub mod ingest;
pub mod inspect;
pub mod judgments;
pub mod keys;
pub mod manual;
pub mod model;
pub mod rebuild;
pub mod search;
pub mod serve;
pub mod settings_args;
pub mod signals;
pub mod snapshot;
mod terminal;
pub mod train;
mod train_adapter;
