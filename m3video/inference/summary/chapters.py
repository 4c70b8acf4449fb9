"""Group shots into chapters: as few as the budget allows, with breaks where the picture changes most.

Legend: N frames, M pieces (shots, the long ones cut), K signature values.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from m3video.planning.analyze import COLUMNS
from m3video.planning.shots import find_shots
from m3video.types import FLAG_CORRUPT, FrameStats

MOST_SECONDS = 120.0
"""Longest chapter; 16 frames are then at most 8 s apart."""

TOKENS_PER_SHOT = 36
"""A chapter has no more shots than its budget can show at this scale."""


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """One chapter.

    Attributes:
        stats: its intact frames.
        start_seconds, end_seconds: the half-open range [start, end), in seconds as players count.
        shot_pts: ticks at which shots begin within it; its first shot may have begun before and is not among them.
    """

    stats: FrameStats
    start_seconds: float
    end_seconds: float
    shot_pts: tuple[int, ...]

    @property
    def num_shots(self) -> int:
        return len(self.shot_pts) + 1


def find_spans(stats: FrameStats, *, end_pts: int, most_shots: int, most_seconds: float = MOST_SECONDS) -> list[Span]:
    """Divide a video into chapters, from the stats of its first pass.

    Args:
        stats: the analyzed frames, at least one of them intact.
        end_pts: where the last frame ends, ticks.
        most_shots: most shots in a chapter, from 1.
        most_seconds: longest chapter; a single frame that is shown longer makes a longer one.

    Returns:
        Spans without gaps between them, from the first intact frame to the end; seconds as players count.
    """
    stats = _rows(stats, np.flatnonzero((stats.flags_N & FLAG_CORRUPT) == 0))
    tick = stats.time_base[0] / stats.time_base[1]
    shot_M0 = find_shots(stats)
    begin_M = _pieces(stats.pts_N, shot_M0, end_pts, most_seconds / tick)
    time_M1 = (np.append(stats.pts_N[begin_M], end_pts) - stats.pts_N[0]) * tick
    shot_M = np.searchsorted(shot_M0, begin_M, side="right")
    breaks = _best_breaks(time_M1, shot_M, _strength(stats.signature_NK, begin_M), most_shots, most_seconds)
    row_ends = np.append(begin_M, len(stats))
    edges = np.append(stats.pts_N[begin_M], end_pts)
    return [
        Span(
            replace(_rows(stats, np.arange(row_ends[a], row_ends[b])), until_pts=int(edges[b])),
            stats.pts_seconds(int(edges[a])),
            stats.pts_seconds(int(edges[b])),
            tuple(int(pts) for pts in stats.pts_N[shot_M0] if edges[a] < pts < edges[b]),
        )
        for a, b in itertools.pairwise(breaks)
    ]


def _rows(stats: FrameStats, rows: NDArray[np.int64]) -> FrameStats:
    return replace(stats, **{name: getattr(stats, name)[rows] for name in COLUMNS})


def _pieces(pts_N: NDArray[np.int64], shot_M0: NDArray[np.int64], end_pts: int, most_ticks: float) -> NDArray[np.int64]:
    """Return the rows where pieces begin: shots, and equal parts of shots that are too long."""
    begins: set[int] = set()
    for first, end in zip(shot_M0, [*shot_M0[1:], len(pts_N)], strict=True):
        start, stop = int(pts_N[first]), int(pts_N[end]) if end < len(pts_N) else end_pts
        parts = math.ceil((stop - start) / most_ticks)
        # A part begins with an existing frame; a single frame that is shown for long cannot be cut.
        times = start + (stop - start) * np.arange(parts) / max(1, parts)
        begins |= {int(first), *(int(row) for row in np.searchsorted(pts_N, times) if first <= row < end)}
    return np.array(sorted(begins), np.int64)


def _strength(signature_NK: NDArray[np.uint8], begin_M: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how much the mean picture changes from the piece before to each piece, grey levels; 0 for the first."""
    counts = np.diff(np.append(begin_M, len(signature_NK)))
    sums = np.add.reduceat(signature_NK, begin_M, axis=0, dtype=np.float64)
    mean = sums / counts[:, None]
    return np.append(0.0, np.abs(np.diff(mean, axis=0)).mean(axis=1))


def _best_breaks(
    time_M1: NDArray[np.float64],
    shot_M: NDArray[np.int64],
    strength_M: NDArray[np.float64],
    most_shots: int,
    most_seconds: float,
) -> list[int]:
    """Return the pieces at which chapters begin, and the end: fewest chapters first, then the strongest changes.

    Dynamic programming over prefixes: chapters are short, so each prefix has few predecessors.
    """
    count = len(shot_M)
    best: list[tuple[int, float, int]] = [(0, 0.0, -1)]  # chapters, minus strength, where the last one begins
    for end in range(1, count + 1):
        options = []
        for begin in range(end - 1, -1, -1):
            too_long = time_M1[end] - time_M1[begin] > most_seconds + 1e-6
            if begin < end - 1 and (too_long or shot_M[end - 1] - shot_M[begin] >= most_shots):
                break
            chapters, weakness, _ = best[begin]
            options.append((chapters + 1, weakness - strength_M[begin], begin))
        best.append(min(options))
    breaks = [count]
    while breaks[-1] > 0:
        breaks.append(best[breaks[-1]][2])
    return breaks[::-1]
