"""The multiple-choice knapsack in integers: linear relaxation, pruning by its price, exact core.

The linear relaxation is solved on the upper hulls. Its price (utility per token) gives a bound on the optimum. With
the best filling found so far, the same price proves for most (candidate, choice) pairs that no optimum contains them.
What is left goes through dynamic programming.

Where thousands of candidates are alike, pruning by price alone leaves them all. But an optimum needs few changes from
the relaxation's own filling: changes whose token costs add up to zero can be taken back for nothing. So of the
candidates that could make the same change, only the cheapest few are needed.

Shape legend: N candidates, J choices ("left out" first, then the scales), D kinds of change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from m3video.planning.core import Flags, Ints, best_filling

DROPPED = np.int64(-1)
"""Utility of a choice that is ruled out; only compared by `>= 0`, because useful choices are not negative."""

FIRST_CORE = 48
"""Candidates of the small first core, whose optimum is a better filling to prune with."""

EASY_WORK = 100_000_000
"""Steps of a dynamic programme that are simply done (a tenth of a second): every optimum is in the core, so that
ties are broken by the rule. Beyond it an optimum is looked for in smaller cores."""


@dataclass(frozen=True, slots=True)
class Price:
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


def drop_dominated(worth_NJ: Ints) -> None:
    """Rule out, in place, every choice that is worth no more than a cheaper one."""
    ceiling = np.maximum.accumulate(worth_NJ, axis=1)
    worth_NJ[:, 1:][worth_NJ[:, 1:] <= ceiling[:, :-1]] = DROPPED


def optimum(worth_NJ: Ints, costs_J: Ints, budget: int, *, max_work: int) -> tuple[Ints, str, Price]:
    """The best choice of each candidate, by which argument ("hull", "dp" or "gap"), and the relaxation's price.

    Args:
        worth_NJ: without dominated choices; not all of the best choices fit.
        costs_J: tokens of each choice, increasing from 0.
        budget: most tokens in all.
        max_work: steps of the largest dynamic programme.
    """
    price = _hull_price(worth_NJ, costs_J, budget)
    chosen = _hull_fill(worth_NJ, costs_J, price, budget)
    if not price.is_tied and total(worth_NJ, chosen) >= price.bound(worth_NJ, costs_J, budget):
        return chosen, "hull", price
    return *_by_core(worth_NJ, costs_J, price, budget, chosen, max_work), price


def total(worth_NJ: Ints, chosen: Ints) -> int:
    """Utility of a filling."""
    return int(worth_NJ[np.arange(len(worth_NJ)), chosen].sum())


def fill(worth_NJ: Ints, allowed_NJ: Flags, costs_J: Ints, budget: int, chosen: Ints) -> None:
    """Spend what `chosen` leaves of the budget, in place: whatever still fits, best gain per token first."""
    left = budget - int(costs_J[chosen].sum())
    rise = worth_NJ - worth_NJ[np.arange(len(worth_NJ)), chosen][:, None]
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


def _hull_price(worth_NJ: Ints, costs_J: Ints, budget: int) -> Price:
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
    return Price(worth // common, tokens // common, tied)


def _by_exact_slope(steps: Ints, gain: Ints, cost: Ints) -> Ints:
    """`steps` sorted by falling gain/cost without rounding; equal ones keep their order."""
    pairs, kind = np.unique(np.stack([gain[steps], cost[steps]]), axis=1, return_inverse=True)
    slopes = [Fraction(int(g), int(c)) for g, c in pairs.T]
    rank = {value: place for place, value in enumerate(sorted(set(slopes), reverse=True))}
    return steps[np.argsort(np.array([rank[value] for value in slopes])[kind.ravel()], kind="stable")]


def _hull_fill(worth_NJ: Ints, costs_J: Ints, price: Price, budget: int) -> Ints:
    """A good filling: everything that pays at `price`, then whatever still fits."""
    # On a tie the cheapest: the price itself never overspends.
    chosen = np.argmax(price.reduced(worth_NJ, costs_J), axis=1)
    fill(worth_NJ, worth_NJ >= 0, costs_J, budget, chosen)
    return chosen


def _by_core(worth_NJ: Ints, costs_J: Ints, price: Price, budget: int, chosen: Ints, max_work: int) -> tuple[Ints, str]:
    """The optimum by pruning and dynamic programming, or the best filling when the core is too large; and which."""
    reduced = price.reduced(worth_NJ, costs_J)
    regret = reduced.max(axis=1)[:, None] - reduced  # what forcing a choice takes off the bound, times `tokens`
    bound = price.bound(worth_NJ, costs_J, budget) * price.tokens
    useful = worth_NJ >= 0

    def better(chosen: Ints, core: Flags, limit: int) -> tuple[Ints, bool]:
        found = best_filling(worth_NJ, core, costs_J, budget, max_work=limit)
        if found is None:
            return chosen, False
        return (found if total(worth_NJ, found) > total(worth_NJ, chosen) else chosen), True

    def slack(chosen: Ints) -> int:
        return math.floor(bound - total(worth_NJ, chosen) * price.tokens)

    # First a small core around the price, all else as the price says, for a better filling to prune with.
    second = np.partition(regret, 1, axis=1)[:, 1]
    small = np.zeros(len(worth_NJ), bool)
    small[np.argsort(second, kind="stable")[:FIRST_CORE]] = True
    if len(worth_NJ) > FIRST_CORE:
        by_price = np.arange(len(costs_J)) == np.argmax(reduced, axis=1)[:, None]
        chosen, _ = better(chosen, useful & (small[:, None] | by_price), max_work)
    # `<=`, so that every optimum survives and ties are broken by the rule, not by what was pruned.
    exact = best_filling(
        worth_NJ, useful & (regret <= slack(chosen)), costs_J, budget, max_work=min(EASY_WORK, max_work)
    )
    if exact is not None:
        return exact, "dp"
    changes = _Changes.of(regret, useful, costs_J, budget)
    kept, is_whole = 1, False
    while slack(chosen) > 0 and not is_whole:
        core, is_whole = changes.core(slack(chosen), slack(chosen) / price.worth, kept)
        chosen, is_solved = better(chosen, core, max_work)
        if not is_solved:
            return _earlier_first(worth_NJ, chosen), "gap"
        kept *= 8
    return _earlier_first(worth_NJ, chosen), "dp" if slack(chosen) > 0 else "hull"


@dataclass(frozen=True, slots=True)
class _Changes:
    """Every (candidate, choice) that differs from the relaxation's filling, by what it changes in tokens.

    base_N: the filling, which costs as much as fits of what the price allows; left: tokens it leaves; regret_NJ: what
    each choice loses against it; cost_NJ: the tokens each choice adds to it or saves.
    """

    base_N: Ints
    left: int
    regret_NJ: Ints
    cost_NJ: Ints
    useful_NJ: Flags

    @classmethod
    def of(cls, regret_NJ: Ints, useful_NJ: Flags, costs_J: Ints, budget: int) -> _Changes:
        free = useful_NJ & (regret_NJ == 0)
        cheap, dear = np.argmax(free, axis=1), len(costs_J) - 1 - np.argmax(free[:, ::-1], axis=1)
        left = budget - int(costs_J[cheap].sum())
        further = np.cumsum(costs_J[dear] - costs_J[cheap])
        base = np.where(further <= left, dear, cheap)
        left = budget - int(costs_J[base].sum())
        return cls(base, left, regret_NJ, costs_J[None, :] - costs_J[base][:, None], useful_NJ)

    def core(self, slack: int, unspent: float, kept: int) -> tuple[Flags, bool]:
        """The choices that an optimum may need, at most `kept` candidates for each change; and whether that is all.

        Args:
            slack: what an optimum may lose against the bound, in units of regret.
            unspent: tokens that an optimum may leave unspent, at most.
            kept: upper limit on the candidates for each kind of change.
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
        needed = order[place < min(most, kept)]
        core[frames[needed], js[needed]] = True
        return core, most <= kept

    def _most_changes(self, possible: Flags, slack: int, unspent: float) -> int:
        """How many changes an optimum with as few as possible can have.

        Put in an order in which the sum of token costs stays near 0 (an addition when it is at most 0, else a
        saving), no sum appears twice: the changes in between would add up to zero and could be taken back. So there
        are no more than there are sums to pass through. Nor can their regrets add up to more than the slack.
        """
        costs = self.cost_NJ[possible]
        if len(costs) == 0:
            return 0
        unit = int(np.gcd.reduce(np.abs(costs)))
        up, down = max(0, int(costs.max())), max(0, -int(costs.min()))
        additions = (down + self.left) // unit + 1
        savings = (up + max(0, math.ceil(unspent) - self.left)) // unit + 1
        least = np.where(possible, self.regret_NJ, np.iinfo(np.int64).max).min(axis=1)[possible.any(axis=1)]
        # Summed in float64, with room for its rounding.
        affordable = np.searchsorted(np.cumsum(np.sort(least).astype(np.float64)), slack * (1 + 1e-9), side="right")
        return min(additions + savings, int(affordable))


def _earlier_first(worth_NJ: Ints, chosen: Ints) -> Ints:
    """Among candidates with equal utilities the earlier ones get the more tokens."""
    alike = np.lexsort((np.arange(len(worth_NJ)), *worth_NJ.T))
    rows = worth_NJ[alike]
    kind = np.concatenate([[0], np.cumsum((rows[1:] != rows[:-1]).any(axis=1))])
    result = chosen.copy()
    result[alike] = chosen[alike][np.lexsort((-chosen[alike], kind))]
    return result
