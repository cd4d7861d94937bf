"""The client that waits for answers."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from . import calls, transport
from . import types as t
from .errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Unpack

T = TypeVar("T")


class Kindred:
    """A Kindred server. Safe to share between threads; `close()` it, or use it in a `with`.

    `base_url`: without it the environment's KINDRED_URL, else http://127.0.0.1:7700. `api_key` is sent as a bearer token.
    `timeout`: seconds that connecting, and each wait for bytes, may take. `http`: an httpx client of your own (proxies, TLS),
    which then knows address, key and timeout.

    Every method raises an `ApiError` for what the server refuses, `ConnectionFailed` where it is not reached.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retry: transport.Retry | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        """Connect with the first request."""
        self._http = http or httpx.Client(**transport.http_options(base_url, api_key, timeout))
        self._retry = retry or transport.Retry()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Use it in a `with`."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        self.close()

    def _send(self, call: calls.Call[T]) -> T:
        for attempt in itertools.count(1):
            try:
                response = self._http.request(call.method, call.path, **transport.request_options(call))
                return transport.read(call, response)
            except (httpx.HTTPError, ApiError) as e:
                delay = self._retry.delay(attempt, e)
                if delay is None:
                    transport.give_up(e)
                time.sleep(delay)
        raise AssertionError

    def search(self, collection: str, query: str | t.Query, **options: Unpack[t.SearchOptions]) -> t.SearchAnswer:
        """Find documents by a text, or by `{"vector": …}` or `{"id": …}`."""
        return self._send(calls.search(collection, query, options))

    def match(self, source: tuple[str, str], to: str, **options: Unpack[t.SearchOptions]) -> t.SearchAnswer:
        """Find documents of a collection that match a document, `("members", "m7")`, of another or the same."""
        return self._send(calls.match(source, to, options))

    def explain(self, collection: str, query: str | t.Query, document: str, **options: Unpack[t.SearchOptions]) -> t.Placement:
        """Tell what becomes of a document in a search, and why."""
        return self._send(calls.explain(collection, query, document, options))

    def fit(self, member: str | t.Json, job: str | t.Json) -> t.FitAnswer:
        """List what a posting asks for, and what a member's document shows of it."""
        return self._send(calls.fit(member, job))

    def get_document(self, collection: str, document: str) -> t.StoredDocument:
        """Get a document as it is stored."""
        return self._send(calls.get_document(collection, document))

    def put_document(self, collection: str, document: t.Document, **options: Unpack[t.WriteOptions]) -> t.Written:
        """Insert or replace a document."""
        return self._send(calls.put_document(collection, document, options))

    def patch_document(self, collection: str, document: str, patch: t.Json, **options: Unpack[t.WriteOptions]) -> t.Written:
        """Change fields of a document (a merge patch, RFC 7396)."""
        return self._send(calls.patch_document(collection, document, patch, options))

    def delete_document(self, collection: str, document: str, **options: Unpack[t.WriteOptions]) -> t.Deleted:
        """Delete a document."""
        return self._send(calls.delete_document(collection, document, options))

    def delete_documents(
        self,
        collection: str,
        *,
        ids: Sequence[str] | None = None,
        matching: t.Json | None = None,
        every: bool = False,
    ) -> t.Deleted:
        """Delete the documents with some ids, those that match a filter, or every one; returns how many.

        A filter must name a condition: only `every=True` deletes all documents.
        """
        return self._send(calls.delete_documents(collection, ids, matching, every))

    def put_documents(
        self,
        collection: str,
        documents: Iterable[t.Document],
        *,
        batch_size: int = 1_000,
        batch_bytes: int = 8_000_000,
        on_batch: Callable[[t.BulkResult], None] | None = None,
        **options: Unpack[t.BulkOptions],
    ) -> t.BulkResult:
        """Insert or replace many documents, batch by batch; refused ones spoil no others: look at `refused` of the result.

        `on_batch` is called after each batch with the result so far.
        """
        return self._write("PUT", collection, documents, (batch_size, batch_bytes), options, on_batch)

    def patch_documents(
        self,
        collection: str,
        patches: Iterable[t.Document],
        *,
        batch_size: int = 1_000,
        batch_bytes: int = 8_000_000,
        on_batch: Callable[[t.BulkResult], None] | None = None,
        **options: Unpack[t.BulkOptions],
    ) -> t.BulkResult:
        """Change fields of many documents, each named by the `id` of its patch."""
        return self._write("PATCH", collection, patches, (batch_size, batch_bytes), options, on_batch)

    def _write(
        self,
        method: str,
        collection: str,
        documents: Iterable[t.Document],
        size: tuple[int, int],
        options: t.BulkOptions,
        on_batch: Callable[[t.BulkResult], None] | None,
    ) -> t.BulkResult:
        result = t.BulkResult()
        for batch in calls.write_batches(method, collection, documents, size, options):
            result.add(self._send(batch))
            if on_batch:
                on_batch(result)
        return result

    def collections(self) -> list[t.Collection]:
        """List the collections."""
        return self._send(calls.collections())

    def get_collection(self, collection: str) -> t.Collection:
        """Look at a collection."""
        return self._send(calls.get_collection(collection))

    def put_collection(self, collection: str, definition: t.CollectionDefinition) -> t.Collection:
        """Make a collection; again with the same definition changes nothing."""
        return self._send(calls.put_collection(collection, definition))

    def delete_collection(self, collection: str) -> t.Deleted:
        """Delete a collection and its documents."""
        return self._send(calls.delete_collection(collection))

    def profiles(self, collection: str) -> list[t.ProfileInfo]:
        """List a collection's profiles."""
        return self._send(calls.profiles(collection))

    def get_profile(self, collection: str, profile: str) -> t.Profile:
        """Look at a stored profile."""
        return self._send(calls.get_profile(collection, profile))

    def put_profile(self, collection: str, profile: str, contents: t.Json) -> t.Profile:
        """Keep a profile: searches use it at once."""
        return self._send(calls.put_profile(collection, profile, contents))

    def delete_profile(self, collection: str, profile: str) -> t.Deleted:
        """Delete a stored profile."""
        return self._send(calls.delete_profile(collection, profile))

    def rebuild(self, collection: str, **options: Unpack[t.RebuildOptions]) -> t.Started:
        """Build a generation in the background; `wait` for it."""
        return self._send(calls.rebuild(collection, options))

    def tasks(self) -> list[t.Task]:
        """List the tasks, newest first."""
        return self._send(calls.tasks())

    def task(self, task: str) -> t.Task:
        """Look at a task."""
        return self._send(calls.task(task))

    def cancel_task(self, task: str) -> t.Task:
        """Cancel a task."""
        return self._send(calls.cancel_task(task))

    def wait(
        self,
        task: str | t.Started,
        *,
        on_progress: Callable[[t.Task], None] | None = None,
        timeout: float | None = None,
    ) -> t.Task:
        """Wait for a task to end, and tell how it did; `on_progress` is called at each look.

        Raises `TaskFailed` if it failed or was cancelled, `TaskTimeout` after so many seconds (the task goes on).
        """
        number = task if isinstance(task, str) else task["task"]
        deadline = None if timeout is None else time.monotonic() + timeout
        for interval in transport.looks():
            now = self.task(number)
            if on_progress:
                on_progress(now)
            if transport.ended(now, deadline):
                return now
            time.sleep(interval)
        raise AssertionError

    def generations(self, collection: str) -> list[t.Generation]:
        """List a collection's generations, newest first."""
        return self._send(calls.generations(collection))

    def activate(self, collection: str, generation: str) -> t.Activated:
        """Make a generation the one that serves."""
        return self._send(calls.activate(collection, generation))

    def rollback(self, collection: str) -> t.Activated:
        """Go back to the generation that served before."""
        return self._send(calls.rollback(collection))

    def evaluate(
        self,
        collection: str,
        queries: Sequence[t.JudgedQuery],
        judgments: t.Judgments,
        **options: Unpack[t.EvaluationOptions],
    ) -> t.Started:
        """Evaluate searches on judged queries in the background; `wait` for it, then get the `evaluation`."""
        return self._send(calls.evaluate(collection, queries, judgments, options))

    def evaluation(self, task: str | t.Started) -> t.Evaluation:
        """Tell what an evaluation found."""
        return self._send(calls.evaluation(task if isinstance(task, str) else task["task"]))

    def recall(self, collection: str, **options: Unpack[t.RecallOptions]) -> t.Recall:
        """Measure how much of the exact answer searches find."""
        return self._send(calls.recall(collection, options))

    def recall_history(self, collection: str) -> t.RecallHistory:
        """Tell the recall of live searches over time, as the server watches it."""
        return self._send(calls.recall_history(collection))

    def embed(self, texts: Sequence[str], *, truncate: bool = False) -> list[list[float]]:
        """Embed texts with the server's model; what is too long is refused unless it may be cut."""
        return [vector for call in calls.embed(texts, truncate=truncate) for vector in self._send(call)]

    def info(self) -> t.Info:
        """Tell version, model and collections."""
        return self._send(calls.info())

    def ready(self) -> bool:
        """Whether the server answers searches; asked once."""
        try:
            return self._http.get(calls.ready().path).is_success
        except httpx.HTTPError:
            return False
