"""Whose fault it was: sorting what goes wrong in a worker."""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass
from typing import Literal

from m3video.errors import ChangedFileError, DiskFullError, M3VideoError, OutOfMemoryError

Kind = Literal["input", "changed", "memory", "silent", "crash", "disk", "bug"]
"""Whose fault a failure is: the input's, another program's that wrote to it meanwhile, memory's, a hang (no sign of
life), native code's or a kill, a full disk's, or our own."""

NEEDS_NEW_PROCESS = frozenset({"memory", "crash"})
"""Failures after which the process is not fit for more work: what is left of its memory, or its GPU, is in pieces."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why work did not end well: `message` in one line, `detail` what a maintainer wants to see."""

    kind: Kind
    message: str
    detail: str = ""


class FailedError(Exception):
    """Raised where the work of a child process failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """Sort an exception by whose fault it is."""
    if is_full(error):
        return Failure("disk", one_line(error))
    if isinstance(error, ChangedFileError):
        return Failure("changed", one_line(error))
    if isinstance(error, M3VideoError):
        return Failure("memory" if isinstance(error, OutOfMemoryError) else "input", one_line(error))
    detail = "".join(traceback.format_exception(error))
    # torch has an error of its own, which is no MemoryError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure("memory", one_line(error) or "out of memory", detail)
    if is_sticky(error):
        return Failure("memory" if "out of memory" in str(error) else "crash", one_line(error)[:300], detail)
    return Failure("bug", f"{type(error).__name__}: {one_line(error)}", detail)


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk, or a place for results that takes no more, is at the root of `error`."""
    while error is not None:
        if isinstance(error, DiskFullError) or (
            isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_sticky(error: BaseException) -> bool:
    """Whether it is an error of the CUDA runtime: after most of them every later call of the process fails too."""
    return type(error).__name__ == "AcceleratorError" or "CUDA error: " in str(error)


def one_line(error: BaseException) -> str:
    """The words of `error` in one line."""
    return " ".join(str(error).split())
