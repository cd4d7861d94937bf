"""What is asked and answered, as the server's JSON has it. `GET /openapi.json` describes every key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, Required, TypedDict

Json = Mapping[str, Any]
Document = Mapping[str, Any]
Retrieval = Literal["dense", "lexical", "hybrid"]
Strategy = Literal["auto", "graph", "exact"]
Judgments = Mapping[str, Mapping[str, int]] | str


class Query(TypedDict, total=False):
    """What to look for: a text, a vector, or a document by its id, which may be of another collection."""

    text: str
    vector: Sequence[float]
    id: str
    collection: str


class SearchOptions(TypedDict, total=False):
    """How to search."""

    filter: Json
    limit: int
    retrieval: Retrieval
    candidates: int
    ef_search: int
    strategy: Strategy
    profile: str | Json
    fields: Sequence[str]
    explain: bool
    group_by: str | Json
    diversity: float
    phrases: int
    cross_encode: bool | Json
    facets: Sequence[str]
    cache: bool
    timeout_ms: int


class Timings(TypedDict):
    """Where the time went, in microseconds."""

    tokenize_us: int
    queue_us: int
    encode_us: int
    retrieve_us: int
    rescore_us: int
    cross_encode_us: int
    total_us: int


class Plan(TypedDict):
    """How hits were found."""

    retrieval: Retrieval
    adapted: bool
    strategy: str
    n_matching: int
    n_documents: int
    selectivity: float
    estimated_selectivity: float
    ef_search: int
    n_visited: int
    n_distances: int
    coverage: float


class Phrase(TypedDict):
    """A part of a hit's text, and how near to the query it is."""

    text: str
    score: float


class Hit(TypedDict):
    """A document that was found."""

    id: str
    score: float
    fields: dict[str, Any]
    retrieval_score: NotRequired[float]
    lexical_score: NotRequired[float]
    cross_encoder_score: NotRequired[float]
    phrases: NotRequired[list[Phrase]]
    explanation: NotRequired[Any]
    ranks: NotRequired[dict[str, int]]


class FacetCount(TypedDict):
    """A value of a field, and how many matching documents have it."""

    value: str | bool
    count: int


class SearchAnswer(TypedDict):
    """Hits, best first."""

    hits: list[Hit]
    timings: Timings
    plan: Plan
    generation: str
    model: str
    facets: NotRequired[dict[str, list[FacetCount]]]
    degraded: NotRequired[list[str]]


class Placement(TypedDict):
    """What became of a document in a search."""

    id: str
    fate: str
    reason: str
    retrieval: dict[str, Any]
    rescore: dict[str, Any]
    explanation: Any
    phrases: list[Phrase]
    plan: Plan
    timings: Timings
    generation: str
    model: str
    rank: NotRequired[int]
    filter: NotRequired[list[dict[str, Any]]]
    cross_encode: NotRequired[dict[str, Any]]
    degraded: NotRequired[list[str]]


class Requirement(TypedDict):
    """What a posting asks for, and what a member's document shows of it."""

    kind: str
    status: Literal["met", "partial", "missing", "unknown"]
    posting: dict[str, Any]
    member: NotRequired[dict[str, Any]]
    cosine: NotRequired[float]
    distance_km: NotRequired[float]
    next_step: NotRequired[str]


class FitAnswer(TypedDict):
    """A posting's requirements, one by one."""

    requirements: list[Requirement]
    note: str
    model: str


class StoredDocument(TypedDict):
    """A document as it is stored; `seqno` is its last change."""

    id: str
    seqno: int
    fields: dict[str, Any]


class WriteOptions(TypedDict, total=False):
    """How to write: under a condition, and whether to wait until searches find it."""

    create_only: bool
    if_seqno: int
    refresh: Literal["wait", "none"]


class BulkOptions(TypedDict, total=False):
    """How to write many."""

    create_only: bool
    refresh: Literal["wait", "none"]


class Written(TypedDict):
    """What became of one document."""

    id: str
    result: Literal["created", "updated", "unchanged"]
    seqno: int


class Deleted(TypedDict):
    """What was deleted: an id, a name, or how many."""

    deleted: Any
    seqno: NotRequired[int]


class ErrorDetail(TypedDict):
    """Why an item was refused."""

    code: str
    message: str
    request_id: str
    field: NotRequired[str]


