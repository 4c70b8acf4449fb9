"""Whether a file is complete: what its own structure announces, against what was read.

A file that was cut between two frames decodes without any error; only its header shows that there was more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from m3video.types import seconds
from m3video.video._avstream import AvStream
from m3video.video._extents import EXTENT_READERS, Extent
from m3video.video.index import FrameIndex
from m3video.video.timeline import nominal_ticks

_LATE, _APART = 0.5, 1.5
"""In frame durations, with no frame missing: how much later the header's end may be than the last frame's, and how far
two frames may be apart."""

_LAST_FRAMES = 17


@dataclass(frozen=True, slots=True)
class Truncation:
    """What a header announces and the file lacks.

    `note` is a message for users, None where nothing is missing; `is_partial`: frames are missing. `is_whole`: the
    structure shows where the file ends, and it is not cut off.
    """

    note: str | None = None
    is_partial: bool = False
    is_whole: bool = False


def find_truncation(source: AvStream, index: FrameIndex, *, header_seconds: float | None) -> Truncation:
    """Compare what the header and structure of `source` announce with what was read of it.

    Args:
        source: a stream of which all packets were read.
        index: the frames that it presents.
        header_seconds: duration in its header; None where it names none.
    """
    extent = _extent(source)
    size, kind = source.container.size, _kind(source)
    is_cut = extent is not None and extent.num_bytes > size
    missing, announced = _frames(source, extent, is_cut=is_cut)
    if extent is None or not is_cut:
        if not missing:
            return Truncation(is_whole=extent is not None)
        if kind == "ivf":
            return Truncation(f"{_CUT}{missing} of {announced} frames", is_partial=True)
        return Truncation(
            f"the header announces {announced} frames, {(announced or 0) - missing} are there; by its size fields "
            "nothing is cut off",
            is_whole=extent is not None,
        )
    late = _late_seconds(extent, kind, index, header_seconds, is_last_whole=source.tally.is_last_whole)
    if missing == 0 or (missing is None and late is not None and late[0] < 0):
        return Truncation(
            f"the file is cut off behind its last frame: {extent.num_bytes - size} of {extent.num_bytes} bytes are "
            "missing, but no frame"
        )
    parts = []
    if missing:
        parts.append(f"{missing} of {announced} frames" if announced else f"at least {missing} frames")
    elif late is not None and late[0] > 0:
        parts.append(f"{late[0]:.2f} of {late[1]:.2f} s")
    if not extent.has_end:
        parts.append("the end mark")
    elif extent.is_exact or not parts:
        least = "" if extent.is_exact else "at least "
        whole = f" of {extent.num_bytes}" if extent.is_exact else ""
        parts.append(f"{least}{extent.num_bytes - size}{whole} bytes")
    if announced is None and late is None and not extent.is_exact:
        parts.append("and perhaps more, which this kind of file does not tell")
    return Truncation(_CUT + ", ".join(parts), is_partial=True)


def _late_seconds(
    extent: Extent, kind: str, index: FrameIndex, header_seconds: float | None, *, is_last_whole: bool
) -> tuple[float, float] | None:
    """Return how much earlier than announced the frames end, and the announced end, in seconds; None where unknown.

    The first is below 0 where the two agree within a frame and none of the last frames is missing, which has to be
    checked because frames are stored in another order than they are shown in.
    """
    announced = extent.seconds if extent.seconds is not None else header_seconds if kind in _TIMED else None
    if announced is None or not (extent.is_exact or kind in _ALWAYS_TIMED):
        return None
    late = announced - clock_end(index)
    steps = np.diff(index.pts_N[-_LAST_FRAMES:])
    usual = float(np.median(steps)) if len(steps) else float(index.last_duration)
    is_regular = not len(steps) or steps.max() < _APART * usual
    is_in_time = late < _LATE * seconds(1, index.time_base) * usual
    if is_in_time and is_regular and is_last_whole and (extent.is_exact or kind == "mxf"):
        return -1.0, announced
    return max(late, 0.0), announced


def clock_end(index: FrameIndex) -> float:
    """Return when the last frame ends, in seconds counted as a header's duration is."""
    end = int(index.pts_N[-1]) + index.last_duration
    return seconds(end - min(0, int(index.pts_N[0])), index.time_base)


_CUT = "the file is cut off, results are partial; missing: "

_ALWAYS_TIMED = ("matroska", "flv", "mxf")
_TIMED = (*_ALWAYS_TIMED, "mov", "rm")
"""Containers whose header stores a duration; for the others, and for fragments that nothing announces, FFmpeg guesses
it from what is there."""


def _kind(source: AvStream) -> str:
    return str(source.container.format.name.split(",")[0])


def _extent(source: AvStream) -> Extent | None:
    reader = EXTENT_READERS.get(_kind(source))
    if reader is None:
        return None
    with open(source.file.identity[0], "rb") as file:
        try:
            return reader(file, source.container.size, source.tally)
        except (struct.error, IndexError):  # a header too short or too odd to be read
            return None


def _frames(source: AvStream, extent: Extent | None, *, is_cut: bool) -> tuple[int | None, int | None]:
    """Return how many frames are missing, and how many there should be; None where the file does not count them."""
    kind, tally = _kind(source), source.tally
    announced = source.stream.frames if kind in ("avi", "ivf") else extent.num_frames if extent is not None else None
    if kind == "mov":
        if extent is None or not is_cut:
            return None, None
        ends = [entry.pos + entry.size for entry in source.stream.index_entries]
        missing = sum(end > source.container.size for end in ends)
        return (missing or None, None) if extent.is_fragmented else (missing, len(ends))
    if not announced or extent is None or (kind == "avi" and not extent.is_exact):
        # A recorder fills in the number when it stops; until then the field may hold anything.
        return None, None
    there = tally.num_whole
    if kind == "avi" and tally.last_dts is not None:
        # The header counts ticks: dropped frames too, or two for each frame.
        step = max(1, tally.step)
        there, announced = max(there, tally.last_dts // step + 1), announced // step
    elif kind == "ivf" and tally.last_dts is not None:
        ticks = tally.last_dts + max(tally.step, nominal_ticks(source.stream))
        if ticks > 2 * there and abs(announced - ticks) * there <= 2 * ticks:
            return 0, announced  # older files store ticks instead of frames
    return max(0, announced - there), announced
