//! The bytes of a batch of changes.

use bincode::{Decode, Encode};

use super::WalError;
use crate::domain::{Attributes, DocumentId, SeqNo};

/// Largest payload of a frame, in bytes.
pub(super) const MAX_BATCH_BYTES: usize = 1 << 30;
pub(super) const FRAME_HEADER_BYTES: usize = 12;

const CODEC: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<MAX_BATCH_BYTES>,
> = bincode::config::standard().with_limit::<MAX_BATCH_BYTES>();

/// Changes that become durable together. The first has `first_seqno`, the next the one after.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Batch {
    pub first_seqno: SeqNo,
    pub operations: Vec<Operation>,
}

impl Batch {
    /// The seqno after the last change of the batch.
    pub fn next_seqno(&self) -> SeqNo {
        SeqNo(self.first_seqno.0 + self.operations.len() as u64)
    }
}

/// One change with all that a replay needs: no model, no schema.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Operation {
    Upsert { id: DocumentId, document: StoredDocument },
    Delete { id: DocumentId },
}

/// A document as it is kept.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct StoredDocument {
    /// The user's fields without the id, as JSON text.
    pub fields: String,
    pub attributes: Attributes,
    /// `[dims]`, unit length.
    pub embedding: Vec<f32>,
}

/// A batch as a frame: header and payload.
pub(super) fn encode(batch: &Batch) -> Result<Vec<u8>, WalError> {
    let payload =
        bincode::encode_to_vec(batch, CODEC).map_err(|_| WalError::TooLarge { actual: MAX_BATCH_BYTES, limit: MAX_BATCH_BYTES })?;
    if payload.len() > MAX_BATCH_BYTES {
        return Err(WalError::TooLarge { actual: payload.len(), limit: MAX_BATCH_BYTES });
    }
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    frame.extend((payload.len() as u32).to_le_bytes());
    frame.extend(crc32fast::hash(&payload).to_le_bytes());
    let header_crc = crc32fast::hash(&frame);
    frame.extend(header_crc.to_le_bytes());
    frame.extend(payload);
    Ok(frame)
}

/// What stands at the beginning of some bytes of a log.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    Whole { batch: Batch, frame_bytes: usize },
    Torn,
    Damaged(String),
}

/// Reads the frame that `bytes`, the rest of the last or of an earlier file, begins with.
pub(super) fn decode(bytes: &[u8]) -> Frame {
    let Some(header) = bytes.get(..FRAME_HEADER_BYTES) else { return Frame::Torn };
    let field = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if crc32fast::hash(&header[..8]) != field(8) {
        // A file system may have grown the file without having written the bytes yet.
        return if bytes.iter().all(|&b| b == 0) {
            Frame::Torn
        } else {
            Frame::Damaged("the checksum of the frame's header does not match".into())
        };
    }
    let frame_bytes = FRAME_HEADER_BYTES + field(0) as usize;
    let Some(payload) = bytes.get(FRAME_HEADER_BYTES..frame_bytes) else { return Frame::Torn };
    if crc32fast::hash(payload) != field(4) {
        let is_last = frame_bytes == bytes.len();
        return if is_last { Frame::Torn } else { Frame::Damaged("the checksum of the frame does not match".into()) };
    }
    match bincode::decode_from_slice::<Batch, _>(payload, CODEC) {
        Ok((batch, read)) if read == payload.len() => Frame::Whole { batch, frame_bytes },
        Ok(_) => Frame::Damaged("the frame holds more than a batch".into()),
        Err(e) => Frame::Damaged(format!("the frame does not hold a batch: {e}")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn sample(first_seqno: u64) -> Batch {
        let upsert = |id: &str| Operation::Upsert {
            id: DocumentId::new(id).unwrap(),
            document: StoredDocument {
                fields: r#"{"title":"Nurse"}"#.into(),
                attributes: Attributes::default(),
                embedding: vec![0.6, -0.8],
            },
        };
        Batch { first_seqno: SeqNo(first_seqno), operations: vec![upsert("a"), Operation::Delete { id: DocumentId::new("b").unwrap() }] }
    }

    #[test]
    fn every_cut_is_torn_and_every_flip_is_noticed() {
        let batch = sample(1);
        let frame = encode(&batch).unwrap();
        assert_eq!(decode(&frame), Frame::Whole { batch, frame_bytes: frame.len() });
        let followed = [frame.clone(), encode(&sample(3)).unwrap()].concat();
        for at in 0..frame.len() {
            assert_eq!(decode(&frame[..at]), Frame::Torn, "cut at {at}");
            let mut flipped = followed.clone();
            flipped[at] ^= 1;
            assert!(matches!(decode(&flipped), Frame::Damaged(_)), "flip at {at} before another frame");
        }
        assert_eq!(decode(&[0; 100]), Frame::Torn);
    }
}
