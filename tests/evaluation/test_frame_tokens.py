"""One frame's tokens made fewer, against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from m3video.evaluation.frame_tokens import (
    REDUCTIONS,
    FrameTokens,
    _keep_and_merge,
    _merge_round,
    merged,
    pruned,
    resampled,
)
from m3video.model.m3.pooling import pool


def frame(seed: int = 0, width: int = 8) -> FrameTokens:
    made = torch.Generator().manual_seed(seed)
    return FrameTokens(torch.randn(576, width, generator=made), torch.randn(576, generator=made))


@given(st.integers(1, 576), st.sampled_from(["prune", "prune-unusual", "merge"]))
def test_any_number_of_tokens_comes_out(tokens: int, how: str) -> None:
    out = REDUCTIONS[how](frame(), tokens)
    assert out.shape == (tokens, 8)
    assert out.isfinite().all()


@pytest.mark.parametrize("how", ["prune", "prune-unusual", "merge", "pool", "resample"])
def test_all_tokens_are_the_grid_itself(how: str) -> None:
    assert_close(REDUCTIONS[how](frame(), 576), frame().grid_SD)


@pytest.mark.parametrize("tokens", [1, 9, 36, 144])
def test_resampling_to_a_nested_scale_is_pooling(tokens: int) -> None:
    assert_close(resampled(frame(), tokens), pool(frame().grid_SD[None], tokens)[0])


def test_resampling_to_256_keeps_rows_and_columns_apart() -> None:
    grid = torch.arange(24.0).repeat_interleave(24)[:, None]
    out = resampled(FrameTokens(grid, torch.zeros(576)), 256).reshape(16, 16)
    assert (out.diff(dim=0) > 0).all()
    assert (out.diff(dim=1) == 0).all()
    with pytest.raises(ValueError, match="255"):
        resampled(frame(), 255)


def test_pruning_keeps_the_likest_in_raster_order_and_averages_the_rest_into_them() -> None:
    # Six tokens in two directions; 1 and 4 are kept, the others join the one they point along.
    grid = torch.tensor([[1.0, 0], [2, 0], [3, 0], [0, 1], [0, 5], [0, 3]])
    assert_close(_keep_and_merge(grid, torch.tensor([4, 1])), torch.tensor([[2.0, 0], [0, 3]]))
    one = frame()
    kept = pruned(FrameTokens(one.grid_SD, torch.arange(576.0)), 1)
    assert_close(kept[0], one.grid_SD.mean(0))


def test_one_round_of_merging_by_hand() -> None:
    # Even places 0, 2 and odd places 1, 3. 2 and 3 are most alike: they become one, weighing two.
    grid = torch.tensor([[1.0, 0], [1, 1], [0, 2], [0, 4]])
    out, size = _merge_round(grid, torch.ones(4), 1)
    assert_close(out, torch.tensor([[1.0, 0], [1, 1], [0, 3]]))
    assert size.tolist() == [1, 1, 2]
    # Sizes count: a token that stands for three pulls three times as much.
    out, size = _merge_round(grid, torch.tensor([1.0, 1, 3, 1]), 1)
    assert_close(out[2], torch.tensor([0.0, (3 * 2 + 4) / 4]))
    assert size.tolist() == [1, 1, 4]


def test_merging_to_one_is_the_mean_and_equal_tokens_merge_first() -> None:
    assert_close(merged(frame(), 1)[0], frame().grid_SD.mean(0), atol=1e-5, rtol=1e-4)
    grid = torch.eye(3).repeat_interleave(192, 0)
    assert_close(merged(FrameTokens(grid, torch.zeros(576)), 3), torch.eye(3))
