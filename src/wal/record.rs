//! The bytes of an entry of the log.

use std::hash::{BuildHasher, RandomState};

use bincode::{Decode, Encode};

use super::WalError;
use kindred_core::domain::{Attributes, DocumentId, Epoch, FeedPosition, SeqNo, TextHash};
use kindred_core::storage::is_sound;

/// Largest payload of a frame, in bytes.
pub(super) const MAX_ENTRY_BYTES: usize = 1 << 30;
/// Length of a frame's header.
pub(super) const FRAME_HEADER_BYTES: usize = 20;
/// The granularity in which a disk loses what was not synced.
const SECTOR: usize = 512;
/// Frames begin at multiples of this many bytes, so that a frame has at least this many bytes in each sector that it touches: fewer
/// zeros could be a part of what was written.
const ALIGNMENT: usize = 8;

/// Random bytes of a log file, none of them zero, that no client knows: see [`super`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 8]);

impl Salt {
    /// Returns a new salt. Its randomness is that of the standard library's hash maps, which the operating system seeds.
    pub fn random() -> Self {
        let number = RandomState::new().hash_one("log file");
        Self(number.to_le_bytes().map(|byte| byte.max(1)))
    }

    /// Reads the salt of a file.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// Masks a payload, or removes the mask.
    fn mask(self, payload: &mut [u8]) {
        for chunk in payload.chunks_mut(self.0.len()) {
            for (byte, salt) in chunk.iter_mut().zip(self.0) {
                *byte ^= salt;
            }
        }
    }

    /// Returns the checksum of a frame's header.
    fn checksum(self, header: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.0);
        hasher.update(header);
        hasher.finalize()
    }
}

type Codec =
    bincode::config::Configuration<bincode::config::LittleEndian, bincode::config::Varint, bincode::config::Limit<MAX_ENTRY_BYTES>>;
const CODEC: Codec = bincode::config::standard().with_limit::<MAX_ENTRY_BYTES>();

/// What one frame holds.
#[derive(Debug, Clone, PartialEq, Decode)]
pub enum Entry {
    Changes(Batch),
    Renewed(Renewed),
}

/// An entry to be encoded. It has the variants of [`Entry`], in the same order.
#[derive(Debug, Clone, Copy, Encode)]
pub enum EntryRef<'a> {
    Changes(&'a Batch),
    Renewed(&'a Renewed),
}

impl<'a> From<&'a Entry> for EntryRef<'a> {
    fn from(entry: &'a Entry) -> Self {
        match entry {
            Entry::Changes(batch) => Self::Changes(batch),
            Entry::Renewed(renewed) => Self::Renewed(renewed),
        }
    }
}

impl<'a> From<&'a Batch> for EntryRef<'a> {
    fn from(batch: &'a Batch) -> Self {
        Self::Changes(batch)
    }
}

impl<'a> From<&'a Renewed> for EntryRef<'a> {
    fn from(renewed: &'a Renewed) -> Self {
        Self::Renewed(renewed)
    }
}

/// Changes that become durable together. The first has `first_seqno`, the next the one after.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Batch {
    pub first_seqno: SeqNo,
    pub operations: Vec<Operation>,
    /// Where the feeds stand that the changes came from.
    pub positions: Vec<FeedPosition>,
}

/// One change with all that a replay needs: no model, no schema.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Operation {
    Upsert { id: DocumentId, document: StoredDocument },
    Delete { id: DocumentId },
}

/// A document as it is logged.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct StoredDocument {
    /// The user's fields without the id, as JSON text.
    pub fields: String,
    pub attributes: Attributes,
    /// `[chunks × dims]`, unit length.
    pub embedding: Vec<f32>,
    /// The source of the embedding.
    pub text_hash: TextHash,
}

/// Documents of this log as they are in another epoch, logged before a generation of that epoch is activated. The entry takes one
/// seqno, so that no two files of a log begin with the same.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Renewed {
    pub seqno: SeqNo,
    pub epoch: Epoch,
    pub documents: Vec<RenewedDocument>,
}

