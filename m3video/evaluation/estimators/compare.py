"""Compare estimators: how well each ranks frames by token needs, and what a budget buys when it is spent by each.

Shape legend: N candidates, K shots, S the five scales.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.evaluation.estimators import oracle
from m3video.evaluation.estimators.calibrate import fit
from m3video.evaluation.estimators.labelled_clips import LabelledClip
from m3video.evaluation.estimators.spending import (
    LossToUtility,
    best_loss_to_utility,
    gap_closed_by_clip,
    oracle_utility,
    rank_correlation,
    shot_utility,
    utility_spent,
)
from m3video.evaluation.intervals import Interval
from m3video.evaluation.methods import MIX_FRAMES, ShownFrames, fixed, uniform
from m3video.evaluation.records import Record
from m3video.planning.novelty import novelty
from m3video.planning.utility import ESTIMATORS, Calibration, by_calibration, new_part, signals
from m3video.types import SCALES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BUDGETS = (72, 144, 360, 720, 1440)
CONSTANT = "the same for every frame"
FITTED = "calibrated, fitted now"


@dataclass(frozen=True, slots=True, eq=False)
class LabelledCase:
    """A clip with what the model answered about each shot.

    Attributes:
        clip: the measured clip.
        shot_N: the shot that each candidate shows, -1 for none.
        utility_KS: utility of each shot at each scale, measured on the model's answers.
        monotone_KS: the same, made non-decreasing.
        novelty_N: the planner's novelty of each candidate.
    """

    clip: LabelledClip
    shot_N: Ints
    utility_KS: Floats
    monotone_KS: Floats
    novelty_N: Floats

    @property
    def rows(self) -> Ints:
        """Rows of the candidates that questions were asked about."""
        return self.clip.row_K[self.clip.row_K >= 0]


Estimator = Callable[[LabelledCase], Floats]
"""From a clip to the utility of each candidate at each scale, before novelty, float64 [N, 5]."""


@dataclass(frozen=True, slots=True)
class EstimatorRow:
    """One estimator on the test clips.

    Attributes:
        name: as printed.
        correlation: rank correlation of its losses with the oracle scale.
        closed: share of the gap between the best even plan and the oracle that it closes.
        lead: how much more of the gap it closes than the same utility for every frame.
        alone: the share that it closes without novelty.
        by_budget: the share that it closes at each budget.
        transform: how its losses become utilities, where it is fitted.
    """

    name: str
    correlation: Interval
    closed: Interval
    lead: Interval
    alone: Interval
    by_budget: tuple[Interval, ...]
    transform: LossToUtility | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All estimators beside even plans and the oracle.

    Attributes:
        rows: one for each estimator.
        budgets: visual tokens for a clip.
        even: mean utility per shot of the best even plan at each budget; `even_names` names it.
        oracle: mean utility per shot of the oracle at each budget.
        token_needs: oracle scale -> number of shots.
        leaks: where the default planner loses utility (see `_leaks`).
    """

    rows: tuple[EstimatorRow, ...]
    budgets: tuple[int, ...]
    even: tuple[float, ...]
    even_names: tuple[str, ...]
    oracle: tuple[float, ...]
    token_needs: Mapping[int, int]
    leaks: Mapping[str, float] = field(default_factory=dict)


def make_cases(clips: Sequence[LabelledClip]) -> list[LabelledCase]:
    """Turn answers into utilities; chance is estimated over these clips together."""
    chance = oracle.chances([asked for clip in clips for asked in clip.asked_K])
    cases = []
    for clip in clips:
        utility = np.array([oracle.measured_utility(asked, chance) for asked in clip.asked_K])
        candidates = clip.view.candidates
        cases.append(
            LabelledCase(
                clip,
                clip.shots_of(candidates.pts_N),
                utility,
                np.array([oracle.monotone(curve) for curve in utility]),
                novelty(clip.view.stats, candidates),
            )
        )
    return cases


