"""Pooling is exact and nested; packing keeps every frame's own scale."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.model.m3.pooling import pack, pool
from m3video.types import SCALES


def grids(n: int = 2, width: int = 3) -> torch.Tensor:
    return torch.arange(n * 576 * width, dtype=torch.float64).reshape(n, 576, width).sin()


@pytest.mark.parametrize(("fine", "coarse"), [(a, b) for a in SCALES for b in SCALES if b < a])
def test_every_coarser_scale_is_the_average_of_a_finer_one(fine: int, coarse: int) -> None:
    side, small = round(fine**0.5), round(coarse**0.5)
    step = side // small
    finer = pool(grids(), fine).reshape(2, small, step, small, step, 3)
    torch.testing.assert_close(finer.mean((2, 4)).reshape(2, coarse, 3), pool(grids(), coarse), atol=1e-14, rtol=0)


def test_rows_come_first_and_full_scale_is_untouched() -> None:
    grid = torch.zeros(1, 576, 1)
    grid[0, 23] = 1.0  # top right corner
    assert pool(grid, 9)[0, :, 0].nonzero().tolist() == [[2]]
    assert pool(grid, 576) is grid


@pytest.mark.parametrize("scale", [0, 2, 100, 577, -1])
def test_nothing_else_is_a_scale(scale: int) -> None:
    with pytest.raises(ValueError, match=rf"scale \({scale}\) must be one of 1, 9, 36, 144, 576"):
        pool(grids(), scale)


def test_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        pool(torch.zeros(1, 256, 3), 1)
    with pytest.raises(ValueError, match="one scale for each"):
        pack(grids(2), [1])


@given(st.lists(st.sampled_from(SCALES), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_packing_is_each_frame_pooled_alone(scales: list[int]) -> None:
    grid = grids(len(scales))
    visual = pack(grid, scales)
    assert len(visual.tokens_TD) == sum(scales)
    for n, scale in enumerate(scales):
        assert torch.equal(visual.frame(n), pool(grid[n : n + 1], scale)[0])
