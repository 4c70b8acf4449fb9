"""New content of candidates: what a candidate shows at rest that no other one shows.

Examples are the words of a slide, a window that opened, somebody who came in. Content at rest (see `states`) is
compared cell by cell: two candidates show the same in a cell when they lie in the same stay of it (see `stills`), or in
stays whose pattern and strokes agree.

Legend: N candidates, C texture cells, B blocks of the signature.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m3video.planning.complexity import STROKE_UNIT
from m3video.planning.states import LEAST_CONTENT, TOGETHER, content_of, is_lasting
from m3video.planning.stills import CELLS, Stills, distance
from m3video.types import SIGNATURE_SIDE, TEXTURE_SIDE, FrameStats

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

LEAST_NEW = 0.015
"""Share of a candidate's content: less than this is nothing new."""

ALIKE = 0.96
"""Of candidates whose new content is this similar (ratio of the amounts) the earliest is chosen first."""

ADDED, LOST, SLACK = 1.25, 0.05, 0.05
"""How a slide to which words are added is recognised: blank cells gain at least `ADDED` times the content of all other
cells that change; these others lose at most the share `LOST` of that content; and no cell has lost more than the share
`SLACK` of its content in between."""

BETWEEN = 0.25
"""Where more than this share of the content is being replaced, as in a fade, nothing counts as new."""

NEAR = 256
"""A candidate is compared with this many before and after it."""


@dataclass(frozen=True, slots=True, eq=False)
class News:
    """What is new in each candidate, of the content at rest.

    Attributes:
        new_N: the share of its content, 0 to 1, that no candidate chosen before it shows.
        still_N: the share of its content that is at rest.
        like_N: the chosen candidate that shows most of that content too, -1 for none.
        differ_NB: bool [N, 36], signature blocks in which the content at rest of those two differs.
    """

    new_N: Floats
    still_N: Floats
    like_N: Rows
    differ_NB: Flags


class _Cells:
    """What each candidate shows in each cell, and how far another may differ and still count as the same."""

    def __init__(self, stats: FrameStats, stills: Stills, rows: Rows) -> None:
        moment = stills.moments(rows, stats.pattern_NC)
        stay = stills.at(moment)
        is_in = stay >= 0
        self.version = np.where(is_in, stills.version_Y[stay], -1)
        pattern, strokes = np.rint(stills.pattern_Y) % 256, np.rint(stills.strokes_Y)
        self.pattern = np.where(is_in, pattern[stay], stats.pattern_NC[rows]).astype(np.uint8)
        self.strokes = np.where(is_in, strokes[stay], stats.strokes_NC[rows]).astype(np.int16)
        # [N, C, 2]: of pattern and strokes; of one frame, and of the mean over a stay.
        self.limit, self.settled = (
            np.where(is_in[..., None], np.ceil(limit).clip(0, 255)[stay], 0).astype(np.uint8)
            for limit in (stills.tolerance_Y2, stills.settled_Y2)
        )
        content = np.where(is_in & is_lasting(stats, stills)[stay], stills.content_Y[stay], 0.0)
        content[content < LEAST_CONTENT] = 0.0
        is_less = stills.content_Y < (1 - SLACK) * np.roll(stills.content_Y, 1)
        self.times_less = np.where(is_in, np.cumsum(is_less)[stay], -1)
        content[_is_between(stats, stills, rows, moment)] = 0.0
        self.content = content

    def differ(self, which: Rows, one: int) -> Flags:
        """Return where candidates `which` show content at rest that candidate `one` does not, bool [len(which), C]."""
        is_in = self.version[one] >= 0
        limit = np.where(is_in[:, None], np.maximum(self.settled[which], self.settled[one]), self.limit[which])
        found = distance(self.pattern[which], self.pattern[one]) > limit[..., 0]
        found |= np.abs(self.strokes[which] - self.strokes[one]) > limit[..., 1]
        return found & (self.version[which] >= 0) & (self.version[which] != self.version[one])

    def grown(self, which: Rows, one: int, differ: Flags) -> Flags:
        """Return the cells whose words candidate `one`, a later one, shows too, with more words added."""
        content, later = self.content[which], self.content[one]
        before = (content * differ).sum(axis=1)
        added = (later * (differ & (content == 0))).sum(axis=1)
        lost = (np.maximum(content - later, 0.0) * differ).sum(axis=1)
        is_build = (
            (which < one) & (before <= content.sum(axis=1) / 2) & (added >= ADDED * before) & (lost <= LOST * before)
        )
        # If content was removed in between, the words there now are others.
        return differ & is_build[:, None] & (later >= content) & (self.times_less[which] == self.times_less[one])


def find_news(stats: FrameStats, stills: Stills, rows: Rows) -> News:
    """Choose candidates greedily by how much they show that no chosen one shows, until none shows anything more.

    So of a slide to which words are added the last state counts as new, and the states before it do not.

    Args:
        stats: the analyzed frames.
        stills: the stays of their cells.
        rows: rows of the candidates in `stats`, increasing.
    """
    n = len(rows)
    new, like, differ_NC = np.zeros(n), np.full(n, -1, np.int64), np.zeros((n, CELLS), bool)
    if len(stills.cell_Y) == 0:
        return News(new, np.zeros(n), like, _blocks(differ_NC))
    cells = _Cells(stats, stills, rows)
    left = cells.content.sum(axis=1)
    total = np.maximum(content_of(stats, rows), left)
    still = left / np.maximum(total, 1e-9)
    is_open = left > LEAST_NEW * total

    def place(i: int) -> tuple[int, int]:
        return round(math.log(left[i]) / math.log(ALIKE)), i

    queue = [place(int(i)) for i in np.flatnonzero(is_open)]
    heapq.heapify(queue)
    while queue:
        found = heapq.heappop(queue)
        one = found[1]
        if not is_open[one]:
            continue
        if found != place(one):
            heapq.heappush(queue, place(one))  # less of it is new by now
            continue
        new[one] = left[one] / total[one]
        is_open[one] = False
        low = max(0, one - NEAR)
        others = low + np.flatnonzero(is_open[low : one + NEAR + 1])
        differ = cells.differ(others, one)
        rest = (cells.content[others] * (differ & ~cells.grown(others, one, differ))).sum(axis=1)
        closer = rest < left[others]
        like[others[closer]], differ_NC[others[closer]] = one, differ[closer]
        left[others] = np.minimum(left[others], rest)
        is_open[others] = left[others] > LEAST_NEW * total[others]
    return News(new, still, like, _blocks(differ_NC))


def _is_between(stats: FrameStats, stills: Stills, rows: Rows, moment: Rows) -> Flags:
    """Return whether each frame lies in a fade or a scroll from one state to another."""
    levels = np.square(stats.strokes_NC[rows].astype(np.float64) / STROKE_UNIT)
    before, after = stills.at(moment - TOGETHER), stills.at(moment + TOGETHER)
    is_changing = (stills.at(moment) < 0) & (before >= 0) & (after >= 0) & (before != after)
    return np.asarray((levels * is_changing).sum(axis=1) > BETWEEN * levels.sum(axis=1))


def _blocks(cells_NC: Flags) -> Flags:
    """Return the blocks of the signature with any such cell, bool [N, 36]."""
    side = TEXTURE_SIDE // SIGNATURE_SIDE
    grid = cells_NC.reshape(-1, SIGNATURE_SIDE, side, SIGNATURE_SIDE, side)
    return np.asarray(grid.any(axis=(2, 4)).reshape(len(cells_NC), SIGNATURE_SIDE**2))
