"""Tiny checkpoints, rows and recipes for the tests of fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from m3video.model.m3 import checkpoint
from m3video.training.conversations import Conversation
from m3video.training.examples import Example, ExampleLoader
from m3video.training.finetune_recipe import FinetuneRecipe
from tests.model.tiny import save_tiny

CONTEXT = 2048


def tiny(folder: Path, **more: Any) -> Path:
    """A random checkpoint with room for a picture at 576 tokens, and a head that is loud enough to say anything."""
    save_tiny(folder, max_context=CONTEXT, **more)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] *= 20
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["text_config"]["max_position_embeddings"] = CONTEXT
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def said(human: str, gpt: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": human}, {"from": "gpt", "value": gpt}]


Make = Callable[..., Path]
"""Writes a recipe with some values changed, and gives its path."""


def recipe_of(base: Path, data: Path, **more: Any) -> FinetuneRecipe:
    source = {"conversations": data / "good.json", "files": data}
    return FinetuneRecipe(base=str(base), data=[source], max_frames=3, visual_tokens=600, workers=1, **more)


def load(base: Path) -> checkpoint.LoadedModel:
    return checkpoint.load(str(base), device="cpu", dtype="float32")


def video_row(data: Path) -> Conversation:
    return Conversation("v", (("what is it", "red"),), video=data / "v.mp4")


def picture_row(data: Path, name: str = "red.png") -> Conversation:
    return Conversation("p", (("<image>\nwhat is it", "red"),), images=(data / name,))


def example(loader: ExampleLoader, row: Conversation, step: int = 0) -> Example:
    made = loader(row, step)
    assert isinstance(made, Example), made
    return made


def gradients(loaded: checkpoint.LoadedModel) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in loaded.model.named_parameters() if p.grad is not None}
