"""What can go wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from .types import Task


class KindredError(Exception):
    """Anything that this package raises."""


class ConnectionFailed(KindredError):
    """The server was not reached, or did not answer in time."""


class ApiError(KindredError):
    """The server refused the request. `status` is HTTP's, the rest what the server says."""

    def __init__(self, status: int, error: Mapping[str, Any], retry_after: float | None) -> None:
        """Take the server's words."""
        self.status = status
        self.code = str(error.get("code", "unknown"))
        self.message = str(error.get("message", ""))
        self.field: str | None = error.get("field")
        self.request_id: str | None = error.get("request_id")
        self.retry_after = retry_after
        at = f" ({self.field})" if self.field else ""
        super().__init__(f"{status} {self.code}{at}: {self.message}")


class InvalidRequest(ApiError):
    """The request cannot be read (400), a value cannot be accepted (422), or it is over a limit (413)."""


class NotFound(ApiError):
    """There is no such collection, document, task, … (404)."""


class NotAllowed(ApiError):
    """The request brings no API key that is known (401), or one that may not do this (403)."""


class Conflict(ApiError):
    """A precondition does not hold, or something else is there already (409)."""


class Overloaded(ApiError):
    """The server has too much to do (429); `retry_after` says when to come again."""


class Unavailable(ApiError):
    """The server cannot answer now (503)."""


class TaskFailed(KindredError):
    """A task that was waited for has failed or was cancelled; `task` says how."""

    def __init__(self, task: Task) -> None:
        """Take the task as it ended."""
        self.task = task
        super().__init__(f"{task['kind']} {task['id']} {task['status']}: {task.get('error', 'no reason given')}")


class TaskTimeout(KindredError):
    """A task that was waited for goes on; `task` says how far it is."""

    def __init__(self, task: Task) -> None:
        """Take the task as it is."""
        self.task = task
        super().__init__(f"{task['kind']} {task['id']} is still {task['status']}: {task['phase']}")


_OF_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
    422: InvalidRequest,
    429: Overloaded,
    503: Unavailable,
}


def of(response: httpx.Response) -> ApiError:
    """Make an error of an answer, also where it is not from the server itself but from a proxy before it."""
    try:
        said = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        said = response.text[:500]
    error = said if isinstance(said, dict) else {"message": said, "request_id": response.headers.get("x-request-id")}
    try:
        retry_after = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        retry_after = None
    return _OF_STATUS.get(response.status_code, ApiError)(response.status_code, error, retry_after)
