//! The bytes of an entry of the log.

use bincode::{Decode, Encode};

use super::WalError;
use kindred_core::domain::{Attributes, DocumentId, FeedPosition, SeqNo, TextHash};
use kindred_core::storage::is_sound;

/// Largest payload of a frame, in bytes.
pub(super) const MAX_ENTRY_BYTES: usize = 1 << 30;
/// Length of a frame's header.
pub(super) const FRAME_HEADER_BYTES: usize = 20;
/// The granularity in which a disk loses what was not synced.
const SECTOR: usize = 512;
/// A sector that a frame shares with what is before or behind it says that it was not written if so many bytes are zero.
const ZEROS_THAT_TELL: usize = 8;

type Codec =
    bincode::config::Configuration<bincode::config::LittleEndian, bincode::config::Varint, bincode::config::Limit<MAX_ENTRY_BYTES>>;
const CODEC: Codec = bincode::config::standard().with_limit::<MAX_ENTRY_BYTES>();

/// What one frame holds.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Entry {
    Changes(Batch),
    Embeddings(Embeddings),
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
    /// Of what the embedding was made of; `None` if that is not known.
    pub text_hash: Option<TextHash>,
}

/// Embeddings, by the model of this file, of documents that were logged with those of another. It takes one seqno, so that no
/// two files of a log begin with the same.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Embeddings {
    pub seqno: SeqNo,
    /// Id, seqno of the document's last change, `[chunks × dims]`.
    pub documents: Vec<(DocumentId, SeqNo, Vec<f32>)>,
}

impl Entry {
    pub fn first_seqno(&self) -> SeqNo {
        match self {
            Self::Changes(batch) => batch.first_seqno,
            Self::Embeddings(embeddings) => embeddings.seqno,
        }
    }

    /// The seqno after the last change.
    pub fn next_seqno(&self) -> SeqNo {
        match self {
            Self::Changes(batch) => batch.next_seqno(),
            Self::Embeddings(embeddings) => embeddings.seqno.next(),
        }
    }
}

impl Batch {
    /// The seqno after the last change. A batch that only tells where feeds stand takes one too: what is in the log has a place.
    pub fn next_seqno(&self) -> SeqNo {
        SeqNo(self.first_seqno.0 + self.operations.len().max(1) as u64)
    }
}

/// An entry as a frame: header and payload. `synced` bytes of its file are known to be durable.
pub(super) fn encode(entry: &Entry, synced: u64) -> Result<Vec<u8>, WalError> {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    let too_large = |actual| WalError::TooLarge { actual, limit: MAX_ENTRY_BYTES };
    bincode::encode_into_std_write(entry, &mut frame, CODEC).map_err(|_| too_large(MAX_ENTRY_BYTES))?;
    let (header, payload) = frame.split_at_mut(FRAME_HEADER_BYTES);
    if payload.len() > MAX_ENTRY_BYTES {
        return Err(too_large(payload.len()));
    }
    header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    header[8..16].copy_from_slice(&synced.to_le_bytes());
    let checksum = crc32fast::hash(&header[..16]);
    header[16..].copy_from_slice(&checksum.to_le_bytes());
    Ok(frame)
}

/// What stands at a place of a log.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    Whole { entry: Entry, frame_bytes: usize },
    Torn,
    Damaged(String),
}

/// A frame's header that adds up.
struct FrameHeader {
    len: usize,
    checksum: u32,
    synced: u64,
}

impl FrameHeader {
    fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..FRAME_HEADER_BYTES)?;
        let checked = &header[..header.len() - 4];
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        if !is_sound(checked, u32_at(checked.len())) {
            return None;
        }
        let synced = u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32;
        Some(Self { len: u32_at(0) as usize, checksum: u32_at(4), synced })
    }
}

