//! The points nearest to a vector, to another point, or to a text.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::parts::{GivenId, PointId, WithPayload, WithVector, filter};
use super::{Answered, Body, Error, ErrorBody, NO_SHARDS, Name, QdrantAnswer, answer, collection, listing, read};
use crate::http::Services;
use crate::http::body;
use crate::pipeline::{Hit, PageRequest, ProfileChoice, Query, QueryRequest, StoredDocument};
use kindred_core::domain::{CollectionName, DocumentId, Retrieval, StrategyChoice};

const NO_LOOKUP: (&str, &str) = ("lookup_from", "get the other collection's point, and ask with its vector");

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantQuery)]
pub struct QueryBody {
    /// A vector; the id of a point, which is left out of the answer; a text to embed, `{"text": …, "model": …}`; or one of these as
    /// `{"nearest": …, "mmr": {"diversity": 0.5, "candidates_limit": 100}}`. Without it, points in the order of their ids. `points/search` has a vector here, and calls it so.
    #[schema(value_type = Option<Object>)]
    query: Option<Value>,
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    params: Option<Params>,
    /// 10 without it.
    limit: Option<usize>,
    /// Points to leave out before these.
    offset: Option<usize>,
    with_payload: Option<WithPayload>,
    with_vector: Option<WithVector>,
    /// The smallest cosine.
    score_threshold: Option<f32>,
    /// Only `""`.
    using: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantSearchParams)]
struct Params {
    /// Width of the graph's beam.
    hnsw_ef: Option<usize>,
    /// Compare with every matching point.
    #[serde(default)]
    exact: bool,
    /// Accepted and ignored, as is the next one: newer points are searched exactly, filters cost no hits.
    #[serde(rename = "indexed_only")]
    _indexed_only: Option<bool>,
    #[serde(rename = "acorn")]
    #[schema(value_type = Option<Object>)]
    _acorn: Option<Value>,
}

/// A point that was found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantScored)]
pub struct Scored {
    #[schema(value_type = PointId)]
    id: GivenId,
    /// The point's last change.
    version: u64,
    /// Cosine with the query.
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
}

/// The points that were found, best first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantFound)]
pub struct Found {
    points: Vec<Scored>,
}

