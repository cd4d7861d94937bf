"""What both clients do alike: settings, when to try again, answers."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict, TypeVar, cast

import httpx

from . import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .calls import Call
    from .types import Task

T = TypeVar("T")
_FIRST_LOOK_S = 0.05
_SLOWEST_LOOK_S = 2.0


@dataclass(frozen=True)
class Retry:
    """When a request is tried again: the server has too much to do or is starting (429, 503), or was not reached.

    `Retry-After` is honoured; without it, the wait doubles each time, and half of it is drawn by lot. A wait of more than
    `max_delay_s` is not waited for: the error is raised.
    """

    attempts: int = 4
    first_delay_s: float = 0.2
    max_delay_s: float = 20.0

    def delay(self, attempt: int, error: Exception) -> float | None:
        """Seconds to wait after the failure of this attempt, from 1 on; `None`: it is final."""
        refused = isinstance(error, errors.Overloaded | errors.Unavailable)
        if attempt >= self.attempts or not (refused or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)):
            return None
        asked = error.retry_after if isinstance(error, errors.ApiError) else None
        if asked is None:
            return min(self.first_delay_s * 2.0 ** (attempt - 1), self.max_delay_s) * random.uniform(0.5, 1.0)
        return asked if asked <= self.max_delay_s else None


class HttpOptions(TypedDict):
    """What httpx's clients are made with."""

    base_url: str
    headers: dict[str, str]
    timeout: float


def http_options(base_url: str | None, api_key: str | None, timeout: float) -> HttpOptions:
    """Where the server is, and what every request carries."""
    url = base_url or os.environ.get("KINDRED_URL") or "http://127.0.0.1:7700"
    headers = {"user-agent": "kindred-client/0.1.0"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    return {"base_url": url, "headers": headers, "timeout": timeout}


def request_options(call: Call[Any]) -> dict[str, Any]:
    """What httpx is given of a call, beside method and path."""
    body = {"content": call.content} if call.content is not None else {"json": call.json} if call.json is not None else {}
    return {**body, "params": call.params or None}


def read(call: Call[T], response: httpx.Response) -> T:
    """Make the answer, or the error, of a response."""
    if not response.is_success:
        raise errors.of(response)
    try:
        answer = response.json()
        return cast("T", answer if call.key is None else answer[call.key])
    except (ValueError, KeyError, TypeError) as e:
        raise errors.ConnectionFailed(f"what answers at {response.url} is no Kindred server") from e


def give_up(error: Exception) -> NoReturn:
    """Raise the error that ends a request, in this package's words."""
    if isinstance(error, httpx.HTTPError):
        raise errors.ConnectionFailed(f"no answer: {error or type(error).__name__}") from error
    raise error


def looks() -> Iterator[float]:
    """Times between two looks at a task, in seconds: longer and longer."""
    interval = _FIRST_LOOK_S
    while True:
        yield interval
        interval = min(interval * 1.5, _SLOWEST_LOOK_S)


def ended(task: Task, deadline: float | None) -> bool:
    """Whether a task is done; one that failed, was cancelled or takes too long is an error."""
    if task["status"] in ("failed", "cancelled"):
        raise errors.TaskFailed(task)
    is_done = task["status"] == "done"
    if not is_done and deadline is not None and time.monotonic() >= deadline:
        raise errors.TaskTimeout(task)
    return is_done