def calibrate(cases: Sequence[LabelledCase], *, made: Mapping[str, Any]) -> Calibration:
    """Fit the calibrated estimator on these clips, one sample for each candidate that was asked about."""
    found = [signals(c.clip.view.stats, c.clip.view.candidates.index_N[c.rows]) for c in cases]
    share = [c.monotone_KS[c.clip.row_K >= 0] for c in cases]
    return fit(np.concatenate(found), np.concatenate(share), made={**made, "frames": sum(map(len, share))})


def compare(
    calibration: Sequence[LabelledCase],
    test: Sequence[LabelledCase],
    fitted: Calibration,
    *,
    budgets: Sequence[int] = BUDGETS,
) -> Comparison:
    """Compare every estimator on `test`; whatever is fitted is fitted on `calibration`.

    Args:
        calibration: clips that estimators may be fitted on.
        test: other clips.
        fitted: the calibrated estimator of `calibration`.
        budgets: visual tokens for a clip.
    """
    even = {name: _even(test, plan, budgets) for name, plan in _even_plans().items()}
    names = list(even)
    best = [names[i] for i in np.stack([even[name].sum(axis=0) for name in names]).argmax(axis=0)]
    base = np.stack([even[name][:, b] for b, name in enumerate(best)], axis=1)
    ideal = _spent(test, lambda c: oracle_utility(c.shot_N, c.monotone_KS), budgets)
    learned = _of_stats(functools.partial(by_calibration, using=fitted))
    mean = np.concatenate([case.monotone_KS for case in calibration]).mean(axis=0)
    transforms = {name: _fit_transform(calibration, name, budgets) for name in test[0].clip.tables}
    estimators: dict[str, Estimator] = {name: _table(name, transform) for name, transform in transforms.items()}
    estimators |= {f"{name}, as shipped": _of_stats(estimate) for name, estimate in ESTIMATORS.items()}

    def same(case: LabelledCase) -> Floats:
        return np.tile(mean, (len(case.shot_N), 1))

    plain = _spent(test, lambda c: new_part(same(c), c.novelty_N), budgets)
    estimators |= {FITTED: learned, CONSTANT: same}
    # Upper bounds: a perfect estimate, and a perfect novelty.
    estimators["true worth"] = lambda c: _true_utility(c, mean)
    measure = functools.partial(_row, test=test, budgets=budgets, base=base, ideal=ideal, plain=plain)
    rows = [measure(name, estimator, transform=transforms.get(name)) for name, estimator in estimators.items()]
    rows.append(measure(f"{FITTED}, true novelty", learned, novelty=_true_novelty))
    shots = sum(len(case.utility_KS) for case in test)
    scales = [oracle.oracle_scale(curve) for case in test for curve in case.utility_KS]
    return Comparison(
        tuple(rows),
        tuple(budgets),
        tuple((base.sum(axis=0) / shots).tolist()),
        tuple(best),
        tuple((ideal.sum(axis=0) / shots).tolist()),
        {scale: scales.count(scale) for scale in SCALES},
        _leaks(test),
    )


def _planned_novelty(case: LabelledCase) -> Floats:
    return case.novelty_N


def _true_novelty(case: LabelledCase) -> Floats:
    """Return 1 for the first candidate of each shot, 0 for all others."""
    shots, first = np.unique(case.shot_N, return_index=True)
    new = np.zeros(len(case.shot_N))
    new[first[shots >= 0]] = 1.0
    return new


def _row(
    name: str,
    estimator: Estimator,
    *,
    test: Sequence[LabelledCase],
    budgets: Sequence[int],
    base: Floats,
    ideal: Floats,
    plain: Floats,
    transform: LossToUtility | None = None,
    novelty: Estimator = _planned_novelty,
) -> EstimatorRow:
    ours = _spent(test, lambda c: new_part(estimator(c), novelty(c)), budgets)
    alone = _spent(test, estimator, budgets)
    lost = [utility[:, -1:] - utility for utility in map(estimator, test)]
    score = np.concatenate([table[case.rows].sum(axis=1) for table, case in zip(lost, test, strict=True)])
    need = [oracle.oracle_scale(w) for c in test for w, row in zip(c.utility_KS, c.clip.row_K, strict=True) if row >= 0]
    return EstimatorRow(
        name,
        rank_correlation(score.round(9).tolist(), need, [c.clip.name for c in test for _ in c.rows]),
        gap_closed_by_clip(ours.sum(axis=1), base.sum(axis=1), ideal.sum(axis=1)),
        gap_closed_by_clip(ours.sum(axis=1), base.sum(axis=1), ideal.sum(axis=1), other_C=plain.sum(axis=1)),
        gap_closed_by_clip(alone.sum(axis=1), base.sum(axis=1), ideal.sum(axis=1)),
        tuple(gap_closed_by_clip(ours[:, b], base[:, b], ideal[:, b]) for b in range(len(budgets))),
        transform,
    )


