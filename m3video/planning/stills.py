"""Stillness: when each cell of the texture grid is at rest, and what it then shows.

Time is divided into moments, five a second. A stay is a run of moments in which one cell shows the same thing; between
two stays of a cell something passes or changes. A change matters when what comes then stays: a new slide, a line of
words, a window that opens, somebody who walks in. What changes all the time (noise, rain, a clock, a ticker, a face
that talks) has no stays, whatever its size, and the small differences that encoding a still picture leaves are no
change. Everything is computed from the rows of the stats, so it is the same however the video was read.

Legend: N frames, K frames at least `STEP` apart, M moments, C texture cells (all, or those of one block), Y stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.planning.complexity import STROKE_UNIT
from m3video.types import FLAG_CORRUPT, TEXTURE_SIDE, FrameStats

Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Rows = NDArray[np.int64]

STEP = 0.2
"""Seconds from moment to moment: five frames a second show what is at rest as well as thirty do."""

HOLD = 7
"""Moments for which a cell must not change to be at rest: 1.4 seconds, more than the second of a clock and less than
any caption."""

BLUR = 3
"""Moments: a shorter run of stillness may be spurious."""

NOISE = 6.0
"""Differences up to this many median steps of the cell are noise: four standard deviations."""

PATTERN_FLOOR, PATTERN_SHARE, STROKES_FLOOR = 4.0, 0.06, 2.5
"""Differences that are always tolerated: steps of the pattern, further steps for each grey level of strokes (a keyframe
redraws strong lines), and steps of the strokes."""

RESTLESS = 64.0
"""A cell whose tolerance is wider than this, a quarter of the range, is never at rest."""

CELLS = TEXTURE_SIDE**2

AT_ONCE = TEXTURE_SIDE
"""Cells processed together, so that memory does not grow with all cells of a long video."""


@dataclass(frozen=True, slots=True, eq=False)
class Stills:
    """The stays of a video, ordered by cell and then by time.

    Attributes:
        row_M: the frame on screen at each moment, a row of the stats; moments are `STEP` or more apart.
        cell_Y: which cell, 0 to 143.
        start_Y: first moment.
        stop_Y: the moment after the last one.
        pattern_Y: mean pattern, steps, not wrapped at 256.
        strokes_Y: mean strokes, steps.
        tolerance_Y2: greatest difference of pattern and strokes of a frame that shows the same, steps.
        settled_Y2: the same for the means of another stay.
        is_new_Y: whether it differs from the previous stay of its cell; False for the first.
        is_passing_Y: whether it (or it and one neighbour) stands between two stays that show the same, and differs.
        is_return_Y: whether it is the second of those two.
    """

    row_M: Rows
    cell_Y: Rows
    start_Y: Rows
    stop_Y: Rows
    pattern_Y: Floats
    strokes_Y: Floats
    tolerance_Y2: Floats
    settled_Y2: Floats
    is_new_Y: Flags
    is_passing_Y: Flags
    is_return_Y: Flags

    @property
    def content_Y(self) -> Floats:
        """Content of each stay: its strokes in grey levels."""
        return np.square(self.strokes_Y / STROKE_UNIT)

    @property
    def version_Y(self) -> Rows:
        """A number shared by consecutive stays of a cell without a step in between: what only drifts keeps it."""
        return np.cumsum(self.is_new_Y | (np.diff(self.cell_Y, prepend=-1) > 0))

    @property
    def took_Y(self) -> Rows:
        """Moments since the end of the previous stay of the same cell, or since the first moment."""
        is_first = np.diff(self.cell_Y, prepend=-1) > 0
        return self.start_Y - np.where(is_first, 0, np.roll(self.stop_Y, 1))

    def moments(self, rows: Rows, pattern_NC: Bytes) -> Rows:
        """Return the moment that each frame belongs to, int64 like `rows`.

        Args:
            rows: rows of the stats.
            pattern_NC: `pattern_NC` of the stats; a frame between two moments belongs to the one more like it.
        """
        after = np.searchsorted(self.row_M, rows).clip(0, max(0, len(self.row_M) - 1))
        before = (np.searchsorted(self.row_M, rows, side="right") - 1).clip(0)
        unlike_before, unlike_after = (
            (distance(pattern_NC[rows], pattern_NC[self.row_M[moment]]) > PATTERN_FLOOR).sum(axis=1)
            for moment in (before, after)
        )
        return np.where(unlike_after < unlike_before, after, before)

    def at(self, moment: Rows) -> Rows:
        """Return the stay that each cell is in at some moments, int64 [len(moment), C]; -1 where it is in none."""
        found = np.full((len(moment), CELLS), -1, np.int64)
        edges = np.searchsorted(self.cell_Y, np.arange(CELLS + 1))
        for cell in range(CELLS):
            low, high = edges[cell], edges[cell + 1]
            if low == high:
                continue
            place = low + np.searchsorted(self.start_Y[low:high], moment, side="right") - 1
            inside = (place >= low) & (moment < self.stop_Y[place])
            found[inside, cell] = place[inside]
        return found


def apart(first: Floats, second: Floats) -> Floats:
    """Return the distance of patterns, which are known modulo 256: 0 to 128 steps."""
    gap = np.abs(first - second) % 256
    return np.minimum(gap, 256 - gap)


@lru_cache(maxsize=1)
def find_stills(stats: FrameStats) -> Stills:
    """Find all stays; those of the last video are cached, since shots and candidates both need them.

    Args:
        stats: the analyzed frames; corrupt ones are left out.
    """
    clean = np.flatnonzero((stats.flags_N & FLAG_CORRUPT) == 0)
    first = int(stats.pts_N[0]) if len(stats) else 0
    seconds = np.asarray((stats.pts_N[clean] - first) * (stats.time_base[0] / stats.time_base[1]), np.float64)
    sampled = np.flatnonzero(np.diff(np.floor(seconds / STEP + 1e-6), prepend=-1) > 0)
    # Whether every frame from a sampled one to the next was decoded.
    unseen = np.cumsum(stats.skipped_N)[clean[sampled]]
    is_seen = np.append(np.diff(unseen) == 0, stats.mode == "full")
    which = np.repeat(np.arange(len(sampled)), _moments(seconds[sampled], is_seen))
    # Frames further apart than `HOLD` moments differ by events, not by noise.
    is_near = np.diff(seconds[sampled]) <= HOLD * STEP
    rows = clean[sampled]
    parts = []
    for first_cell in range(0, CELLS, AT_ONCE):
        cells = slice(first_cell, first_cell + AT_ONCE)
        parts.append(_stays(stats.pattern_NC[rows, cells], stats.strokes_NC[rows, cells], which, is_near, first_cell))
    joined = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Stills(rows[which], *joined)


def _moments(seconds_K: Floats, is_seen_K: Flags) -> Rows:
    """Return how many moments each frame stands for: those that it is on screen, up to the number needed to be at rest.

    Where frames were skipped, what was on screen until the next one is unknown, so that three equal frames are needed.
    """
    if len(seconds_K) < 2:
        return np.ones(len(seconds_K), np.int64)
    gaps = np.diff(seconds_K)
    moments = np.rint(np.append(gaps, np.median(gaps)) / STEP).astype(np.int64)
    return moments.clip(1, np.where(is_seen_K, HOLD + 1, -(-(HOLD + 1) // 3)))


def distance(first: Bytes, second: Bytes) -> Bytes:
    """Return the distance modulo 256, uint8."""
    gap = first - second
    return np.minimum(gap, -gap)


def _stays(
    pattern_KC: Bytes, strokes_KC: Bytes, which_M: Rows, is_near_K1: Flags, first_cell: int
) -> tuple[NDArray[Any], ...]:
    """Return the columns of `Stills` for a block of cells."""
    floor, noise = _tolerances(pattern_KC, strokes_KC, is_near_K1[:, None])
    cell, start, stop = _runs(_still(pattern_KC, strokes_KC, floor + noise, which_M))
    # The pattern is unwrapped before it is averaged, so that 255 and 1 have a mean of 0.
    way = np.cumsum(np.diff(np.pad(pattern_KC, ((1, 0), (0, 0))), axis=0).view(np.int8), axis=0, dtype=np.int32)
    tables = (way, strokes_KC, *floor, *noise)
    pattern, strokes, *found = (_means(table[which_M], start, stop, cell) for table in tables)
    floor_Y2, noise_Y2 = np.stack(found[:2], axis=1), np.stack(found[2:], axis=1)
    # A mean over many frames has less noise than a single frame.
    settled = floor_Y2 + noise_Y2 / np.sqrt(which_M[stop - 1] - which_M[start] + 1)[:, None]
    # Consecutive runs of a cell that show the same are one stay.
    is_head = np.diff(cell, prepend=-1) > 0
    is_new = ~is_head
    is_new[1:] &= ~_same(pattern, strokes, settled, 1)
    is_head |= is_new
    heads, ends = np.flatnonzero(is_head), np.flatnonzero(np.append(is_head[1:], True)[: len(cell)])
    # After a true step a cell is at rest no earlier than `HOLD` moments later; a sooner one is drift, as of light.
    is_new &= start >= np.roll(stop, 1) - 1
    cell, pattern, strokes, settled = cell[heads], pattern[heads], strokes[heads], settled[heads]
    passing = _passing(cell, pattern, strokes, settled)
    tolerance = (floor_Y2 + noise_Y2)[heads]
    return first_cell + cell, start[heads], stop[ends], pattern, strokes, tolerance, settled, is_new[heads], *passing


def _runs(still_MC: Flags) -> tuple[Rows, Rows, Rows]:
    """Return cell, first moment and the moment after the last one of each run of stillness, cell after cell.

    A run is detected only after `HOLD` moments, so it began that much earlier. Where that is well before the end of the
    previous run and the run is short, something passed so quickly that it looked like noise: that is no run.
    """
    edge = np.diff(still_MC.astype(np.int8), axis=0, prepend=0, append=0).T
    cell, known = np.nonzero(edge == 1)
    stop = np.nonzero(edge == -1)[1]
    start = np.maximum(known - HOLD, 0)
    is_blur = (np.diff(cell, prepend=-1) == 0) & (start < np.roll(stop, 1) - 1) & (stop - known < BLUR)
    return cell[~is_blur], start[~is_blur], stop[~is_blur]


def _passing(cell_Y: Rows, pattern_Y: Floats, strokes_Y: Floats, settled_Y2: Floats) -> tuple[Flags, Flags]:
    """Return which stays, or pairs of them, stand between two that show the same; and which are the latter."""
    is_passing, is_return = np.zeros(len(cell_Y), bool), np.zeros(len(cell_Y), bool)
    for steps in (2, 3):
        is_back = (cell_Y[steps:] == cell_Y[:-steps]) & _same(pattern_Y, strokes_Y, settled_Y2, steps)
        is_return[steps:] |= is_back
        for place in range(1, steps):
            is_passing[place : place + len(is_back)] |= is_back
    return is_passing, is_return


def _same(pattern_Y: Floats, strokes_Y: Floats, settled_Y2: Floats, back: int) -> Flags:
    """Return whether each run or stay shows the same as the one `back` before it, bool [Y - back]."""
    limit = np.maximum(settled_Y2[back:], settled_Y2[:-back])
    is_near = apart(pattern_Y[back:], pattern_Y[:-back]) <= limit[:, 0]
    return np.asarray(is_near & (np.abs(strokes_Y[back:] - strokes_Y[:-back]) <= limit[:, 1]))


def _tolerances(pattern_KC: Bytes, strokes_KC: Bytes, is_near: Flags) -> tuple[Singles, Singles]:
    """Return how much pattern and strokes of a cell may differ and count as the same, each float32 [2, K, C].

    First the tolerance without noise, then what the cell's last steps add to it.
    """
    levels = np.square(strokes_KC.astype(np.float32) / STROKE_UNIT)
    floor = np.stack([PATTERN_FLOOR + PATTERN_SHARE * levels, np.full_like(levels, STROKES_FLOOR)])
    stronger = np.maximum(strokes_KC[1:], strokes_KC[:-1]) - np.minimum(strokes_KC[1:], strokes_KC[:-1])
    steps = (distance(pattern_KC[1:], pattern_KC[:-1]) * is_near, stronger * is_near)
    return floor.astype(np.float32), np.stack([_usual(table) for table in steps]) * np.float32(NOISE)


def _usual(steps_KC: Bytes) -> Singles:
    """Return the median of the last `HOLD` steps up to each frame, one frame more than there are steps."""
    early = np.repeat(steps_KC[:1] if len(steps_KC) else np.zeros((1, steps_KC.shape[1]), np.uint8), HOLD, axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate([early, steps_KC]), HOLD, axis=0)
    return np.partition(windows, HOLD // 2, axis=-1)[..., HOLD // 2].astype(np.float32)


def _still(pattern_KC: Bytes, strokes_KC: Bytes, limit_2KC: Singles, which_M: Rows) -> Flags:
    """Return whether each cell has been the same for `HOLD` moments, bool [M, C]."""
    still = (limit_2KC[0] <= RESTLESS)[which_M]
    still[:HOLD] = False
    far, strong = (np.minimum(table, 255).astype(np.uint8)[which_M] for table in limit_2KC)
    pattern, strokes = pattern_KC[which_M], strokes_KC[which_M]
    for back in range(1, HOLD + 1):
        now, then = strokes[back:], strokes[:-back]
        still[back:] &= np.maximum(now, then) - np.minimum(now, then) <= strong[back:]
        still[back:] &= distance(pattern[back:], pattern[:-back]) <= far[back:]
    return still


def _means(table_MC: NDArray[Any], start: Rows, stop: Rows, cell: Rows) -> Floats:
    """Return the mean of a cell from each `start` to before each `stop`."""
    sums = np.cumsum(np.pad(table_MC, ((1, 0), (0, 0))), axis=0, dtype=np.float64)
    return np.asarray((sums[stop, cell] - sums[start, cell]) / (stop - start))
