"""Errors that a user can fix: one line that says what, why and what to do, and an exit code."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_SOME_FAILED = 3
EXIT_DOES_NOT_FIT = 4
EXIT_INTERRUPTED = 130


class M3VideoError(Exception):
    """Something the user can fix. Shown as one line, without a traceback."""

    exit_code = EXIT_ERROR


class UsageError(M3VideoError):
    """Flags or settings that contradict each other or name something that does not exist."""

    exit_code = EXIT_USAGE


class VideoError(M3VideoError):
    """A file that is not a readable video, or a frame of it that cannot be decoded exactly."""


class ChangedFileError(VideoError):
    """A file that another program wrote to, replaced or removed while it was read; it must be read again."""


class BackendError(VideoError):
    """The chosen decoder backend is missing, or is known to return wrong frames for this file."""


class CheckpointError(M3VideoError):
    """A model folder or hub name that cannot be loaded."""


class NotFiniteError(M3VideoError):
    """Numbers of a model that are NaN or infinite, so that there is no answer."""


class PlanError(M3VideoError):
    """A plan that is malformed, or was made for another video."""


class DoesNotFitError(M3VideoError):
    """A request that needs more context or memory than is available."""

    exit_code = EXIT_DOES_NOT_FIT


class OutOfMemoryError(DoesNotFitError):
    """A step that needed more memory than the machine had; `step` is "load", "vision" or "answer"."""

    def __init__(self, message: str, *, step: str = "answer") -> None:
        super().__init__(message)
        self.step = step


class WorkerError(M3VideoError):
    """Worker processes that died repeatedly, or a cluster that cannot be used."""


class DiskFullError(M3VideoError):
    """A full disk: no more results can be written; finished ones are kept."""
