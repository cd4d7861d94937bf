//! One immutable build on disk, bound to one model fingerprint.
//!
//! `generations/<id>/` holds `manifest.bin` and the files it names. It is written under a temporary name, verified and renamed: then it
//! is ready. It serves when `CURRENT`, the one file that ever changes, names it in its first line. The lines below name those that
//! served before, which are kept so that one can go back to them; the log keeps what they lack.

use std::path::{Path, PathBuf};

use super::definition::{check_definition, text_of};
use super::documents::{DOCUMENTS_FILE, Documents};
use super::manifest::{DESCRIPTION_FILE, FileEntry, MANIFEST_FILE, Manifest};
use super::{CollectionError, Contents, Description, Meaning, ModelIdentity};
use crate::lexical::{LexicalSegment, LexicalWriter};
use kindred_core::Progress;
use kindred_core::domain::{Attributes, CollectionName, DocumentId, GenerationId, Selection, SeqNo, TextHash};
use kindred_core::error::ErrorKind;
use kindred_core::storage::{self, StorageError};
use kindred_index::{BuildInput, BuildParams, IdTable, Index, IndexError};

pub(super) const CURRENT: &str = "CURRENT";
const GENERATIONS: &str = "generations";
/// The newest number that was ever given to a generation.
const LAST: &str = "LAST";
/// What an unfinished build's folder ends with.
const UNFINISHED: &str = ".unfinished";
/// Generations that are kept: the current one, and the one before, to go back to.
const KEPT: usize = 2;

/// An open generation.
#[derive(Debug)]
pub(super) struct Generation {
    manifest: Manifest,
    description: Description,
    pub index: Index,
    pub ids: IdTable,
    /// Not there where texts are not searched by their words, nor in generations that were built before they were.
    pub lexical: Option<LexicalSegment>,
    documents: Documents,
}

/// What there is to know about a generation without opening it.
#[derive(Debug, Clone)]
pub struct GenerationInfo {
    pub id: GenerationId,
    pub status: GenerationStatus,
    pub n_documents: u64,
    pub covered_seqno: SeqNo,
    pub created_at_us: i64,
    pub model: ModelIdentity,
    pub size_bytes: u64,
}

/// What a generation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GenerationStatus {
    /// It serves.
    Current,
    /// It served before the current one: a rollback goes back to it.
    Previous,
    /// It has been built and waits to be activated.
    Ready,
}

