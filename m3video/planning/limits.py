"""Which limits of a plan bind: what the same candidates would be worth without each of them.

A limit binds when the best plan without it, all else equal, is worth more. So that the answer is exact, the
allocation is solved again with one limit lifted at a time; the candidates stay the same, because the worth of other
candidates could not be compared.

Legend: N candidates, S scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from m3video.planning.allocate import allocate
from m3video.planning.constraints import Constraints, rules
from m3video.types import FULL_SCALE, Allocation, FrameStats, Selection

LEAST_GAIN = 1e-9
"""Relative; less is rounding."""

WORDS = {36: "low", 144: "medium"}


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit that binds.

    Attributes:
        name: the flag that lifts it, with its value.
        gain: how much more the best plan without it is worth, as a share of this plan's utility; None for a limit on
            the number of candidates, whose worth nobody knows before they are chosen.
    """

    name: str
    gain: float | None = None


def limits(
    stats: FrameStats,
    selection: Selection,
    utility_NS: NDArray[np.floating],
    wishes: Constraints,
    decided: Allocation,
    *,
    budget: int,
    pinned: Mapping[int, int | None],
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> tuple[Limit, ...]:
    """The limits that make this allocation worth less, the costliest first.

    Args:
        stats: the analyzed frames.
        selection: the candidates.
        utility_NS: what each is worth at each scale.
        wishes: what was asked to be shown.
        decided: the allocation under all limits.
        budget: most tokens in all.
        pinned: candidate -> its scale, None where it is free.
        start_seconds: as for `sample`.
        end_seconds: as for `sample`.

    Returns:
        Budget, cap and wishes whose lifting is proven to gain something; empty when every candidate already has all
        that it can use.
    """
    # Where the optimum is not proven, a better plan might have been possible under the limits too, up to the bound.
    reached = decided.bound if decided.method == "gap" else decided.utility
    if reached <= 0:
        return ()

    def gain(wishes: Constraints, pinned: Mapping[int, int | None], budget: int) -> float:
        obeyed = rules(
            stats,
            selection,
            utility_NS,
            wishes,
            budget=budget,
            pinned=pinned,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
        )
        without = allocate(
            utility_NS, budget=budget, max_scale=obeyed.max_scale, fixed=obeyed.fixed, cover_M2=obeyed.cover_M2
        )
        return without.utility / reached - 1

    found = [Limit(f"--budget {budget}", gain(wishes, pinned, FULL_SCALE * len(selection)))]
    if wishes.max_scale < FULL_SCALE:
        name = f"--detail {WORDS.get(wishes.max_scale, wishes.max_scale)}"
        found.append(Limit(name, gain(replace(wishes, max_scale=FULL_SCALE), pinned, budget)))
    if pinned:
        found.append(Limit("--at", gain(wishes, {}, budget)))
    if wishes.every_shot:
        found.append(Limit("--every-shot", gain(replace(wishes, every_shot=False), pinned, budget)))
    if wishes.max_gap_seconds is not None:
        name = f"--max-gap {wishes.max_gap_seconds:g}"
        found.append(Limit(name, gain(replace(wishes, max_gap_seconds=None), pinned, budget)))
    binding = [limit for limit in found if limit.gain is not None and limit.gain > LEAST_GAIN]
    return tuple(sorted(binding, key=lambda limit: -(limit.gain or 0)))
