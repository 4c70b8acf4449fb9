"""Folders with a part of a model: a LoRA, or a projector alone. `convert --base` merges one into its base."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Literal

from m3video.errors import CheckpointError
from m3video.model.safetensors_headers import WEIGHTS

Part = Literal["lora", "projector"]

ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
PROJECTORS = ("mm_projector.safetensors", "mm_projector.bin")
OF_M3VIDEO = "other_trained.safetensors"
TRAINED_BESIDE = ("non_lora_trainables.safetensors", "non_lora_trainables.bin", OF_M3VIDEO)
"""Weights that a LoRA run of LLaVA or of `m3video train` trained whole."""

NAMES = {"lora": "a LoRA", "projector": "a projector alone (mm_projector)"}


def part_of(folder: Path) -> Part | None:
    """Return which part of a model a folder holds; None for a whole model, or for no model."""
    if _first(folder, WEIGHTS) is not None:
        return None
    if _first(folder, ("adapter_config.json", *ADAPTERS, *TRAINED_BESIDE)) is not None:
        return "lora"
    return None if projector_beside(folder) is None else "projector"


def projector_beside(folder: Path) -> Path | None:
    """Return the file in which LLaVA stores a projector apart from the other weights; None where there is none."""
    return _first(folder, PROJECTORS)


def refuse_part(folder: Path, name: str) -> None:
    """Raise CheckpointError, with the command that merges, where a folder holds only a part of a model.

    Args:
        folder: the folder.
        name: the name or path that the user gave.
    """
    part = part_of(folder)
    if part is not None:
        base = base_named(folder)
        of = "" if base is None else f" of {base}"
        command = f"m3video convert {shlex.quote(name)} NEW_FOLDER --base {shlex.quote(base or 'BASE')}"
        raise CheckpointError(f"{name} is {NAMES[part]}{of}, no whole model; merge it first: {command}")


def base_named(folder: Path) -> str | None:
    """Return the name of the base that a part says it was trained on."""
    for file, key in (("adapter_config.json", "base_model_name_or_path"), ("config.json", "_name_or_path")):
        try:
            found: Any = json.loads((folder / file).read_text(encoding="utf-8"))[key]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # the name is only a hint for the user
        if isinstance(found, str) and found.strip() and "\n" not in found:
            return found
    return None


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
