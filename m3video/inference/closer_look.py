"""A closer look at a long video, that goes on while its first answers are read."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from m3video.config import Settings
from m3video.errors import M3VideoError
from m3video.inference.first_pass import Wish, analyze_once
from m3video.types import FrameStats
from m3video.utils.cache import Cache
from m3video.utils.progress import Bar
from m3video.video.reader import open_video

EFFORT = 8
"""Times the work of the first pass: enough to read half an hour whole, and an end in sight for a day."""

NICE = 19
"""The lowest priority: whatever else runs on the machine goes first."""


class CloserLook:
    """A first pass with more work, in a thread of its own; it begins at once.

    Attributes:
        error: why it ended without stats; None where it did not.
    """

    def __init__(self, path: str | Path, wish: Wish, settings: Settings, cache: Cache | None) -> None:
        """Args:
        path: the video, which is opened again.
        wish: what the first pass was asked to see.
        settings: how the video is opened.
        cache: where the stats are looked for and stored.
        """
        self._path, self._settings, self._cache = path, settings, cache
        self._wish = replace(wish, effort=EFFORT, most=None)
        self.error: str | None = None
        self._stats: FrameStats | None = None
        self._is_cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="closer look", daemon=True)
        self._thread.start()

    @property
    def stats(self) -> FrameStats | None:
        """What it found; None while it goes on, and where it failed."""
        return None if self._thread.is_alive() else self._stats

    def notes(self) -> tuple[str, ...]:
        """Return a note where it has found something that is not used yet, or failed."""
        if self.error is not None:
            return (f"the closer look at the video ended early: {self.error}",)
        if self.stats is None:
            return ()
        return ("the video was looked at more closely meanwhile: /refresh plans with what that found",)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until it has ended, or for some seconds."""
        self._thread.join(seconds)

    def cancel(self) -> None:
        """End it at the next frame, and wait for that."""
        self._is_cancelled.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # other systems have no priorities for threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        settings = self._settings
        try:
            with open_video(self._path, backend=settings.backend, max_pixels=settings.max_pixels) as reader:
                self._stats, _ = analyze_once(
                    reader, self._wish, cache=self._cache, threads=1, progress=self._ended_by_cancelling
                )
        except _CancelledError:
            pass
        except M3VideoError as error:
            self.error = str(error)

    @contextlib.contextmanager
    def _ended_by_cancelling(self, stage: str, total: int | None) -> Iterator[Bar]:
        def bar(done: int) -> None:
            if self._is_cancelled.is_set():
                raise _CancelledError

        yield bar


class _CancelledError(Exception):
    """Nobody waits for it any more."""
