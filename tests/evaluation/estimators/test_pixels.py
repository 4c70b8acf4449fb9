"""Every estimator that reads pixels: the model's pooling is the yardstick, and what is not there is not lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.evaluation.estimators.pixels import block_means, coded_bits, distortion, missing_sides, stroke_energy
from m3video.types import FULL_SCALE, FULL_SIDE, GRID_SIDES, SCALES

WHOLE = np.ones(FULL_SCALE, np.float32)


def grids(seed: int, *, count: int = 2, width: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, FULL_SCALE, width)).astype(np.float32)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from(SCALES))
def test_pooling_is_that_of_the_model(seed: int, scale: int) -> None:
    torch = pytest.importorskip("torch")
    from m3video.model.m3.pooling import pool

    grid = grids(seed)
    side, block = GRID_SIDES[scale], FULL_SIDE // GRID_SIDES[scale]
    tokens = pool(torch.from_numpy(grid), scale).numpy().reshape(-1, side, side, 3)
    given_back = tokens.repeat(block, axis=1).repeat(block, axis=2).reshape(grid.shape)
    assert np.allclose(block_means(grid, WHOLE, scale), given_back, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32))
def test_all_fall_with_the_scale_to_nothing_at_576(seed: int) -> None:
    grid = grids(seed)
    weight = np.random.default_rng(seed).random(FULL_SCALE).astype(np.float32)
    for table in (*distortion(grid, weight), coded_bits(grid, weight), stroke_energy(grid[..., 0], weight)):
        assert table.shape == (2, len(SCALES))
        assert (np.diff(table, axis=1) <= 1e-3).all()
        assert (table >= 0).all()
        assert (table[:, -1] == 0).all()
        assert (table[:, 0] > 0).all()


def test_a_flat_picture_loses_nothing() -> None:
    flat = np.full((1, FULL_SCALE, 3), 77, np.float32)
    for table in (*distortion(flat, WHOLE), coded_bits(flat, WHOLE)):
        assert np.abs(table).max() < 1e-3


def test_distortion_is_the_distance_from_the_mean_and_its_peak_that_of_the_worst_cells() -> None:
    grid = np.zeros((1, FULL_SCALE, 1), np.float32)
    grid[0, 0] = 24.0
    mean, peak = distortion(grid, WHOLE)
    centre = 24 / FULL_SCALE
    gaps = np.r_[(24 - centre) ** 2, np.full(FULL_SCALE - 1, centre**2)]
    assert mean[0, 0] == pytest.approx(gaps.mean(), rel=1e-4)
    assert peak[0, 0] == pytest.approx(gaps[:29].mean(), rel=1e-4)


def test_cells_without_picture_count_nothing() -> None:
    grid, weight = grids(3), WHOLE.copy()
    weight[:48] = 0
    other = grid.copy()
    other[:, :48] = 255 - other[:, :48]
    for mine, theirs in zip(distortion(grid, weight), distortion(other, weight), strict=True):
        assert np.array_equal(mine, theirs)
    assert np.array_equal(coded_bits(grid, weight), coded_bits(other, weight))


def test_bits_count_each_block_of_a_level_once() -> None:
    # Halves of 0 and 16 grey levels: at 9 tokens the middle column stands between, at 36 all is told.
    grid = np.zeros((1, FULL_SIDE, FULL_SIDE, 1), np.float32)
    grid[:, :, 12:] = 16
    lost = coded_bits(grid.reshape(1, FULL_SCALE, 1), WHOLE)[0]
    six = np.log2(1 + np.array([0, 0, 8, 8, 0, 0]) / 8).sum() * 6  # of 36 blocks, against those of 9
    three = np.log2(1 + np.array([8, 0, 8]) / 8).sum() * 3  # of 9 blocks, against the one
    assert lost.tolist() == pytest.approx([six + three, six, 0, 0, 0])


def test_strokes_are_lost_by_the_side_that_is_missing() -> None:
    lost = stroke_energy(np.full((1, FULL_SCALE), 3, np.float32), WHOLE)
    assert lost[0] == pytest.approx(9 * missing_sides())
    assert missing_sides().tolist() == pytest.approx([23 / 24, 7 / 8, 3 / 4, 1 / 2, 0])
