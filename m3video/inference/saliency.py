"""Two-pass ask: the budget goes to the frames that a question is about. Those are found by the times it names, or else
by the model's attention in a coarse pass over the candidates, which costs a part of the budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m3video.config import Settings
from m3video.inference.decision import PlanDetails
from m3video.planning.saliency import alike, at_times, by_attention, coarse_scales, named_times
from m3video.types import Focus, VideoInfo

if TYPE_CHECKING:
    from m3video.model.m3.saliency import QuestionAttention

Shares = NDArray[np.float64]


def focus_on(
    question: str, details: PlanDetails, *, measure: str, attend: Callable[[list[int]], QuestionAttention]
) -> tuple[Focus, Shares | None] | None:
    """Find the candidates that a question is about.

    Args:
        question: the user's words.
        details: the candidates, and their utility without a question.
        measure: "times", or "attention" for questions that name none.
        attend: the coarse attention pass: from the scale of each candidate (0: left out) to where the question directs
            the model's attention among those shown.

    Returns:
        The focus to write into the plan, and each candidate's share, or None for the plan as without a question; None
        instead of both where nothing was measured.
    """
    selection = details.selection
    share_N = at_times(question, selection, details.stats.pts_seconds)
    if share_N is not None:
        return Focus(question, "times", 0, _weights(selection.pts_N, share_N)), share_N
    if measure == "times":
        return None
    pinned = sum(scale or 1 for scale in details.pinned.values())
    scales = coarse_scales(details.utility_CS, budget=details.settings.budget - pinned)
    if np.count_nonzero(scales) < 2:
        return None  # with a single frame there is nothing to choose
    found = attend(scales.tolist())
    relevance_N = np.zeros(len(selection))
    relevance_N[scales > 0] = found.relevance_N
    share_N = by_attention(relevance_N, alike(selection, details.novelty_C), moved=found.moved)
    weights = () if share_N is None else _weights(selection.pts_N, share_N)
    return Focus(question, "attention", int(scales.sum()), weights), share_N


def named_pins(question: str, info: VideoInfo, settings: Settings) -> dict[str, str]:
    """Return the settings that make a frame of each second that a question names a candidate: `{"at": ...}`, or none.

    Frames that a scan has skipped cannot be pinned; then there are none.
    """
    begin, end = info.pts_seconds(info.start_pts), info.pts_seconds(info.until_pts)
    begin, end = max(begin, settings.start or begin), min(end, settings.end or end)
    # Times are written to a thousandth.
    first, last = math.ceil(begin * 1000) / 1000, math.floor((end - 0.001) * 1000) / 1000
    # The middle of the second, where it is within the range: its first frame may be of the shot before.
    middles = {max(first, min(time + 0.5, last)) for time in named_times(question) if first < time + 1 and time <= last}
    if settings.scan not in ("auto", "full") or not middles:
        return {}
    pinned = [] if settings.at is None else [settings.at]
    return {"at": ", ".join([*pinned, *(f"{time:.3f}" for time in sorted(middles))])}


def _weights(pts_N: NDArray[np.int64], share_N: Shares) -> tuple[tuple[int, float], ...]:
    """Return shares as a plan stores them: four decimals, without those that round to zero."""
    return tuple((int(pts), round(float(share), 4)) for pts, share in zip(pts_N, share_N, strict=True) if share >= 5e-5)
