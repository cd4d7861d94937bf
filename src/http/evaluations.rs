//! Evaluations: how well judged queries are answered, measured here and now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Services;
use super::answer;
use super::body::JsonBody;
use super::collections::{Named, blocking, reading};
use super::error::{ApiError, ErrorBody};
use super::generations::Started;
use super::path::PathParts;
use super::tasks::visible;
use crate::pipeline::evaluate::{EvaluationReport, EvaluationRequest, JudgedQuery, Judgments, Picture, Variant};

fn yes() -> bool {
    true
}

/// What to evaluate.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"collection": "jobs", "queries": [{"id": "q1", "text": "night nurse"}], "judgments": {"q1": {"j813": 3}},
    "variants": [{"name": "as it is"}, {"name": "fresh", "profile": {"weights": {"dot": 1, "recency": 0.2}}}]}))]
pub struct EvaluationBody {
    #[schema(value_type = String)]
    collection: Named,
    /// At most 5,000.
    queries: Vec<JudgedQuery>,
    /// Grades from 0 to 4, above 0 is relevant: `{"query": {"document": 3}}`, or TREC qrels as one text. At most 500,000.
    #[schema(value_type = Object)]
    judgments: Judgments,
    /// Ways to search, at most 8; the others are compared with the first. Without any, a search that says nothing.
    #[serde(default)]
    variants: Vec<Variant>,
    /// Tell what each stage adds, too; takes up to three more searches a query.
    #[serde(default = "yes")]
    stages: bool,
}

/// Evaluate searches on judged queries, in the background. The task's result has all but the figures of each query.
#[utoipa::path(post, path = "/v1/evaluations", request_body = EvaluationBody,
    responses((status = 202, body = Started), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn start(
    State(services): State<Arc<Services>>,
    JsonBody(body): JsonBody<EvaluationBody>,
) -> Result<(StatusCode, Json<Started>), ApiError> {
    let EvaluationBody { collection, queries, judgments, variants, stages } = body;
    let request = EvaluationRequest { collection: collection.check("collection")?, queries, judgments, variants, stages };
    let task = blocking(move || services.evaluations.start(request)).await?;
    Ok((StatusCode::ACCEPTED, Json(Started { task: task.id().to_owned() })))
}

/// What an evaluation found, query by query; 409 until it is done. The last eight are kept.
#[utoipa::path(get, path = "/v1/evaluations/{task}",
    responses((status = 200, body = EvaluationReport), (status = "4XX", body = ErrorBody)))]
pub async fn get(State(services): State<Arc<Services>>, PathParts(task): PathParts<String>) -> Result<Response, ApiError> {
    visible(&services, &task)?;
    let report = services.evaluations.report(&task)?;
    Ok(answer::long_json(usize::MAX, move || Arc::unwrap_or_clone(report)).await)
}

/// The same as a picture.
#[utoipa::path(get, path = "/v1/evaluations/{task}/svg",
    responses((status = 200, body = String, content_type = "image/svg+xml"), (status = "4XX", body = ErrorBody)))]
pub async fn picture(State(services): State<Arc<Services>>, PathParts(task): PathParts<String>) -> Result<Response, ApiError> {
    visible(&services, &task)?;
    let report = services.evaluations.report(&task)?;
    let svg = reading(move || Ok(Picture::of(&report).svg())).await?;
    Ok(([(CONTENT_TYPE, "image/svg+xml")], svg).into_response())
}
