//! What gives candidates their scores: profiles of the settings, and those that were put into a collection.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::PipelineError;
use super::request::ProfileChoice;
use crate::adapter::Adapter;
use crate::collection::{Collection, Collections, Searcher, StoredProfile};
use crate::rescore::{DEFAULT_PROFILE, FROM_TEXT, Profile, Profiles, RescoreError, Scorer, Weights, default_weights};
use kindred_core::domain::{CollectionName, Schema};

/// A profile, as lists tell of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProfileInfo {
    pub name: String,
    /// How often it was put; not there for one of the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    pub directions: Vec<String>,
}

/// A profile, whole.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProfileContents {
    pub name: String,
    /// How often it was put; not there for one of the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[schema(value_type = Object)]
    pub profile: Box<RawValue>,
}

/// What a stored profile means to documents of a schema.
#[derive(Debug)]
struct Read {
    stored: Arc<StoredProfile>,
    schema: Arc<Schema>,
    profile: Arc<WholeProfile>,
}

/// A profile with all that stands in it.
#[derive(Debug)]
struct WholeProfile {
    profile: Profile,
    /// By direction.
    adapters: BTreeMap<String, Arc<Adapter>>,
}

/// What a profile says about one direction.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub scorer: Scorer,
    /// What is done to the query's embedding first.
    pub adapter: Option<Arc<Adapter>>,
}

impl From<Scorer> for Chosen {
    fn from(scorer: Scorer) -> Self {
        Self { scorer, adapter: None }
    }
}

impl WholeProfile {
    fn parse(json: &str, schema: &Schema) -> Result<Self, PipelineError> {
        let profile = Profile::parse(json, schema)?;
        let read = |(direction, json): (&str, &Json)| {
            let adapter = Adapter::read(json).map_err(|source| PipelineError::Adapter { direction: direction.to_owned(), source })?;
            Ok((direction.to_owned(), Arc::new(adapter)))
        };
        let adapters = profile.adapters().map(read).collect::<Result<_, PipelineError>>()?;
        Ok(Self { profile, adapters })
    }
}

/// Finds profiles. One that was put into a collection goes before one of its name in the settings.
#[derive(Debug)]
pub struct ProfileCatalog {
    collections: Arc<Collections>,
    /// Those of the settings, by collection and name.
    configured: BTreeMap<CollectionName, BTreeMap<String, Profile>>,
    /// What stored profiles mean, by collection and name, with what was read.
    read: Mutex<HashMap<(CollectionName, String), Read>>,
}

impl ProfileCatalog {
    pub fn new(collections: Arc<Collections>, configured: BTreeMap<CollectionName, Profiles>) -> Self {
        let configured = configured.into_iter().map(|(collection, profiles)| (collection, profiles.read())).collect();
        Self { collections, configured, read: Mutex::default() }
    }

    /// What gives the candidates of a search their scores, and what is done to its query before.
    ///
    /// # Errors
    /// [`RescoreError::UnknownProfile`]; the default profile is always there. What is wrong with one that the request brings itself.
    pub(super) fn chosen(
        &self,
        collection: &Collection,
        searcher: &Searcher,
        choice: Option<&ProfileChoice>,
        direction: &str,
    ) -> Result<Chosen, PipelineError> {
        let name = match choice {
            Some(ProfileChoice::Inline(json)) => {
                let scorer = Profile::read_one(json, &searcher.meaning().schema)?;
                let wrong = |source| PipelineError::Adapter { direction: direction.to_owned(), source };
                let adapter = json.get("adapter").map(Adapter::read).transpose().map_err(wrong)?;
                let model = &searcher.description().model;
                adapter.iter().try_for_each(|adapter| adapter.check(&model.fingerprint, model.dims)).map_err(wrong)?;
                return Ok(Chosen { scorer, adapter: adapter.map(Arc::new) });
            }
            Some(ProfileChoice::Named(name)) => name,
            None => DEFAULT_PROFILE,
        };
        let stored = collection.profiles();
        if let Some(stored) = stored.get(name) {
            let whole = self.profile(collection.name(), name, stored, &searcher.meaning().schema)?;
            return Ok(Chosen { scorer: whole.profile.scorer(direction), adapter: whole.adapters.get(direction).cloned() });
        }
        let configured = self.configured.get(collection.name());
        match configured.and_then(|profiles| profiles.get(name)) {
            Some(profile) => Ok(profile.scorer(direction).into()),
            None if name == DEFAULT_PROFILE => Ok(Scorer::Weights(default_weights()).into()),
            None => {
                let names =
                    configured.into_iter().flat_map(BTreeMap::keys).chain(stored.keys()).map(String::as_str).chain([DEFAULT_PROFILE]);
                let known: Vec<&str> = names.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
                Err(RescoreError::UnknownProfile { name: name.to_owned(), known: format!("there are {}", known.join(", ")) }.into())
            }
        }
    }

