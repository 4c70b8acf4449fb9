"""The exact answer for a core: dynamic programming over the tokens that are left.

A core is what pruning leaves of a multiple-choice knapsack: for every candidate the choices that an optimum may still
take. Most candidates have one; only the others are worked on.

Candidates may have to cover intervals: at least one candidate of each must be shown. Walking over the candidates, all
that matters of the past is how many of the open intervals are met, and since no interval holds another, those that
are met are always the first ones met with. So a state is that number, and there are few.

Shape legend: N candidates, J choices ("left out" first, then the scales), C core candidates, B tokens, M intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

NO_INTERVALS: tuple[Ints, Ints] = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def minimal(starts_M: Ints, stops_M: Ints) -> tuple[Ints, Ints]:
    """The half-open intervals that hold no other, in order; meeting these meets all."""
    order = np.lexsort((-starts_M, stops_M))
    starts, stops = starts_M[order], stops_M[order]
    ahead = np.concatenate([[-1], np.maximum.accumulate(starts)[:-1]]) if len(starts) else starts
    keep = starts > ahead
    return starts[keep], stops[keep]


def unmet(intervals: tuple[Ints, Ints], shown_N: Flags) -> Flags:
    """Which of the intervals no shown candidate stands in, bool [M]."""
    before = np.concatenate([[0], np.cumsum(shown_N)])
    found: Flags = before[intervals[0]] == before[intervals[1]]
    return found


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is left to decide, in units of `unit` tokens.

    core_C: the candidates; choices: for each, (choice, further cost, further worth) of what it may take beyond its
    cheapest; starts_M, stops_M: unmet intervals, in core positions.
    """

    core_C: Ints
    choices: list[list[tuple[int, int, float]]]
    capacity: int
    starts_M: Ints
    stops_M: Ints


def best_filling(
    worth_NJ: Ints, allowed_NJ: Flags, costs_J: Ints, budget: int, *, max_work: int,
    intervals: tuple[Ints, Ints] = NO_INTERVALS,
) -> Ints | None:  # fmt: skip
    """The choice of each candidate in an optimum; None when there is none, or finding it is too much work.

    Of several optima the one in which the first candidate has the most tokens, then the second, and so on (with
    intervals: one of them, always the same).

    Args:
        worth_NJ: sums below 2^52, so that float64 adds them exactly.
        allowed_NJ: at least one choice for each candidate.
        costs_J: tokens of each choice, increasing from 0.
        budget: most tokens in all.
        max_work: steps of the inner loop; 10^9 take about half a second.
        intervals: starts and stops of the half-open intervals to be met.
    """
    chosen = np.argmax(allowed_NJ, axis=1)  # the cheapest choice of each
    left = budget - int(costs_J[chosen].sum())
    problem = _reduced(worth_NJ, allowed_NJ, costs_J, left, chosen, intervals, max_work)
    picks = None if problem is None else _run(problem)
    if problem is None or picks is None:
        return None
    chosen[problem.core_C] = np.where(picks > 0, picks, chosen[problem.core_C])
    return chosen


