"""The videos that were asked about: open, decoded, encoded, their prefix read, until memory is wanted for others."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3video.config import PLAN_SETTINGS, Settings, changed_settings
from m3video.distributed.remote_reader import RemoteReader, open_remote
from m3video.errors import UsageError
from m3video.inference.session import VideoSession
from m3video.serve.errors import RequestError
from m3video.utils.progress import Bar
from m3video.utils.text import nearest, printable
from m3video.video.path_checks import check_file

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel
    from m3video.video.reader import VideoReader

MOST_BYTES = 2 << 30
"""Memory of all sessions together, without the model: beyond it, those that were used least recently are closed."""

MOST_SESSIONS = 16
"""Sessions at a time: each has a process that reads its video."""

OF_A_SESSION = ("scan", "scan_seconds", "memory", "saliency")
"""Settings of a plan that a session cannot change from one question to the next."""


class CancelledError(Exception):
    """Nobody waits for this work any more."""


@dataclass(slots=True, eq=False)
class Kept:
    """One video under settings that do not change within a session.

    Attributes:
        path: the video.
        settings: of the session.
        turn: whoever uses the session holds it.
        users: requests that hold or await it.
        cancelled: set when nobody waits any more for what the session is doing.
        session: None until it is first used.
        reader: the process that reads the video.
    """

    path: Path
    settings: Settings
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)
    session: VideoSession | None = None
    reader: RemoteReader | None = None

    @property
    def num_bytes(self) -> int:
        """Memory that it holds, with that of its process."""
        held = 0 if self.session is None else self.session.num_bytes
        return held + (0 if self.reader is None else self.reader.num_bytes)

    def open(self, loaded: LoadedModel, *, deadline: float) -> VideoSession:
        """Return the session, opened at first use; for a thread."""
        if self.session is None:
            self.session = VideoSession(
                self.path,
                self.settings,
                loaded=loaded,
                keeps_looking=False,
                open_reader=partial(self._open_reader, deadline=deadline),
                progress=self._ended_by_cancelling,
            )
        return self.session

    def close(self) -> None:
        """Release everything; for a thread."""
        if self.session is not None:
            self.session.close()
        elif self.reader is not None:  # the session could not be made
            self.reader.close()
        self.session = self.reader = None

    def check_wanted(self) -> None:
        """Raise CancelledError when nobody waits any more."""
        if self.cancelled.is_set():
            raise CancelledError

    def _open_reader(self, path: str | Path, settings: Settings, *, deadline: float) -> VideoReader:
        self.reader = open_remote(path, settings, deadline=deadline)
        return self.reader

    @contextlib.contextmanager
    def _ended_by_cancelling(self, stage: str, total: int | None) -> Iterator[Bar]:
        self.check_wanted()
        yield lambda done: self.check_wanted()


class Sessions:
    """All sessions, the least recently used first. For the thread of the event loop."""

    def __init__(self, settings: Settings, *, most_bytes: int = MOST_BYTES, most: int = MOST_SESSIONS) -> None:
        """Args:
        settings: of the server.
        most_bytes: memory of all sessions together; a session in use is never closed for it.
        most: sessions at a time, in the same way.
        """
        self._settings, self._most_bytes, self._most = settings, most_bytes, most
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def num_bytes(self) -> int:
        """Memory of all sessions."""
        return sum(kept.num_bytes for kept in self._kept.values())

    def take(self, path: Path, changes: Mapping[str, Any]) -> tuple[Kept, dict[str, Any]]:
        """Return the session of a video for one more user, and the changes left for each plan.

        Args:
            path: an allowed file.
            changes: settings of the plan that differ from the server's.

        Raises:
            UsageError: a setting does not exist, or has a wrong value.
            RequestError: a setting that only the server decides.
            VideoError: `path` is no file to be opened.
        """
        settings = changed_settings(self._settings, checked_changes(changes))
        if settings.memory is not None:  # what fits is found for all of the settings together
            own = dict(changes)
        else:
            own = {name: value for name, value in changes.items() if name in OF_A_SESSION}
        settings = changed_settings(self._settings, own)
        key = (check_file(path).identity, settings.model_dump_json())
        if key in self._kept:
            self.hits += 1
        else:
            self.misses += 1
            self._kept[key] = Kept(path, settings)
        self._kept.move_to_end(key)
        kept = self._kept[key]
        kept.users += 1
        return kept, {name: value for name, value in changes.items() if name not in own}

    def drop(self, kept: Kept) -> None:
        """Forget a session that cannot be trusted any more; its last user closes it."""
        for key, value in list(self._kept.items()):
            if value is kept:
                del self._kept[key]

    def give_back(self, kept: Kept) -> list[Kept]:
        """End one use of a session; return the sessions that are to be closed now."""
        kept.users -= 1
        unwanted = [kept] if not kept.users and kept not in self._kept.values() else []
        idle = [key for key, value in self._kept.items() if not value.users]
        while idle and (len(self._kept) > self._most or self.num_bytes > self._most_bytes):
            unwanted.append(self._kept.pop(idle.pop(0)))
        return unwanted

    def close(self) -> None:
        """Close all sessions; for the end of the server."""
        for kept in self._kept.values():
            kept.cancelled.set()
            kept.close()
        self._kept.clear()


def checked_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that a request may change.

    Raises:
        UsageError: a name that is no setting.
        RequestError: a setting of the server, or one that a session cannot obey.
    """
    for name in changes:
        if name not in Settings.model_fields:
            near = nearest(name, PLAN_SETTINGS)
            raise UsageError(f"unknown setting '{printable(name)}'" + (f"; did you mean {near}?" if near else ""))
        if name not in PLAN_SETTINGS:
            raise RequestError(f"{name} is set where the server is started: leave it out", param=f"m3video.{name}")
    if changes.get("layout", "frames") != "frames":
        raise RequestError("layout grid is for the command: use m3video ask", param="m3video.layout")
    return dict(changes)
