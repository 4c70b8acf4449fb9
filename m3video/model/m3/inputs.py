"""What a question puts into the decoder: embeddings of words and pictures, their number, and whether they fit.

Shape legend: N frames, T tokens of one picture, L positions of the prompt, D decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3video.errors import CheckpointError, DoesNotFitError, UsageError
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.finite import check_features
from m3video.model.m3.images import SIDE, anyres_pixels, best_size, merge_tiles, pad_pixels
from m3video.model.m3.pooling import VisualTokens, pool
from m3video.model.m3.prompt import build_prompt
from m3video.model.tokenizer import IMAGE_ID, prompt_ids

Timestamps = bool | Literal["auto"]
Picture = NDArray[np.uint8]

LONGEST_CLOCK_SECONDS = 35999.9
"""Stands for a frame's time where only an upper bound of the prompt is wanted: no clock text is longer."""


@torch.inference_mode()
def encode_image(loaded: LoadedModel, picture: Picture, *, scale: int) -> Tensor:
    """Return the tokens of a still picture, as the checkpoint was trained: padded to a square, or in anyres tiles.

    Args:
        loaded: the model.
        picture: RGB uint8 [H, W, 3].
        scale: tokens of each tile.

    Returns:
        [T, D]; T is `scale` for a padded picture, `image_tokens` for tiles.

    Raises:
        NotFiniteError: the features hold NaN or infinity.
    """
    config = loaded.config
    is_tiled = config.image_aspect_ratio == "anyres"
    pinpoints = config.image_grid_pinpoints or []
    pixels = anyres_pixels(picture, pinpoints) if is_tiled else pad_pixels([picture], config.pictures)
    grids = loaded.model.visual_grids(pixels)
    check_features(loaded, grids, pixels)
    tiles = pool(grids, scale)
    if not is_tiled:
        return tiles[0]
    height, width = picture.shape[:2]
    return merge_tiles(tiles, (width, height), pinpoints, loaded.model.model.image_newline)


