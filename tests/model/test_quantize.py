"""Layers with 8 and 4 bits a weight, where the packages are installed; and a clear refusal where they are not."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from m3video.config import Settings
from m3video.errors import NotFiniteError, UsageError
from m3video.inference.memory.model import DeviceSpec, weight_bytes
from m3video.model import quantize
from m3video.model.m3 import checkpoint
from m3video.model.m3.size import read_size
from tests.paths import SAMPLE


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_missing_package_is_named_with_the_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf"--quantize {kind} needs \w+ and accelerate: pip install 'm3video\[quant"):
        checkpoint.load("rendered", device="cpu", quantize=kind)


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_rendered_model_answers_with_quantized_layers(kind: str) -> None:
    package = quantize.PACKAGES[kind][0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (extra quantize)")
    from m3video.inference.session import ask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both libraries warn of their own future while they are imported
        loaded = checkpoint.load_for(Settings(model="rendered", quantize=kind, device="cpu"))
        answer = ask(SAMPLE, "What colour is the background at 0:03?", Settings(cache=False, budget=144), loaded=loaded)
    assert answer.text == "green"
    layer = loaded.model.model.language_model.layers[0].mlp.gate_proj
    assert type(layer.weight) is not torch.nn.Parameter
    for part in (loaded.model.model.vision_tower, loaded.model.model.multi_modal_projector, loaded.model.lm_head):
        assert all(type(parameter) is torch.nn.Parameter for parameter in part.parameters())
        assert all(parameter.dtype == torch.float32 for parameter in part.parameters())


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_damaged_layer_is_named_though_it_has_no_plain_numbers(kind: str, value: float, tmp_path: Path) -> None:
    package = quantize.PACKAGES[kind][0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (extra quantize)")
    from m3video.inference.session import ask

    folder, name = tmp_path / "m", "model.language_model.model.layers.1.mlp.up_proj.weight"
    shutil.copytree(SAMPLE.parent / "rendered", folder)
    weights = load_file(folder / "model.safetensors")
    weights[name][3, 5] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = checkpoint.load(str(folder), device="cpu", quantize=kind)
        with pytest.raises(NotFiniteError, match=rf"\(tensor {name} of {folder / 'model.safetensors'} holds NaN"):
            ask(SAMPLE, "What is shown?", Settings(cache=False, num_frames=2, budget=18), loaded=loaded)


def test_quantized_weights_are_said_to_take_less() -> None:
    size = read_size("rendered")
    held = [weight_bytes(size, DeviceSpec(1, dtype="float32", quantize=kind)) for kind in ("none", "int8", "int4")]
    assert held[0] - held[1] == 3 * size.linear_params - 4 * size.linear_rows
    assert held[1] > held[2] > 4 * (size.params - size.linear_params)
