"""The allocation is the true optimum: against brute force, with its bound, in any order, at any budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.errors import UsageError
from m3video.planning.allocate import allocate
from m3video.scales import SCALES

COSTS = np.array([0, *SCALES])
PICKS = {n: np.array(list(itertools.product(range(6), repeat=n))) for n in range(1, 5)}


def brute(utility: np.ndarray, budget: int) -> float:
    """The best total over every way to choose: 6 ** N of them."""
    n = len(utility)
    worth = np.concatenate([np.zeros((n, 1)), utility], axis=1)
    cost = COSTS[PICKS[n]].sum(axis=1)
    total = worth[np.arange(n), PICKS[n]].sum(axis=1)
    return float(total[cost <= budget].max())


def check(utility: np.ndarray, budget: int) -> float:
    """Allocate, verify what holds always, and return the utility reached."""
    found = allocate(utility, budget=budget)
    assert set(found.scale_N.tolist()) <= {0, *SCALES}
    assert found.total_tokens == found.scale_N.sum() <= budget
    reached = sum(utility[i, SCALES.index(s)] for i, s in enumerate(found.scale_N.tolist()) if s)
    assert found.utility == pytest.approx(reached, abs=1e-9)
    assert found.utility <= found.bound + 1e-9
    return found.utility


@pytest.mark.parametrize("kind", ["random", "concave", "step", "negative", "ties"])
def test_equals_brute_force(kind: str) -> None:
    """600 instances of each kind, N = 1 to 4, budgets around every break."""
    rng = np.random.default_rng(list(kind.encode()))
    for _ in range(600):
        n = int(rng.integers(1, 5))
        if kind == "concave":
            utility = np.cumsum(np.sort(rng.random((n, 5)))[:, ::-1], axis=1)
        elif kind == "step":
            utility = (np.arange(5) >= rng.integers(0, 5, n)[:, None]) * rng.random((n, 1))
        elif kind == "negative":
            utility = rng.normal(size=(n, 5))
        elif kind == "ties":
            utility = rng.integers(0, 3, (n, 5)).astype(float)
        else:
            utility = rng.random((n, 5))
        budget = int(rng.choice([0, 1, 2, 9, 10, 45, 100, 144, 181, 600, 720, 2304, int(rng.integers(0, 2400))]))
        assert check(utility, budget) == pytest.approx(brute(utility, budget), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_monotone_in_the_budget(n: int, seed: int) -> None:
    utility = np.random.default_rng(seed).random((n, 5))
    reached = [check(utility, budget) for budget in (0, 1, 9, 50, 144, 720, 2880, 576 * n)]
    assert reached == sorted(reached)
    assert reached[-1] == pytest.approx(utility.max(axis=1).sum())


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_order_does_not_matter(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    utility = rng.random((n, 5))
    assert check(utility, 300) == pytest.approx(check(utility[rng.permutation(n)], 300), abs=1e-9)


def test_deterministic_and_the_earlier_frame_wins_a_tie() -> None:
    utility = np.tile([1.0, 1.5, 1.5, 1.5, 1.5], (4, 1))
    first, again = allocate(utility, budget=2), allocate(utility, budget=2)
    assert first.scale_N.tolist() == again.scale_N.tolist() == [1, 1, 0, 0]


def test_bound_is_tight_where_everything_fits() -> None:
    found = allocate(np.random.default_rng(1).random((8, 5)), budget=8 * 576)
    assert found.bound == pytest.approx(found.utility)


def test_max_scale_caps_every_frame() -> None:
    utility = np.cumsum(np.ones((6, 5)), axis=1)
    assert allocate(utility, budget=10_000, max_scale=36).scale_N.tolist() == [36] * 6


@pytest.mark.parametrize("utility", [np.full((2, 5), np.nan), np.full((2, 5), np.inf), np.zeros((2, 4)), np.zeros(5)])
def test_wrong_utilities_are_refused(utility: np.ndarray) -> None:
    with pytest.raises(UsageError):
        allocate(utility, budget=9)


def test_negative_budget_is_refused() -> None:
    with pytest.raises(UsageError, match="budget"):
        allocate(np.zeros((2, 5)), budget=-1)


def test_no_candidates() -> None:
    assert allocate(np.zeros((0, 5)), budget=9).total_tokens == 0


def test_a_large_instance_is_within_its_proven_gap() -> None:
    """2,048 frames of step utilities, the hard kind: the DP's answer must come within one frame of the LP bound."""
    rng = np.random.default_rng(5)
    utility = (np.arange(5) >= rng.integers(0, 5, 2048)[:, None]) * rng.random((2048, 1))
    found = allocate(utility, budget=16384)
    assert found.bound - found.utility <= utility.max()
    assert found.utility >= 0.999 * found.bound
