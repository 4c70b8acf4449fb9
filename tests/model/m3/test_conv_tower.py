"""A convolutional tower in M3: its cells are in place, its pictures its own, and it loads in every way a CLIP does."""

from __future__ import annotations

import json
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModel, AutoProcessor

from m3video.errors import CheckpointError
from m3video.model.m3 import checkpoint, inputs
from m3video.model.m3.conv_sizes import LITE0, count_weights, peak_values
from m3video.model.m3.conv_tower import EfficientNetLiteConfig, EfficientNetLiteModel, pad_same, to_cells
from m3video.model.m3.convert import convert
from m3video.model.m3.encoding import encode, encode_pooled
from m3video.model.m3.grid_cache import grids_key
from m3video.model.m3.images import pad_pixels, to_pixels
from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.model.m3.pooling import pool
from m3video.model.m3.size import read_size
from m3video.model.m3.square import as_square
from tests.model.tiny import conv_settings, save_tiny, tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("conv") / "m", **conv_settings())


@pytest.fixture(scope="module")
def loaded(folder: Path) -> checkpoint.LoadedModel:
    return checkpoint.load(str(folder), device="cpu")


def frames(n: int, size: tuple[int, int] = (30, 40)) -> list[np.ndarray]:
    return list(np.random.default_rng(n).integers(0, 255, (n, *size, 3), dtype=np.uint8))


@pytest.mark.parametrize(("kernel", "tap"), [(3, 0), (5, 1)])
def test_strided_convolutions_begin_at_the_first_pixel(kernel: int, tap: int) -> None:
    """TensorFlow's "same" at stride 2: one pixel more at the end than at the start, so an early tap sees pixel 0."""
    conv = nn.Conv2d(1, 1, kernel, 2, bias=False)
    conv.weight.data.zero_()
    conv.weight.data[0, 0, tap, tap] = 1
    picture = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert torch.equal(conv(pad_same(picture, conv)), picture[..., ::2, ::2])