def _reduced(
    worth_NJ: Ints, allowed_NJ: Flags, costs_J: Ints, capacity: int, chosen: Ints, intervals: tuple[Ints, Ints],
    max_work: int,
) -> _Problem | None:  # fmt: skip
    """The problem of the core alone; None when it is too much work, when even the cheapest choices do not fit, or
    when an interval is hopeless."""
    core = np.flatnonzero(allowed_NJ.sum(axis=1) > 1)
    open_ = unmet(intervals, chosen > 0)
    starts, stops = (np.searchsorted(core, edge[open_]) for edge in intervals)
    if capacity < 0 or (starts == stops).any():
        return None
    starts, stops = minimal(starts, stops)
    frames, js = np.nonzero(allowed_NJ[core])
    costs = costs_J[js] - costs_J[chosen[core[frames]]]
    worth = worth_NJ[core[frames], js] - worth_NJ[core[frames], chosen[core[frames]]]
    # Where all costs are multiples of 36, so are their sums: count in units of 36.
    unit = max(1, int(np.gcd.reduce(costs)) if len(costs) else 1)
    costs, capacity = costs // unit, capacity // unit
    dearest = np.zeros(len(core), np.int64)
    np.maximum.at(dearest, frames, costs)
    capacity = min(capacity, int(dearest.sum()))
    # One step per token for each dearer choice, and two for each further state that an open interval makes.
    if (int(((costs > 0) & (costs <= capacity)).sum()) + 2 * int((stops - starts).sum())) * (capacity + 1) > max_work:
        return None
    choices: list[list[tuple[int, int, float]]] = [[] for _ in core]
    for frame, j, cost, gain in zip(frames.tolist(), js.tolist(), costs.tolist(), worth.tolist(), strict=True):
        if 0 < cost <= capacity:
            choices[frame].append((j, cost, float(gain)))
    return _Problem(core, choices, capacity, starts, stops)


@dataclass(slots=True)
class _Step:
    """What one candidate did, for reading back: where each pick, and each state it came from, was better."""

    picks: list[tuple[int, int, NDArray[np.uint8]]]
    came_from: list[tuple[int, NDArray[np.uint8]]]
    leads_to: int


def _run(problem: _Problem) -> Ints | None:
    """The pick of each core candidate, 0 where it keeps its cheapest choice.

    value[h][b]: the most that candidates from here on add with b tokens when the last h intervals are met. Walking
    backwards lets the picks be read off forwards, earlier candidates first.
    """
    size, count, num_intervals = problem.capacity + 1, len(problem.core_C), len(problem.starts_M)
    begun = num_intervals - np.searchsorted(problem.stops_M, np.arange(count), side="right")
    ended = num_intervals - np.searchsorted(problem.starts_M, np.arange(-1, count), side="right")
    values: dict[int, Floats] = {0: np.zeros(size)}
    scratch, wins = np.empty(size), np.zeros(size, np.bool_)
    steps: list[_Step] = []
    for row in range(count - 1, -1, -1):
        steps.append(_step(values, problem.choices[row], int(begun[row]), scratch, wins))
        for state in [state for state in values if state < ended[row]]:
            del values[state]
    left = problem.capacity
    if num_intervals not in values or values[num_intervals][left] == -math.inf:
        return None
    state, picks = num_intervals, np.zeros(count, np.int64)
    for row, step in enumerate(reversed(steps)):
        if state == step.leads_to:
            for j, cost, better in step.picks:
                if _bit(better, left):
                    picks[row], spent = j, cost
            if picks[row]:
                left -= spent
                for origin, better in step.came_from:
                    if _bit(better, left):
                        state = origin
    return picks


def _step(
    values: dict[int, Floats], choices: list[tuple[int, int, float]], reached: int, scratch: Floats, wins: Flags
) -> _Step:
    """Let one more candidate compete for the tokens: showing it leads to the state `reached`."""
    came_from = []
    before = np.full(len(scratch), -math.inf)
    if list(values) == [reached]:
        np.copyto(before, values[reached])
    else:
        for state in sorted(values):
            np.greater_equal(values[state], before, out=wins)
            np.maximum(values[state], before, out=before)
            came_from.append((state, np.packbits(wins)))
    value = values.setdefault(reached, np.full(len(scratch), -math.inf))
    picks = []
    for j, cost, gain in choices:
        offer = np.add(before[:-cost], gain, out=scratch[cost:])
        wins[:cost] = False
        # `>=`: on a tie this candidate, the earlier one, gets the dearer choice.
        np.greater_equal(offer, value[cost:], out=wins[cost:])
        np.maximum(value[cost:], offer, out=value[cost:])
        picks.append((j, cost, np.packbits(wins)))
    return _Step(picks, came_from, reached)


def _bit(packed: NDArray[np.uint8], place: int) -> int:
    return int(packed[place >> 3]) >> (7 - (place & 7)) & 1
