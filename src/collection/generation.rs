//! One immutable build on disk, bound to one model fingerprint.
//!
//! `generations/<id>/` holds `manifest.bin` and the files it names. It is written under a temporary name, verified, renamed,
//! and becomes the base when `CURRENT`, the one file that ever changes, names it.

use std::path::{Path, PathBuf};

use super::documents::{DOCUMENTS_FILE, Documents};
use super::manifest::{FileEntry, MANIFEST_FILE, Manifest};
use super::{CollectionError, Contents, Description, Meaning};
use crate::domain::{Attributes, CollectionName, DocumentId, GenerationId, SeqNo};
use crate::index::{self, BuildInput, BuildParams, IdTable, Index, IndexError};
use crate::storage::{self, StorageError};
use crate::telemetry::Progress;

const CURRENT: &str = "CURRENT";
const GENERATIONS: &str = "generations";
/// What an unfinished build's folder ends with.
const UNFINISHED: &str = ".unfinished";

/// An open generation.
#[derive(Debug)]
pub(super) struct Generation {
    manifest: Manifest,
    description: Description,
    pub index: Index,
    pub ids: IdTable,
    documents: Documents,
}

impl Generation {
    /// The generation that `CURRENT` names, `None` if nothing has been built yet.
    pub fn open_current(dir: &Path) -> Result<Option<Self>, CollectionError> {
        let Some(id) = current(dir)? else { return Ok(None) };
        let opened = Self::open(&folder(dir, id))?;
        if opened.manifest.generation != id {
            return Err(StorageError::corrupt(&folder(dir, id), "its manifest belongs to another generation").into());
        }
        Ok(Some(opened))
    }

    fn open(dir: &Path) -> Result<Self, CollectionError> {
        let manifest = Manifest::read(dir)?;
        let description = manifest.description(dir)?;
        let n_rows = usize::try_from(manifest.n_rows).map_err(|_| StorageError::corrupt(dir, "too many rows"))?;
        let name =
            CollectionName::new(manifest.collection.clone()).map_err(|e| StorageError::corrupt(&dir.join(MANIFEST_FILE), e.to_string()))?;
        let meaning = Meaning::of(&name, &description.definition)?;
        let index = Index::open(dir, description.model.dims, n_rows, &meaning.schema)?;
        let ids = IdTable::open(dir, n_rows)?;
        let documents = Documents::open(dir, n_rows)?;
        Ok(Self { manifest, description, index, ids, documents })
    }

    /// Builds and verifies a generation and moves it to its final name. It is not current yet.
    pub fn build(
        name: &CollectionName,
        dir: &Path,
        contents: &Contents,
        covered: SeqNo,
        params: &BuildParams,
        progress: &Progress,
    ) -> Result<Self, CollectionError> {
        let last = numbers(dir)?.into_iter().map(|(id, _)| id).max().unwrap_or_default().max(current(dir)?.unwrap_or_default());
        let id = GenerationId(last.0 + 1);
        let unfinished = dir.join(GENERATIONS).join(format!("{id}{UNFINISHED}"));
        storage::remove_dir(&unfinished)?;
        storage::create_dir(&unfinished)?;
        let built = write(name, &unfinished, id, contents, covered, params, progress)
            .and_then(|()| Self::verified(name, &unfinished, id, contents));
        let generation = match built {
            Ok(generation) => generation,
            Err(e) => {
                // The first error is the one to tell; what is left is removed by the next rebuild too.
                let _ = storage::remove_dir(&unfinished);
                return Err(e);
            }
        };
        // Open maps stay valid when their folder is renamed.
        storage::publish_dir(&unfinished, &folder(dir, id))?;
        Ok(generation)
    }

    /// Opens what was built, reads all of it back, and compares it with what should be in it.
    fn verified(name: &CollectionName, dir: &Path, id: GenerationId, contents: &Contents) -> Result<Self, CollectionError> {
        let generation = Self::open(dir)?;
        generation.verify()?;
        let failed = |reason: String| CollectionError::Verification { name: name.to_string(), generation: id.0, reason };
        for (row, id) in contents.ids.iter().enumerate() {
            if generation.ids.row(id.as_str())? != Some(row as u32) {
                return Err(failed(format!("document {id} is not in row {row}")));
            }
        }
        Ok(generation)
    }