def _true_utility(case: LabelledCase, otherwise_S: Floats) -> Floats:
    """Return the measured utility; `otherwise_S` for candidates in a cross-fade, about which nothing is known."""
    return np.where((case.shot_N >= 0)[:, None], case.monotone_KS[case.shot_N], otherwise_S)


def _spent(cases: Sequence[LabelledCase], utility: Estimator, budgets: Sequence[int]) -> Floats:
    """Return the utility that each clip reaches when budgets are spent by `utility`, float64 [clips, budgets]."""
    return np.array([utility_spent(utility(case), budgets, case.shot_N, case.utility_KS) for case in cases])


def _fit_transform(cases: Sequence[LabelledCase], name: str, budgets: Sequence[int]) -> LossToUtility:
    def total(transform: LossToUtility) -> float:
        return float(
            _spent(cases, lambda c: new_part(transform.utility(c.clip.tables[name]), c.novelty_N), budgets).sum()
        )

    return best_loss_to_utility([case.clip.tables[name] for case in cases], total)


def _table(name: str, transform: LossToUtility) -> Estimator:
    return lambda case: transform.utility(case.clip.tables[name])


def _of_stats(estimate: Callable[..., Floats]) -> Estimator:
    return lambda case: estimate(case.clip.view.stats, case.clip.view.candidates.index_N)


def _even_plans() -> dict[str, Callable[..., ShownFrames]]:
    """Return the plans that ignore the picture: one scale, or two adjacent ones, on even frames."""
    plans: dict[str, Callable[..., ShownFrames]] = {f"fixed-{s}": functools.partial(fixed, scale=s) for s in SCALES}
    return plans | {f"uniform@{n}": functools.partial(uniform, frames=n) for n in MIX_FRAMES}


def _even(cases: Sequence[LabelledCase], plan: Callable[..., ShownFrames], budgets: Sequence[int]) -> Floats:
    """Return the utility that each clip reaches under an even plan, float64 [clips, budgets]."""

    def one(case: LabelledCase, budget: int) -> float:
        pieces = plan(case.clip.view, budget, _NO_QUESTION)
        shots = case.clip.shots_of(np.array([piece.pts for piece in pieces], np.int64))
        return float(shot_utility(shots, np.array([piece.tokens for piece in pieces], np.int64), case.utility_KS).sum())

    return np.array([[one(case, budget) for budget in budgets] for case in cases])


_NO_QUESTION = Record("-", "-", "-", "-", "background", "coarse", False, "-")
"""Even plans do not read the question."""


def _leaks(cases: Sequence[LabelledCase]) -> dict[str, float]:
    """Count shots without a candidate and candidates in a cross-fade; average the novelty of each sort of candidate."""
    new = np.concatenate([_true_novelty(case) > 0 for case in cases])
    mixed = np.concatenate([case.shot_N < 0 for case in cases])
    fresh = np.concatenate([case.novelty_N for case in cases])
    shots = sum(len(case.utility_KS) for case in cases)
    return {
        "shots": shots,
        "shots without a candidate": shots - int(new.sum()),
        "candidates": len(new),
        "candidates in a cross-fade": int(mixed.sum()),
        "novelty of new": float(fresh[new].mean()),
        "novelty of repeated": float(fresh[~new & ~mixed].mean()) if (~new & ~mixed).any() else 0.0,
        "novelty in a cross-fade": float(fresh[mixed].mean()) if mixed.any() else 0.0,
    }
