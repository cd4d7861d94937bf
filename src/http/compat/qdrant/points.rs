//! Points: put, get, delete.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::parts::{PointId, Record, WithPayload, WithVector, filter};
use super::{
    Answered, Body, Error, ErrorBody, NO_SHARDS, Name, Options, QdrantAnswer, Update, WriteOptions, answer, collection, read, reading,
};
use crate::http::Services;
use crate::http::collections::existing;
use crate::http::documents;
use crate::http::error::ApiError;
use crate::http::path::{PathParts, QueryString};
use crate::pipeline::{self, Item, Matching, PipelineError, Work, WriteRequest};
use kindred_core::domain::{DocumentId, Refresh};

/// What a document has beside its fields, under names that no field can have.
const OWN_KEYS: [&str; 2] = ["id", "embedding"];

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantUpsert)]
pub struct UpsertBody {
    /// Either these
    points: Option<Vec<Point>>,
    /// or these, column by column.
    batch: Option<Batch>,
    /// Only `upsert`.
    update_mode: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantPoint)]
struct Point {
    id: PointId,
    /// Numbers, as many as the model has dimensions. Without them (`{}`), the text of the payload is embedded.
    #[schema(value_type = Option<Vec<f32>>)]
    vector: Option<Value>,
    #[schema(value_type = Option<Object>)]
    payload: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantBatch)]
struct Batch {
    ids: Vec<PointId>,
    #[schema(value_type = Vec<Vec<f32>>)]
    vectors: Value,
    #[schema(value_type = Option<Vec<Object>>)]
    payloads: Option<Vec<Option<Map<String, Value>>>>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantRetrieve)]
pub struct RetrieveBody {
    ids: Vec<PointId>,
    with_payload: Option<WithPayload>,
    with_vector: Option<WithVector>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantDelete)]
pub struct DeleteBody {
    /// Either these
    points: Option<Vec<PointId>>,
    /// or all that match; a filter without conditions matches every point, as in Qdrant.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
}

