"""The branch that reads: the trunk beside it stays as it was, its channels are in place, and it loads as all else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from m3video.model.m3 import checkpoint
from m3video.model.m3.conv_sizes import LITE0, count_weights, peak_values
from m3video.model.m3.conv_tower import EfficientNetLiteConfig, EfficientNetLiteModel
from m3video.model.m3.convert import convert
from m3video.model.m3.encoding import encode
from m3video.model.m3.images import pad_pixels
from m3video.model.m3.picture_format import picture_format
from m3video.model.m3.reading_branch import folded_cells
from m3video.model.m3.size import read_size
from tests.model.m3.test_conv_tower import Peak
from tests.model.tiny import conv_settings, save_tiny, tiny_model

READING: dict[str, Any] = {"reading_channels": 10, "reading_width": 8, "reading_depths": [1, 2]}


def tiny_tower(**more: object) -> EfficientNetLiteModel:
    torch.manual_seed(5)
    config = conv_settings(**more)["vision_config"]
    assert isinstance(config, EfficientNetLiteConfig)
    return EfficientNetLiteModel(config).eval()


@pytest.fixture(scope="module")
def tower() -> EfficientNetLiteModel:
    return tiny_tower(**READING)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("reading") / "m", **conv_settings(**READING))


@torch.inference_mode()
def test_the_trunk_gives_what_it_gave(tower: EfficientNetLiteModel) -> None:
    alone = tiny_tower()
    alone.load_state_dict({name: weight for name, weight in tower.state_dict().items() if "reading" not in name})
    pixels = torch.randn(2, 3, 384, 384)
    (fine, coarse), (both, beside) = alone.feature_maps(pixels), tower.feature_maps(pixels)
    assert torch.equal(both[:, :8], fine)
    assert torch.equal(beside, coarse)
    assert both.shape == (2, 8 + 10, 24, 24)
    assert torch.equal(tower.reading(*tower.early_maps(pixels)), both[:, 8:])  # type: ignore[misc]
    assert tower(pixels)[0].shape == (2, 576, tower.config.hidden_size) == (2, 576, 8 + 10 + 12)


def test_cells_that_are_folded_keep_their_order() -> None:
    cells = torch.arange(2.0 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    folded = folded_cells(cells)
    assert folded.shape == (2, 2, 3, 12)
    for row, column in ((0, 0), (1, 2), (0, 1)):
        block = cells[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(folded[:, row, column], block.flatten(1))


@torch.inference_mode()
def test_what_is_read_is_read_where_it_stands(tower: EfficientNetLiteModel) -> None:
    """A mark in the 9th cell of the 7th row changes the reading channels around it; far below it nothing changes."""
    plain = np.random.default_rng(0).integers(90, 160, (384, 384, 3), dtype=np.uint8)
    marked = plain.copy()
    marked[6 * 16 : 7 * 16, 8 * 16 : 9 * 16] = np.random.default_rng(1).integers(0, 255, (16, 16, 3))
    form = picture_format(tower.config.to_dict())
    before, after = tower.feature_maps(pad_pixels([plain, marked], form))[0][:, 8:]
    changed = (after - before).square().sum(0)
    places = torch.arange(24.0)
    assert abs(float((changed.sum(1) * places).sum() / changed.sum()) - 6) < 1
    assert abs(float((changed.sum(0) * places).sum() / changed.sum()) - 8) < 1
    assert changed[15:].max() == 0 < changed.max()


def test_converted_and_in_half_precision_it_gives_the_same(folder: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(str(folder), device="cpu")
    pictures = list(np.random.default_rng(0).integers(0, 255, (2, 30, 40, 3), dtype=np.uint8))
    grids = encode(loaded, pictures, vision_batch=2)
    again = checkpoint.load(str(convert(folder, tmp_path / "same")), device="cpu")
    assert torch.equal(encode(again, pictures, vision_batch=2), grids)
    half = checkpoint.load(str(convert(folder, tmp_path / "half", dtype="float16")), device="cpu", dtype="float32")
    assert torch.allclose(encode(half, pictures, vision_batch=2), grids, atol=0.02 * float(grids.abs().max()))
    assert half.config.vision_config.reading_depths == [1, 2]


def test_gradients_reach_every_weight_of_the_branch() -> None:
    model = tiny_model(**conv_settings(**READING))
    pixels = torch.randn(2, 3, 384, 384)
    model.visual_grids(pixels).square().sum().backward()
    branch = model.model.vision_tower.reading
    kinds = {type(module) for module in branch.modules() if not list(module.children())}
    assert kinds == {nn.Conv2d, nn.Linear, nn.LayerNorm}
    for name, weight in branch.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
    assert not list(branch.buffers()), "training could change statistics"


@pytest.mark.parametrize("width", [64, 900])
def test_its_weights_and_memory_are_what_the_config_says(width: int) -> None:
    """At a width of 900 the branch, not the trunk, is what needs most."""
    sizes = {"reading_channels": 112, "reading_width": width, "reading_depths": [1, 1]}
    whole = EfficientNetLiteModel(EfficientNetLiteConfig(**sizes)).eval()
    vision = {**LITE0, **sizes}
    assert sum(weight.numel() for weight in whole.parameters()) == count_weights(vision)
    assert (peak_values(vision) > peak_values(LITE0)) == (width == 900)
    pixels = torch.zeros(1, 3, 384, 384)
    with torch.no_grad(), Peak() as peak:
        whole(pixels)
    assert peak.most == pytest.approx(4 * peak_values(vision), rel=0.05)


def test_sizes_of_the_whole_model_count_it(folder: Path) -> None:
    size = read_size(str(folder))
    model = checkpoint.load(str(folder), device="cpu").model
    assert size.tower_params == sum(weight.numel() for weight in model.model.vision_tower.parameters())
    assert size.tower_width == 8 + 10 + 12