/// A document in another epoch.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct RenewedDocument {
    pub id: DocumentId,
    /// The change that wrote it. The document is not this one any more once it was changed again.
    pub changed: SeqNo,
    pub document: StoredDocument,
}

impl Entry {
    pub fn first_seqno(&self) -> SeqNo {
        match self {
            Self::Changes(batch) => batch.first_seqno,
            Self::Renewed(renewed) => renewed.seqno,
        }
    }

    /// Returns the seqno after the last change.
    pub fn next_seqno(&self) -> SeqNo {
        EntryRef::from(self).next_seqno()
    }
}

impl EntryRef<'_> {
    /// Returns the seqno after the last change.
    pub fn next_seqno(self) -> SeqNo {
        match self {
            Self::Changes(batch) => batch.next_seqno(),
            Self::Renewed(renewed) => renewed.seqno.next(),
        }
    }
}

impl Batch {
    /// Returns the seqno after the last change. A batch of nothing but positions takes one too, because every entry has a place in the log.
    pub fn next_seqno(&self) -> SeqNo {
        SeqNo(self.first_seqno.0 + self.operations.len().max(1) as u64)
    }
}

/// Encodes an entry as a frame: header and payload. `synced` is how many bytes of its file are known to be durable.
pub(super) fn encode<'a>(entry: impl Into<EntryRef<'a>>, synced: u64, salt: Salt) -> Result<Vec<u8>, WalError> {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    let too_large = |actual| WalError::TooLarge { actual, limit: MAX_ENTRY_BYTES };
    bincode::encode_into_std_write(entry.into(), &mut frame, CODEC).map_err(|_| too_large(MAX_ENTRY_BYTES))?;
    let payload_bytes = frame.len() - FRAME_HEADER_BYTES;
    if payload_bytes > MAX_ENTRY_BYTES {
        return Err(too_large(payload_bytes));
    }
    frame.resize(frame.len().next_multiple_of(ALIGNMENT), 0);
    let (header, payload) = frame.split_at_mut(FRAME_HEADER_BYTES);
    header[..4].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    salt.mask(payload);
    header[4..8].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    header[8..16].copy_from_slice(&synced.to_le_bytes());
    let checksum = salt.checksum(&header[..16]);
    header[16..].copy_from_slice(&checksum.to_le_bytes());
    Ok(frame)
}

/// What a place of a log file holds.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    Whole { entry: Entry, frame_bytes: usize },
    Torn,
    Damaged(String),
}

/// A frame's header whose checksum matches.
struct FrameHeader {
    len: usize,
    checksum: u32,
    synced: u64,
}

impl FrameHeader {
    fn read(bytes: &[u8], salt: Salt) -> Option<Self> {
        let header = bytes.get(..FRAME_HEADER_BYTES)?;
        let (checked, checksum) = header.split_at(FRAME_HEADER_BYTES - 4);
        let u32_of = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        // Fuzzers cannot find checksums, so every checksum is right for them.
        if !cfg!(fuzzing) && salt.checksum(checked) != u32_of(checksum) {
            return None;
        }
        let synced = u64::from_le_bytes(header[8..16].try_into().expect("eight bytes"));
        Some(Self { len: u32_of(&header[..4]) as usize, checksum: u32_of(&header[4..8]), synced })
    }
}

/// Reads the frame at offset `at` of a log file.
pub(super) fn decode(file: &[u8], at: usize, salt: Salt) -> Frame {
    let bytes = &file[at..];
    let Some(header) = FrameHeader::read(bytes, salt) else {
        return torn_or_damaged(file, at, file.len(), salt, "the checksum of the frame's header does not match");
    };
    let frame_bytes = (FRAME_HEADER_BYTES + header.len).next_multiple_of(ALIGNMENT);
    let Some(payload) = bytes.get(FRAME_HEADER_BYTES..frame_bytes) else {
        return torn_or_damaged(file, at, at + frame_bytes, salt, "the frame is cut short");
    };
    if !is_sound(payload, header.checksum) {
        return torn_or_damaged(file, at, at + frame_bytes, salt, "the checksum of the frame does not match");
    }
    let mut payload = payload.to_vec();
    salt.mask(&mut payload);
    match bincode::decode_from_slice::<Entry, _>(&payload[..header.len], CODEC) {
        Ok((entry, read)) if read == header.len => Frame::Whole { entry, frame_bytes },
        Ok(_) => Frame::Damaged("the frame holds more than an entry".into()),
        Err(e) => Frame::Damaged(format!("the frame does not hold an entry: {e}")),
    }
}

