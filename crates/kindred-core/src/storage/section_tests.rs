//! Containers that are whole, damaged in one place, and mangled at random.

use std::ops::Range;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::TempDir;

use super::sections::{BLOCK_BYTES, FIRST_SECTION};
use super::*;

const KIND: [u8; 4] = *b"TEST";
const VERSION: u32 = 3;
/// Where the checksum of the header stands.
const HEADER_CRC: usize = 288;

/// A container of sections, in a folder of its own.
fn written(sections: &[Vec<u8>]) -> (TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.bin");
    let mut writer = SectionWriter::create(&path, KIND, VERSION).unwrap();
    sections.iter().for_each(|section| writer.section(section).unwrap());
    let len = writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(len, bytes.len() as u64);
    (dir, path, bytes)
}

fn open(path: &Path, sections: &[Vec<u8>]) -> Result<SectionFile, StorageError> {
    SectionFile::open(path, KIND, VERSION, sections.len())
}

/// Bytes without a pattern that a shift would keep.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn small() -> Vec<Vec<u8>> {
    vec![b"hello".to_vec(), [1.5f32, -2.0, 3.25].iter().flat_map(|x| x.to_le_bytes()).collect(), Vec::new()]
}

/// Six blocks, the last a short one; none; one whole; two.
fn large() -> Vec<Vec<u8>> {
    [5 * BLOCK_BYTES + 7, 0, BLOCK_BYTES, BLOCK_BYTES + 1].map(noise).into()
}

/// Damages a file in place, as it lies under a new map.
fn write_anew(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_written_is_read() {
    for sections in [small(), large(), vec![]] {
        let (_dir, path, bytes) = written(&sections);
        let file = open(&path, &sections).unwrap();
        assert_eq!(file.size_bytes(), bytes.len() as u64);
        for (section, content) in sections.iter().enumerate() {
            assert_eq!(file.count::<u8>(section).unwrap(), content.len());
            assert_eq!(file.bytes(section).unwrap(), content);
            assert_eq!(file.bytes(section).unwrap(), content, "again");
        }
        file.verify().unwrap();
    }
}

#[test]
fn numbers_are_whole() {
    let (_dir, path, _) = written(&small());
    let file = open(&path, &small()).unwrap();
    assert_eq!(file.numbers::<f32>(1).unwrap(), [1.5, -2.0, 3.25]);
    assert_eq!(file.numbers_at::<f32>(1, 1, 2).unwrap(), [-2.0, 3.25]);
    assert_eq!((file.count::<f32>(1).unwrap(), file.count::<u64>(2).unwrap()), (3, 0));
    assert!(file.numbers::<u64>(1).is_err() && file.count::<u64>(1).is_err(), "twelve bytes are no whole number of u64");
    for (start, len) in [(3, 1), (0, 4), (usize::MAX, 1), (1, usize::MAX), (usize::MAX / 4, 2)] {
        assert!(file.numbers_at::<f32>(1, start, len).is_err(), "{len} from {start}");
    }
    assert!(file.numbers_at::<f32>(1, 3, 0).unwrap().is_empty());
}

#[test]
fn slices_are_cut_out_of_a_section() {
    let sections = large();
    let (_dir, path, _) = written(&sections);
    let len = sections[0].len();
    let cuts = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, len - 1, len, len + 1, usize::MAX];
    for (start, end) in cuts.iter().flat_map(|&start| cuts.map(|end| (start, end))) {
        // Each on a file of which nothing was checked before, and again.
        let file = open(&path, &sections).unwrap();
        for _ in 0..2 {
            assert_eq!(file.slice(0, start..end).ok(), sections[0].get(start..end), "{start}..{end}");
        }
    }
}

#[test]
fn how_it_is_written_does_not_matter() {
    let sections = large();
    let (dir, _, at_once) = written(&sections);
    let path = dir.path().join("in parts.bin");
    let mut writer = SectionWriter::create(&path, KIND, VERSION).unwrap();
    for section in &sections {
        writer.begin().unwrap();
        section.chunks(BLOCK_BYTES / 3).for_each(|part| writer.write(part).unwrap());
    }
    writer.finish().unwrap();
    assert!(std::fs::read(&path).unwrap() == at_once);
}

#[test]
fn files_of_another_kind_or_version_are_refused() {
    let (_dir, path, mut bytes) = written(&small());
    for (kind, version, n, is_other_version) in [(*b"ELSE", 3, 3, false), (KIND, 4, 3, true), (KIND, 3, 2, false)] {
        let error = SectionFile::open(&path, kind, version, n).unwrap_err();
        assert!(error.to_string().contains("t.bin"), "{error}");
        assert_eq!(matches!(error, StorageError::OtherVersion { .. }), is_other_version, "{error}");
    }
    // Whatever else an older build wrote, it began so.
    bytes[7] = 0;
    write_anew(&path, &bytes);
    let error = open(&path, &small()).unwrap_err();
    assert!(matches!(error, StorageError::OtherVersion { .. }) && error.to_string().contains("ingest its documents again"), "{error}");
}

#[test]
fn every_flipped_cut_or_added_byte_is_detected() {
    let sections = small();
    let (_dir, path, bytes) = written(&sections);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        write_anew(&path, &damaged);
        let error = open(&path, &sections).and_then(|file| {
            sections.iter().enumerate().for_each(|(section, content)| right_or_refused(&file, section, content));
            file.verify()
        });
        assert!(matches!(error, Err(StorageError::Corrupt { .. })), "byte {at} flipped: {error:?}");
        write_anew(&path, &bytes[..at]);
        assert!(open(&path, &sections).is_err(), "cut at {at}");
    }
    write_anew(&path, &[bytes.as_slice(), b"\0"].concat());
    assert!(open(&path, &sections).is_err());
    write_anew(&path, &bytes);
    open(&path, &sections).unwrap().verify().unwrap();
}

