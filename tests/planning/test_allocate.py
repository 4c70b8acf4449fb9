"""The allocation is the true optimum: against brute force, with its bound, in any order, at any budget."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.errors import UsageError
from m3video.planning import knapsack
from m3video.planning.allocate import allocate
from m3video.types import SCALES

COSTS = np.array([0, *SCALES])
PICKS = {n: np.array(list(itertools.product(range(6), repeat=n))) for n in range(1, 5)}


def brute(utility: np.ndarray, budget: int) -> float:
    """The best total over every way to choose: 6 ** N of them."""
    n = len(utility)
    utilities = np.concatenate([np.zeros((n, 1)), utility], axis=1)
    cost = COSTS[PICKS[n]].sum(axis=1)
    total = utilities[np.arange(n), PICKS[n]].sum(axis=1)
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


def kinds(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Utilities of every sort, among them the hard ones: many optima, nearly as many, none that fills the budget."""
    cost = np.array(SCALES, float)
    few = np.cumsum(np.sort(rng.random((3, 5)))[:, ::-1], axis=1)
    return {
        "random": rng.random((n, 5)),
        "concave": np.cumsum(np.sort(rng.random((n, 5)))[:, ::-1], axis=1),
        "step": (np.arange(5) >= rng.integers(0, 5, n)[:, None]) * rng.random((n, 1)),
        "signed": rng.normal(size=(n, 5)),
        "whole numbers": rng.integers(0, 4, (n, 5)).astype(float),
        "all equal": np.tile(np.sqrt(cost), (n, 1)),
        "equal steps": np.tile([0, 0, 0, 1.0, 1.5], (n, 1)),
        "utilities what it costs": np.tile(cost, (n, 1)),
        "nearly utilities what it costs": cost * (1 + 1e-7 * rng.random((n, 5))),
        "cost and a little": cost + 10 + rng.integers(0, 3, (n, 5)),
        "three kinds of frame": few[rng.integers(0, 3, n)],
        "only 576": np.where(np.arange(5) == 4, rng.random((n, 1)), 0),
    }


def by_table(utility: np.ndarray, budget: int) -> float:
    """The optimum by the textbook's dynamic programme, without any of the allocator's ideas."""
    value = np.zeros(budget + 1)
    for row in utility:
        best = value.copy()
        for utilities, cost in zip(row, SCALES, strict=True):
            if cost <= budget:
                best[cost:] = np.maximum(best[cost:], value[: budget + 1 - cost] + utilities)
        value = best
    return float(value[budget])


