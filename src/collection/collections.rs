//! All collections of a data folder.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::{Access, Collection, CollectionError, Description, Meaning, ModelIdentity, OpenOptions, generation};
use kindred_core::domain::{CollectionDefinition, CollectionName};
use kindred_core::storage::{self, Lock};

/// Says which model embeds a collection's documents: the configured one, or that of a folder, with the collection's prompts. The
/// error says why a folder's model cannot be used.
pub type IdentifyModel =
    Arc<dyn Fn(&CollectionDefinition, Option<&str>) -> Result<ModelIdentity, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// A folder of a collection that is being deleted ends with this, so that a crash leaves no half of it to be opened.
const DELETED: &str = ".deleted";

/// The open collections of one data folder. It is locked against other processes unless opened for reading.
pub struct Collections {
    data_dir: PathBuf,
    options: OpenOptions,
    configured: BTreeMap<CollectionName, CollectionDefinition>,
    identify: IdentifyModel,
    open: RwLock<BTreeMap<CollectionName, Arc<Collection>>>,
    /// Held while a collection is made or deleted.
    changing: Mutex<()>,
    _lock: Option<Lock>,
}

impl std::fmt::Debug for Collections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collections").field("data_dir", &self.data_dir).field("access", &self.options.access).finish_non_exhaustive()
    }
}

impl Collections {
    /// Opens all collections of a data folder and makes those of the configuration that are not there yet.
    ///
    /// # Errors
    /// Any collection that cannot be opened; [`kindred_core::storage::StorageError::Locked`] when another process has the folder.
    pub fn open(
        data_dir: &Path,
        configured: BTreeMap<CollectionName, CollectionDefinition>,
        identify: IdentifyModel,
        options: OpenOptions,
    ) -> Result<Self, CollectionError> {
        let access = options.access;
        match access {
            Access::Read if !data_dir.exists() => return Err(CollectionError::NoDataDir { path: data_dir.to_owned() }),
            Access::Read => {}
            Access::Serve | Access::Rebuild => storage::create_dir(data_dir)?,
        }
        let lock = if access == Access::Read { None } else { Some(Lock::acquire(&data_dir.join("LOCK"))?) };
        let collections = Self {
            data_dir: data_dir.to_owned(),
            options,
            configured,
            identify,
            open: RwLock::default(),
            changing: Mutex::new(()),
            _lock: lock,
        };
        for entry in storage::list_dir(data_dir)? {
            let dir = data_dir.join(&entry);
            if entry.ends_with(DELETED) && access != Access::Read {
                storage::remove_dir(&dir)?;
            } else if let Ok(name) = CollectionName::new(entry)
                && let Some(stored) = generation::description(&dir)?
            {
                let definition = collections.configured.get(&name).unwrap_or(&stored.definition).clone();
                // Whoever rebuilds may do so to get rid of a model that is not there any more.
                let folder = stored.model.folder.as_deref().filter(|_| access != Access::Rebuild);
                let wanted = collections.describe(&name, &definition, folder)?;
                collections.open_one(&name, &wanted)?;
            }
        }
        for (name, definition) in &collections.configured {
            if collections.find(name).is_none() && access != Access::Read {
                collections.create(name, definition)?;
            }
        }
        Ok(collections)
    }

    /// The folder of all of them.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The collection of this name.
    ///
    /// # Errors
    /// [`CollectionError::Unknown`] lists those there are.
    pub fn get(&self, name: &CollectionName) -> Result<Arc<Collection>, CollectionError> {
        self.find(name).ok_or_else(|| CollectionError::Unknown { name: name.to_string(), known: self.known() })
    }

    /// All collections, by name.
    pub fn all(&self) -> Vec<Arc<Collection>> {
        self.read(|open| open.values().cloned().collect())
    }

    /// Makes a collection, or finds that it is there with the same definition. Returns whether it is new.
    ///
    /// # Errors
    /// [`CollectionError::Exists`] when it has another definition; [`CollectionError::Definition`].
    pub fn put(&self, name: &CollectionName, definition: &CollectionDefinition) -> Result<bool, CollectionError> {
        Meaning::of(name, definition)?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = self.find(name) {
            let same = existing.searcher().description().definition == *definition;
            return if same { Ok(false) } else { Err(CollectionError::Exists { name: name.to_string() }) };
        }
        self.create(name, definition)?;
        Ok(true)
    }

    /// Deletes a collection and its documents. One that comes from the configuration is there again at once, empty.
    ///
    /// # Errors
    /// [`CollectionError::Unknown`]; [`CollectionError::Storage`].
    pub fn delete(&self, name: &CollectionName) -> Result<(), CollectionError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let collection = self.get(name)?;
        let dir = self.data_dir.join(name.as_str());
        let aside = self.data_dir.join(format!("{name}{DELETED}"));
        collection.set_closed(true);
        let moved = storage::remove_dir(&aside).and_then(|()| storage::publish_dir(&dir, &aside));
        if dir.exists() {
            collection.set_closed(false);
        } else {
            self.open.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        }
        moved?;
        if let Err(e) = storage::remove_dir(&aside) {
            tracing::warn!(collection = %name, error = %e, "deleted, but its files could not be removed; the next start tries again");
        }
        match self.configured.get(name) {
            Some(definition) => self.create(name, definition),
            None => Ok(()),
        }
    }

    /// What a collection of this definition would be with the configured model, or with that of a folder beside it.
    ///
    /// # Errors
    /// [`CollectionError::Model`] when there is no such model.
    pub fn describe(
        &self,
        name: &CollectionName,
        definition: &CollectionDefinition,
        folder: Option<&str>,
    ) -> Result<Description, CollectionError> {
        let model = (self.identify)(definition, folder).map_err(|source| CollectionError::Model {
            name: name.to_string(),
            folder: folder.unwrap_or_default().to_owned(),
            source,
        })?;
        Ok(Description { definition: definition.clone(), model })
    }

    /// Whether the collection of this name comes from the configuration, which then says what it is.
    pub fn is_configured(&self, name: &CollectionName) -> bool {
        self.configured.contains_key(name)
    }

    /// The definition that a collection should have: the configuration's, else its own.
    pub fn wanted_definition(&self, collection: &Collection) -> CollectionDefinition {
        self.configured.get(collection.name()).unwrap_or(&collection.searcher().description().definition).clone()
    }

    fn create(&self, name: &CollectionName, definition: &CollectionDefinition) -> Result<(), CollectionError> {
        Meaning::of(name, definition)?;
        let description = self.describe(name, definition, None)?;
        Collection::create(&self.data_dir.join(name.as_str()), &description)?;
        self.open_one(name, &description)
    }

    fn open_one(&self, name: &CollectionName, wanted: &Description) -> Result<(), CollectionError> {
        let collection = Collection::open(name, &self.data_dir.join(name.as_str()), wanted, &self.options)?;
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), Arc::new(collection));
        Ok(())
    }

    fn find(&self, name: &CollectionName) -> Option<Arc<Collection>> {
        self.read(|open| open.get(name).cloned())
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<CollectionName, Arc<Collection>>) -> T) -> T {
        look(&self.open.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self) -> String {
        let names = self.read(|open| open.keys().map(ToString::to_string).collect::<Vec<_>>());
        if names.is_empty() { "there is none yet".to_owned() } else { format!("there are {}", names.join(", ")) }
    }
}
