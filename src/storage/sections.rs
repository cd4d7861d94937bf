//! The container of every immutable file: a checked header, a table, and sections of plain bytes or numbers.
//!
//! *On disk*, little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `KINDRED\0` |
//! | 8 | 4 | kind of file, four ASCII letters |
//! | 12 | 4 | format version of that kind |
//! | 16 | 8 | length of the whole file |
//! | 24 | 4 | number of sections, at most 16 |
//! | 28 | 4 | crc32 of bytes 0..28 and of the table |
//! | 32 | 24 each | the table: offset (8), length (8), crc32 (4), zero (4) |
//! | | | the sections, each at a multiple of 64 bytes, zeros between |
//!
//! A reader checks all of it before it hands out a byte, so whoever uses a section may trust its length and contents to be
//! what was written; that they make sense is for the user to check.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytemuck::AnyBitPattern;

use super::{MappedFile, StorageError};

const MAGIC: [u8; 8] = *b"KINDRED\0";
const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 24;
const MAX_SECTIONS: usize = 16;
/// Sections begin at multiples of a cache line, which suits every number type and kernel.
const ALIGNMENT: usize = 64;

// The numbers in sections are used in place, so they must be in the machine's own order.
#[cfg(target_endian = "big")]
compile_error!("Kindred's files are little-endian and are used in place: big-endian machines are not supported");

/// Writes a container: sections one after the other, then the header.
#[derive(Debug)]
pub struct SectionWriter {
    path: PathBuf,
    file: BufWriter<File>,
    kind: [u8; 4],
    version: u32,
    position: u64,
    table: Vec<Entry>,
    crc: crc32fast::Hasher,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: u64,
    len: u64,
    crc32: u32,
}

impl SectionWriter {
    /// Creates the file; there must be none of that name.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn create(path: &Path, kind: [u8; 4], version: u32) -> Result<Self, StorageError> {
        let file = File::create_new(path).map_err(StorageError::io("create", path))?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
            kind,
            version,
            position: 0,
            table: Vec::new(),
            crc: crc32fast::Hasher::new(),
        };
        writer.put(&[0; HEADER_BYTES + MAX_SECTIONS * ENTRY_BYTES])?;
        Ok(writer)
    }

    /// Begins the next section; what is written from now on belongs to it.
    pub fn begin(&mut self) -> Result<(), StorageError> {
        assert!(self.table.len() < MAX_SECTIONS, "a container has at most {MAX_SECTIONS} sections");
        let padding = self.position.next_multiple_of(ALIGNMENT as u64) - self.position;
        self.put(&[0; ALIGNMENT][..padding as usize])?;
        self.table.push(Entry { offset: self.position, len: 0, crc32: 0 });
        self.crc = crc32fast::Hasher::new();
        Ok(())
    }

    /// Adds bytes to the current section.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.put(bytes)?;
        self.crc.update(bytes);
        let current = self.table.last_mut().expect("begin comes before write");
        current.len += bytes.len() as u64;
        current.crc32 = self.crc.clone().finalize();
        Ok(())
    }

    /// A whole section at once.
    pub fn section(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.begin()?;
        self.write(bytes)
    }

    /// Writes the header and makes the file durable. Returns its length in bytes.
    pub fn finish(mut self) -> Result<u64, StorageError> {
        let header = encode_header(self.kind, self.version, self.position, &self.table);
        let mut write = || -> std::io::Result<()> {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&header)?;
            self.file.flush()?;
            self.file.get_ref().sync_all()
        };
        write().map_err(StorageError::io("write", &self.path))?;
        Ok(self.position)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_all(bytes).map_err(StorageError::io("write", &self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

fn encode_header(kind: [u8; 4], version: u32, file_len: u64, table: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + table.len() * ENTRY_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(kind);
    bytes.extend(version.to_le_bytes());
    bytes.extend(file_len.to_le_bytes());
    bytes.extend((table.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    for entry in table {
        bytes.extend(entry.offset.to_le_bytes());
        bytes.extend(entry.len.to_le_bytes());
        bytes.extend(entry.crc32.to_le_bytes());
        bytes.extend([0; 4]);
    }
    let crc = header_crc(&bytes);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Of everything but the field that holds it.
fn header_crc(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..28]);
    crc.update(&bytes[HEADER_BYTES..]);
    crc.finalize()
}

/// A mapped container that has passed all checks.
#[derive(Debug)]
pub struct SectionFile {
    path: PathBuf,
    map: MappedFile,
    sections: Vec<Range<usize>>,
}

impl SectionFile {
    /// Maps a container and checks header, lengths and every section's checksum.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] names the file and what is wrong with it; [`StorageError::Io`].
    pub fn open(path: &Path, kind: [u8; 4], version: u32, n_sections: usize) -> Result<Self, StorageError> {
        let map = MappedFile::open(path)?;
        let sections = check(map.bytes(), kind, version, n_sections).map_err(|reason| StorageError::corrupt(path, reason))?;
        Ok(Self { path: path.to_owned(), map, sections })
    }

    /// The bytes of a section.
    pub fn bytes(&self, section: usize) -> &[u8] {
        &self.map.bytes()[self.sections[section].clone()]
    }

    /// A section as numbers, in place.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when the section's length is not a whole number of them.
    pub fn numbers<T: AnyBitPattern>(&self, section: usize) -> Result<&[T], StorageError> {
        bytemuck::try_cast_slice(self.bytes(section))
            .map_err(|e| self.corrupt(format!("section {section} does not hold {}: {e}", std::any::type_name::<T>())))
    }

    /// An error about this file.
    pub fn corrupt(&self, reason: impl Into<String>) -> StorageError {
        StorageError::corrupt(&self.path, reason)
    }

    /// Length of the file in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.map.bytes().len() as u64
    }
}

/// Length in bytes of a container, and the checksum in its header, which covers those of all sections.
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
        Ok((len, header)) => Ok((len, u32::from_le_bytes(header[28..].try_into().expect("four bytes")))),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(StorageError::corrupt(path, "it is too short for a header")),
        Err(e) => Err(StorageError::io("read", path)(e)),
    }
}

