"""The qdrant-client package, unmodified, against a Kindred server: qdrant_points.py BASE_URL EXPECTED.json"""

import json
import sys
import uuid
import warnings

import numpy
from checks import check, done
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

base_url, expected = sys.argv[1], json.load(open(sys.argv[2]))
model, texts, vectors = expected["model"], expected["texts"], numpy.array(expected["embeddings"])
dims, n = len(vectors[0]), len(texts)
client = QdrantClient(url=base_url, prefer_grpc=False, check_compatibility=False, cloud_inference=True, timeout=60)
UUID = str(uuid.UUID(int=7))
ids = [*range(1, n), UUID]
cosines = vectors @ vectors[0]
order = sorted(range(n), key=lambda i: -cosines[i])


def refused(status, word, what, call):
    try:
        call()
    except UnexpectedResponse as e:
        error = json.loads(e.content)["status"]["error"]
        check(e.status_code == status and word in error, f"{what}: {e.status_code} {error} names {word}")
        return
    sys.exit(f"not so: {what} is refused")


def found(points, wanted, what):
    check([point.id for point in points] == [ids[i] for i in wanted], f"{what}: {[point.id for point in points]}")
    for point, i in zip(points, wanted):
        check(abs(point.score - cosines[i]) < 1e-3, f"{what}: {point.score} is the cosine {cosines[i]}")


# Collections.
check(not client.collection_exists("posts"), "there are no posts yet")
refused(404, "posts", "a collection that is not there", lambda: client.get_collection("posts"))
params = models.VectorParams(size=dims, distance=models.Distance.COSINE, on_disk=True)
check(client.create_collection("posts", vectors_config=params, hnsw_config=models.HnswConfigDiff(m=32), shard_number=1), "a collection is made")
refused(409, "exists", "the same once more", lambda: client.create_collection("posts", vectors_config=params))
check(client.collection_exists("posts") and "posts" in [one.name for one in client.get_collections().collections], "it is there")
for what, word, vectors_config in [
    ("another size", model, models.VectorParams(size=dims + 1, distance=models.Distance.COSINE)),
    ("another distance", "Cosine", models.VectorParams(size=dims, distance=models.Distance.EUCLID)),
    ("named vectors", "named vectors", {"image": params}),
]:
    refused(400, word, what, lambda: client.create_collection("others", vectors_config=vectors_config))
sparse = {"words": models.SparseVectorParams()}
refused(400, "sparse_vectors", "sparse vectors", lambda: client.create_collection("others", params, sparse_vectors_config=sparse))
refused(400, "a to z", "a name that cannot be one", lambda: client.create_collection("Other Posts", vectors_config=params))

# Points; some are there before the fields are indexed, some come later.
client.create_payload_index("posts", "metadata.n", field_schema=models.PayloadSchemaType.INTEGER)
payloads = [{"page_content": text, "metadata": {"n": i, "tags": ["even" if i % 2 == 0 else "odd", "all"]}} for i, text in enumerate(texts)]
points = [models.PointStruct(id=id, vector=list(vector), payload=payload) for id, vector, payload in zip(ids, vectors, payloads)]
written = client.upsert("posts", points[:4])
check(written.status == models.UpdateStatus.COMPLETED and written.operation_id == 4, f"four are written: {written}")
refused(400, "index", "a filter by a field that is not indexed",
        lambda: client.count("posts", count_filter=models.Filter(must=[models.FieldCondition(key="metadata.tags", match=models.MatchValue(value="all"))])))
indexed = client.create_payload_index("posts", "metadata.tags", field_schema=models.KeywordIndexParams(type="keyword", on_disk=True))
check(indexed.status == models.UpdateStatus.COMPLETED, "the field is indexed")
client.upload_points("posts", points[4:], batch_size=2, wait=True)
client.upsert("posts", models.Batch(ids=[99], vectors=[[0.5] * dims], payloads=[{"metadata": {"n": 99}}]))
info = client.get_collection("posts")
check(info.status == "green" and info.points_count == n + 1, f"all points are there: {info}")
check(info.config.params.vectors.size == dims and info.config.params.vectors.distance == "Cosine", "their size and distance are told")
check({name: one.data_type.value for name, one in info.payload_schema.items()} == {"metadata.n": "float", "metadata.tags": "keyword"}, "so are indexes")

# Get, delete, count, scroll.
records = client.retrieve("posts", [UUID, 1, 12345], with_vectors=True)
check([record.id for record in records] == [UUID, 1] and records[0].payload == payloads[-1], "points are got by their ids")
difference = numpy.abs(numpy.array(records[1].vector) - vectors[0]).max()
check(difference < 1e-3, f"with their vectors; the largest difference is {difference}")
check(client.retrieve("posts", [2], with_payload=["metadata.n"])[0].payload == {"metadata": {"n": 1}}, "with a part of the payload")
exclude = models.PayloadSelectorExclude(exclude=["page_content", "metadata.n"])
check(client.retrieve("posts", [2], with_payload=exclude)[0].payload == {"metadata": {"tags": ["odd", "all"]}}, "without a part of it")
check(client.retrieve("posts", [2], with_payload=False)[0].payload is None, "without any of it")
client.delete("posts", points_selector=[99, 12345])
tagged = lambda tag: models.Filter(must=[models.FieldCondition(key="metadata.tags[]", match=models.MatchValue(value=tag))])
check(client.count("posts", exact=True).count == n, "one is deleted")
odd = [i for i in range(n) if i % 2 == 1]
check(client.count("posts", count_filter=tagged("odd")).count == len(odd), "matching ones are counted")
seen, offset = [], None
while True:
    page, offset = client.scroll("posts", limit=3, offset=offset, scroll_filter=tagged("all"))
    seen += page
    if offset is None:
        break
