"""Errors as HTTP answers: a status for each kind, in the shape of OpenAI, with the one line of the command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from m3video.errors import (
    CheckpointError,
    DiskFullError,
    DoesNotFitError,
    M3VideoError,
    NotFiniteError,
    OutOfMemoryError,
    PlanError,
    UsageError,
    VideoError,
    WorkerError,
)

_STATUSES: tuple[tuple[type[M3VideoError], int], ...] = (
    (OutOfMemoryError, 503),  # before DoesNotFitError, which it is one of
    (DoesNotFitError, 413),
    (UsageError, 400),
    (PlanError, 400),
    (VideoError, 422),
    (CheckpointError, 503),
    (NotFiniteError, 503),
    (WorkerError, 503),
    (DiskFullError, 503),
)
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class RequestError(M3VideoError):
    """A request that cannot be obeyed; it knows its status."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Args:
        message: one line: what, why, and what to do.
        status: HTTP status.
        param: the field of the request that is wrong.
        code: what a program may tell apart.
        headers: of the answer, e.g. Retry-After.
        """
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})


def status_of(error: M3VideoError) -> int:
    """Return the HTTP status of an error by its kind."""
    if isinstance(error, RequestError):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def error_body(message: str, status: int, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return the JSON body of an error, in OpenAI's shape."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": " ".join(message.split()), "type": kind, "param": param, "code": code}}


def body_of(error: M3VideoError, *, told: Callable[[str], str] = str) -> dict[str, Any]:
    """Return the JSON body for an error that the user can fix.

    Args:
        error: what happened.
        told: makes of its message what a client may read.
    """
    return error_body(
        told(str(error)), status_of(error), param=getattr(error, "param", None), code=getattr(error, "code", None)
    )
