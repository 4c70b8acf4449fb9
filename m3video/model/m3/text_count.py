"""The number of text tokens around the frames of a plan, from the tokenizer alone. Loads no model and no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m3video.errors import CheckpointError
from m3video.model.m3.model_paths import find_here
from m3video.model.m3.prompt import IMAGE, TEMPLATES, build_prompt, style_named
from m3video.model.tokenizer import load_text, prompt_ids


def text_around(model: str, *, times_seconds: Sequence[float], timestamps: bool) -> int | None:
    """Return how many tokens of the prompt are neither visual nor the question's: times, numbers, the template.

    Args:
        model: "small", "rendered", a checkpoint folder, or a hub name.
        times_seconds: times of the frames shown.
        timestamps: whether they are written before the frames.

    Returns:
        Their number, or None where the model's tokenizer is not on this machine (nothing is downloaded for it).
    """
    try:
        folder = find_here(model)
        if folder is None:
            return None
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        style = style_named(str(raw.get("prompt_style", "vicuna_v1")))
        if style != "rendered" and style not in TEMPLATES:
            return None
        prompt = build_prompt(
            style, "", num_frames=len(times_seconds), times_seconds=times_seconds if timestamps else None
        )
        words = _count(folder, prompt)
    except (OSError, ValueError, AttributeError, CheckpointError):
        # A damaged checkpoint or an impossible name is reported when it is loaded; a plan does not need it.
        return None
    # LLaVA-NeXT puts a learned token after each frame.
    has_newline = bool(
        raw.get("use_image_newline")
        or raw.get("image_aspect_ratio") == "anyres"
        or raw.get("model_type") == "llava_next"
    )
    return words + (len(times_seconds) if has_newline else 0)


def _count(folder: Path, prompt: str) -> int:
    if (folder / "tokenizer.model").is_file():
        return len(prompt_ids(load_text(folder), prompt)) - prompt.count(IMAGE)
    # The file that transformers would read, without importing transformers.
    from tokenizers import Tokenizer

    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder} has no tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the Rust side raises nothing more special
        raise CheckpointError(f"{folder / 'tokenizer.json'} is no tokenizer") from error
    settings: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    pieces = [piece for piece in prompt.split(IMAGE) if piece]
    words = sum(len(tokenizer.encode(piece, add_special_tokens=False).ids) for piece in pieces)
    return words + (settings.get("bos_token") is not None)