fn check(bytes: &[u8], kind: [u8; 4], version: u32, n_sections: usize) -> Result<Vec<Range<usize>>, String> {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    if bytes.len() < HEADER_BYTES {
        return Err(format!("it has {} bytes, too few for a header", bytes.len()));
    }
    if bytes[..8] != MAGIC {
        return Err("it does not begin with Kindred's mark".into());
    }
    if bytes[8..12] != kind {
        return Err(format!("it is a {:?} file, not {:?}", bytes[8..12].escape_ascii().to_string(), kind.escape_ascii().to_string()));
    }
    if u32_at(12) != version {
        return Err(format!("its format version is {}, this build reads {version}", u32_at(12)));
    }
    if u64_at(16) != bytes.len() as u64 {
        return Err(format!("it was written with {} bytes and has {}", u64_at(16), bytes.len()));
    }
    if u32_at(24) as usize != n_sections {
        return Err(format!("it has {} sections instead of {n_sections}", u32_at(24)));
    }
    let table_end = HEADER_BYTES + n_sections * ENTRY_BYTES;
    if bytes.len() < table_end || header_crc(&bytes[..table_end]) != u32_at(28) {
        return Err("the checksum of its header does not match".into());
    }
    let mut sections = Vec::with_capacity(n_sections);
    let mut end_of_last = HEADER_BYTES + MAX_SECTIONS * ENTRY_BYTES;
    for section in 0..n_sections {
        let at = HEADER_BYTES + section * ENTRY_BYTES;
        let (offset, len) = (u64_at(at), u64_at(at + 8));
        let end = offset.checked_add(len).filter(|&end| end <= bytes.len() as u64 && offset.is_multiple_of(ALIGNMENT as u64));
        let Some(end) = end else { return Err(format!("section {section} does not lie inside it")) };
        let (offset, end) = (offset as usize, end as usize);
        if bytes.get(end_of_last..offset).is_none_or(|gap| gap.iter().any(|&b| b != 0)) {
            return Err(format!("the bytes before section {section} are not zero"));
        }
        if crc32fast::hash(&bytes[offset..end]) != u32_at(at + 16) {
            return Err(format!("the checksum of section {section} does not match"));
        }
        sections.push(offset..end);
        end_of_last = end;
    }
    // The unused part of the table lies before the first section and after the last entry.
    if bytes[table_end..HEADER_BYTES + MAX_SECTIONS * ENTRY_BYTES].iter().any(|&b| b != 0) {
        return Err("the unused part of its table is not zero".into());
    }
    if end_of_last != bytes.len() {
        return Err("there are bytes behind its last section".into());
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(path: &Path) -> Vec<u8> {
        let mut w = SectionWriter::create(path, *b"TEST", 3).unwrap();
        w.section(b"hello").unwrap();
        w.begin().unwrap();
        for x in [1.5f32, -2.0, 3.25] {
            w.write(&x.to_le_bytes()).unwrap();
        }
        w.section(b"").unwrap();
        let len = w.finish().unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(len, bytes.len() as u64);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.bin");
        sample(&path);
        let f = SectionFile::open(&path, *b"TEST", 3, 3).unwrap();
        assert_eq!(f.bytes(0), b"hello");
        assert_eq!(f.numbers::<f32>(1).unwrap(), [1.5, -2.0, 3.25]);
        assert!(f.numbers::<u64>(1).is_err(), "twelve bytes are no whole number of u64");
        assert_eq!(f.bytes(2), b"");
        for (kind, version, n) in [(*b"ELSE", 3, 3), (*b"TEST", 4, 3), (*b"TEST", 3, 2)] {
            let error = SectionFile::open(&path, kind, version, n).unwrap_err();
            assert!(error.to_string().contains("t.bin"), "{error}");
        }
    }

    #[test]
    fn every_flipped_cut_or_added_byte_is_detected() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = sample(&dir.path().join("t.bin"));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(check(&damaged, *b"TEST", 3, 3).is_err(), "byte {at} flipped");
            assert!(check(&bytes[..at], *b"TEST", 3, 3).is_err(), "cut at {at}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(check(&longer, *b"TEST", 3, 3).is_err());
        assert!(check(&bytes, *b"TEST", 3, 3).is_ok());
    }
}