class Item(TypedDict):
    """What became of one item of a batch."""

    status: int
    id: NotRequired[str]
    result: NotRequired[str]
    seqno: NotRequired[int]
    error: NotRequired[ErrorDetail]


class BatchAnswer(TypedDict):
    """What became of a batch, item by item."""

    took_ms: int
    errors: bool
    seqno: int
    n_encoded: int
    items: list[Item]


@dataclass
class BulkResult:
    """What became of many documents, item by item, in their order."""

    items: list[Item] = field(default_factory=list)
    n_encoded: int = 0
    seqno: int = 0

    @property
    def refused(self) -> list[tuple[int, Item]]:
        """The items that were not taken, with their positions."""
        return [(position, item) for position, item in enumerate(self.items) if "error" in item]

    def add(self, answer: BatchAnswer) -> None:
        """Add what became of a batch."""
        self.items += answer["items"]
        self.n_encoded += answer["n_encoded"]
        self.seqno = answer["seqno"]


class FieldSpec(TypedDict, total=False):
    """A field of a collection."""

    type: Required[Literal["text", "keyword", "number", "time", "geo", "bool"]]
    index: bool
    role: str


class CollectionDefinition(TypedDict, total=False):
    """What a collection is."""

    template: Required[str]
    fields: Mapping[str, FieldSpec]
    query_prompt: str
    document_prompt: str
    chunks: Json
    lexical: str
    stop_words: list[str]


class Collection(TypedDict):
    """A collection as it is now."""

    name: str
    n_documents: int
    n_vectors: int
    n_changes: int
    generation: str
    seqno: int
    model: str
    fingerprint: str
    dims: int
    files: list[dict[str, Any]]
    definition: CollectionDefinition
    generation_created_at: NotRequired[str]
    quantization: NotRequired[str]


class ProfileInfo(TypedDict):
    """A profile in a list."""

    name: str
    directions: list[str]
    version: NotRequired[int]


class Profile(TypedDict):
    """A profile, stored or of the settings."""

    name: str
    version: NotRequired[int]
    profile: NotRequired[dict[str, Any]]


class RebuildOptions(TypedDict, total=False):
    """What to build, and when it serves."""

    model: str
    params: Json
    gates: Json
    activate: Literal["auto", "manual"]


class Started(TypedDict):
    """Work in the background: `wait(task)` waits for it."""

    task: str


class Task(TypedDict):
    """Work in the background; `done` and `total` are of the phase."""

    id: str
    kind: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    phase: str
    done: int
    total: int
    rate: float
    started_at: str
    collection: NotRequired[str]
    eta_s: NotRequired[float]
    ended_at: NotRequired[str]
    error: NotRequired[str]
    result: NotRequired[Any]


class Generation(TypedDict):
    """An immutable build of a collection."""

    id: str
    status: str
    n_documents: int
    covered_seqno: int
    created_at: str
    model: str
    fingerprint: str
    size_bytes: int


class Activated(TypedDict):
    """What serves now."""

    generation: str


class JudgedQuery(TypedDict):
    """A query to evaluate with."""

    id: str
    text: str


class EvaluationOptions(TypedDict, total=False):
    """What to compare."""

    variants: Sequence[Json]
    stages: bool


class Evaluation(TypedDict):
    """How well judged queries are answered, by variant, stage and query."""

    collection: str
    n_queries: int
    n_judgments: int
    skipped: dict[str, int]
    warnings: list[str]
    variants: list[dict[str, Any]]


class RecallOptions(TypedDict, total=False):
    """What to measure recall with."""

    num: int
    k: int
    ef_search: int
    filter: Json
    seed: int


class Recall(TypedDict):
    """How much of the exact answer searches find; `None` where nothing could be measured."""

    recall: float | None
    p5: float | None
    ci95: tuple[float, float] | None
    n_queries: int
    n_from_queries: int
    k: int
    ef_search: int
    seed: int
    by_selectivity: list[dict[str, Any]]
    exact_us: int | None
    auto_us: int | None
    generation: str


class RecallHistory(TypedDict):
    """The recall of live searches, oldest first."""

    history: list[dict[str, Any]]
    alarm: bool


class Info(TypedDict):
    """What the server is."""

    version: str
    model: dict[str, Any]
    collections: list[str]
    cross_encoder: NotRequired[dict[str, Any]]
