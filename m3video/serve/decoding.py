"""Decoding for the page, in worker processes: a file that crashes or hangs a decoder takes no server with it.

The functions at the top run in the child, which keeps a few videos open, so that the next frame of one is near.

Legend: H W picture.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from m3video.config import Settings
from m3video.distributed.failures import FailedError
from m3video.distributed.worker_process import WorkerProcess
from m3video.errors import VideoError
from m3video.inference.first_pass import Wish, analyze_once, scan_notes, with_scan_frames
from m3video.inference.pipeline import cache_of, open_for
from m3video.model.m3.square import as_square
from m3video.planning.sample import TIME_TOLERANCE
from m3video.report.thumbnails import Picture, jpeg, shrunk
from m3video.types import GRID_SIDES, FrameStats, VideoInfo
from m3video.utils.clock import clock_times
from m3video.utils.progress import Bar
from m3video.utils.text import printable
from m3video.video.path_checks import check_file
from m3video.video.preview import preview
from m3video.video.reader import VideoReader

OPEN_VIDEOS = 4
"""Videos that a child keeps open."""

FRAME_DEADLINE = 60.0
"""Seconds in which a frame, or a first look at a file, must be there: the index of a long file may be read before."""

PASS_DEADLINE = 300.0
"""Seconds that a first pass may be silent."""

_open: OrderedDict[tuple[Any, ...], VideoReader] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Looked:
    """What a first pass found: all that planning needs, so that no file is opened for a plan.

    `notes` are lines for users on skipped frames and damage.
    """

    info: VideoInfo
    stats: FrameStats
    notes: tuple[str, ...]


def look(path: str, settings: Settings) -> Iterator[tuple[str, int, int | None] | Looked]:
    """Make the first pass over a video: yield (stage, done, total) meanwhile, and last what it found."""
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @contextmanager
    def progress(stage: str, total: int | None) -> Iterator[Bar]:
        messages.put((stage, 0, total))
        yield lambda done: messages.put((stage, done, total))

    def work() -> None:
        try:
            cache = cache_of(settings)
            with open_for(path, settings) as reader:
                wish = Wish.of(with_scan_frames(settings, reader))
                stats, _ = analyze_once(reader, wish, cache=cache, progress=progress)
                damage = reader.damage.message
                notes = (*scan_notes(reader, stats, scan=settings.scan), *([damage] if damage else []))
                found = Looked(reader.info_with_damage, stats, notes)
            if cache is not None:
                cache.settle()
            messages.put(found)
        except BaseException as error:
            messages.put(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        message = messages.get()
        while isinstance(message, tuple) and not messages.empty():
            message = messages.get()  # only the latest count is of interest
        if isinstance(message, BaseException):
            raise message
        yield message
        if isinstance(message, Looked):
            return


def frame(
    path: str, settings: Settings, pts: int | None, seconds: float, side: int, scale: int | None
) -> Iterator[Any]:
    """Yield (pts, seconds, JPEG) of one frame.

    Args:
        path: a local video file.
        settings: name the decoder.
        pts: of the frame; None for the one on screen at `seconds`.
        seconds: as players count them.
        side: longest side of the picture in pixels.
        scale: show it as coarse as at this token scale; None for the picture as it is.
    """
    reader = _opened(path, settings)
    if pts is None:
        index = reader.index
        times = clock_times(index.pts_N, index.time_base, index.origin)
        ahead = int(np.searchsorted(times, seconds + TIME_TOLERANCE, side="right"))
        pts = int(index.pts_N[max(0, ahead - 1)])
    rgb = reader.fetch([pts])[0].rgb_HW3
    yield pts, reader.info.pts_seconds(pts), jpeg(shrunk(rgb if scale is None else coarse(rgb, scale), side))


def info(path: str, settings: Settings) -> Iterator[VideoInfo]:
    """Yield what a file says; its packets are read."""
    yield _opened(path, settings).info


def first_look(path: str, max_pixels: int, side: int) -> Iterator[Any]:
    """Yield (seconds or None, codec, width, height, JPEG) of a file that was not indexed."""
    found = preview(path, max_pixels=max_pixels)
    height, width = found.rgb_HW3.shape[:2]
    yield found.seconds, found.codec, width, height, jpeg(shrunk(found.rgb_HW3, side))


def coarse(rgb_HW3: Picture, scale: int) -> Picture:
    """Return a picture as a token scale divides it: each cell of its grid is one colour, its mean.

    The grid lies over the square that the vision tower sees, of which the picture is a part. It shows how coarse the
    grid is; what a model makes of a cell is more than its colour.
    """
    grid, (height, width) = GRID_SIDES[scale], rgb_HW3.shape[:2]
    side = max(height, width)
    cells = cv2.resize(as_square(rgb_HW3), (grid, grid), interpolation=cv2.INTER_AREA)
    square = cv2.resize(cells, (side, side), interpolation=cv2.INTER_NEAREST)
    top, left = (side - height) // 2, (side - width) // 2
    return np.asarray(square[top : top + height, left : left + width], np.uint8)


def _opened(path: str, settings: Settings) -> VideoReader:
    """Return a reader of the file as it is now, open from before where it has not changed."""
    key = (check_file(path).identity, settings.backend)
    if key not in _open:
        _open[key] = open_for(path, settings)
        if len(_open) > OPEN_VIDEOS:
            _open.popitem(last=False)[1].close()
    _open.move_to_end(key)
    return _open[key]


class Decoder:
    """A worker process that makes one picture after the other; others wait their turn."""

    def __init__(self, *, deadline: float = FRAME_DEADLINE) -> None:
        """No process is started yet."""
        self._lock = threading.Lock()
        self._process = WorkerProcess(deadline=deadline)

    def call(self, function: Callable[..., Iterator[Any]], path: str, *arguments: Any) -> Any:
        """Return the first value of `function(path, *arguments)`, which runs in the process.

        Raises:
            VideoError: it failed, crashed or hung; the process is new for the next call.
        """
        with self._lock:
            try:
                (value,) = self._process.run(function, path, *arguments)
                return value
            except FailedError as error:
                raise video_error(error, path) from None

    def close(self) -> None:
        """End the process."""
        self._process.kill()


def video_error(error: FailedError, path: str) -> VideoError:
    """Return a failure in a process as an error for users."""
    failure = error.failure
    if failure.kind in ("input", "changed"):
        return VideoError(failure.message)
    return VideoError(f"{printable(path)}: {failure.message}; the file may be damaged")
