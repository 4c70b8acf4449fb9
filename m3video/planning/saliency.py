"""Saliency: which candidates a question is about, and whether it is about particular ones at all.

A measure (times that the question names, or the model's attention at a first look) gives every candidate a share of the
question. Only where most of it falls on frames that show the same does the question get a plan of its own; every other
question is taken to be about the whole video and gets the plan without a question.

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
"""Candidates with less novelty than this show the same as the one before them."""

COARSE_SHARE = 0.25
"""The most of the budget that the coarse attention pass may cost."""

COARSE_SCALE = 9
"""The most tokens of a frame in the coarse attention pass: at 1 the rendered model finds the frame that a question
without a time is about half as often."""

MOVED = 0.1
"""Least share of the attention that a question must move away from where any question draws it."""

ON_ONE, LEAST = 0.7, 0.1
"""At least the share `ON_ONE` of the attention moved must fall on frames that show the same; other candidates are shown
where they have at least the share `LEAST`. These three are the best of seven rules on calibration clips, with which
none of three kinds of question lost."""

ELSEWHERE = frozenset("before after until till since from between during first last then next when".split())
"""A question with one of these may ask for other frames than those at the time it names."""


def alike(selection: Selection, novelty_N: NDArray[np.floating]) -> Ints:
    """Number groups of candidates that show the same, from 0; a group begins at each shot and each novel candidate."""
    starts = np.diff(selection.shot_N, prepend=-1) > 0
    return np.cumsum(starts | (novelty_N > NEW)) - 1


def coarse_scales(utility_NS: NDArray[np.floating], *, budget: int) -> Ints:
    """Return scales for the coarse attention pass, int64 [N]: the best plan without a question for part of the budget.

    Args:
        utility_NS: utility of each candidate at each scale without a question.
        budget: token budget of the whole answer, of which a part is used.
    """
    return allocate(utility_NS, budget=int(budget * COARSE_SHARE), max_scale=COARSE_SCALE).scale_N


def named_times(question: str) -> list[int]:
    """Return the times that a question is about ("at 0:07"), whole seconds; none where it may ask for others too."""
    if ELSEWHERE & set(re.findall(r"[a-z]+", question.lower())):
        return []
    return [whole_seconds(found[0]) for found in CLOCK.finditer(question)]


def at_times(question: str, selection: Selection, pts_seconds: Callable[[int], float]) -> Floats | None:
    """Return the shares of a question that names times ("at 0:07"): they go to the candidates nearest to these times.

    A time stands for the second that begins there, and for a candidate of its own shot where there is one.

    Args:
        question: the text of the question.
        selection: the candidates.
        pts_seconds: converts pts of the video to seconds, e.g. `VideoInfo.pts_seconds`.

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
        relevance_N: distribution over the candidates of the attention that the question moves, sum 1.
        alike_N: groups of candidates, as returned by `alike`.
        moved: the share of attention that it moves.

    Returns:
        float64 [N], sum 1; None where the question moves little attention, or to several groups: it is then taken to be
        about the whole video.
    """
    together = np.bincount(alike_N, relevance_N)
    if moved < MOVED or together.max() < ON_ONE:
        return None
    share_N = np.where(together[alike_N] >= LEAST, relevance_N, 0.0)
    return np.asarray(share_N / share_N.sum(), np.float64)


def question_utility(shown_NS: Floats, novelty_N: Floats, alike_N: Ints, share_N: Floats) -> Floats:
    """Return the utility of each candidate at each scale for a question, float64 [N, 5].

    Of a group that shows the same, one candidate stands for all with the sum of their shares: the one with the greatest
    share, among equals the most novel. The others, and candidates without a share, have utility 0.

    Args:
        shown_NS: how much of each candidate is recognised at each scale, whether new or not.
        novelty_N: novelty of each candidate.
        alike_N: groups of candidates, as returned by `alike`.
        share_N: shares of the question, sum 1.
    """
    together = np.bincount(alike_N, share_N)
    utility_NS = np.zeros_like(shown_NS)
    for group in np.flatnonzero(together > 0):
        members = np.flatnonzero(alike_N == group)
        best = members[np.lexsort((-novelty_N[members], -share_N[members]))[0]]
        utility_NS[best] = together[group] * shown_NS[best]
    return utility_NS
