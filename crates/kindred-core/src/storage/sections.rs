//! The container of every immutable file: a checked header, a table, and sections of plain bytes or numbers.
//!
//! *On disk*, little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `KINDRED2`; the digit is the version of this table |
//! | 8 | 4 | kind of file, four ASCII letters |
//! | 12 | 4 | format version of that kind |
//! | 16 | 8 | length of the whole file |
//! | 24 | 4 | number of sections, at most 16 |
//! | 28 | 4 | crc32 of all block checksums |
//! | 32 | 16 × 16 | the table: offset (8) and length (8) of each section, zeros behind the last |
//! | 288 | 4 | crc32 of bytes 0..288 |
//! | 320 | | the sections, each at a multiple of 64 bytes, zeros between |
//! | | 4 each | the block checksums, from the next multiple of 64 to the end of the file |
//!
//! A block is 64 KiB of a section, counted from the section's start, or what is left at its end; the checksums (crc32) are those
//! of the first section's blocks, then of the second's, and so on.
//!
//! A reader checks header, table and block checksums when it opens the file, which costs the same for a large file as for a small
//! one but for 4 bytes in 65,536. A block is checked when it is first used. Nothing is handed out unchecked, so whoever uses a
//! section may trust its length and contents to be what was written; that they make sense is for the user to check.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use bytemuck::AnyBitPattern;

use super::{MappedFile, StorageError, is_sound};

const MARK: [u8; 8] = *b"KINDRED2";
/// Of files whose sections had one checksum each.
const MARK_BEFORE: [u8; 8] = *b"KINDRED\0";
const TABLE: usize = 32;
const ENTRY_BYTES: usize = 16;
pub(super) const MAX_SECTIONS: usize = 16;
const TABLE_END: usize = TABLE + MAX_SECTIONS * ENTRY_BYTES;
const HEADER_BYTES: usize = TABLE_END + 4;
/// Sections begin at multiples of a cache line, which suits every number type and kernel.
pub(super) const ALIGNMENT: usize = 64;
pub(super) const FIRST_SECTION: usize = HEADER_BYTES.next_multiple_of(ALIGNMENT);
/// What is checked at once: some ten microseconds' work, and little beside what the disk reads ahead.
pub(super) const BLOCK_BYTES: usize = 1 << 16;

// The numbers in sections are used in place, so they must be in the machine's own order.
#[cfg(target_endian = "big")]
compile_error!("Kindred's files are little-endian and are used in place: big-endian machines are not supported");

/// What stands at the beginning of a file.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub kind: [u8; 4],
    pub version: u32,
    pub file_len: u64,
    /// Of all block checksums.
    pub checksums_crc32: u32,
    /// Offset and length of each section.
    pub table: Vec<(u64, u64)>,
}

impl Header {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MARK);
        bytes.extend(self.kind);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.file_len.to_le_bytes());
        bytes.extend((self.table.len() as u32).to_le_bytes());
        bytes.extend(self.checksums_crc32.to_le_bytes());
        for (offset, len) in &self.table {
            bytes.extend(offset.to_le_bytes());
            bytes.extend(len.to_le_bytes());
        }
        bytes.resize(TABLE_END, 0);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the header of a whole file, which must be one that a writer has finished.
    fn decode(file: &[u8], path: &Path) -> Result<Self, StorageError> {
        let refuse = |reason: String| Err(StorageError::corrupt(path, reason));
        if file.starts_with(&MARK_BEFORE) {
            return Err(StorageError::other_version(path, "its sections have one checksum each, this build reads one for every 64 KiB"));
        }
        let Some(header) = file.first_chunk::<HEADER_BYTES>() else {
            return refuse(format!("it has {} bytes, too few for a header", file.len()));
        };
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        if header[..8] != MARK {
            return refuse("it does not begin with Kindred's mark".into());
        }
        if u64_at(16) != file.len() as u64 {
            return refuse(format!("it was written with {} bytes and has {}", u64_at(16), file.len()));
        }
        if !is_sound(&header[..TABLE_END], u32_at(TABLE_END)) {
            return refuse("the checksum of its header does not match".into());
        }
        let n_sections = u32_at(24) as usize;
        if n_sections > MAX_SECTIONS {
            return refuse(format!("it has {n_sections} sections, more than {MAX_SECTIONS}"));
        }
        let entries = (0..n_sections).map(|section| TABLE + section * ENTRY_BYTES);
        Ok(Self {
            kind: [header[8], header[9], header[10], header[11]],
            version: u32_at(12),
            file_len: u64_at(16),
            checksums_crc32: u32_at(28),
            table: entries.map(|at| (u64_at(at), u64_at(at + 8))).collect(),
        })
    }

    fn expect(&self, path: &Path, kind: [u8; 4], version: u32, n_sections: usize) -> Result<(), StorageError> {
        if self.kind != kind {
            let (found, wanted) = (self.kind.escape_ascii(), kind.escape_ascii());
            return Err(StorageError::corrupt(path, format!("it is a \"{found}\" file, not \"{wanted}\"")));
        }
        if self.version != version {
            let reason = format!("its format version is {}, this build reads {version}", self.version);
            return Err(StorageError::other_version(path, reason));
        }
        if self.table.len() != n_sections {
            return Err(StorageError::corrupt(path, format!("it has {} sections instead of {n_sections}", self.table.len())));
        }
        Ok(())
    }

    /// Finds the sections and the block checksums in a whole file, and checks the latter and all that lies between.
    fn locate(&self, file: &[u8]) -> Result<([Section; MAX_SECTIONS], Range<usize>), String> {
        let mut sections = [Section::default(); MAX_SECTIONS];
        let (mut end_of_last, mut n_blocks) = (HEADER_BYTES, 0);
        for (section, &(offset, len)) in self.table.iter().enumerate() {
            let end = offset.checked_add(len).filter(|&end| end <= file.len() as u64 && offset.is_multiple_of(ALIGNMENT as u64));
            let Some(end) = end else { return Err(format!("section {section} does not lie inside it")) };
            let (start, end) = (offset as usize, end as usize);
            check_zeros(file, end_of_last..start)?;
            sections[section] = Section { start, len: end - start, first_block: n_blocks };
            n_blocks += sections[section].n_blocks();
            end_of_last = end;
        }
        let checksums = end_of_last.next_multiple_of(ALIGNMENT)..file.len();
        check_zeros(file, end_of_last..checksums.start)?;
        if checksums.len() != n_blocks * 4 || !is_sound(&file[checksums.clone()], self.checksums_crc32) {
            return Err("the checksums of its blocks are not what was written".into());
        }
        Ok((sections, checksums))
    }
}