def image_tokens(loaded: LoadedModel, *, size_wh: tuple[int, int], scale: int) -> int:
    """Return how many tokens `encode_image` gives for a picture of this size, without running anything."""
    config = loaded.config
    if config.image_aspect_ratio != "anyres":
        return scale
    pinpoints = config.image_grid_pinpoints or []
    grid_w, grid_h = best_size(size_wh, pinpoints)
    tiles = torch.zeros(1 + (grid_w // SIDE) * (grid_h // SIDE), scale, 1)
    return len(merge_tiles(tiles, size_wh, pinpoints, torch.zeros(1)))


def frame_blocks(loaded: LoadedModel, visual: VisualTokens) -> list[Tensor]:
    """Return each frame's tokens as they stand in the prompt: LLaVA-NeXT ends every frame with its end-of-row token.

    Source: reference `prepare_inputs_labels_for_multimodal`, a list of one-tile pictures.
    """
    blocks = [visual.frame(n) for n in range(len(visual))]
    if not loaded.config.use_image_newline:
        return blocks
    newline = loaded.model.model.image_newline[None]
    return [torch.cat([block, newline.to(block)]) for block in blocks]


def embed(loaded: LoadedModel, ids: Sequence[int], blocks: Sequence[Tensor]) -> Tensor:
    """Return prompt ids, with a block of picture tokens at each `IMAGE_ID`, as input embeddings [1, L, D].

    Raises:
        CheckpointError: an id that the model has no row for.
    """
    if ids.count(IMAGE_ID) != len(blocks):
        raise ValueError(f"{ids.count(IMAGE_ID)} image marks in the prompt, {len(blocks)} pictures")
    table: Any = loaded.model.get_input_embeddings()
    device = loaded.model.device
    if max(ids, default=0) >= table.num_embeddings:
        raise CheckpointError(
            f"{loaded.name}: its tokenizer knows id {max(ids)}, its vocabulary ends at {table.num_embeddings - 1}: the "
            "tokenizer belongs to another checkpoint"
        )
    parts: list[Tensor] = []
    start, shown = 0, iter(blocks)
    for end in [*(i for i, token in enumerate(ids) if token == IMAGE_ID), len(ids)]:
        parts.append(table(torch.tensor(ids[start:end], dtype=torch.long, device=device)))
        if end < len(ids):
            parts.append(next(shown).to(device=device, dtype=parts[0].dtype))
        start = end + 1
    return torch.cat(parts)[None]


def frame_spans(ids: Sequence[int], blocks: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Return the positions of each frame's tokens, half-open, where `ids` has `IMAGE_ID` for each block."""
    spans, position, shown = [], 0, iter(blocks)
    for token in ids:
        length = len(next(shown)) if token == IMAGE_ID else 1
        if token == IMAGE_ID:
            spans.append((position, position + length))
        position += length
    return spans


def frames_prompt(
    loaded: LoadedModel,
    question: str,
    *,
    num_frames: int,
    times_seconds: Sequence[float] | None,
    timestamps: Timestamps = "auto",
) -> str:
    """Return the prompt for a question about frames; "auto" writes their times wherever they are known.

    Raises:
        UsageError: `timestamps=True` without times, or a question that contains an image mark.
    """
    if timestamps is True and times_seconds is None:
        raise UsageError("timestamps are wanted, but the frames' times are not known: give times_seconds")
    return build_prompt(
        loaded.config.prompt_style,
        question,
        num_frames=num_frames,
        times_seconds=times_seconds if timestamps else None,
    )


def text_tokens(
    loaded: LoadedModel,
    question: str,
    *,
    num_frames: int,
    times_seconds: Sequence[float] | None = None,
    timestamps: Timestamps = "auto",
) -> int:
    """Return how many positions of the prompt are not visual tokens: words, times, LLaVA-NeXT's end-of-row tokens.

    Args:
        loaded: the model.
        question: the user's words.
        num_frames: how many frames are shown.
        times_seconds: their times; when they are not known yet but timestamps are wanted, an upper bound is counted.
        timestamps: whether times are written.
    """
    if times_seconds is None and timestamps:
        times_seconds = [LONGEST_CLOCK_SECONDS] * num_frames
    prompt = frames_prompt(loaded, question, num_frames=num_frames, times_seconds=times_seconds, timestamps=timestamps)
    words = len(prompt_ids(loaded.codec, prompt)) - num_frames
    return words + (num_frames if loaded.config.use_image_newline else 0)


def check_fits(
    loaded: LoadedModel,
    *,
    scales: Sequence[int],
    question: str,
    max_new_tokens: int,
    timestamps: Timestamps = "auto",
    times_seconds: Sequence[float] | None = None,
) -> None:
    """Refuse a request that exceeds the model's context, before the vision tower or the decoder runs.

    Args:
        loaded: the model.
        scales: one for each frame.
        question: the user's words.
        max_new_tokens: room for the answer.
        timestamps: whether times are written.
        times_seconds: the frames' times; without them their longest text is assumed.

    Raises:
        DoesNotFitError: with the numbers and the way out.
    """
    words = text_tokens(loaded, question, num_frames=len(scales), times_seconds=times_seconds, timestamps=timestamps)
    refuse_beyond(loaded, visual=sum(scales), text=words, answer=max_new_tokens)


def refuse_beyond(loaded: LoadedModel, *, visual: int, text: int, answer: int) -> None:
    """Raise DoesNotFitError when visual, text and answer tokens together exceed the context of `loaded`."""
    needed, context = visual + text + answer, loaded.context
    if needed <= context:
        return
    left = context - text - answer
    way_out = f"use --budget {left} or less" if left > 0 else "ask a shorter question or show fewer frames"
    raise DoesNotFitError(
        f"the prompt needs {needed} tokens ({visual} visual + {text} text + {answer} for the answer), "
        f"{loaded.name} has a context of {context}: {way_out}, or a smaller --max-new-tokens"
    )


def unknown_words_warning(loaded: LoadedModel, prompt: str) -> tuple[str, ...]:
    """Return one line that names the words the tokenizer reads as unknown; nothing when there are none."""
    unknown = list(dict.fromkeys(word.strip(".,;!?") for word in loaded.codec.unknown_words(prompt)))
    if not unknown:
        return ()
    shown = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
    return (f"{loaded.name} does not know these words and read each as <unk>: {shown}",)
