//! The files of collections that nobody has open, found without a model. Whoever looks holds the data folder's lock.

use std::path::{Path, PathBuf};

use super::generation::{self, CURRENT};
use super::manifest::{DESCRIPTION_FILE, Manifest};
use super::{CollectionError, Description, WAL, profiles};
use crate::wal;
use kindred_core::domain::{CollectionName, GenerationId, SeqNo};
use kindred_core::storage::{self, StorageError};

/// A collection's files: with them and [`small_files`], and no others, it can be opened elsewhere.
#[derive(Debug)]
pub struct FilesAtRest {
    pub name: CollectionName,
    pub description: Description,
    pub generation: Option<GenerationId>,
    pub covered_seqno: SeqNo,
    pub last_seqno: SeqNo,
    /// Name below the collection's folder, path, and the length that counts: what is behind it was never acknowledged.
    pub files: Vec<(String, PathBuf, u64)>,
}

/// The collections of a data folder, by name.
///
/// # Errors
/// [`CollectionError::NoDataDir`]; damage that opening would find too.
pub fn files_at_rest(data_dir: &Path) -> Result<Vec<FilesAtRest>, CollectionError> {
    if !data_dir.exists() {
        return Err(CollectionError::NoDataDir { path: data_dir.to_owned() });
    }
    let mut collections = Vec::new();
    for entry in storage::list_dir(data_dir)? {
        let dir = data_dir.join(&entry);
        if let Ok(name) = CollectionName::new(entry)
            && let Some(description) = Description::read(&dir.join(DESCRIPTION_FILE))?
        {
            collections.push(of_collection(name, &dir, description)?);
        }
    }
    Ok(collections)
}

/// The files that are replaced whole, as a collection has them that is opened with this generation and no older one.
pub fn small_files(description: &Description, generation: Option<GenerationId>) -> Vec<(&'static str, Vec<u8>)> {
    let current = generation.map(|id| (CURRENT, format!("{id}\n").into_bytes()));
    std::iter::once((DESCRIPTION_FILE, description.to_json())).chain(current).collect()
}

fn of_collection(name: CollectionName, dir: &Path, mut description: Description) -> Result<FilesAtRest, CollectionError> {
    let generation = generation::history(dir)?.first().copied();
    let mut covered_seqno = SeqNo(0);
    let mut files = Vec::new();
    if let Some(id) = generation {
        let folder = generation::folder(dir, id);
        let manifest = Manifest::read(&folder)?;
        (description, covered_seqno) = (manifest.description(&folder)?, manifest.covered_seqno);
        files = generation::files(dir, id)?;
    }
    let wal_dir = dir.join(WAL);
    let replay = wal::replay(&wal_dir, covered_seqno, false, |_, _| {})?;
    let logs = storage::list_dir(&wal_dir)?.into_iter().filter(|name| name.ends_with(".log"));
    let with_length = |name: String| {
        let path = wal_dir.join(&name);
        let len = storage::file_len(&path)?;
        Ok((format!("{WAL}/{name}"), path, len))
    };
    let mut logs = logs.map(with_length).collect::<Result<Vec<_>, StorageError>>()?;
    if let Some((_, _, len)) = logs.last_mut() {
        *len = len.saturating_sub(replay.torn_bytes);
    }
    files.extend(profiles::files(dir)?);
    files.extend(logs.into_iter().filter(|(_, _, len)| *len > 0));
    Ok(FilesAtRest { name, description, generation, covered_seqno, last_seqno: SeqNo(replay.next_seqno.0 - 1), files })
}
