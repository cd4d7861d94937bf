//! Feeds: where documents come from besides single HTTP requests.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | a file into a collection: read a batch → write it → report |
//! | `source.rs` | where a feed is read from: its format, how far it has come |
//! | `batch.rs` | records that are written together |
//! | `jsonl.rs` | lines of JSON, from a request body or a file |
//! | `csv.rs`, `cells.rs` | rows of CSV; what a cell means |
//! | `parquet.rs`, `columns.rs` | rows of Parquet; what a value becomes |
//! | `nest.rs` | columns with dotted names become objects |
//! | `kafka/` | topics of Kafka |
//! | `refused.rs` | the report of what was not taken |
//!
//! *Resuming*: with each batch the log keeps the line before which all is written and reported. A second run begins there: it may
//! write and report one batch again, which changes nothing, but never leaves one out.

mod batch;
mod cells;
#[cfg(feature = "parquet")]
mod columns;
mod csv;
mod jsonl;
pub mod kafka;
mod nest;
#[cfg(feature = "parquet")]
mod parquet;
mod refused;
mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value as Json;

pub use jsonl::{BodyError, parse_body};
pub use refused::Refused;
pub use source::{Format, Source};

use crate::pipeline::{ItemError, Outcome, PipelineError, WritePipeline, WriteReport, WriteRequest};
use batch::Batches;
use kindred_core::domain::{CollectionName, FeedPosition, Schema, SeqNo};
use kindred_core::error::ErrorKind;
use kindred_core::{Cancel, Progress};
use refused::RefusedReport;

/// Longest line or row of a text file.
const MAX_RECORD_BYTES: usize = 16 << 20;

/// Why a file could not be ingested to its end.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("cannot read {name}")]
    Read { name: String, source: ReadError },
    #[error(
        "what kind of file is {name}? Say it: --format jsonl, csv or parquet. What is compressed comes through a pipe: zcat {name} | kindred ingest jobs"
    )]
    UnknownFormat { name: String },
    #[error("Parquet is read from a file, not from {name}: its description stands at its end. Save it to a file first")]
    NeedsFile { name: String },
    #[error("{name} cannot be read: {}; or convert it to JSON lines or CSV", crate::optional::PARQUET.missing())]
    NoParquet { name: String },
    #[error("cannot write the refused lines to {}", path.display())]
    Report { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

impl IngestError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source: ReadError::Io(_), .. } => ErrorKind::NotFound,
            Self::Read { .. } | Self::UnknownFormat { .. } | Self::NeedsFile { .. } | Self::NoParquet { .. } => ErrorKind::Invalid,
            Self::Report { .. } => ErrorKind::Unavailable,
            Self::Pipeline(e) => e.kind(),
        }
    }
}

/// Why nothing more can be read from a file.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Header(String),
    #[cfg(feature = "parquet")]
    #[error("it is not a Parquet file, is damaged, or is compressed in a way that is not read here (snappy, zstd, lz4 and gzip are)")]
    Parquet(#[from] ::parquet::errors::ParquetError),
}

/// A document's JSON, or why it could not be read.
pub type ReadDocument = Result<Json, ItemError>;

/// One line or row.
struct Record {
    /// From 1.
    line: u64,
    /// About what it takes in memory.
    n_bytes: usize,
    item: ReadDocument,
}

/// A format's records, one after another.
trait Records {
    /// The next record, `None` at the end. What is wrong with one record is in its item.
    fn next(&mut self) -> Result<Option<Record>, ReadError>;

    /// Leaves out the records before this line, without looking into them.
    fn skip_before(&mut self, line: u64) -> Result<(), ReadError>;

    /// How much has been read, in the unit that the source's total has.
    fn n_read(&self) -> u64;
}

/// How a file is ingested.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// Where every refused line is written to, as a line of JSON.
    pub refused: Option<&'a Path>,
    /// Begin with the first line, wherever an earlier run stopped.
    pub from_start: bool,
}

/// What became of a file.
#[derive(Debug, Default)]
pub struct IngestReport {
    pub n_created: usize,
    pub n_updated: usize,
    pub n_unchanged: usize,
    pub n_encoded: usize,
    pub n_refused: usize,
    pub seqno: SeqNo,
    /// The first refused lines; all are in the file of [`Options::refused`].
    pub refused: Vec<Refused>,
}

