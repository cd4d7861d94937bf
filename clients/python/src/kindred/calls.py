"""The requests of both clients: what is sent for what is asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from . import types as t

T = TypeVar("T")
#: Texts of one request for embeddings.
EMBEDDED_AT_ONCE = 256


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request whose answer is a `T`; `key` names the part of the answer that is wanted."""

    method: str
    path: str
    json: Any = None
    content: bytes | None = None
    params: dict[str, str] = field(default_factory=dict)
    key: str | None = None


def _path(*segments: str) -> str:
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def _of(collection: str, *segments: str) -> str:
    return _path("collections", collection, *segments)


def _params(options: Mapping[str, Any]) -> dict[str, str]:
    texts = {True: "true", False: "false"}
    return {key: texts[value] if isinstance(value, bool) else str(value) for key, value in options.items()}


def _query(query: str | t.Query) -> t.Query:
    return {"text": query} if isinstance(query, str) else query


def search(collection: str, query: str | t.Query, options: t.SearchOptions) -> Call[t.SearchAnswer]:
    """Search."""
    return Call("POST", _of(collection, "search"), {"query": _query(query), **options})


def match(source: tuple[str, str], to: str, options: t.SearchOptions) -> Call[t.SearchAnswer]:
    """Search with a document."""
    return Call("POST", _path("match"), {"from": {"collection": source[0], "id": source[1]}, "to": to, **options})


def explain(collection: str, query: str | t.Query, document: str, options: t.SearchOptions) -> Call[t.Placement]:
    """Explain what became of a document."""
    return Call("POST", _of(collection, "explain"), {"query": _query(query), "id": document, **options})


def fit(member: str | t.Json, job: str | t.Json) -> Call[t.FitAnswer]:
    """Hold a member against a posting."""
    return Call("POST", _path("fit"), {"member": member, "job": job})


def get_document(collection: str, document: str) -> Call[t.StoredDocument]:
    """Get a document."""
    return Call("GET", _of(collection, "documents", document))


def put_document(collection: str, document: t.Document, options: t.WriteOptions) -> Call[t.Written]:
    """Put a document."""
    return Call("PUT", _of(collection, "documents", str(document["id"])), document, params=_params(options))


def patch_document(collection: str, document: str, patch: t.Json, options: t.WriteOptions) -> Call[t.Written]:
    """Change fields of a document."""
    return Call("PATCH", _of(collection, "documents", document), patch, params=_params(options))


def delete_document(collection: str, document: str, options: t.WriteOptions) -> Call[t.Deleted]:
    """Delete a document."""
    return Call("DELETE", _of(collection, "documents", document), params=_params(options))


def delete_documents(collection: str, ids: Sequence[str] | None, matching: t.Json | None, every: bool) -> Call[t.Deleted]:
    """Delete documents by ids, by a filter, or all."""
    body = {"ids": ids, "filter": matching, "all": every or None}
    return Call("POST", _of(collection, "documents", "delete"), {key: it for key, it in body.items() if it is not None})


def write_batches(
    method: str,
    collection: str,
    documents: Iterable[t.Document],
    size: tuple[int, int],
    options: t.BulkOptions,
) -> Iterator[Call[t.BatchAnswer]]:
    """Write documents in batches of at most so many documents and, but for one alone, so many bytes."""
    max_documents, max_bytes = size
    lines: list[bytes] = []
    n_bytes = 0

    def batch() -> Call[t.BatchAnswer]:
        return Call(method, _of(collection, "documents"), content=b"\n".join(lines), params=_params(options))

    for document in documents:
        line = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
        if lines and (len(lines) >= max_documents or n_bytes + len(line) > max_bytes):
            yield batch()
            lines, n_bytes = [], 0
        lines.append(line)
        n_bytes += len(line) + 1
    if lines:
        yield batch()


def collections() -> Call[list[t.Collection]]:
    """List the collections."""
    return Call("GET", _path("collections"), key="collections")


def get_collection(collection: str) -> Call[t.Collection]:
    """Look at a collection."""
    return Call("GET", _of(collection))


def put_collection(collection: str, definition: t.CollectionDefinition) -> Call[t.Collection]:
    """Make a collection."""
    return Call("PUT", _of(collection), definition)


def delete_collection(collection: str) -> Call[t.Deleted]:
    """Delete a collection."""
    return Call("DELETE", _of(collection))


def profiles(collection: str) -> Call[list[t.ProfileInfo]]:
    """List the profiles."""
    return Call("GET", _of(collection, "profiles"), key="profiles")


def get_profile(collection: str, profile: str) -> Call[t.Profile]:
    """Look at a stored profile."""
    return Call("GET", _of(collection, "profiles", profile))


def put_profile(collection: str, profile: str, contents: t.Json) -> Call[t.Profile]:
    """Keep a profile."""
    return Call("PUT", _of(collection, "profiles", profile), contents)


def delete_profile(collection: str, profile: str) -> Call[t.Deleted]:
    """Delete a stored profile."""
    return Call("DELETE", _of(collection, "profiles", profile))


def rebuild(collection: str, options: t.RebuildOptions) -> Call[t.Started]:
    """Build a generation."""
    return Call("POST", _of(collection, "rebuild"), dict(options))


def tasks() -> Call[list[t.Task]]:
    """List the tasks."""
    return Call("GET", _path("tasks"), key="tasks")


def task(number: str) -> Call[t.Task]:
    """Look at a task."""
    return Call("GET", _path("tasks", number))


def cancel_task(number: str) -> Call[t.Task]:
    """Cancel a task."""
    return Call("DELETE", _path("tasks", number))


def generations(collection: str) -> Call[list[t.Generation]]:
    """List the generations."""
    return Call("GET", _of(collection, "generations"), key="generations")


def activate(collection: str, generation: str) -> Call[t.Activated]:
    """Make a generation serve."""
    return Call("POST", _of(collection, "generations", generation, "activate"))


def rollback(collection: str) -> Call[t.Activated]:
    """Go back to the generation before."""
    return Call("POST", _of(collection, "rollback"))


def evaluate(
    collection: str, queries: Sequence[t.JudgedQuery], judgments: t.Judgments, options: t.EvaluationOptions
) -> Call[t.Started]:
    """Evaluate searches on judged queries."""
    body = {"collection": collection, "queries": queries, "judgments": judgments, **options}
    return Call("POST", _path("evaluations"), body)


def evaluation(number: str) -> Call[t.Evaluation]:
    """Look at what an evaluation found."""
    return Call("GET", _path("evaluations", number))


def recall(collection: str, options: t.RecallOptions) -> Call[t.Recall]:
    """Measure recall."""
    return Call("POST", _of(collection, "recall"), dict(options))


def recall_history(collection: str) -> Call[t.RecallHistory]:
    """Tell the recall of live searches."""
    return Call("GET", _of(collection, "recall"))


def embed(texts: Sequence[str], *, truncate: bool) -> Iterator[Call[list[list[float]]]]:
    """Embed texts, some at a time."""
    for start in range(0, len(texts), EMBEDDED_AT_ONCE):
        part = texts[start : start + EMBEDDED_AT_ONCE]
        yield Call("POST", "/embed", {"inputs": list(part), "truncate": truncate})


def info() -> Call[t.Info]:
    """Tell what the server is."""
    return Call("GET", _path("info"))


def ready() -> Call[t.Json]:
    """Ask whether the server is ready."""
    return Call("GET", "/readyz")