fn check_zeros(file: &[u8], gap: Range<usize>) -> Result<(), String> {
    match file.get(gap.clone()) {
        Some(bytes) if bytes.iter().all(|&b| b == 0) => Ok(()),
        _ => Err(format!("the bytes from {} to {} are not zero", gap.start, gap.end)),
    }
}

/// Where a section lies, and the number of its first block among those of the whole file.
#[derive(Debug, Clone, Copy, Default)]
struct Section {
    start: usize,
    len: usize,
    first_block: usize,
}

impl Section {
    fn n_blocks(self) -> usize {
        self.len.div_ceil(BLOCK_BYTES)
    }
}

/// A mapped container, checked part by part as the parts are used. Any number of threads may use it at once.
#[derive(Debug)]
pub struct SectionFile {
    path: PathBuf,
    map: MappedFile,
    sections: [Section; MAX_SECTIONS],
    checksums: Range<usize>,
    /// A bit for each block that was found to be sound, and one for each section whose blocks all were. The bytes never change,
    /// so a bit stands for nothing that another thread has written, and two threads that check the same block do no harm.
    sound_blocks: Box<[AtomicU64]>,
    sound_sections: AtomicU32,
}

impl SectionFile {
    /// Maps a container and checks everything but the contents of its sections.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] names the file and what is wrong with it; [`StorageError::OtherVersion`]; [`StorageError::Io`].
    pub fn open(path: &Path, kind: [u8; 4], version: u32, n_sections: usize) -> Result<Self, StorageError> {
        let map = MappedFile::open(path)?;
        let header = Header::decode(map.bytes(), path)?;
        header.expect(path, kind, version, n_sections)?;
        let (sections, checksums) = header.locate(map.bytes()).map_err(|reason| StorageError::corrupt(path, reason))?;
        let n_words = (checksums.len() / 4).div_ceil(64);
        let sound_blocks = (0..n_words).map(|_| AtomicU64::new(0)).collect();
        let sound_sections = AtomicU32::new(0);
        Ok(Self { path: path.to_owned(), map, sections, checksums, sound_blocks, sound_sections })
    }

    /// The bytes of a section. All of it is checked on first use.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] names the file and the place of the damage, each time; so for those below.
    #[inline]
    pub fn bytes(&self, section: usize) -> Result<&[u8], StorageError> {
        let Section { start, len, .. } = self.sections[section];
        if self.sound_sections.load(Relaxed) & (1 << section) == 0 {
            self.check(section, &(0..len))?;
            self.sound_sections.fetch_or(1 << section, Relaxed);
        }
        Ok(&self.map.bytes()[start..start + len])
    }

    /// A section as numbers, in place. All of it is checked on first use.
    #[inline]
    pub fn numbers<T: AnyBitPattern>(&self, section: usize) -> Result<&[T], StorageError> {
        self.cast(section, self.bytes(section)?)
    }

    /// How many numbers a section has; it is not read for that.
    #[inline]
    pub fn count<T>(&self, section: usize) -> Result<usize, StorageError> {
        let len = self.sections[section].len;
        if len.is_multiple_of(size_of::<T>()) {
            Ok(len / size_of::<T>())
        } else {
            Err(self.corrupt(format!("the {len} bytes of section {section} are no whole number of {}", std::any::type_name::<T>())))
        }
    }

