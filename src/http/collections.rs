//! Collections: what there is, making and deleting.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::body::JsonBody;
use super::error::{ApiError, ErrorBody};
use super::path::PathParts;
use super::{Services, auth};
use crate::pipeline::{self, CollectionInfo, DamagedCollection, PipelineError, Work};
use kindred_core::domain::{CollectionDefinition, CollectionName};
use kindred_core::error::ErrorKind;

/// All collections.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CollectionList {
    collections: Vec<CollectionInfo>,
    /// Collections that are not served because their files are damaged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<DamagedCollection>,
}

/// What was deleted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Deleted {
    deleted: String,
}

/// The name of a collection that should be there. One that cannot be a name is one that is not there.
pub(super) fn existing(name: &str) -> Result<CollectionName, ApiError> {
    let name = CollectionName::new(name).map_err(|e| ApiError::new(ErrorKind::NotFound, e.to_string(), Some("collection".to_owned())))?;
    visible(&name)?;
    Ok(name)
}

/// A collection's name in a request's body. [`Named::check`] is the only way to it, so that no handler forgets that a key may be of
/// other collections.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Named(String);

impl Named {
    /// Returns the name, if the caller may see the collection.
    ///
    /// # Errors
    /// As [`existing`], about the field of the body that names it.
    pub(super) fn check(&self, field: &str) -> Result<CollectionName, ApiError> {
        existing(&self.0).map_err(|e| e.about(field))
    }
}

/// Refuses a collection that the caller may not see, in the same words whether it exists or not.
fn visible(name: &CollectionName) -> Result<(), ApiError> {
    if auth::sees(name.as_str()) {
        return Ok(());
    }
    let message = format!("this API key is not for collection {:?}", name.as_str());
    Err(ApiError::refused(StatusCode::FORBIDDEN, "forbidden", message).about("collection"))
}

/// List the collections.
#[utoipa::path(get, path = "/v1/collections", responses((status = 200, body = CollectionList)))]
pub async fn list(State(services): State<Arc<Services>>) -> Json<CollectionList> {
    let mut collections = services.catalog.list();
    collections.retain(|collection| auth::sees(&collection.name));
    let mut damaged = services.catalog.damaged();
    damaged.retain(|collection| auth::sees(&collection.name));
    Json(CollectionList { collections, damaged })
}

/// Look at a collection.
#[utoipa::path(get, path = "/v1/collections/{collection}", responses((status = 200, body = CollectionInfo), (status = "4XX", body = ErrorBody)))]
pub async fn get(State(services): State<Arc<Services>>, PathParts(name): PathParts<String>) -> Result<Json<CollectionInfo>, ApiError> {
    Ok(Json(services.catalog.get(&existing(&name)?)?))
}

/// Make a collection. Making it again with the same definition changes nothing.
#[utoipa::path(put, path = "/v1/collections/{collection}", request_body = CollectionDefinition,
    responses((status = 201, body = CollectionInfo), (status = 200, body = CollectionInfo), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn put(
    State(services): State<Arc<Services>>,
    PathParts(name): PathParts<String>,
    JsonBody(definition): JsonBody<CollectionDefinition>,
) -> Result<(StatusCode, Json<CollectionInfo>), ApiError> {
    services.may_write()?;
    let name = CollectionName::new(name)?;
    let catalog = Arc::clone(&services.catalog);
    let made = blocking(move || {
        let is_new = catalog.put(&name, &definition)?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok((status, Json(catalog.get(&name)?)))
    });
    Ok(made.await?)
}

/// Delete a collection and its documents. One that comes from the configuration is there again at once, empty.
#[utoipa::path(delete, path = "/v1/collections/{collection}",
    responses((status = 200, body = Deleted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn delete(State(services): State<Arc<Services>>, PathParts(name): PathParts<String>) -> Result<Json<Deleted>, ApiError> {
    services.may_write()?;
    let name = existing(&name)?;
    let catalog = Arc::clone(&services.catalog);
    let deleted = blocking(move || {
        catalog.delete(&name)?;
        Ok(Json(Deleted { deleted: name.to_string() }))
    });
    Ok(deleted.await?)
}

/// Runs work that changes collections, generations or profiles away from the threads that serve HTTP.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PipelineError> + Send + 'static,
) -> Result<T, PipelineError> {
    pipeline::blocking(Work::Change, work).await?
}

/// Runs work that reads stored documents away from the threads that serve HTTP.
pub(super) async fn reading<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PipelineError> + Send + 'static,
) -> Result<T, PipelineError> {
    pipeline::blocking(Work::Read, work).await?
}
