"""The multiple-choice knapsack in integers: linear relaxation, pruning by its price, exact core.

The linear relaxation is solved on the upper hulls. Its price (utility per token) gives a bound on the optimum. With
the best solution found so far, the same price proves for most (candidate, choice) pairs that no optimum contains them.
What is left goes through dynamic programming.

Where thousands of candidates are alike, pruning by price alone leaves them all. But an optimum needs few changes from
the relaxation's own solution: changes whose token costs add up to zero can be undone without loss. So of the
candidates that could make the same change, only the cheapest few are needed.

Shape legend: N candidates, J choices ("left out" first, then the scales), D kinds of change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from m3video.planning.core import Flags, Ints, best_solution

DROPPED = np.int64(-1)
"""Utility of a choice that is ruled out; only compared by `>= 0`, because useful choices are not negative."""

FIRST_CORE = 48
"""Candidates of the small first core, whose optimum is a better solution to prune with."""

EASY_WORK = 100_000_000
"""Steps of a dynamic programme that are always allowed (a tenth of a second): the core then contains every optimum, so
that ties are broken by the rule. Beyond it, smaller cores are searched for an optimum."""


@dataclass(frozen=True, slots=True)
class Price:
    """Utility per token at which the relaxation spends the budget: the fraction `utility / tokens`, in lowest terms.

    `is_tied`: several increments have exactly this price, so that ties may have to be broken.
    """

    utility: int
    tokens: int
    is_tied: bool

    def reduced(self, utility_NJ: Ints, costs_J: Ints) -> Ints:
        """Return the utility of each choice minus the price of its tokens, times `tokens`; very low where ruled out."""
        reduced = utility_NJ * self.tokens - costs_J * self.utility
        reduced[utility_NJ < 0] = np.iinfo(np.int64).min // 2
        return reduced

    def bound(self, utility_NJ: Ints, costs_J: Ints, budget: int) -> Fraction:
        """Return the optimum of the linear relaxation (Lagrangian dual at this price)."""
        surplus = int(self.reduced(utility_NJ, costs_J).max(axis=1).sum())
        return Fraction(self.utility * budget + surplus, self.tokens)


def drop_dominated(utility_NJ: Ints) -> None:
    """Rule out, in place, every choice whose utility does not exceed that of a cheaper one."""
    ceiling = np.maximum.accumulate(utility_NJ, axis=1)
    utility_NJ[:, 1:][utility_NJ[:, 1:] <= ceiling[:, :-1]] = DROPPED


def optimum(utility_NJ: Ints, costs_J: Ints, budget: int, *, max_work: int) -> tuple[Ints, str, Price]:
    """Return the best choice of each candidate, the argument ("hull", "dp" or "gap"), and the relaxation's price.

    Args:
        utility_NJ: without dominated choices; not all of the best choices fit.
        costs_J: tokens of each choice, increasing from 0.
        budget: most tokens in all.
        max_work: steps of the largest dynamic programme.
    """
    price = _hull_price(utility_NJ, costs_J, budget)
    chosen = _greedy_solution(utility_NJ, costs_J, price, budget)
    if not price.is_tied and total(utility_NJ, chosen) >= price.bound(utility_NJ, costs_J, budget):
        return chosen, "hull", price
    return *_by_core(utility_NJ, costs_J, price, budget, chosen, max_work), price


def total(utility_NJ: Ints, chosen: Ints) -> int:
    """Return the total utility of a solution."""
    return int(utility_NJ[np.arange(len(utility_NJ)), chosen].sum())


def fill(utility_NJ: Ints, allowed_NJ: Flags, costs_J: Ints, budget: int, chosen: Ints) -> None:
    """Spend what `chosen` leaves of the budget, in place and greedily: best gain per token first."""
    left = budget - int(costs_J[chosen].sum())
    rise = utility_NJ - utility_NJ[np.arange(len(utility_NJ)), chosen][:, None]
    run = costs_J[None, :] - costs_J[chosen][:, None]
    frames, choices = np.nonzero(allowed_NJ & (run > 0) & (rise > 0) & (run <= left))
    order = np.argsort(-(rise[frames, choices] / run[frames, choices]), kind="stable")
    cost, frame_at, choice_at = run[frames, choices][order], frames[order], choices[order]
    taken: set[int] = set()
    cheapest = np.minimum.accumulate(cost[::-1])[::-1]
    for k in range(len(order)):
        if cheapest[k] > left:
            break
        frame = int(frame_at[k])
        if cost[k] <= left and frame not in taken:
            chosen[frame], left = choice_at[k], left - int(cost[k])
            taken.add(frame)


def _hull_steps(utility_NJ: Ints, costs_J: Ints) -> tuple[Ints, Ints]:
    """Return the increments along the upper hull of every candidate: gain and cost, [N, J-1]; 0 where there is none."""
    n, num_choices = utility_NJ.shape
    gain, cost = np.zeros((n, num_choices - 1), np.int64), np.zeros((n, num_choices - 1), np.int64)
    at, rows = np.zeros(n, np.int64), np.arange(n)
    for step in range(num_choices - 1):
        rise = utility_NJ - utility_NJ[rows, at][:, None]
        run = costs_J[None, :] - costs_J[at][:, None]
        allowed = (utility_NJ >= 0) & (run > 0)
        # The steepest next choice, compared exactly by cross-multiplication; the more expensive one on a tie.
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


def _hull_price(utility_NJ: Ints, costs_J: Ints, budget: int) -> Price:
    """Return the price of the increment at which the budget runs out when the best are taken first."""
    gain, cost = _hull_steps(utility_NJ, costs_J)
    gain, cost = gain[cost > 0], cost[cost > 0]
    slope = gain / cost
    order = np.argsort(-slope, kind="stable")
    split = int(np.searchsorted(np.cumsum(cost[order]), budget, side="right"))
    # Rounding may change the order of nearly equal slopes: sort those around the split exactly.
    near = np.flatnonzero(np.abs(slope[order] - slope[order[split]]) <= 1e-15 * slope[order[split]])
    order[near] = _by_exact_slope(order[near], gain, cost)
    split = order[int(np.searchsorted(np.cumsum(cost[order]), budget, side="right"))]
    utility, tokens = int(gain[split]), int(cost[split])
    tied = int((gain[order[near]] * tokens == cost[order[near]] * utility).sum()) > 1
    common = math.gcd(utility, tokens)
    return Price(utility // common, tokens // common, tied)


def _by_exact_slope(steps: Ints, gain: Ints, cost: Ints) -> Ints:
    """Sort `steps` by falling gain/cost without rounding; equal ones keep their order."""
    pairs, kind = np.unique(np.stack([gain[steps], cost[steps]]), axis=1, return_inverse=True)
    slopes = [Fraction(int(g), int(c)) for g, c in pairs.T]
    rank = {value: place for place, value in enumerate(sorted(set(slopes), reverse=True))}
    return steps[np.argsort(np.array([rank[value] for value in slopes])[kind.ravel()], kind="stable")]


def _greedy_solution(utility_NJ: Ints, costs_J: Ints, price: Price, budget: int) -> Ints:
    """Return a good solution: every choice that is profitable at `price`, then whatever still fits."""
    # On a tie the cheapest: the price itself never overspends.
    chosen = np.argmax(price.reduced(utility_NJ, costs_J), axis=1)
    fill(utility_NJ, utility_NJ >= 0, costs_J, budget, chosen)
    return chosen


def _by_core(
    utility_NJ: Ints, costs_J: Ints, price: Price, budget: int, chosen: Ints, max_work: int
) -> tuple[Ints, str]:
    """Return the optimum by pruning and dynamic programming, or the best solution found; and which it is."""
    reduced = price.reduced(utility_NJ, costs_J)
    regret = reduced.max(axis=1)[:, None] - reduced  # by how much forcing a choice lowers the bound, times `tokens`
    bound = price.bound(utility_NJ, costs_J, budget) * price.tokens
    useful = utility_NJ >= 0

    def better(chosen: Ints, core: Flags, limit: int) -> tuple[Ints, bool]:
        found = best_solution(utility_NJ, core, costs_J, budget, max_work=limit)
        if found is None:
            return chosen, False
        return (found if total(utility_NJ, found) > total(utility_NJ, chosen) else chosen), True

    def slack(chosen: Ints) -> int:
        return math.floor(bound - total(utility_NJ, chosen) * price.tokens)

    # First a small core around the price, all else as the price decides, for a better solution to prune with.
    second = np.partition(regret, 1, axis=1)[:, 1]
    small = np.zeros(len(utility_NJ), bool)
    small[np.argsort(second, kind="stable")[:FIRST_CORE]] = True
    if len(utility_NJ) > FIRST_CORE:
        by_price = np.arange(len(costs_J)) == np.argmax(reduced, axis=1)[:, None]
        chosen, _ = better(chosen, useful & (small[:, None] | by_price), max_work)
    # `<=`, so that every optimum survives and ties are broken by the rule, not by what was pruned.
    exact = best_solution(
        utility_NJ, useful & (regret <= slack(chosen)), costs_J, budget, max_work=min(EASY_WORK, max_work)
    )
    if exact is not None:
        return exact, "dp"
    changes = _Changes.of(regret, useful, costs_J, budget)
    most_alike, is_whole = 1, False
    while slack(chosen) > 0 and not is_whole:
        core, is_whole = changes.core(slack(chosen), slack(chosen) / price.utility, most_alike)
        chosen, is_solved = better(chosen, core, max_work)
        if not is_solved:
            return _earlier_first(utility_NJ, chosen), "gap"
        most_alike *= 8
    return _earlier_first(utility_NJ, chosen), "dp" if slack(chosen) > 0 else "hull"


@dataclass(frozen=True, slots=True)
class _Changes:
    """All (candidate, choice) pairs that differ from the relaxation's solution, with their change in tokens.

    base_N: that solution, as expensive as price and budget allow; left: tokens it leaves; regret_NJ: what each choice
    loses against it; cost_NJ: the tokens each choice adds to it (or saves, below 0).
    """

    base_N: Ints
    left: int
    regret_NJ: Ints
    cost_NJ: Ints
    useful_NJ: Flags

    @classmethod
    def of(cls, regret_NJ: Ints, useful_NJ: Flags, costs_J: Ints, budget: int) -> _Changes:
        """Take the relaxation's solution from the choices without regret, the more expensive ones while they fit."""
        free = useful_NJ & (regret_NJ == 0)
        cheap, dear = np.argmax(free, axis=1), len(costs_J) - 1 - np.argmax(free[:, ::-1], axis=1)
        left = budget - int(costs_J[cheap].sum())
        further = np.cumsum(costs_J[dear] - costs_J[cheap])
        base = np.where(further <= left, dear, cheap)
        left = budget - int(costs_J[base].sum())
        return cls(base, left, regret_NJ, costs_J[None, :] - costs_J[base][:, None], useful_NJ)

    def core(self, slack: int, unspent: float, most_alike: int) -> tuple[Flags, bool]:
        """Return the choices that an optimum may need, and whether none was left out by `most_alike`.

        Args:
            slack: what an optimum may lose against the bound, in units of regret.
            unspent: tokens that an optimum may leave unspent, at most.
            most_alike: most candidates for each kind of change.
        """
        possible = self.useful_NJ & (self.regret_NJ <= slack) & (self.cost_NJ != 0)
        most = self._most_changes(possible, slack, unspent)
        core = np.zeros_like(possible)
        core[np.arange(len(core)), self.base_N] = True
        frames, js = np.nonzero(possible)
        cost, regret = self.cost_NJ[frames, js], self.regret_NJ[frames, js]
        order = np.lexsort((frames, regret, cost))
        kinds = cost[order]
        place = np.arange(len(order)) - np.searchsorted(kinds, kinds)  # within its kind, the least regret first
        needed = order[place < min(most, most_alike)]
        core[frames[needed], js[needed]] = True
        return core, most <= most_alike

    def _most_changes(self, possible: Flags, slack: int, unspent: float) -> int:
        """Return how many changes an optimum with as few as possible can have.

        Ordered such that the sum of token costs stays near 0 (an addition when it is at most 0, else a saving), no sum
        appears twice: the changes in between would add up to zero and could be undone. So there are no more changes
        than possible sums. Nor can their regrets add up to more than the slack.
        """
        costs = self.cost_NJ[possible]
        if len(costs) == 0:
            return 0
        unit = int(np.gcd.reduce(np.abs(costs)))
        up, down = max(0, int(costs.max())), max(0, -int(costs.min()))
        additions = (down + self.left) // unit + 1
        savings = (up + max(0, math.ceil(unspent) - self.left)) // unit + 1
        least = np.where(possible, self.regret_NJ, np.iinfo(np.int64).max).min(axis=1)[possible.any(axis=1)]
        # Summed in float64, with a margin for its rounding.
        affordable = np.searchsorted(np.cumsum(np.sort(least).astype(np.float64)), slack * (1 + 1e-9), side="right")
        return min(additions + savings, int(affordable))


def _earlier_first(utility_NJ: Ints, chosen: Ints) -> Ints:
    """Reorder the choices of candidates with equal utilities so that earlier ones get more tokens."""
    alike = np.lexsort((np.arange(len(utility_NJ)), *utility_NJ.T))
    rows = utility_NJ[alike]
    kind = np.concatenate([[0], np.cumsum((rows[1:] != rows[:-1]).any(axis=1))])
    result = chosen.copy()
    result[alike] = chosen[alike][np.lexsort((-chosen[alike], kind))]
    return result