/// Judges an unreadable frame that should end at `end`: was it being written when the power failed?
fn torn_or_damaged(file: &[u8], at: usize, end: usize, salt: Salt, reason: &str) -> Frame {
    let is_cut = end > file.len() || file.len() - at < FRAME_HEADER_BYTES;
    let is_missing_a_part = is_cut || has_unwritten_sector(file, at, end.min(file.len()));
    if is_missing_a_part && !was_synced(file, at, salt) { Frame::Torn } else { Frame::Damaged(reason.to_owned()) }
}

/// True if a later frame says that the byte at `at` had been synced before that frame was written.
fn was_synced(file: &[u8], at: usize, salt: Salt) -> bool {
    (at + 1..file.len())
        .any(|later| FrameHeader::read(&file[later..], salt).is_some_and(|header| (at as u64 + 1..=later as u64).contains(&header.synced)))
}

/// True if a sector of `start..end` is zero. Payloads have no such runs of zeros, because they are masked.
fn has_unwritten_sector(file: &[u8], start: usize, end: usize) -> bool {
    let mut from = start;
    while from < end {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        if file[from..to].iter().all(|&b| b == 0) {
            return true;
        }
        from = to;
    }
    false
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const SALT: Salt = Salt([1, 2, 3, 4, 250, 251, 252, 253]);

    pub fn sample(first_seqno: u64) -> Entry {
        let upsert = |id: &str| Operation::Upsert {
            id: DocumentId::new(id).unwrap(),
            document: StoredDocument {
                fields: format!(r#"{{"title":"Nurse","text":"{}"}}"#, "night shift ".repeat(100)),
                attributes: Attributes::default(),
                embedding: vec![0.6, -0.8],
                text_hash: TextHash::of("Nurse"),
            },
        };
        let operations = vec![upsert("a"), Operation::Delete { id: DocumentId::new("b").unwrap() }];
        let positions = vec![FeedPosition { source: "kafka:jobs/0".to_owned(), next: Some(first_seqno) }];
        Entry::Changes(Batch { first_seqno: SeqNo(first_seqno), operations, positions })
    }

    #[test]
    fn every_cut_is_torn_and_every_flip_is_damage() {
        let document = StoredDocument {
            fields: "{}".to_owned(),
            attributes: Attributes::default(),
            embedding: vec![1.0],
            text_hash: TextHash::of_given(&[1.0]),
        };
        let renewed = RenewedDocument { id: DocumentId::new("a").unwrap(), changed: SeqNo(1), document };
        let epoch = Epoch { model: [1; 16], chunking: [2; 16], definition: [3; 16] };
        for entry in [Entry::Renewed(Renewed { seqno: SeqNo(1), epoch, documents: vec![renewed] }), sample(1)] {
            let frame = encode(&entry, 0, SALT).unwrap();
            assert_eq!(decode(&frame, 0, SALT), Frame::Whole { entry, frame_bytes: frame.len() });
        }
        let frame = encode(&sample(1), 0, SALT).unwrap();
        let followed = [frame.clone(), encode(&sample(3), frame.len() as u64, SALT).unwrap()].concat();
        for at in 0..frame.len() {
            assert_eq!(decode(&frame[..at], 0, SALT), Frame::Torn, "cut at {at}");
            for bytes in [&frame, &followed] {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                assert!(matches!(decode(&flipped, 0, SALT), Frame::Damaged(_)), "flip at {at} of {}", bytes.len());
            }
        }
        assert_eq!(decode(&[0; 100], 0, SALT), Frame::Torn);
    }

    #[test]
    fn a_frame_that_misses_sectors_is_torn_unless_it_had_been_synced() {
        let before = 304;
        let frame = encode(&sample(1), before as u64, SALT).unwrap();
        let file = [vec![7; before], frame.clone()].concat();
        for sector in 0..file.len().div_ceil(SECTOR) {
            let mut lost = file.clone();
            let end = ((sector + 1) * SECTOR).min(file.len());
            lost[(sector * SECTOR).max(before)..end].fill(0);
            assert_eq!(decode(&lost, before, SALT), Frame::Torn, "sector {sector}");
            // A later frame that was written while the first was unsynced proves nothing; one that was written after a sync does.
            let unsynced = [lost.clone(), encode(&sample(3), before as u64, SALT).unwrap()].concat();
            assert_eq!(decode(&unsynced, before, SALT), Frame::Torn, "sector {sector}");
            let synced = [lost, encode(&sample(3), file.len() as u64, SALT).unwrap()].concat();
            assert!(matches!(decode(&synced, before, SALT), Frame::Damaged(_)), "sector {sector}");
        }
    }

    /// A torn frame whose surviving sectors hold bytes that a client made to look like later frames.
    #[test]
    fn a_torn_frame_full_of_frame_headers_is_torn() {
        let other_salt = Salt([9; 8]);
        for salt in [SALT, other_salt] {
            let mut forged = String::new();
            for synced in 0..200 {
                let frame = encode(&sample(7), synced * 17, salt).unwrap();
                forged.extend(frame[..FRAME_HEADER_BYTES].iter().map(|&byte| char::from(byte)));
            }
            let Entry::Changes(mut batch) = sample(1) else { unreachable!("samples are changes") };
            let Operation::Upsert { document, .. } = &mut batch.operations[0] else { unreachable!("the first is an upsert") };
            document.fields = forged;
            let before = 304;
            let mut file = [vec![7; before], encode(&Entry::Changes(batch), before as u64, SALT).unwrap()].concat();
            let lost = file.len() / SECTOR / 2 * SECTOR;
            file[lost..lost + SECTOR].fill(0);
            assert_eq!(decode(&file, before, SALT), Frame::Torn);
        }
        // The same with headers of this very file on the disk, as no client can place them: their `synced` must be possible.
        let header = encode(&sample(7), 100_000, SALT).unwrap();
        let mut file = encode(&sample(1), 0, SALT).unwrap();
        file.truncate(700);
        file.extend(&header[..FRAME_HEADER_BYTES]);
        assert_eq!(decode(&file, 0, SALT), Frame::Torn, "a frame cannot follow bytes that it says were synced after it");
    }

    #[test]
    fn frames_are_aligned_and_any_lost_piece_of_one_is_noticed() {
        for before in (480..544).step_by(ALIGNMENT) {
            let frame = encode(&sample(1), 300, SALT).unwrap();
            assert_eq!(frame.len() % ALIGNMENT, 0);
            let file = [vec![7; before], frame].concat();
            for boundary in (SECTOR..file.len()).step_by(SECTOR) {
                for (from, to) in [(boundary.saturating_sub(SECTOR).max(before), boundary), (boundary, (boundary + SECTOR).min(file.len()))]
                {
                    if from < to {
                        let mut lost = file.clone();
                        lost[from..to].fill(0);
                        assert_eq!(decode(&lost, before, SALT), Frame::Torn, "a frame at {before} that lacks {from}..{to}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_flip_in_a_frame_of_zeros_is_damage() {
        let Entry::Changes(mut batch) = sample(1) else { unreachable!("samples are changes") };
        let Operation::Upsert { document, .. } = &mut batch.operations[0] else { unreachable!("the first is an upsert") };
        document.embedding = vec![0.0; 2_000];
        document.embedding[0] = 1.0;
        let frame = encode(&Entry::Changes(batch), 0, SALT).unwrap();
        for at in (0..frame.len()).step_by(97) {
            let mut flipped = frame.clone();
            flipped[at] ^= 4;
            assert!(matches!(decode(&flipped, 0, SALT), Frame::Damaged(_)), "flip at {at}");
        }
    }

    #[test]
    fn salts_have_no_zeros_and_differ() {
        let salts: Vec<Salt> = (0..100).map(|_| Salt::random()).collect();
        assert!(salts.iter().all(|salt| !salt.to_bytes().contains(&0)));
        assert!(salts.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