    /// What the settings say that candidates of a direction are scored by, where a search names no profile.
    pub fn configured_weights(&self, collection: &CollectionName, direction: &str) -> Weights {
        let configured = self.configured.get(collection).and_then(|profiles| profiles.get(DEFAULT_PROFILE)?.weights(direction));
        configured.unwrap_or_else(default_weights)
    }

    fn profile(
        &self,
        collection: &CollectionName,
        name: &str,
        stored: &Arc<StoredProfile>,
        schema: &Arc<Schema>,
    ) -> Result<Arc<WholeProfile>, PipelineError> {
        let key = (collection.clone(), name.to_owned());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(&key)
            && Arc::ptr_eq(&known.stored, stored)
            && known.schema == *schema
        {
            return Ok(Arc::clone(&known.profile));
        }
        let profile = Arc::new(WholeProfile::parse(stored.json.get(), schema)?);
        read.insert(key, Read { stored: Arc::clone(stored), schema: Arc::clone(schema), profile: Arc::clone(&profile) });
        Ok(profile)
    }

    /// All profiles of a collection.
    ///
    /// # Errors
    /// An unknown collection; a stored profile that cannot be read.
    pub fn list(&self, collection: &CollectionName) -> Result<Vec<ProfileInfo>, PipelineError> {
        let collection = self.collections.get(collection)?;
        // There is always one.
        let by_default = ProfileInfo { name: DEFAULT_PROFILE.to_owned(), version: None, directions: vec![FROM_TEXT.to_owned()] };
        let mut all = BTreeMap::from([(DEFAULT_PROFILE.to_owned(), by_default)]);
        for (name, profile) in self.configured.get(collection.name()).into_iter().flatten() {
            all.insert(name.clone(), ProfileInfo { name: name.clone(), version: None, directions: profile.directions() });
        }
        for (name, stored) in collection.profiles().iter() {
            let whole = self.profile(collection.name(), name, stored, &collection.searcher().meaning().schema)?;
            let directions = whole.profile.directions();
            all.insert(name.clone(), ProfileInfo { name: name.clone(), version: Some(stored.version), directions });
        }
        Ok(all.into_values().collect())
    }

    /// A profile, stored or of the settings.
    ///
    /// # Errors
    /// [`PipelineError::NoProfile`].
    pub fn get(&self, collection: &CollectionName, name: &CollectionName) -> Result<ProfileContents, PipelineError> {
        let collection = self.collections.get(collection)?;
        if let Some(stored) = collection.profiles().get(name.as_str()) {
            return Ok(ProfileContents { name: name.to_string(), version: Some(stored.version), profile: stored.json.clone() });
        }
        let configured = self.configured.get(collection.name()).and_then(|profiles| profiles.get(name.as_str()));
        let weights = match configured {
            Some(profile) => {
                let weights = |direction: String| Some((direction.clone(), profile.weights(&direction)?));
                profile.directions().into_iter().filter_map(weights).collect()
            }
            None if name.as_str() == DEFAULT_PROFILE => BTreeMap::from([(FROM_TEXT.to_owned(), default_weights())]),
            None => return Err(no_profile(&collection, name)),
        };
        let directions: serde_json::Map<String, Json> =
            weights.into_iter().map(|(direction, weights)| (direction, Profile::write_weights(&weights))).collect();
        let profile = serde_json::value::to_raw_value(&json!({"directions": directions})).expect("names and numbers");
        Ok(ProfileContents { name: name.to_string(), version: None, profile })
    }

    /// Keeps a profile. Returns its version. Waits for the disk.
    ///
    /// # Errors
    /// [`RescoreError`] says what is wrong with it; an adapter must be for the model that the collection's embeddings are of.
    pub fn put(&self, collection: &CollectionName, name: &CollectionName, json: Box<RawValue>) -> Result<u64, PipelineError> {
        let collection = self.collections.get(collection)?;
        let searcher = collection.searcher();
        let model = &searcher.description().model;
        for (direction, adapter) in WholeProfile::parse(json.get(), &searcher.meaning().schema)?.adapters {
            adapter.check(&model.fingerprint, model.dims).map_err(|source| PipelineError::Adapter { direction, source })?;
        }
        Ok(collection.put_profile(name, json)?)
    }

    /// Deletes a stored profile; one of its name in the settings counts again. Waits for the disk.
    ///
    /// # Errors
    /// [`PipelineError::NoProfile`].
    pub fn delete(&self, collection: &CollectionName, name: &CollectionName) -> Result<(), PipelineError> {
        let collection = self.collections.get(collection)?;
        if collection.delete_profile(name)? { Ok(()) } else { Err(no_profile(&collection, name)) }
    }
}

fn no_profile(collection: &Collection, name: &CollectionName) -> PipelineError {
    PipelineError::NoProfile { collection: collection.name().to_string(), name: name.to_string() }
}
