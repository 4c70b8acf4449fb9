"""Asking a loaded model: tokens of pictures and a prompt to an answer, and whether all of it fits.

Shape legend: N frames, T tokens of one picture, L positions of the prompt, D decoder width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from m3video.errors import CheckpointError, DoesNotFitError, NotFiniteError, UsageError
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.finite import DECODER, check_features, not_finite
from m3video.model.m3.images import SIDE, anyres_pixels, best_size, merge_tiles, pad_pixels
from m3video.model.m3.pooling import VisualTokens, pool
from m3video.model.m3.prompt import build_prompt
from m3video.model.next_token import NextToken
from m3video.model.out_of_memory import within_memory
from m3video.model.tokenizer import IMAGE_ID, prompt_ids

Timestamps = bool | Literal["auto"]
Picture = NDArray[np.uint8]

LONGEST_CLOCK_SECONDS = 35999.9
"""Stands for a frame's time where only an upper bound of the prompt is wanted: no clock text is longer."""


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """What the model said and what it read for it.

    `prompt_tokens` is every position before the answer: `visual_tokens` (the sum of the scales, or the tokens of an
    image grid) and `text_tokens` (words, times, and the end-of-row tokens of LLaVA-NeXT). `reused_tokens` of them were
    read for an earlier question.
    """

    text: str
    prompt_tokens: int
    visual_tokens: int
    text_tokens: int
    answer_tokens: int
    warnings: tuple[str, ...] = ()
    reused_tokens: int = 0


@torch.inference_mode()
def encode_image(loaded: LoadedModel, picture: Picture, *, scale: int) -> Tensor:
    """One still picture as the checkpoint was trained to see it: padded to a square, or in anyres tiles.

    Returns:
        [T, D]; T is `scale` for a padded picture, `image_tokens` for tiles.

    Raises:
        NotFiniteError: there is NaN or infinity in them.
    """
    config = loaded.config
    is_tiled = config.image_aspect_ratio == "anyres"
    pinpoints = config.image_grid_pinpoints or []
    pixels = anyres_pixels(picture, pinpoints) if is_tiled else pad_pixels([picture])
    grids = loaded.model.visual_grids(pixels)
    check_features(loaded, grids, pixels)
    tiles = pool(grids, scale)
    if not is_tiled:
        return tiles[0]
    height, width = picture.shape[:2]
    return merge_tiles(tiles, (width, height), pinpoints, loaded.model.model.image_newline)


