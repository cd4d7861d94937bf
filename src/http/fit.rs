//! What a posting asks for, held against a member.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::Services;
use super::body::JsonBody;
use super::collections::existing;
use super::error::{ApiError, ErrorBody};
use super::search::{Id, located};
use crate::pipeline::{FitReport, FitRequest};
use kindred_core::domain::{CollectionName, DocumentId};

/// Collections that are always there.
pub(super) const MEMBERS: &str = "members";
pub(super) const JOBS: &str = "jobs";

/// A document: its id, or its id and its collection.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected an id, or an object such as {\"collection\": \"members\", \"id\": \"m7\"}")]
pub enum DocumentBody {
    /// Of the collection `members`, or `jobs`.
    Id(Id),
    Of(DocumentOf),
}

/// A document of any collection.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentOf {
    collection: String,
    id: Id,
}

impl DocumentBody {
    fn check(self, usual: &str, field: &str) -> Result<(CollectionName, DocumentId), ApiError> {
        let (collection, id, at) = match self {
            Self::Id(id) => (usual.to_owned(), id, field.to_owned()),
            Self::Of(DocumentOf { collection, id }) => (collection, id, format!("{field}.id")),
        };
        Ok((existing(&collection).map_err(|e| e.about(&format!("{field}.collection")))?, id.check(&at)?))
    }
}

/// Whose documents are held against each other.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"member": "m7", "job": "j813"}))]
pub struct FitBody {
    member: DocumentBody,
    job: DocumentBody,
}

/// List what a posting asks for, and what a member's document shows of it.
#[utoipa::path(post, path = "/v1/fit", request_body = FitBody,
    responses((status = 200, body = FitReport), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn fit(State(services): State<Arc<Services>>, JsonBody(body): JsonBody<FitBody>) -> Result<Json<FitReport>, ApiError> {
    let request = FitRequest { member: body.member.check(MEMBERS, "member")?, job: body.job.check(JOBS, "job")? };
    for (field, (collection, id)) in [("member", &request.member), ("job", &request.job)] {
        services.catalog.document(collection, id).map_err(|e| located(e, field, &format!("{field}.collection")))?;
    }
    Ok(Json(services.fit.fit(&request).await?))
}
