"""Parts that are damaged, or that go with no base, are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from m3video.errors import CheckpointError
from m3video.model.m3 import checkpoint
from m3video.model.m3.convert import convert
from m3video.model.m3.model_paths import find_model
from m3video.model.m3.size import read_size
from tests.model.m3.parts import (
    PROJECTOR,
    projector,
    save_lora,
    vicuna,
    with_config,
)

pytestmark = pytest.mark.usefixtures("offline")


def damaged(folder: Path, what: str) -> str:
    """Spoil a LoRA folder; what is said then."""
    adapter, config = folder / "adapter_model.bin", folder / "adapter_config.json"
    factors = torch.load(adapter, weights_only=True)
    first = min(factors)
    told = json.loads(config.read_text())
    match what:
        case "no weights":
            adapter.unlink()
            return "is a LoRA without its weights: adapter_model.safetensors or adapter_model.bin is missing"
        case "cut":
            adapter.write_bytes(adapter.read_bytes()[:1000])
            return "is no plain weights file"
        case "no config":
            config.unlink()
            return "adapter_config.json cannot be read"
        case "half a pair":
            del factors[first]
            torch.save(factors, adapter)
            return "has only one of lora_A and lora_B"
        case "another width":
            factors[first] = torch.zeros(4, 17)
            torch.save(factors, adapter)
            return "is changed by [16, 4] x [4, 17], the base has [16, 16]"
        case "more layers":
            for side, shape in (("A", (4, 16)), ("B", (16, 4))):
                factors[f"base_model.model.model.layers.9.self_attn.q_proj.lora_{side}.weight"] = torch.zeros(shape)
            torch.save(factors, adapter)
            return "llava has not: it is of another base"
        case "unknown tensor":
            torch.save({**factors, "base_model.model.other.weight": torch.zeros(1)}, adapter)
            return "tensor other.weight belongs to no part"
        case _:
            key, value = what.split("=")
            config.write_text(json.dumps({**told, key: json.loads(value)}))
            return f"adapter_config.json: {key} ({value}) must be "


@pytest.mark.parametrize(
    "what",
    [
        "no weights",
        "cut",
        "no config",
        "half a pair",
        "another width",
        "more layers",
        "unknown tensor",
        'peft_type="IA3"',
        'r="8"',
        "r=0",
        "lora_alpha=null",
        'lora_alpha="16"',
        "use_dora=true",
        "fan_in_fan_out=true",
        'init_lora_weights="pissa_niter_16"',
        'alpha_pattern={"q_proj": "2"}',
        'alpha_pattern={"(": 2}',
        "use_rslora=1",
    ],
)
def test_a_spoilt_lora_is_reported(what: str, whole: Path) -> None:
    lora = whole.parent / "lora"
    save_lora(lora, whole)
    line = damaged(lora, what)
    with pytest.raises(CheckpointError) as error:
        convert(lora, whole.parent / "new", base=str(whole))
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert not (whole.parent / "new").exists()


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code in it was run')",)


@pytest.mark.parametrize("name", ["adapter_model.bin", "non_lora_trainables.bin", "mm_projector.bin"])
def test_no_code_in_a_part_is_run(name: str, whole: Path) -> None:
    lora = whole.parent / "lora"
    save_lora(lora, whole, trained=projector())
    torch.save({f"{PROJECTOR}0.weight": Bomb()}, lora / name)
    with pytest.raises(CheckpointError, match="code in it is never run"):
        convert(lora, whole.parent / "new", base=str(whole))


def parts(whole: Path) -> dict[str, Path]:
    root = whole.parent
    save_lora(root / "with config", whole, trained=projector())
    with_config(root / "with config", whole)
    save_lora(root / "lora", whole)
    (root / "beside").mkdir()
    torch.save(projector(), root / "beside" / "non_lora_trainables.bin")
    pretrained = with_config(root / "pretrained", whole)
    torch.save(projector(), pretrained / "mm_projector.bin")
    return {
        "a LoRA of lmsys/vicuna": root / "with config",
        "a LoRA of lmsys/vicuna,": root / "lora",
        "a LoRA, no whole model": root / "beside",
        "a projector alone (mm_projector)": pretrained,
    }


def test_a_part_is_reported_with_the_command_that_merges_it(whole: Path) -> None:
    for words, folder in parts(whole).items():
        base = "lmsys/vicuna" if "vicuna" in words else "BASE"
        shown = f"'{folder}'" if " " in folder.name else f"{folder}"
        for use in (find_model, read_size, checkpoint.load, lambda name: convert(name, whole.parent / "new")):
            with pytest.raises(CheckpointError) as error:
                use(str(folder))  # type: ignore[operator]
            assert str(error.value).startswith(f"{folder} is {words}")
            assert str(error.value).endswith(f"merge it first: m3video convert {shown} NEW_FOLDER --base {base}")


def test_what_cannot_be_merged_is_reported(whole: Path) -> None:
    base, root = vicuna(whole), whole.parent
    held = parts(whole)
    with pytest.raises(CheckpointError, match="holds a whole model: --base is for a LoRA"):
        convert(whole, root / "new", base=str(base))
    for part in held.values():
        with pytest.raises(CheckpointError, match="no whole model; merge it first"):
            convert(root / "lora", root / "new", base=str(part))
    with pytest.raises(CheckpointError, match=r"without a config.json, and .* is a language model alone"):
        convert(root / "lora", root / "new", base=str(base))
    with pytest.raises(CheckpointError, match="is no folder"):
        convert(root / "lora", root / "new", base="./nothing")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        convert(root / "lora", root / "new", base="lmsys/vicuna")
    (root / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        convert(root / "lora", root / "new", base=str(root / "empty"))
    with pytest.raises(CheckpointError, match="holds no weights"):
        convert(root / "empty", root / "new", base=str(whole))
    assert not (root / "new").exists()
