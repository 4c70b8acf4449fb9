"""Which limits of a plan bind: the utility that the same candidates would reach without each of them.

A limit binds when the best plan without it, all else equal, has more utility. So that the answer is exact, the
allocation is solved again with one limit lifted at a time; the candidates stay the same, because utilities of other
candidates are not comparable.

Legend: N candidates, S scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from m3video.planning.allocate import allocate
from m3video.planning.constraints import Constraints, candidate_constraints
from m3video.types import FULL_SCALE, Allocation, FrameStats, Selection

LEAST_GAIN = 1e-9
"""Relative; a smaller gain is rounding."""

DETAIL_NAMES = {36: "low", 144: "medium"}


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit that binds.

    Attributes:
        name: the flag that lifts it, with its value.
        gain: utility that the best plan without it gains, as a share of this plan's; None for a limit on the number of
            candidates, whose utility is unknown before they are chosen.
    """

    name: str
    gain: float | None = None


def limits(
    stats: FrameStats,
    selection: Selection,
    utility_NS: NDArray[np.floating],
    constraints: Constraints,
    allocation: Allocation,
    *,
    budget: int,
    budget_flag: str,
    pinned: Mapping[int, int | None],
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> tuple[Limit, ...]:
    """Return the limits that cost this allocation utility, the most costly first.

    Args:
        stats: the analyzed frames.
        selection: the candidates.
        utility_NS: utility of each candidate at each scale.
        constraints: what is required of the plan.
        allocation: the allocation under all limits.
        budget: most tokens in all.
        budget_flag: what raises it, as printed.
        pinned: candidate -> its scale, None where it is free.
        start_seconds: as for `sample`.
        end_seconds: as for `sample`.

    Returns:
        Limits whose lifting is proven to gain utility; empty when every candidate already has its best scale.
    """
    # Where the optimum is not proven, a better plan might have been possible under the limits too, up to the bound.
    reached = allocation.bound if allocation.method == "gap" else allocation.utility
    if reached <= 0:
        return ()

    def gain(constraints: Constraints, pinned: Mapping[int, int | None], budget: int) -> float:
        constrained = candidate_constraints(
            stats,
            selection,
            utility_NS,
            constraints,
            budget=budget,
            pinned=pinned,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
        )
        without = allocate(
            utility_NS,
            budget=budget,
            max_scale=constrained.max_scale,
            fixed=constrained.fixed,
            cover_M2=constrained.cover_M2,
        )
        return without.utility / reached - 1

    found = [Limit(budget_flag, gain(constraints, pinned, FULL_SCALE * len(selection)))]
    if constraints.max_scale < FULL_SCALE:
        name = f"--detail {DETAIL_NAMES.get(constraints.max_scale, constraints.max_scale)}"
        found.append(Limit(name, gain(replace(constraints, max_scale=FULL_SCALE), pinned, budget)))
    if pinned:
        found.append(Limit("--at", gain(constraints, {}, budget)))
    if constraints.every_shot:
        found.append(Limit("--every-shot", gain(replace(constraints, every_shot=False), pinned, budget)))
    if constraints.max_gap_seconds is not None:
        name = f"--max-gap {constraints.max_gap_seconds:g}"
        found.append(Limit(name, gain(replace(constraints, max_gap_seconds=None), pinned, budget)))
    binding = [limit for limit in found if limit.gain is not None and limit.gain > LEAST_GAIN]
    return tuple(sorted(binding, key=lambda limit: -(limit.gain or 0)))