@pytest.fixture(params=["as it is", "in growing cores"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with nothing counted as easy, so that the way of the largest instances is taken."""
    if request.param == "in growing cores":
        monkeypatch.setattr(knapsack, "EASY_WORK", 0)
        monkeypatch.setattr(knapsack, "FIRST_CORE", 2)


@pytest.mark.parametrize("kind", list(kinds(np.random.default_rng(0), 1)))
@pytest.mark.usefixtures("way")
def test_equals_the_textbook(kind: str) -> None:
    """Tens of candidates."""
    rng = np.random.default_rng(list(kind.encode()))
    for _ in range(12):
        n = int(rng.integers(5, 90))
        utility, budget = kinds(rng, n)[kind], int(rng.choice([7, 90, 250, 700, int(rng.integers(1, 2500))]))
        found = allocate(utility, budget=budget)
        assert found.method in ("fits", "hull", "dp")
        assert check(utility, budget) == pytest.approx(by_table(utility, budget), rel=1e-12)


def obeys(scale_N: np.ndarray, cover: list[tuple[int, int]], fixed: dict[int, int], cap: int) -> bool:
    free = [scale for frame, scale in enumerate(scale_N.tolist()) if frame not in fixed]
    return (
        all((scale_N[start:stop] > 0).any() for start, stop in cover)
        and all(scale_N[frame] == scale for frame, scale in fixed.items())
        and max(free, default=0) <= cap
    )


def brute_obeying(
    utility: np.ndarray, budget: int, cover: list[tuple[int, int]], fixed: dict[int, int], cap: int
) -> float | None:
    """The best total of the choices that obey, None when none does."""
    n = len(utility)
    utilities = np.concatenate([np.zeros((n, 1)), utility], axis=1)
    scales = COSTS[PICKS[n]]
    good = scales.sum(axis=1) <= budget
    for start, stop in cover:
        good &= (scales[:, start:stop] > 0).any(axis=1)
    for frame in range(n):
        good &= scales[:, frame] == fixed[frame] if frame in fixed else scales[:, frame] <= cap
    return float(utilities[np.arange(n), PICKS[n]].sum(axis=1)[good].max()) if good.any() else None


def constraints(rng: np.random.Generator, n: int) -> tuple[list[tuple[int, int]], dict[int, int], int]:
    starts = rng.integers(0, n, rng.integers(0, 5))
    cover = [(int(start), int(rng.integers(start + 1, n + 1))) for start in starts]
    fixed = {frame: int(rng.choice(SCALES)) for frame in range(n) if rng.random() < 0.15}
    return cover, fixed, int(rng.choice([1, 36, 576, 576]))


@pytest.mark.parametrize("seed", range(8))
def test_equals_brute_force_under_constraints(seed: int) -> None:
    """400 instances for each seed. With too little work allowed it is a certificate, which must be true as well."""
    rng = np.random.default_rng(seed)
    seen = set()
    for _ in range(400):
        n = int(rng.integers(1, 5))
        utility = list(kinds(rng, n).values())[rng.integers(0, 12)]
        cover, fixed, cap = constraints(rng, n)
        budget = int(rng.choice([0, 1, 2, 3, 9, 10, 45, 100, 145, 181, 600, 720, int(rng.integers(0, 2400))]))
        work = int(rng.choice([0, 10**4, 10**9]))
        wanted = brute_obeying(utility, budget, cover, fixed, cap)
        arguments = {"budget": budget, "cover_M2": cover, "fixed": fixed, "max_scale": cap, "max_work": work}
        if wanted is None:
            with pytest.raises(UsageError, match="must be shown"):
                allocate(utility, **arguments)
            continue
        found = allocate(utility, **arguments)
        seen.add(found.method)
        assert obeys(found.scale_N, cover, fixed, cap)
        assert found.total_tokens == found.scale_N.sum() <= budget
        reached = sum(utility[i, SCALES.index(s)] for i, s in enumerate(found.scale_N.tolist()) if s)
        assert found.utility == pytest.approx(reached, abs=1e-9)
        assert found.bound >= wanted - 1e-9
        assert found.utility <= wanted + 1e-9
        if found.method != "gap":
            assert found.utility == pytest.approx(wanted, abs=1e-9)
    assert seen == {"fits", "hull", "dp", "gap"}


def by_table_covering(utility: np.ndarray, budget: int, reach: int) -> float:
    """The optimum when each window of `reach` candidates must show one: a table for each candidate shown last."""
    n = len(utility)
    start = np.zeros(budget + 1)
    shown: dict[int, np.ndarray] = {-1: start}
    for frame in range(n):
        before = np.maximum.reduce([shown[last] for last in shown if frame - last <= reach])
        value = np.full(budget + 1, -np.inf)
        for utilities, cost in zip(utility[frame], SCALES, strict=True):
            if cost <= budget:
                value[cost:] = np.maximum(value[cost:], before[: budget + 1 - cost] + utilities)
        shown[frame] = value
    return float(max(table[budget] for last, table in shown.items() if n - last <= reach))


@pytest.mark.parametrize("kind", list(kinds(np.random.default_rng(0), 1)))
def test_equals_the_textbook_under_overlapping_windows(kind: str) -> None:
    rng = np.random.default_rng(list(kind.encode()))
    for _ in range(6):
        n, reach = int(rng.integers(8, 50)), int(rng.integers(1, 8))
        utility, budget = kinds(rng, n)[kind], n + int(rng.integers(0, 900))
        cover = [(start, start + reach) for start in range(n - reach + 1)]
        found = allocate(utility, budget=budget, cover_M2=cover)
        assert found.method != "gap"
        assert found.utility == pytest.approx(by_table_covering(utility, budget, reach), rel=1e-12)
        assert found.utility <= found.bound


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_monotone_in_the_budget_under_constraints(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    utility = rng.random((n, 5))
    cover, fixed, cap = constraints(rng, n)
    least = sum(fixed.values()) + len(cover)
    found = [
        allocate(utility, budget=least + more, cover_M2=cover, fixed=fixed, max_scale=cap)
        for more in (0, 1, 9, 50, 144, 720, 576 * n)
    ]
    assert [item.utility for item in found] == sorted(item.utility for item in found)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", list(kinds(np.random.default_rng(0), 1)))
def test_order_of_equal_frames(kind: str) -> None:
    """Any order gives the same total, exactly, and of equal frames the earlier one has the more tokens."""
    rng = np.random.default_rng(list(kind.encode()))
    for _ in range(10):
        utility = np.tile(kinds(rng, 12)[kind], (3, 1))
        found = allocate(utility, budget=int(rng.integers(1, 2000)))
        assert (np.diff(found.scale_N.reshape(3, 12), axis=0) <= 0).all()
        again = allocate(utility[rng.permutation(36)], budget=max(1, found.total_tokens))
        assert again.utility == found.utility


def test_constraints_that_hold_anyway_change_nothing() -> None:
    utility = np.random.default_rng(2).random((40, 5))
    plain = allocate(utility, budget=400)
    shown = np.flatnonzero(plain.scale_N)
    again = allocate(utility, budget=400, cover_M2=[(int(frame), int(frame) + 1) for frame in shown])
    assert again.scale_N.tolist() == plain.scale_N.tolist()
    assert (again.utility, again.bound) == (plain.utility, plain.bound)


def test_a_pinned_frame_may_exceed_the_cap() -> None:
    found = allocate(np.tile(np.sqrt(SCALES), (3, 1)), budget=700, max_scale=36, fixed={1: 576})
    assert found.scale_N.tolist() == [36, 576, 36]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fixed": {3: 9}}, r"fixed candidate \(3\) must be one of the 3"),
        ({"fixed": {0: 10}}, r"scale \(10\) of fixed candidate 0 must be one of 1, 9, 36"),
        ({"cover_M2": [(1, 1)]}, "interval 1 to 1 must hold candidates"),
        ({"cover_M2": [(0, 4)]}, "interval 0 to 4 must hold candidates of the 3"),
        ({"fixed": {0: 144}}, r"budget \(100\) is below the 144 tokens"),
        ({"fixed": {0: 36, 1: 36, 2: 36}}, r"budget \(100\) is below the 108 tokens"),
    ],
)
def test_wrong_constraints_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        allocate(np.zeros((3, 5)), budget=100, **arguments)


@pytest.mark.parametrize("kind", list(kinds(np.random.default_rng(0), 1)))
def test_large_instances_are_exact_and_within_the_gap_of_one_frame(kind: str) -> None:
    """4,096 frames and 16,384 tokens, of every sort: proven optimal, less than one frame's utility below the bound."""
    utility = kinds(np.random.default_rng(5), 4096)[kind]
    found = allocate(utility, budget=16384)
    assert found.method in ("hull", "dp")
    assert found.bound - found.utility <= utility.max()
    assert found.total_tokens <= 16384


def test_thousands_of_intervals_that_leave_one_way_to_cover_them() -> None:
    """Every even candidate has some utility, and only the odd ones are few enough: the price of a token is the sum
    of all that, and what covering costs at that price exceeds an int64."""
    count = 5000
    utility = np.zeros((2 * count + 1, 5))
    utility[::2] = 1.0
    found = allocate(utility, budget=count, cover_M2=[(start, start + 2) for start in range(2 * count)])
    assert np.flatnonzero(found.scale_N).tolist() == list(range(1, 2 * count, 2))
    assert found.bound == pytest.approx(found.utility, abs=1e-6)


def test_without_enough_work_there_is_a_certificate() -> None:
    """Never a silent heuristic: what is not proven says so, and how far off it can be."""
    utility = kinds(np.random.default_rng(5), 300)["equal steps"]
    exact = allocate(utility, budget=1000)
    rough = allocate(utility, budget=1000, max_work=1)
    assert (exact.method, rough.method) == ("dp", "gap")
    assert (1 - rough.gap) * rough.bound <= rough.utility + 1e-9
    assert rough.utility <= exact.utility <= rough.bound
