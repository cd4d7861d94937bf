//! Where snapshots are kept. The only file that knows object stores.

use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "object-store")]
use std::time::Duration;

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UploadPart};
use tokio::task::JoinSet;

use super::SnapshotError;
use super::transfer::PART_BYTES;
use kindred_core::storage;

/// Parts of an object that are under way at once.
const MAX_PARTS: usize = 4;

/// A folder, or a bucket and a prefix in it.
#[derive(Debug, Clone)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    name: String,
}

/// Whether a folder, which need not be there yet, is another or lies in it.
fn is_inside(folder: &Path, other: &Path) -> bool {
    let Ok((folder, other)) = std::path::absolute(folder).and_then(|folder| Ok((folder, other.canonicalize()?))) else { return false };
    folder.ancestors().find_map(|existing| existing.canonicalize().ok()).is_some_and(|existing| existing.starts_with(other))
}

impl Place {
    /// A place to write to; a folder is made if it is not there. Credentials and endpoints come from the environment under their
    /// usual names (`AWS_*`, `GOOGLE_*`, `AZURE_*`).
    ///
    /// # Errors
    /// [`SnapshotError::Place`] for what is no place or lacks its credentials, or is a folder in the data folder that is kept: what is deleted there
    /// would take its snapshots along.
    pub fn create(name: &str, data_dir: &Path) -> Result<Self, SnapshotError> {
        if let Some(folder) = folder_of(name) {
            if is_inside(&folder, data_dir) {
                let reason =
                    format!("it lies in the data folder {}, which it is to be a copy of: name a folder elsewhere", data_dir.display());
                return Err(SnapshotError::Place { place: name.to_owned(), reason });
            }
            storage::create_dir(&folder)?;
        }
        Self::open(name)
    }

    /// A place to read from.
    ///
    /// # Errors
    /// [`SnapshotError::Place`].
    pub fn open(name: &str) -> Result<Self, SnapshotError> {
        let refused = |reason: String| SnapshotError::Place { place: name.to_owned(), reason };
        let failed = |e: Error| refused(innermost(&e));
        if let Some(folder) = folder_of(name) {
            if !folder.is_dir() {
                return Err(refused("there is no such folder".to_owned()));
            }
            let store = LocalFileSystem::new_with_prefix(&folder).map_err(failed)?.with_fsync(true);
            return Ok(Self { store: Arc::new(store), prefix: ObjectPath::default(), name: name.to_owned() });
        }
        let (scheme, rest) = name.split_once("://").unwrap_or_default();
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(refused("it names no bucket".to_owned()));
        }
        let prefix = ObjectPath::parse(prefix.trim_end_matches('/')).map_err(|e| refused(e.to_string()))?;
        let store = remote(scheme, bucket).map_err(refused)?;
        Ok(Self { store, prefix, name: name.to_owned() })
    }

    /// A place that is gone when it is dropped, for tests.
    pub fn in_memory() -> Self {
        Self { store: Arc::new(InMemory::new()), prefix: ObjectPath::default(), name: "memory".to_owned() }
    }

    /// As it was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The size of an object, `None` if it is not there.
    pub(super) async fn size(&self, path: &str) -> Result<Option<u64>, SnapshotError> {
        match self.store.head(&self.full(path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed("look for", path, e)),
        }
    }

    /// Writes a small object, whatever is there.
    pub(super) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), SnapshotError> {
        self.store.put(&self.full(path), PutPayload::from(bytes)).await.map(drop).map_err(|e| self.failed("write", path, e))
    }

    /// Writes a small object unless there is one. Returns whether it did.
    pub(super) async fn put_new(&self, path: &str, bytes: Vec<u8>) -> Result<bool, SnapshotError> {
        match self.store.put_opts(&self.full(path), PutPayload::from(bytes), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(self.failed("write", path, e)),
        }
    }

    /// Begins to write a large object, which is there when it is finished.
    pub(super) async fn upload(&self, path: &str) -> Result<Upload<'_>, SnapshotError> {
        let upload = self.store.put_multipart(&self.full(path)).await.map_err(|e| self.failed("begin to write", path, e))?;
        Ok(Upload { place: self, path: path.to_owned(), upload, parts: JoinSet::new() })
    }

    /// Reads a whole small object, `None` if it is not there.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, SnapshotError> {
        let read = async { self.store.get(&self.full(path)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed("read", path, e)),
        }
    }

    /// Reads a part of an object.
    pub(super) async fn get_part(&self, path: &str, start: u64, size: u64) -> Result<Vec<u8>, SnapshotError> {
        let range = start..size.min(start + PART_BYTES as u64);
        self.store.get_range(&self.full(path), range).await.map(Into::into).map_err(|e| self.failed("read", path, e))
    }

    /// The names of the objects in a folder, sorted.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<String>, SnapshotError> {
        let full = self.full(folder);
        let listed = self.store.list_with_delimiter(Some(&full)).await.map_err(|e| self.failed("list", folder, e))?;
        let mut names: Vec<String> = listed.objects.iter().filter_map(|meta| meta.location.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    fn full(&self, path: &str) -> ObjectPath {
        path.split('/').fold(self.prefix.clone(), |full, part| full.join(part))
    }

    fn failed(&self, action: &'static str, path: &str, source: Error) -> SnapshotError {
        SnapshotError::Store { action, path: path.to_owned(), place: self.name.clone(), reason: innermost(&source) }
    }
}

