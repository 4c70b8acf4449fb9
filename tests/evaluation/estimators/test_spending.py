"""Spending by an estimate: counted by hand, and bounded by the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from m3video.evaluation.estimators.spending import (
    COVERAGES,
    POWERS,
    LossToUtility,
    best_loss_to_utility,
    gap_closed_by_clip,
    oracle_utility,
    rank_correlation,
    shot_utility,
    utility_spent,
)

WORTH = np.array([[0.5, 0.6, 0.7, 0.8, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0, 1.0]])


def test_a_shot_is_worth_what_its_finest_frame_shows_and_nothing_unseen() -> None:
    shots, scales = np.array([0, 0, -1, 2, 1]), np.array([9, 36, 576, 0, 1])
    assert shot_utility(shots, scales, WORTH).tolist() == [0.7, 1.0, 0.0]
    assert shot_utility(np.zeros(0, np.int64), np.zeros(0, np.int64), WORTH).tolist() == [0, 0, 0]


def test_no_utility_spends_better_than_the_truth() -> None:
    shots = np.array([0, 0, 1, -1, 2, 2])
    budgets = (1, 2, 10, 146, 722)
    best = utility_spent(oracle_utility(shots, WORTH), budgets, shots, WORTH)
    assert best.tolist() == pytest.approx([1.0, 1.5, 1.6, 2.5, 3.0])
    rng = np.random.default_rng(0)
    for _ in range(50):
        any_utility = np.cumsum(rng.random((6, 5)), axis=1)
        assert (utility_spent(any_utility, budgets, shots, WORTH) <= best + 1e-9).all()


def test_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(1)
    x, clips = rng.normal(size=60), [f"c{i % 12}" for i in range(60)]
    y = np.round(x + rng.normal(size=60))
    found = rank_correlation(x.tolist(), y.tolist(), clips)
    assert found.value == pytest.approx(spearmanr(x, y)[0])
    assert found.low < found.value < found.high
    assert np.isnan(rank_correlation([1.0] * 60, y.tolist(), clips).value)


def test_the_gap_closed_is_between_the_base_and_the_oracle() -> None:
    base, best = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 4.0])
    assert gap_closed_by_clip(base, base, best).value == pytest.approx(0)
    assert gap_closed_by_clip(best, base, best).value == pytest.approx(1)
    assert gap_closed_by_clip((base + best) / 2, base, best).value == pytest.approx(0.5)
    assert np.isnan(gap_closed_by_clip(base, base, base).value)
    half = (base + best) / 2
    assert gap_closed_by_clip(best, base, best, other_C=half).value == pytest.approx(0.5)
    assert gap_closed_by_clip(half, base, best, other_C=best).high < 0


def test_a_loss_to_utility_keeps_the_order_of_scales_and_the_best_one_is_chosen() -> None:
    lost = np.array([[9.0, 4.0, 1.0, 0.0, 0.0], [0.0] * 5])
    assert LossToUtility(2.0, 0.5).utility(lost).tolist() == [[2, 3, 4, 5, 5], [2] * 5]
    tried: list[LossToUtility] = []

    def total(candidate: LossToUtility) -> float:
        tried.append(candidate)
        return -abs(candidate.power - 0.5) - abs(candidate.coverage - 0.15)

    assert best_loss_to_utility([lost], total) == LossToUtility(
        pytest.approx(0.15), 0.5
    )  # a tenth of the mean of 3 and 0
    assert len(tried) == len(POWERS) * len(COVERAGES)
