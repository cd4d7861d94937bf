"""The same client for asyncio. It follows client.py method by method."""

from __future__ import annotations

import asyncio
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


class AsyncKindred:
    """A Kindred server, for asyncio: `Kindred` with the same methods, each to be awaited.

    `close()` it, or use it in an `async with`.
    Every method raises an `ApiError` for what the server refuses, `ConnectionFailed` where it is not reached.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retry: transport.Retry | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Connect with the first request."""
        self._http = http or httpx.AsyncClient(**transport.http_options(base_url, api_key, timeout))
        self._retry = retry or transport.Retry()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Use it in an `async with`."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        await self.close()

    async def _send(self, call: calls.Call[T]) -> T:
        for attempt in itertools.count(1):
            try:
                response = await self._http.request(call.method, call.path, **transport.request_options(call))
                return transport.read(call, response)
            except (httpx.HTTPError, ApiError) as e:
                delay = self._retry.delay(attempt, e)
                if delay is None:
                    transport.give_up(e)
                await asyncio.sleep(delay)
        raise AssertionError

    async def search(self, collection: str, query: str | t.Query, **options: Unpack[t.SearchOptions]) -> t.SearchAnswer:
        """Find documents by a text, or by `{"vector": …}` or `{"id": …}`."""
        return await self._send(calls.search(collection, query, options))

    async def match(self, source: tuple[str, str], to: str, **options: Unpack[t.SearchOptions]) -> t.SearchAnswer:
        """Find documents of a collection that match a document, `("members", "m7")`, of another or the same."""
        return await self._send(calls.match(source, to, options))

    async def explain(
        self, collection: str, query: str | t.Query, document: str, **options: Unpack[t.SearchOptions]
    ) -> t.Placement:
        """Tell what becomes of a document in a search, and why."""
        return await self._send(calls.explain(collection, query, document, options))

    async def fit(self, member: str | t.Json, job: str | t.Json) -> t.FitAnswer:
        """List what a posting asks for, and what a member's document shows of it."""
        return await self._send(calls.fit(member, job))

    async def get_document(self, collection: str, document: str) -> t.StoredDocument:
        """Get a document as it is stored."""
        return await self._send(calls.get_document(collection, document))

    async def put_document(self, collection: str, document: t.Document, **options: Unpack[t.WriteOptions]) -> t.Written:
        """Insert or replace a document."""
        return await self._send(calls.put_document(collection, document, options))

    async def patch_document(self, collection: str, document: str, patch: t.Json, **options: Unpack[t.WriteOptions]) -> t.Written:
        """Change fields of a document (a merge patch, RFC 7396)."""
        return await self._send(calls.patch_document(collection, document, patch, options))

    async def delete_document(self, collection: str, document: str, **options: Unpack[t.WriteOptions]) -> t.Deleted:
        """Delete a document."""
        return await self._send(calls.delete_document(collection, document, options))

    async def delete_documents(
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
        return await self._send(calls.delete_documents(collection, ids, matching, every))

    async def put_documents(
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
        return await self._write("PUT", collection, documents, (batch_size, batch_bytes), options, on_batch)

    async def patch_documents(
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
        return await self._write("PATCH", collection, patches, (batch_size, batch_bytes), options, on_batch)

    async def _write(
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
            result.add(await self._send(batch))
            if on_batch:
                on_batch(result)
        return result

    async def collections(self) -> list[t.Collection]:
        """List the collections."""
        return await self._send(calls.collections())

    async def get_collection(self, collection: str) -> t.Collection:
        """Look at a collection."""
        return await self._send(calls.get_collection(collection))

    async def put_collection(self, collection: str, definition: t.CollectionDefinition) -> t.Collection:
        """Make a collection; again with the same definition changes nothing."""
        return await self._send(calls.put_collection(collection, definition))

    async def delete_collection(self, collection: str) -> t.Deleted:
        """Delete a collection and its documents."""
        return await self._send(calls.delete_collection(collection))

    async def profiles(self, collection: str) -> list[t.ProfileInfo]:
        """List a collection's profiles."""
        return await self._send(calls.profiles(collection))

    async def get_profile(self, collection: str, profile: str) -> t.Profile:
        """Look at a stored profile."""
        return await self._send(calls.get_profile(collection, profile))

    async def put_profile(self, collection: str, profile: str, contents: t.Json) -> t.Profile:
        """Keep a profile: searches use it at once."""
        return await self._send(calls.put_profile(collection, profile, contents))

    async def delete_profile(self, collection: str, profile: str) -> t.Deleted:
        """Delete a stored profile."""
        return await self._send(calls.delete_profile(collection, profile))

    async def rebuild(self, collection: str, **options: Unpack[t.RebuildOptions]) -> t.Started:
        """Build a generation in the background; `wait` for it."""
        return await self._send(calls.rebuild(collection, options))

    async def tasks(self) -> list[t.Task]:
        """List the tasks, newest first."""
        return await self._send(calls.tasks())

    async def task(self, task: str) -> t.Task:
        """Look at a task."""
        return await self._send(calls.task(task))

    async def cancel_task(self, task: str) -> t.Task:
        """Cancel a task."""
        return await self._send(calls.cancel_task(task))

    async def wait(
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
            now = await self.task(number)
            if on_progress:
                on_progress(now)
            if transport.ended(now, deadline):
                return now
            await asyncio.sleep(interval)
        raise AssertionError

    async def generations(self, collection: str) -> list[t.Generation]:
        """List a collection's generations, newest first."""
        return await self._send(calls.generations(collection))

    async def activate(self, collection: str, generation: str) -> t.Activated:
        """Make a generation the one that serves."""
        return await self._send(calls.activate(collection, generation))

    async def rollback(self, collection: str) -> t.Activated:
        """Go back to the generation that served before."""
        return await self._send(calls.rollback(collection))

    async def evaluate(
        self,
        collection: str,
        queries: Sequence[t.JudgedQuery],
        judgments: t.Judgments,
        **options: Unpack[t.EvaluationOptions],
    ) -> t.Started:
        """Evaluate searches on judged queries in the background; `wait` for it, then get the `evaluation`."""
        return await self._send(calls.evaluate(collection, queries, judgments, options))

    async def evaluation(self, task: str | t.Started) -> t.Evaluation:
        """Tell what an evaluation found."""
        return await self._send(calls.evaluation(task if isinstance(task, str) else task["task"]))

    async def recall(self, collection: str, **options: Unpack[t.RecallOptions]) -> t.Recall:
        """Measure how much of the exact answer searches find."""
        return await self._send(calls.recall(collection, options))

    async def recall_history(self, collection: str) -> t.RecallHistory:
        """Tell the recall of live searches over time, as the server watches it."""
        return await self._send(calls.recall_history(collection))

    async def embed(self, texts: Sequence[str], *, truncate: bool = False) -> list[list[float]]:
        """Embed texts with the server's model; what is too long is refused unless it may be cut."""
        return [vector for call in calls.embed(texts, truncate=truncate) for vector in await self._send(call)]

    async def info(self) -> t.Info:
        """Tell version, model and collections."""
        return await self._send(calls.info())

    async def ready(self) -> bool:
        """Whether the server answers searches; asked once."""
        try:
            return (await self._http.get(calls.ready().path)).is_success
        except httpx.HTTPError:
            return False
