"""A step of a run that may not take longer than it is given."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from m3video.errors import M3VideoError


class DeadlineError(M3VideoError):
    """A step that took longer than `--deadline`."""


@contextmanager
def deadline(seconds: float | None, what: str) -> Iterator[None]:
    """Raise `DeadlineError` in the body once it has run for `seconds`; never for None.

    A step inside a library ends first: nothing is killed. Only in the main thread, where signals arrive.

    Args:
        seconds: above 0.
        what: is named in the error.
    """
    if seconds is None:
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise DeadlineError(f"{what} took longer than the deadline of {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
