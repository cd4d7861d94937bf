"""Client of Kindred, the retrieval server for job search and people search."""

from . import types
from .async_client import AsyncKindred
from .client import Kindred
from .errors import (
    ApiError,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    KindredError,
    NotAllowed,
    NotFound,
    Overloaded,
    TaskFailed,
    TaskTimeout,
    Unavailable,
)
from .transport import Retry
from .types import BulkResult

__all__ = [
    "ApiError",
    "AsyncKindred",
    "BulkResult",
    "Conflict",
    "ConnectionFailed",
    "InvalidRequest",
    "Kindred",
    "KindredError",
    "NotAllowed",
    "NotFound",
    "Overloaded",
    "Retry",
    "TaskFailed",
    "TaskTimeout",
    "Unavailable",
    "types",
]
