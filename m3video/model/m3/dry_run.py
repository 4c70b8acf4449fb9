"""One question of a given size with made-up pictures and words: it takes as much memory as a real one."""

from __future__ import annotations

import numpy as np
import torch

from m3video.model.generation import generate, prefill
from m3video.model.m3 import inputs, pooling
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.encoding import encode
from m3video.model.m3.grid_cache import Grids
from m3video.model.tokenizer import IMAGE_ID
from m3video.types import SCALES


def spread(frames: int, visual: int) -> list[int]:
    """Return scales for `frames` frames whose sum comes as near to `visual` tokens as it can without exceeding it."""
    if visual < frames:
        raise ValueError(f"visual ({visual}) must be at least frames ({frames})")
    scales, left = [1] * frames, visual - frames
    for finer, scale in zip(SCALES[1:], SCALES[:-1], strict=True):
        for number in range(frames):
            if scales[number] == scale and finer - scale <= left:
                scales[number], left = finer, left - (finer - scale)
    return scales


@torch.inference_mode()
def run_trial(loaded: LoadedModel, *, frames: int, visual: int, text: int, vision_batch: int, group: int) -> None:
    """Answer as a session does: frames in groups through the tower, pooled, read in one pass, two tokens generated.

    Args:
        loaded: the model.
        frames: number of frames.
        visual: visual tokens; what scales cannot add up to is filled with text.
        text: other positions of the prompt.
        vision_batch: frames in one run of the tower.
        group: frames that are encoded and pooled before the next ones.

    Raises:
        OutOfMemoryError: it does not fit.
    """
    scales, random = spread(frames, visual), np.random.default_rng(0)
    cached, blocks = Grids(None, {}, about={}), []
    side = loaded.config.pictures.side
    for first in range(0, frames, group):
        shown = scales[first : first + group]
        pictures = [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in shown]
        for number, grid in enumerate(encode(loaded, pictures, vision_batch=vision_batch)):
            cached.keep(first + number, grid)
            blocks.append(pooling.pool(grid[None], shown[number])[0].clone())
    packed = pooling.pack_tokens(blocks, scales)
    blocks = [packed.frame(number) for number in range(frames)]
    words = text + visual - sum(scales)
    word = min(5, loaded.config.text_config.vocab_size - 1)
    embeds = inputs.embed(loaded, [word] + [IMAGE_ID] * frames + [word] * (words - 2), blocks)
    cache = prefill(loaded, embeds)
    last = inputs.embed(loaded, [word], [])
    generate(loaded, torch.cat([embeds, last], dim=1), max_new_tokens=2, cache=cache)
