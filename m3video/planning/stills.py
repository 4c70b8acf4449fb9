"""What stands still where: each cell of the texture grid as a row of stays, times in which it shows one and the same.

A change is news when what comes then stays: a new slide, a line of words, a window that opens, somebody who walks in.
What changes all the time (noise, rain, a clock that ticks, a ticker, a face that talks) never stays, whatever its size,
and what encoding a still picture again leaves over is no change. All of it is told from the rows of the stats, so it
is the same however the video was read.

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
"""Seconds from moment to moment: what stays is seen at five frames a second as well as at thirty."""

HOLD = 7
"""Moments that a cell must be the same as one before it to be still: 1.4 seconds, more than a clock's second and less
than any caption."""

BLUR = 3
"""Moments: a run of stillness that is over sooner may be none."""

NOISE = 6.0
"""A difference counts beyond this many median steps of the cell itself: four standard deviations of noise."""

PATTERN_FLOOR, PATTERN_SHARE, STROKES_FLOOR = 4.0, 0.06, 2.5
"""Differences up to these are none whatever the noise: steps of the pattern, further steps for each grey level of
strokes (a keyframe draws strong lines anew), and steps of the strokes."""

RESTLESS = 64.0
"""A cell whose tolerance is this wide, a quarter of all there is, changes all the time."""

CELLS = TEXTURE_SIDE**2

AT_ONCE = TEXTURE_SIDE
"""Cells that are looked at together, so that memory stays flat however long a video is."""


@dataclass(frozen=True, slots=True, eq=False)
class Stills:
    """The stays of a video, cell after cell and in time.

    Attributes:
        row_M: the frame on screen at each moment, a row of the stats; one moment is `STEP` or more after the other.
        cell_Y: which cell, 0 to 143.
        start_Y: first moment.
        stop_Y: the moment after the last one.
        pattern_Y: mean pattern, steps, not wrapped.
        strokes_Y: mean strokes, steps.
        tolerance_Y2: up to which pattern and strokes of a frame are the same, steps.
        settled_Y2: the same for the means of another stay.
        is_new_Y: whether it shows something else than the stay before it in its cell; False for the first.
        is_passing_Y: whether the stays before and after it, or it and one neighbour, show the same, and it does not.
        is_return_Y: whether it is the one after such a stay.
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
        """Strokes of each stay in grey levels."""
        return np.square(self.strokes_Y / STROKE_UNIT)

    @property
    def version_Y(self) -> Rows:
        """A number for all stays of a cell that follow each other without a step: what drifts stays the same."""
        return np.cumsum(self.is_new_Y | (np.diff(self.cell_Y, prepend=-1) > 0))

    @property
    def took_Y(self) -> Rows:
        """Moments from the end of the stay before, in the same cell, or from the first moment."""
        is_first = np.diff(self.cell_Y, prepend=-1) > 0
        return self.start_Y - np.where(is_first, 0, np.roll(self.stop_Y, 1))

    def moments(self, rows: Rows, pattern_NC: Bytes) -> Rows:
        """The moment that each frame belongs to, int64 like `rows`.

        Args:
            rows: of the stats.
            pattern_NC: that of the stats: a frame between two moments is of the one that it is more like.
        """
        after = np.searchsorted(self.row_M, rows).clip(0, max(0, len(self.row_M) - 1))
        before = (np.searchsorted(self.row_M, rows, side="right") - 1).clip(0)
        unlike_before, unlike_after = (
            (distance(pattern_NC[rows], pattern_NC[self.row_M[moment]]) > PATTERN_FLOOR).sum(axis=1)
            for moment in (before, after)
        )
        return np.where(unlike_after < unlike_before, after, before)

    def at(self, moment: Rows) -> Rows:
        """The stay that each cell is in at some moments, int64 [len(moment), C]; -1 where it is in none."""
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
    """Distance of patterns, which are known modulo 256: 0 to 128 steps."""
    gap = np.abs(first - second) % 256
    return np.minimum(gap, 256 - gap)


