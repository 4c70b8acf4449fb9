"""Fit a confidence curve to answers, and measure one on others: reliability, calibration error, right against wrong.

Shape legend: N answers, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.errors import UsageError
from m3video.evaluation.confidence.asking import Judged
from m3video.evaluation.intervals import Interval, accuracy
from m3video.inference.confidence import MEASURES, ConfidenceCurve

Floats = NDArray[np.float64]

STEPS = 32
"""Groups of equally many answers that a curve is fitted to."""

LEAST_IN_STEP = 10
"""Answers: the share of fewer says little."""

BINS = 10
"""Of confidence, equally wide, as for the expected calibration error of Guo et al. (2017)."""

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Of `--abstain` in the table."""

DRAWS = 1000
"""Of the bootstrap over clips."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of similar confidence: its mean, and the share of them that is right, with its interval over clips."""

    confidence: float
    right: Interval


@dataclass(frozen=True, slots=True)
class Kept:
    """What `--abstain` at a threshold leaves: the share of questions answered, and the share of these that is right."""

    threshold: float
    answered: float
    right: Interval


@dataclass(frozen=True, slots=True)
class ConfidenceReport:
    """How much a model's confidence says.

    Attributes:
        right: share of right answers.
        auc: area under the curve of right against wrong: the chance that a right answer has more confidence than a
            wrong one; with its 95 % interval over clips.
        ece: expected calibration error: mean difference of confidence and share right over `BINS`, weighted by answers.
        bins: the reliability diagram; those that hold an answer.
        kept: what `--abstain` leaves.
    """

    right: Interval
    auc: Interval
    ece: float
    bins: tuple[Bin, ...]
    kept: tuple[Kept, ...]


def sureness(rows: Sequence[Judged], measure: str) -> Floats:
    """Return one of `MEASURES` of each answer, float64 [N]."""
    return np.array([MEASURES[measure](row.logs_A, row.odds_A) for row in rows], np.float64)


def auc(sure_N: Floats, right_N: NDArray[np.bool_], weight_N: Floats | None = None) -> float:
    """Return the chance that a right answer has a greater value than a wrong one, ties counting half.

    Args:
        sure_N: of each answer.
        right_N: whether it is right.
        weight_N: how often each counts; once by default.

    Returns:
        nan where all are right or all are wrong.
    """
    weight = np.ones(len(sure_N)) if weight_N is None else weight_N
    _, place_N = np.unique(sure_N, return_inverse=True)
    right = np.bincount(place_N, weight * right_N)
    wrong = np.bincount(place_N, weight * ~right_N, minlength=len(right))
    below = np.cumsum(wrong) - wrong
    pairs = right.sum() * wrong.sum()
    return float((right * (below + wrong / 2)).sum() / pairs) if pairs else float("nan")


def auc_over_clips(sure_N: Floats, rows: Sequence[Judged], *, seed: int = 0) -> Interval:
    """Return the same with a percentile interval: clips are drawn again, `DRAWS` times."""
    right_N = np.array([row.is_right for row in rows])
    names, clip_N = np.unique([row.clip for row in rows], return_inverse=True)
    clips = len(names)
    weights = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=DRAWS)
    drawn = np.array([auc(sure_N, right_N, weight[clip_N].astype(np.float64)) for weight in weights])
    known = drawn[np.isfinite(drawn)]
    low, high = np.quantile(known, [0.025, 0.975]) if clips > 1 and len(known) else (float("nan"), float("nan"))
    return Interval(auc(sure_N, right_N), float(low), float(high), len(rows), clips)


def fit(rows: Sequence[Judged], measure: str, made: Mapping[str, Any]) -> ConfidenceCurve:
    """Return a curve that never falls, by isotonic regression over groups of equally many answers.

    Where that pools groups, n answers with r right ones count as (r + 1) / (n + 2), so that no confidence is 0 or 1.

    Raises:
        UsageError: too few answers, or only right or only wrong ones: nothing can be learnt from these.
    """
    from scipy.optimize import isotonic_regression

    right = sum(row.is_right for row in rows)
    if len(rows) < 2 * LEAST_IN_STEP or right in (0, len(rows)):
        raise UsageError(
            f"--fit: {right} of {len(rows)} answers are right; it takes {2 * LEAST_IN_STEP} answers at least, right "
            "and wrong ones: give more questions"
        )
    sure_N = sureness(rows, measure)
    order = np.argsort(sure_N, kind="stable")
    right_N = np.array([row.is_right for row in rows], np.float64)[order]
    groups = np.array_split(np.arange(len(rows)), min(STEPS, len(rows) // LEAST_IN_STEP))
    counts = [len(group) for group in groups]
    raw = isotonic_regression([right_N[group].mean() for group in groups], weights=counts)
    pooled = [sum(counts[first:end]) for first, end in pairwise(raw.blocks.tolist())]
    smooth = [
        (float(raw.x[first]) * n + 1) / (n + 2) for first, n in zip(raw.blocks[:-1].tolist(), pooled, strict=True)
    ]
    level = np.repeat(isotonic_regression(smooth, weights=pooled).x, np.diff(raw.blocks))
    at = [float(sure_N[order][group].mean()) for group in groups]
    is_new = np.diff(at, prepend=-np.inf) > 0
    return ConfidenceCurve(
        measure,
        [place for place, new in zip(at, is_new, strict=True) if new],
        [float(value) for value, new in zip(level, is_new, strict=True) if new],
        made,
    )


def compare(rows: Sequence[Judged]) -> dict[str, Interval]:
    """Return how well each measure tells right answers from wrong ones, best first."""
    found = {name: auc_over_clips(sureness(rows, name), rows) for name in MEASURES}
    return dict(sorted(found.items(), key=lambda one: -one[1].value))


def report(rows: Sequence[Judged], curve: ConfidenceCurve) -> ConfidenceReport:
    """Measure a curve on answers, which should be others than it was fitted to."""
    confidence_N = np.array([curve.confidence(row.logs_A, row.odds_A) for row in rows])
    right_N, clips = [float(row.is_right) for row in rows], [row.clip for row in rows]

    def share_of(which: NDArray[np.intp]) -> Interval:
        return accuracy([right_N[n] for n in which], [clips[n] for n in which])

    place_N = np.minimum((confidence_N * BINS).astype(int), BINS - 1)
    members = [np.flatnonzero(place_N == number) for number in np.unique(place_N)]
    bins = tuple(Bin(float(confidence_N[which].mean()), share_of(which)) for which in members)
    kept = [(threshold, np.flatnonzero(confidence_N >= threshold)) for threshold in THRESHOLDS]
    return ConfidenceReport(
        right=accuracy(right_N, clips),
        auc=auc_over_clips(confidence_N, rows),
        ece=sum(one.right.answers * abs(one.right.value - one.confidence) for one in bins) / len(rows),
        bins=bins,
        kept=tuple(Kept(threshold, len(which) / len(rows), share_of(which)) for threshold, which in kept),
    )
