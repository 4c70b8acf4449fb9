"""Which scale each candidate gets: an exact multiple-choice knapsack.

One choice per candidate from {left out, scales...}, the greatest total utility, never more tokens than the budget.
The way to the optimum:

1. Utilities become integers on a power-of-two grid so fine that float64 could not tell the sums apart. From here on
   every sum and comparison is exact, so ties are ties, whatever the order of addition.
2. A scale that costs more than a cheaper one without being worth more is dropped.
3. The linear relaxation is solved on the upper hulls. Its price (utility per token) gives a bound on the optimum.
4. With the best filling found so far, the same price proves for most (frame, scale) pairs that no optimum contains
   them. What is left, the core, goes through dynamic programming over the tokens that are left.

Shape legend: N candidates, S scales, J choices ("left out" first, then the scales), C core candidates, B tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3video.errors import UsageError
from m3video.scales import SCALES
from m3video.types import Allocation

Ints = NDArray[np.int64]

UTILITY_BITS = 52
"""Sums of integer utilities stay below 2^52: times a scale (<= 576) they still fit int64."""

MAX_TABLE_CELLS = 400_000_000
"""Largest choice table of the dynamic programme, in bytes. 4,096 candidates x 16,384 tokens need 67 million."""

MAX_UTILITY = 1e290
"""Larger numbers are surely a mistake, and their sums might not be finite."""

BOUND_ROUNDING = 1e-15
"""Relative; more than the terms of the bound can lose when each is rounded to float64."""

FIRST_CORE = 48
"""Candidates of the small first core, whose optimum is a better filling to prune with."""

DROPPED = np.int64(-1)
"""Utility of a choice that is ruled out; only compared by `>= 0`, because useful choices are not negative."""


def allocate(
    utility_NS: ArrayLike, *, budget: int, scales: Sequence[int] = SCALES, max_scale: int | None = None,
    max_cells: int = MAX_TABLE_CELLS,
) -> Allocation:  # fmt: skip
    """Give every candidate a scale, or leave it out, so that total utility is the true maximum within the budget.

    Exact unless the core that remains after pruning needs a table of more than `max_cells`; then the best filling
    found is returned with `method == "gap"` and its certificate `utility >= (1 - gap) * bound`.

    Ties: an earlier candidate is preferred to a later one, and for one candidate fewer tokens to more.

    Args:
        utility_NS: float [N, S], finite, any shape of curve; leaving a candidate out is worth 0.
        budget: most tokens in all, >= 0.
        scales: token costs of the columns, positive and increasing.
        max_scale: columns that cost more than this are not used.
        max_cells: largest table of the dynamic programme, bytes.

    Returns:
        Scale per candidate (0 = left out), tokens spent, utility, proven upper bound, and which argument proves it.

    Raises:
        UsageError: a negative budget, a cap below the smallest scale, or utilities that are not finite numbers.

    Source: linear relaxation by hulls after Dyer (1984) and Zemel (1984); reduction and core after Pisinger (1995),
    "A minimal algorithm for the multiple-choice knapsack problem".
    """
    utilities = _checked(utility_NS, budget, scales, max_scale)
    costs = np.array([0, *scales[: utilities.shape[1]]], dtype=np.int64)
    choices = np.concatenate([np.zeros((len(utilities), 1)), utilities], axis=1)
    worth_NJ, bits = _to_integers(choices)
    _drop_dominated(worth_NJ)
    best = np.argmax(worth_NJ, axis=1)  # dominance left only one maximum per row
    if int(costs[best].sum()) <= budget:
        return _result(choices, costs, best, 0.0, "fits")
    price = _hull_price(worth_NJ, costs, budget)
    chosen, method = _hull_fill(worth_NJ, costs, price, budget), "hull"
    if price.is_tied or _total(worth_NJ, chosen) < price.bound(worth_NJ, costs, budget):
        chosen, method = _by_core(worth_NJ, costs, price, budget, chosen, max_cells)
    return _result(choices, costs, chosen, _bound(choices, costs, price, bits, budget), method)


def _checked(utility_NS: ArrayLike, budget: int, scales: Sequence[int], max_scale: int | None) -> NDArray[np.float64]:
    """The usable columns of `utility_NS` as float64."""
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
    usable = len(scales) if max_scale is None else sum(scale <= max_scale for scale in scales)
    return utilities[:, :usable]


def _to_integers(choices_NJ: NDArray[np.float64]) -> tuple[Ints, int]:
    """Utilities as multiples of 2^-bits; the rounding is below what adding float64 numbers would lose."""
    top = float(np.abs(choices_NJ).max(initial=0.0))
    if top == 0.0:
        return np.zeros(choices_NJ.shape, dtype=np.int64), 0
    bits = UTILITY_BITS - math.frexp(top)[1] - max(1, len(choices_NJ)).bit_length()
    return np.rint(np.ldexp(choices_NJ, bits)).astype(np.int64), bits


def _drop_dominated(worth_NJ: Ints) -> None:
    """Rule out, in place, every choice that is worth no more than a cheaper one."""
    ceiling = np.maximum.accumulate(worth_NJ, axis=1)
    worth_NJ[:, 1:][worth_NJ[:, 1:] <= ceiling[:, :-1]] = DROPPED


@dataclass(frozen=True, slots=True)
class _Price:
    """Utility per token at which the relaxation spends the budget: the fraction `worth / tokens`, in lowest terms.

    `is_tied` tells that several increments have exactly this price, so that ties may have to be broken.
    """

    worth: int
    tokens: int
    is_tied: bool

    def reduced(self, worth_NJ: Ints, costs_J: Ints) -> Ints:
        """What each choice is worth after paying for its tokens, times `tokens`; ruled-out choices very little."""
        reduced = worth_NJ * self.tokens - costs_J * self.worth
        reduced[worth_NJ < 0] = np.iinfo(np.int64).min // 2
        return reduced

    def bound(self, worth_NJ: Ints, costs_J: Ints, budget: int) -> Fraction:
        """The optimum of the linear relaxation (Lagrangian dual at this price)."""
        surplus = int(self.reduced(worth_NJ, costs_J).max(axis=1).sum())
        return Fraction(self.worth * budget + surplus, self.tokens)


def _hull_steps(worth_NJ: Ints, costs_J: Ints) -> tuple[Ints, Ints]:
    """Increments along the upper hull of every candidate: gain and cost, [N, J-1]; 0 where there is no step."""
    n, num_choices = worth_NJ.shape
    gain, cost = np.zeros((n, num_choices - 1), np.int64), np.zeros((n, num_choices - 1), np.int64)
    at, rows = np.zeros(n, np.int64), np.arange(n)
    for step in range(num_choices - 1):
        rise = worth_NJ - worth_NJ[rows, at][:, None]
        run = costs_J[None, :] - costs_J[at][:, None]
        allowed = (worth_NJ >= 0) & (run > 0)
        # The steepest next choice, compared exactly: gain/cost as integers cross-multiplied, the dearer one on a tie.
        best = np.full(n, -1)
        best_rise, best_run = np.zeros(n, np.int64), np.ones(n, np.int64)
        for j in range(1, num_choices):
            steeper = allowed[:, j] & (rise[:, j] * best_run >= best_rise * run[:, j])
            best = np.where(steeper, j, best)
            best_rise, best_run = np.where(steeper, rise[:, j], best_rise), np.where(steeper, run[:, j], best_run)
        moved = best >= 0
        gain[moved, step], cost[moved, step] = best_rise[moved], best_run[moved]
        at = np.where(moved, best, at)
    return gain, cost


def _hull_price(worth_NJ: Ints, costs_J: Ints, budget: int) -> _Price:
    """The price of the increment at which the budget runs out when the best are taken first."""
    gain, cost = _hull_steps(worth_NJ, costs_J)
    gain, cost = gain[cost > 0], cost[cost > 0]
    slope = gain / cost
    order = np.argsort(-slope, kind="stable")
    split = int(np.searchsorted(np.cumsum(cost[order]), budget, side="right"))
    # Rounded slopes may hide the order of nearly equal ones: settle those around the split exactly.
    near = np.flatnonzero(np.abs(slope[order] - slope[order[split]]) <= 1e-15 * slope[order[split]])
    order[near] = _by_exact_slope(order[near], gain, cost)
    split = order[int(np.searchsorted(np.cumsum(cost[order]), budget, side="right"))]
    worth, tokens = int(gain[split]), int(cost[split])
    tied = int((gain[order[near]] * tokens == cost[order[near]] * worth).sum()) > 1
    common = math.gcd(worth, tokens)
    return _Price(worth // common, tokens // common, tied)


def _by_exact_slope(steps: Ints, gain: Ints, cost: Ints) -> Ints:
    """`steps` sorted by falling gain/cost without rounding; equal ones keep their order."""
    pairs, kind = np.unique(np.stack([gain[steps], cost[steps]]), axis=1, return_inverse=True)
    slopes = [Fraction(int(g), int(c)) for g, c in pairs.T]
    rank = {value: place for place, value in enumerate(sorted(set(slopes), reverse=True))}
    return steps[np.argsort(np.array([rank[value] for value in slopes])[kind.ravel()], kind="stable")]


def _hull_fill(worth_NJ: Ints, costs_J: Ints, price: _Price, budget: int) -> Ints:
    """A good filling: everything that pays at `price`, then whatever still fits, best gain per token first."""
    reduced = price.reduced(worth_NJ, costs_J)
    rows = np.arange(len(worth_NJ))
    chosen = np.argmax(reduced, axis=1)  # on a tie the cheapest: the price itself never overspends
    left = budget - int(costs_J[chosen].sum())
    rise = worth_NJ - worth_NJ[rows, chosen][:, None]
    run = costs_J[None, :] - costs_J[chosen][:, None]
    frames, choices = np.nonzero((worth_NJ >= 0) & (run > 0) & (rise > 0))
    order = np.argsort(-(rise[frames, choices] / run[frames, choices]), kind="stable")
    taken: set[int] = set()
    for k in order:
        frame, j = int(frames[k]), int(choices[k])
        if run[frame, j] <= left and frame not in taken:
            chosen[frame], left = j, left - int(run[frame, j])
            taken.add(frame)
        if left == 0:
            break
    return chosen


def _by_core(
    worth_NJ: Ints, costs_J: Ints, price: _Price, budget: int, chosen: Ints, max_cells: int
) -> tuple[Ints, str]:
    """The optimum by pruning and dynamic programming, or the best filling when the core is too large; and which."""
    reduced = price.reduced(worth_NJ, costs_J)
    regret = reduced.max(axis=1)[:, None] - reduced  # what forcing a choice takes off the bound, times `tokens`
    bound = price.bound(worth_NJ, costs_J, budget) * price.tokens
    # First a small core around the price, all else as the price says, for a better filling to prune with.
    second = np.partition(regret, 1, axis=1)[:, 1]
    small = np.zeros(len(worth_NJ), bool)
    small[np.argsort(second, kind="stable")[:FIRST_CORE]] = True
    if len(worth_NJ) > FIRST_CORE:
        keep = (worth_NJ >= 0) & (small[:, None] | (np.arange(len(costs_J)) == np.argmax(reduced, axis=1)[:, None]))
        better = _solve(np.where(keep, worth_NJ, DROPPED), costs_J, budget, max_cells)
        if better is not None and _total(worth_NJ, better) > _total(worth_NJ, chosen):
            chosen = better
    slack = math.floor(bound - _total(worth_NJ, chosen) * price.tokens)
    # `<=`, so that every optimum survives and ties are broken by the rule, not by what was pruned.
    core = np.where((worth_NJ >= 0) & (regret <= slack), worth_NJ, DROPPED)
    exact = _solve(core, costs_J, budget, max_cells)
    if exact is not None:
        return exact, "dp"
    return chosen, "hull" if slack == 0 else "gap"


def _solve(worth_NJ: Ints, costs_J: Ints, budget: int, max_cells: int) -> Ints | None:
    """Dynamic programming over the candidates that still have a choice; None when the table would be too large."""
    allowed = worth_NJ >= 0
    chosen = np.argmax(allowed, axis=1)  # the cheapest choice of each
    core = np.flatnonzero(allowed.sum(axis=1) > 1)
    capacity = budget - int(costs_J[chosen].sum())
    if capacity < 0:
        return None
    extra = np.where(allowed[core], costs_J[None, :] - costs_J[chosen[core]][:, None], -1)
    most = extra.max(axis=1)
    capacity = min(capacity, int(most.sum()))
    if len(core) * (capacity + 1) > max_cells:
        return None
    # value[b]: the most that candidates from `row` on can add with b tokens. Walking backwards lets the choice be
    # read off forwards, earlier candidates first.
    value = np.zeros(capacity + 1, np.int64)
    table = np.empty((len(core), capacity + 1), np.uint8)
    for row in range(len(core) - 1, -1, -1):
        _add_candidate(value, table[row], worth_NJ[core[row]], extra[row], int(chosen[core[row]]))
    left = capacity
    for row, frame in enumerate(core):
        j = int(table[row, left])
        left -= int(extra[row, j])
        chosen[frame] = j
    return chosen


def _add_candidate(value: Ints, picks: NDArray[np.uint8], worth_J: Ints, extra_J: Ints, base: int) -> None:
    """Let one more candidate compete for the tokens: update `value` and note its pick at every budget, in place."""
    before = value.copy()
    picks[:] = base
    for j in np.flatnonzero((extra_J > 0) & (extra_J < len(value))):
        cost = int(extra_J[j])
        offer = before[:-cost] + (worth_J[j] - worth_J[base])
        wins = offer >= value[cost:]  # `>=`: on a tie this candidate, the earlier one, gets the dearer choice
        np.copyto(picks[cost:], np.uint8(j), where=wins)
        np.maximum(value[cost:], offer, out=value[cost:])


def _total(worth_NJ: Ints, chosen: Ints) -> int:
    return int(worth_NJ[np.arange(len(worth_NJ)), chosen].sum())


def _bound(choices_NJ: NDArray[np.float64], costs_J: Ints, price: _Price, bits: int, budget: int) -> float:
    """The relaxation's optimum in the caller's units, rounded up. Any price >= 0 would give a valid bound."""
    per_token = float(Fraction(price.worth, price.tokens) / Fraction(2) ** bits)
    surplus = (choices_NJ - per_token * costs_J).max(axis=1)
    return math.fsum([per_token * budget, *surplus]) * (1 + BOUND_ROUNDING)


def _result(
    choices_NJ: NDArray[np.float64], costs_J: Ints, chosen: Ints, bound: float, method: str
) -> Allocation:  # fmt: skip
    utility = math.fsum(choices_NJ[np.arange(len(chosen)), chosen])
    spent = costs_J[chosen]
    return Allocation(
        scale_N=spent, total_tokens=int(spent.sum()), utility=utility, bound=max(utility, bound), method=method
    )
