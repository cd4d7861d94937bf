//! Replays a folder of logs.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use super::record::{Frame, decode};
use super::{Batch, WalError};
use crate::domain::SeqNo;
use crate::storage::{self, StorageError};

const MAGIC: [u8; 8] = *b"KINDWAL\0";
const VERSION: u32 = 1;
pub(super) const FILE_HEADER_BYTES: usize = 24;

/// What a replay found.
#[derive(Debug, PartialEq, Eq)]
pub struct Replay {
    /// The seqno that the next change gets.
    pub next_seqno: SeqNo,
    /// Bytes of an unacknowledged batch at the very end that were dropped.
    pub torn_bytes: u64,
}

/// Hands every batch after `covered` to `apply`, in order.
///
/// With `repair`, a torn end is cut off the file, so that a writer can go on.
///
/// # Errors
/// [`WalError::Corrupt`] names file and byte; [`WalError::Gap`] when a file is missing; [`WalError::Storage`].
pub fn replay(dir: &Path, covered: SeqNo, repair: bool, mut apply: impl FnMut(Batch)) -> Result<Replay, WalError> {
    let mut next = covered.next();
    let mut torn_bytes = 0;
    let mut end_of_last = None;
    let files = log_files(dir)?;
    for (i, (first_seqno, path)) in files.iter().enumerate() {
        let is_last = i + 1 == files.len();
        let Some(bytes) = storage::read_file(path)? else { continue };
        let damaged = |offset: usize, reason: String| WalError::Corrupt { path: path.clone(), offset: offset as u64, reason };
        if is_last && is_unborn(&bytes) {
            torn_bytes += bytes.len() as u64;
            if repair {
                storage::remove_file(path)?;
            }
            continue;
        }
        check_file_header(&bytes, *first_seqno).map_err(|reason| damaged(0, reason))?;
        if first_seqno.0 > next.0 {
            return Err(WalError::Gap { path: path.clone(), expected: next, found: *first_seqno });
        }
        if end_of_last.is_some_and(|end| *first_seqno != end) {
            return Err(damaged(0, format!("it begins with change {first_seqno}, but the file before it ends elsewhere")));
        }
        let mut expected = *first_seqno;
        let mut at = FILE_HEADER_BYTES;
        while at < bytes.len() {
            match decode(&bytes[at..]) {
                Frame::Whole { batch, .. } if batch.first_seqno != expected => {
                    return Err(damaged(at, format!("the batch begins with change {} instead of {expected}", batch.first_seqno)));
                }
                Frame::Whole { batch, frame_bytes } => {
                    at += frame_bytes;
                    expected = batch.next_seqno();
                    // A generation covers whole batches: searchers change batch by batch.
                    if batch.first_seqno >= next {
                        next = expected;
                        apply(batch);
                    }
                }
                Frame::Torn if is_last => {
                    torn_bytes += (bytes.len() - at) as u64;
                    if repair {
                        cut(path, at)?;
                    }
                    break;
                }
                Frame::Torn => return Err(damaged(at, "the frame is cut short, but a later log file exists".into())),
                Frame::Damaged(reason) => return Err(damaged(at, reason)),
            }
        }
        end_of_last = Some(expected);
    }
    Ok(Replay { next_seqno: next, torn_bytes })
}

/// The process, or the power, ended while the file was being created: nothing can have been appended.
fn is_unborn(bytes: &[u8]) -> bool {
    bytes.len() < FILE_HEADER_BYTES || bytes.iter().all(|&b| b == 0)
}

fn cut(path: &Path, len: usize) -> Result<(), StorageError> {
    let shorten = || -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len as u64)?;
        file.sync_all()
    };
    shorten().map_err(StorageError::io("cut the torn end off", path))
}

/// The logs of a folder by their first seqno.
pub(super) fn log_files(dir: &Path) -> Result<Vec<(SeqNo, PathBuf)>, StorageError> {
    let names = storage::list_dir(dir)?;
    let seqno = |name: &str| name.strip_suffix(".log").and_then(|n| n.parse().ok()).map(SeqNo);
    Ok(names.iter().filter_map(|name| Some((seqno(name)?, dir.join(name)))).collect())
}

