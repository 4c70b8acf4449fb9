"""Kinds of failures in a worker, by their cause."""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass
from typing import Literal

from m3video.errors import ChangedFileError, DiskFullError, M3VideoError, OutOfMemoryError

FailureKind = Literal["input", "changed", "memory", "silent", "crash", "disk", "bug"]
"""The cause of a failure: bad input, another program that wrote to it meanwhile, lack of memory, a hang (no message),
native code or a kill, a full disk, or a bug of ours."""

NEEDS_NEW_PROCESS = frozenset({"memory", "crash"})
"""Failures after which the process must be replaced: its memory or its GPU context may be damaged."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: `message` in one line, `detail` for a maintainer."""

    kind: FailureKind
    message: str
    detail: str = ""


class FailedError(Exception):
    """The error raised for a failure in a child process."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """Return the failure that an exception means."""
    if is_full(error):
        return Failure("disk", one_line(error))
    if isinstance(error, ChangedFileError):
        return Failure("changed", one_line(error))
    if isinstance(error, M3VideoError):
        return Failure("memory" if isinstance(error, OutOfMemoryError) else "input", one_line(error))
    detail = "".join(traceback.format_exception(error))
    # torch's own error is no MemoryError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure("memory", one_line(error) or "out of memory", detail)
    if is_sticky(error):
        return Failure("memory" if "out of memory" in str(error) else "crash", one_line(error)[:300], detail)
    return Failure("bug", f"{type(error).__name__}: {one_line(error)}", detail)


def is_full(error: BaseException | None) -> bool:
    """Whether the root cause of `error` is a full disk, or a location for results that takes no more."""
    while error is not None:
        if isinstance(error, DiskFullError) or (
            isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_sticky(error: BaseException) -> bool:
    """Whether `error` is of the CUDA runtime: after most of these, every later call of the process fails too."""
    return type(error).__name__ == "AcceleratorError" or "CUDA error: " in str(error)


def one_line(error: BaseException) -> str:
    """Return the text of `error` in one line."""
    return " ".join(str(error).split())
