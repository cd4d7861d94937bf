//! What a collection and a generation say about themselves.

use std::path::Path;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::{CollectionError, Contents};
use kindred_core::domain::{CollectionDefinition, CollectionName, Epoch, GenerationId, SeqNo};
use kindred_core::storage::{self, SectionFile, SectionWriter, StorageError};

/// Holds the [`Description`] of a collection that has no generation yet.
pub(super) const DESCRIPTION_FILE: &str = "collection.json";
pub(super) const MANIFEST_FILE: &str = "manifest.bin";
const KIND: [u8; 4] = *b"MANI";
/// The format of a whole generation: raised when any of its files changes its meaning.
const FORMAT_VERSION: u32 = 3;

/// Which model made a collection's embeddings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    pub name: String,
    /// Over model, tokenizer, pooling, prompts and dims: embeddings of different fingerprints are never compared.
    pub fingerprint: String,
    pub dims: usize,
    /// Folder of the model, beside that of the configured one; `None` stands for the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

/// What a collection's stored documents are: their definition, and the model of their embeddings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub definition: CollectionDefinition,
    pub model: ModelIdentity,
}

impl Description {
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a description has only strings, numbers and maps with string keys")
    }

    pub(super) fn read(path: &Path) -> Result<Option<Self>, StorageError> {
        let Some(bytes) = storage::read_file(path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| StorageError::corrupt(path, e.to_string()))
    }

    /// Returns the epoch of documents that are described so.
    pub fn epoch(&self) -> Epoch {
        Epoch::new(&self.model.fingerprint, &self.definition)
    }

    /// Whether documents described so can be searched and added to by those who want `wanted`.
    pub(super) fn check_against(&self, name: &CollectionName, wanted: &Self) -> Result<(), CollectionError> {
        if self.model.fingerprint != wanted.model.fingerprint {
            return Err(CollectionError::OtherModel {
                name: name.to_string(),
                built: self.model.name.clone(),
                built_fingerprint: shorten(&self.model.fingerprint),
                loaded: wanted.model.name.clone(),
                loaded_fingerprint: shorten(&wanted.model.fingerprint),
            });
        }
        if self.definition != wanted.definition {
            return Err(CollectionError::OtherDefinition { name: name.to_string() });
        }
        Ok(())
    }
}

/// The first digits of a fingerprint are enough to tell two apart.
fn shorten(fingerprint: &str) -> String {
    fingerprint.chars().take(12).collect()
}

/// What a generation holds, and the checksums of its files.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(super) struct Manifest {
    pub generation: GenerationId,
    pub collection: String,
    /// [`Description`] as JSON, the form in which definitions are read everywhere.
    description: String,
    pub n_rows: u64,
    pub covered_seqno: SeqNo,
    pub created_at_us: i64,
    pub files: Vec<FileEntry>,
    /// Where feeds stood.
    pub positions: Vec<(String, u64)>,
}

/// One file of a generation. The checksum covers the file's header and, through it, the checksums of all that is in it.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(super) struct FileEntry {
    pub name: String,
    pub size_bytes: u64,
    pub checksum: u32,
}

impl Manifest {
    pub fn new(
        generation: GenerationId,
        collection: &CollectionName,
        contents: &Contents,
        covered_seqno: SeqNo,
        files: Vec<FileEntry>,
    ) -> Self {
        Self {
            generation,
            collection: collection.to_string(),
            description: String::from_utf8(contents.description.to_json()).expect("JSON is UTF-8"),
            n_rows: contents.ids.len() as u64,
            covered_seqno,
            created_at_us: jiff::Timestamp::now().as_microsecond(),
            files,
            positions: contents.positions.clone(),
        }
    }

    pub fn description(&self, dir: &Path) -> Result<Description, StorageError> {
        serde_json::from_str(&self.description).map_err(|e| StorageError::corrupt(&dir.join(MANIFEST_FILE), e.to_string()))
    }

    pub fn write(&self, dir: &Path) -> Result<(), StorageError> {
        let bytes = bincode::encode_to_vec(self, bincode::config::standard()).expect("a manifest has nothing that cannot be encoded");
        let mut writer = SectionWriter::create(&dir.join(MANIFEST_FILE), KIND, FORMAT_VERSION)?;
        writer.section(&bytes)?;
        writer.finish().map(drop)
    }

    /// Reads a manifest and checks that the files next to it are the ones it was written for. A missing file is damage.
    pub fn read(dir: &Path) -> Result<Self, StorageError> {
        Self::read_checked(dir).map_err(StorageError::missing_is_damage)
    }

    fn read_checked(dir: &Path) -> Result<Self, StorageError> {
        let path = dir.join(MANIFEST_FILE);
        let file = SectionFile::open(&path, KIND, FORMAT_VERSION, 1)?;
        let (bytes, codec) = (file.bytes(0)?, bincode::config::standard().with_limit::<{ 16 << 20 }>());
        let decoded = bincode::decode_from_slice::<Self, _>(bytes, codec);
        let (manifest, _) = decoded.map_err(|e| file.corrupt(e.to_string()))?;
        for entry in &manifest.files {
            let path = dir.join(&entry.name);
            let found = FileEntry::of(dir, &entry.name)?;
            if found != *entry {
                return Err(StorageError::corrupt(&path, "it is not the file that the generation was built with"));
            }
        }
        Ok(manifest)
    }
}

impl FileEntry {
    /// Looks at a file of a generation.
    pub fn of(dir: &Path, name: &str) -> Result<Self, StorageError> {
        let (size_bytes, checksum) = storage::container_checksum(&dir.join(name))?;
        Ok(Self { name: name.to_owned(), size_bytes, checksum })
    }
}