/// Insert or replace points: all of them, or none. When this answers they are durable; with `wait`, searches find them, too.
#[utoipa::path(put, path = "/collections/{collection}/points", params(WriteOptions), request_body = UpsertBody,
    responses((status = 200, body = QdrantAnswer<Update>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn upsert(State(services): State<Arc<Services>>, name: Name, options: Options, body: Body) -> Answered<Update> {
    let (name, QueryString(options), body) = (collection(name)?, options?, body?.0);
    services.catalog.require(&name)?;
    let items = pipeline::blocking(Work::Parse, move || items(body)).await??;
    let refresh = if options.wait { Refresh::Wait } else { Refresh::None };
    let request = WriteRequest { items: items.into_iter().map(Ok).collect(), refresh, whole: true, ..WriteRequest::default() };
    let report = documents::write(services, name, request).await?;
    answer(Update::new(report.seqno, options.wait))
}

/// The documents that points are. Of those with the same id, the last one counts.
fn items(body: Map<String, Value>) -> Result<Vec<Item>, Error> {
    let refused = [NO_SHARDS, ("update_filter", "write with a condition: PUT /v1/collections/{collection}/documents/{id}?if_seqno=…")];
    let points = match read(body, &[], &refused)? {
        UpsertBody { update_mode: Some(mode), .. } if mode != "upsert" => {
            return Err(Error::invalid(format!("update_mode {mode:?} is not supported: there is upsert")));
        }
        UpsertBody { points: Some(points), batch: None, .. } => points,
        UpsertBody { points: None, batch: Some(batch), .. } => batch.points()?,
        _ => return Err(Error::invalid("give exactly one of \"points\" and \"batch\"")),
    };
    let mut seen = HashSet::with_capacity(points.len());
    let mut items = Vec::with_capacity(points.len());
    for (position, point) in points.into_iter().enumerate().rev() {
        let located = |e: Error| Error { message: format!("point {position}: {}", e.message), ..e };
        let (id, document) = point.document().map_err(located)?;
        if seen.insert(id) {
            items.push(Item::Put(document));
        }
    }
    items.reverse();
    Ok(items)
}

impl Batch {
    fn points(self) -> Result<Vec<Point>, Error> {
        let n = self.ids.len();
        let vectors = match self.vectors {
            Value::Object(mut named) if named.len() == 1 => named.remove("").ok_or_else(Error::no_names)?,
            vectors => vectors,
        };
        let Value::Array(vectors) = vectors else { return Err(Error::no_names()) };
        let payloads = self.payloads.unwrap_or_else(|| vec![None; n]);
        if vectors.len() != n || payloads.len() != n {
            let (vectors, payloads) = (vectors.len(), payloads.len());
            return Err(Error::invalid(format!("a batch of {n} ids has {vectors} vectors and {payloads} payloads: send as many of each")));
        }
        let columns = self.ids.into_iter().zip(vectors).zip(payloads);
        Ok(columns.map(|((id, vector), payload)| Point { id, vector: Some(vector), payload }).collect())
    }
}

impl Point {
    fn document(self) -> Result<(DocumentId, Value), Error> {
        let (id, payload) = (self.id.check()?, self.payload.unwrap_or_default());
        if let Some(key) = OWN_KEYS.iter().find(|key| payload.contains_key(**key)) {
            return Err(Error::invalid(format!(
                "the payload cannot have a key {key:?}, which is the document's own: rename it, or put it into an object"
            )));
        }
        let mut document = Map::with_capacity(payload.len() + 2);
        document.insert("id".to_owned(), Value::String(id.to_string()));
        document.extend(payload);
        if let Some(embedding) = embedding(self.vector.unwrap_or_default())? {
            document.insert("embedding".to_owned(), embedding);
        }
        Ok((id, Value::Object(document)))
    }
}

/// The numbers of a point's only vector, if it has any.
fn embedding(vector: Value) -> Result<Option<Value>, Error> {
    match vector {
        Value::Null => Ok(None),
        Value::Array(numbers) if numbers.is_empty() => Ok(None),
        Value::Array(numbers) if numbers[0].is_array() => Err(Error::invalid("a point has one vector: send a list of numbers")),
        Value::Array(numbers) => Ok(Some(Value::Array(numbers))),
        Value::Object(named) if named.is_empty() => Ok(None),
        Value::Object(mut named) if named.len() == 1 && named.contains_key("") => embedding(named.remove("").unwrap_or_default()),
        Value::Object(given) if given.contains_key("indices") => Err(Error::invalid(
            "sparse vectors are not supported: texts are searched by their words without (POST /v1/collections/{collection}/search)",
        )),
        Value::Object(given) if given.contains_key("model") => Err(Error::invalid(
            "what is to be embedded belongs into the payload (as text, document or page_content): leave the vector empty ({}), and it is embedded",
        )),
        Value::Object(_) => Err(Error::no_names()),
        _ => Err(Error::invalid("a vector is a list of numbers")),
    }
}

/// Get points by their ids. Those that are not there are left out.
#[utoipa::path(post, path = "/collections/{collection}/points", request_body = RetrieveBody,
    responses((status = 200, body = QdrantAnswer<Vec<Record>>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn retrieve(State(services): State<Arc<Services>>, name: Name, body: Body) -> Answered<Vec<Record>> {
    let name = collection(name)?;
    let RetrieveBody { ids, with_payload, with_vector } = read(body?.0, &[], &[NO_SHARDS])?;
    let ids = ids.into_iter().map(PointId::check).collect::<Result<Vec<_>, _>>()?;
    let (with_payload, vectors) = (with_payload.unwrap_or(WithPayload::Switch(true)), WithVector::is_wanted(with_vector.as_ref())?);
    let documents = reading(move || services.catalog.documents(&name, &ids, vectors)).await?;
    answer(documents.into_iter().map(|document| Record::new(document, &with_payload)).collect::<Result<_, _>>()?)
}

/// Get a point.
#[utoipa::path(get, path = "/collections/{collection}/points/{id}",
    responses((status = 200, body = QdrantAnswer<Record>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn get(State(services): State<Arc<Services>>, path: Result<PathParts<(String, String)>, ApiError>) -> Answered<Record> {
    let PathParts((name, id)) = path?;
    let (name, id) = (existing(&name)?, DocumentId::new(id)?);
    let document = reading(move || {
        let missing = || PipelineError::UnknownDocument { collection: name.to_string(), id: id.to_string() };
        services.catalog.documents(&name, std::slice::from_ref(&id), true)?.pop().ok_or_else(missing)
    });
    answer(Record::new(document.await?, &WithPayload::Switch(true))?)
}

/// Delete points by their ids, or by a filter. When this answers it is durable, and searches no longer find them.
#[utoipa::path(post, path = "/collections/{collection}/points/delete", request_body = DeleteBody,
    responses((status = 200, body = QdrantAnswer<Update>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn delete(State(services): State<Arc<Services>>, name: Name, body: Body) -> Answered<Update> {
    let name = collection(name)?;
    let (_, seqno) = match read(body?.0, &[], &[NO_SHARDS])? {
        DeleteBody { points: Some(ids), filter: None } => {
            let ids = ids.into_iter().map(PointId::check).collect::<Result<_, _>>()?;
            documents::delete_ids(services, name, ids).await?
        }
        DeleteBody { points: None, filter: Some(matching) } => {
            documents::delete_matching(services, name, Matching::FilterOrAll(filter(matching)?)).await?
        }
        _ => return Err(Error::invalid("say what to delete: exactly one of \"points\" and \"filter\"")),
    };
    answer(Update::new(seqno, true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_items(body: Value) -> Result<Vec<Item>, Error> {
        items(body.as_object().unwrap().clone())
    }

    #[test]
    fn points_are_documents() {
        let points = json!({"points": [
            {"id": 7, "vector": [1, 0], "payload": {"a": 1}}, {"id": "x", "vector": {"": [0.5, 1]}}, {"id": "y", "vector": {}, "payload": {"text": "t"}},
            {"id": "7", "vector": [0, 1], "payload": null},
        ]});
        let wanted = [json!({"id": "x", "embedding": [0.5, 1]}), json!({"id": "y", "text": "t"}), json!({"id": "7", "embedding": [0, 1]})];
        assert_eq!(read_items(points).unwrap(), wanted.map(Item::Put));
        let batch = json!({"batch": {"ids": [1, 2], "vectors": {"": [[1, 0], [0, 1]]}, "payloads": [{"a": 1}, null]}});
        let wanted = [json!({"id": "1", "a": 1, "embedding": [1, 0]}), json!({"id": "2", "embedding": [0, 1]})];
        assert_eq!(read_items(batch).unwrap(), wanted.map(Item::Put));
    }

    #[test]
    fn what_is_no_point_is_refused() {
        let one = |point: Value| json!({"points": [{"id": 1, "vector": [1]}, point]});
        for (body, word) in [
            (json!({}), "exactly one"),
            (json!({"points": [], "batch": {"ids": [], "vectors": []}}), "exactly one"),
            (json!({"points": [], "update_mode": "insert_only"}), "insert_only"),
            (json!({"points": [], "shard_key": "a"}), "shard_key"),
            (json!({"points": [], "update_filter": {"must": []}}), "update_filter"),
            (one(json!({"vector": [1]})), "points[1]"),
            (one(json!({"id": -1, "vector": [1]})), "points[1].id"),
            (one(json!({"id": 2, "vector": "a"})), "point 1: a vector is a list"),
            (one(json!({"id": 2, "vector": [[1], [2]]})), "one vector"),
            (one(json!({"id": 2, "vector": {"image": [1]}})), "named vectors"),
            (one(json!({"id": 2, "vector": {"": [1], "image": [1]}})), "named vectors"),
            (one(json!({"id": 2, "vector": {"indices": [1], "values": [1]}})), "sparse"),
            (one(json!({"id": 2, "vector": {"text": "a", "model": "m"}})), "payload"),
            (one(json!({"id": 2, "vector": [1], "payload": {"id": 3}})), "\"id\""),
            (one(json!({"id": 2, "vector": [1], "payload": {"embedding": 3}})), "\"embedding\""),
            (json!({"batch": {"ids": [1], "vectors": []}}), "1 ids has 0 vectors"),
            (json!({"batch": {"ids": [1], "vectors": {"image": [[1]]}}}), "named vectors"),
        ] {
            let error = read_items(body.clone()).unwrap_err();
            assert!(error.status == 400 && error.message.contains(word), "{body}: {}", error.message);
        }
    }
}
