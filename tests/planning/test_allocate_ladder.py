"""The allocation is exact for the token ladders of other models too: any increasing one, also of expensive steps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.planning.allocate import allocate

LADDERS = st.lists(st.integers(1, 16_384), min_size=1, max_size=12, unique=True).map(sorted)


def brute(utility_NS: np.ndarray, scales: list[int], budget: int) -> float:
    """Return the best total over every way to choose."""
    n = len(utility_NS)
    picks = np.array(list(itertools.product(range(len(scales) + 1), repeat=n)))
    cost = np.array([0, *scales])[picks].sum(axis=1)
    total = np.concatenate([np.zeros((n, 1)), utility_NS], axis=1)[np.arange(n), picks].sum(axis=1)
    return float(total[cost <= budget].max())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(scales=LADDERS, n=st.integers(1, 3), seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1.1))
def test_equals_brute_force_on_any_ladder(scales: list[int], n: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    utility_NS = np.cumsum(rng.exponential(size=(n, len(scales))), axis=1)
    budget = int(share * n * scales[-1])
    found = allocate(utility_NS, budget=budget, scales=scales)
    assert set(found.scale_N.tolist()) <= {0, *scales}
    assert found.total_tokens == found.scale_N.sum() <= budget
    assert found.utility == pytest.approx(brute(utility_NS, scales, budget), rel=1e-9)
    assert found.utility <= found.bound


@pytest.mark.parametrize("finest", [576, 577, 2_304, 16_384, 1_000_000])
def test_expensive_steps_do_not_overflow(finest: int) -> None:
    """One frame takes the finest step, at a price near that of the others, so the search must compare products."""
    scales = [1, finest // 16, finest // 4, finest]
    utility_NS = np.array([[0.1, 0.3, 0.6, 1.0], [0.1, 0.3, 0.6, 1.0 + 1e-6], [0.1, 0.3, 0.6, 1.0]])
    for budget in (finest, finest + finest // 4, 2 * finest, 2 * finest + 1):
        found = allocate(utility_NS, budget=budget, scales=scales)
        assert found.utility == pytest.approx(brute(utility_NS, scales, budget), rel=1e-9), budget
