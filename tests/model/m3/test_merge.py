"""LoRAs, projectors and deltas as LLaVA releases them are merged into their base to the bit."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from m3video.errors import CheckpointError
from m3video.model.m3 import checkpoint
from m3video.model.m3.convert import convert
from m3video.model.m3.size import read_size
from tests.model.m3.parts import (
    LAYERS,
    MATRICES,
    PROJECTOR,
    Tensors,
    assert_same,
    loaded,
    made_by_hand,
    projector,
    save_lora,
    some,
    vicuna,
    with_config,
    write,
)
from tests.model.parity import ABSENT, ROOT
from tests.model.tiny import save_tiny, tiny_model

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize("as_bin", [False, True])
@pytest.mark.parametrize("suffix", ["", ".default"])
def test_a_lora_on_a_language_model(whole: Path, as_bin: bool, suffix: str) -> None:
    base = vicuna(whole)
    lora = with_config(whole.parent / "llava-lora", whole)
    by_hand = save_lora(lora, base, trained=projector(), as_bin=as_bin, suffix=suffix)
    expected = {name: by_hand(name, tensor) for name, tensor in load_file(base / "model.safetensors").items()}
    assert any(not torch.equal(expected[n], t) for n, t in load_file(base / "model.safetensors").items())
    target = convert(lora, whole.parent / "new", base=str(base))
    assert_same(loaded(target), made_by_hand({**expected, **projector()}, whole))
    assert (target / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert not checkpoint.load(str(target), device="cpu").warnings


@pytest.mark.parametrize("has_config", [False, True])
def test_a_lora_on_a_whole_llava(whole: Path, has_config: bool) -> None:
    """As LLaVA's recipe for one's own task makes it: the base has a projector, which was trained on."""
    lora = whole.parent / "task-lora"
    if has_config:
        with_config(lora, whole)
    by_hand = save_lora(lora, whole, trained=projector())
    base = load_file(whole / "model.safetensors")
    expected = {**{name: by_hand(name, tensor) for name, tensor in base.items()}, **projector()}
    assert_same(loaded(lora, base=str(whole)), made_by_hand(expected, whole))


def test_a_lora_on_a_converted_base(whole: Path) -> None:
    converted = convert(whole, whole.parent / "converted")
    lora = with_config(whole.parent / "task-lora", whole)
    by_hand = save_lora(lora, whole)
    expected = {name: by_hand(name, tensor) for name, tensor in load_file(whole / "model.safetensors").items()}
    assert_same(loaded(lora, base=str(converted)), made_by_hand(expected, whole))


def test_half_precision_is_rounded_once(whole: Path) -> None:
    base = vicuna(whole)
    halves = {name: tensor.half() for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(halves, base / "model.safetensors")
    lora = with_config(whole.parent / "llava-lora", whole)
    by_hand = save_lora(lora, base, trained=projector())
    got = loaded(lora, base=str(base), dtype="float16")
    name = f"{LAYERS[0]}{MATRICES[0]}.weight"
    key = name.replace("model.", "model.language_model.", 1)
    assert torch.equal(got[key], by_hand(name, halves[name]).half())
    assert torch.equal(got["lm_head.weight"], halves["lm_head.weight"])


@pytest.mark.parametrize(
    ("told", "scale"),
    [
        ({"lora_alpha": 32}, 8.0),
        ({"use_rslora": True}, 8 / math.sqrt(4)),
        ({"lora_alpha": 0.5}, 0.125),
        ({"alpha_pattern": {"q_proj": 2}}, 0.5),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 2}}, 2.0),
        ({"alpha_pattern": {r"layers\.0.*": 16}}, 4.0),
        ({"r": 64, "rank_pattern": {".*": 4}}, 2.0),
    ],
)
def test_the_scale_of_a_lora(told: dict[str, Any], scale: float, whole: Path) -> None:
    lora = whole.parent / "lora"
    save_lora(lora, whole, **told)
    factors = torch.load(lora / "adapter_model.bin", weights_only=True)
    stem = f"base_model.model.{LAYERS[0]}self_attn.q_proj.lora_"
    old = load_file(whole / "model.safetensors")[f"{LAYERS[0]}self_attn.q_proj.weight"]
    got = loaded(lora, base=str(whole))["model.language_model.layers.0.self_attn.q_proj.weight"]
    assert torch.equal(got, old + scale * (factors[f"{stem}B.weight"] @ factors[f"{stem}A.weight"]))


def test_peft_merges_to_the_same(tmp_path: Path) -> None:
    """The adapter folder of `m3video train`, with the weights that it trained whole beside it."""
    peft = pytest.importorskip("peft")
    from m3video.model.m3.adapters import OF_M3VIDEO

    base = save_tiny(tmp_path / "base", m3_trained=False)
    model = tiny_model()
    targets = r".*language_model\.layers\.\d+\..*\.(q|k|v|o|gate|up|down)_proj"
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.24 by a name that is on its way out.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets))
    with torch.no_grad():
        for number, (name, parameter) in enumerate(wrapped.named_parameters()):
            if "lora_B" in name:
                parameter.copy_(some(*parameter.shape, seed=number))
        model.model.multi_modal_projector.linear_1.weight += 1
    wrapped.save_pretrained(tmp_path / "adapter")
    changed = {"model.multi_modal_projector.linear_1.weight": model.model.multi_modal_projector.linear_1.weight.clone()}
    save_file(changed, tmp_path / "adapter" / OF_M3VIDEO)
    expected = wrapped.merge_and_unload().state_dict()
    got = checkpoint.load(str(tmp_path / "adapter"), device="cpu", base=str(base))
    assert got.model.state_dict().keys() == expected.keys()
    for name, tensor in got.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)
    assert not got.warnings  # trained on nested tokens, unlike its base


@pytest.mark.parametrize("prefix", ["", "model.", "base_model.model.model.", "module.model."])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_projector_beside_the_weights_is_read(prefix: str, suffix: str, whole: Path) -> None:
    expected, tensors = loaded(whole), load_file(whole / "model.safetensors")
    apart = {prefix + name.removeprefix("model."): tensors.pop(name) for name in list(tensors) if PROJECTOR in name}
    save_file(tensors, whole / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 4 tensors.*mm_projector\.bin: put it into the folder"):
        loaded(whole)
    write(whole / f"mm_projector{suffix}", apart)
    assert_same(loaded(whole), expected)
    size = read_size(str(whole))
    assert size.params == sum(tensor.numel() for tensor in expected.values())
    assert size.projector_params == sum(tensor.numel() for tensor in apart.values())
    assert_same(loaded(convert(whole, whole.parent / "new")), expected)


def test_a_projector_in_the_weights_is_not_replaced(whole: Path) -> None:
    expected = loaded(whole)
    torch.save(projector(), whole / "mm_projector.bin")
    assert_same(loaded(whole), expected)


@pytest.mark.parametrize("as_bin", [False, True])
def test_a_projector_alone(whole: Path, as_bin: bool) -> None:
    """As LLaVA's first stage of training writes it: a config, and mm_projector.bin."""
    base = vicuna(whole, as_bin=as_bin)
    folder = with_config(whole.parent / "pretrained", whole)
    torch.save(projector(), folder / "mm_projector.bin")
    words = {name: tensor / 2 for name, tensor in load_file(whole / "model.safetensors").items()}
    target = convert(folder, whole.parent / "new", base=str(base))
    assert_same(loaded(target), made_by_hand({**words, **projector()}, whole))


