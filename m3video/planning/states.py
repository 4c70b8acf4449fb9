"""Which stays count, and where one state of a picture gives way to the next.

Legend: N frames, M moments, C texture cells, Y stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m3video.planning.complexity import STROKE_UNIT
from m3video.planning.stills import Stills
from m3video.types import SIGNATURE_SIDE, TEXTURE_SIDE, FrameStats

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

LEAST_CONTENT = 7.0
"""Grey levels of strokes under which a cell is blank: paper, sky, a plain wall."""

BLANK = 1.0
"""What a blank cell counts beside the strokes of the others."""

STAYS, SETTLED = 3, 20
"""What comes must stay this many times as long as its coming took, since what passes slowly stands still in places too;
from so many moments on, 4 seconds, it stays in any case."""

FEW_CELLS, A_WHILE = 2, 15
"""What changes no more cells than this must stay for so many moments, 3 seconds: the digits of a clock, now and then
alike, do not."""

CURSOR_CELLS, LARGE = 4, 2.0
"""What changes no more cells than this, and then all is as it was before, is a cursor, unless it is large: changes a
block of the signature by so many grey levels. A cursor makes one."""

AROUND, LONG = 25, 50
"""In a picture that drifts cells come to rest all the time, here and there. What stays less than the second, 10
seconds, must come with more cells at once than usually do so many moments around."""

TOGETHER, AT_MOST = 5, 10
"""Changes with no more moments than the first between them are one, up to the second in all."""

MOSTLY_STILL = 0.5
"""A picture of whose content this share stands still is one that stands still."""

LEAST_CHANGE, LEAST_GROWTH = 0.02, 0.06
"""Of the content of the picture: what changes at once to begin another state, and what may add up until one begins."""


def counts(stats: FrameStats, stills: Stills) -> Flags:
    """Whether each stay is of something that came to stay, bool [Y]: no clock, no cursor, nothing that passes."""
    new, start, length = stills.is_new_Y, stills.start_Y, stills.stop_Y - stills.start_Y
    found = length >= np.minimum(STAYS * stills.took_Y, SETTLED)
    found &= ~new | (_within(start[new], start, TOGETHER) > FEW_CELLS) | (length >= A_WHILE)
    expected = 3 * _usual(np.bincount(start[new], minlength=len(stills.row_M)))[start]
    found &= ~new | (length >= LONG) | (_within(start[new], start, 1) > expected + 2 * np.sqrt(expected))
    # A cursor comes alone and goes alone.
    passing = stills.is_passing_Y
    cursor = passing & (_within(start[passing], start, TOGETHER) <= CURSOR_CELLS)
    cursor &= _within(start[new & ~passing & ~stills.is_return_Y], start, TOGETHER) == 0
    cursor &= _within(start[new], stills.stop_Y, TOGETHER) <= 2 * CURSOR_CELLS
    large = cursor & (_colour_steps(stats, stills) >= LARGE)
    return found & ~(cursor & (_within(start[large], start, TOGETHER) == 0))


def _colour_steps(stats: FrameStats, stills: Stills) -> Floats:
    """Distance in grey levels of the signature's block around each stay from the end of the one before to its
    beginning."""
    side = TEXTURE_SIDE // SIGNATURE_SIDE
    row, column = stills.cell_Y // TEXTURE_SIDE // side, stills.cell_Y % TEXTURE_SIDE // side
    before, after = (stills.row_M[moment] for moment in (np.roll(stills.stop_Y, 1) - 1, stills.start_Y))
    colours = stats.signature_NK.reshape(-1, SIGNATURE_SIDE, SIGNATURE_SIDE, 3)
    gap = colours[before, row, column].astype(np.float64) - colours[after, row, column]
    return np.asarray(np.sqrt(np.square(gap).sum(axis=-1)))


def _usual(count_M: Rows) -> Floats:
    """How many changes a moment has up to `AROUND` moments away: the upper quartile, or the share of moments that have
    any, whichever is more."""
    if not count_M.any():
        return np.zeros(len(count_M))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(count_M, AROUND), 2 * AROUND + 1)
    place = 3 * (2 * AROUND + 1) // 4
    quartile = np.partition(windows, place, axis=-1)[:, place]
    # Those at the moment itself are not of the others.
    others = (windows > 0).sum(axis=-1) - (windows[:, AROUND - 1 : AROUND + 2] > 0).sum(axis=-1)
    return np.asarray(np.maximum(quartile, others / (2 * AROUND - 2)))


def _within(moments: Rows, of_Y: Rows, reach: int) -> Rows:
    """How many of some moments lie no further than `reach` from each of others."""
    ordered = np.sort(moments)
    return np.searchsorted(ordered, of_Y + reach, side="right") - np.searchsorted(ordered, of_Y - reach)


def state_changes(stats: FrameStats, stills: Stills) -> Rows:
    """Rows of the stats where what stands still becomes another state, increasing; a change that is gradual, or of
    several steps close together, has one."""
    counted = counts(stats, stills)
    before = np.maximum(np.arange(len(counted)) - 1, 0)
    settled = stills.stop_Y - stills.start_Y >= SETTLED
    total_M = content_of(stats, stills.row_M)
    # In a picture that moves a part may stand still by chance: there it must do so for long, before and after.
    is_still_M = _still_content(stills) >= MOSTLY_STILL * total_M
    # Where a cursor has gone nothing has come.
    found = stills.is_new_Y & counted & ~(stills.is_return_Y & (stills.is_passing_Y & ~counted)[before])
    found &= is_still_M[stills.start_Y] | (settled & settled[before])
    content = np.maximum(stills.content_Y, stills.content_Y[before])
    found &= content >= LEAST_CONTENT
    share_M = np.bincount(stills.start_Y[found], content[found], minlength=len(total_M)) / total_M
    return np.unique(stills.row_M[_steps_of(share_M)])


def _steps_of(share_M: Floats) -> Rows:
    """Moments at which enough changed: in the middle of changes close together, each with its share of the content."""
    moments = np.flatnonzero(share_M)
    begins: list[int] = []
    grown, first = 0.0, 0
    for last, moment in enumerate(moments):
        after = moments[last + 1] if last + 1 < len(moments) else moment + TOGETHER + 1
        if after - moment <= TOGETHER and after - moments[first] <= AT_MOST:
            continue
        mass = np.cumsum(share_M[moments[first : last + 1]])
        grown += mass[-1]
        if mass[-1] >= LEAST_CHANGE or grown >= LEAST_GROWTH:
            begins.append(int(moments[first + int(np.searchsorted(mass, mass[-1] / 2))]))
            grown = 0.0
        first = last + 1
    return np.array(begins, np.int64)


def _still_content(stills: Stills) -> Floats:
    """Strokes of the cells that are still, in grey levels, at each moment."""
    change = np.zeros(len(stills.row_M) + 1)
    np.add.at(change, stills.start_Y, stills.content_Y)
    np.add.at(change, stills.stop_Y, -stills.content_Y)
    return np.cumsum(change)[:-1]


def content_of(stats: FrameStats, rows: Rows) -> Floats:
    """All that stands in each picture, float64 [len(rows)]: strokes of every cell, still or not."""
    levels = np.square(stats.strokes_NC[rows].astype(np.float64) / STROKE_UNIT)
    held = stats.strokes_NC.max(axis=0) > 0
    return np.asarray(np.maximum((levels + BLANK * held).sum(axis=1), BLANK))
