//! Records that are written together: bounded by number and bytes, no id twice.

use std::collections::HashSet;

use super::{ReadError, Record, Records};

/// Records that are written together.
const BATCH: usize = 1_024;
/// Bytes of records that are held at once.
const BATCH_BYTES: usize = 32 << 20;

/// A file's records, batch by batch.
pub(super) struct Batches {
    records: Box<dyn Records>,
    /// Read, but of the next batch.
    pending: Option<Record>,
}

impl Batches {
    pub fn new(records: Box<dyn Records>) -> Self {
        Self { records, pending: None }
    }

    /// The next records; none at the end. A batch ends before an id that it has already: a file is a feed, and of two records
    /// with one id the later one counts.
    pub fn next(&mut self) -> Result<Vec<Record>, ReadError> {
        let (mut batch, mut ids, mut n_bytes) = (Vec::new(), HashSet::new(), 0);
        while batch.len() < BATCH && n_bytes < BATCH_BYTES {
            let next = match self.pending.take() {
                Some(record) => Some(record),
                None => self.records.next()?,
            };
            let Some(record) = next else { break };
            if let Some(id) = record.item.as_ref().ok().and_then(|json| json.get("id"))
                && !ids.insert(id.to_string())
            {
                self.pending = Some(record);
                break;
            }
            n_bytes += record.n_bytes;
            batch.push(record);
        }
        Ok(batch)
    }

    pub fn n_read(&self) -> u64 {
        self.records.n_read()
    }
}

#[cfg(test)]
mod tests {
    use super::super::jsonl::Lines;
    use super::*;

    #[test]
    fn of_two_records_with_one_id_the_later_counts() {
        let lines = Lines::new(&b"{\"id\":1}\n{\"id\":2}\n{\"id\":1}\n{\"id\":3}\n"[..]);
        let mut batches = Batches::new(Box::new(lines));
        let mut numbers = || batches.next().unwrap().iter().map(|record| record.line).collect::<Vec<_>>();
        assert_eq!((numbers(), numbers(), numbers()), (vec![1, 2], vec![3, 4], vec![]));
    }

    #[test]
    fn batches_are_bounded_by_number_and_bytes() {
        let short: String = (0..BATCH + 10).map(|id| format!("{{\"id\":{id}}}\n")).collect();
        let long: String = (0..5).map(|id| format!("{{\"id\":{id},\"text\":\"{}\"}}\n", "x".repeat(BATCH_BYTES / 3))).collect();
        for (text, sizes) in [(short, [BATCH, 10, 0]), (long, [3, 2, 0])] {
            let mut batches = Batches::new(Box::new(Lines::new(std::io::Cursor::new(text))));
            assert_eq!([(); 3].map(|()| batches.next().unwrap().len()), sizes);
        }
    }
}
