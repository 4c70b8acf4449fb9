"""How many candidates a video deserves, where the user names no number: as many as it shows different things.

Their number depends on the video and on how much a frame costs the model, not on the budget, so that plans for several
budgets choose among the same frames.

Legend: M shots.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3video.planning.novelty import NOVELTY_FULL, block_distance, most_similar_before
from m3video.planning.shots import Boundaries
from m3video.types import FrameStats

LEAST = 16
"""Candidates of any video: a short one moves, and is seen closely."""

MOST = {"light": 128, "heavy": 64}
"""Candidates at most, by what a frame costs the model: one that runs on a CPU, or one that needs a GPU."""

SPARE = 1.25
"""Candidates for each shot, where there are many: some go to long shots in which much changes."""

LONG_SECONDS = 5.0
"""A shot of this length has a candidate of its own, even if it looks like an earlier one."""


class HowMany(NamedTuple):
    """Most candidates, and why so many."""

    most: int
    why: str


def how_many(stats: FrameStats, rows: NDArray[np.int64], shots: Boundaries, *, cost: str) -> HowMany:
    """Return how many candidates the frames at `rows` deserve.

    Args:
        stats: the analyzed frames.
        rows: those in the range that is planned, increasing.
        shots: `boundaries(stats)`.
        cost: key of `MOST`.
    """
    shot = np.searchsorted(shots.row_M, rows, side="right") - 1
    first = np.flatnonzero(np.diff(shot, prepend=-1))
    last = np.append(first[1:], len(rows)) - 1
    times = stats.times_N[rows]
    until = np.append(times[first[1:]], stats.pts_seconds(stats.until_pts or int(stats.pts_N[-1])))
    num_long = int((until - times[first] >= LONG_SECONDS).sum())
    signature_MK = stats.signature_NK[rows[(first + last) // 2]]
    is_unlike = shots.is_slide_M[shot[first]].copy()
    is_unlike[0] = True
    if len(first) > 1:
        before = signature_MK[most_similar_before(signature_MK)]
        is_unlike[1:] |= block_distance(signature_MK[1:], before) > NOVELTY_FULL
    num_unlike = int(is_unlike.sum())
    wanted = math.ceil(SPARE * max(num_unlike, num_long))
    count = min(max(wanted, LEAST), MOST[cost])
    seen = f"{len(first)} shots, {num_unlike} unlike all before them, {num_long} of {LONG_SECONDS:g} s or more"
    limit = "at least" if count > wanted else f"{wanted} wanted, at most" if count < wanted else ""
    return HowMany(count, f"{count} candidates for {seen}" + (f" ({limit} {count})" if limit else ""))