/// Find the nearest points.
#[utoipa::path(post, path = "/collections/{collection}/points/query", request_body = QueryBody,
    responses((status = 200, body = QdrantAnswer<Found>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn query(State(services): State<Arc<Services>>, name: Name, body: Body) -> Answered<Found> {
    let name = collection(name)?;
    let prefetch = ("prefetch", "words and meaning are searched together by POST /v1/collections/{collection}/search");
    let mut body: QueryBody = read(body?.0, &[], &[NO_SHARDS, NO_LOOKUP, prefetch])?;
    let points = match body.query.take() {
        Some(query) => find(services, name.clone(), meant(query, &name)?, body).await?,
        None => list(services, name, body).await?,
    };
    answer(Found { points })
}

/// Find the points nearest to a vector, in Qdrant's older words.
#[utoipa::path(post, path = "/collections/{collection}/points/search", request_body = QueryBody,
    responses((status = 200, body = QdrantAnswer<Vec<Scored>>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn search(State(services): State<Arc<Services>>, name: Name, body: Body) -> Answered<Vec<Scored>> {
    let name = collection(name)?;
    let mut body = body?.0;
    let vector = match body.remove("vector").unwrap_or_default() {
        Value::Object(mut named) if named.get("name").is_none_or(|name| name == "") => named.remove("vector").unwrap_or_default(),
        Value::Object(_) => return Err(Error::no_names()),
        vector => vector,
    };
    if !vector.is_array() {
        return Err(Error::invalid("the vector is a list of numbers"));
    }
    let body = read(body, &[], &[NO_SHARDS])?;
    answer(find(services, name.clone(), meant(vector, &name)?, body).await?)
}

/// What a query asks with.
struct Meant {
    query: Query,
    /// Whose text it is.
    model: Option<String>,
    mmr: Option<Mmr>,
}

/// How much points should differ (maximal marginal relevance).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mmr {
    diversity: Option<f64>,
    /// Points that are chosen from; 200 at most, besides those that are asked for.
    candidates_limit: Option<usize>,
}

fn meant(query: Value, collection: &CollectionName) -> Result<Meant, Error> {
    #[derive(Deserialize)]
    struct Text {
        text: String,
        model: String,
    }
    let query = match query {
        Value::Array(numbers) if numbers.first().is_some_and(Value::is_array) => {
            return Err(Error::invalid("a query has one vector: send a list of numbers"));
        }
        Value::Array(_) => Query::Vector(body::read(query).map_err(|e| e.about("query"))?),
        Value::Number(_) | Value::String(_) => {
            let id: DocumentId = body::read::<PointId>(query).map_err(|e| e.about("query"))?.check()?;
            Query::Document { collection: collection.clone(), id }
        }
        Value::Object(mut nearest) if nearest.contains_key("nearest") => {
            let mmr = body::read(nearest.remove("mmr").unwrap_or_default()).map_err(|e| e.about("query.mmr"))?;
            return Ok(Meant { mmr, ..meant(nearest.remove("nearest").unwrap_or_default(), collection)? });
        }
        Value::Object(text) if text.contains_key("text") => {
            let Text { text, model } = body::read(Value::Object(text)).map_err(|e| e.about("query"))?;
            return Ok(Meant { query: Query::Text(text), model: Some(model), mmr: None });
        }
        _ => {
            return Err(Error::invalid(
                "this kind of query is not supported: ask with a vector, the id of a point, {\"text\": …, \"model\": …}, or one of these as {\"nearest\": …}",
            ));
        }
    };
    Ok(Meant { query, model: None, mmr: None })
}

async fn find(services: Arc<Services>, collection: CollectionName, meant: Meant, body: QueryBody) -> Result<Vec<Scored>, Error> {
    if let Some(model) = &meant.model {
        services.embed.require_model(model)?;
    }
    body.check_using()?;
    let (limit, offset) = (body.limit.unwrap_or(10), body.offset.unwrap_or(0));
    let with_payload = body.with_payload.unwrap_or(WithPayload::Switch(false));
    let (params, mmr) = (body.params.as_ref(), meant.mmr.as_ref());
    let request = QueryRequest {
        filter: body.filter.map(filter).transpose()?,
        // None asked for is told as such, whatever is left out before.
        limit: if limit == 0 { 0 } else { limit.saturating_add(offset) },
        retrieval: Some(Retrieval::Dense),
        ef_search: params.and_then(|params| params.hnsw_ef),
        strategy: if params.is_some_and(|params| params.exact) { StrategyChoice::Exact } else { StrategyChoice::Auto },
        profile: Some(ProfileChoice::Inline(json!({"weights": {"dot": 1}}))),
        fields: (!with_payload.is_wanted()).then(Vec::new),
        vectors: WithVector::is_wanted(body.with_vector.as_ref())?,
        candidates: mmr.and_then(|mmr| mmr.candidates_limit),
        diversity: mmr.map_or(0.0, |mmr| mmr.diversity.unwrap_or(0.5)),
        ..QueryRequest::new(collection, meant.query)
    };
    let threshold = body.score_threshold.unwrap_or(f32::NEG_INFINITY);
    let hits = services.query.search(request).await?.hits.into_iter().skip(offset);
    let scored = |hit: Hit| {
        let Hit { id, score, retrieval_score, fields, seqno, vector, .. } = hit;
        let (score, payload) = (retrieval_score.unwrap_or(score as f32), with_payload.of(&id, fields)?);
        Ok(Scored { id: GivenId(id), version: seqno.0, score, payload, vector })
    };
    hits.filter(|hit| hit.score as f32 >= threshold).map(scored).collect()
}

/// Points in the order of their ids, as a search that asks with nothing gives them.
async fn list(services: Arc<Services>, collection: CollectionName, body: QueryBody) -> Result<Vec<Scored>, Error> {
    body.check_using()?;
    let (limit, offset) = (body.limit.unwrap_or(10), body.offset.unwrap_or(0));
    let with_payload = body.with_payload.unwrap_or(WithPayload::Switch(false));
    let request = PageRequest {
        collection,
        filter: body.filter.map(filter).transpose()?,
        from: None,
        limit: limit.saturating_add(offset),
        vectors: WithVector::is_wanted(body.with_vector.as_ref())?,
    };
    let documents = listing::page(services, request).await?.documents.into_iter().skip(offset);
    let scored = |StoredDocument { id, seqno, fields, vector }: StoredDocument| {
        let payload = with_payload.of(&id, fields)?;
        Ok(Scored { id: GivenId(id), version: seqno, score: 0.0, payload, vector })
    };
    documents.map(scored).collect()
}

impl QueryBody {
    fn check_using(&self) -> Result<(), Error> {
        if self.using.as_ref().is_none_or(String::is_empty) { Ok(()) } else { Err(Error::no_names()) }
    }
}
