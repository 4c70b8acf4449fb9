"""Every layout loads to the same numbers; everything else is one clear line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, LlavaConfig, LlavaForConditionalGeneration

from m3video.errors import CheckpointError, UsageError
from m3video.model.m3 import checkpoint
from m3video.model.m3.convert import convert
from tests.model.tiny import save_original, save_tiny, save_words, tiny_config, tiny_model


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    one, two = left.state_dict(), right.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_saved_model_loads_both_ways(tmp_path: Path) -> None:
    folder, model = save_tiny(tmp_path / "m", use_image_newline=True), tiny_model(use_image_newline=True)
    loaded = checkpoint.load(str(folder), device="cpu")
    assert same(loaded.model, model)
    assert same(AutoModelForImageTextToText.from_pretrained(folder), model)
    assert loaded.warnings == ()


@pytest.mark.parametrize("as_bin", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_original_layout(tmp_path: Path, *, inside: bool, as_bin: bool) -> None:
    folder = save_original(tmp_path / "old", inside=inside, as_bin=as_bin)
    tower = None
    if inside:
        # The number of heads cannot be read off tensors, and 16 channels do not follow CLIP's rule of 64 a head.
        with pytest.raises(CheckpointError, match="heads"):
            checkpoint.load(str(folder), device="cpu")
        (tmp_path / "clip").mkdir()
        tower = str(tmp_path / "clip")
        (tmp_path / "clip" / "config.json").write_text(json.dumps(tiny_config().vision_config.to_dict()))
    loaded = checkpoint.load(str(folder), device="cpu", vision_tower=tower)
    assert same(loaded.model, tiny_model())
    assert loaded.config.vision_config.num_attention_heads == 2
    assert loaded.context == 200
    assert not loaded.warnings


def test_tower_by_argument_beats_the_config(tmp_path: Path) -> None:
    folder = save_original(tmp_path / "old")
    (tmp_path / "tower").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="--vision-tower"):
        checkpoint.load(str(folder), device="cpu")
    loaded = checkpoint.load(str(folder), device="cpu", vision_tower=str(tmp_path / "elsewhere"))
    assert same(loaded.model, tiny_model())


def test_plain_llava_loads_and_says_what_it_is(tmp_path: Path) -> None:
    ours = tiny_config()
    plain = LlavaConfig(vision_config=ours.vision_config, text_config=ours.text_config, image_token_index=4)
    torch.manual_seed(5)
    model = LlavaForConditionalGeneration(plain)
    model.save_pretrained(tmp_path / "hf")
    save_words(tmp_path / "hf")
    loaded = checkpoint.load(str(tmp_path / "hf"), device="cpu")
    assert same(loaded.model, model)
    assert "not trained on nested tokens" in loaded.warnings[0]
    assert loaded.config.prompt_style == "vicuna_v1"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype(tmp_path: Path, dtype: str) -> None:
    loaded = checkpoint.load(str(save_tiny(tmp_path / "m")), device="cpu", dtype=dtype)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {getattr(torch, dtype)}


def test_convert_is_all_or_nothing(tmp_path: Path) -> None:
    folder = save_original(tmp_path / "old")
    target = convert(folder, tmp_path / "new", dtype="bfloat16", max_shard_size="10KB")
    assert (target / "model.safetensors.index.json").is_file()
    half = checkpoint.load(str(target), device="cpu", dtype="bfloat16").model
    assert same(half, tiny_model().to(torch.bfloat16))
    with pytest.raises(CheckpointError, match="not an empty folder"):
        convert(folder, target)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError):
        convert(folder, tmp_path / "third")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "tower"]


def edited(path: Path, **changes: object) -> None:
    raw = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))


class Bomb:
    def __reduce__(self) -> tuple:
        return os.system, ("touch bomb-went-off",)


def cut(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Bomb()}, folder / "pytorch_model.bin")


def broken_bin(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"nonsense")


def retensored(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = {**load_file(folder / "model.safetensors"), **{name.replace("__", "."): t for name, t in changes.items()}}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


BROKEN = {
    "cut": (cut, "damaged or cut off"),
    "pickle with code": (pickled, "code in it is never run"),
    "nonsense bin": (broken_bin, "no plain weights file"),
    "missing tensor": (lambda f: retensored(f, lm_head__weight=None), "lacks 1 tensors, e.g. lm_head.weight"),
    "unknown tensor": (lambda f: retensored(f, other=torch.zeros(1)), "other belongs to no part"),
    "shape": (lambda f: retensored(f, lm_head__weight=torch.zeros(2, 2)), r"shape \[2, 2\], the config asks for"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "bad json": (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
    "json list": (lambda f: (f / "config.json").write_text("[]"), "must hold a JSON object"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "other type": (lambda f: edited(f / "config.json", model_type="bert"), r"model_type \(bert\) must be"),
    "projector": (lambda f: edited(f / "config.json", mm_projector_type="linear"), "must be mlp2x_gelu"),
    "vocab missing": (lambda f: edited(f / "config.json", vocab_size=None), "vocab_size"),
    "heads": (lambda f: edited(f / "config.json", num_attention_heads="many"), "config"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    "bad tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "no tokenizer"),
    "bad sentencepiece": (lambda f: (f / "tokenizer.model").write_bytes(b"x"), "no sentencepiece model"),
    "missing shard": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}'),
        "names b.safetensors, which is missing",
    ),
    "bad index": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": []}'),
        "weight_map",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = save_original(tmp_path / "old")
    damage, message = BROKEN[name]
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bomb-went-off").exists()


@pytest.mark.parametrize("name", ["nobody/nothing", "./nothing", "nothing", "/no/such/folder"])
def test_a_name_that_is_nothing(name: str) -> None:
    with pytest.raises(CheckpointError, match="rendered") as caught:
        checkpoint.load(name)
    assert "\n" not in str(caught.value)


def test_no_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub tries again for 20 seconds
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"cannot be fetched \(.*rendered") as caught:
        checkpoint.load("nobody/nothing")
    assert "\n" not in str(caught.value)
    assert "HF_HUB_OFFLINE" not in str(caught.value)


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "meta"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        checkpoint.find_device(device)


def test_pinpoints_may_be_text_and_must_be_tiles(tmp_path: Path) -> None:
    folder = save_original(tmp_path / "old")
    retensored(folder, model__image_newline=torch.zeros(16))
    next_like = {"image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad"}
    edited(folder / "config.json", image_grid_pinpoints="[(336, 672), (672, 336)]", **next_like)
    assert checkpoint.load(str(folder), device="cpu").config.image_grid_pinpoints == [[336, 672], [672, 336]]
    edited(folder / "config.json", image_grid_pinpoints="os.system('x')", **next_like)
    with pytest.raises(CheckpointError, match="multiples of 336"):
        checkpoint.load(str(folder), device="cpu")


def test_the_home_of_nobody_is_no_folder() -> None:
    with pytest.raises(CheckpointError, match=r"model \(~nobody-here/m3\) is no folder"):
        checkpoint.load("~nobody-here/m3")
