//! Restores a snapshot: objects → verified files under a temporary name → one rename for each collection.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::manifest::CollectionEntry;
use super::transfer::{Found, download, object_path};
use super::verify::find;
use super::{Place, SnapshotError, Steps};
use kindred_core::Progress;
use kindred_core::domain::CollectionName;
use kindred_core::storage::{self, Lock};

/// What the folder of a collection that is being restored ends with. No collection has such a name, so no half of one is opened.
const UNFINISHED: &str = ".restoring";

/// What was restored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restored {
    pub id: String,
    pub collections: Vec<CollectionEntry>,
}

/// Restores a snapshot, or the newest one, into a data folder that has none of its collections; of `only`, those alone.
///
/// # Errors
/// [`SnapshotError::Exists`]; [`SnapshotError::Damaged`] for an object that is not what was written; [`kindred_core::storage::StorageError::Locked`]
/// when a server runs on the folder. No collection is there then that was not before, and none in part.
pub async fn restore(
    place: &Place,
    id: Option<&str>,
    only: &[CollectionName],
    data_dir: &Path,
    steps: Steps<'_>,
) -> Result<Restored, SnapshotError> {
    let (id, manifest) = find(place, id).await?;
    let known = manifest.collections.iter().map(|c| c.name.to_string()).collect::<Vec<_>>().join(", ");
    if let Some(name) = only.iter().find(|name| !manifest.collections.iter().any(|c| c.name == **name)) {
        return Err(SnapshotError::UnknownCollection { name: name.to_string(), known });
    }
    let collections: Vec<CollectionEntry> =
        manifest.collections.into_iter().filter(|c| only.is_empty() || only.contains(&c.name)).collect();
    storage::create_dir(data_dir)?;
    let _lock = Lock::acquire(&data_dir.join("LOCK"))?;
    if let Some(there) = collections.iter().find(|c| data_dir.join(c.name.as_str()).exists()) {
        return Err(SnapshotError::Exists { name: there.name.to_string(), data_dir: data_dir.to_owned() });
    }
    let asides: Vec<PathBuf> = collections.iter().map(|c| data_dir.join(format!("{}{UNFINISHED}", c.name))).collect();
    let fetched = async {
        let progress = steps("restoring", collections.iter().map(CollectionEntry::size_bytes).sum());
        for (collection, aside) in collections.iter().zip(&asides) {
            // What a restore left that was killed.
            storage::remove_dir(aside)?;
            fetch(place, &id, collection, aside, &progress).await?;
        }
        progress.finish();
        Ok(())
    };
    if let Err(e) = fetched.await {
        // The first error is the one to tell; what is left has no collection's name, and the next restore removes it too.
        asides.iter().for_each(|aside| drop(storage::remove_dir(aside)));
        return Err(e);
    }
    for (collection, aside) in collections.iter().zip(&asides) {
        storage::publish_dir(aside, &data_dir.join(collection.name.as_str()))?;
    }
    Ok(Restored { id, collections })
}

/// Fetches a collection's files and makes them and their folders durable.
async fn fetch(place: &Place, id: &str, collection: &CollectionEntry, into: &Path, progress: &Progress) -> Result<(), SnapshotError> {
    let mut folders = BTreeSet::from([into.to_owned()]);
    storage::create_dir(into)?;
    for file in &collection.files {
        let path = file.name.split('/').fold(into.to_owned(), |path, part| path.join(part));
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != into) {
            folders.insert(folder.to_owned());
        }
        storage::create_dir(path.parent().unwrap_or(into))?;
        let what = match download(place, &file.sha256, file.size_bytes, Some(path), progress).await? {
            Found::Sound => continue,
            Found::Missing => "is missing",
            Found::Damaged => "is damaged",
        };
        let reason = format!("the object {} of {}/{} {what}", object_path(&file.sha256), collection.name, file.name);
        return Err(SnapshotError::Damaged { id: id.to_owned(), place: place.name().to_owned(), reason });
    }
    // A folder's own name is durable when the folder above it is synced: the deepest first.
    folders.iter().rev().try_for_each(|folder| storage::sync_dir(folder))?;
    Ok(())
}
