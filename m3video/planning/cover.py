"""The multiple-choice knapsack in integers where candidates must cover intervals.

Covering an interval of candidates means to show at least one of them. The constraints of a plan (a frame of every
shot, no gap longer than so many seconds, pinned frames) come here as such intervals.

The price of a token (the Lagrange multiplier of the budget) is found by bisection. At a given price each candidate
takes its most profitable choice; the intervals in which nothing is profitable are covered as cheaply as possible,
which is a shortest path. Its distances, interval by interval, are prices too: what it costs to be forced to cover.
Paid out to the candidates as a bonus for being shown, they make the bound a sum over candidates again, so pruning and
the exact core are those of the plain knapsack.

Shape legend: N candidates, J choices ("left out" first, then the scales), M intervals.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from m3video.planning.core import Flags, Ints, best_solution, minimal, unmet
from m3video.planning.knapsack import FIRST_CORE, fill, total

VERY_LITTLE = np.iinfo(np.int64).min // 2


@dataclass(frozen=True, slots=True)
class Prices:
    """What proves the bound: a price per token, a bonus per candidate shown, and what the bonuses cost in all.

    `price * budget + sum over candidates of max(0, best of utility + bonus - price * tokens) - paid` is never less than
    the optimum, because every solution that covers all intervals collects at least `paid` in bonuses.
    """

    price: int
    bonus_N: Ints
    paid: int


@dataclass(frozen=True, slots=True)
class _Relaxed:
    """The best covering solution when tokens cost `price` each, whatever the budget."""

    price: int
    chosen_N: Ints
    tokens: int
    utility: int
    distance: list[int]
    unmet_M: Flags

    def bound(self, budget: int) -> int:
        """Return the upper bound that this price proves for `budget`."""
        return self.utility + self.price * (budget - self.tokens)

    def at(self, price: int) -> int:
        """Return the net utility of this solution at another price."""
        return self.utility - price * self.tokens


def useful_choices(utility_NJ: Ints, intervals: tuple[Ints, Ints]) -> Flags:
    """Return the choices that an optimum may need: those with more utility than every cheaper one.

    In an interval they are compared only with choices that show the candidate.
    """
    edges = np.zeros(len(utility_NJ) + 1, np.int64)
    np.add.at(edges, intervals[0], 1)
    np.add.at(edges, intervals[1], -1)
    wanted = np.cumsum(edges[:-1]) > 0
    useful = np.ones(utility_NJ.shape, bool)
    ceiling = np.maximum.accumulate(utility_NJ[:, 1:], axis=1)
    useful[:, 2:] = utility_NJ[:, 2:] > ceiling[:, :-1]
    useful[:, 1:] &= wanted[:, None] | (utility_NJ[:, 1:] > 0)
    return useful


def cheapest_cover(cost_N: Ints, intervals: tuple[Ints, Ints]) -> Ints:
    """Return the candidates that meet all intervals at the least total cost, increasing.

    Args:
        cost_N: cost of showing each candidate, >= 0.
        intervals: minimal intervals, none of them empty.
    """
    return np.array(_shortest_path(cost_N, intervals)[0], np.int64)


def optimum(
    utility_NJ: Ints, costs_J: Ints, budget: int, intervals: tuple[Ints, Ints], *, max_work: int
) -> tuple[Ints, str, Prices]:
    """Return the best choices that cover all intervals, the argument ("fits", "hull", "dp" or "gap"), and the prices.

    Args:
        utility_NJ: integers with sums below 2^52; leaving out has utility 0.
        costs_J: tokens of each choice, increasing from 0.
        budget: most tokens in all; the cheapest cover must fit.
        intervals: starts and stops, none of them empty.
        max_work: steps of the largest dynamic programme.
    """
    intervals = minimal(*intervals)
    useful = useful_choices(utility_NJ, intervals)
    low = _relax(utility_NJ, useful, costs_J, intervals, 0)
    if low.tokens <= budget:
        return low.chosen_N, "fits", _prices(low, intervals, len(utility_NJ))
    best, high = _search(utility_NJ, useful, costs_J, intervals, budget, low)
    prices = _prices(best, intervals, len(utility_NJ))
    chosen = high.chosen_N.copy()
    fill(utility_NJ, useful, costs_J, budget, chosen)
    return *_by_core(
        utility_NJ, useful, costs_J, budget, intervals, prices, best.bound(budget), chosen, max_work
    ), prices


def _relax(utility_NJ: Ints, useful_NJ: Flags, costs_J: Ints, intervals: tuple[Ints, Ints], price: int) -> _Relaxed:
    """Return the best covering solution at `price`: profitable choices, and the cheapest cover of other intervals."""
    reduced = np.where(useful_NJ, utility_NJ - price * costs_J, VERY_LITTLE)[:, 1:]
    shown = np.argmax(reduced, axis=1)
    gain = reduced[np.arange(len(reduced)), shown]
    open_M = unmet(intervals, gain > 0)
    path, distance = _shortest_path(np.maximum(0, -gain), (intervals[0][open_M], intervals[1][open_M]))
    forced = np.array(path, np.int64)
    chosen = np.where(gain > 0, shown + 1, 0)
    chosen[forced] = shown[forced] + 1
    return _Relaxed(price, chosen, int(costs_J[chosen].sum()), total(utility_NJ, chosen), distance, open_M)


def _shortest_path(cost_N: Ints, intervals: tuple[Ints, Ints]) -> tuple[list[int], list[int]]:
    """Return the cheapest candidates to meet all intervals, and the cost of meeting the first 0, 1, ... M of them."""
    starts, stops = intervals[0].tolist(), intervals[1].tolist()
    distance, last = [0], []
    window: deque[tuple[int, int]] = deque()  # (cost with this candidate as the last one, candidate), increasing
    behind = 0
    for start, stop in zip(starts, stops, strict=True):
        # Candidates from the previous stop on come after all intervals so far.
        sofar = distance[-1]
        behind = max(behind, start)
        for frame, cost in enumerate(cost_N[behind:stop].tolist(), behind):
            while window and window[-1][0] > cost + sofar:
                window.pop()
            window.append((cost + sofar, frame))
        behind = max(behind, stop)
        while window[0][1] < start:
            window.popleft()
        distance.append(window[0][0])
        last.append(window[0][1])
    path: list[int] = []
    left = len(last)
    while left:
        path.append(last[left - 1])
        left = int(np.searchsorted(intervals[1], path[-1], side="right"))
    return path[::-1], distance


def _search(
    utility_NJ: Ints, useful_NJ: Flags, costs_J: Ints, intervals: tuple[Ints, Ints], budget: int, low: _Relaxed
) -> tuple[_Relaxed, _Relaxed]:
    """Return the relaxation with the least bound, and the most expensive solution found within the budget."""

    def relax(price: int) -> _Relaxed:
        return _relax(utility_NJ, useful_NJ, costs_J, intervals, price)

    price = 2 * int(np.abs(utility_NJ).max()) + 1  # no single choice is profitable any more
    high = relax(price)
    while high.tokens > budget:
        low, price = high, 2 * price
        high = relax(price)
    turn = 0
    while high.price - low.price > 1:
        # Where the two lines cross is the minimum, if no other line passes below; every third time, the middle.
        cross = (low.utility - high.utility) // (low.tokens - high.tokens)
        turn += 1
        price = (low.price + high.price) // 2 if turn % 3 == 0 else cross
        middle = relax(min(max(price, low.price + 1), high.price - 1))
        if middle.at(middle.price) == max(low.at(middle.price), high.at(middle.price)) and middle.price == cross:
            return middle, middle if middle.tokens <= budget else high
        low, high = (low, middle) if middle.tokens <= budget else (middle, high)
    return min(low, high, key=lambda found: found.bound(budget)), high


def _prices(found: _Relaxed, intervals: tuple[Ints, Ints], num_candidates: int) -> Prices:
    """Return the distances as bonuses: a shown candidate meets every interval around it, and earns what they cost."""
    starts, stops = intervals[0][found.unmet_M], intervals[1][found.unmet_M]
    distance = np.array(found.distance, object)  # may exceed int64 over many intervals; the differences do not
    places = np.arange(num_candidates)
    begun, ended = (np.searchsorted(edge, places, side="right") for edge in (starts, stops))
    return Prices(found.price, (distance[begun] - distance[ended]).astype(np.int64), found.distance[-1])


def _by_core(
    utility_NJ: Ints,
    useful_NJ: Flags,
    costs_J: Ints,
    budget: int,
    intervals: tuple[Ints, Ints],
    prices: Prices,
    bound: int,
    chosen: Ints,
    max_work: int,
) -> tuple[Ints, str]:
    """Return the optimum by pruning and dynamic programming, or the best solution found; and which it is."""
    reduced = utility_NJ - prices.price * costs_J
    reduced[:, 1:] += prices.bonus_N[:, None]
    reduced[~useful_NJ] = VERY_LITTLE
    regret = reduced.max(axis=1)[:, None] - reduced
    second = np.argsort(np.partition(regret, 1, axis=1)[:, 1], kind="stable")
    at_hand = np.arange(len(costs_J))
    size = FIRST_CORE
    while bound > total(utility_NJ, chosen):
        keep = useful_NJ & (regret <= bound - total(utility_NJ, chosen))
        exact = best_solution(utility_NJ, keep, costs_J, budget, max_work=max_work, intervals=intervals)
        if exact is not None:
            return exact, "dp"
        # Too large: solve for the candidates nearest to the price only, for a better solution to prune with.
        near = np.zeros(len(utility_NJ), bool)
        near[second[:size]] = True
        keep = (useful_NJ & near[:, None]) | (at_hand == chosen[:, None])
        better = best_solution(utility_NJ, keep, costs_J, budget, max_work=max_work, intervals=intervals)
        if better is None or size >= len(utility_NJ):
            return chosen, "gap"
        chosen, size = (better if total(utility_NJ, better) > total(utility_NJ, chosen) else chosen), 4 * size
    return chosen, "hull"
