//! Collections as Qdrant tells them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::index::told;
use super::{Answered, Body, Error, ErrorBody, Name, QdrantAnswer, answer, blocking, collection, read};
use crate::http::{Services, auth};
use crate::pipeline::CollectionInfo;
use kindred_core::domain::{CollectionDefinition, CollectionName};
use kindred_core::error::ErrorKind;

/// Where the clients of several libraries put the text: it is what words are looked for in, and embedded where a point brings no vector.
const TEMPLATE: &str = "{document}\n{page_content}\n{text}";
/// About placing and timing, which Kindred sees to itself.
const IGNORED: [&str; 11] = [
    "hnsw_config",
    "optimizers_config",
    "wal_config",
    "on_disk_payload",
    "on_disk",
    "memory",
    "payload",
    "id_tracker",
    "shard_number",
    "replication_factor",
    "write_consistency_factor",
];
const NO_QUANTIZATION: (&str, &str) =
    ("quantization_config", "every index has int8 and 1-bit codes, and vectors as index.quantization in the settings says. Leave it out");

/// All collections.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantCollections)]
pub struct Collections {
    collections: Vec<Named>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantCollectionName)]
struct Named {
    name: String,
}

/// Whether a collection is there.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantExistence)]
pub struct Existence {
    exists: bool,
}

/// A collection.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantCollection)]
pub struct Info {
    /// `green`
    status: &'static str,
    /// `ok`
    optimizer_status: &'static str,
    points_count: u64,
    /// In the graph; newer ones are compared one by one until the next build.
    indexed_vectors_count: u64,
    segments_count: u64,
    config: Config,
    payload_schema: BTreeMap<String, PayloadIndex>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantConfig)]
struct Config {
    params: Params,
    hnsw_config: Hnsw,
    optimizer_config: Optimizer,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantParams)]
struct Params {
    vectors: Vectors,
    shard_number: u32,
    replication_factor: u32,
    write_consistency_factor: u32,
    on_disk_payload: bool,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantVectors)]
struct Vectors {
    size: usize,
    /// `Cosine`
    distance: &'static str,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantHnsw)]
struct Hnsw {
    m: usize,
    ef_construct: usize,
    /// 0: which way costs less is reckoned for each search.
    full_scan_threshold: usize,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantOptimizer)]
struct Optimizer {
    default_segment_number: u32,
    /// 0: every change is synced before it is acknowledged, or within 100 ms.
    flush_interval_sec: u32,
}

/// A field that filters may name.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QdrantPayloadIndex)]
struct PayloadIndex {
    data_type: &'static str,
    /// All points: an index knows which of them have no value.
    points: u64,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QdrantCreate, example = json!({"vectors": {"size": 384, "distance": "Cosine"}}))]
pub struct CreateBody {
    /// `{"size": …, "distance": "Cosine"}`, with the model's number of dimensions.
    #[schema(value_type = Object)]
    vectors: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorParams {
    size: usize,
    distance: String,
    datatype: Option<String>,
}

/// List the collections, as Qdrant does.
#[utoipa::path(get, path = "/collections", responses((status = 200, body = QdrantAnswer<Collections>)))]
pub async fn list(State(services): State<Arc<Services>>) -> Answered<Collections> {
    let names = services.catalog.list().into_iter().map(|CollectionInfo { name, .. }| name);
    answer(Collections { collections: names.filter(|name| auth::sees(name)).map(|name| Named { name }).collect() })
}

/// Whether a collection is there.
#[utoipa::path(get, path = "/collections/{collection}/exists",
    responses((status = 200, body = QdrantAnswer<Existence>), (status = "4XX", body = ErrorBody)))]
pub async fn exists(State(services): State<Arc<Services>>, name: Name) -> Answered<Existence> {
    let exists = CollectionName::new(name?.0).is_ok_and(|name| services.catalog.require(&name).is_ok());
    answer(Existence { exists })
}

