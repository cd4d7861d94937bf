//! Payload indexes: fields that filters may name.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;

use super::{Answered, Body, Error, ErrorBody, Name, Options, QdrantAnswer, Update, WriteOptions, answer, collection, read};
use crate::http::Services;
use crate::http::path::QueryString;
use crate::pipeline::TaskStatus;
use kindred_core::domain::FieldType;
use kindred_core::error::ErrorKind;

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantIndex, example = json!({"field_name": "metadata.city", "field_schema": "keyword"}))]
pub struct IndexBody {
    field_name: String,
    /// `keyword`, `uuid`, `integer`, `float`, `bool`, `datetime` or `geo`; or an object with that as its `type`, whose other keys are ignored.
    #[schema(value_type = Object)]
    field_schema: FieldSchema,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected the name of a type, or {\"type\": …}")]
enum FieldSchema {
    Name(String),
    Params {
        #[serde(rename = "type")]
        name: String,
    },
}

/// Make a field filterable. The collection is built anew with it, in the background unless `wait` is set; no vector changes.
#[utoipa::path(put, path = "/collections/{collection}/index", params(WriteOptions), request_body = IndexBody,
    responses((status = 200, body = QdrantAnswer<Update>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn index(State(services): State<Arc<Services>>, name: Name, options: Options, body: Body) -> Answered<Update> {
    services.may_write()?;
    let (name, QueryString(options)) = (collection(name)?, options?);
    let IndexBody { field_name, field_schema: FieldSchema::Name(of) | FieldSchema::Params { name: of } } = read(body?.0, &[], &[])?;
    let Some(field_type) = meant(&of) else {
        return Err(Error::invalid(format!(
            "an index of type {of:?} is not supported: there are keyword, uuid, integer, float, bool, datetime and geo. Texts are searched by their \
             words without one: POST /v1/collections/{{collection}}/search"
        )));
    };
    let task = services.rebuild.index_field(&name, &field_name.replace("[]", ""), field_type)?;
    let is_done = task.is_none() || options.wait;
    if let Some(task) = task.filter(|_| options.wait) {
        let ended = task.ended().await;
        if ended.status != TaskStatus::Done {
            let reason = ended.error.unwrap_or_else(|| "it was cancelled".to_owned());
            return Err(Error::new(ErrorKind::Conflict, format!("{field_name:?} could not be indexed: {reason}")));
        }
    }
    answer(Update::new(services.catalog.searcher(&name)?.seqno(), is_done))
}

/// Which fields Qdrant's types are.
fn meant(name: &str) -> Option<FieldType> {
    Some(match name {
        "keyword" | "uuid" => FieldType::Keyword,
        "integer" | "float" => FieldType::Number,
        "bool" => FieldType::Bool,
        "datetime" => FieldType::Time,
        "geo" => FieldType::Geo,
        _ => return None,
    })
}

/// The name of a type.
pub(super) fn told(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::Keyword => "keyword",
        FieldType::Number => "float",
        FieldType::Bool => "bool",
        FieldType::Time => "datetime",
        FieldType::Geo => "geo",
        FieldType::Text => "text",
    }
}
