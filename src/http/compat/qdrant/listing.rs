//! Points without a query: page by page, and counted.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::parts::{GivenId, PointId, Record, WithPayload, WithVector, filter};
use super::{Answered, Body, Error, ErrorBody, NO_SHARDS, Name, QdrantAnswer, answer, collection, read, reading};
use crate::http::Services;
use crate::pipeline::{Page, PageRequest};

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantScroll)]
pub struct ScrollBody {
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    /// 10 without it, at most 10,000.
    limit: Option<usize>,
    /// The first point of the page.
    offset: Option<PointId>,
    with_payload: Option<WithPayload>,
    with_vector: Option<WithVector>,
}

/// Points in the order of their ids as texts.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantPage)]
pub struct Points {
    points: Vec<Record>,
    #[schema(value_type = Option<PointId>)]
    next_page_offset: Option<GivenId>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantCountBody)]
pub struct CountBody {
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
}

/// How many points match.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantCount)]
pub struct Count {
    count: u64,
}

/// Go through points page by page, in the order of their ids as texts (10 comes before 9).
#[utoipa::path(post, path = "/collections/{collection}/points/scroll", request_body = ScrollBody,
    responses((status = 200, body = QdrantAnswer<Points>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn scroll(State(services): State<Arc<Services>>, name: Name, body: Body) -> Answered<Points> {
    let collection = collection(name)?;
    let refused = [NO_SHARDS, ("order_by", "points come in the order of their ids")];
    let ScrollBody { filter: given, limit, offset, with_payload, with_vector } = read(body?.0, &[], &refused)?;
    let request = PageRequest {
        collection,
        filter: given.map(filter).transpose()?,
        from: offset.map(PointId::check).transpose()?,
        limit: limit.unwrap_or(10),
        vectors: WithVector::is_wanted(with_vector.as_ref())?,
    };
    let with_payload = with_payload.unwrap_or(WithPayload::Switch(true));
    let Page { documents, next } = page(services, request).await?;
    let points = documents.into_iter().map(|document| Record::new(document, &with_payload)).collect::<Result<_, _>>()?;
    answer(Points { points, next_page_offset: next.map(GivenId) })
}

pub(super) async fn page(services: Arc<Services>, request: PageRequest) -> Result<Page, Error> {
    Ok(reading(move || services.catalog.page(&request)).await?)
}

/// Count points; always exactly.
#[utoipa::path(post, path = "/collections/{collection}/points/count", request_body = CountBody,
    responses((status = 200, body = QdrantAnswer<Count>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn count(State(services): State<Arc<Services>>, name: Name, body: Body) -> Answered<Count> {
    let name = collection(name)?;
    let CountBody { filter: given } = read(body?.0, &["exact"], &[NO_SHARDS])?;
    let filter = given.map(filter).transpose()?;
    let count = reading(move || services.catalog.n_matching(&name, filter.as_ref())).await?;
    answer(Count { count })
}
