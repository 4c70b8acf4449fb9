"""Which scale each candidate gets: an exact multiple-choice knapsack.

One choice per candidate from {left out, scales...}, the greatest total utility, never more tokens than the budget.
Utilities are rounded to integers on a power-of-two grid, 2^-52 of the greatest total utility: float64 could not
resolve sums of that size any better (the grid is coarser where a scale costs more than 576 tokens). From there on
every sum and comparison is exact, so ties are ties, whatever the order of addition, and "optimum" means the optimum of
these integers. The integers are solved in `knapsack` (or `cover`, where intervals of candidates must be covered); the
bound is computed here, in the caller's units, from the prices found there.

Shape legend: N candidates, S scales, J choices ("left out" first, then the scales), M intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3video.errors import UsageError
from m3video.planning import cover, knapsack
from m3video.planning.core import Ints, minimal, unmet
from m3video.types import SCALES, Allocation

Floats = NDArray[np.float64]

UTILITY_BITS = 52
"""Sums of integer utilities stay below 2^52: times a scale they still fit int64, up to `WIDEST_SCALE`."""

WIDEST_SCALE = 576
"""Tokens; each doubling of the largest scale beyond this takes one bit from `UTILITY_BITS`."""

WORK_PER_CELL, LEAST_WORK, MOST_WORK = 3, 200_000_000, 2_000_000_000
"""Steps of the dynamic programme (choices x tokens) up to which the exact optimum is computed: `WORK_PER_CELL` per
candidate and token, within the two limits. 10^9 steps take about half a second."""

MAX_UTILITY = 1e290
"""Greatest utility accepted: larger numbers are surely a mistake, and their sums might not be finite."""

BOUND_ROUNDING = 1e-15
"""Relative; more than the terms of the bound can lose when each is rounded to float64."""


def allocate(
    utility_NS: ArrayLike,
    *,
    budget: int,
    scales: Sequence[int] = SCALES,
    max_scale: int | None = None,
    fixed: Mapping[int, int] | None = None,
    cover_M2: Sequence[tuple[int, int]] = (),
    max_work: int | None = None,
) -> Allocation:
    """Give every candidate a scale, or leave it out, so that total utility is the true maximum within the budget.

    Exact unless the core that remains after pruning takes more than `max_work` steps; then the best solution found is
    returned with `method == "gap"` and its certificate `utility >= (1 - gap) * bound`.

    Ties: of candidates with equal utilities an earlier one never gets fewer tokens than a later one (where there is
    nothing to cover), and for one candidate fewer tokens are preferred to more.

    Args:
        utility_NS: float [N, S], finite, any shape of curve; leaving a candidate out has utility 0.
        budget: most tokens in all, >= 0.
        scales: token costs of the columns, positive and increasing.
        max_scale: columns that cost more than this are used for `fixed` only.
        fixed: candidate -> the scale it always has.
        cover_M2: half-open intervals of candidates, of each of which at least one must be shown.
        max_work: steps of the largest dynamic programme; None for a tenth of a second up to 4,096 candidates x 16,384
            tokens, and at most a second.

    Returns:
        Scale per candidate (0 = left out), tokens spent, utility, proven upper bound, and which argument proves it.

    Raises:
        UsageError: a negative budget, one that `fixed` and `cover_M2` exceed, a cap below the smallest scale, or
            utilities that are not finite numbers.

    Source: linear relaxation by hulls after Dyer (1984) and Zemel (1984); reduction and core after Pisinger (1995),
    "A minimal algorithm for the multiple-choice knapsack problem"; that few changes are needed after Eisenbrand and
    Weismantel (2018), "Proximity results and faster algorithms for integer programming using the Steinitz lemma".
    """
    utilities = _checked(utility_NS, budget, scales, max_scale)
    scale_N = np.zeros(len(utilities), np.int64)
    pinned = _pinned(fixed or {}, len(utilities), scales)
    scale_N[list(pinned)] = list(pinned.values())
    free = np.flatnonzero(scale_N == 0)
    intervals = _intervals(cover_M2, scale_N, free)
    left = budget - int(scale_N.sum())
    if max_work is None:
        max_work = min(MOST_WORK, max(LEAST_WORK, WORK_PER_CELL * len(free) * left))
    usable = sum(max_scale is None or scale <= max_scale for scale in scales)
    solved = _solve(utilities[free, :usable], scales[:usable], left, intervals, max_work, budget)
    scale_N[free] = solved.scale_N
    pinned_utility = [utilities[frame, list(scales).index(scale)] for frame, scale in pinned.items()]
    utility, bound = (math.fsum([value, *pinned_utility]) for value in (solved.utility, solved.bound))
    return Allocation(scale_N, int(scale_N.sum()), utility, max(utility, bound), solved.method)


def _solve(
    utility_NS: Floats, scales: Sequence[int], budget: int, intervals: tuple[Ints, Ints], max_work: int, whole: int
) -> Allocation:
    """Allocate the free candidates with what is left of the budget, which was `whole`."""
    _check_affordable(len(utility_NS), scales, budget, intervals, whole)
    costs = np.array([0, *scales], dtype=np.int64)
    choices = np.concatenate([np.zeros((len(utility_NS), 1)), utility_NS], axis=1)
    utility_NJ, bits = _to_integers(choices, scales[-1])
    plain = utility_NJ.copy()
    knapsack.drop_dominated(plain)
    chosen = np.argmax(plain, axis=1)  # dominance left only one maximum per row
    if int(costs[chosen].sum()) <= budget:
        method, bound = "fits", 0.0
    else:
        chosen, method, price = knapsack.optimum(plain, costs, budget, max_work=max_work)
        bound = _bound(choices, costs, float(Fraction(price.utility, price.tokens) / Fraction(2) ** bits), budget)
    if unmet(intervals, chosen > 0).any():
        # Half the work: the optimum without intervals took the other half.
        chosen, method, prices = cover.optimum(utility_NJ, costs, budget, intervals, max_work=max_work // 2)
        per_token, paid = (math.ldexp(value, -bits) for value in (prices.price, prices.paid))
        bound = _bound(choices, costs, per_token, budget, bonus_N=np.ldexp(prices.bonus_N, -bits), paid=paid)
    return _result(choices, costs, chosen, bound, method)


def _checked(utility_NS: ArrayLike, budget: int, scales: Sequence[int], max_scale: int | None) -> Floats:
    """Return `utility_NS` as float64, checked together with the other arguments."""
    utilities = np.asarray(utility_NS, dtype=np.float64)
    if list(scales) != sorted(set(scales)) or not scales or scales[0] < 1:
        raise UsageError(f"scales ({', '.join(map(str, scales))}) must be positive and increasing")
    if utilities.ndim != 2 or utilities.shape[1] != len(scales):
        raise UsageError(f"utility has shape {utilities.shape}, expected (candidates, {len(scales)}), one per scale")
    if budget < 0:
        raise UsageError(f"budget ({budget}) must be 0 or more visual tokens")
    if max_scale is not None and max_scale < scales[0]:
        raise UsageError(f"max_scale ({max_scale}) must be at least {scales[0]}")
    sound = np.abs(utilities) <= MAX_UTILITY  # False for nan
    if not sound.all():
        frame, column = (int(i) for i in np.argwhere(~sound)[0])
        value = utilities[frame, column]
        raise UsageError(
            f"utility of candidate {frame} at scale {scales[column]} ({value}) must be a number within ±{MAX_UTILITY:g}"
        )
    return utilities


def _pinned(fixed: Mapping[int, int], num_candidates: int, scales: Sequence[int]) -> dict[int, int]:
    for frame, scale in fixed.items():
        if not 0 <= frame < num_candidates:
            raise UsageError(f"fixed candidate ({frame}) must be one of the {num_candidates}, counted from 0")
        if scale not in scales:
            raise UsageError(f"scale ({scale}) of fixed candidate {frame} must be one of {', '.join(map(str, scales))}")
    return dict(sorted(fixed.items()))


def _intervals(cover_M2: Sequence[tuple[int, int]], scale_N: Ints, free: Ints) -> tuple[Ints, Ints]:
    """Return the minimal intervals that no fixed candidate meets, counted in free candidates."""
    edges = np.array(cover_M2, np.int64).reshape(-1, 2)
    wrong = (edges[:, 0] < 0) | (edges[:, 0] >= edges[:, 1]) | (edges[:, 1] > len(scale_N))
    if wrong.any():
        start, stop = edges[wrong][0].tolist()
        raise UsageError(f"interval {start} to {stop} must hold candidates of the {len(scale_N)}, counted from 0")
    open_ = edges[unmet((edges[:, 0], edges[:, 1]), scale_N > 0)]
    return minimal(np.searchsorted(free, open_[:, 0]), np.searchsorted(free, open_[:, 1]))


def _check_affordable(
    num_free: int, scales: Sequence[int], left: int, intervals: tuple[Ints, Ints], budget: int
) -> None:
    """Raise `UsageError` when no solution can cover the intervals within the budget."""
    least = scales[0] * len(cover.cheapest_cover(np.ones(num_free, np.int64), intervals)) if len(intervals[0]) else 0
    if least > left:
        raise UsageError(
            f"budget ({budget}) is below the {budget - left + least} tokens that the frames which must be shown cost "
            "at least"
        )


def _to_integers(choices_NJ: Floats, largest_scale: int) -> tuple[Ints, int]:
    """Return utilities as multiples of 2^-bits; up to `WIDEST_SCALE` this rounds by less than adding float64 would."""
    top = float(np.abs(choices_NJ).max(initial=0.0))
    if top == 0.0:
        return np.zeros(choices_NJ.shape, dtype=np.int64), 0
    lost = ((largest_scale - 1) // WIDEST_SCALE).bit_length()  # products of utility and tokens must fit int64
    bits = UTILITY_BITS - lost - math.frexp(top)[1] - max(1, len(choices_NJ)).bit_length()
    return np.rint(np.ldexp(choices_NJ, bits)).astype(np.int64), bits


def _bound(
    choices_NJ: Floats,
    costs_J: Ints,
    per_token: float,
    budget: int,
    *,
    bonus_N: Floats | None = None,
    paid: float = 0.0,
) -> float:
    """Return the relaxation's optimum in the caller's units, rounded up; any prices >= 0 give a valid bound."""
    reduced = choices_NJ - per_token * costs_J
    if bonus_N is not None:
        reduced[:, 1:] += bonus_N[:, None]
    terms = [per_token * budget, *reduced.max(axis=1), -paid]
    # Only `paid` is subtracted, so what it may have lost to rounding is added back.
    return math.fsum(terms) * (1 + BOUND_ROUNDING) + 2 * BOUND_ROUNDING * paid


def _result(choices_NJ: Floats, costs_J: Ints, chosen: Ints, bound: float, method: str) -> Allocation:
    utility = math.fsum(choices_NJ[np.arange(len(chosen)), chosen])
    spent = costs_J[chosen]
    return Allocation(
        scale_N=spent, total_tokens=int(spent.sum()), utility=utility, bound=max(utility, bound), method=method
    )