def image_tokens(loaded: LoadedModel, *, size_wh: tuple[int, int], scale: int) -> int:
    """How many tokens `encode_image` gives for a picture of this size, without running anything."""
    config = loaded.config
    if config.image_aspect_ratio != "anyres":
        return scale
    pinpoints = config.image_grid_pinpoints or []
    grid_w, grid_h = best_size(size_wh, pinpoints)
    tiles = torch.zeros(1 + (grid_w // SIDE) * (grid_h // SIDE), scale, 1)
    return len(merge_tiles(tiles, size_wh, pinpoints, torch.zeros(1)))


def frame_blocks(loaded: LoadedModel, visual: VisualTokens) -> list[Tensor]:
    """Each frame's tokens as they stand in the prompt: LLaVA-NeXT ends every frame with its end-of-row token.

    Source: reference `prepare_inputs_labels_for_multimodal`, a list of one-tile pictures.
    """
    blocks = [visual.frame(n) for n in range(len(visual))]
    if not loaded.config.use_image_newline:
        return blocks
    newline = loaded.model.model.image_newline[None]
    return [torch.cat([block, newline.to(block)]) for block in blocks]


def embed(loaded: LoadedModel, ids: Sequence[int], blocks: Sequence[Tensor]) -> Tensor:
    """Prompt ids with `IMAGE_ID` at each picture, and the pictures' tokens, as input embeddings [1, L, D].

    Raises:
        CheckpointError: an id that the model has no row for.
    """
    if ids.count(IMAGE_ID) != len(blocks):
        raise ValueError(f"{ids.count(IMAGE_ID)} places for pictures, {len(blocks)} pictures")
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


@torch.inference_mode()
def generate(
    loaded: LoadedModel, embeds_1LD: Tensor, *, max_new_tokens: int, cache: Mapping[str, Any] | None = None
) -> list[int]:
    """Greedy answer ids without the prompt and without the end token; logits are taken at the last position only.

    Args:
        loaded: the model.
        embeds_1LD: the whole prompt.
        max_new_tokens: longest answer.
        cache: argument name -> KV cache of the prompt's beginning, which is not read again; it grows.

    Raises:
        NotFiniteError: the logits hold NaN or infinity.
        OutOfMemoryError: the prompt does not fit in the memory.
    """
    mask = torch.ones(embeds_1LD.shape[:2], dtype=torch.long, device=embeds_1LD.device)
    (said,) = generate_rows(loaded, embeds_1LD, mask, max_new_tokens=max_new_tokens, cache=cache)
    if isinstance(said, NotFiniteError):
        raise said
    return said


@torch.inference_mode()
def generate_rows(
    loaded: LoadedModel,
    embeds_BLD: Tensor,
    mask_BL: Tensor,
    *,
    max_new_tokens: int,
    cache: Mapping[str, Any] | None = None,
) -> list[list[int] | NotFiniteError]:
    """Greedy answers to several prompts, padded on the left.

    Args:
        loaded: the model.
        embeds_BLD: the whole prompts.
        mask_BL: 0 at padding, else 1.
        max_new_tokens: longest answer.
        cache: as for `generate`.

    Returns:
        For each prompt its ids, as `generate` returns them, or the error that it raises: one costs the others nothing.

    Raises:
        OutOfMemoryError: the prompts do not fit in the memory.
    """
    codec, next_token = loaded.codec, NextToken(loaded.codec)
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        use_cache=True,
        bos_token_id=codec.bos_id,
        eos_token_id=codec.eos_id,
        pad_token_id=codec.pad_id,
    )
    count, longest = mask_BL.shape
    what = "a prompt" if count == 1 else f"{count} prompts"
    with within_memory(f"{what} of {longest} tokens", "use a smaller --budget", step="answer"):
        said = loaded.model.generate(
            inputs_embeds=embeds_BLD,
            attention_mask=mask_BL,
            generation_config=settings,
            logits_processor=LogitsProcessorList([next_token]),
            **(cache or {}),
        )
    failed = [False] * count if next_token.failed_B is None else next_token.failed_B.tolist()
    answers: list[list[int] | NotFiniteError] = []
    for row, has_failed in zip(said, failed, strict=True):
        ids = row.tolist()
        ids = ids[: ids.index(codec.eos_id)] if codec.eos_id in ids else ids
        answers.append(not_finite(loaded, DECODER) if has_failed else ids)
    return answers


def frames_prompt(
    loaded: LoadedModel,
    question: str,
    *,
    num_frames: int,
    times_seconds: Sequence[float] | None,
    timestamps: Timestamps = "auto",
) -> str:
    """The prompt about frames. "auto" writes times wherever they are known.

    Raises:
        UsageError: `timestamps=True` without times, or a question that holds an image mark.
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
    """Positions of the prompt that are not visual tokens: words, times, and LLaVA-NeXT's end-of-row tokens.

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
    """DoesNotFitError when visual + text + answer tokens exceed the context of `loaded`."""
    needed, context = visual + text + answer, loaded.context
    if needed <= context:
        return
    left = context - text - answer
    way_out = f"use --budget {left} or less" if left > 0 else "ask a shorter question or show fewer frames"
    raise DoesNotFitError(
        f"the prompt needs {needed} tokens ({visual} visual + {text} text + {answer} for the answer), "
        f"{loaded.name} has a context of {context}: {way_out}, or a smaller --max-new-tokens"
    )


def answer_prompt(
    loaded: LoadedModel,
    prompt: str,
    blocks: Sequence[Tensor],
    *,
    max_new_tokens: int = 64,
    visual_tokens: int | None = None,
) -> GeneratedAnswer:
    """Ask with a finished prompt, one block of tokens [T, D] for each `<image>` in it (the image grid uses this).

    Args:
        loaded: the model.
        prompt: the whole text.
        blocks: tokens of each picture, as they are to stand in the prompt.
        max_new_tokens: longest answer.
        visual_tokens: how many of the blocks' tokens count as visual; all of them by default.

    Raises:
        DoesNotFitError: the prompt and the answer exceed the context.
        NotFiniteError: the model's numbers are not finite.
    """
    ids = prompt_ids(loaded.codec, prompt)
    in_blocks = sum(len(block) for block in blocks)
    visual = in_blocks if visual_tokens is None else visual_tokens
    text = len(ids) - len(blocks) + in_blocks - visual
    refuse_beyond(loaded, visual=visual, text=text, answer=max_new_tokens)
    with torch.inference_mode():
        said = generate(loaded, embed(loaded, ids, blocks), max_new_tokens=max_new_tokens)
    return GeneratedAnswer(
        text=loaded.codec.decode(said).strip(),
        prompt_tokens=visual + text,
        visual_tokens=visual,
        text_tokens=text,
        answer_tokens=len(said),
        warnings=unknown_words_warning(loaded, prompt),
    )


def unknown_words_warning(loaded: LoadedModel, prompt: str) -> tuple[str, ...]:
    """One line naming the words the tokenizer reads as unknown; empty when there are none."""
    unknown = list(dict.fromkeys(word.strip(".,;!?") for word in loaded.codec.unknown_words(prompt)))
    if not unknown:
        return ()
    shown = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
    return (f"{loaded.name} does not know these words and read each as <unk>: {shown}",)
