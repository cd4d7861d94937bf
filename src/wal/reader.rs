//! Replays a folder of logs.

use std::path::{Path, PathBuf};

use super::record::{Frame, Salt, decode};
use super::writer::WalFile;
use super::{Entry, WalError};
use kindred_core::domain::{Epoch, SeqNo};
use kindred_core::storage::{self, OutFile, StorageError};

const MAGIC: [u8; 8] = *b"KINDWAL\0";
pub(super) const VERSION: u32 = 3;
pub(super) const FILE_HEADER_BYTES: usize = 80;

/// What the header of a log file says, beside its first seqno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub epoch: Epoch,
    pub salt: Salt,
}

/// What a replay found.
#[derive(Debug, PartialEq, Eq)]
pub struct Replay {
    /// The seqno that the next change gets.
    pub next_seqno: SeqNo,
    /// Bytes of an unacknowledged frame at the very end that were dropped.
    pub torn_bytes: u64,
    /// The last file, if it can be written on.
    pub last_file: Option<WalFile>,
}

/// Passes every entry after `covered` to `apply`, in order, with the epoch of its file.
///
/// With `repair`, a torn end is cut off the file, so that a writer can go on. Reads one file at a time into memory, and blocks on
/// the disk.
///
/// # Errors
/// [`WalError::Corrupt`] names file and byte; [`WalError::Gap`] when a file is missing; [`WalError::Storage`].
pub fn replay(dir: &Path, covered: SeqNo, repair: bool, mut apply: impl FnMut(Epoch, Entry)) -> Result<Replay, WalError> {
    let mut files = log_files(dir)?;
    // A file ends where the next begins: those that a generation covers wholly need not be read.
    let n_covered = files.windows(2).take_while(|pair| pair[1].0 <= covered.next()).count();
    files.drain(..n_covered);
    let mut replay = Replay { next_seqno: covered.next(), torn_bytes: 0, last_file: None };
    let mut end_of_last = None;
    for (i, (first_seqno, path)) in files.iter().enumerate() {
        let is_last = i + 1 == files.len();
        let Some(bytes) = storage::read_file(path)? else { continue };
        let damaged = |offset: usize, reason: String| WalError::Corrupt { path: path.clone(), offset: offset as u64, reason };
        if is_last && is_unborn(&bytes) {
            replay.torn_bytes += bytes.len() as u64;
            if repair {
                storage::remove_file(path)?;
            }
            continue;
        }
        let header = read_file_header(&bytes, *first_seqno).map_err(|reason| damaged(0, reason))?;
        if *first_seqno > replay.next_seqno {
            return Err(WalError::Gap { path: path.clone(), expected: replay.next_seqno, found: *first_seqno });
        }
        if end_of_last.is_some_and(|end| *first_seqno != end) {
            return Err(damaged(0, format!("it begins with change {first_seqno}, but the file before it ends elsewhere")));
        }
        let mut expected = *first_seqno;
        let mut at = FILE_HEADER_BYTES;
        while at < bytes.len() {
            match decode(&bytes, at, header.salt) {
                Frame::Whole { entry, .. } if entry.first_seqno() != expected => {
                    return Err(damaged(at, format!("the entry begins with change {} instead of {expected}", entry.first_seqno())));
                }
                Frame::Whole { entry, frame_bytes } => {
                    at += frame_bytes;
                    expected = entry.next_seqno();
                    // A generation covers whole entries: searchers change entry by entry.
                    if entry.first_seqno() >= replay.next_seqno {
                        replay.next_seqno = expected;
                        apply(header.epoch, entry);
                    }
                }
                Frame::Torn if is_last => {
                    replay.torn_bytes += (bytes.len() - at) as u64;
                    if repair {
                        let mut file = OutFile::append_to(path)?;
                        file.cut(at as u64)?;
                        file.sync()?;
                    }
                    break;
                }
                Frame::Torn => return Err(damaged(at, "the frame is cut short, but a later log file exists".into())),
                Frame::Damaged(reason) => return Err(damaged(at, reason)),
            }
        }
        end_of_last = Some(expected);
        if is_last {
            replay.last_file = Some(WalFile { path: path.clone(), header, len: at as u64 });
        }
    }
    Ok(replay)
}

/// True if the file header is incomplete because of a crash during creation. Such a file has no records.
fn is_unborn(bytes: &[u8]) -> bool {
    bytes.len() < FILE_HEADER_BYTES || bytes.iter().all(|&b| b == 0)
}

/// The logs of a folder by their first seqno.
pub(super) fn log_files(dir: &Path) -> Result<Vec<(SeqNo, PathBuf)>, StorageError> {
    let names = storage::list_dir(dir)?;
    let seqno = |name: &str| name.strip_suffix(".log").and_then(|n| n.parse().ok()).map(SeqNo);
    Ok(names.iter().filter_map(|name| Some((seqno(name)?, dir.join(name)))).collect())
}

/// Deletes the files whose changes are all at or before `covered`. The file that is being written always stays, because no other
/// follows it; rotate it first, so that it can be deleted by a later call.
///
/// # Errors
/// [`WalError::Storage`]; what was not deleted is skipped by the next replay.
pub fn trim(dir: &Path, covered: SeqNo) -> Result<(), WalError> {
    for pair in log_files(dir)?.windows(2) {
        // A file ends where the next begins.
        if pair[1].0 <= covered.next() {
            storage::remove_file(&pair[0].1)?;
        }
    }
    Ok(storage::sync_dir(dir)?)
}

