"""Segments of a video, computed from its frame index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m3video.types import seconds
from m3video.utils.clock import clock
from m3video.video.index import FrameIndex

SEGMENT_SECONDS = 90.0
"""Mean length of a segment; with keyframes every few seconds, each has one to three minutes: long compared with the
cost of opening the file and finding the keyframe, short enough to read again after a crash."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The frames with start_pts <= pts < end_pts, the first of them a keyframe; `printable` is their time in words."""

    start_pts: int
    end_pts: int
    num_frames: int
    printable: str


def num_segments(index: FrameIndex) -> int:
    """Return how many segments pay off; 1 below 135 seconds, where starting workers takes longer than reading."""
    span = seconds(int(index.pts_N[-1] - index.pts_N[0]) + index.last_duration, index.time_base)
    return max(1, round(span / SEGMENT_SECONDS))


def cut(index: FrameIndex, count: int) -> tuple[Segment, ...]:
    """Cut at the keyframes nearest to `count` equal times.

    Args:
        index: the presented frames.
        count: segments wanted, 1 or more; fewer come out where keyframes are fewer.

    Returns:
        Segments that follow each other and together hold every frame of the index once.
    """
    if count < 1:
        raise ValueError(f"count ({count}) must be at least 1")
    pts_N = index.pts_N
    end = int(pts_N[-1]) + 1
    key_rows = np.flatnonzero(index.is_key_N)
    key_rows = key_rows[key_rows > 0]
    cuts: set[int] = set()
    if len(key_rows):
        keys = pts_N[key_rows]
        wanted = np.linspace(float(pts_N[0]), float(end), count + 1)[1:-1]
        after = np.searchsorted(keys, wanted).clip(1, len(keys) - 1) if len(keys) > 1 else np.zeros(count - 1, int)
        before = (after - 1).clip(0)
        nearest = np.where(wanted - keys[before] <= keys[after] - wanted, before, after)
        cuts = set(key_rows[nearest].tolist())
    rows = [0, *sorted(cuts), len(pts_N)]
    bounds = [*(int(pts_N[row]) for row in rows[:-1]), end]
    return tuple(
        Segment(start, stop, last - first, _span(start, stop, index))
        for start, stop, first, last in zip(bounds, bounds[1:], rows, rows[1:], strict=False)
    )


def _span(start: int, stop: int, index: FrameIndex) -> str:
    return f"{clock(index.pts_seconds(start))} - {clock(index.pts_seconds(stop))}"
