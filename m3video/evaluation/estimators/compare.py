"""Estimators against each other: how well each ranks frames by what they need, and what the budget buys by its word.

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
    best_taste,
    gap_closed,
    oracle_utility,
    rank_correlation,
    seen,
    spend,
)
from m3video.evaluation.intervals import Estimate
from m3video.evaluation.methods import MIX_FRAMES, Plan, fixed, uniform
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
class Case:
    """A clip with the truth about it.

    Attributes:
        clip: what was measured.
        shot_N: the shot that each candidate shows, -1 for none.
        worth_KS: what each shot is worth at each scale, as the model answered.
        steady_KS: the same, made non-decreasing.
        novelty_N: as the planner has it.
    """

    clip: LabelledClip
    shot_N: Ints
    worth_KS: Floats
    steady_KS: Floats
    novelty_N: Floats

    @property
    def rows(self) -> Ints:
        """The asked candidates."""
        return self.clip.row_K[self.clip.row_K >= 0]


Estimator = Callable[[Case], Floats]
"""What each candidate is worth at each scale, novelty left out, float64 [N, 5]."""


@dataclass(frozen=True, slots=True)
class Row:
    """One estimator on the test clips. `closed` is the share of the gap between the best even plan and the oracle
    that it closes, `lead` how much more than what is the same for every frame, `alone` the share without novelty,
    `by_budget` with novelty at each budget."""

    name: str
    correlation: Estimate
    closed: Estimate
    lead: Estimate
    alone: Estimate
    by_budget: tuple[Estimate, ...]
    taste: LossToUtility | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows; what plans are worth per shot at each budget (`even` is the best of its kind at each); and where the
    default planner's tokens go."""

    rows: tuple[Row, ...]
    budgets: tuple[int, ...]
    even: tuple[float, ...]
    even_names: tuple[str, ...]
    oracle: tuple[float, ...]
    needs: Mapping[int, int]
    leaks: Mapping[str, float] = field(default_factory=dict)


def make_cases(clips: Sequence[LabelledClip]) -> list[Case]:
    """Judge all answers; guessing is measured over these clips together."""
    chance = oracle.chances([asked for clip in clips for asked in clip.asked_K])
    cases = []
    for clip in clips:
        worth = np.array([oracle.worth(asked, chance) for asked in clip.asked_K])
        candidates = clip.view.candidates
        cases.append(
            Case(
                clip,
                clip.shots_of(candidates.pts_N),
                worth,
                np.array([oracle.steady(curve) for curve in worth]),
                novelty(clip.view.stats, candidates),
            )
        )
    return cases


def calibrate(cases: Sequence[Case], *, made: Mapping[str, Any]) -> Calibration:
    """The calibrated predictor of these clips: every asked candidate is a frame."""
    found = [signals(c.clip.view.stats, c.clip.view.candidates.index_N[c.rows]) for c in cases]
    share = [c.steady_KS[c.clip.row_K >= 0] for c in cases]
    return fit(np.concatenate(found), np.concatenate(share), made={**made, "frames": sum(map(len, share))})


def compare(
    calibration: Sequence[Case], test: Sequence[Case], fitted: Calibration, *, budgets: Sequence[int] = BUDGETS
) -> Comparison:
    """Every estimator on `test`; tastes and constants are taken from `calibration`.

    Args:
        calibration: clips that estimators may learn from.
        test: other clips.
        fitted: the calibrated predictor of `calibration`.
        budgets: visual tokens for a clip.
    """
    even = {name: _even(test, plan, budgets) for name, plan in _even_plans().items()}
    names = list(even)
    best = [names[i] for i in np.stack([even[name].sum(axis=0) for name in names]).argmax(axis=0)]
    base = np.stack([even[name][:, b] for b, name in enumerate(best)], axis=1)
    ideal = _spent(test, lambda c: oracle_utility(c.shot_N, c.steady_KS), budgets)
    learned = _of_stats(functools.partial(by_calibration, using=fitted))
    mean = np.concatenate([case.steady_KS for case in calibration]).mean(axis=0)
    tastes = {name: _tuned(calibration, name, budgets) for name in test[0].clip.tables}
    estimators: dict[str, Estimator] = {name: _table(name, taste) for name, taste in tastes.items()}
    estimators |= {f"{name}, as shipped": _of_stats(estimate) for name, estimate in ESTIMATORS.items()}

    def same(case: Case) -> Floats:
        return np.tile(mean, (len(case.shot_N), 1))

    plain = _spent(test, lambda c: new_part(same(c), c.novelty_N), budgets)
    estimators |= {FITTED: learned, CONSTANT: same}
    # What is left to gain: with a perfect estimate, and with a perfect novelty.
    estimators["true worth"] = lambda c: _true_worth(c, mean)
    measure = functools.partial(_row, test=test, budgets=budgets, base=base, ideal=ideal, plain=plain)
    rows = [measure(name, estimator, taste=tastes.get(name)) for name, estimator in estimators.items()]
    rows.append(measure(f"{FITTED}, true novelty", learned, novelty=_true_novelty))
    shots = sum(len(case.worth_KS) for case in test)
    scales = [oracle.oracle_scale(curve) for case in test for curve in case.worth_KS]
    return Comparison(
        tuple(rows),
        tuple(budgets),
        tuple((base.sum(axis=0) / shots).tolist()),
        tuple(best),
        tuple((ideal.sum(axis=0) / shots).tolist()),
        {scale: scales.count(scale) for scale in SCALES},
        _leaks(test),
    )


