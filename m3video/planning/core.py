"""The exact optimum of a core: dynamic programming over the tokens that are left.

A core is what pruning leaves of a multiple-choice knapsack: for every candidate the choices that an optimum may still
take. Most candidates have one choice; only the others are decided here.

Candidates may have to cover intervals: at least one candidate of each must be shown. Going through the candidates in
order, all that matters of the past is how many of the open intervals are met. Since no interval contains another, the
met ones are always the first. So a state is that number, and there are few.

Shape legend: N candidates, J choices ("left out" first, then the scales), C core candidates, B tokens, M intervals.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

NO_INTERVALS: tuple[Ints, Ints] = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def minimal(starts_M: Ints, stops_M: Ints) -> tuple[Ints, Ints]:
    """Return the half-open intervals that contain no other, in order; meeting these meets all."""
    order = np.lexsort((-starts_M, stops_M))
    starts, stops = starts_M[order], stops_M[order]
    ahead = np.concatenate([[-1], np.maximum.accumulate(starts)[:-1]]) if len(starts) else starts
    keep = starts > ahead
    return starts[keep], stops[keep]


def unmet(intervals: tuple[Ints, Ints], shown_N: Flags) -> Flags:
    """Return which of the intervals contain no shown candidate, bool [M]."""
    before = np.concatenate([[0], np.cumsum(shown_N)])
    found: Flags = before[intervals[0]] == before[intervals[1]]
    return found


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is left to decide; costs are in units of the greatest common divisor of all costs.

    core_C: the candidates; choices, costs, gains: their choices beyond the cheapest, candidate after candidate, with
    the additional cost and utility; slices: the range of each candidate in those lists; starts_M, stops_M: unmet
    intervals, in positions of core_C.
    """

    core_C: Ints
    choices: list[int]
    costs: list[int]
    gains: list[float]
    slices: list[range]
    capacity: int
    starts_M: Ints
    stops_M: Ints


def best_solution(
    utility_NJ: Ints,
    allowed_NJ: Flags,
    costs_J: Ints,
    budget: int,
    *,
    max_work: int,
    intervals: tuple[Ints, Ints] = NO_INTERVALS,
) -> Ints | None:
    """Return the choice of each candidate in an optimum; None when there is none, or finding it takes too much work.

    Of several optima the one in which the first candidate has the most tokens, then the second, and so on (with
    intervals: one of them, always the same).

    Args:
        utility_NJ: integers with sums below 2^52, so that float64 adds them exactly.
        allowed_NJ: at least one choice for each candidate.
        costs_J: tokens of each choice, increasing from 0.
        budget: most tokens in all.
        max_work: steps of the inner loop; 10^9 take about half a second.
        intervals: starts and stops of the half-open intervals to be met.
    """
    chosen = np.argmax(allowed_NJ, axis=1)  # the cheapest choice of each
    left = budget - int(costs_J[chosen].sum())
    problem = _reduced(utility_NJ, allowed_NJ, costs_J, left, chosen, intervals, max_work)
    picks = None if problem is None else _run(problem)
    if problem is None or picks is None:
        return None
    chosen[problem.core_C] = np.where(picks > 0, picks, chosen[problem.core_C])
    return chosen


def _reduced(
    utility_NJ: Ints,
    allowed_NJ: Flags,
    costs_J: Ints,
    capacity: int,
    chosen: Ints,
    intervals: tuple[Ints, Ints],
    max_work: int,
) -> _Problem | None:
    """Return the problem of the core alone.

    None when it takes too much work, when even the cheapest choices do not fit, or when an interval cannot be met.
    """
    core = np.flatnonzero(allowed_NJ.sum(axis=1) > 1)
    open_ = unmet(intervals, chosen > 0)
    starts, stops = (np.searchsorted(core, edge[open_]) for edge in intervals)
    if capacity < 0 or (starts == stops).any():
        return None
    starts, stops = minimal(starts, stops)
    frames, js = np.nonzero(allowed_NJ[core])
    costs = costs_J[js] - costs_J[chosen[core[frames]]]
    utility = utility_NJ[core[frames], js] - utility_NJ[core[frames], chosen[core[frames]]]
    # Where all costs are multiples of 36, so are their sums: count in units of 36.
    unit = max(1, int(np.gcd.reduce(costs)) if len(costs) else 1)
    costs, capacity = costs // unit, capacity // unit
    dearest = np.zeros(len(core), np.int64)
    np.maximum.at(dearest, frames, costs)
    capacity = min(capacity, int(dearest.sum()))
    # One step per token for each more expensive choice, and two for each further state that an open interval makes.
    if (int(((costs > 0) & (costs <= capacity)).sum()) + 2 * int((stops - starts).sum())) * (capacity + 1) > max_work:
        return None
    taken = (costs > 0) & (costs <= capacity)
    edges = np.searchsorted(frames[taken], np.arange(len(core) + 1)).tolist()
    slices = list(map(range, edges, edges[1:]))
    gains = utility[taken].astype(np.float64)
    return _Problem(core, js[taken].tolist(), costs[taken].tolist(), gains.tolist(), slices, capacity, starts, stops)