/// Look at a collection, as Qdrant tells it.
#[utoipa::path(get, path = "/collections/{collection}", responses((status = 200, body = QdrantAnswer<Info>), (status = "4XX", body = ErrorBody)))]
pub async fn get(State(services): State<Arc<Services>>, name: Name) -> Answered<Info> {
    let info = services.catalog.get(&collection(name)?)?;
    let index = services.rebuild.params_by_default();
    let points = info.n_documents;
    let indexed = info.definition.fields.into_iter().filter(|(_, spec)| spec.index);
    answer(Info {
        status: "green",
        optimizer_status: "ok",
        points_count: points,
        indexed_vectors_count: info.n_vectors.saturating_sub(info.n_changes),
        segments_count: 1,
        config: Config {
            params: Params {
                vectors: Vectors { size: info.dims, distance: "Cosine" },
                shard_number: 1,
                replication_factor: 1,
                write_consistency_factor: 1,
                on_disk_payload: true,
            },
            hnsw_config: Hnsw { m: index.max_connections, ef_construct: index.ef_construction, full_scan_threshold: 0 },
            optimizer_config: Optimizer { default_segment_number: 1, flush_interval_sec: 0 },
        },
        payload_schema: indexed.map(|(name, spec)| (name, PayloadIndex { data_type: told(spec.field_type), points })).collect(),
    })
}

/// Make a collection of documents with vectors of the model's own size. Its fields become filterable with `PUT …/index`.
#[utoipa::path(put, path = "/collections/{collection}", request_body = CreateBody,
    responses((status = 200, body = QdrantAnswer<bool>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn create(State(services): State<Arc<Services>>, name: Name, body: Body) -> Answered<bool> {
    services.may_write()?;
    let name = CollectionName::new(name?.0)?;
    let refused = [
        NO_QUANTIZATION,
        ("sparse_vectors", "texts are searched by their words without: POST /v1/collections/{collection}/search"),
        ("init_from", "take a snapshot, or scroll and upsert"),
        ("sharding_method", "a collection is not divided here. Leave it out"),
        ("strict_mode_config", "limits are in the server's settings ([limits])"),
        ("metadata", "a collection has none. Leave it out"),
    ];
    let CreateBody { vectors } = read(body?.0, &IGNORED, &refused)?;
    check_vectors(vectors, &services)?;
    let definition = CollectionDefinition { template: TEMPLATE.to_owned(), ..CollectionDefinition::default() };
    let catalog = Arc::clone(&services.catalog);
    let created = blocking({
        let name = name.clone();
        move || if catalog.require(&name).is_ok() { Ok(false) } else { catalog.put(&name, &definition) }
    });
    match created.await? {
        true => answer(true),
        false => Err(Error::new(ErrorKind::Conflict, format!("collection {:?} exists already", name.as_str()))),
    }
}

/// A collection's vectors are those of the loaded model.
fn check_vectors(mut vectors: Map<String, Value>, services: &Services) -> Result<(), Error> {
    if !vectors.contains_key("size") && !vectors.contains_key("distance") {
        match vectors.remove("") {
            Some(Value::Object(one)) if vectors.is_empty() => vectors = one,
            _ => return Err(Error::no_names()),
        }
    }
    let refused = [NO_QUANTIZATION, ("multivector_config", "a point has one vector")];
    let VectorParams { size, distance, datatype } = read(vectors, &IGNORED, &refused)?;
    let model = services.catalog.model();
    if size != model.dims {
        return Err(Error::invalid(format!(
            "vectors of size {size} are of another model: an index is bound to the server's, {}, whose vectors have size {}. Embed with that \
             (POST /v1/embeddings), or serve another (encoder.model_dir)",
            model.name, model.dims
        )));
    }
    // At unit length, both order alike.
    if !["Cosine", "Dot"].contains(&distance.as_str()) {
        return Err(Error::invalid(format!("distance {distance:?} is not supported: choose Cosine (vectors are kept at unit length)")));
    }
    match datatype.as_deref() {
        None | Some("float32" | "float16") => Ok(()),
        Some(other) => Err(Error::invalid(format!("datatype {other:?} is not supported: leave it out"))),
    }
}

/// Delete a collection and its points. One that comes from the configuration is there again at once, empty.
#[utoipa::path(delete, path = "/collections/{collection}",
    responses((status = 200, body = QdrantAnswer<bool>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub async fn delete(State(services): State<Arc<Services>>, name: Name) -> Answered<bool> {
    services.may_write()?;
    // As there: what is not there cannot be deleted, and that is no error.
    let Some(name) = CollectionName::new(name?.0).ok().filter(|name| services.catalog.require(name).is_ok()) else { return answer(false) };
    let catalog = Arc::clone(&services.catalog);
    blocking(move || catalog.delete(&name)).await?;
    answer(true)
}