/// A file with one byte flipped in the fourth block of its first section, and the range of that block.
fn damaged() -> (TempDir, PathBuf, Range<usize>) {
    let (dir, path, mut bytes) = written(&large());
    let bad = 3 * BLOCK_BYTES..4 * BLOCK_BYTES;
    bytes[FIRST_SECTION + bad.end - 1] ^= 1;
    write_anew(&path, &bytes);
    (dir, path, bad)
}

#[test]
fn damage_ends_at_the_block_that_has_it() {
    let sections = large();
    let (_dir, path, bad) = damaged();
    let file = open(&path, &sections).unwrap();
    let place = format!("section 0 does not match between bytes {} and {}", FIRST_SECTION + bad.start, FIRST_SECTION + bad.end);
    for _ in 0..2 {
        assert_eq!(file.slice(0, 0..bad.start).unwrap(), &sections[0][..bad.start]);
        assert_eq!(file.slice(0, bad.end..sections[0].len()).unwrap(), &sections[0][bad.end..]);
        for range in [bad.start..bad.start + 1, bad.start - 1..bad.start + 1, bad.end - 1..bad.end + 1, 0..sections[0].len()] {
            let error = file.slice(0, range.clone()).expect_err(&format!("{range:?}")).to_string();
            assert!(error.contains("t.bin") && error.contains(&place), "{error}");
        }
        assert!(file.bytes(0).is_err() && file.numbers::<u8>(0).is_err() && file.verify().is_err());
        assert_eq!(file.bytes(3).unwrap(), sections[3]);
    }
}

#[test]
fn threads_that_check_at_once_agree() {
    let sections = large();
    let (_dir, path, bad) = damaged();
    let file = open(&path, &sections).unwrap();
    let blocks: Vec<Range<usize>> = (0..6).map(|block| block * BLOCK_BYTES..((block + 1) * BLOCK_BYTES).min(sections[0].len())).collect();
    let look = |thread: usize| {
        for i in 0..60 {
            let block = &blocks[(i * 5 + thread) % 6];
            let found = file.slice(0, block.clone());
            assert_eq!(found.is_err(), *block == bad, "{block:?}");
            assert!(found.is_err() || found.unwrap() == &sections[0][block.clone()]);
            assert_eq!(file.bytes(2).unwrap(), sections[2]);
        }
    };
    std::thread::scope(|scope| (0..8).for_each(|thread| drop(scope.spawn(move || look(thread)))));
}

/// What damage leaves of a section: the content that was written, or an error; so for every part of it.
#[track_caller]
fn right_or_refused(file: &SectionFile, section: usize, content: &[u8]) {
    for part in [0..content.len() / 2, content.len() / 3..content.len(), 0..content.len()] {
        let found = file.slice(section, part.clone());
        assert!(found.is_err() || found.unwrap() == &content[part], "a part of section {section}");
    }
    let found = file.bytes(section);
    assert!(found.is_err() || found.unwrap() == content, "section {section}");
}

/// Something that happens to a file.
#[derive(Debug, Clone)]
enum Mishap {
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    /// A number of the header or its table takes another value.
    Number(Index, u64),
}

impl Mishap {
    fn any() -> impl Strategy<Value = Self> {
        let numbers = prop_oneof![0u64..200, any::<u64>(), Just(u64::MAX), (0u64..20).prop_map(|n| n * 64)];
        prop_oneof![
            (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Self::Insert(at, byte)),
            any::<Index>().prop_map(Self::Remove),
            any::<Index>().prop_map(Self::Cut),
            (any::<Index>(), numbers).prop_map(|(at, number)| Self::Number(at, number)),
        ]
    }

    fn happen(&self, bytes: &mut Vec<u8>) {
        if bytes.len() <= HEADER_CRC {
            return;
        }
        let n = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at.index(n)] ^= 1 << bit,
            Self::Insert(at, byte) => bytes.insert(at.index(n), *byte),
            Self::Remove(at) => drop(bytes.remove(at.index(n))),
            Self::Cut(at) => bytes.truncate(at.index(n)),
            Self::Number(at, number) => bytes[at.index(HEADER_CRC / 8) * 8..][..8].copy_from_slice(&number.to_le_bytes()),
        }
    }
}

/// Makes the header agree with itself and with the length of the file, so that what it says is believed for longer.
fn mend(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_CRC + 4 {
        let len = bytes.len() as u64;
        bytes[16..24].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_CRC]);
        bytes[HEADER_CRC..HEADER_CRC + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_mishap_makes_a_wrong_answer(
        lens in prop::collection::vec(prop_oneof![4 => 0usize..200, 1 => Just(BLOCK_BYTES + 100)], 0..4),
        mishaps in prop::collection::vec(Mishap::any(), 1..4),
        is_mended in any::<bool>(),
    ) {
        let sections: Vec<Vec<u8>> = lens.iter().map(|&len| noise(len)).collect();
        let (_dir, path, mut bytes) = written(&sections);
        mishaps.iter().for_each(|mishap| mishap.happen(&mut bytes));
        if is_mended {
            mend(&mut bytes);
        }
        write_anew(&path, &bytes);
        let _ = container_checksum(&path);
        if let Ok(file) = open(&path, &sections) {
            let is_sound = file.verify().is_ok();
            for (section, content) in sections.iter().enumerate() {
                right_or_refused(&file, section, content);
                prop_assert!(!is_sound || file.bytes(section).is_ok());
            }
        }
    }
}
