//! What gives candidates their scores: profiles of the settings, and those that were put into a collection.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::PipelineError;
use super::blocking::{Work, blocking};
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

/// A stored profile as it was parsed for documents of a schema.
#[derive(Debug, Clone)]
struct Read {
    /// Dead once the profile was replaced or deleted, or its collection was.
    stored: Weak<StoredProfile>,
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
    /// Parsed stored profiles, by collection and name. Searches read them without a lock.
    read: ArcSwap<BTreeMap<CollectionName, BTreeMap<String, Read>>>,
}

impl ProfileCatalog {
    pub fn new(collections: Arc<Collections>, configured: BTreeMap<CollectionName, Profiles>) -> Self {
        let configured = configured.into_iter().map(|(collection, profiles)| (collection, profiles.read())).collect();
        Self { collections, configured, read: ArcSwap::default() }
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

    /// Parses the stored profile that a search names, away from the threads that serve HTTP, unless that was done before. It is
    /// parsed when it is put; this is for the first search after a start, or after a change of the collection's definition.
    ///
    /// # Errors
    /// A stored profile that does not fit the documents any more.
    pub(super) async fn prepare(
        self: &Arc<Self>,
        collection: &Collection,
        searcher: &Searcher,
        choice: Option<&ProfileChoice>,
    ) -> Result<(), PipelineError> {
        let name = match choice {
            Some(ProfileChoice::Inline(_)) => return Ok(()),
            Some(ProfileChoice::Named(name)) => name,
            None => DEFAULT_PROFILE,
        };
        let profiles = collection.profiles();
        let Some(stored) = profiles.get(name) else { return Ok(()) };
        let schema = &searcher.meaning().schema;
        if self.known(collection.name(), name, stored, schema).is_some() {
            return Ok(());
        }
        let (catalog, collection, name) = (Arc::clone(self), collection.name().clone(), name.to_owned());
        let (stored, schema) = (Arc::clone(stored), Arc::clone(schema));
        blocking(Work::Read, move || catalog.profile(&collection, &name, &stored, &schema).map(drop)).await?
    }

    /// Parses a stored profile, unless that was done before.
    fn profile(
        &self,
        collection: &CollectionName,
        name: &str,
        stored: &Arc<StoredProfile>,
        schema: &Arc<Schema>,
    ) -> Result<Arc<WholeProfile>, PipelineError> {
        if let Some(known) = self.known(collection, name, stored, schema) {
            return Ok(known);
        }
        let profile = Arc::new(WholeProfile::parse(stored.json.get(), schema)?);
        self.keep(collection, name, stored, schema, &profile);
        Ok(profile)
    }

    fn known(
        &self,
        collection: &CollectionName,
        name: &str,
        stored: &Arc<StoredProfile>,
        schema: &Arc<Schema>,
    ) -> Option<Arc<WholeProfile>> {
        let all = self.read.load();
        let read = all.get(collection)?.get(name)?;
        let is_of = std::ptr::eq(read.stored.as_ptr(), Arc::as_ptr(stored));
        (is_of && (Arc::ptr_eq(&read.schema, schema) || read.schema == *schema)).then(|| Arc::clone(&read.profile))
    }

    /// Keeps a parsed profile, and drops those whose stored profile is gone.
    fn keep(
        &self,
        collection: &CollectionName,
        name: &str,
        stored: &Arc<StoredProfile>,
        schema: &Arc<Schema>,
        profile: &Arc<WholeProfile>,
    ) {
        let read = Read { stored: Arc::downgrade(stored), schema: Arc::clone(schema), profile: Arc::clone(profile) };
        self.read.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            all.entry(collection.clone()).or_default().insert(name.to_owned(), read.clone());
            all.values_mut().for_each(|of_one| of_one.retain(|_, read| read.stored.strong_count() > 0));
            all.retain(|_, of_one| !of_one.is_empty());
            all
        });
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
        let (model, schema) = (&searcher.description().model, &searcher.meaning().schema);
        let whole = Arc::new(WholeProfile::parse(json.get(), schema)?);
        for (direction, adapter) in &whole.adapters {
            let wrong = |source| PipelineError::Adapter { direction: direction.clone(), source };
            adapter.check(&model.fingerprint, model.dims).map_err(wrong)?;
        }
        let stored = collection.put_profile(name, json)?;
        self.keep(collection.name(), name.as_str(), &stored, schema, &whole);
        Ok(stored.version)
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
