//! What a snapshot says about itself, as JSON with a checksum of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Model;
use super::transfer::sha256;
use kindred_core::domain::{CollectionName, SeqNo};

/// Raised when the meaning of a manifest changes.
const FORMAT: u32 = 1;

/// Everything that a snapshot holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    pub kindred_version: String,
    /// RFC 3339.
    pub created_at: String,
    pub collections: Vec<CollectionEntry>,
}

/// One collection of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectionEntry {
    pub name: CollectionName,
    pub generation: Option<String>,
    /// The last change that the generation contains.
    #[serde(deserialize_with = "seqno")]
    pub covered_seqno: SeqNo,
    /// The last change that the snapshot contains.
    #[serde(deserialize_with = "seqno")]
    pub last_seqno: SeqNo,
    pub model: Model,
    pub files: Vec<FileEntry>,
}

/// One file of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Below the collection's folder.
    pub name: String,
    pub size_bytes: u64,
    pub sha256: String,
}

impl CollectionEntry {
    /// Bytes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

/// A manifest as it is stored.
#[derive(Deserialize)]
struct Sealed<'a> {
    sha256: String,
    #[serde(borrow)]
    snapshot: &'a RawValue,
}

impl Manifest {
    pub(super) fn new(created_at: String, collections: Vec<CollectionEntry>) -> Self {
        Self { format: FORMAT, kindred_version: env!("CARGO_PKG_VERSION").to_owned(), created_at, collections }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("a manifest has only strings, numbers and lists");
        format!("{{\"sha256\": \"{}\", \"snapshot\": {text}}}\n", sha256(text.as_bytes())).into_bytes()
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let sealed: Sealed<'_> = serde_json::from_slice(bytes).map_err(|e| format!("its manifest is damaged: {e}"))?;
        // A fuzzer is to meet what lies behind it.
        if !cfg!(fuzzing) && sha256(sealed.snapshot.get().as_bytes()) != sealed.sha256 {
            return Err("its manifest is damaged: the checksum does not match".to_owned());
        }
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_str(sealed.snapshot.get()).map_err(|e| e.to_string())?;
        if format != FORMAT {
            return Err(format!("its format is {format}, and this version of Kindred reads {FORMAT}"));
        }
        let manifest: Self = serde_json::from_str(sealed.snapshot.get()).map_err(|e| e.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Nothing that a manifest says may lead out of a collection's folder.
    fn check(&self) -> Result<(), String> {
        for collection in &self.collections {
            for file in &collection.files {
                let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ':', '\0']);
                let is_digest = file.sha256.len() == 64 && file.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if !file.name.split('/').all(is_plain) || !is_digest {
                    return Err(format!("it names a file that no snapshot has: {:?}", file.name));
                }
            }
        }
        Ok(())
    }

    /// Each object once, with its size and the files that it stands for.
    pub(super) fn objects(&self) -> BTreeMap<&str, (u64, Vec<String>)> {
        let mut objects: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
        for collection in &self.collections {
            for file in &collection.files {
                let (_, files) = objects.entry(&file.sha256).or_insert_with(|| (file.size_bytes, Vec::new()));
                files.push(format!("{}/{}", collection.name, file.name));
            }
        }
        objects
    }
}

fn seqno<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SeqNo, D::Error> {
    u64::deserialize(deserializer).map(SeqNo)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(file: &str) -> Manifest {
        let files = vec![FileEntry { name: file.to_owned(), size_bytes: 7, sha256: sha256(b"x") }];
        let model = Model { name: "minilm".to_owned(), fingerprint: "f".to_owned(), dims: 4 };
        let (generation, covered_seqno, last_seqno) = (Some("000002".to_owned()), SeqNo(5), SeqNo(9));
        let name = CollectionName::new("jobs").unwrap();
        Manifest::new(
            "2026-11-22T00:00:00Z".to_owned(),
            vec![CollectionEntry { name, generation, covered_seqno, last_seqno, model, files }],
        )
    }

    #[test]
    fn every_flipped_byte_is_noticed_or_harmless() {
        let manifest = manifest("generations/000002/ids.bin");
        let bytes = manifest.to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Manifest::from_bytes(&damaged).map_or(true, |read| read == manifest), "byte {at}");
        }
        assert!(Manifest::from_bytes(&bytes[..bytes.len() / 2]).is_err());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in ["../x", "/etc/passwd", "a//b", "", "wal/.", "a\\b", "c:x"] {
            assert!(Manifest::from_bytes(&manifest(bad).to_bytes()).unwrap_err().contains("names a file"), "{bad:?}");
        }
        let newer = Manifest { format: 2, ..manifest("CURRENT") };
        assert!(Manifest::from_bytes(&newer.to_bytes()).unwrap_err().contains("reads 1"));
    }
}
