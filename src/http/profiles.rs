//! Profiles: what gives candidates their scores, kept with a collection.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;

use super::body::JsonBody;
use super::collections::{blocking, existing, reading};
use super::error::{ApiError, ErrorBody};
use super::path::PathParts;
use super::{Services, auth};
use crate::pipeline::{FROM_TEXT, ProfileContents, ProfileInfo};
use kindred_core::domain::CollectionName;
use kindred_core::error::ErrorKind;

/// All profiles of a collection.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProfileList {
    profiles: Vec<ProfileInfo>,
}

/// What became of a profile.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PutProfile {
    name: String,
    version: u64,
}

/// What was deleted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedProfile {
    deleted: String,
}

/// A name that cannot be one is that of no profile.
fn named(name: &str) -> Result<CollectionName, ApiError> {
    CollectionName::new(name).map_err(|e| ApiError::new(ErrorKind::NotFound, e.to_string(), Some("profile".to_owned())))
}

/// List the profiles of a collection.
#[utoipa::path(get, path = "/v1/collections/{collection}/profiles",
    responses((status = 200, body = ProfileList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn list(State(services): State<Arc<Services>>, PathParts(collection): PathParts<String>) -> Result<Json<ProfileList>, ApiError> {
    let name = existing(&collection)?;
    let mut profiles = reading(move || services.profiles.list(&name)).await?;
    // Directions are names of collections, but for `text`.
    profiles.iter_mut().for_each(|profile| profile.directions.retain(|direction| direction == FROM_TEXT || auth::sees(direction)));
    Ok(Json(ProfileList { profiles }))
}

/// Look at a profile.
#[utoipa::path(get, path = "/v1/collections/{collection}/profiles/{profile}",
    responses((status = 200, body = ProfileContents), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn get(
    State(services): State<Arc<Services>>,
    PathParts((collection, profile)): PathParts<(String, String)>,
) -> Result<Json<ProfileContents>, ApiError> {
    Ok(Json(services.profiles.get(&existing(&collection)?, &named(&profile)?)?))
}

/// Keep a profile: by direction, weights of features, or what `kindred train rescore` has learned, and the adapter of `kindred train adapter`,
/// which must be of the model of the collection. Searches use it at once.
#[utoipa::path(put, path = "/v1/collections/{collection}/profiles/{profile}", request_body = Object,
    responses((status = 200, body = PutProfile), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn put(
    State(services): State<Arc<Services>>,
    PathParts((collection, profile)): PathParts<(String, String)>,
    JsonBody(json): JsonBody<Box<RawValue>>,
) -> Result<Json<PutProfile>, ApiError> {
    services.may_write()?;
    let (collection, name) = (existing(&collection)?, CollectionName::new(profile)?);
    let profiles = Arc::clone(&services.profiles);
    let put = blocking(move || {
        let version = profiles.put(&collection, &name, json)?;
        Ok(Json(PutProfile { name: name.to_string(), version }))
    });
    Ok(put.await?)
}

/// Delete a stored profile. One of its name in the settings counts again.
#[utoipa::path(delete, path = "/v1/collections/{collection}/profiles/{profile}",
    responses((status = 200, body = DeletedProfile), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn delete(
    State(services): State<Arc<Services>>,
    PathParts((collection, profile)): PathParts<(String, String)>,
) -> Result<Json<DeletedProfile>, ApiError> {
    services.may_write()?;
    let (collection, name) = (existing(&collection)?, named(&profile)?);
    let profiles = Arc::clone(&services.profiles);
    let deleted = blocking(move || {
        profiles.delete(&collection, &name)?;
        Ok(Json(DeletedProfile { deleted: name.to_string() }))
    });
    Ok(deleted.await?)
}