def test_cells_of_all_strides_are_laid_over_each_other() -> None:
    coarse, fine = torch.randn(1, 2, 12, 12), torch.randn(1, 2, 48, 48)
    cells, means = to_cells(coarse), to_cells(fine)
    for row, column in ((0, 0), (5, 16), (23, 23)):
        assert torch.equal(cells[..., row, column], coarse[..., row // 2, column // 2])
        block = fine[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.allclose(means[..., row, column], block.mean((-1, -2)), atol=1e-6)
    # What training relies on: a linear layer before the repeat is a linear layer after it.
    weight = torch.randn(5, 2)
    after = torch.einsum("oc,nchw->nohw", weight, cells)
    assert torch.allclose(after, to_cells(torch.einsum("oc,nchw->nohw", weight, coarse)), atol=1e-6)
    with pytest.raises(ValueError, match="7x7 cells do not fit 24x24"):
        to_cells(torch.zeros(1, 1, 7, 7))


def test_a_change_in_the_picture_changes_the_tokens_there(loaded: checkpoint.LoadedModel) -> None:
    """Row-major cells of 16 pixels: a mark far right and one row down is at the end of the second row of tokens."""
    plain = np.full((384, 384, 3), 127, np.uint8)
    marked = plain.copy()
    marked[16:32, 368:] = 255
    with torch.inference_mode():
        before, after = loaded.model.model.vision_tower(pad_pixels([plain, marked], loaded.config.pictures))[0]
    changed = (after - before).abs()[:, :8].sum(1).reshape(24, 24)  # the channels of stride 16
    assert divmod(int(changed.argmax()), 24)[0] in (1, 2)
    assert divmod(int(changed.argmax()), 24)[1] in (22, 23)
    assert changed[12:, :12].sum() < 1e-3 * changed.sum()


def test_pictures_are_the_towers_own(loaded: checkpoint.LoadedModel) -> None:
    form, picture = loaded.config.pictures, frames(1, (30, 90))[0]
    square = as_square(picture, form)
    assert square.shape == (384, 384, 3)
    assert set(square[0, :, 0]) == {127}, "a wide picture stands between bands of the mean colour"
    pixels = pad_pixels([picture], form)
    grey = torch.from_numpy(square.astype(np.float32)).permute(2, 0, 1)
    assert torch.allclose(pixels[0], (grey - 127) / 128, atol=1e-6)
    assert pixels[0, :, 0].abs().max() < 1e-6
    assert torch.equal(pixels, to_pixels([Image.fromarray(square)], form))


def test_every_way_of_loading_gives_the_same_grids(
    folder: Path, loaded: checkpoint.LoadedModel, tmp_path: Path
) -> None:
    pixels = pad_pixels(frames(2), loaded.config.pictures)
    target = convert(folder, tmp_path / "converted")
    with torch.inference_mode():
        grids = loaded.model.visual_grids(pixels)
        plain = M3VideoForConditionalGeneration.from_pretrained(folder).eval()
        again = checkpoint.load(str(target), device="cpu")
        assert grids.shape == (2, 576, 16)
        assert grids.std() > 0
        assert torch.equal(plain.visual_grids(pixels), grids)
        assert torch.equal(again.model.visual_grids(pixels), grids)
    assert again.config.projector_width == 24
    assert not list(loaded.model.model.vision_tower.buffers()), "training could change statistics"
    processor = AutoProcessor.from_pretrained(target)
    said = processor(videos=frames(2), text="what is it", frame_scales=[9, 1])
    assert torch.equal(said["pixel_values"], pixels)


def test_the_tower_alone_is_known_to_transformers(tmp_path: Path) -> None:
    tower = AutoModel.from_config(conv_settings()["vision_config"])
    assert isinstance(tower, EfficientNetLiteModel)
    tower.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (type(config), config.hidden_size) == (EfficientNetLiteConfig, 20)
    pixels = torch.randn(1, 3, 384, 384)
    with torch.inference_mode():
        assert torch.equal(AutoModel.from_pretrained(tmp_path)(pixels)[0], tower(pixels)[0])


def test_pooled_tokens_and_pictures_in_the_prompt(loaded: checkpoint.LoadedModel) -> None:
    pictures = frames(3)
    grids = encode(loaded, pictures, vision_batch=2)
    visual = encode_pooled(loaded, pictures, [36, 1, 9], vision_batch=3)
    for number, scale in enumerate((36, 1, 9)):
        assert torch.allclose(visual.frame(number), pool(grids[number][None], scale)[0], atol=1e-6)
    still = inputs.encode_image(loaded, pictures[0], scale=36)
    assert torch.allclose(still, visual.frame(0), atol=1e-6)


def test_gradients_reach_every_weight_of_tower_and_projector() -> None:
    model = tiny_model(**conv_settings())
    pixels = torch.randn(2, 3, 384, 384)
    model.visual_grids(pixels).square().sum().backward()
    parts = (model.model.vision_tower, model.model.multi_modal_projector)
    for name, weight in (pair for part in parts for pair in part.named_parameters()):
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_cached_grids_belong_to_one_normalisation(loaded: checkpoint.LoadedModel) -> None:
    def key() -> Any:
        return grids_key(loaded, fingerprint="f", backend="b")

    before, vision = key(), loaded.config.vision_config
    for name, other in (("image_mean", [0.5] * 3), ("image_std", [0.5] * 3), ("image_size", 400)):
        kept = getattr(vision, name)
        setattr(vision, name, other)
        assert key() != before, name
        setattr(vision, name, kept)
    assert key() == before


WRONG: list[tuple[str, Any, str]] = [
    ("vision_config.image_size", 336, "vision_config.image_size (336) must be 384: M3 pools 24x24 cells"),
    ("vision_config.blocks", [[1, 3, 1, 1, 4]], "must be a list of groups of six whole numbers"),
    ("vision_config.blocks", [[1, 3, 1, 1, 5, 8]], "must begin with the 4 channels before it"),
    ("vision_config.blocks", [[1, 4, 1, 1, 4, 8]], "have an odd kernel"),
    ("vision_config.blocks", [[1, 3, 2, 1, 4, 8]], "no block has stride 16, only [4]"),
    ("vision_config.feature_strides", [16, 16], "a list of some of 8, 16, 32, each once"),
    ("vision_config.feature_strides", [4], "a list of some of 8, 16, 32, each once"),
    ("vision_config.reading_channels", -1, "a whole number from 0 to 4096"),
    ("vision_config.reading_depths", [4], "a list of two whole numbers from 0 to 64"),
    ("vision_config.image_mean", [127, 127, 127], "three numbers from 0 to 1"),
    ("vision_config.image_std", [0, 1, 1], "three numbers above 0"),
    ("vision_config.stem_width", "wide", "a whole number from 1"),
    ("vision_config.model_type", "efficientnet", 'must be "clip_vision_model", "clip" or "efficientnet_lite"'),
    ("vision_feature_layer", -2, "vision_feature_layer (-2) must be -1"),
    ("vision_feature_select_strategy", "default", '"full": a convolutional tower has no class token'),
    ("image_aspect_ratio", "anyres", "tiles are cut for CLIP only"),
    ("projector_width", 0, "null or a whole number from 1"),
]


def test_a_branch_that_reads_needs_early_maps_and_stride_16(tmp_path: Path) -> None:
    late = [[1, 5, 4, 1, 4, 4], [2, 5, 2, 2, 4, 8], [1, 3, 2, 2, 8, 12]]
    for more, line in (
        ({"feature_strides": [32]}, "vision_config.reading_channels (5) need feature_strides with 16"),
        ({"blocks": late}, "which need strides ([4, 8]): no block has stride 4, only [8, 16, 32]"),
    ):
        raw = tiny_model(**conv_settings()).config.to_dict()
        raw["vision_config"] |= {"reading_channels": 5, **more}
        (tmp_path / "config.json").write_text(json.dumps(raw))
        with pytest.raises(CheckpointError) as error:
            read_size(str(tmp_path))
        assert line in str(error.value)


@pytest.mark.parametrize(("key", "value", "line"), WRONG)
def test_wrong_configs_are_refused_before_a_weight_is_read(key: str, value: Any, line: str, tmp_path: Path) -> None:
    raw = tiny_model(**conv_settings()).config.to_dict()
    *outer, leaf = key.split(".")
    (raw[outer[0]] if outer else raw)[leaf] = value
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError) as error:
        read_size(str(tmp_path))
    assert line in str(error.value)
    assert "\n" not in str(error.value)


class Peak(TorchDispatchMode):
    """The most bytes of arrays that were alive at once, of those that were made meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.alive: Counter[int] = Counter()
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and id(out) not in self.seen:
            store = out.untyped_storage()
            self.seen.add(id(out))
            self.now += 0 if self.alive[store.data_ptr()] else store.nbytes()
            self.alive[store.data_ptr()] += 1
            self.most = max(self.most, self.now)
            weakref.finalize(out, self._drop, id(out), store.data_ptr(), store.nbytes())
        return out

    def _drop(self, key: int, place: int, size: int) -> None:
        self.seen.discard(key)
        self.alive[place] -= 1
        self.now -= 0 if self.alive[place] else size


@pytest.mark.parametrize(
    ("pictures", "sizes"), [(1, {}), (8, {}), (1, {"feature_strides": [8, 16, 32]}), (2, {"head_channels": 1280})]
)
def test_the_memory_of_lite0_is_what_its_config_says(pictures: int, sizes: dict[str, Any]) -> None:
    """Measured: every array that the tower makes. The process itself grew by the same within half a per cent."""
    tower = EfficientNetLiteModel(EfficientNetLiteConfig(**sizes)).eval()
    vision = {**LITE0, **sizes}
    assert sum(weight.numel() for weight in tower.parameters()) == count_weights(vision)
    pixels = torch.zeros(pictures, 3, 384, 384)
    with torch.no_grad(), Peak() as peak:
        tower(pixels)
    assert peak.most == pytest.approx(4 * pictures * peak_values(vision), rel=0.05)


def test_sizes_of_the_whole_model_are_those_that_load(folder: Path, loaded: checkpoint.LoadedModel) -> None:
    size, parameters = read_size(str(folder)), dict(loaded.model.named_parameters())
    assert size.params == sum(weight.numel() for weight in parameters.values())
    assert size.tower_params == sum(w.numel() for name, w in parameters.items() if "vision_tower" in name)
    assert size.projector_params == sum(w.numel() for name, w in parameters.items() if "projector" in name)
    assert (size.picture_side, size.projector_width, size.tower_width) == (384, 24, 20)


def test_a_config_alone_tells_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    whole, alone = read_size(str(folder)), read_size(str(tmp_path))
    assert (alone.params, alone.tower_params, alone.projector_params, alone.conv_peak) == (
        whole.params,
        whole.tower_params,
        whole.projector_params,
        whole.conv_peak,
    )
