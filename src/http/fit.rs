//! What a posting asks for, held against a member.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::Services;
use super::body::JsonBody;
use super::collections::{Named, existing};
use super::error::{ApiError, ErrorBody};
use super::search::Id;
use crate::pipeline::{FitReport, FitRequest, PipelineError};
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
    #[schema(value_type = String)]
    collection: Named,
    id: Id,
}

impl DocumentBody {
    fn check(self, usual: &str, field: &str) -> Result<(CollectionName, DocumentId), ApiError> {
        match self {
            Self::Id(id) => Ok((existing(usual).map_err(|e| e.about(&format!("{field}.collection")))?, id.check(field)?)),
            Self::Of(DocumentOf { collection, id }) => {
                Ok((collection.check(&format!("{field}.collection"))?, id.check(&format!("{field}.id"))?))
            }
        }
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
    let report = services.fit.fit(&request).await;
    Ok(Json(report.map_err(|e| located(e, &request, ["member", "job"], ["member.collection", "job.collection"]))?))
}

/// An error about one of the two documents or collections, named as the request names them.
pub(super) fn located(e: PipelineError, request: &FitRequest, documents: [&str; 2], collections: [&str; 2]) -> ApiError {
    let pair = [&request.member, &request.job];
    let field = match &e {
        PipelineError::UnknownDocument { collection, id } => {
            let is_it = |(of, named): &&(CollectionName, DocumentId)| of.as_str() == collection && named.as_str() == id;
            pair.iter().position(is_it).map(|position| documents[position])
        }
        e => {
            let (name, _) = e.unknown_collection().unzip();
            pair.iter().position(|(of, _)| Some(of.as_str()) == name).map(|position| collections[position])
        }
    };
    match field {
        Some(field) => ApiError::from(e).about(field),
        None => ApiError::from(e),
    }
}