class _Table:
    """Rows of flags, appended one by one and stored as bits; several rows are packed at a time, which is faster."""

    AT_ONCE = 32

    def __init__(self, size: int) -> None:
        self._packed: list[NDArray[np.uint8]] = []
        self._open = np.zeros((self.AT_ONCE, size), np.bool_)
        self._used = 0

    def __len__(self) -> int:
        return len(self._packed) * self.AT_ONCE + self._used

    def add(self) -> Flags:
        """Append a row, all false, and return it; it can be written to until the next one is added."""
        if self._used == self.AT_ONCE:
            self._packed.append(np.packbits(self._open, axis=1))
            self._open.fill(False)
            self._used = 0
        self._used += 1
        return self._open[self._used - 1]

    def __getitem__(self, place: tuple[int, int]) -> bool:
        """Return the flag at (row, column)."""
        block, row = divmod(place[0], self.AT_ONCE)
        if block == len(self._packed):
            return bool(self._open[row, place[1]])
        return bool(self._packed[block][row, place[1] >> 3] >> (7 - (place[1] & 7)) & 1)


@dataclass(slots=True)
class _Step:
    """What is needed to trace back the decision about one candidate.

    came_from: (previous state, row of the table that flags where it was better); first_row: the first of the rows that
    flag where each of the candidate's choices was better; leads_to: the state when the candidate is shown.
    """

    came_from: list[tuple[int, int]]
    first_row: int
    leads_to: int


def _run(problem: _Problem) -> Ints | None:
    """Return the choice of each core candidate, 0 for its cheapest one; None when the intervals cannot be met.

    values[h][b]: the most that candidates from here on add with b tokens when the last h intervals are met. The
    recursion runs backwards, so that choices are read off forwards, earlier candidates first.
    """
    size, count, num_intervals = problem.capacity + 1, len(problem.core_C), len(problem.starts_M)
    begun = num_intervals - np.searchsorted(problem.stops_M, np.arange(count), side="right")
    ended = num_intervals - np.searchsorted(problem.starts_M, np.arange(-1, count), side="right")
    values: dict[int, Floats] = {0: np.zeros(size)}
    scratch, table = (np.empty(size), np.empty(size)), _Table(size)
    steps: list[_Step] = []
    for row in range(count - 1, -1, -1):
        steps.append(_step(values, problem, row, int(begun[row]), scratch, table))
        for state in [state for state in values if state < ended[row]]:
            del values[state]
    left = problem.capacity
    if num_intervals not in values or values[num_intervals][left] == -math.inf:
        return None
    state, picks = num_intervals, np.zeros(count, np.int64)
    for row, step in enumerate(reversed(steps)):
        if state == step.leads_to:
            for place, better in zip(problem.slices[row], itertools.count(step.first_row), strict=False):
                if table[better, left]:
                    picks[row], spent = problem.choices[place], problem.costs[place]
            if picks[row]:
                left -= spent
                for origin, better in step.came_from:
                    if table[better, left]:
                        state = origin
    return picks


def _step(
    values: dict[int, Floats], problem: _Problem, row: int, reached: int, scratch: tuple[Floats, Floats], table: _Table
) -> _Step:
    """Add one more candidate to the recursion; showing it leads to the state `reached`.

    `scratch`: two arrays to work in.
    """
    before, offer = scratch
    places = problem.slices[row]
    step = _Step([], len(table), reached)
    if len(values) > 1 or reached not in values:
        before.fill(-math.inf)
        for state in sorted(values):
            step.came_from.append((state, len(table)))
            np.greater_equal(values[state], before, out=table.add())
            np.maximum(values[state], before, out=before)
        step.first_row = len(table)
    elif len(places) == 1:
        before = values[reached]  # read before it is written to
    else:
        np.copyto(before, values[reached])
    if reached not in values:
        values[reached] = np.full(len(before), -math.inf)
    value = values[reached]
    for place in places:
        cost = problem.costs[place]
        here, offered = value[cost:], offer[cost:]
        np.add(before[:-cost], problem.gains[place], out=offered)
        # `>=`: on a tie this candidate, the earlier one, gets the more expensive choice.
        np.greater_equal(offered, here, out=table.add()[cost:])
        np.maximum(here, offered, out=here)
    return step
