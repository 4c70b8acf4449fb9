"""Parts of a model as LLaVA releases them: LoRAs, projectors and language models of tiny checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from m3video.model.m3 import checkpoint

Tensors = dict[str, Tensor]
PROJECTOR = "model.mm_projector."
LAYERS = [f"model.layers.{n}." for n in range(2)]
MATRICES = ["self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]


def vicuna(whole: Path, *, as_bin: bool = False) -> Path:
    """The language model alone, as LLaVA-1.5 was trained from; its numbers are half of the LLaVA's."""
    folder = whole.parent / "vicuna"
    shutil.copytree(whole, folder)
    tensors = {
        name: tensor / 2
        for name, tensor in load_file(whole / "model.safetensors").items()
        if not name.startswith(PROJECTOR)
    }
    (folder / "model.safetensors").unlink()
    write(folder / ("pytorch_model.bin" if as_bin else "model.safetensors"), tensors)
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in config.items() if "mm_" not in key and "image" not in key}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    return folder


def write(path: Path, tensors: Tensors) -> None:
    if path.suffix == ".bin":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)


def some(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 8


def save_lora(
    folder: Path,
    base: Path,
    *,
    rank: int = 4,
    as_bin: bool = True,
    trained: Tensors | None = None,
    suffix: str = "",
    **told: Any,
) -> Callable[[str, Tensor], Tensor]:
    """A LoRA folder as LLaVA writes it; returns what it makes of a tensor of the base, computed by hand."""
    folder.mkdir(exist_ok=True)
    factors: Tensors = {}
    tensors = dict(load_file(base / "model.safetensors"))
    names = [layer + matrix for layer in LAYERS for matrix in MATRICES]
    for number, name in enumerate(names):
        rows, columns = tensors[f"{name}.weight"].shape
        factors[f"base_model.model.{name}.lora_A{suffix}.weight"] = some(rank, columns, seed=number)
        factors[f"base_model.model.{name}.lora_B{suffix}.weight"] = some(rows, rank, seed=1000 + number)
    write(folder / f"adapter_model.{'bin' if as_bin else 'safetensors'}", factors)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "base_model_name_or_path": "lmsys/vicuna", **told}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    if trained is not None:
        torch.save(
            {f"base_model.model.{name}": tensor for name, tensor in trained.items()}, folder / "non_lora_trainables.bin"
        )

    def by_hand(name: str, tensor: Tensor) -> Tensor:
        stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        if f"{stem}A{suffix}.weight" not in factors:
            return tensor
        product = factors[f"{stem}B{suffix}.weight"] @ factors[f"{stem}A{suffix}.weight"]
        return tensor.float() + settings["lora_alpha"] / settings["r"] * product

    return by_hand


def projector(seed: int = 7) -> Tensors:
    return {
        f"{PROJECTOR}{layer}.{kind}": some(*shape, seed=seed + layer)
        for layer in (0, 2)
        for kind, shape in (("weight", (16, 16)), ("bias", (16,)))
    }


def with_config(folder: Path, whole: Path) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copy(whole / "config.json", folder)
    return folder


def loaded(folder: Path, **more: Any) -> Tensors:
    return checkpoint.load(str(folder), device="cpu", **more).model.state_dict()


def made_by_hand(tensors: Tensors, whole: Path) -> Tensors:
    """What a whole LLaVA of these tensors loads as: the merge by hand, through a folder that any loader reads."""
    folder = whole.parent / "by-hand"
    shutil.copytree(whole, folder)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return loaded(folder)


def assert_same(left: Tensors, right: Tensors) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
