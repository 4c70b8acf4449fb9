"""A limit is named exactly when lifting it, and nothing else, raises the utility of the best plan."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.planning.allocate import allocate
from m3video.planning.constraints import Constraints, candidate_constraints, candidates
from m3video.planning.limits import Limit, limits
from m3video.types import SCALES, Allocation, FrameStats
from tests.planning.frames import noise, plain, stats_of

CLIP = [picture for shot in range(4) for picture in [noise(shot, base=60 + 40 * shot)] * 6]


@cache
def stats() -> FrameStats:
    return stats_of(CLIP)


def found(
    utilities: np.ndarray, constraints: Constraints, *, budget: int, max_work: int | None = None
) -> tuple[tuple[Limit, ...], Allocation]:
    selection, pinned = candidates(stats(), constraints, max_frames=24)
    utilities = utilities[: len(selection)]
    obeyed = candidate_constraints(stats(), selection, utilities, constraints, budget=budget, pinned=pinned)
    decided = allocate(
        utilities,
        budget=budget,
        max_scale=obeyed.max_scale,
        fixed=obeyed.fixed,
        cover_M2=obeyed.cover_M2,
        max_work=max_work,
    )
    return limits(
        stats(),
        selection,
        utilities,
        constraints,
        decided,
        budget=budget,
        budget_flag=f"--budget {budget}",
        pinned=pinned,
    ), decided


def random_utilities(rng: np.random.Generator, number: int) -> np.ndarray:
    return np.cumsum(rng.integers(0, 50, (number, len(SCALES))).astype(float), axis=1) + 1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 24 * 600), st.sampled_from([36, 144, 576]))
def test_none_binds_exactly_when_every_candidate_has_its_best(seed: int, budget: int, cap: int) -> None:
    utilities = random_utilities(np.random.default_rng(seed), 24)
    binding, decided = found(utilities, Constraints(max_scale=cap), budget=budget)
    best = utilities.max(axis=1).sum()
    assert (not binding) == (decided.utility == pytest.approx(best, rel=1e-9))
    names = {limit.name.split()[0] for limit in binding}
    alone = allocate(utilities, budget=budget).utility
    assert ("--detail" in names) == (alone > decided.utility * (1 + 1e-9))
    capped = utilities[:, : SCALES.index(cap) + 1].max(axis=1).sum()
    assert ("--budget" in names) == (capped > decided.utility * (1 + 1e-9))


def test_gains_are_those_of_the_best_plan_without_the_limit() -> None:
    utilities = random_utilities(np.random.default_rng(1), 24)
    binding, decided = found(utilities, Constraints(pins=((0.5, 576),), max_scale=36), budget=700)
    selection, pins = candidates(stats(), Constraints(pins=((0.5, 576),)), max_frames=24)
    utilities, pinned = utilities[: len(selection)], dict.fromkeys(pins, 576)
    without = {
        "--at": allocate(utilities, budget=700, max_scale=36),
        "--detail low": allocate(utilities, budget=700, fixed=pinned),
        "--budget 700": allocate(utilities, budget=24 * 576, max_scale=36, fixed=pinned),
    }
    assert {limit.name: limit.gain for limit in binding} == {
        name: pytest.approx(best.utility / decided.utility - 1)
        for name, best in without.items()
        if best.utility > decided.utility
    }
    assert {limit.name for limit in binding} >= {"--at", "--budget 700"}
    gains = [limit.gain or 0 for limit in binding]
    assert gains == sorted(gains, reverse=True)


def test_a_gap_that_costs_something_is_named() -> None:
    """All utility is in the first frame: tokens that the gap spends elsewhere are lost to it."""
    utilities = np.full((24, len(SCALES)), 1e-6)
    utilities[0] = [1, 2, 3, 4, 5]
    constraints = Constraints(max_gap_seconds=0.3)
    binding, _ = found(utilities, constraints, budget=144)
    assert {limit.name for limit in binding} == {"--budget 144", "--max-gap 0.3"}
    # With tokens to spare for both it costs nothing, and only the frames' utility at more tokens is out of reach.
    assert [limit.name for limit in found(utilities, constraints, budget=200)[0]] == ["--budget 200"]


def test_without_proof_only_what_beats_the_bound_is_named() -> None:
    utilities = random_utilities(np.random.default_rng(2), 24)
    constraints = Constraints(max_scale=144)
    binding, decided = found(utilities, constraints, budget=777, max_work=0)
    assert decided.method == "gap"
    assert all((1 + (limit.gain or 0)) * decided.bound > decided.bound for limit in binding)
    exact = {limit.name for limit in found(utilities, constraints, budget=777)[0]}
    assert {limit.name for limit in binding} <= exact


def test_frames_without_utility_have_no_limit() -> None:
    assert found(np.zeros((24, len(SCALES))), Constraints(), budget=10)[0] == ()


def test_the_clip_has_shots_to_show() -> None:
    assert len(candidates(stats(), Constraints(), max_frames=24)[0].shots) == 4
    assert len(stats_of([plain(9)])) == 1