    /// Some bytes of a section; the blocks that they lie in are checked on first use. A range that is not inside the section is
    /// [`StorageError::Corrupt`] as well: files say where in them to look.
    // The innermost loops come through here: two bits are looked at for what lies in one block or two.
    #[inline]
    pub fn slice(&self, section: usize, range: Range<usize>) -> Result<&[u8], StorageError> {
        let Section { start, len, first_block } = self.sections[section];
        let first = range.start / BLOCK_BYTES;
        let last = range.end.saturating_sub(1) / BLOCK_BYTES;
        let is_sound = self.is_sound(first_block + first) && (last == first || last == first + 1 && self.is_sound(first_block + last));
        if !is_sound || range.start > range.end || range.end > len {
            self.check(section, &range)?;
        }
        Ok(&self.map.bytes()[start + range.start..start + range.end])
    }

    /// `len` numbers of a section from the one at `start` on, in place, checked as [`Self::slice`] does.
    #[inline]
    pub fn numbers_at<T: AnyBitPattern>(&self, section: usize, start: usize, len: usize) -> Result<&[T], StorageError> {
        // What is too large for a number of bytes is not inside the section either.
        let start = start.saturating_mul(size_of::<T>());
        let end = start.saturating_add(len.saturating_mul(size_of::<T>()));
        self.cast(section, self.slice(section, start..end)?)
    }

    /// Where a section begins in the file.
    #[inline]
    pub fn start(&self, section: usize) -> usize {
        self.sections[section].start
    }

    /// Where a byte of a section lies, to ask for it before it is needed; what lies there is for the functions above to hand out.
    #[inline]
    pub fn address(&self, section: usize, at: usize) -> *const u8 {
        self.map.bytes().as_ptr().wrapping_add(self.sections[section].start.wrapping_add(at))
    }

    /// Checks all that was not checked yet.
    pub fn verify(&self) -> Result<(), StorageError> {
        (0..MAX_SECTIONS).try_for_each(|section| self.bytes(section).map(drop))
    }

    /// An error about this file.
    pub fn corrupt(&self, reason: impl Into<String>) -> StorageError {
        StorageError::corrupt(&self.path, reason)
    }

    /// Length of the file in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.map.bytes().len() as u64
    }

    #[inline]
    fn is_sound(&self, block: usize) -> bool {
        self.sound_blocks.get(block / 64).is_some_and(|word| word.load(Relaxed) >> (block % 64) & 1 == 1)
    }

    /// Checks the blocks of a range of a section that were not checked yet.
    #[cold]
    fn check(&self, section: usize, range: &Range<usize>) -> Result<(), StorageError> {
        let all = self.sections[section];
        if range.start > range.end || range.end > all.len {
            return Err(self.corrupt(format!("bytes {range:?} are wanted of section {section}, which has {}", all.len)));
        }
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            if !self.is_sound(all.first_block + block) {
                self.check_block(section, block)?;
            }
        }
        Ok(())
    }

    fn check_block(&self, section: usize, block: usize) -> Result<(), StorageError> {
        let Section { start, len, first_block } = self.sections[section];
        let start_of_block = start + block * BLOCK_BYTES;
        let place = start_of_block..(start + len).min(start_of_block + BLOCK_BYTES);
        let number = first_block + block;
        let written = &self.map.bytes()[self.checksums.clone()][number * 4..][..4];
        let written = u32::from_le_bytes(written.try_into().expect("four bytes"));
        if !is_sound(&self.map.bytes()[place.clone()], written) {
            let Range { start, end } = place;
            return Err(
                self.corrupt(format!("the checksum of section {section} does not match between bytes {start} and {end} of the file"))
            );
        }
        self.sound_blocks[number / 64].fetch_or(1 << (number % 64), Relaxed);
        Ok(())
    }

    #[inline]
    fn cast<'a, T: AnyBitPattern>(&self, section: usize, bytes: &'a [u8]) -> Result<&'a [T], StorageError> {
        bytemuck::try_cast_slice(bytes).map_err(|e| self.not_numbers(section, std::any::type_name::<T>(), e))
    }

    #[cold]
    fn not_numbers(&self, section: usize, of: &str, e: bytemuck::PodCastError) -> StorageError {
        self.corrupt(format!("section {section} does not hold {of}: {e}"))
    }
}

/// Length in bytes of a container, and the checksum in its header, which covers those of all blocks.
///
/// # Errors
/// [`StorageError::Corrupt`] when the file is too short for a header; [`StorageError::Io`].
pub fn container_checksum(path: &Path) -> Result<(u64, u32), StorageError> {
    let read = || -> std::io::Result<(u64, [u8; HEADER_BYTES])> {
        let mut file = File::open(path)?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)?;
        Ok((file.metadata()?.len(), header))
    };
    match read() {
        Ok((len, header)) => Ok((len, u32::from_le_bytes(header[TABLE_END..].try_into().expect("four bytes")))),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(StorageError::corrupt(path, "it is too short for a header")),
        Err(e) => Err(StorageError::io("read", path)(e)),
    }
}