pub(super) fn encode_file_header(first_seqno: SeqNo) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_HEADER_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(first_seqno.0.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn check_file_header(bytes: &[u8], first_seqno: SeqNo) -> Result<(), String> {
    let header = bytes.get(..FILE_HEADER_BYTES).ok_or("it is too short for a header")?;
    if header[..8] != MAGIC {
        return Err("it does not begin with Kindred's mark".into());
    }
    let version = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
    if version != VERSION {
        return Err(format!("its format version is {version}, this build reads {VERSION}"));
    }
    if header != encode_file_header(first_seqno) {
        return Err("its header does not fit its name or its checksum".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::WalWriter;
    use super::super::record::tests::sample;
    use super::*;

    fn collect(dir: &Path, covered: u64, repair: bool) -> Result<(Vec<u64>, Replay), WalError> {
        let mut seen = Vec::new();
        let replay = replay(dir, SeqNo(covered), repair, |batch| seen.push(batch.first_seqno.0))?;
        Ok((seen, replay))
    }

    fn write(dir: &Path, batches: &[u64]) {
        let mut writer = WalWriter::create(dir, SeqNo(batches[0])).unwrap();
        batches.iter().for_each(|&first| writer.append(&sample(first)).unwrap());
    }

    #[test]
    fn what_is_appended_is_replayed_and_what_is_covered_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(collect(dir.path(), 0, true).unwrap().1, Replay { next_seqno: SeqNo(1), torn_bytes: 0 });
        write(dir.path(), &[1, 3]);
        write(dir.path(), &[5, 7]);
        assert_eq!(collect(dir.path(), 0, true).unwrap(), (vec![1, 3, 5, 7], Replay { next_seqno: SeqNo(9), torn_bytes: 0 }));
        assert_eq!(collect(dir.path(), 4, true).unwrap().0, [5, 7]);
    }

    #[test]
    fn trimming_keeps_what_is_not_covered() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = WalWriter::create(dir.path(), SeqNo(1)).unwrap();
        writer.append(&sample(1)).unwrap();
        writer.trim(SeqNo(0), SeqNo(3)).unwrap();
        writer.append(&sample(3)).unwrap();
        assert_eq!(collect(dir.path(), 0, false).unwrap().0, [1, 3]);
        writer.trim(SeqNo(2), SeqNo(5)).unwrap();
        assert_eq!(collect(dir.path(), 2, false).unwrap().0, [3]);
        writer.append(&sample(5)).unwrap();
        writer.trim(SeqNo(6), SeqNo(7)).unwrap();
        assert_eq!(collect(dir.path(), 6, false).unwrap(), (vec![], Replay { next_seqno: SeqNo(7), torn_bytes: 0 }));
        assert_eq!(storage::list_dir(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn two_files_never_hold_the_same_changes() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[1, 3]);
        write(dir.path(), &[3]);
        assert!(matches!(collect(dir.path(), 0, true), Err(WalError::Corrupt { .. })));
    }

    #[test]
    fn a_file_that_was_only_being_created_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[1]);
        for bytes in [&[][..], &[b'K'; 5], &[0; FILE_HEADER_BYTES], &[0; 4_096]] {
            let unborn = dir.path().join("00000000000000000003.log");
            std::fs::write(&unborn, bytes).unwrap();
            let (seen, replay) = collect(dir.path(), 0, true).unwrap();
            assert_eq!((seen, replay.next_seqno), (vec![1], SeqNo(3)));
            assert!(!unborn.exists());
        }
    }

    #[test]
    fn a_torn_end_is_cut_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[1, 3]);
        let path = &log_files(dir.path()).unwrap()[0].1;
        let whole = std::fs::read(path).unwrap();
        let one = FILE_HEADER_BYTES + (whole.len() - FILE_HEADER_BYTES) / 2;
        for len in one + 1..whole.len() {
            std::fs::write(path, &whole[..len]).unwrap();
            let (seen, replay) = collect(dir.path(), 0, true).unwrap();
            assert_eq!((seen, replay.torn_bytes), (vec![1], (len - one) as u64), "cut at {len}");
            assert_eq!(std::fs::metadata(path).unwrap().len(), one as u64);
        }
    }

    #[test]
    fn damage_before_the_end_stops_and_names_the_place() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[1, 3]);
        write(dir.path(), &[5]);
        let files = log_files(dir.path()).unwrap();
        let whole = std::fs::read(&files[0].1).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&files[0].1, &damaged).unwrap();
            let error = collect(dir.path(), 0, true).unwrap_err();
            assert!(matches!(error, WalError::Corrupt { .. }), "byte {at}: {error}");
        }
        storage::remove_file(&files[0].1).unwrap();
        assert!(matches!(collect(dir.path(), 0, true), Err(WalError::Gap { .. })));
    }
}