@lru_cache(maxsize=1)
def find_stills(stats: FrameStats) -> Stills:
    """Find all stays; the last video's are kept, since shots and candidates are both told from them.

    Args:
        stats: analyzed frames; corrupt ones are left out.
    """
    clean = np.flatnonzero((stats.flags_N & FLAG_CORRUPT) == 0)
    first = int(stats.pts_N[0]) if len(stats) else 0
    seconds = np.asarray((stats.pts_N[clean] - first) * (stats.time_base[0] / stats.time_base[1]), np.float64)
    kept = np.flatnonzero(np.diff(np.floor(seconds / STEP + 1e-6), prepend=-1) > 0)
    which = np.repeat(np.arange(len(kept)), _moments(seconds[kept], is_all=stats.mode == "full"))
    # Frames further apart than it takes to be still differ by what happens, not by noise.
    is_near = np.diff(seconds[kept]) <= HOLD * STEP
    rows = clean[kept]
    parts = []
    for first_cell in range(0, CELLS, AT_ONCE):
        cells = slice(first_cell, first_cell + AT_ONCE)
        parts.append(_stays(stats.pattern_NC[rows, cells], stats.strokes_NC[rows, cells], which, is_near, first_cell))
    joined = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Stills(rows[which], *joined)


def _moments(seconds_K: Floats, *, is_all: bool) -> Rows:
    """How many moments each frame stands for: as long as it is on screen, up to what it takes to be still. Where frames
    were skipped nobody knows what was on screen between two of them, and it takes three alike."""
    if len(seconds_K) < 2:
        return np.ones(len(seconds_K), np.int64)
    gaps = np.diff(seconds_K)
    moments = np.rint(np.append(gaps, np.median(gaps)) / STEP).astype(np.int64)
    return moments.clip(1, HOLD + 1 if is_all else -(-(HOLD + 1) // 3))


def distance(first: Bytes, second: Bytes) -> Bytes:
    """Distance modulo 256, uint8."""
    gap = first - second
    return np.minimum(gap, -gap)


def _stays(
    pattern_KC: Bytes, strokes_KC: Bytes, which_M: Rows, is_near_K1: Flags, first_cell: int
) -> tuple[NDArray[Any], ...]:
    """The columns of `Stills` for a block of cells."""
    floor, noise = _tolerances(pattern_KC, strokes_KC, is_near_K1[:, None])
    cell, start, stop = _runs(_still(pattern_KC, strokes_KC, floor + noise, which_M))
    # The mean of a pattern is taken along its way, so that 255 and 1 have a mean of 0.
    way = np.cumsum(np.diff(np.pad(pattern_KC, ((1, 0), (0, 0))), axis=0).view(np.int8), axis=0, dtype=np.int32)
    tables = (way, strokes_KC, *floor, *noise)
    pattern, strokes, *found = (_means(table[which_M], start, stop, cell) for table in tables)
    floor_Y2, noise_Y2 = np.stack(found[:2], axis=1), np.stack(found[2:], axis=1)
    # A mean over many frames has less noise than each of them.
    settled = floor_Y2 + noise_Y2 / np.sqrt(which_M[stop - 1] - which_M[start] + 1)[:, None]
    # Runs of a cell that show the same are one stay.
    is_head = np.diff(cell, prepend=-1) > 0
    is_new = ~is_head
    is_new[1:] &= ~_same(pattern, strokes, settled, 1)
    is_head |= is_new
    heads, ends = np.flatnonzero(is_head), np.flatnonzero(np.append(is_head[1:], True)[: len(cell)])
    # After a true step a cell is still no earlier than `HOLD` moments later; what is sooner has drifted, as light does.
    is_new &= start >= np.roll(stop, 1) - 1
    cell, pattern, strokes, settled = cell[heads], pattern[heads], strokes[heads], settled[heads]
    passing = _passing(cell, pattern, strokes, settled)
    tolerance = (floor_Y2 + noise_Y2)[heads]
    return first_cell + cell, start[heads], stop[ends], pattern, strokes, tolerance, settled, is_new[heads], *passing


def _runs(still_MC: Flags) -> tuple[Rows, Rows, Rows]:
    """Cell, first moment and the moment after the last one of each run of stillness, cell after cell.

    A run is known to be still only when it has been for a while: it began that much earlier. Where that is well before
    the end of another one and over soon, something passed so quickly that it was taken for noise: that is no run.
    """
    edge = np.diff(still_MC.astype(np.int8), axis=0, prepend=0, append=0).T
    cell, known = np.nonzero(edge == 1)
    stop = np.nonzero(edge == -1)[1]
    start = np.maximum(known - HOLD, 0)
    is_blur = (np.diff(cell, prepend=-1) == 0) & (start < np.roll(stop, 1) - 1) & (stop - known < BLUR)
    return cell[~is_blur], start[~is_blur], stop[~is_blur]


def _passing(cell_Y: Rows, pattern_Y: Floats, strokes_Y: Floats, settled_Y2: Floats) -> tuple[Flags, Flags]:
    """Which stays, or pairs of them, stand between two that show the same; and which come after them."""
    is_passing, is_return = np.zeros(len(cell_Y), bool), np.zeros(len(cell_Y), bool)
    for steps in (2, 3):
        is_back = (cell_Y[steps:] == cell_Y[:-steps]) & _same(pattern_Y, strokes_Y, settled_Y2, steps)
        is_return[steps:] |= is_back
        for place in range(1, steps):
            is_passing[place : place + len(is_back)] |= is_back
    return is_passing, is_return


def _same(pattern_Y: Floats, strokes_Y: Floats, settled_Y2: Floats, back: int) -> Flags:
    """Whether each run or stay shows what the one so many before it shows, bool [Y - back]."""
    limit = np.maximum(settled_Y2[back:], settled_Y2[:-back])
    is_near = apart(pattern_Y[back:], pattern_Y[:-back]) <= limit[:, 0]
    return np.asarray(is_near & (np.abs(strokes_Y[back:] - strokes_Y[:-back]) <= limit[:, 1]))


def _tolerances(pattern_KC: Bytes, strokes_KC: Bytes, is_near: Flags) -> tuple[Singles, Singles]:
    """How far pattern and strokes of a cell may be from what they were and be the same: where there is no noise, and
    what its own last steps add to that; each float32 [2, K, C]."""
    levels = np.square(strokes_KC.astype(np.float32) / STROKE_UNIT)
    floor = np.stack([PATTERN_FLOOR + PATTERN_SHARE * levels, np.full_like(levels, STROKES_FLOOR)])
    stronger = np.maximum(strokes_KC[1:], strokes_KC[:-1]) - np.minimum(strokes_KC[1:], strokes_KC[:-1])
    steps = (distance(pattern_KC[1:], pattern_KC[:-1]) * is_near, stronger * is_near)
    return floor.astype(np.float32), np.stack([_usual(table) for table in steps]) * np.float32(NOISE)


def _usual(steps_KC: Bytes) -> Singles:
    """Median of the last `HOLD` steps up to each frame, one frame more than there are steps."""
    early = np.repeat(steps_KC[:1] if len(steps_KC) else np.zeros((1, steps_KC.shape[1]), np.uint8), HOLD, axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate([early, steps_KC]), HOLD, axis=0)
    return np.partition(windows, HOLD // 2, axis=-1)[..., HOLD // 2].astype(np.float32)


def _still(pattern_KC: Bytes, strokes_KC: Bytes, limit_2KC: Singles, which_M: Rows) -> Flags:
    """Whether each cell has been the same for `HOLD` moments, bool [M, C]."""
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
    """Mean of each cell from one moment to before another."""
    sums = np.cumsum(np.pad(table_MC, ((1, 0), (0, 0))), axis=0, dtype=np.float64)
    return np.asarray((sums[stop, cell] - sums[start, cell]) / (stop - start))
