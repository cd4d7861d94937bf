//! What snapshots there are in a place, and whether all of them is what was written.

use std::collections::BTreeMap;

use serde::Serialize;

use super::create::path_of;
use super::manifest::Manifest;
use super::transfer::{Found, download};
use super::{Place, SnapshotError, Steps};

/// Of the manifests.
pub(super) const FOLDER: &str = "snapshots";

/// A snapshot of a list: its manifest, or what is wrong with that.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    pub id: String,
    #[serde(serialize_with = "either")]
    pub manifest: Result<Manifest, String>,
}

/// What reading all of some snapshots found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub snapshots: Vec<String>,
    pub n_objects: usize,
    pub size_bytes: u64,
    pub problems: Vec<Problem>,
}

/// An object that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub object: String,
    pub is_missing: bool,
    /// What it stands for, as `snapshot/collection/file`.
    pub files: Vec<String>,
}

/// All snapshots of a place, the oldest first.
///
/// # Errors
/// [`SnapshotError::Store`].
pub async fn list(place: &Place) -> Result<Vec<Listed>, SnapshotError> {
    let mut listed = Vec::new();
    for id in ids(place).await? {
        let bytes = place.get(&path_of(&id)).await?;
        let manifest = bytes.ok_or_else(|| "its manifest is gone".to_owned()).and_then(|bytes| Manifest::from_bytes(&bytes));
        listed.push(Listed { id, manifest });
    }
    Ok(listed)
}

/// The snapshot of this id, or the newest one.
pub(super) async fn find(place: &Place, id: Option<&str>) -> Result<(String, Manifest), SnapshotError> {
    let ids = ids(place).await?;
    let newest = ids.last().ok_or_else(|| SnapshotError::None { place: place.name().to_owned() })?;
    let id = id.unwrap_or(newest);
    if !ids.iter().any(|known| known == id) {
        return Err(SnapshotError::Unknown { id: id.to_owned(), place: place.name().to_owned(), known: ids.join(", ") });
    }
    let damaged = |reason: String| SnapshotError::Damaged { id: id.to_owned(), place: place.name().to_owned(), reason };
    let bytes = place.get(&path_of(id)).await?.ok_or_else(|| damaged("its manifest is gone".to_owned()))?;
    Ok((id.to_owned(), Manifest::from_bytes(&bytes).map_err(damaged)?))
}

/// Reads every object of one snapshot, or of the newest one, and compares it with its checksum.
///
/// # Errors
/// [`SnapshotError::None`], [`SnapshotError::Damaged`] for a manifest that cannot be read, [`SnapshotError::Store`]. Objects that are
/// missing or damaged are in the report.
pub async fn verify(place: &Place, id: Option<&str>, all: bool, steps: Steps<'_>) -> Result<Verified, SnapshotError> {
    let mut manifests = Vec::new();
    if all {
        for id in ids(place).await? {
            manifests.push(find(place, Some(&id)).await?);
        }
    } else {
        manifests.push(find(place, id).await?);
    }
    let mut objects: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
    for (id, manifest) in &manifests {
        for (sha256, (size, files)) in manifest.objects() {
            let (_, named) = objects.entry(sha256).or_insert_with(|| (size, Vec::new()));
            named.extend(files.into_iter().map(|file| format!("{id}/{file}")));
        }
    }
    let size_bytes = objects.values().map(|(size, _)| size).sum();
    let progress = steps("verifying", size_bytes);
    let mut problems = Vec::new();
    let n_objects = objects.len();
    for (sha256, (size, files)) in objects {
        let found = download(place, sha256, size, None, &progress).await?;
        if found != Found::Sound {
            problems.push(Problem { object: sha256.to_owned(), is_missing: found == Found::Missing, files });
        }
    }
    progress.finish();
    Ok(Verified { snapshots: manifests.into_iter().map(|(id, _)| id).collect(), n_objects, size_bytes, problems })
}

/// A manifest as it is, a reason as `{"error": …}`.
fn either<S: serde::Serializer>(manifest: &Result<Manifest, String>, serializer: S) -> Result<S::Ok, S::Error> {
    match manifest {
        Ok(manifest) => manifest.serialize(serializer),
        Err(reason) => BTreeMap::from([("error", reason)]).serialize(serializer),
    }
}

async fn ids(place: &Place) -> Result<Vec<String>, SnapshotError> {
    let names = place.list(FOLDER).await?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".json")).map(str::to_owned).collect())
}
