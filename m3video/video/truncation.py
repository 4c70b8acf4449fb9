"""Is the file all there? What its own structure tells, against what was read.

A file that was cut between two frames decodes without any error; only its header knows that there was more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from m3video.types import seconds
from m3video.video._avstream import AvStream
from m3video.video._extents import READERS, Extent
from m3video.video.index import FrameIndex
from m3video.video.timeline import nominal_ticks

_LATE, _APART = 0.5, 1.5
"""Usual frames by which the header's end may lie behind the last picture's, and two pictures apart, with none missing
there."""

_LAST_FRAMES = 17


@dataclass(frozen=True, slots=True)
class Truncation:
    """What a header tells and the file does not hold.

    `note` is for people, None where nothing is missing; `is_partial`: frames are among it. `is_whole`: the structure
    tells where the file ends, and it is not cut off there.
    """

    note: str | None = None
    is_partial: bool = False
    is_whole: bool = False


def find_truncation(source: AvStream, index: FrameIndex, *, told_seconds: float | None) -> Truncation:
    """Compare what `source` tells of itself with what was read of it.

    Args:
        source: a stream of which all packets were read.
        index: the frames that it presents.
        told_seconds: duration of its header; None where it is silent.
    """
    extent = _extent(source)
    size, kind = source.container.size, _kind(source)
    is_cut = extent is not None and extent.num_bytes > size
    missing, told = _frames(source, extent, is_cut=is_cut)
    if extent is None or not is_cut:
        if not missing:
            return Truncation(is_whole=extent is not None)
        if kind == "ivf":
            return Truncation(f"{_CUT}{missing} of {told} frames", is_partial=True)
        return Truncation(
            f"the header tells {told} frames, {(told or 0) - missing} are there; by its size fields nothing is cut off",
            is_whole=extent is not None,
        )
    late = _late_seconds(extent, kind, index, told_seconds, is_last_whole=source.seen.is_last_whole)
    if missing == 0 or (missing is None and late is not None and late[0] < 0):
        return Truncation(
            f"the file is cut off behind its last frame: {extent.num_bytes - size} of {extent.num_bytes} bytes are "
            "missing, but no frame"
        )
    parts = []
    if missing:
        parts.append(f"{missing} of {told} frames" if told else f"at least {missing} frames")
    elif late is not None and late[0] > 0:
        parts.append(f"{late[0]:.2f} of {late[1]:.2f} s")
    if not extent.has_end:
        parts.append("the end mark")
    elif extent.is_exact or not parts:
        least = "" if extent.is_exact else "at least "
        whole = f" of {extent.num_bytes}" if extent.is_exact else ""
        parts.append(f"{least}{extent.num_bytes - size}{whole} bytes")
    if told is None and late is None and not extent.is_exact:
        parts.append("and perhaps more, which this kind of file does not tell")
    return Truncation(_CUT + ", ".join(parts), is_partial=True)


def _late_seconds(
    extent: Extent, kind: str, index: FrameIndex, told_seconds: float | None, *, is_last_whole: bool
) -> tuple[float, float] | None:
    """How much earlier than the header tells the pictures end, and what it tells; None where it does not.

    Below 0 where that is within a frame, and no frame is missing among the last: they are stored in another order than
    they are shown in.
    """
    told = extent.seconds if extent.seconds is not None else told_seconds if kind in _TIMED else None
    if told is None or not (extent.is_exact or kind in _ALWAYS_TIMED):
        return None
    late = told - clock_end(index)
    steps = np.diff(index.pts_N[-_LAST_FRAMES:])
    usual = float(np.median(steps)) if len(steps) else float(index.last_duration)
    is_regular = not len(steps) or steps.max() < _APART * usual
    is_in_time = late < _LATE * seconds(1, index.time_base) * usual
    if is_in_time and is_regular and is_last_whole and (extent.is_exact or kind == "mxf"):
        return -1.0, told
    return max(late, 0.0), told


def clock_end(index: FrameIndex) -> float:
    """When the last frame ends, in seconds on the clock that a header's duration counts on."""
    end = int(index.pts_N[-1]) + index.last_duration
    return seconds(end - min(0, int(index.pts_N[0])), index.time_base)


_CUT = "the file is cut off, results are partial; missing: "

_ALWAYS_TIMED = ("matroska", "flv", "mxf")
_TIMED = (*_ALWAYS_TIMED, "mov", "rm")
"""Containers whose header tells a duration; of the others, and of fragments that nothing announces, FFmpeg makes a
guess from what is there."""


def _kind(source: AvStream) -> str:
    return str(source.container.format.name.split(",")[0])


def _extent(source: AvStream) -> Extent | None:
    reader = READERS.get(_kind(source))
    if reader is None:
        return None
    with open(source.file.identity[0], "rb") as file:
        try:
            return reader(file, source.container.size, source.seen)
        except (struct.error, IndexError):  # a header too short or too strange to tell anything
            return None


def _frames(source: AvStream, extent: Extent | None, *, is_cut: bool) -> tuple[int | None, int | None]:
    """How many frames are missing, and how many there should be; None where nothing counts them."""
    kind, seen = _kind(source), source.seen
    told = source.stream.frames if kind in ("avi", "ivf") else extent.num_frames if extent is not None else None
    if kind == "mov":
        if extent is None or not is_cut:
            return None, None
        ends = [entry.pos + entry.size for entry in source.stream.index_entries]
        missing = sum(end > source.container.size for end in ends)
        return (missing or None, None) if extent.is_fragmented else (missing, len(ends))
    if not told or extent is None or (kind == "avi" and not extent.is_exact):
        # A recorder fills in how many when it ends; until then anything may stand there.
        return None, None
    there = seen.num_whole
    if kind == "avi" and seen.last_dts is not None:
        # The header counts ticks: of frames that were dropped too, or two for each frame.
        step = max(1, seen.step)
        there, told = max(there, seen.last_dts // step + 1), told // step
    elif kind == "ivf" and seen.last_dts is not None:
        ticks = seen.last_dts + max(seen.step, nominal_ticks(source.stream))
        if ticks > 2 * there and abs(told - ticks) * there <= 2 * ticks:
            return 0, told  # older files tell ticks in place of frames
    return max(0, told - there), told
