"""A video that another process reads: a decoder that crashes or hangs takes nothing else with it.

A crash, or silence for longer than the deadline, is a `VideoError` of the video. The next call starts a new process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from m3video.config import Settings
from m3video.distributed.failures import FailedError, Failure
from m3video.distributed.worker_process import WorkerProcess, heartbeat
from m3video.errors import ChangedFileError, M3VideoError, OutOfMemoryError, VideoError
from m3video.inference.summary.summarize import ChapterFrames, VideoFacts, chapters
from m3video.types import Frame, ScanFrame, Stretch, VideoInfo
from m3video.utils.progress import Bar
from m3video.utils.text import printable
from m3video.video.index import FrameIndex
from m3video.video.path_checks import absolute
from m3video.video.reader import DamageReport, VideoReader, open_video

T = TypeVar("T")

_GROUP = 16
"""Small pictures in one message."""


@dataclass(frozen=True, slots=True)
class _Opening:
    """How a video is opened."""

    path: str
    backend: str
    max_pixels: int


@dataclass(frozen=True, slots=True)
class _State:
    """What a pass over the video may change."""

    damage: DamageReport
    why_not_look: str | None


class RemoteReader(VideoReader):
    """Reads one file in a process of its own; see `VideoReader`."""

    def __init__(self, path: str | Path, *, backend: str, max_pixels: int, deadline: float) -> None:
        """Start the process and open the video there.

        Args:
            path: as for `open_video`.
            backend: as for `open_video`.
            max_pixels: as for `open_video`.
            deadline: seconds without a sign of life after which the process is killed.

        Raises:
            VideoError: as for `open_video`; or reading it crashed, or hung.
        """
        self._opening = _Opening(absolute(str(path)), backend, max_pixels)
        self._child = WorkerProcess(deadline=deadline)
        self._is_busy = False
        self.info: VideoInfo
        self.index: FrameIndex
        try:
            ((self.info, self.index, self._state),) = self._run(_describe)
        except BaseException:
            self._child.kill()
            raise

    @property
    def damage(self) -> DamageReport:
        return self._state.damage

    @property
    def num_bytes(self) -> int:
        """Resident memory of the process."""
        return self._child.num_bytes

    def why_not_look(self) -> str | None:
        return self._state.why_not_look

    def scan(
        self, *, mode: str = "full", start_pts: int | None = None, end_pts: int | None = None
    ) -> Iterator[ScanFrame]:
        for group in self._run(_scan, mode, start_pts, end_pts):
            yield from group

    def look(self, stretches: Sequence[Stretch], *, threads: int = 1) -> Iterator[list[ScanFrame]]:
        return self._run(_look, list(stretches), threads)

    def frames(self, *, start_pts: int | None = None, end_pts: int | None = None) -> Iterator[Frame]:
        return self._run(_frames, start_pts, end_pts)

    def fetch(self, pts: Sequence[int]) -> list[Frame]:
        # Most often the grids of all frames are cached: then no process need be there.
        return list(self._run(_fetch, [int(value) for value in pts])) if len(pts) else []

    def close(self) -> None:
        self._child.kill()

    def _run(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
        """Yield what `function` yields in the process, and keep the state that it ends with."""
        if self._is_busy:
            raise RuntimeError("a pass over this video is not at its end: one process makes one at a time")
        self._is_busy = True
        try:
            for value in self._child.run(function, self._opening, *arguments):
                if isinstance(value, _State):
                    self._state = value
                else:
                    yield value
        except FailedError as error:
            raise _error(error.failure, self._opening.path) from None
        finally:
            self._is_busy = False


def _error(failure: Failure, path: str) -> Exception:
    """Return the error that a failure in the process means."""
    kinds: dict[str, type[M3VideoError]] = {
        "input": VideoError,
        "changed": ChangedFileError,
        "memory": OutOfMemoryError,
    }
    if failure.kind in kinds:
        return kinds[failure.kind](failure.message)
    if failure.kind in ("silent", "crash"):
        how = failure.message.removeprefix("the process working on it ")
        return VideoError(
            f"{printable(path)}: the process that decoded it {how}: convert the video, e.g. with ffmpeg, or use another"
        )
    return RuntimeError(f"{failure.message}\n{failure.detail}")


def decoded_chapters(
    path: str | Path, settings: Settings, *, deadline: float
) -> Generator[ChapterFrames | VideoFacts, None, None]:
    """Yield what `inference.summary.summarize.chapters` yields, from a process of its own; errors as `RemoteReader`'s.

    Args:
        path: a local video file.
        settings: resolved.
        deadline: seconds without a sign of life after which the process is killed.
    """
    child = WorkerProcess(deadline=deadline)
    try:
        yield from child.run(_chapters, absolute(str(path)), settings)
    except FailedError as error:
        raise _error(error.failure, str(path)) from None
    finally:
        child.kill()


def open_remote(path: str | Path, settings: Settings, *, deadline: float) -> RemoteReader:
    """Open `path` in a process of its own, with the backend and the pixel cap of `settings`; errors as it raises."""
    return RemoteReader(path, backend=settings.backend, max_pixels=settings.max_pixels, deadline=deadline)


_open: tuple[_Opening, VideoReader] | None = None
"""In the child: the video that it reads."""


def _reader(opening: _Opening) -> VideoReader:
    global _open
    if _open is None or _open[0] != opening:
        if _open is not None:
            _open[1].close()
        _open = opening, open_video(opening.path, backend=opening.backend, max_pixels=opening.max_pixels)
    return _open[1]


def _state(reader: VideoReader) -> _State:
    return _State(reader.damage, reader.why_not_look())


def _describe(opening: _Opening) -> Iterator[tuple[VideoInfo, FrameIndex, _State]]:
    reader = _reader(opening)
    yield reader.info, reader.index, _state(reader)


def _scan(opening: _Opening, mode: str, start_pts: int | None, end_pts: int | None) -> Iterator[Any]:
    reader = _reader(opening)
    yield from _groups(reader.scan(mode=mode, start_pts=start_pts, end_pts=end_pts))
    yield _state(reader)


def _groups(values: Iterator[T]) -> Iterator[list[T]]:
    while group := list(itertools.islice(values, _GROUP)):
        yield group


def _look(opening: _Opening, stretches: list[Stretch], threads: int) -> Iterator[Any]:
    yield from _reader(opening).look(stretches, threads=threads)


def _frames(opening: _Opening, start_pts: int | None, end_pts: int | None) -> Iterator[Any]:
    reader = _reader(opening)
    yield from reader.frames(start_pts=start_pts, end_pts=end_pts)
    yield _state(reader)


def _fetch(opening: _Opening, pts: list[int]) -> Iterator[Frame]:
    yield from _reader(opening).fetch(pts)


def _chapters(path: str, settings: Settings) -> Iterator[ChapterFrames | VideoFacts]:
    yield from chapters(path, settings, progress=_heartbeats, on_frame=heartbeat)


def _heartbeats(stage: str, total: int | None) -> AbstractContextManager[Bar]:
    heartbeat()
    return nullcontext(heartbeat)
