//! Writes containers; `sections.rs` holds the byte table and reads them.

use std::path::Path;

use super::sections::{ALIGNMENT, BLOCK_BYTES, FIRST_SECTION, Header, MAX_SECTIONS};
use super::{OutFile, StorageError};

/// Bytes that go to the file at once, at multiples of as many. It is the size of a large page: the operating system then keeps, and
/// maps, what was written in large pages.
const BUFFER_BYTES: usize = 2 << 20;

/// Bytes after which the file is synced: what it has not yet given to the disk is what a sync of a log may have to wait for.
const SYNC_BYTES: u64 = 8 << 20;

/// Writes a container: sections one after the other, the checksums of their blocks, and then the header.
#[derive(Debug)]
pub struct SectionWriter {
    file: OutFile,
    /// What comes next in the file, less than a buffer.
    buffer: Vec<u8>,
    position: u64,
    header: Header,
    /// Of the blocks that are complete.
    checksums: Vec<u8>,
    /// The block at hand, and how many bytes it has.
    block: crc32fast::Hasher,
    block_len: usize,
}

impl SectionWriter {
    /// Creates the file; there must be none of that name.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn create(path: &Path, kind: [u8; 4], version: u32) -> Result<Self, StorageError> {
        let mut writer = Self {
            file: OutFile::create_new(path)?,
            buffer: Vec::new(),
            position: 0,
            header: Header { kind, version, ..Header::default() },
            checksums: Vec::new(),
            block: crc32fast::Hasher::new(),
            block_len: 0,
        };
        writer.put(&[0; FIRST_SECTION])?;
        Ok(writer)
    }

    /// Begins the next section; what is written from now on belongs to it.
    pub fn begin(&mut self) -> Result<(), StorageError> {
        assert!(self.header.table.len() < MAX_SECTIONS, "a container has at most {MAX_SECTIONS} sections");
        self.end_section()?;
        self.header.table.push((self.position, 0));
        Ok(())
    }

    /// Adds bytes to the current section.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let (_, len) = self.header.table.last_mut().expect("begin comes before write");
        *len += bytes.len() as u64;
        self.put(bytes)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK_BYTES - self.block_len));
            self.block.update(now);
            self.block_len += now.len();
            if self.block_len == BLOCK_BYTES {
                self.end_block();
            }
            rest = later;
        }
        Ok(())
    }

    /// A whole section at once.
    pub fn section(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.begin()?;
        self.write(bytes)
    }

    /// Writes checksums and header and makes the file durable. Returns its length in bytes.
    pub fn finish(mut self) -> Result<u64, StorageError> {
        self.end_section()?;
        let checksums = std::mem::take(&mut self.checksums);
        self.put(&checksums)?;
        self.header.file_len = self.position;
        self.header.checksums_crc32 = crc32fast::hash(&checksums);
        let header = self.header.encode();
        self.file.write(&self.buffer)?;
        self.file.write_at_start(&header)?;
        self.file.sync()?;
        Ok(self.position)
    }

    /// Blocks begin where their section does; the next section begins at a multiple of the alignment.
    fn end_section(&mut self) -> Result<(), StorageError> {
        if self.block_len > 0 {
            self.end_block();
        }
        let padding = self.position.next_multiple_of(ALIGNMENT as u64) - self.position;
        self.put(&[0; ALIGNMENT][..padding as usize])
    }

    fn end_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        self.checksums.extend(block.finalize().to_le_bytes());
        self.block_len = 0;
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.position += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BUFFER_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            if self.buffer.len() == BUFFER_BYTES {
                self.file.write(&self.buffer)?;
                self.buffer.clear();
                if self.file.position().is_multiple_of(SYNC_BYTES) {
                    self.file.sync()?;
                }
            }
            rest = later;
        }
        Ok(())
    }
}