    /// Checks every byte of every file. Opening has read the whole manifest and no more than a little of the others.
    pub fn verify(&self) -> Result<(), CollectionError> {
        self.index.verify()?;
        self.ids.verify()?;
        Ok(self.documents.verify()?)
    }

    /// Makes this generation the one that is opened from now on.
    pub fn make_current(&self, dir: &Path) -> Result<(), StorageError> {
        storage::replace_file(&dir.join(CURRENT), format!("{}\n", self.id()).as_bytes())
    }

    /// Deletes all generations but the current one. Searchers that still use them keep their maps.
    pub fn remove_others(dir: &Path) -> Result<(), StorageError> {
        let current = current(dir)?;
        for (id, path) in numbers(dir)? {
            if Some(id) != current || path.to_string_lossy().ends_with(UNFINISHED) {
                storage::remove_dir(&path)?;
            }
        }
        Ok(())
    }

    pub fn id(&self) -> GenerationId {
        self.manifest.generation
    }

    pub fn description(&self) -> &Description {
        &self.description
    }

    pub fn covered_seqno(&self) -> SeqNo {
        self.manifest.covered_seqno
    }

    pub fn created_at_us(&self) -> i64 {
        self.manifest.created_at_us
    }

    /// Name and size in bytes of each file.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.manifest.files.iter().map(|f| (f.name.as_str(), f.size_bytes))
    }

    pub fn document_id(&self, row: u32) -> Result<DocumentId, CollectionError> {
        Ok(self.ids.id(row)?)
    }

    pub fn attributes(&self, row: u32) -> Result<Attributes, StorageError> {
        self.documents.attributes(row)
    }

    pub fn fields(&self, row: u32) -> Result<&str, StorageError> {
        self.documents.fields(row)
    }
}

fn write(
    name: &CollectionName,
    dir: &Path,
    id: GenerationId,
    contents: &Contents,
    covered: SeqNo,
    params: &BuildParams,
    progress: &Progress,
) -> Result<(), CollectionError> {
    let meaning = Meaning::of(name, &contents.description.definition)?;
    let input = BuildInput {
        dims: contents.description.model.dims,
        vectors: &contents.vectors,
        attributes: &contents.attributes,
        schema: &meaning.schema,
    };
    index::build(dir, input, params, progress)?;
    IdTable::write(dir, &contents.ids)?;
    Documents::write(dir, &contents.attributes, &contents.fields)?;
    let files = storage::list_dir(dir)?.iter().map(|file| FileEntry::of(dir, file)).collect::<Result<Vec<_>, _>>()?;
    debug_assert!(files.iter().any(|f| f.name == DOCUMENTS_FILE), "the manifest names every file");
    Manifest::new(id, name, &contents.description, contents.ids.len(), covered, files).write(dir)?;
    // The last look: what follows takes little, and then the generation is there.
    if progress.is_cancelled() { Err(IndexError::Cancelled.into()) } else { Ok(()) }
}

fn folder(dir: &Path, id: GenerationId) -> PathBuf {
    dir.join(GENERATIONS).join(id.to_string())
}

pub(super) fn current(dir: &Path) -> Result<Option<GenerationId>, StorageError> {
    let path = dir.join(CURRENT);
    let Some(bytes) = storage::read_file(&path)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map(Some).map_err(|_| StorageError::corrupt(&path, "it does not hold the number of a generation"))
}

/// All generations on disk, finished or not.
fn numbers(dir: &Path) -> Result<Vec<(GenerationId, PathBuf)>, StorageError> {
    let generations = dir.join(GENERATIONS);
    let names = storage::list_dir(&generations)?;
    let number = |name: &str| name.trim_end_matches(UNFINISHED).parse().ok();
    Ok(names.iter().filter_map(|name| Some((number(name)?, generations.join(name)))).collect())
}
