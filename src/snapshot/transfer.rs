//! Files and objects, a part at a time, with their checksums.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::{Contents, Place, SnapshotError};
use kindred_core::Progress;
use kindred_core::domain::hex;
use kindred_core::storage::{OutFile, StorageError};

/// Bytes that are held at once, and the length of an upload's parts.
pub(super) const PART_BYTES: usize = 8 << 20;
/// What cancelling leaves.
const KEPT: &str = "what was there before stays as it was";

/// Where an object of this checksum is kept.
pub(super) fn object_path(sha256: &str) -> String {
    format!("objects/{}/{sha256}", &sha256[..2])
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// The checksum of a file's contents.
pub(super) async fn checksum(contents: &Contents, progress: &Progress) -> Result<String, SnapshotError> {
    let mut parts = Parts::open(contents).await?;
    while parts.next(progress).await?.is_some() {}
    Ok(parts.digest())
}

/// Uploads a file's contents, unless an object of that checksum is there. Returns whether it did.
pub(super) async fn upload(place: &Place, contents: &Contents, sha256: &str, progress: &Progress) -> Result<bool, SnapshotError> {
    let path = object_path(sha256);
    // One that was written only in part has another size.
    if place.size(&path).await? == Some(contents.len()) {
        progress.advance(contents.len());
        return Ok(false);
    }
    let mut parts = Parts::open(contents).await?;
    if contents.len() <= PART_BYTES as u64 {
        let bytes = parts.next(progress).await?.unwrap_or_default();
        parts.check(sha256)?;
        place.put(&path, bytes).await?;
        return Ok(true);
    }
    let mut upload = place.upload(&path).await?;
    let sent = async {
        while let Some(part) = parts.next(progress).await? {
            upload.part(part).await?;
        }
        parts.check(sha256)
    };
    match sent.await {
        Ok(()) => upload.finish().await.map(|()| true),
        Err(e) => {
            upload.abort().await;
            Err(e)
        }
    }
}

/// What reading an object found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Sound,
    Missing,
    Damaged,
}

/// Reads an object, and writes it to a file that is then durable, if one is given. What was written of a damaged one is no good.
pub(super) async fn download(
    place: &Place,
    sha256: &str,
    size: u64,
    to: Option<PathBuf>,
    progress: &Progress,
) -> Result<Found, SnapshotError> {
    let path = object_path(sha256);
    match place.size(&path).await? {
        None => return Ok(Found::Missing),
        Some(found) if found != size => return Ok(Found::Damaged),
        Some(_) => {}
    }
    let mut file = match to {
        Some(to) => Some(OutFile::create_new(&to)?),
        None => None,
    };
    let (mut hasher, mut at) = (Sha256::new(), 0);
    while at < size {
        look(progress)?;
        let part = place.get_part(&path, at, size).await?;
        if part.is_empty() {
            return Ok(Found::Damaged);
        }
        let n = part.len() as u64;
        (hasher, file) = blocking(move || {
            hasher.update(&part);
            if let Some(file) = &mut file {
                file.write(&part)?;
            }
            Ok((hasher, file))
        })
        .await?;
        at += n;
        progress.advance(n);
    }
    if hex(hasher.finalize()) != sha256 {
        return Ok(Found::Damaged);
    }
    if let Some(file) = file {
        blocking(move || Ok(file.sync()?)).await?;
    }
    Ok(Found::Sound)
}

/// A file's contents, part by part.
struct Parts<'a> {
    contents: &'a Contents,
    file: Option<File>,
    at: u64,
    hasher: Sha256,
}

impl<'a> Parts<'a> {
    async fn open(contents: &'a Contents) -> Result<Self, SnapshotError> {
        let file = match contents {
            Contents::File { path, .. } => Some(File::open(path).map_err(StorageError::io("read", path))?),
            Contents::Bytes(_) => None,
        };
        Ok(Self { contents, file, at: 0, hasher: Sha256::new() })
    }

    async fn next(&mut self, progress: &Progress) -> Result<Option<Vec<u8>>, SnapshotError> {
        look(progress)?;
        let n = (self.contents.len() - self.at).min(PART_BYTES as u64) as usize;
        if n == 0 {
            return Ok(None);
        }
        let part = match self.contents {
            Contents::Bytes(bytes) => {
                let at = self.at as usize;
                let part = bytes[at..at + n].to_vec();
                self.hasher.update(&part);
                part
            }
            Contents::File { path, .. } => {
                let (mut file, mut hasher, path) = (self.file.take().ok_or(SnapshotError::WorkerLost)?, self.hasher.clone(), path.clone());
                let (part, file, hasher) = blocking(move || {
                    let mut part = vec![0; n];
                    file.read_exact(&mut part).map_err(|e| match e.kind() {
                        std::io::ErrorKind::UnexpectedEof => SnapshotError::Changed { path: path.clone() },
                        _ => StorageError::io("read", &path)(e).into(),
                    })?;
                    hasher.update(&part);
                    Ok((part, file, hasher))
                })
                .await?;
                (self.file, self.hasher) = (Some(file), hasher);
                part
            }
        };
        self.at += n as u64;
        progress.advance(n as u64);
        Ok(Some(part))
    }

    fn digest(&self) -> String {
        hex(self.hasher.clone().finalize())
    }

    /// What is stored under a checksum must have it.
    fn check(&self, sha256: &str) -> Result<(), SnapshotError> {
        match self.contents {
            Contents::File { path, .. } if self.digest() != sha256 => Err(SnapshotError::Changed { path: path.clone() }),
            _ => Ok(()),
        }
    }
}

fn look(progress: &Progress) -> Result<(), SnapshotError> {
    if progress.is_cancelled() { Err(SnapshotError::Cancelled { kept: KEPT }) } else { Ok(()) }
}

/// Runs work that waits for the disk away from the threads that serve HTTP.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static) -> Result<T, SnapshotError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| SnapshotError::WorkerLost)?
}
