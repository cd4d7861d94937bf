//! The profiles of a collection: small files that change while it serves, each replaced whole.
//!
//! *On disk*: `profiles/NAME.json`: `{"version": …, "profile": …}`. What a profile means is not known here.
//!
//! *Concurrency*: one writer at a time; searches take the profiles as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Collection, CollectionError};
use kindred_core::domain::CollectionName;
use kindred_core::storage::{self, StorageError};

/// Folder of the profiles.
const PROFILES: &str = "profiles";
const EXTENSION: &str = ".json";
/// Most profiles of a collection.
const MAX_PROFILES: usize = 1_000;

/// A stored profile.
#[derive(Debug)]
pub struct StoredProfile {
    /// Counts how often it was put.
    pub version: u64,
    pub json: Box<RawValue>,
}

/// By name.
pub type StoredProfiles = BTreeMap<String, Arc<StoredProfile>>;

#[derive(Serialize, Deserialize)]
struct File {
    version: u64,
    profile: Box<RawValue>,
}

/// All profiles of a collection's folder.
pub(super) fn read_all(dir: &Path) -> Result<StoredProfiles, StorageError> {
    let mut profiles = StoredProfiles::new();
    for (name, path) in paths(dir)? {
        // One that is deleted meanwhile is gone.
        let Some(bytes) = storage::read_file(&path)? else { continue };
        let File { version, profile } = serde_json::from_slice(&bytes).map_err(|e| StorageError::corrupt(&path, e.to_string()))?;
        profiles.insert(name, Arc::new(StoredProfile { version, json: profile }));
    }
    Ok(profiles)
}

/// Name and file of each profile.
fn paths(dir: &Path) -> Result<Vec<(String, PathBuf)>, StorageError> {
    let dir = dir.join(PROFILES);
    let named = |file: String| Some((file.strip_suffix(EXTENSION)?.to_owned(), dir.join(&file)));
    Ok(storage::list_dir(&dir)?.into_iter().filter_map(named).collect())
}

/// The files of all profiles: name below the collection's folder, path, length.
pub(super) fn files(dir: &Path) -> Result<Vec<(String, PathBuf, u64)>, StorageError> {
    let of = |(name, path): (String, PathBuf)| {
        let len = storage::file_len(&path)?;
        Ok((format!("{PROFILES}/{name}{EXTENSION}"), path, len))
    };
    paths(dir)?.into_iter().map(of).collect()
}

impl Collection {
    /// The stored profiles as they are now.
    pub fn profiles(&self) -> Arc<StoredProfiles> {
        self.profiles.load_full()
    }

    /// Keeps a profile, durably: searches from now on find it. Returns it with its version. What reads as a collection's name is a profile's name.
    ///
    /// # Errors
    /// [`CollectionError::TooManyProfiles`], [`CollectionError::ReadOnly`], [`CollectionError::Storage`].
    pub fn put_profile(&self, name: &CollectionName, json: Box<RawValue>) -> Result<Arc<StoredProfile>, CollectionError> {
        self.change_profiles(|dir, profiles| {
            let version = profiles.get(name.as_str()).map_or(1, |stored| stored.version + 1);
            if profiles.len() >= MAX_PROFILES && version == 1 {
                return Err(CollectionError::TooManyProfiles { name: self.name().to_string(), limit: MAX_PROFILES });
            }
            let file = File { version, profile: json };
            let bytes = serde_json::to_vec(&file).expect("it is JSON already");
            storage::create_dir(dir)?;
            storage::replace_file(&dir.join(format!("{name}{EXTENSION}")), &bytes)?;
            let stored = Arc::new(StoredProfile { version, json: file.profile });
            profiles.insert(name.to_string(), Arc::clone(&stored));
            Ok(stored)
        })
    }

    /// Deletes a stored profile. Returns whether there was one.
    ///
    /// # Errors
    /// [`CollectionError::ReadOnly`], [`CollectionError::Storage`].
    pub fn delete_profile(&self, name: &CollectionName) -> Result<bool, CollectionError> {
        self.change_profiles(|dir, profiles| {
            let was_there = profiles.remove(name.as_str()).is_some();
            if was_there {
                storage::remove_file(&dir.join(format!("{name}{EXTENSION}")))?;
            }
            Ok(was_there)
        })
    }

    fn change_profiles<T>(
        &self,
        change: impl FnOnce(&Path, &mut StoredProfiles) -> Result<T, CollectionError>,
    ) -> Result<T, CollectionError> {
        // Excludes other changes of profiles, and changes while files are pinned.
        let _files = self.lock_files();
        // A deleted collection must not write into a new one of the same name. It is closed under this lock.
        let _state = self.lock_state()?;
        let mut profiles = StoredProfiles::clone(&self.profiles.load());
        let changed = change(&self.dir.join(PROFILES), &mut profiles)?;
        self.profiles.store(Arc::new(profiles));
        Ok(changed)
    }
}