/// A large object that is being written. Dropped without being finished, it is not there.
pub(super) struct Upload<'a> {
    place: &'a Place,
    path: String,
    upload: Box<dyn MultipartUpload>,
    parts: JoinSet<object_store::Result<()>>,
}

impl Upload<'_> {
    /// Writes the next part: all but the last have the same length.
    pub async fn part(&mut self, bytes: Vec<u8>) -> Result<(), SnapshotError> {
        while self.parts.len() >= MAX_PARTS {
            self.one_done().await?;
        }
        let part: UploadPart = self.upload.put_part(PutPayload::from(bytes));
        self.parts.spawn(part);
        Ok(())
    }

    pub async fn finish(mut self) -> Result<(), SnapshotError> {
        while !self.parts.is_empty() {
            self.one_done().await?;
        }
        self.upload.complete().await.map(drop).map_err(|e| self.place.failed("finish writing", &self.path, e))
    }

    /// Takes back what was written. What cannot be taken back is for the store's own rule about unfinished uploads.
    pub async fn abort(mut self) {
        self.parts.shutdown().await;
        if let Err(e) = self.upload.abort().await {
            tracing::warn!(path = self.path, error = %e, "could not take back an unfinished upload");
        }
    }

    async fn one_done(&mut self) -> Result<(), SnapshotError> {
        match self.parts.join_next().await {
            Some(Ok(Err(e))) => Err(self.place.failed("write", &self.path, e)),
            Some(Err(_)) => Err(SnapshotError::WorkerLost),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }
}

/// The folder that a plain path or a `file://` URL names.
fn folder_of(name: &str) -> Option<PathBuf> {
    match name.split_once("://") {
        None => Some(Path::new(name).to_owned()),
        Some(("file", path)) => Some(Path::new(path).to_owned()),
        Some(_) => None,
    }
}

/// What a store or the network said: the errors around it repeat each other.
fn innermost(error: &dyn std::error::Error) -> String {
    const MAX_CHARS: usize = 300;
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().chars().take(MAX_CHARS).collect()
}

/// The store that a URL's scheme and bucket name.
fn remote(scheme: &str, bucket: &str) -> Result<Arc<dyn ObjectStore>, String> {
    match scheme {
        "s3" | "s3a" | "gs" | "az" | "azure" => build_remote(scheme, bucket),
        other => Err(format!("{other}:// is not known")),
    }
}

#[cfg(feature = "object-store")]
fn build_remote(scheme: &str, bucket: &str) -> Result<Arc<dyn ObjectStore>, String> {
    use object_store::RetryConfig;
    use object_store::aws::AmazonS3Builder;
    use object_store::azure::MicrosoftAzureBuilder;
    use object_store::gcp::GoogleCloudStorageBuilder;

    crate::tls::choose_cryptography();
    // Long enough for a busy store, short enough that a wrong address does not look like one.
    let retry = RetryConfig { max_retries: 6, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() };
    fn shared<S: ObjectStore>(built: object_store::Result<S>) -> Result<Arc<dyn ObjectStore>, String> {
        built.map(|store| Arc::new(store) as Arc<dyn ObjectStore>).map_err(|e| innermost(&e))
    }
    match scheme {
        "gs" => shared(GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry).build()),
        "az" | "azure" => shared(MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_retry(retry).build()),
        _ => shared(AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry).build()),
    }
}

#[cfg(not(feature = "object-store"))]
fn build_remote(_: &str, _: &str) -> Result<Arc<dyn ObjectStore>, String> {
    Err(crate::optional::OBJECT_STORE.missing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_names_that_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b").display().to_string();
        assert!(Place::open(&folder).unwrap_err().to_string().contains("no such folder"));
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        for inside in ["data", "data/deeper/still", "data/../data/x"] {
            let refused = Place::create(&dir.path().join(inside).display().to_string(), &data).unwrap_err().to_string();
            assert!(refused.contains("lies in the data folder"), "{inside}: {refused}");
        }
        Place::create(&format!("file://{folder}"), &data).unwrap();
        Place::open(&folder).unwrap();
        #[cfg(feature = "object-store")]
        assert_eq!(Place::open("s3://bucket/some/prefix/").unwrap().full("snapshots/x.json").as_ref(), "some/prefix/snapshots/x.json");
        #[cfg(not(feature = "object-store"))]
        assert!(Place::open("s3://bucket/x").unwrap_err().to_string().contains("--features object-store"));
        for (name, word) in [("ftp://host/x", "not known"), ("s3://", "bucket"), ("s3:///x", "bucket")] {
            assert!(Place::open(name).unwrap_err().to_string().contains(word), "{name}");
        }
    }
}
