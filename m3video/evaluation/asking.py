"""Many questions about the same frames: the prompt up to the last frame is read once, then all questions together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from m3video.model.generation import generate_after, prefill
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import pack_tokens
from m3video.model.tokenizer import IMAGE_ID, prompt_ids


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and what it cost. `text_tokens` are all positions of the prompt that are not visual tokens.

    Seconds are a share of what all questions took together: `prefill_seconds` up to the last frame, `decode_seconds` of
    the question's own words and the answer.
    """

    text: str
    visual_tokens: int
    text_tokens: int
    answer_tokens: int
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


@torch.inference_mode()
def answer_many(
    loaded: LoadedModel,
    tokens: Sequence[Tensor],
    questions: Sequence[str],
    *,
    times_seconds: Sequence[float],
    max_new_tokens: int = 32,
    timestamps: inputs.Timestamps = "auto",
) -> list[Reply]:
    """Ask several questions about frames whose tokens are ready.

    Args:
        loaded: the model.
        tokens: for each frame its tokens [K, D], of any number.
        questions: words.
        times_seconds: the frames' times.
        max_new_tokens: longest answer.
        timestamps: whether times are written.

    Returns:
        One answer for each question, the same as `Prefix.answer` gives for it alone.

    Raises:
        DoesNotFitError: a prompt and its answer exceed the context.
        NotFiniteError: the model's numbers are not finite.
    """
    if not tokens or not questions:
        raise ValueError("no frame, or no question")
    visual = sum(len(block) for block in tokens)
    blocks = inputs.frame_blocks(loaded, pack_tokens(tokens, [len(block) for block in tokens]))
    in_blocks = sum(len(block) for block in blocks)
    prompts = [
        prompt_ids(
            loaded.codec,
            inputs.frames_prompt(
                loaded, question, num_frames=len(tokens), times_seconds=times_seconds, timestamps=timestamps
            ),
        )
        for question in questions
    ]
    end = len(prompts[0]) - prompts[0][::-1].index(IMAGE_ID)
    text = [len(ids) - len(blocks) + in_blocks - visual for ids in prompts]
    inputs.refuse_beyond(loaded, visual=visual, text=max(text), answer=max_new_tokens)
    if any(ids[:end] != prompts[0][:end] for ids in prompts):
        raise AssertionError("a prompt template puts the question before the frames")
    begin = time.perf_counter()
    cache = prefill(loaded, inputs.embed(loaded, prompts[0][:end], blocks))
    if loaded.model.device.type == "cuda":
        torch.cuda.synchronize(loaded.model.device)  # else the next step would be charged for this one
    read = time.perf_counter()
    answers = generate_after(loaded, cache, [ids[end:] for ids in prompts], max_new_tokens=max_new_tokens)
    seconds = ((read - begin) / len(questions), (time.perf_counter() - read) / len(questions))
    return [
        Reply(loaded.codec.decode(answer.ids).strip(), visual, words, len(answer.ids), *seconds)
        for answer, words in zip(answers, text, strict=True)
    ]
