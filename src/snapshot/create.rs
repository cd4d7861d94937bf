//! Makes a snapshot: files → objects → manifest.

use serde::Serialize;

use super::manifest::{CollectionEntry, FileEntry, Manifest};
use super::transfer::{checksum, upload};
use super::{Place, SnapshotError, SnapshotSource, Steps};

/// How often a name is looked for that no other snapshot has.
const MAX_ATTEMPTS: usize = 5;

/// What was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Created {
    pub id: String,
    pub n_files: usize,
    pub size_bytes: u64,
    /// What an earlier snapshot had already is not uploaded again.
    pub n_uploaded: usize,
    pub uploaded_bytes: u64,
}

/// Writes what the sources name into a place, and last the manifest: until then there is no snapshot.
///
/// # Errors
/// [`SnapshotError::Store`], [`SnapshotError::Changed`], [`SnapshotError::Cancelled`]: objects that were written stay, and the next
/// snapshot uses them.
pub async fn create(place: &Place, sources: &[SnapshotSource], steps: Steps<'_>) -> Result<Created, SnapshotError> {
    let size_bytes = sources.iter().flat_map(|source| &source.files).map(|file| file.contents.len()).sum();
    let mut collections = Vec::with_capacity(sources.len());
    let reading = steps("reading files", size_bytes);
    for source in sources {
        let mut files = Vec::with_capacity(source.files.len());
        for file in &source.files {
            let sha256 = checksum(&file.contents, &reading).await?;
            files.push(FileEntry { name: file.name.clone(), size_bytes: file.contents.len(), sha256 });
        }
        collections.push(CollectionEntry {
            name: source.collection.clone(),
            generation: source.generation.clone(),
            covered_seqno: source.covered_seqno,
            last_seqno: source.last_seqno,
            model: source.model.clone(),
            files,
        });
    }
    reading.finish();

    let (mut n_files, mut n_uploaded, mut uploaded_bytes) = (0, 0, 0);
    let writing = steps("writing snapshot", size_bytes);
    for (source, entry) in sources.iter().zip(&collections) {
        for (file, FileEntry { sha256, .. }) in source.files.iter().zip(&entry.files) {
            n_files += 1;
            if upload(place, &file.contents, sha256, &writing).await? {
                n_uploaded += 1;
                uploaded_bytes += file.contents.len();
            }
        }
    }
    if writing.is_cancelled() {
        return Err(SnapshotError::Cancelled { kept: "there is no new snapshot" });
    }
    let id = publish(place, collections).await?;
    writing.finish();
    Ok(Created { id, n_files, size_bytes, n_uploaded, uploaded_bytes })
}

/// Writes the manifest under a name that no other has.
async fn publish(place: &Place, collections: Vec<CollectionEntry>) -> Result<String, SnapshotError> {
    for _ in 0..MAX_ATTEMPTS {
        let now = jiff::Timestamp::now();
        let id = now.strftime("%Y%m%dT%H%M%S.%6fZ").to_string();
        let manifest = Manifest::new(now.to_string(), collections.clone());
        if place.put_new(&path_of(&id), manifest.to_bytes()).await? {
            return Ok(id);
        }
    }
    Err(SnapshotError::Place { place: place.name().to_owned(), reason: "others make snapshots there without a pause".to_owned() })
}

/// Where the manifest of a snapshot is kept.
pub(super) fn path_of(id: &str) -> String {
    format!("{}/{id}.json", super::verify::FOLDER)
}
