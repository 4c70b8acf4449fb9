"""A model of a few kilobytes that answers in ChatML, and a bench around it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from m3video.evaluation.natural.sight import Bench, Sight
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.modeling import M3VideoConfig, M3VideoForConditionalGeneration
from m3video.model.tokenizer import load_text
from tests.model import tiny_base
from tests.model.tiny import conv_settings

WIDTH = 64


def chatml_model(folder: Path) -> LoadedModel:
    """Random weights, loud enough that answers depend on pictures and questions."""
    tiny_base.tokenizer().save_pretrained(folder)
    text = tiny_base.config()
    text.max_position_embeddings = 4096
    torch.manual_seed(1)
    model = M3VideoForConditionalGeneration(
        M3VideoConfig(
            text_config=text,
            image_token_index=text.vocab_size,
            tie_word_embeddings=True,
            prompt_style="chatml",
            max_context=4096,
            **conv_settings(),
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.model.language_model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0)
        for parameter in model.model.multi_modal_projector.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    model.tie_weights()
    return LoadedModel(model, load_text(folder), "tiny", folder, 4096)


def blocks(count: int, scale: int, seed: int = 0) -> list[torch.Tensor]:
    """Random visual tokens."""
    torch.manual_seed(seed)
    return [torch.randn(scale, WIDTH) for _ in range(count)]


def write_set(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """A set of photographs as `photos` reads it; every picture is noise of its own."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with tarfile.open(path.with_suffix(".tar"), "w") as tar:
        for number, image in enumerate(sorted({row["image"] for row in rows})):
            draw = np.random.default_rng(number)
            stored = io.BytesIO()
            Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(stored, "JPEG")
            member = tarfile.TarInfo(image)
            member.size = len(stored.getvalue())
            tar.addfile(member, io.BytesIO(stored.getvalue()))


def bench(loaded: LoadedModel, folder: Path, **more: Any) -> Bench:
    return Bench(loaded, Sight(loaded, folder), folder, **more)