/// Reads the frame at a place of a file.
pub(super) fn decode(file: &[u8], at: usize) -> Frame {
    let bytes = &file[at..];
    let Some(header) = FrameHeader::read(bytes) else {
        return torn_or(file, at, file.len(), "the checksum of the frame's header does not match");
    };
    let frame_bytes = FRAME_HEADER_BYTES + header.len;
    let Some(payload) = bytes.get(FRAME_HEADER_BYTES..frame_bytes) else {
        return torn_or(file, at, at + frame_bytes, "the frame is cut short");
    };
    if !is_sound(payload, header.checksum) {
        return torn_or(file, at, at + frame_bytes, "the checksum of the frame does not match");
    }
    match bincode::decode_from_slice::<Entry, _>(payload, CODEC) {
        Ok((entry, read)) if read == payload.len() => Frame::Whole { entry, frame_bytes },
        Ok(_) => Frame::Damaged("the frame holds more than an entry".into()),
        Err(e) => Frame::Damaged(format!("the frame does not hold an entry: {e}")),
    }
}

/// A frame that does not add up, and should end at `end`: was it being written when the power failed?
fn torn_or(file: &[u8], at: usize, end: usize, reason: &str) -> Frame {
    let is_cut = end > file.len() || file.len() - at < FRAME_HEADER_BYTES;
    let was_synced = (at + 1..file.len()).any(|later| FrameHeader::read(&file[later..]).is_some_and(|h| h.synced > at as u64));
    if !was_synced && (is_cut || has_unwritten_sector(file, at, end.min(file.len()))) {
        Frame::Torn
    } else {
        Frame::Damaged(reason.to_owned())
    }
}

/// Whether a sector of these bytes of a file is zero. Texts and the embeddings of models have no such runs of zeros.
fn has_unwritten_sector(file: &[u8], start: usize, end: usize) -> bool {
    let mut from = start;
    while from < end {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        if (to - from >= ZEROS_THAT_TELL || to - from == end - start) && file[from..to].iter().all(|&b| b == 0) {
            return true;
        }
        from = to;
    }
    false
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn sample(first_seqno: u64) -> Entry {
        let upsert = |id: &str| Operation::Upsert {
            id: DocumentId::new(id).unwrap(),
            document: StoredDocument {
                fields: format!(r#"{{"title":"Nurse","text":"{}"}}"#, "night shift ".repeat(100)),
                attributes: Attributes::default(),
                embedding: vec![0.6, -0.8],
                text_hash: Some(TextHash::of("Nurse")),
            },
        };
        let operations = vec![upsert("a"), Operation::Delete { id: DocumentId::new("b").unwrap() }];
        let positions = vec![FeedPosition { source: "kafka:jobs/0".to_owned(), next: Some(first_seqno) }];
        Entry::Changes(Batch { first_seqno: SeqNo(first_seqno), operations, positions })
    }

    #[test]
    fn every_cut_is_torn_and_every_flip_is_damage() {
        let entry = sample(1);
        let frame = encode(&entry, 0).unwrap();
        assert_eq!(decode(&frame, 0), Frame::Whole { entry, frame_bytes: frame.len() });
        let followed = [frame.clone(), encode(&sample(3), frame.len() as u64).unwrap()].concat();
        for at in 0..frame.len() {
            assert_eq!(decode(&frame[..at], 0), Frame::Torn, "cut at {at}");
            for bytes in [&frame, &followed] {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                assert!(matches!(decode(&flipped, 0), Frame::Damaged(_)), "flip at {at} of {}", bytes.len());
            }
        }
        assert_eq!(decode(&[0; 100], 0), Frame::Torn);
    }

    #[test]
    fn a_frame_that_misses_sectors_is_torn_unless_it_had_been_synced() {
        let before = 300;
        let frame = encode(&sample(1), before as u64).unwrap();
        let file = [vec![7; before], frame.clone()].concat();
        for sector in 0..file.len().div_ceil(SECTOR) {
            let mut lost = file.clone();
            let end = ((sector + 1) * SECTOR).min(file.len());
            lost[(sector * SECTOR).max(before)..end].fill(0);
            assert_eq!(decode(&lost, before), Frame::Torn, "sector {sector}");
            // A frame behind it that was written with the first one unsynced says nothing; one that was written later does.
            let unsynced = [lost.clone(), encode(&sample(3), before as u64).unwrap()].concat();
            assert_eq!(decode(&unsynced, before), Frame::Torn, "sector {sector}");
            let synced = [lost, encode(&sample(3), file.len() as u64).unwrap()].concat();
            assert!(matches!(decode(&synced, before), Frame::Damaged(_)), "sector {sector}");
        }
    }
}