def _planned_novelty(case: Case) -> Floats:
    return case.novelty_N


def _true_novelty(case: Case) -> Floats:
    """1 for the first candidate of each shot, 0 for all others."""
    shots, first = np.unique(case.shot_N, return_index=True)
    new = np.zeros(len(case.shot_N))
    new[first[shots >= 0]] = 1.0
    return new


def _row(
    name: str,
    estimator: Estimator,
    *,
    test: Sequence[Case],
    budgets: Sequence[int],
    base: Floats,
    ideal: Floats,
    plain: Floats,
    taste: LossToUtility | None = None,
    novelty: Estimator = _planned_novelty,
) -> Row:
    ours = _spent(test, lambda c: new_part(estimator(c), novelty(c)), budgets)
    alone = _spent(test, estimator, budgets)
    lost = [worth[:, -1:] - worth for worth in map(estimator, test)]
    score = np.concatenate([table[case.rows].sum(axis=1) for table, case in zip(lost, test, strict=True)])
    need = [oracle.oracle_scale(w) for c in test for w, row in zip(c.worth_KS, c.clip.row_K, strict=True) if row >= 0]
    return Row(
        name,
        rank_correlation(score.round(9).tolist(), need, [c.clip.name for c in test for _ in c.rows]),
        gap_closed(ours.sum(axis=1), base.sum(axis=1), ideal.sum(axis=1)),
        gap_closed(ours.sum(axis=1), base.sum(axis=1), ideal.sum(axis=1), other_C=plain.sum(axis=1)),
        gap_closed(alone.sum(axis=1), base.sum(axis=1), ideal.sum(axis=1)),
        tuple(gap_closed(ours[:, b], base[:, b], ideal[:, b]) for b in range(len(budgets))),
        taste,
    )


def _true_worth(case: Case, otherwise_S: Floats) -> Floats:
    """Of candidates in a cross-fade nothing is known."""
    return np.where((case.shot_N >= 0)[:, None], case.steady_KS[case.shot_N], otherwise_S)


def _spent(cases: Sequence[Case], utility: Estimator, budgets: Sequence[int]) -> Floats:
    """What each clip's shots are worth after spending by `utility`, float64 [clips, budgets]."""
    return np.array([spend(utility(case), budgets, case.shot_N, case.worth_KS) for case in cases])


def _tuned(cases: Sequence[Case], name: str, budgets: Sequence[int]) -> LossToUtility:
    def total(taste: LossToUtility) -> float:
        return float(_spent(cases, lambda c: new_part(taste.worth(c.clip.tables[name]), c.novelty_N), budgets).sum())

    return best_taste([case.clip.tables[name] for case in cases], total)


def _table(name: str, taste: LossToUtility) -> Estimator:
    return lambda case: taste.worth(case.clip.tables[name])


def _of_stats(estimate: Callable[..., Floats]) -> Estimator:
    return lambda case: estimate(case.clip.view.stats, case.clip.view.candidates.index_N)


def _even_plans() -> dict[str, Callable[..., Plan]]:
    """The plans that know nothing of the picture: one scale, or two adjacent ones on a number of even frames."""
    plans: dict[str, Callable[..., Plan]] = {f"fixed-{s}": functools.partial(fixed, scale=s) for s in SCALES}
    return plans | {f"uniform@{n}": functools.partial(uniform, frames=n) for n in MIX_FRAMES}


def _even(cases: Sequence[Case], plan: Callable[..., Plan], budgets: Sequence[int]) -> Floats:
    """What each clip's shots are worth after a plan that knows nothing of them, float64 [clips, budgets]."""

    def one(case: Case, budget: int) -> float:
        pieces = plan(case.clip.view, budget, _NOBODY)
        shots = case.clip.shots_of(np.array([piece.pts for piece in pieces], np.int64))
        return float(seen(shots, np.array([piece.tokens for piece in pieces], np.int64), case.worth_KS).sum())

    return np.array([[one(case, budget) for budget in budgets] for case in cases])


_NOBODY = Record("-", "-", "-", "-", "background", "coarse", False, "-")
"""Even plans do not read the question."""


def _leaks(cases: Sequence[Case]) -> dict[str, float]:
    """Shots that no candidate shows, candidates that show no shot alone, mean novelty of new, repeated, mixed ones."""
    new = np.concatenate([_true_novelty(case) > 0 for case in cases])
    mixed = np.concatenate([case.shot_N < 0 for case in cases])
    fresh = np.concatenate([case.novelty_N for case in cases])
    shots = sum(len(case.worth_KS) for case in cases)
    return {
        "shots": shots,
        "shots without a candidate": shots - int(new.sum()),
        "candidates": len(new),
        "candidates in a cross-fade": int(mixed.sum()),
        "novelty of new": float(fresh[new].mean()),
        "novelty of repeated": float(fresh[~new & ~mixed].mean()) if (~new & ~mixed).any() else 0.0,
        "novelty in a cross-fade": float(fresh[mixed].mean()) if mixed.any() else 0.0,
    }
