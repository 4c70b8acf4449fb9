"""States: stretches in which a picture shows the same content at rest, as one slide or one page of a screen.

Content is the strength of the strokes (lines and edges) of a cell or a picture, in grey levels; content at rest is that
of cells in a stay (see `stills`). `state_changes` finds where a state gives way to the next. Not every stay belongs to
a state: digits of a clock, a cursor and what only passes do not (`is_lasting`).

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
"""Grey levels of strokes below which a cell is blank: paper, sky, a plain wall."""

BLANK = 1.0
"""Content of a blank cell, in grey levels of strokes."""

STAYS, SETTLED = 3, 20
"""New content must stay `STAYS` times as long as it took to appear, since what passes slowly rests in places too; from
`SETTLED` moments on, 4 seconds, it counts as lasting in any case."""

FEW_CELLS, A_WHILE = 2, 15
"""What changes at most `FEW_CELLS` cells must stay for `A_WHILE` moments, 3 seconds: the digits of a clock, which look
alike now and then, do not."""

CURSOR_CELLS, LARGE = 4, 2.0
"""What changes at most `CURSOR_CELLS` cells and then disappears is a cursor, unless it changes a block of the signature
by `LARGE` grey levels; a cursor changes it by one."""

AROUND, LONG = 25, 50
"""In a picture that drifts, cells come to rest all the time, here and there. What stays less than `LONG` moments, 10
seconds, must change more cells at once than usual within `AROUND` moments."""

TOGETHER, AT_MOST = 5, 10
"""Changes at most `TOGETHER` moments apart are one change, of at most `AT_MOST` moments in all."""

MOSTLY_STILL = 0.5
"""A picture is at rest when at least this share of its content is."""

LEAST_CHANGE, LEAST_GROWTH = 0.02, 0.06
"""Shares of the picture's content: the least single change that begins a new state, and the least sum of smaller ones
that does."""


def is_lasting(stats: FrameStats, stills: Stills) -> Flags:
    """Return whether each stay shows lasting content, bool [Y]: no clock, no cursor, nothing that passes."""
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
    """Return the change of the signature's block since the previous stay of the cell, for each stay, grey levels."""
    side = TEXTURE_SIDE // SIGNATURE_SIDE
    row, column = stills.cell_Y // TEXTURE_SIDE // side, stills.cell_Y % TEXTURE_SIDE // side
    before, after = (stills.row_M[moment] for moment in (np.roll(stills.stop_Y, 1) - 1, stills.start_Y))
    colours = stats.signature_NK.reshape(-1, SIGNATURE_SIDE, SIGNATURE_SIDE, 3)
    gap = colours[before, row, column].astype(np.float64) - colours[after, row, column]
    return np.asarray(np.sqrt(np.square(gap).sum(axis=-1)))


def _usual(count_M: Rows) -> Floats:
    """Return the usual number of changes per moment within `AROUND` moments.

    That is the upper quartile, or the share of moments with any change, whichever is more.
    """
    if not count_M.any():
        return np.zeros(len(count_M))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(count_M, AROUND), 2 * AROUND + 1)
    place = 3 * (2 * AROUND + 1) // 4
    quartile = np.partition(windows, place, axis=-1)[:, place]
    # Changes at the moment itself do not count among the others.
    others = (windows > 0).sum(axis=-1) - (windows[:, AROUND - 1 : AROUND + 2] > 0).sum(axis=-1)
    return np.asarray(np.maximum(quartile, others / (2 * AROUND - 2)))


def _within(moments: Rows, of_Y: Rows, reach: int) -> Rows:
    """Return how many of `moments` lie within `reach` of each of `of_Y`."""
    ordered = np.sort(moments)
    return np.searchsorted(ordered, of_Y + reach, side="right") - np.searchsorted(ordered, of_Y - reach)


def state_changes(stats: FrameStats, stills: Stills) -> Rows:
    """Return the rows of the stats where a new state begins, increasing.

    A change that is gradual, or made of several steps close together, has one row.
    """
    lasting = is_lasting(stats, stills)
    before = np.maximum(np.arange(len(lasting)) - 1, 0)
    settled = stills.stop_Y - stills.start_Y >= SETTLED
    total_M = content_of(stats, stills.row_M)
    # In a picture that moves, a part may rest by chance: there it must do so for long, before and after.
    is_still_M = _still_content(stills) >= MOSTLY_STILL * total_M
    # Where a cursor disappeared, nothing new appeared.
    found = stills.is_new_Y & lasting & ~(stills.is_return_Y & (stills.is_passing_Y & ~lasting)[before])
    found &= is_still_M[stills.start_Y] | (settled & settled[before])
    content = np.maximum(stills.content_Y, stills.content_Y[before])
    found &= content >= LEAST_CONTENT
    share_M = np.bincount(stills.start_Y[found], content[found], minlength=len(total_M)) / total_M
    return np.unique(stills.row_M[_steps_of(share_M)])


def _steps_of(share_M: Floats) -> Rows:
    """Return the moments at which enough content changed; of changes close together, the one in the middle."""
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
    """Return the content at rest at each moment: strokes of these cells in grey levels."""
    change = np.zeros(len(stills.row_M) + 1)
    np.add.at(change, stills.start_Y, stills.content_Y)
    np.add.at(change, stills.stop_Y, -stills.content_Y)
    return np.cumsum(change)[:-1]


def content_of(stats: FrameStats, rows: Rows) -> Floats:
    """Return the content of each picture, float64 [len(rows)]: strokes of every cell, at rest or not, grey levels."""
    levels = np.square(stats.strokes_NC[rows].astype(np.float64) / STROKE_UNIT)
    in_picture = stats.strokes_NC.max(axis=0) > 0
    return np.asarray(np.maximum((levels + BLANK * in_picture).sum(axis=1), BLANK))
