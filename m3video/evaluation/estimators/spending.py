"""What an estimator buys: a budget is spent by its word, and the answers that are known at the chosen scales counted.

Shape legend: N candidates, K shots, S the five scales.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from m3video.evaluation.intervals import Estimate, bootstrap, clip_sums
from m3video.planning.allocate import allocate
from m3video.types import SCALES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COVERAGES = (0.03, 0.1, 0.3, 1.0, 3.0)
POWERS = (0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class LossToUtility:
    """How a loss becomes a worth: what the first token of a frame is worth, and the power losses are raised to.

    Every estimator is given the best of a small grid on the calibration clips, so that none loses by its units.
    """

    coverage: float
    power: float

    def worth(self, lost_NS: NDArray[np.floating]) -> Floats:
        """float64 [N, 5], non-decreasing in scale."""
        lost = lost_NS.astype(np.float64) ** self.power
        return self.coverage + lost[:, :1] - lost


def seen(shot_N: Ints, scale_N: Ints, worth_KS: Floats) -> Floats:
    """What is known of each shot after a plan, float64 [K]: its worth at the finest scale it is shown at, 0 if at none.

    Args:
        shot_N: the shot that each shown frame shows, -1 for none.
        scale_N: tokens of each, 0 for a frame that is not shown.
        worth_KS: what each shot's frames are worth at each scale.
    """
    best = np.zeros(len(worth_KS), np.int64)
    shown = shot_N >= 0
    np.maximum.at(best, shot_N[shown], scale_N[shown])
    column = np.searchsorted(SCALES, best)
    return np.where(best > 0, worth_KS[np.arange(len(worth_KS)), np.minimum(column, len(SCALES) - 1)], 0.0)


def spend(utility_NS: Floats, budgets: Sequence[int], shot_N: Ints, worth_KS: Floats) -> Floats:
    """What the clip's shots are worth in all at each budget, float64 [budgets]."""
    return np.array([seen(shot_N, allocate(utility_NS, budget=budget).scale_N, worth_KS).sum() for budget in budgets])


def oracle_utility(shot_N: Ints, steady_KS: Floats) -> Floats:
    """The true worth of each candidate, float64 [N, 5]: of the first of each shot; the others show nothing more."""
    worth = np.zeros((len(shot_N), len(SCALES)))
    shots, first = np.unique(shot_N, return_index=True)
    worth[first[shots >= 0]] = steady_KS[shots[shots >= 0]]
    return worth


def rank_correlation(score_F: Sequence[float], scale_F: Sequence[float], clip_F: Sequence[str]) -> Estimate:
    """Spearman's rank correlation of two numbers for each frame, with an interval over clips.

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


def gap_closed(ours_C: Floats, base_C: Floats, oracle_C: Floats, *, other_C: Floats | None = None) -> Estimate:
    """Share of the way from `base` to `oracle` that `ours` goes, with an interval over clips; float64 [C] each.

    With `other`, how much more of the way than that one, on the same clips.
    """

    def measure(t: Mapping[str, Floats]) -> Floats:
        gap = t["oracle"] - t["base"]
        return np.where(gap > 1e-9, (t["ours"] - t["other"]) / np.where(gap > 1e-9, gap, 1.0), np.nan)

    other = base_C if other_C is None else other_C
    return bootstrap({"ours": ours_C, "other": other, "base": base_C, "oracle": oracle_C}, measure)


def best_taste(lost: Sequence[NDArray[np.floating]], total: Callable[[LossToUtility], float]) -> LossToUtility:
    """The taste of the grid with the greatest `total`; coverage counts in units of the mean loss at one token."""

    first = np.concatenate([table[:, 0] for table in lost]).astype(np.float64)
    tastes = [LossToUtility(share * float((first**power).mean()), power) for power in POWERS for share in COVERAGES]
    return max(tastes, key=total)