check(sorted(str(one.id) for one in seen) == [str(one.id) for one in seen], "a scroll has an order")
check({one.id: one.payload for one in seen} == dict(zip(ids, payloads)), "and all points, once")
check(client.scroll("posts", limit=100, scroll_filter=tagged("none")) == ([], None), "none matches")

# Searches.
query = list(vectors[0])
found(client.query_points("posts", query=query, limit=n).points, order, "the nearest")
found(client.query_points("posts", query=query, limit=3, offset=2).points, order[2:5], "after the first two")
exact = models.SearchParams(exact=True, hnsw_ef=64)
both = client.query_points("posts", query=query, limit=2, with_vectors=True, search_params=exact).points
found(both, order[:2], "exactly")
check(both[1].payload == payloads[order[1]] and len(both[1].vector) == dims, "with payload and vector")
between = models.Filter(must=[models.FieldCondition(key="metadata.n", range=models.Range(gte=1, lt=6))], must_not=tagged("even").must)
found(client.query_points("posts", query=query, query_filter=between).points, [i for i in order if i in (1, 3, 5)], "those that match")
threshold = (cosines[order[1]] + cosines[order[2]]) / 2
found(client.query_points("posts", query=query, score_threshold=threshold).points, order[:2], "those near enough")
found(client.query_points("posts", query=1, limit=3).points, order[1:4], "those like a point")
document = models.Document(text=texts[0], model=model)
by_text = client.query_points("posts", query=document, limit=3).points
check([one.id for one in by_text] == [ids[i] for i in order[:3]], "those like a text, which the server embeds")
without = client.query_points("posts", limit=3).points
check([one.id for one in without] == [one.id for one in seen[:3]], "without a query, those of a scroll")

# A point without a vector is embedded by its text.
client.upsert("posts", [models.PointStruct(id=98, vector={}, payload={"text": texts[0]})])
check(abs(client.query_points("posts", query=query, query_filter=None, limit=1).points[0].score - 1) < 1e-3, "its text is embedded")
client.delete("posts", points_selector=models.PointIdsList(points=[98]))

# What cannot be done is told.
for what, word, call in [
    ("a vector of another size", f"{dims}", lambda: client.query_points("posts", query=[1.0, 2.0])),
    ("a point of another size", "point 0", lambda: client.upsert("posts", [models.PointStruct(id=5, vector=[1.0])])),
    ("a value of another type", "metadata.n", lambda: client.upsert("posts", [models.PointStruct(id=5, vector=query, payload={"metadata": {"n": "five"}})])),
    ("a payload's own id", "\"id\"", lambda: client.upsert("posts", [models.PointStruct(id=5, vector=query, payload={"id": 5})])),
    ("a named vector", "named vectors", lambda: client.query_points("posts", query=query, using="image")),
    ("a recommendation", "kind of query", lambda: client.query_points("posts", query=models.RecommendQuery(recommend=models.RecommendInput(positive=[1])))),
    ("a fusion", "prefetch", lambda: client.query_points("posts", prefetch=[models.Prefetch(query=query)], query=models.FusionQuery(fusion="rrf"))),
    ("quantization params", "quantization", lambda: client.query_points("posts", query=query, search_params=models.SearchParams(quantization=models.QuantizationSearchParams(rescore=True)))),
    ("ids in a filter", "has_id", lambda: client.count("posts", count_filter=models.Filter(must=[models.HasIdCondition(has_id=[1])]))),
    ("full text in a filter", "\"text\"", lambda: client.count("posts", count_filter=models.Filter(must=[models.FieldCondition(key="metadata.tags", match=models.MatchText(text="a"))]))),
    ("an order of its own", "order_by", lambda: client.scroll("posts", order_by="metadata.n")),
    ("too many points", "10000", lambda: client.scroll("posts", limit=10_001)),
    ("an index of another type", "keyword", lambda: client.create_payload_index("posts", "metadata.tags", field_schema="float")),
    ("a full-text index", "text", lambda: client.create_payload_index("posts", "page_content", field_schema="text")),
    ("an index of a configured collection", "settings", lambda: client.create_payload_index("jobs", "shift", field_schema="keyword")),
]:
    refused(409 if "an index of" in what else 400, word, what, call)
refused(404, "model", "another model's text", lambda: client.query_points("posts", query=models.Document(text="a", model="another")))
refused(404, "12345", "a point that is not there", lambda: client.query_points("posts", query=12345))
check(client.count("posts").count == n, "nothing of that was written")

# Kindred's own collections are there, too.
check(client.create_payload_index("jobs", "company", field_schema="keyword").status == models.UpdateStatus.COMPLETED, "a field that is indexed")
client.upsert("jobs", [models.PointStruct(id="a1", vector={}, payload={"title": texts[0], "company": "Kiln"})])
by_company = models.Filter(must=[models.FieldCondition(key="company", match=models.MatchAny(any=["Kiln"]))])
check(client.query_points("jobs", query=query, query_filter=by_company).points[0].id == "a1", "a job is found")

client.delete("posts", points_selector=models.FilterSelector(filter=tagged("even")))
check(client.count("posts").count == len(odd), "what matches is deleted")
with warnings.catch_warnings():
    # It does not find a version, says so, and goes on.
    warnings.simplefilter("ignore")
    check(len(QdrantClient(url=base_url).get_collections().collections) == 3, "a client that asks for the version works")
check(client.delete_collection("posts") and not client.collection_exists("posts"), "the collection is deleted")
check(not client.delete_collection("posts"), "once")

done()