impl Generation {
    /// The generation that `CURRENT` names first, `None` if nothing has been built yet. Should that be lost or damaged, one that
    /// served before it and is of the same model and definition, if there is one: with the log, it has the same documents.
    pub fn open_current(name: &CollectionName, dir: &Path, expected: Option<&Description>) -> Result<Option<Self>, CollectionError> {
        let mut first_error = None;
        for id in history(dir)? {
            match Self::open_one(dir, id) {
                Ok(generation) => match first_error {
                    None => return Ok(Some(generation)),
                    Some(e) if expected.is_some_and(|expected| expected.epoch() == generation.description.epoch()) => {
                        tracing::error!(collection = %name, generation = %id, error = %e, "the current generation cannot be opened: the one before it serves, with all changes since. Rebuild the collection");
                        return Ok(Some(generation));
                    }
                    Some(e) => return Err(e),
                },
                Err(e) if matches!(e.kind(), ErrorKind::Corrupt) => drop(first_error.get_or_insert(e)),
                Err(e) => return Err(first_error.unwrap_or(e)),
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    /// A finished generation.
    ///
    /// # Errors
    /// [`CollectionError::LostGeneration`] when there is none of that number.
    pub fn open_one(dir: &Path, id: GenerationId) -> Result<Self, CollectionError> {
        let folder = folder(dir, id);
        if !folder.is_dir() {
            return Err(CollectionError::LostGeneration { path: folder });
        }
        let opened = Self::open(&folder)?;
        if opened.manifest.generation != id {
            return Err(StorageError::corrupt(&folder, "its manifest belongs to another generation").into());
        }
        Ok(opened)
    }

    fn open(dir: &Path) -> Result<Self, CollectionError> {
        let manifest = Manifest::read(dir)?;
        let description = manifest.description(dir)?;
        let n_rows = usize::try_from(manifest.n_rows).map_err(|_| StorageError::corrupt(dir, "too many rows"))?;
        let name =
            CollectionName::new(manifest.collection.clone()).map_err(|e| StorageError::corrupt(&dir.join(MANIFEST_FILE), e.to_string()))?;
        let (_, schema) = check_definition(&name, &description.definition)?;
        let index = Index::open(dir, description.model.dims, n_rows, &schema)?;
        let ids = IdTable::open(dir, n_rows)?;
        let documents = Documents::open(dir, n_rows)?;
        let lexical = LexicalSegment::open(dir, n_rows)?;
        Ok(Self { manifest, description, index, ids, lexical, documents })
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
        // Never a number that was used before: a searcher's answers, or CURRENT, may name it.
        let given = storage::read_file(&dir.join(LAST))?.and_then(|bytes| String::from_utf8_lossy(&bytes).trim().parse().ok());
        let last = numbers(dir)?.into_iter().map(|(id, _)| id).chain(history(dir)?).chain(given).max().unwrap_or_default();
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
        storage::replace_file(&dir.join(LAST), format!("{id}\n").as_bytes())?;
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
        self.lexical.as_ref().map_or(Ok(()), LexicalSegment::verify)?;
        Ok(self.documents.verify()?)
    }

    /// Makes this generation the one that is opened from now on.
    pub fn make_current(&self, dir: &Path) -> Result<(), StorageError> {
        let mut ids = history(dir)?;
        ids.retain(|id| *id != self.id());
        ids.insert(0, self.id());
        ids.truncate(KEPT);
        write_history(dir, &ids)
    }

    /// Deletes all generations except those in use: the current one, those to go back to, and, unless it is not wanted any more, the
    /// newest that waits to be activated. Searchers that still use others keep their maps. Unfinished builds are removed only
    /// before the next build, because one may be under construction.
    pub fn remove_unused(dir: &Path, before_build: bool) -> Result<(), StorageError> {
        let used = in_use(dir, !before_build)?;
        for (id, path) in numbers(dir)? {
            if is_unfinished(&path) {
                if before_build {
                    storage::remove_dir(&path)?;
                }
            } else if !used.contains(&id) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Returns the last change that all generations in use cover: the log must keep the later ones.
    ///
    /// # Errors
    /// [`StorageError`], also when a manifest cannot be read now but may be later: the log must not be trimmed then.
    pub fn covered_by_all(dir: &Path) -> Result<SeqNo, StorageError> {
        let mut covered: Option<SeqNo> = None;
        for id in in_use(dir, true)? {
            match Manifest::read(&folder(dir, id)) {
                Ok(manifest) => covered = Some(covered.map_or(manifest.covered_seqno, |c| c.min(manifest.covered_seqno))),
                // A damaged or lost generation cannot be activated, so it needs nothing of the log.
                Err(e) if e.is_damage() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(covered.unwrap_or_default())
    }

    /// Deletes one that has never served.
    pub fn discard(dir: &Path, id: GenerationId) -> Result<(), StorageError> {
        if history(dir)?.contains(&id) { Ok(()) } else { remove(&folder(dir, id)) }
    }

    /// All finished generations, newest first.
    pub fn list(dir: &Path) -> Result<Vec<GenerationInfo>, StorageError> {
        let served = history(dir)?;
        let mut all = Vec::new();
        for (id, path) in numbers(dir)?.into_iter().filter(|(_, path)| !is_unfinished(path)) {
            let status = match served.iter().position(|served| *served == id) {
                Some(0) => GenerationStatus::Current,
                Some(_) => GenerationStatus::Previous,
                None => GenerationStatus::Ready,
            };
            let manifest = Manifest::read(&path)?;
            let model = manifest.description(&path)?.model;
            all.push(GenerationInfo {
                id,
                status,
                n_documents: manifest.n_rows,
                covered_seqno: manifest.covered_seqno,
                created_at_us: manifest.created_at_us,
                model,
                size_bytes: manifest.files.iter().map(|file| file.size_bytes).sum(),
            });
        }
        all.sort_by_key(|info| std::cmp::Reverse(info.id));
        Ok(all)
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

    /// Where feeds stood.
    pub fn positions(&self) -> &[(String, u64)] {
        &self.manifest.positions
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

    pub fn selected(&self, row: u32, selection: &Selection) -> Result<Attributes, StorageError> {
        self.documents.selected(row, selection)
    }

    pub fn fields(&self, row: u32) -> Result<&str, StorageError> {
        self.documents.fields(row)
    }

    /// Seqno of the document's last change.
    pub fn seqno(&self, row: u32) -> Result<SeqNo, StorageError> {
        self.documents.seqno(row)
    }

    /// Hash of the source of the document's embedding.
    pub fn text_hash(&self, row: u32) -> Result<TextHash, StorageError> {
        self.documents.text_hash(row)
    }

    /// How many documents expire some day.
    pub fn n_expiring(&self) -> usize {
        self.documents.n_expiring()
    }

    /// When the document at a position of those that expire does so, in microseconds since 1970, and its row; earliest first.
    pub fn expiring(&self, position: usize) -> Result<(i64, u32), StorageError> {
        self.documents.expiring(position)
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
        n_chunks: &contents.n_chunks,
        attributes: &contents.attributes,
        schema: &meaning.schema,
    };
    Index::build(dir, input, params, progress)?;
    IdTable::write(dir, &contents.ids)?;
    Documents::write(dir, contents, meaning.expires_at())?;
    if let Some(analyzer) = &meaning.analyzer {
        let mut writer = LexicalWriter::new(analyzer)?;
        for fields in &contents.fields {
            // What is searched by its meaning alone for some reason is still found so.
            writer.add(&text_of(&meaning.template, fields).unwrap_or_default())?;
        }
        writer.finish(dir)?;
    }
    let files = storage::list_dir(dir)?.iter().map(|file| FileEntry::of(dir, file)).collect::<Result<Vec<_>, _>>()?;
    debug_assert!(files.iter().any(|f| f.name == DOCUMENTS_FILE), "the manifest names every file");
    Manifest::new(id, name, contents, covered, files).write(dir)?;
    // The last look: what follows takes little, and then the generation is there.
    if progress.is_cancelled() { Err(IndexError::Cancelled.into()) } else { Ok(()) }
}

/// The files of a finished generation: name below the collection's folder, path, length.
pub(super) fn files(dir: &Path, id: GenerationId) -> Result<Vec<(String, PathBuf, u64)>, StorageError> {
    let folder = folder(dir, id);
    let of = |name: String| {
        let path = folder.join(&name);
        let len = storage::file_len(&path)?;
        Ok((format!("{GENERATIONS}/{id}/{name}"), path, len))
    };
    storage::list_dir(&folder)?.into_iter().map(of).collect()
}

pub(super) fn folder(dir: &Path, id: GenerationId) -> PathBuf {
    dir.join(GENERATIONS).join(id.to_string())
}

/// Returns the generations that must be kept; with `ready`, also the newest that waits to be activated.
fn in_use(dir: &Path, ready: bool) -> Result<Vec<GenerationId>, StorageError> {
    let mut used = history(dir)?;
    if ready {
        let finished = numbers(dir)?.into_iter().filter(|(_, path)| !is_unfinished(path)).map(|(id, _)| id);
        let newest = finished.max().filter(|newest| used.iter().all(|used| newest > used));
        used.extend(newest);
    }
    Ok(used)
}

/// The generations that `CURRENT` names: the one that serves, and those that served before.
pub(super) fn history(dir: &Path) -> Result<Vec<GenerationId>, StorageError> {
    let path = dir.join(CURRENT);
    let Some(bytes) = storage::read_file(&path)? else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(&bytes);
    let ids: Result<Vec<GenerationId>, _> = text.lines().map(|line| line.trim().parse()).collect();
    ids.ok().filter(|ids| !ids.is_empty()).ok_or_else(|| StorageError::corrupt(&path, "it does not hold the number of a generation"))
}

/// Makes `CURRENT` name these generations, or removes it if there are none.
pub(super) fn write_history(dir: &Path, ids: &[GenerationId]) -> Result<(), StorageError> {
    let path = dir.join(CURRENT);
    if ids.is_empty() {
        storage::remove_file(&path)?;
        return storage::sync_dir(dir);
    }
    let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
    storage::replace_file(&path, lines.as_bytes())
}

/// What a collection is: the generation that serves says so, before the first one the collection's own file. That is replaced after the
/// generation became current, so a crash in between leaves it behind.
pub(super) fn description(dir: &Path) -> Result<Option<Description>, CollectionError> {
    let Some(own) = Description::read(&dir.join(DESCRIPTION_FILE))? else { return Ok(None) };
    let Some(id) = history(dir)?.first().copied() else { return Ok(Some(own)) };
    let folder = folder(dir, id);
    // One that cannot be read is told when it is opened; the one before it may serve in its place.
    Ok(Some(Manifest::read(&folder).and_then(|manifest| manifest.description(&folder)).unwrap_or(own)))
}

/// Whether there is a finished generation, though `CURRENT` names none.
pub(super) fn is_current_missing(dir: &Path) -> Result<Option<GenerationId>, StorageError> {
    if !history(dir)?.is_empty() {
        return Ok(None);
    }
    Ok(numbers(dir)?.into_iter().filter(|(_, path)| !is_unfinished(path)).map(|(id, _)| id).max())
}

/// Deletes a finished generation. A process that ends half-way must not leave one that looks finished.
fn remove(path: &Path) -> Result<(), StorageError> {
    let unfinished = path.with_added_extension(UNFINISHED.trim_start_matches('.'));
    storage::remove_dir(&unfinished)?;
    if path.exists() {
        storage::publish_dir(path, &unfinished)?;
    }
    storage::remove_dir(&unfinished)
}

fn is_unfinished(path: &Path) -> bool {
    path.to_string_lossy().ends_with(UNFINISHED)
}

/// All generations on disk, finished or not.
fn numbers(dir: &Path) -> Result<Vec<(GenerationId, PathBuf)>, StorageError> {
    let generations = dir.join(GENERATIONS);
    let names = storage::list_dir(&generations)?;
    let number = |name: &str| name.trim_end_matches(UNFINISHED).parse().ok();
    Ok(names.iter().filter_map(|name| Some((number(name)?, generations.join(name)))).collect())
}
