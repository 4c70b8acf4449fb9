"""Intervals over clips, against values worked out by hand and against simulated clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from m3video.evaluation.intervals import Floats, accuracy, bootstrap, clip_sums, standard_error

T_3, T_9 = 3.18245, 2.26216
"""Student's t at 97.5 % with 3 and 9 degrees of freedom, from a printed table."""


def wilson(mean: float, n: float, z: float) -> tuple[float, float]:
    middle = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def test_one_answer_a_clip_is_nearly_wilsons_interval() -> None:
    right = [1.0] * 7 + [0.0] * 3
    found = accuracy(right, [str(n) for n in range(10)])
    # Variance of the ratio: 10/9 * sum((x - 0.7)^2) / 100 = 10/9 * 2.1 / 100 = 0.02333; 0.21 / 0.02333 = 9 answers.
    low, high = wilson(0.7, 9, T_9)
    assert (found.value, found.answers, found.clips) == (0.7, 10, 10)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_the_standard_error_by_hand() -> None:
    assert standard_error([1, 1, 0, 1], list("abcd")) == pytest.approx(0.25)  # see below: variance 0.0625
    assert standard_error([1, 0, 1, 0], list("aabb")) == 0.0, "both clips are alike"
    assert math.isnan(standard_error([1, 0], ["a", "a"]))


def test_answers_that_are_alike_within_a_clip_count_once() -> None:
    one = accuracy([1, 1, 0, 1], list("abcd"))
    five = accuracy([1] * 5 + [1] * 5 + [0] * 5 + [1] * 5, list("aaaaabbbbbcccccddddd"))
    assert (five.low, five.high) == pytest.approx((one.low, one.high))
    # 4/3 * (3 * 0.25^2 + 0.75^2) / 16 = 0.0625 = 0.1875 / 3.
    assert (one.low, one.high) == pytest.approx(wilson(0.75, 3, T_3), abs=1e-4)


def test_spread_within_clips_narrows_the_interval() -> None:
    mixed = accuracy([1, 1, 1, 0] * 4, list("aaaabbbbccccdddd"))
    # Every clip has 3 of 4: no variance between clips, so as certain as 16 answers can be... held at 4 clips.
    assert (mixed.low, mixed.high) == pytest.approx(wilson(0.75, 4, T_3), abs=1e-4)


def test_all_right_is_not_certain() -> None:
    found = accuracy([1.0] * 40, [str(n % 4) for n in range(40)])
    assert found.value == found.high == 1.0
    assert found.low == pytest.approx(wilson(1.0, 4, T_3)[0], abs=1e-4)


def test_no_answer_and_one_clip_say_nothing() -> None:
    assert math.isnan(accuracy([], []).value)
    assert accuracy([1, 0], ["a", "a"])[:3] == (0.5, 0.0, 1.0)


def test_clip_sums() -> None:
    sums, counts = clip_sums([1, 2, 4], ["b", "a", "b"])
    assert sums.tolist() == [2, 5]
    assert counts.tolist() == [1, 2]


def test_the_interval_covers_the_truth_where_answers_cluster() -> None:
    rng = np.random.default_rng(0)
    held = naive = 0
    for _ in range(400):
        rate = rng.beta(2, 1, 20)  # mean 2/3, clips differ widely
        right = (rng.random((20, 10)) < rate[:, None]).astype(float)
        found = accuracy(right.ravel().tolist(), np.repeat(np.arange(20), 10).astype(str).tolist())
        held += found.low <= 2 / 3 <= found.high
        low, high = wilson(float(right.mean()), 200, 1.96)
        naive += low <= 2 / 3 <= high
    assert 0.92 <= held / 400 <= 0.985
    assert naive / 400 < 0.85, "the test would pass with intervals that ignore clusters"


def test_bootstrap_pairs_by_clip_and_depends_on_its_seed_only() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(30)
    totals = {"a": hard + 0.1, "b": hard, "n": np.ones(30)}

    def measure(t: Mapping[str, Floats]) -> Floats:
        return t["a"] / t["n"] - t["b"] / t["n"]

    found = bootstrap(totals, measure, seed=3)
    assert found[:3] == pytest.approx((0.1, 0.1, 0.1)), "what both share must cancel"
    alone = {"a": hard, "n": np.ones(30)}
    one, same, other = (bootstrap(alone, lambda t: t["a"] / t["n"], seed=s) for s in (3, 3, 4))
    assert one == same != other
    half = 1.96 * hard.std() / 30**0.5
    assert (one.low, one.high) == pytest.approx((hard.mean() - half, hard.mean() + half), abs=0.02)


def test_a_measure_that_seldom_exists_has_no_interval() -> None:
    found = bootstrap({"a": np.array([1.0, -1, 1, -1])}, lambda t: np.where(t["a"] > 0, t["a"], np.nan))
    assert math.isnan(found.value)
    assert math.isnan(found.low)