def delta_of(whole: Path, base: Path, folder: Path, *, rows: int = 0) -> Path:
    """`whole` minus `base`; with `rows` the base has that many words fewer."""
    shutil.copytree(whole, folder)
    below = load_file(base / "model.safetensors")
    if rows:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            below[name] = below[name][:-rows].clone()
        save_file(below, base / "model.safetensors")
    difference = {name: tensor.clone() for name, tensor in load_file(whole / "model.safetensors").items()}
    for name, tensor in below.items():
        difference[name][: len(tensor)] -= tensor
    save_file(difference, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("rows", [0, 3])
def test_a_delta(rows: int, whole: Path) -> None:
    """Halves add up without rounding, so the sum is the whole model to the bit; further words are the delta's own."""
    base = vicuna(whole)
    tensors = load_file(base / "model.safetensors")
    norm = {name: 2 * tensor for name, tensor in tensors.items() if name == "model.norm.weight"}
    save_file({**tensors, **norm}, base / "model.safetensors")  # fine-tuning leaves norms nearly as they are
    delta = delta_of(whole, base, whole.parent / "LLaVA-7b-delta-v0", rows=rows)
    with pytest.raises(CheckpointError, match=r"a delta.*m3video convert .*LLaVA-7b-delta-v0 NEW_FOLDER --base BASE"):
        loaded(delta)
    assert_same(loaded(convert(delta, whole.parent / "new", base=str(base))), loaded(whole))


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
@pytest.mark.parametrize(
    "name", ["llava-v1.5-tiny-m3", "llava-v1.5-tiny-m3-gqa", "llava-next-tiny-m3", "llava-next-tiny-m3-towerin"]
)
def test_parity_checkpoints_taken_apart_and_merged_again(name: str, tmp_path: Path) -> None:
    """A LoRA of the reference's own checkpoints, over a base that has neither projector, newline nor tower."""
    whole = ROOT / name / "safetensors"
    index = json.loads((whole / "model.safetensors.index.json").read_text())["weight_map"]
    tensors: Tensors = {}
    for file in set(index.values()):
        tensors |= load_file(whole / file)
    tower = str(ROOT / "openai" / "clip-vit-large-patch14-336")
    base, lora = tmp_path / "vicuna", tmp_path / "lora"
    shutil.copytree(whole, base, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    apart = {key: tensor for key, tensor in tensors.items() if any(w in key for w in ("mm_", "newline", "vision_"))}
    save_file({key: tensor for key, tensor in tensors.items() if key not in apart}, base / "model.safetensors")
    for folder in (base, lora):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        shutil.copyfile(whole / "config.json", folder / "config.json.new")
        (folder / "config.json.new").replace(folder / "config.json")
    by_hand = save_lora(lora, base, trained=apart)
    expected = tmp_path / "expected"
    shutil.copytree(base, expected)
    save_file({key: by_hand(key, tensor) for key, tensor in tensors.items()}, expected / "model.safetensors")
    merged = loaded(lora, base=str(base), vision_tower=tower)
    assert_same(merged, loaded(expected, vision_tower=tower))
    plain = loaded(whole, vision_tower=tower)
    changed = [key for key in plain if not torch.equal(plain[key], merged[key])]
    assert len(changed) == len(LAYERS) * len(MATRICES)