/// A file on its way into a collection.
pub struct Ingest<'a> {
    write: &'a WritePipeline,
    collection: &'a CollectionName,
    source: Source,
    batches: Batches,
    refused: RefusedReport,
    resumed_at: Option<u64>,
}

impl<'a> Ingest<'a> {
    /// Opens a file and finds the line to begin with.
    ///
    /// # Errors
    /// [`IngestError`]: what is no such file, a header that cannot be used, a report that cannot be written.
    pub fn open(
        write: &'a WritePipeline,
        collection: &'a CollectionName,
        schema: &Schema,
        source: Source,
        options: &Options<'_>,
    ) -> Result<Self, IngestError> {
        let (mut records, source) = source.read(schema)?;
        let position = match source.position() {
            Some(position) if !options.from_start => write.position(collection, position)?,
            _ => None,
        };
        let resumed_at = position.filter(|&line| line > 1);
        if let Some(line) = resumed_at {
            records.skip_before(line).map_err(|e| source.failed(e))?;
        }
        let refused = RefusedReport::open(options.refused, resumed_at.is_some())?;
        Ok(Self { write, collection, source, batches: Batches::new(records), refused, resumed_at })
    }

    /// The line at which an earlier run stopped and this one goes on.
    pub fn resumed_at(&self) -> Option<u64> {
        self.resumed_at
    }

    /// Writes all of it, a batch at a time, until it is cancelled.
    ///
    /// # Errors
    /// [`IngestError`] when reading or writing fails: what was written stays. Single bad lines are in the report.
    pub async fn run(mut self, cancel: &Cancel) -> Result<IngestReport, IngestError> {
        let mut read = self.batches.n_read();
        let progress = Arc::new(self.source.progress(format!("ingesting {}", self.collection), read));
        let mut report = IngestReport::default();
        loop {
            let batch = self.batches.next().map_err(|e| self.source.failed(e))?;
            let Some(first) = batch.first() else { break };
            let first_line = first.line;
            let watched = share(&progress, self.batches.n_read() - read, batch.len() as u64).cancelled_by(cancel);
            read = self.batches.n_read();
            let (lines, items): (Vec<u64>, Vec<_>) = batch.into_iter().map(|record| (record.line, record.item)).unzip();
            let written = match self.write_batch(items, Some(first_line), &watched).await {
                Ok(written) => written,
                Err(e) => {
                    // Of what failed nothing is there, and all before it is. Where this is not to be kept either, a later run begins a batch earlier.
                    let _ = self.write_batch(Vec::new(), Some(first_line), &Progress::hidden()).await;
                    return Err(e.into());
                }
            };
            report.seqno = written.seqno;
            report.n_encoded += written.n_encoded;
            for (line, outcome) in lines.into_iter().zip(written.outcomes) {
                match outcome {
                    Outcome::Created(..) => report.n_created += 1,
                    Outcome::Updated(..) => report.n_updated += 1,
                    Outcome::Unchanged(..) => report.n_unchanged += 1,
                    Outcome::Deleted(..) | Outcome::NotFound(_) | Outcome::Superseded(_) => {}
                    Outcome::Refused { id, error } => self.refused.add(Refused { line, id, error })?,
                }
            }
            self.refused.flush()?;
        }
        // The whole file is there: a later run takes all of it again.
        self.write_batch(Vec::new(), None, &Progress::hidden()).await?;
        (report.n_refused, report.refused) = self.refused.into_parts();
        if let Some(progress) = Arc::into_inner(progress) {
            progress.finish();
        }
        Ok(report)
    }

    /// Writes a batch and, with it, that all lines before `done_before` are written and reported; `None`: that all there are are.
    async fn write_batch(
        &self,
        items: Vec<ReadDocument>,
        done_before: Option<u64>,
        progress: &Progress,
    ) -> Result<WriteReport, PipelineError> {
        let mut request = WriteRequest::put(items);
        if let Some(source) = self.source.position() {
            request.positions.push(FeedPosition { source: source.to_owned(), next: done_before });
        }
        self.write.write(self.collection, request, progress).await
    }
}

/// Counts the items of a batch that are done as a share of what the batch took to read.
fn share(progress: &Arc<Progress>, amount: u64, n_items: u64) -> Progress {
    let (progress, shown) = (Arc::clone(progress), AtomicU64::new(0));
    Progress::watched(move |n_done| {
        let now = amount * n_done.min(n_items) / n_items;
        let before = shown.fetch_max(now, Ordering::Relaxed);
        progress.advance(now.saturating_sub(before));
    })
}
