"""Spend a budget by an estimator, and add up the utility that was measured at the chosen scales.

Shape legend: N candidates, K shots, S the five scales.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from m3video.evaluation.intervals import Interval, bootstrap, clip_sums
from m3video.planning.allocate import allocate
from m3video.types import SCALES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COVERAGES = (0.03, 0.1, 0.3, 1.0, 3.0)
POWERS = (0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class LossToUtility:
    """How losses become utilities: the utility of a frame's first token, and the power that losses are raised to.

    Every estimator gets the best of a small grid on the calibration clips, so that its units do not matter.
    """

    coverage: float
    power: float

    def utility(self, lost_NS: NDArray[np.floating]) -> Floats:
        """Return utilities, float64 [N, 5], non-decreasing in scale."""
        lost = lost_NS.astype(np.float64) ** self.power
        return self.coverage + lost[:, :1] - lost


def shot_utility(shot_N: Ints, scale_N: Ints, utility_KS: Floats) -> Floats:
    """Return the utility of each shot under a plan, float64 [K]: at the finest scale it is shown at, 0 if not shown.

    Args:
        shot_N: the shot that each shown frame shows, -1 for none.
        scale_N: tokens of each, 0 for a frame that is not shown.
        utility_KS: utility of each shot at each scale.
    """
    best = np.zeros(len(utility_KS), np.int64)
    shown = shot_N >= 0
    np.maximum.at(best, shot_N[shown], scale_N[shown])
    column = np.searchsorted(SCALES, best)
    return np.where(best > 0, utility_KS[np.arange(len(utility_KS)), np.minimum(column, len(SCALES) - 1)], 0.0)


def utility_spent(utility_NS: Floats, budgets: Sequence[int], shot_N: Ints, utility_KS: Floats) -> Floats:
    """Return the clip's total utility at each budget when it is spent by `utility_NS`, float64 [budgets]."""
    return np.array(
        [shot_utility(shot_N, allocate(utility_NS, budget=budget).scale_N, utility_KS).sum() for budget in budgets]
    )


def oracle_utility(shot_N: Ints, monotone_KS: Floats) -> Floats:
    """Return the true utility of each candidate, float64 [N, 5]: only the first of each shot adds anything."""
    utility = np.zeros((len(shot_N), len(SCALES)))
    shots, first = np.unique(shot_N, return_index=True)
    utility[first[shots >= 0]] = monotone_KS[shots[shots >= 0]]
    return utility


def rank_correlation(score_F: Sequence[float], scale_F: Sequence[float], clip_F: Sequence[str]) -> Interval:
    """Return Spearman's rank correlation of two numbers for each frame, with an interval over clips.

    Ranks are those among all frames; clips are drawn, the moments of the ranks summed.
    """
    x, y = rankdata(score_F), rankdata(scale_F)
    moments = {"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y, "n": np.ones_like(x)}
    totals = {name: clip_sums(value.tolist(), clip_F)[0] for name, value in moments.items()}

    def measure(t: Mapping[str, Floats]) -> Floats:
        spread = (t["xx"] - t["x"] ** 2 / t["n"]) * (t["yy"] - t["y"] ** 2 / t["n"])
        known = spread > 1e-9
        return np.where(known, (t["xy"] - t["x"] * t["y"] / t["n"]) / np.sqrt(np.where(known, spread, 1.0)), np.nan)

    return bootstrap(totals, measure)


def gap_closed_by_clip(ours_C: Floats, base_C: Floats, oracle_C: Floats, *, other_C: Floats | None = None) -> Interval:
    """Return the share of the gap from `base` to `oracle` that `ours` closes, with an interval over clips.

    Args are float64 [C] each.

    With `other`, how much more of the gap than that one, on the same clips.
    """

    def measure(t: Mapping[str, Floats]) -> Floats:
        gap = t["oracle"] - t["base"]
        return np.where(gap > 1e-9, (t["ours"] - t["other"]) / np.where(gap > 1e-9, gap, 1.0), np.nan)

    other = base_C if other_C is None else other_C
    return bootstrap({"ours": ours_C, "other": other, "base": base_C, "oracle": oracle_C}, measure)


def best_loss_to_utility(
    lost: Sequence[NDArray[np.floating]], total: Callable[[LossToUtility], float]
) -> LossToUtility:
    """Return the member of the grid with the greatest `total`; coverage is in units of the mean loss at one token."""
    first = np.concatenate([table[:, 0] for table in lost]).astype(np.float64)
    grid = [LossToUtility(share * float((first**power).mean()), power) for power in POWERS for share in COVERAGES]
    return max(grid, key=total)
