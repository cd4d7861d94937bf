//! Tools beside the server: what the demo shows, and how well a search does.
//!
//! | module | duty |
//! |---|---|
//! | `demo_corpus` | composes the demo's jobs and members from public occupation texts |
//! | `judgments` | reads a retrieval task: corpus, queries and relevance judgments |
//! | `measures` | nDCG, MRR, MAP, recall, precision and hits of a ranking |

pub mod demo_corpus;
pub mod judgments;
pub mod measures;
