"""From a question to what each candidate is worth to it: the frames it is about, and whether it is about any.

Whether a question is about a moment or about the whole video is told by how it is read, not by its words: a measure
gives every candidate a share of the question, and only where most of it falls on frames that show the same does the
question get a plan of its own. Every other question keeps the plan without a question.

Shape legend: N candidates, S the five scales, M shots.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from m3video.planning.allocate import allocate
from m3video.types import Selection
from m3video.utils.clock import CLOCK, shot_named, whole_seconds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEW = 0.5
"""Candidates less novel than this show what the one before them shows."""

COARSE_SHARE = 0.25
"""The most of the budget that the coarse attention pass may cost."""

COARSE_SCALE = 9
"""The most tokens of a frame in the coarse attention pass: at 1 the bundled model finds the frame that a question
without a time is about half as often."""

MOVED = 0.1
"""Of its attention a question must move at least this share away from where any question would draw it."""

ON_ONE, LEAST = 0.7, 0.1
"""At least the first share of what it moves must fall on frames that show the same; others are shown from the second
on. These three are the best of seven rules on calibration clips, with which none of three kinds of question lost."""

ELSEWHERE = frozenset("before after until till since from between during first last then next when".split())
"""A question with one of these may ask for other frames than those at the time it names."""


def alike(selection: Selection, novelty_N: NDArray[np.floating]) -> Ints:
    """Which candidates show the same: numbers from 0, the next one at each shot and at each novel candidate."""
    starts = np.diff(selection.shot_N, prepend=-1) > 0
    return np.cumsum(starts | (novelty_N > NEW)) - 1


def coarse_scales(utility_NS: NDArray[np.floating], *, budget: int) -> Ints:
    """Return scales for the coarse attention pass, int64 [N]: the best plan without a question for part of the budget.

    Args:
        utility_NS: what showing each candidate is worth, whatever is asked.
        budget: of the whole answer.
    """
    return allocate(utility_NS, budget=int(budget * COARSE_SHARE), max_scale=COARSE_SCALE).scale_N


def named_times(question: str) -> list[int]:
    """The times that a question is about ("at 0:07"), in whole seconds; none where it asks for other frames as well."""
    if ELSEWHERE & set(re.findall(r"[a-z]+", question.lower())):
        return []
    return [whole_seconds(found[0]) for found in CLOCK.finditer(question)]


def at_times(question: str, selection: Selection, pts_seconds: Callable[[int], float]) -> Floats | None:
    """Shares of a question that names times ("at 0:07"): those of the candidates nearest to them.

    A time stands for the second that begins there, and for the candidate of its own shot where there is one.

    Args:
        question: the user's words.
        selection: the candidates.
        pts_seconds: of the video, e.g. `VideoInfo.pts_seconds`.

    Returns:
        float64 [N], sum 1; None where no time of the video is named.
    """
    named = named_times(question)
    if not named:
        return None
    start_M, end_M = (np.array([pts_seconds(pts) for pts in edge]) for edge in zip(*selection.shots, strict=True))
    times_N = np.array([pts_seconds(int(pts)) for pts in selection.pts_N])
    share_N = np.zeros(len(times_N))
    for time in named:
        if time + 1 <= start_M[0] or time >= end_M[-1]:
            continue
        own = np.flatnonzero(selection.shot_N == shot_named(time, start_M.tolist()))
        among = own if len(own) else np.arange(len(times_N))
        share_N[among[np.abs(times_N[among] - time - 0.5).argmin()]] += 1
    return share_N / share_N.sum() if share_N.any() else None


def by_attention(relevance_N: NDArray[np.floating], alike_N: Ints, *, moved: float) -> Floats | None:
    """Shares of a question from where it makes the model attend in the coarse pass.

    Args:
        relevance_N: how the attention that the question moves is spread over the candidates, sum 1.
        alike_N: as `alike` has it.
        moved: the share of attention that it moves.

    Returns:
        float64 [N], sum 1; None where the question moves little or makes the model look at several things: it is then
        held to be about the whole video.
    """
    together = np.bincount(alike_N, relevance_N)
    if moved < MOVED or together.max() < ON_ONE:
        return None
    share_N = np.where(together[alike_N] >= LEAST, relevance_N, 0.0)
    return np.asarray(share_N / share_N.sum(), np.float64)


def asked_for(shown_NS: Floats, novelty_N: Floats, alike_N: Ints, share_N: Floats) -> Floats:
    """What showing each candidate is worth to a question, float64 [N, 5].

    Of candidates that show the same, one stands for all with the sum of their shares: the one that has most of it, of
    equals the most novel. The others, and what has no share, are worth nothing.

    Args:
        shown_NS: what of each candidate is seen at each scale, whether new or not.
        novelty_N: as the planner has it.
        alike_N: as `alike` has it.
        share_N: of the question, sum 1.
    """
    together = np.bincount(alike_N, share_N)
    worth = np.zeros_like(shown_NS)
    for group in np.flatnonzero(together > 0):
        members = np.flatnonzero(alike_N == group)
        best = members[np.lexsort((-novelty_N[members], -share_N[members]))[0]]
        worth[best] = together[group] * shown_NS[best]
    return worth
