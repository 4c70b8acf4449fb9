"""What a share of right answers is worth when the answers come in clusters: intervals over clips, not over questions.

Shape legend: N answers, C clips, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A value with its 95 % interval, the answers it rests on and the clips they come from."""

    value: float
    low: float
    high: float
    answers: int = 0
    clips: int = 0


def accuracy(right_N: Sequence[float], clip_N: Sequence[str], *, level: float = 0.95) -> Interval:
    """Return the share of right answers with an interval for clusters.

    The variance of a ratio of cluster totals gives the number of independent answers that would be as certain (at
    most N, and C where all answers are alike); Wilson's interval is taken at that number with Student's t of C - 1
    degrees, so it stays inside 0..1 and does not collapse at 0 or 1.

    Args:
        right_N: 0..1 each.
        clip_N: the cluster of each.
        level: of the interval.

    Returns:
        nan with the interval 0..1 for no answers; the interval 0..1 for one clip.

    Source: Dean and Pagano (2015), "Evaluating Confidence Interval Methods for Binomial Proportions in Clustered
    Surveys", J. Survey Stat. Methodol. 3(4): Wilson's interval at the effective sample size.
    """
    from scipy.stats import t

    n = len(right_N)
    if n == 0:
        return Interval(float("nan"), 0.0, 1.0)
    right, count = clip_sums(right_N, clip_N)
    clips, mean = len(count), float(right.sum() / n)
    if clips == 1:
        return Interval(mean, 0.0, 1.0, n, 1)
    variance = standard_error(right_N, clip_N) ** 2
    spread = mean * (1 - mean)
    effective = float(np.clip(spread / variance, 1.0, n)) if variance > 1e-12 and spread > 0 else float(clips)
    z = float(t.ppf((1 + level) / 2, clips - 1))
    middle = (mean + z * z / (2 * effective)) / (1 + z * z / effective)
    half = z / (1 + z * z / effective) * (spread / effective + z * z / (4 * effective**2)) ** 0.5
    # Rounding must not put the share outside its own interval.
    return Interval(mean, min(mean, max(0.0, middle - half)), max(mean, min(1.0, middle + half)), n, clips)


def standard_error(right_N: Sequence[float], clip_N: Sequence[str]) -> float:
    """Return the standard error of the share of right answers, as a ratio of cluster totals; nan for fewer than two
    clips.

    Source: Cochran, "Sampling Techniques" (1977), section 3.12; what lmms-eval calls the clustered standard error.
    """
    right, count = clip_sums(right_N, clip_N)
    if len(count) < 2:
        return float("nan")
    mean = right.sum() / count.sum()
    return float((len(count) / (len(count) - 1) * np.square(right - mean * count).sum()) ** 0.5 / count.sum())


def clip_sums(value_N: Sequence[float], clip_N: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the sum and the number of values in each clip, clips in sorted order: two float64 [C]."""
    _, inverse = np.unique(np.asarray(clip_N), return_inverse=True)
    values = np.asarray(value_N, np.float64)
    return np.bincount(inverse, values).astype(np.float64), np.bincount(inverse).astype(np.float64)


def bootstrap(
    totals: Mapping[str, Floats],
    measure: Callable[[Mapping[str, Floats]], Floats],
    *,
    seed: int = 0,
    draws: int = 4000,
    level: float = 0.95,
) -> Interval:
    """Return a measure of several totals with a percentile interval: clips are resampled, all totals from the same
    clips.

    Args:
        totals: name -> float64 [C], sums over each clip.
        measure: totals of a set, each float64 [B], to the measure [B]; nan where it does not exist.
        seed: of the draws.
        draws: how many.
        level: of the interval.

    Returns:
        The measure of all clips with its interval over the draws in which it exists; nan when it does not exist, and
        no interval when it does not exist in more than a twentieth of the draws.
    """
    clips = len(next(iter(totals.values())))
    whole = float(measure({name: value.sum(keepdims=True) for name, value in totals.items()})[0])
    weights = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=draws).astype(np.float64)
    drawn = measure({name: weights @ value for name, value in totals.items()})
    known = drawn[np.isfinite(drawn)]
    if len(known) < 0.95 * draws or clips < 2:
        return Interval(whole, float("nan"), float("nan"), 0, clips)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(whole, float(low), float(high), 0, clips)