pub(super) fn encode_file_header(first_seqno: SeqNo, header: FileHeader) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_HEADER_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(first_seqno.0.to_le_bytes());
    bytes.extend(header.epoch.to_bytes());
    bytes.extend(header.salt.to_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Checks a file's header and returns what it says.
fn read_file_header(bytes: &[u8], first_seqno: SeqNo) -> Result<FileHeader, String> {
    let too_short = "it is too short for a header";
    if bytes.get(..8).ok_or(too_short)? != MAGIC {
        return Err("it does not begin with Kindred's mark".into());
    }
    let version = u32::from_le_bytes(bytes.get(8..12).ok_or(too_short)?.try_into().expect("four bytes"));
    if version != VERSION {
        return Err(format!("its format version is {version}, this build reads {VERSION}"));
    }
    let header = bytes.get(..FILE_HEADER_BYTES).ok_or(too_short)?;
    let (checked, checksum) = header.split_at(FILE_HEADER_BYTES - 4);
    let checksum = u32::from_le_bytes(checksum.try_into().expect("four bytes"));
    if !storage::is_sound(checked, checksum) || header[12..20] != first_seqno.0.to_le_bytes() {
        return Err("its header does not fit its name or its checksum".into());
    }
    let epoch = Epoch::from_bytes(header[20..68].try_into().expect("forty-eight bytes"));
    let salt = Salt::from_bytes(header[68..76].try_into().expect("eight bytes"));
    Ok(FileHeader { epoch, salt })
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::sample;
    use super::super::{WalSettings, WalWriter};
    use super::*;

    const EPOCH: Epoch = Epoch { model: [7; 16], chunking: [8; 16], definition: [9; 16] };

    /// First seqnos of the entries, the next seqno, torn bytes.
    fn collect(dir: &Path, covered: u64, repair: bool) -> Result<(Vec<u64>, u64, u64), WalError> {
        let mut seen = Vec::new();
        let replay = replay(dir, SeqNo(covered), repair, |epoch, entry| {
            assert_eq!(epoch, EPOCH);
            seen.push(entry.first_seqno().0);
        })?;
        Ok((seen, replay.next_seqno.0, replay.torn_bytes))
    }

    fn create(dir: &Path, next_seqno: u64) -> WalWriter {
        WalWriter::open(dir, SeqNo(next_seqno), None, EPOCH, WalSettings::default()).unwrap()
    }

    fn write(dir: &Path, batches: &[u64]) {
        let mut writer = create(dir, batches[0]);
        batches.iter().for_each(|&first| writer.append(&sample(first), true).unwrap());
    }

    #[test]
    fn what_is_appended_is_replayed_and_what_is_covered_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(collect(dir.path(), 0, true).unwrap(), (vec![], 1, 0));
        write(dir.path(), &[1, 3]);
        write(dir.path(), &[5, 7]);
        assert_eq!(collect(dir.path(), 0, true).unwrap(), (vec![1, 3, 5, 7], 9, 0));
        assert_eq!(collect(dir.path(), 4, true).unwrap().0, [5, 7]);
    }

    #[test]
    fn trimming_keeps_what_is_not_covered() {
        let dir = tempfile::tempdir().unwrap();
        let trim_to = |writer: &mut WalWriter, covered, next_seqno| {
            writer.rotate(SeqNo(next_seqno), EPOCH).unwrap();
            trim(dir.path(), SeqNo(covered)).unwrap();
        };
        let mut writer = create(dir.path(), 1);
        writer.append(&sample(1), true).unwrap();
        trim_to(&mut writer, 0, 3);
        writer.append(&sample(3), true).unwrap();
        assert_eq!(collect(dir.path(), 0, false).unwrap().0, [1, 3]);
        trim_to(&mut writer, 2, 5);
        assert_eq!(collect(dir.path(), 2, false).unwrap().0, [3]);
        writer.append(&sample(5), true).unwrap();
        trim_to(&mut writer, 6, 7);
        assert_eq!(collect(dir.path(), 6, false).unwrap(), (vec![], 7, 0));
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
            let (seen, next_seqno, _) = collect(dir.path(), 0, true).unwrap();
            assert_eq!((seen, next_seqno), (vec![1], 3));
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
            let (seen, _, torn_bytes) = collect(dir.path(), 0, true).unwrap();
            assert_eq!((seen, torn_bytes), (vec![1], (len - one) as u64), "cut at {len}");
            assert_eq!(std::fs::metadata(path).unwrap().len(), one as u64);
        }
    }

    #[test]
    fn a_file_that_ends_well_is_written_on() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[1, 3]);
        let open = |epoch| {
            let replay = replay(dir.path(), SeqNo(0), true, |_, _| ()).unwrap();
            WalWriter::open(dir.path(), replay.next_seqno, replay.last_file, epoch, WalSettings::default()).unwrap()
        };
        open(EPOCH).append(&sample(5), true).unwrap();
        assert_eq!(log_files(dir.path()).unwrap().len(), 1);
        let other = Epoch { definition: [0; 16], ..EPOCH };
        open(other).append(&sample(7), true).unwrap();
        assert_eq!(log_files(dir.path()).unwrap().len(), 2, "a file is of one epoch");
        let mut seen = Vec::new();
        replay(dir.path(), SeqNo(2), true, |epoch, entry| seen.push((epoch, entry.first_seqno().0))).unwrap();
        assert_eq!(seen, [(EPOCH, 3), (EPOCH, 5), (other, 7)]);
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

    #[test]
    fn a_log_of_another_format_version_is_refused() {
        let mut bytes = encode_file_header(SeqNo(1), FileHeader { epoch: EPOCH, salt: Salt::random() });
        bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        let reason = read_file_header(&bytes, SeqNo(1)).unwrap_err();
        assert!(reason.contains("format version is 4, this build reads 3"), "{reason}");
    }
}
