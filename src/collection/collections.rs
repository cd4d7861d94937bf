//! All collections of a data folder.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::{Access, Collection, CollectionError, Description, Meaning, ModelIdentity, OpenOptions, generation};
use crate::telemetry::metrics;
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
    slots: RwLock<BTreeMap<CollectionName, Slot>>,
    /// Held while a collection is made or deleted.
    changing: Mutex<()>,
    _lock: Option<Lock>,
}

/// A collection, or the reason why it is not served.
#[derive(Debug, Clone)]
enum Slot {
    Open(Arc<Collection>),
    Damaged(Arc<CollectionError>),
}

impl std::fmt::Debug for Collections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collections").field("data_dir", &self.data_dir).field("access", &self.options.access).finish_non_exhaustive()
    }
}

impl Collections {
    /// Opens all collections of a data folder and creates those of the configuration that do not exist yet. A damaged collection is
    /// logged and left out: see [`Self::damaged`].
    ///
    /// # Errors
    /// [`CollectionError::OtherModel`], [`CollectionError::OtherDefinition`] and other mistakes of a configuration;
    /// [`kindred_core::storage::StorageError::Locked`] when another process has the folder.
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
            slots: RwLock::default(),
            changing: Mutex::new(()),
            _lock: lock,
        };
        for entry in storage::list_dir(data_dir)? {
            let dir = data_dir.join(&entry);
            if entry.ends_with(DELETED) && access != Access::Read {
                storage::remove_dir(&dir)?;
            } else if let Ok(name) = CollectionName::new(entry)
                && let Err(e) = collections.open_existing(&name, &dir)
            {
                collections.note_damage(&name, e)?;
            }
        }
        for (name, definition) in &collections.configured {
            if collections.slot(name).is_none() && access != Access::Read {
                collections.create(name, definition)?;
            }
        }
        Ok(collections)
    }

    /// The folder of all of them.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Returns the collection of this name.
    ///
    /// # Errors
    /// [`CollectionError::Unknown`] has the names of those that exist, but its message does not; [`CollectionError::Damaged`].
    pub fn get(&self, name: &CollectionName) -> Result<Arc<Collection>, CollectionError> {
        match self.slot(name) {
            Some(Slot::Open(collection)) => Ok(collection),
            Some(Slot::Damaged(source)) => Err(CollectionError::Damaged { name: name.to_string(), source }),
            None => Err(CollectionError::Unknown { name: name.to_string(), known: self.known() }),
        }
    }

    /// Returns all collections that are served, by name.
    pub fn all(&self) -> Vec<Arc<Collection>> {
        let is_open = |slot: &Slot| if let Slot::Open(collection) = slot { Some(Arc::clone(collection)) } else { None };
        self.read(|slots| slots.values().filter_map(is_open).collect())
    }

    /// Returns the collections that are not served because their files are damaged, and why.
    pub fn damaged(&self) -> Vec<(CollectionName, Arc<CollectionError>)> {
        let damage = |(name, slot): (&CollectionName, &Slot)| match slot {
            Slot::Damaged(reason) => Some((name.clone(), Arc::clone(reason))),
            Slot::Open(_) => None,
        };
        self.read(|slots| slots.iter().filter_map(damage).collect())
    }

    /// Makes a collection, or finds that it is there with the same definition. Returns whether it is new.
    ///
    /// # Errors
    /// [`CollectionError::Exists`] when it has another definition; [`CollectionError::Definition`].
    pub fn put(&self, name: &CollectionName, definition: &CollectionDefinition) -> Result<bool, CollectionError> {
        Meaning::of(name, definition)?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.slot(name).is_some() {
            let existing = self.get(name)?;
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
        let collection = match self.get(name) {
            Ok(collection) => Some(collection),
            Err(CollectionError::Damaged { .. }) => None,
            Err(e) => return Err(e),
        };
        let set_closed = |closed| {
            if let Some(collection) = &collection {
                collection.set_closed(closed);
            }
        };
        let dir = self.data_dir.join(name.as_str());
        let aside = self.data_dir.join(format!("{name}{DELETED}"));
        set_closed(true);
        let moved = storage::remove_dir(&aside).and_then(|()| storage::publish_dir(&dir, &aside));
        if dir.exists() {
            set_closed(false);
        } else {
            self.slots.write().unwrap_or_else(PoisonError::into_inner).remove(name);
            metrics::collection_damaged(name.as_str(), false);
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

    /// Opens a folder if it is that of a collection.
    fn open_existing(&self, name: &CollectionName, dir: &Path) -> Result<(), CollectionError> {
        let Some(stored) = generation::description(dir)? else { return Ok(()) };
        let definition = self.configured.get(name).unwrap_or(&stored.definition).clone();
        // A rebuild may be started in order to replace a model that does not exist any more.
        let folder = stored.model.folder.as_deref().filter(|_| self.options.access != Access::Rebuild);
        let wanted = self.describe(name, &definition, folder)?;
        self.open_one(name, &wanted)
    }

    /// Leaves out a damaged collection; returns other errors.
    fn note_damage(&self, name: &CollectionName, e: CollectionError) -> Result<(), CollectionError> {
        if !e.is_damage() {
            return Err(e);
        }
        tracing::error!(collection = %name, error = %e, "the collection is damaged and is not served; all others are");
        self.set(name, Slot::Damaged(Arc::new(e)));
        Ok(())
    }

    fn open_one(&self, name: &CollectionName, wanted: &Description) -> Result<(), CollectionError> {
        let collection = Collection::open(name, &self.data_dir.join(name.as_str()), wanted, &self.options)?;
        self.set(name, Slot::Open(Arc::new(collection)));
        Ok(())
    }

    fn set(&self, name: &CollectionName, slot: Slot) {
        metrics::collection_damaged(name.as_str(), matches!(slot, Slot::Damaged(_)));
        self.slots.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), slot);
    }

    fn slot(&self, name: &CollectionName) -> Option<Slot> {
        self.read(|slots| slots.get(name).cloned())
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<CollectionName, Slot>) -> T) -> T {
        look(&self.slots.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self) -> Vec<String> {
        self.read(|slots| slots.keys().map(ToString::to_string).collect())
    }
}
